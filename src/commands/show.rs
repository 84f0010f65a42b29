//! `show`: everything that is known about one action.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use crate::action::admission::State;
use crate::action::external::{Outside, document as outside_document};
use crate::action::name::NameError;
use crate::action::output::Cleaner;
use crate::action::time::Timestamp;
use crate::action::usage::Usage;
use crate::cli::{Global, Show};
use crate::commands::text::{
    self, as_json, length, none_if_empty, pairs, printable, reason, when_and_ago, without_url,
};
use crate::commands::{external, now, paths, print, require_root};
use crate::error::{Error, Exit};
use crate::executor::kept::{Kept, Stream};
use crate::executor::run::RunDir;
use crate::ledger::story::{Acknowledged, Attempt, Step, Story};
use crate::ledger::view::{Entry, View};

/// So many lines of what it printed follow its story on a terminal, where more would drive the story away.
const LAST_LINES: usize = 20;

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
    let find = |stream| Kept::find(&state, key, stream).map_err(Error::run(RunDir::of(&state, key).path()));
    if options.stdout || options.stderr {
        let stream = if options.stdout { Stream::Stdout } else { Stream::Stderr };
        if let Some(kept) = find(stream)? {
            return print(|out| raw(out, &kept));
        }
        let missing = if entry.ret.is_some() { Error::NotKept(key) } else { Error::NotEnded(key) };
        let (stdout, stderr) = output.ok_or(missing)?;
        let stream = if options.stdout { stdout } else { stderr };
        return print(|out| out.write_all(stream.as_bytes()));
    }
    let shown = Shown {
        story: view.story(key)?,
        kept: [find(Stream::Stdout)?, find(Stream::Stderr)?].map(|kept| kept.map(|kept| kept.sizes())),
        processes: if entry.state == State::Started { RunDir::of(&state, key).processes() } else { (None, None) },
        outside: external::outside(&state, [key]).remove(&key).filter(|_| entry.ret.is_none()),
        output,
        entry,
        now: now(),
    };
    print(|out| if global.json { shown.document(out) } else { shown.tell(out) })
}

/// Everything that is known about one action.
struct Shown {
    entry: Entry,
    story: Story,
    /// What it printed, as it is reported.
    output: Option<(String, String)>,
    /// Of standard output and standard error: the bytes that stay here beside the report, of so many in all.
    kept: [Option<(u64, u64)>; 2],
    /// While it runs: its supervisor, and its command.
    processes: (Option<u32>, Option<u32>),
    /// What is known of an external action that goes on.
    outside: Option<Outside>,
    now: Timestamp,
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

impl Shown {
    fn document(self, out: &mut impl Write) -> io::Result<()> {
        let mut document = as_json(&self.entry, &[]);
        let why = self.why();
        let Self { entry, story, output, kept, processes, outside, .. } = self;
        let (stdout, stderr) = output.unzip();
        let attempt = |Attempt { step, number, at, error }: &Attempt| json!({ "step": step.as_str(), "number": number, "at": at.to_string(), "error": error });
        let [kept_stdout, kept_stderr] = kept.map(|kept| kept.map(|(bytes, of)| json!({ "bytes": bytes, "of": of })));
        for (member, value) in [
            ("command", json!(entry.command)),
            ("service_id", json!(none_if_empty(&entry.svc_id))),
            ("collector", json!(entry.endpoint)),
            ("queued_at", json!(entry.queued_at)),
            ("acknowledged_at", json!(story.acknowledged.map(|(at, _)| at.to_string()))),
            ("acknowledged", json!(story.acknowledged.map(|(_, how)| how.as_str()))),
            ("rule", json!(story.rule)),
            ("user", json!(story.user)),
            ("supervisor", json!(story.launcher)),
            ("supervisor_pid", json!(processes.0)),
            ("command_pid", json!(processes.1)),
            ("external", json!(outside.as_ref().map(outside_document))),
            ("usage", json!(story.usage.as_ref().map(usage_document))),
            ("attempts", json!(story.attempts.iter().map(attempt).collect::<Vec<_>>())),
            ("reason", json!(why)),
            ("stdout", json!(stdout)),
            ("stderr", json!(stderr)),
            ("kept_stdout", json!(kept_stdout)),
            ("kept_stderr", json!(kept_stderr)),
        ] {
            document[member] = value;
        }
        writeln!(out, "{document}")
    }

    fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        pairs(out, &self.rows())?;
        let Self { entry, output, .. } = self;
        if output.is_none() && entry.ret.is_some() {
            writeln!(out, "\nIts output is no longer kept here.")?;
        }
        let streams = output.iter().flat_map(|(stdout, stderr)| [("output", stdout), ("error", stderr)]);
        let room = if io::stdout().is_terminal() { LAST_LINES } else { usize::MAX };
        for (name, stream) in streams.filter(|(_, stream)| !stream.is_empty()) {
            let end = if stream.ends_with('\n') { "" } else { "\n" };
            let above = stream.split_inclusive('\n').count().saturating_sub(room);
            let shown: String = stream.split_inclusive('\n').skip(above).collect();
            let option = if name == "output" { "stdout" } else { "stderr" };
            let cut = match above {
                0 => String::new(),
                _ => format!(", the last {room} lines (all: 'show {} --{option}')", entry.key),
            };
            write!(out, "\nstandard {name}, {} bytes{cut}:\n{shown}{end}", stream.len())?;
        }
        Ok(())
    }

    /// Its life, step by step.
    fn rows(&self) -> Vec<[String; 2]> {
        let Self { entry, story, kept, processes, now, .. } = self;
        let mut rows = Vec::new();
        let mut line = |what: &str, value: Option<String>| {
            rows.extend(value.map(|value| [what.to_owned(), printable(&value)]));
        };
        let when = |at: Timestamp| when_and_ago(at, *now);
        line("action", Some(entry.key.to_string()));
        line("state", Some(entry.state.as_str().to_owned() + what_that_is(entry.state)));
        line("service", none_if_empty(&entry.svcname).map(str::to_owned));
        line("service id", none_if_empty(&entry.svc_id).map(str::to_owned));
        line("command", Some(none_if_empty(&entry.command).unwrap_or("(not known)").to_owned()));
        line("collector", none_if_empty(&entry.endpoint).map(str::to_owned));
        line("rule", story.rule.clone());
        line("user", story.user.clone());
        line("queued", entry.queued_at.as_ref().map(|text| format!("{} (as the collector says)", queued(text))));
        line("fetched", Some(when(entry.received_at)));
        self.failed(Step::Acknowledge, "not acknowledged", &mut line);
        line("acknowledged", story.acknowledged.map(|(at, how)| when(at) + in_which_way(how)));
        self.failed(Step::Start, "not started", &mut line);
        let by = story.launcher.as_ref().map(|launcher| match launcher.as_str() {
            "direct" => ", by the handler itself".to_owned(),
            unit => format!(", as {unit}"),
        });
        line("started", entry.started_at.map(|at| when(at) + &by.unwrap_or_default()));
        let process = |what: &str, pid: Option<u32>| pid.map(|pid| format!("{what} is process {pid}"));
        let processes = [process("the supervisor", processes.0), process("the command", processes.1)];
        line(
            "running",
            Some(processes.into_iter().flatten().collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty()),
        );
        let took = |ended: Timestamp| {
            entry.started_at.map_or_else(String::new, |started| format!(", after {}", length(ended.since(started))))
        };
        line("external", self.outside.as_ref().map(|outside| format!("goes on{}", external::in_words(outside))));
        line("ended", entry.finished_at.map(|ended| when(ended) + &took(ended)));
        line("result", entry.ret.map(|ret| ret.to_string()));
        line("reason", self.why());
        line("used", story.usage.as_ref().map(usage_in_words));
        self.failed(Step::Report, "not reported", &mut line);
        let complete = match entry.state {
            State::Superseded | State::Expired => entry.state.as_str(),
            _ => "reported",
        };
        line(complete, entry.reported_at.map(when));
        for (stream, option, kept) in [("output", "stdout", kept[0]), ("error", "stderr", kept[1])] {
            let kept = kept.map(|(bytes, of)| {
                format!("{} of {} of standard {stream}: show --{option}", text::bytes(bytes), text::bytes(of))
            });
            line("kept", kept);
        }
        rows
    }

