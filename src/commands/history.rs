//! `history`: the actions that have ended, the newest first.

use std::io::Write as _;

use crate::action::time::Timestamp;
use crate::cli::{Global, History, Since};
use crate::commands::text::{ago, as_json, in_words, length, table, when_on_screen};
use crate::commands::{load, now, paths, print, require_root};
use crate::error::{Error, Exit};
use crate::ledger::view::{Entry, View, Wanted};
use crate::telemetry::color::{self, Hue};
use crate::zone;

/// Prints one line for each action; with `--json` one document for each line.
///
/// # Errors
/// When the ledger cannot be read.
pub fn run(global: &Global, options: &History) -> Result<Exit, Error> {
    require_root()?;
    let since = options.since.map(|since| match since {
        Since::Ago(duration) => now().minus(duration),
        Since::At(time) => time,
        Since::Local(time) => zone::moment(time),
    });
    let wanted = Wanted { limit: options.limit, failed: options.failed, since };
    let view = View::open(&paths(global).state)?;
    let entries = view.map(|view| view.history(wanted)).transpose()?.unwrap_or_default();
    let secret = load(global).map(|(_, settings)| settings.log.redact).unwrap_or_default();
    print(|out| {
        if global.json {
            return entries.iter().try_for_each(|entry| writeln!(out, "{}", as_json(entry, &secret)));
        }
        if entries.is_empty() {
            let which = if options.failed || since.is_some() { "that is asked for " } else { "" };
            return writeln!(out, "No action {which}has ended here.");
        }
        let now = now();
        let mut rows = vec![["ENDED", "AGO", "RESULT", "TOOK", "ACTION", "COMMAND"].map(str::to_owned)];
        rows.extend(entries.iter().map(|entry| row(entry, &secret, now)));
        table(out, "", &rows)
    })
}

fn row(entry: &Entry, secret: &[String], now: Timestamp) -> [String; 6] {
    let end = entry.finished_at.or(entry.reported_at);
    let ended = end.map_or_else(String::new, when_on_screen);
    let ago = end.map_or_else(String::new, |end| ago(end, now));
    let took = |ended: Timestamp| entry.started_at.map(|started| length(ended.since(started)));
    let took = entry.finished_at.and_then(took).unwrap_or_else(|| "-".to_owned());
    let result = entry.ret.map_or_else(|| "-".to_owned(), |ret| color::out(Hue::of_result(ret), &ret.to_string()));
    [ended, ago, result, took, entry.key.to_string(), in_words(entry, secret)]
}
