//! `status`: what this node does and what waits, on one screen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::action::admission::State;
use crate::action::external::{Outside, document as outside_document};
use crate::action::schedule::Invalid;
use crate::action::time::Timestamp;
use crate::action::{ActionKey, Queue};
use crate::cli::{self, Global};
use crate::commands::scheduled::Standing;
use crate::commands::text::{as_json, in_words, length, printable, table, when, when_and_ago};
use crate::commands::{external, load, now, paths, pause, print, require_root};
use crate::error::{Error, Exit};
use crate::executor::boot;
use crate::executor::run::RunDir;
use crate::ledger::contact::Contact;
use crate::ledger::pause::Pause;
use crate::ledger::view::{Entry, View};
use crate::wake::dequeuers::{self, Dequeuer};
use crate::wake::holder;

/// So many actions of a kind are listed for people; all of them are counted.
const LISTED: usize = 10;

/// Prints the status.
///
/// # Errors
/// When the state directory cannot be read.
pub fn run(global: &Global, options: &cli::Status) -> Result<Exit, Error> {
    require_root()?;
    let status = Status::look(global)?;
    let old = options.max_age.is_some_and(|max_age| status.is_out_of_contact(max_age));
    let printed = print(|out| if global.json { status.document(out) } else { status.screen(out) })?;
    Ok(if old { Exit::TempFail } else { printed })
}

/// Everything that is shown.
struct Status {
    now: Timestamp,
    handler: Option<u32>,
    pause: Option<Pause>,
    /// `None`: the settings cannot be used.
    schedule: Option<ScheduleStatus>,
    queues: Vec<QueueStatus>,
    running: Vec<(Entry, Progress)>,
    /// What is known of those of them that go on outside.
    outside: BTreeMap<ActionKey, Outside>,
    waiting: Vec<Entry>,
    unreported: Vec<Entry>,
    /// Who else takes rows of this node's queues.
    dequeuers: Vec<Dequeuer>,
    /// Why the settings cannot be used.
    configuration_error: Option<String>,
    /// Options whose values are hidden.
    secret: Vec<String>,
}

struct ScheduleStatus {
    /// As it is written; `None`: not at all, which is always.
    text: Option<String>,
    left_out: Vec<Invalid>,
    last: Option<Timestamp>,
    next: Option<Timestamp>,
}

struct QueueStatus {
    queue: Queue,
    /// Where it is fetched from; `None`: the settings do not name it, or cannot be used.
    collector: Option<String>,
    contact: Contact,
}

/// Another dequeuer in JSON.
fn document(other: &Dequeuer) -> Value {
    json!({ "kind": other.kind(), "text": other.to_string(), "recipe": other.recipe() })
}

/// How far an action is that the ledger calls started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    /// It was told to end.
    Cancelled,
    /// It has ended, and no handler has taken that over yet.
    Ended,
    /// The machine went down meanwhile.
    WentDown,
}

impl Status {
    /// Looks once at everything.
    fn look(global: &Global) -> Result<Self, Error> {
        let paths = paths(global);
        let state = &paths.state;
        let now = now();
        let (settings, configuration_error) = match load(global) {
            Ok((_, settings)) => (Some(settings), None),
            Err(err) => (None, Some(err.report())),
        };
        let schedule = settings.as_ref().map(|settings| Standing::look(settings, state, now)).transpose()?;
        let schedule = schedule.map(|standing| ScheduleStatus::of(&standing));
        let mut queues = Vec::new();
        for queue in Queue::ALL {
            let configured = settings.iter().flat_map(|settings| &settings.queues).find(|other| other.queue == queue);
            let contact = Contact::read(state, queue).map_err(Error::State)?;
            if configured.is_some() || contact.is_some() {
                let collector = configured.map(|settings| settings.base_url.clone());
                queues.push(QueueStatus { queue, collector, contact: contact.unwrap_or_default() });
            }
        }
        let view = View::open(state)?;
        let in_state = |wanted| view.as_ref().map(|view| view.in_state(wanted)).transpose();
        let boot_id = boot::id().map_err(Error::Start)?;
        let started = in_state(State::Started)?.unwrap_or_default().into_iter();
        let running: Vec<_> = started
            .map(|entry| {
                let progress = progress(state, &entry, &boot_id);
                (entry, progress)
            })
            .collect();
        Ok(Self {
            now,
            handler: holder::running(state),
            pause: Pause::in_force(state, now).map_err(Error::Pause)?,
            schedule,
            queues,
            outside: external::outside(state, running.iter().map(|(entry, _)| entry.key)),
            running,
            waiting: in_state(State::Received)?.unwrap_or_default(),
            unreported: in_state(State::Finished)?.unwrap_or_default(),
            dequeuers: settings.as_ref().map_or_else(Vec::new, |settings| {
                dequeuers::find(&paths, &settings.queues, settings.listener_port, &[])
            }),
            configuration_error,
            secret: settings.map(|settings| settings.log.redact).unwrap_or_default(),
        })
    }