    /// The attempts at a step that went wrong; those that are not kept any more are counted.
    fn failed(&self, step: Step, what: &str, line: &mut impl FnMut(&str, Option<String>)) {
        let mut number = 0;
        for attempt in self.story.attempts.iter().filter(|attempt| attempt.step == step) {
            if attempt.number > number + 1 {
                line("", Some(format!("({} more times)", attempt.number - number - 1)));
            }
            number = attempt.number;
            let error = without_url(&attempt.error, &self.entry.endpoint);
            line(what, Some(format!("{}: {error}", when_and_ago(attempt.at, self.now))));
        }
    }

    /// Why it has the result that it has, or none.
    fn why(&self) -> Option<String> {
        let said = self.output.as_ref().and_then(|(_, stderr)| reason(stderr)).map(str::to_owned);
        said.or_else(|| self.entry.reason.clone())
    }
}

/// What a state means for who has to do something about it.
const fn what_that_is(state: State) -> &'static str {
    match state {
        State::Received => ": it waits for its turn",
        State::Started => ": its end is not recorded yet",
        State::Finished => ": its result is not accepted yet",
        State::Reported => ": the collector has accepted its result",
        State::Superseded => ": a newer generation took its place",
        State::Expired => ": its result was not accepted in time",
    }
}

/// A date as XML-RPC writes it, `20261121T14:24:16`, in the usual way. Its zone is the collector's affair.
fn queued(text: &str) -> Cow<'_, str> {
    let digits = |range: Range<usize>| text.get(range).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    match (text.len(), digits(0..4), digits(4..6), digits(6..8), text.get(8..9), text.get(9..)) {
        (17, Some(year), Some(month), Some(day), Some("T"), Some(time)) => {
            format!("{year}-{month}-{day} {time}").into()
        }
        _ => text.into(),
    }
}

const fn in_which_way(how: Acknowledged) -> &'static str {
    match how {
        Acknowledged::AfterFetch => ", after the fetch",
        Acknowledged::AtStart => ", when it was about to start",
        Acknowledged::ByFetch => ", by the fetch itself (this collector counts what it sends as received)",
    }
}

fn usage_document(usage: &Usage) -> Value {
    json!({
        "of_group": usage.of_group,
        "user_usec": usage.user_usec,
        "system_usec": usage.system_usec,
        "memory_peak": usage.memory_peak,
        "read_bytes": usage.read_bytes,
        "written_bytes": usage.written_bytes,
        "oom_kills": usage.oom_kills,
    })
}

fn usage_in_words(usage: &Usage) -> String {
    let time = |usec| format!("{:.3} s", Duration::from_micros(usec).as_secs_f64());
    let parts = [
        Some(format!("processor {} user and {} system", time(usage.user_usec), time(usage.system_usec))),
        usage.memory_peak.map(|peak| {
            let whose = if usage.of_group { "" } else { " by its largest process" };
            format!("memory {}{whose}", text::bytes(peak))
        }),
        usage.read_bytes.map(|number| format!("{} read", text::bytes(number))),
        usage.written_bytes.map(|number| format!("{} written", text::bytes(number))),
        usage.lack_of_memory(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_xml_rpc_can_be_read() {
        for (text, shown) in [
            ("20261121T14:24:16", "2026-11-21 14:24:16"),
            ("2026-11-21T14:24:16Z", "2026-11-21T14:24:16Z"),
            ("2026é121T14:24:16", "2026é121T14:24:16"),
            ("", ""),
        ] {
            assert_eq!(queued(text), shown);
        }
    }
}
