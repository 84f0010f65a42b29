//! Answers as a person reads them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::store::Status;

/// One value on a line.
#[must_use]
pub fn line(value: &Value) -> String {
    cell(value) + "\n"
}

/// Nodes, one per line.
#[must_use]
pub fn nodes(answer: &Value) -> String {
    table(answer, "nodes", &["name", "type", "connect_to", "port", "cluster"])
}

/// Users, one per line.
#[must_use]
pub fn users(answer: &Value) -> String {
    table(answer, "users", &["name"])
}

/// Actions, one per line.
#[must_use]
pub fn actions(answer: &Value) -> String {
    table(answer, "actions", &["id", "node", "service", "type", "status", "ret", "queued", "command"])
}

/// What became of an action.
#[must_use]
pub fn state(action: &Value) -> String {
    format!("action {} is {}\n", cell(&action["id"]), status(action))
}

/// An action with its dates and its result.
#[must_use]
pub fn action(action: &Value) -> String {
    const FIELDS: [&str; 6] = ["id", "node", "service", "type", "command", "status"];
    const DATES: [&str; 5] = ["queued", "notified", "sent", "received", "reported"];
    let mut text = String::new();
    // Writing to a string does not fail.
    for field in FIELDS {
        let value = if field == "status" { status(action) } else { cell(&action[field]) };
        let _ = writeln!(text, "{field:<9} {value}");
    }
    for field in DATES.into_iter().chain(["ret"]) {
        let _ = writeln!(text, "{field:<9} {}", cell(&action[field]));
    }
    for stream in ["stdout", "stderr"] {
        match action[stream].as_str() {
            None | Some("") => {
                let _ = writeln!(text, "{stream:<9} -");
            }
            Some(output) => {
                let _ = writeln!(text, "{stream}");
                for line in output.lines() {
                    let _ = writeln!(text, "  {}", printable(line));
                }
            }
        }
    }
    text
}

fn status(action: &Value) -> String {
    let letter = cell(&action["status"]);
    Status::parse(&letter).map_or_else(|| letter.clone(), |status| format!("{letter} ({})", status.word()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => printable(text),
        value => value.to_string(),
    }
}

/// Nodes' output must not steer the operator's terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\t' || !c.is_control() { c.to_string() } else { c.escape_default().to_string() })
        .collect()
}

fn table(answer: &Value, list: &str, columns: &[&str]) -> String {
    let header = columns.iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
    let items = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(items.iter().map(|item| columns.iter().map(|column| cell(&item[*column])).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