    /// Whether a queue was not fetched for so long. Of several, those that the settings name count; if the settings
    /// cannot be used, all that were ever fetched. No queue at all is no contact.
    fn is_out_of_contact(&self, max_age: Duration) -> bool {
        let counts = |queue: &&QueueStatus| queue.collector.is_some() || self.configuration_error.is_some();
        let mut counting = self.queues.iter().filter(counts).peekable();
        let is_old = |queue: &QueueStatus| queue.contact.last.is_none_or(|last| self.now.since(last) > max_age);
        counting.peek().is_none() || counting.any(is_old)
    }

    fn document(&self, out: &mut impl Write) -> io::Result<()> {
        let entries = |entries: &[Entry]| entries.iter().map(|entry| as_json(entry, &self.secret)).collect::<Vec<_>>();
        let queues: Vec<_> = self.queues.iter().map(|queue| queue.document(self.now)).collect();
        let running: Vec<_> = self
            .running
            .iter()
            .map(|(entry, progress)| {
                let mut document = as_json(entry, &self.secret);
                document["progress"] = json!(progress.as_str());
                document["external"] = json!(self.outside.get(&entry.key).map(outside_document));
                document
            })
            .collect();
        let document = json!({
            "time": self.now.to_string(),
            "handler": self.handler,
            "pause": self.pause.as_ref().map(pause::document),
            "schedule": self.schedule.as_ref().map(|schedule| schedule.document(self.now)),
            "configuration_error": self.configuration_error,
            "queues": queues,
            "dequeuers": self.dequeuers.iter().map(document).collect::<Vec<_>>(),
            "running": running,
            "waiting": entries(&self.waiting),
            "unreported": entries(&self.unreported),
        });
        writeln!(out, "{document}")
    }

    fn screen(&self, out: &mut impl Write) -> io::Result<()> {
        let mut rows = Vec::new();
        let mut line = |what: &str, value: String| rows.push([what.to_owned(), printable(&value)]);
        line("handler", self.handler.map_or("not at work".to_owned(), |pid| format!("at work, process {pid}")));
        line("paused", self.pause.as_ref().map_or("no".to_owned(), paused));
        if let Some(schedule) = &self.schedule {
            line("schedule", schedule.text(self.now));
            for invalid in &schedule.left_out {
                line("", format!("left out: {invalid}"));
            }
        }
        for queue in &self.queues {
            line(queue.queue.as_str(), queue.contact(self.now));
            if let Some((at, error)) = &queue.contact.error {
                line("", format!("failed {}: {error}", when_and_ago(*at, self.now)));
            }
        }
        for other in &self.dequeuers {
            line("dequeuer", format!("{other}: {}", other.recipe()));
        }
        if let Some(error) = &self.configuration_error {
            line("settings", format!("cannot be used: {error}"));
        }
        table(out, "", &rows)?;
        self.list(out, "running", &self.running, |(entry, progress)| {
            let since = entry.started_at.unwrap_or(entry.received_at);
            let text = match progress {
                Progress::Running => {
                    let outside = self.outside.get(&entry.key).map(external::in_words).unwrap_or_default();
                    format!("for {}{outside}", length(self.now.since(since)))
                }
                Progress::Cancelled => "told to end".to_owned(),
                Progress::Ended => "has ended".to_owned(),
                Progress::WentDown => "went down".to_owned(),
            };
            (entry, text)
        })?;
        let since = |entry: &Entry| format!("for {}", length(self.now.since(entry.received_at)));
        self.list(out, "waiting", &self.waiting, |entry| (entry, since(entry)))?;
        self.list(out, "unreported", &self.unreported, |entry| {
            (entry, entry.ret.map_or_else(String::new, |ret| format!("result {ret}")))
        })
    }

