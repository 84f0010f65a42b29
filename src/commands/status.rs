//! `status`: what this node does and what waits, on one screen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::action::external::{Outside, document as outside_document};
use crate::action::schedule::Invalid;
use crate::action::time::Timestamp;
use crate::action::{ActionKey, Queue};
use crate::cli::{self, Global};
use crate::commands::scheduled::Standing;
use crate::commands::text::{self, age, as_json, in_words, pairs, printable, table, when, when_and_ago, without_url};
use crate::commands::unfinished::{Actions, Progress};
use crate::commands::{external, load, now, paths, pause, print, require_root};
use crate::error::{Error, Exit};
use crate::ledger::LedgerError;
use crate::ledger::contact::Contact;
use crate::ledger::pause::Pause;
use crate::ledger::story::Attempt;
use crate::ledger::view::Entry;
use crate::telemetry::color::{self, Hue};
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
    let gone = status.ledger_error.is_some();
    let old = options.max_age.is_some_and(|max_age| status.is_out_of_contact(max_age));
    let max_age = options.max_age;
    let printed = print(|out| if global.json { status.document(out) } else { status.screen(out, max_age) })?;
    Ok(match (gone, old) {
        (true, _) => Exit::Unavailable,
        (_, true) => Exit::TempFail,
        _ => printed,
    })
}

