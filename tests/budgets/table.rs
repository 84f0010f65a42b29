//! The counts, as they are written in `counts.txt`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/budgets/counts.txt");

/// Several tests write it.
static WRITING: Mutex<()> = Mutex::new(());

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Count {
    /// Always the same.
    Exactly(f64),
    /// A few more or less from run to run.
    About(f64),
}

/// What may be counted: a number, or `<= ` and a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Budget {
    Exactly(f64),
    AtMost(f64),
}

impl Budget {
    fn parse(text: &str) -> Self {
        match text.strip_prefix("<=") {
            Some(bound) => Self::AtMost(bound.trim().parse().unwrap()),
            None => Self::Exactly(text.trim().parse().unwrap()),
        }
    }

    /// A bound that is far above what is counted has not noticed that something became better.
    fn holds(self, count: Count) -> bool {
        match (self, count) {
            (Self::Exactly(budget), Count::Exactly(count)) => (budget - count).abs() < 0.005,
            (Self::AtMost(bound), Count::About(count)) => count <= bound && bound <= 2.0 * count + 4.0,
            _ => false,
        }
    }

    /// One that holds, with room for what is not the same from run to run.
    fn of(count: Count) -> Self {
        match count {
            Count::Exactly(count) => Self::Exactly(count),
            Count::About(count) => Self::AtMost((count * 1.25 + 1.0).ceil()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => write!(f, "{}", (count * 100.0).round() / 100.0),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

/// Compares what was counted with the lines of the file that begin with `about`; or writes these lines.
pub(crate) fn check(about: &str, counts: &BTreeMap<String, Count>) {
    let guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(FILE).unwrap();
    let prefix = format!("{about} / ");
    let is_mine = |line: &&str| line.starts_with(&prefix);
    let budgets: BTreeMap<&str, Budget> = text
        .lines()
        .filter(is_mine)
        .map(|line| line[prefix.len()..].split_once("= ").unwrap_or_else(|| panic!("{FILE}: no count: {line}")))
        .map(|(what, budget)| (what.trim_end(), Budget::parse(budget)))
        .collect();
    let holds = |what: &str, count| budgets.get(what).is_some_and(|budget| budget.holds(count));
    let lines = counts.iter().map(|(what, count)| {
        let kept = budgets.get(what.as_str()).filter(|budget| budget.holds(*count));
        format!("{:<46}= {}", format!("{prefix}{what}"), kept.copied().unwrap_or_else(|| Budget::of(*count)))
    });
    let mut all: Vec<_> = text.lines().filter(|line| !is_mine(line)).map(str::to_owned).collect();
    let comment = all.iter().take_while(|line| line.is_empty() || line.starts_with('#')).count();
    all.extend(lines);
    all[comment..].sort();
    if std::env::var_os("UPDATE").is_some() {
        let written = Path::new(FILE).with_extension("new");
        fs::write(&written, all.join("\n") + "\n").unwrap();
        fs::rename(written, FILE).unwrap();
        return;
    }
    drop(guard);
    let mut wrong: Vec<_> = counts
        .iter()
        .filter(|(what, count)| !holds(what, **count))
        .map(|(what, count)| match budgets.get(what.as_str()) {
            Some(budget) => format!("{what}: {count:?}, where {budget} is written"),
            None => format!("{what}: {count:?}, where nothing is written"),
        })
        .collect();
    wrong.extend(budgets.keys().filter(|what| !counts.contains_key(**what)).map(|what| format!("{what}: none")));
    assert!(
        wrong.is_empty(),
        "{about}: better or worse than {FILE} says, which tells what to do:\n{}",
        wrong.join("\n")
    );
}
