//! `show`: everything that is known about one action.

use std::io::{self, IsTerminal as _, Write};

use serde_json::json;

use crate::action::admission::State;
use crate::action::external::{Outside, document as outside_document};
use crate::action::name::NameError;
use crate::action::output::Cleaner;
use crate::action::time::Timestamp;
use crate::cli::{Global, Show};
use crate::commands::text::{as_json, length, none_if_empty, printable, reason, table, when};
use crate::commands::{external, paths, print, require_root};
use crate::error::{Error, Exit};
use crate::executor::kept::{Kept, Stream};
use crate::ledger::view::{Entry, View};

/// Prints an action's story and what it printed, or one of its streams as it is.
///
/// # Errors
/// When the ledger cannot be read, or the name does not lead to one action; with a stream, when it has not ended.
pub fn run(global: &Global, options: &Show) -> Result<Exit, Error> {
    require_root()?;
    let unknown = || Error::from(NameError::Unknown(options.id));
    let state = paths(global).state;
    let view = View::open(&state)?.ok_or_else(unknown)?;
    let key = options.id.only_one_of(view.called(options.id)?)?;
    let entry = view.entry(key)?.ok_or_else(unknown)?;
    // What ends between the two looks is shown as it was.
    let output = if entry.ret.is_some() { view.output(key)? } else { None };
    if options.stdout || options.stderr {
        let stream = if options.stdout { Stream::Stdout } else { Stream::Stderr };
        if let Some(kept) = Kept::find(&state, key, stream).map_err(Error::Run)? {
            return print(|out| raw(out, &kept));
        }
        let missing = if entry.ret.is_some() { Error::NotKept(key) } else { Error::NotEnded(key) };
        let (stdout, stderr) = output.ok_or(missing)?;
        let stream = if options.stdout { stdout } else { stderr };
        return print(|out| out.write_all(stream.as_bytes()));
    }
    let outside = external::outside(&state, [key]).remove(&key).filter(|_| entry.ret.is_none());
    print(|out| {
        let outside = outside.as_ref();
        if global.json { document(out, &entry, output, outside) } else { story(out, &entry, output, outside) }
    })
}

/// The bytes as they were printed, but for a terminal, which might obey them.
fn raw(out: &mut impl Write, kept: &Kept) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        return kept.read(|piece| out.write_all(piece));
    }
    let (mut cleaner, mut text) = (Cleaner::default(), String::new());
    kept.read(|piece| {
        text.clear();
        cleaner.push(piece, &mut |clean| text.push_str(clean));
        out.write_all(text.as_bytes())
    })?;
    text.clear();
    cleaner.finish(&mut |clean| text.push_str(clean));
    out.write_all(text.as_bytes())
}

fn document(
    out: &mut impl Write,
    entry: &Entry,
    output: Option<(String, String)>,
    outside: Option<&Outside>,
) -> io::Result<()> {
    let mut document = as_json(entry, &[]);
    let why = why(entry, output.as_ref());
    let (stdout, stderr) = output.unzip();
    document["command"] = json!(entry.command);
    document["service_id"] = json!(none_if_empty(&entry.svc_id));
    document["collector"] = json!(entry.endpoint);
    document["queued_at"] = json!(entry.queued_at);
    document["external"] = json!(outside.map(outside_document));
    document["reason"] = json!(why);
    document["stdout"] = json!(stdout);
    document["stderr"] = json!(stderr);
    writeln!(out, "{document}")
}

fn story(
    out: &mut impl Write,
    entry: &Entry,
    output: Option<(String, String)>,
    outside: Option<&Outside>,
) -> io::Result<()> {
    let mut rows = Vec::new();
    let mut line = |what: &str, value: Option<String>| {
        rows.extend(value.map(|value| [what.to_owned(), printable(&value)]));
    };
    let complete = match entry.state {
        State::Superseded | State::Expired => entry.state.as_str(),
        _ => "reported",
    };
    line("action", Some(entry.key.to_string()));
    line("state", Some(entry.state.as_str().to_owned()));
    line("service", none_if_empty(&entry.svcname).map(str::to_owned));
    line("service id", none_if_empty(&entry.svc_id).map(str::to_owned));
    line("command", Some(entry.command.clone()));
    line("collector", Some(entry.endpoint.clone()));
    line("queued", entry.queued_at.as_ref().map(|text| format!("{text} (as the collector says)")));
    line("received", Some(when(entry.received_at)));
    line("started", entry.started_at.map(when));
    let took = |ended: Timestamp| {
        entry.started_at.map_or_else(String::new, |started| format!(", after {}", length(ended.since(started))))
    };
    line("ended", entry.finished_at.map(|ended| when(ended) + &took(ended)));
    line("external", outside.map(|outside| format!("goes on{}", external::in_words(outside))));
    line(complete, entry.reported_at.map(when));
    line("result", entry.ret.map(|ret| ret.to_string()));
    line("reason", why(entry, output.as_ref()));
    table(out, "", &rows)?;
    if output.is_none() && entry.ret.is_some() {
        writeln!(out, "\nIts output is no longer kept here.")?;
    }
    let (stdout, stderr) = output.unwrap_or_default();
    for (name, stream) in [("standard output", stdout), ("standard error", stderr)] {
        if !stream.is_empty() {
            let end = if stream.ends_with('\n') { "" } else { "\n" };
            write!(out, "\n{name}, {} bytes:\n{stream}{end}", stream.len())?;
        }
    }
    Ok(())
}

/// Why it has the result that it has, or none.
fn why(entry: &Entry, output: Option<&(String, String)>) -> Option<String> {
    let said = output.and_then(|(_, stderr)| reason(stderr)).map(str::to_owned);
    said.or_else(|| entry.reason.clone())
}