/// Everything that is shown.
struct Status {
    now: Timestamp,
    handler: Option<u32>,
    pause: Option<Pause>,
    /// `None`: the settings cannot be used.
    schedule: Option<ScheduleStatus>,
    queues: Vec<QueueStatus>,
    /// What the ledger knows; `None`: it is gone.
    actions: Option<Actions>,
    /// Why the ledger tells nothing.
    ledger_error: Option<String>,
    /// What is known of running actions that go on outside.
    outside: BTreeMap<ActionKey, Outside>,
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
        let (actions, ledger_error) = match Actions::look(state) {
            Ok(actions) => (Some(actions), None),
            Err(err @ Error::Ledger(LedgerError::Gone { .. })) => (None, Some(err.report())),
            Err(err) => return Err(err),
        };
        Ok(Self {
            now,
            handler: holder::running(state),
            pause: Pause::in_force(state, now).map_err(Error::Pause)?,
            schedule,
            queues,
            outside: external::outside(
                state,
                actions.iter().flat_map(|actions| &actions.running).map(|(entry, _)| entry.key),
            ),
            actions,
            ledger_error,
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
        let queues: Vec<_> = self.queues.iter().map(|queue| queue.document(self.now)).collect();
        let actions = self.actions.as_ref();
        let running = |(entry, progress): &(Entry, Progress)| {
            let mut document = as_json(entry, &self.secret);
            document["progress"] = json!(progress.as_str());
            document["external"] = json!(self.outside.get(&entry.key).map(outside_document));
            document
        };
        let unreported = |(entry, last): &(Entry, Option<Attempt>)| {
            let mut document = as_json(entry, &self.secret);
            document["attempts"] = json!(last.as_ref().map_or(0, |last| last.number));
            document["last_error"] = json!(last.as_ref().map(|last| &last.error));
            document
        };
        let list = |list: &dyn Fn(&Actions) -> Vec<Value>| actions.map(list);
        let document = json!({
            "time": self.now.to_string(),
            "handler": self.handler,
            "pause": self.pause.as_ref().map(pause::document),
            "schedule": self.schedule.as_ref().map(|schedule| schedule.document(self.now)),
            "configuration_error": self.configuration_error,
            "queues": queues,
            "dequeuers": self.dequeuers.iter().map(document).collect::<Vec<_>>(),
            "ledger_error": self.ledger_error,
            "running": list(&|actions| actions.running.iter().map(running).collect()),
            "waiting": list(&|actions| actions.waiting.iter().map(|entry| as_json(entry, &self.secret)).collect()),
            "unreported": list(&|actions| actions.unreported.iter().map(unreported).collect()),
            "unreported_oldest_seconds": self.oldest_unreported().map(|age| age.as_secs()),
        });
        writeln!(out, "{document}")
    }

    fn screen(&self, out: &mut impl Write, max_age: Option<Duration>) -> io::Result<()> {
        let mut rows = Vec::new();
        let mut line = |what: &str, value: String| rows.push([what.to_owned(), printable(&value)]);
        line("handler", self.handler.map_or("not at work".to_owned(), |pid| format!("at work, process {pid}")));
        line("paused", self.pause.as_ref().map_or("no".to_owned(), pause::in_words));
        if let Some(schedule) = &self.schedule {
            line("schedule", schedule.text(self.now));
            for invalid in &schedule.left_out {
                line("", format!("left out: {invalid}"));
            }
        }
        for queue in &self.queues {
            line(queue.queue.as_str(), queue.contact(self.now, max_age, self.configuration_error.is_none()));
            if let Some((at, error)) = &queue.contact.error {
                let error = without_url(error, queue.collector.as_deref().unwrap_or_default());
                line("", format!("failed {}: {error}", when_and_ago(*at, self.now)));
            }
        }
        for other in &self.dequeuers {
            line("dequeuer", format!("{other}: {}", other.recipe()));
        }
        if let Some(error) = &self.configuration_error {
            line("settings", format!("cannot be used: {error}"));
        }
        if let Some(error) = &self.ledger_error {
            line("ledger", error.clone());
        }
        pairs(out, &rows)?;
        let Some(actions) = &self.actions else { return Ok(()) };
        self.list(out, "running", &actions.running, "", |(entry, progress)| {
            let since = entry.started_at.unwrap_or(entry.received_at);
            let text = match progress {
                Progress::Running => {
                    let outside = self.outside.get(&entry.key).map(external::in_words).unwrap_or_default();
                    color::out(Hue::Yellow, &format!("for {}{outside}", age(self.now.since(since))))
                }
                Progress::Cancelled => "told to end".to_owned(),
                Progress::Ended => "has ended".to_owned(),
                Progress::WentDown => "went down".to_owned(),
            };
            (entry, text)
        })?;
        let since = |entry: &Entry| format!("for {}", age(self.now.since(entry.received_at)));
        self.list(out, "waiting", &actions.waiting, "", |entry| (entry, since(entry)))?;
        if let Some(next) = self.next_turn(actions) {
            pairs(out, &[["  next", &next].map(str::to_owned)])?;
        }
        let oldest = self.oldest_unreported().map(|age| format!(", the oldest for {}", text::age(age)));
        self.list(out, "unreported", &actions.unreported, &oldest.unwrap_or_default(), |(entry, last)| {
            let tries = last.as_ref().map(|last| format!(", tried {}", times(last.number)));
            let result = entry.ret.map_or_else(String::new, |ret| format!("result {ret}"));
            (entry, result + &tries.unwrap_or_default())
        })?;
        let last = actions.unreported.iter().filter_map(|(_, last)| last.as_ref()).max_by_key(|last| last.at);
        let mut rows = Vec::new();
        if let Some(Attempt { at, error, .. }) = last {
            rows.push(
                ["  failed", &format!("{}: {}", when_and_ago(*at, self.now), printable(error))].map(str::to_owned),
            );
        }
        if !actions.unreported.is_empty() {
            rows.push(["  next", &self.next_report()].map(str::to_owned));
        }
        pairs(out, &rows)
    }

    /// How long the oldest result has waited for its collector.
    fn oldest_unreported(&self) -> Option<Duration> {
        let ended =
            self.actions.iter().flat_map(|actions| &actions.unreported).filter_map(|(entry, _)| entry.finished_at);
        ended.min().map(|oldest| self.now.since(oldest))
    }

    /// What goes on with what runs and waits, where that is not a handler at work.
    fn next_turn(&self, actions: &Actions) -> Option<String> {
        const STARTS: &str = "a notification, the timer (by the schedule), or 'opensvc-actions'";
        let (runs, waits) = (!actions.running.is_empty(), !actions.waiting.is_empty());
        match (self.handler, &self.pause) {
            (_, Some(_)) if waits => Some("what waits does so until 'opensvc-actions resume'".to_owned()),
            (None, _) if waits => Some(format!("taken up by the next start: {STARTS}")),
            (None, _) if runs => Some(format!("its end is taken over by the next start: {STARTS}")),
            _ => None,
        }
    }

    /// What has results posted that no collector has accepted yet.
    fn next_report(&self) -> String {
        match self.handler {
            Some(pid) => format!("posted by the handler at work (process {pid}), or by the next start"),
            None => "posted by the next start: a notification, the timer (also out of its schedule), a boot, \
                     or 'opensvc-actions report'"
                .to_owned(),
        }
    }

    fn list<'a, T>(
        &self,
        out: &mut impl Write,
        what: &str,
        all: &'a [T],
        remark: &str,
        describe: impl Fn(&'a T) -> (&'a Entry, String),
    ) -> io::Result<()> {
        writeln!(out, "{what:<10}  {}{remark}", all.len())?;
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

fn times(number: u32) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
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
            Some(next) => format!("{} (in {})", when(next), age(next.since(now))),
        };
        let text = self.text.as_deref().map_or("always", |text| if text.is_empty() { "\"\"" } else { text });
        format!("{text}; last run of a timer {last}, next {next}")
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
    fn contact(&self, now: Timestamp, max_age: Option<Duration>, are_settings_known: bool) -> String {
        let last = self.contact.last.map_or("never".to_owned(), |last| {
            let limit = max_age.filter(|max_age| now.since(last) > *max_age);
            when_and_ago(last, now) + &limit.map_or_else(String::new, |limit| format!(", longer than {}", age(limit)))
        });
        match &self.collector {
            Some(collector) => format!("last contact {last}, {collector}"),
            None if are_settings_known => format!("last contact {last}, not configured"),
            None => format!("last contact {last}"),
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