    fn list<'a, T>(
        &self,
        out: &mut impl Write,
        what: &str,
        all: &'a [T],
        describe: impl Fn(&'a T) -> (&'a Entry, String),
    ) -> io::Result<()> {
        writeln!(out, "{what:<10}  {}", all.len())?;
        let row = |one| {
            let (entry, text) = describe(one);
            [entry.key.to_string(), text, in_words(entry, &self.secret)]
        };
        let rows: Vec<_> = all.iter().take(LISTED).map(row).collect();
        table(out, "  ", &rows)?;
        match all.len().checked_sub(LISTED) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(out, "  and {more} more"),
        }
    }
}

impl ScheduleStatus {
    fn of(standing: &Standing) -> Self {
        Self {
            text: standing.written.map(|written| written.text.clone()),
            left_out: standing.written.map(|written| written.left_out.clone()).unwrap_or_default(),
            last: standing.last,
            next: standing.next(),
        }
    }

    fn text(&self, now: Timestamp) -> String {
        let last = self.last.map_or("never".to_owned(), |last| when_and_ago(last, now));
        let next = match self.next {
            None => "never by its schedule".to_owned(),
            Some(next) if next <= now => "with the next timer".to_owned(),
            Some(next) => format!("{} (in {})", when(next), length(next.since(now))),
        };
        let text = self.text.as_deref().map_or("always", |text| if text.is_empty() { "\"\"" } else { text });
        format!("{text}; last run {last}, next {next}")
    }

    fn document(&self, now: Timestamp) -> Value {
        let left_out = |invalid: &Invalid| json!({ "entry": invalid.entry, "reason": invalid.reason });
        json!({
            "value": self.text,
            "last_run": self.last.map(|last| last.to_string()),
            "next_run": self.next.map(|next| next.to_string()),
            "due": self.next.is_some_and(|next| next <= now),
            "left_out": self.left_out.iter().map(left_out).collect::<Vec<_>>(),
        })
    }
}

impl QueueStatus {
    fn contact(&self, now: Timestamp) -> String {
        let last = self.contact.last.map_or("never".to_owned(), |last| when_and_ago(last, now));
        match &self.collector {
            Some(collector) => format!("last contact {last}, {collector}"),
            None => format!("last contact {last}, not configured"),
        }
    }

    fn document(&self, now: Timestamp) -> Value {
        json!({
            "queue": self.queue.as_str(),
            "collector": self.collector,
            "last_contact": self.contact.last.map(|last| last.to_string()),
            "age_seconds": self.contact.last.map(|last| now.since(last).as_secs()),
            "error": self.contact.error.as_ref().map(|(at, text)| json!({ "at": at.to_string(), "text": text })),
        })
    }
}

impl Progress {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
            Self::WentDown => "went_down",
        }
    }
}

/// Looks at the run directory, and not at the claim in it: a look at that takes its lock for a moment.
fn progress(state: &Path, entry: &Entry, boot_id: &str) -> Progress {
    let run = RunDir::of(state, entry.key);
    if run.has_record() {
        Progress::Ended
    } else if (entry.boot_id.as_deref() != Some(boot_id) && !run.is_outside()) || run.is_abandoned(boot_id) {
        Progress::WentDown
    } else if run.is_cancelled() {
        Progress::Cancelled
    } else {
        Progress::Running
    }
}

fn paused(pause: &Pause) -> String {
    let mut text = pause.since.map_or("yes".to_owned(), |since| format!("since {}", when(since)));
    if let Some(until) = pause.until {
        text = format!("{text} until {}", when(until));
    }
    if let Some(reason) = &pause.reason {
        text = format!("{text}: {reason}");
    }
    text
}
