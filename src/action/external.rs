//! External actions: long work that a site's own command starts and another command asks after, in the protocol of
//! Replicante agents. Here is what the words of a row mean, what the commands read and say, and what comes next; nobody
//! is started and no clock is read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::argv::Argv;
use super::outcome::{Ended, Outcome};
use super::output::Clamp;
use super::time::Timestamp;
use super::{ActionKey, Queue, words};

/// What the kind of every external action begins with.
pub const KIND: &str = "external.agent.replicante.io/";

/// The word that a row begins with, in the place of the kind.
pub const WORD: &str = "external";

/// The longest name, in bytes.
const LONGEST_NAME: usize = 100;

/// The longest arguments, in bytes of JSON: as much as the original's interface takes.
const LONGEST_ARGS: usize = 32 << 10;

/// A check that fails is repeated at least so often in a row before its action is given up,
pub const LEAST_FAILURES: u32 = 5;
/// and at least for so long.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// The longest time between two checks after one has failed.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// One external action, as the settings define it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What it is for, in words.
    pub description: String,
    /// The command that starts it, the program (absolute) first; never empty.
    pub action: Vec<String>,
    /// The command that asks after it; the same.
    pub check: Vec<String>,
    /// The time between two checks by one handler.
    pub interval: Duration,
    /// How long it may take in all; `None`: unbounded.
    pub timeout: Option<Duration>,
    /// How long the start command may run.
    pub start_timeout: Duration,
    /// How long one check may run.
    pub check_timeout: Duration,
    /// Members that the arguments must have.
    pub required: Vec<String>,
    /// The user that both commands run as; `None`: root.
    pub user: Option<String>,
}

/// The external actions of a node, by name.
pub type Definitions = BTreeMap<String, Definition>;

/// What a row asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which external action.
    pub name: String,
    /// With which arguments.
    pub args: Value,
}

/// Why a name cannot be one of an external action's.
#[must_use]
pub fn wrong_name(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("a name begins with a letter or a digit")
    } else if name.len() > LONGEST_NAME {
        Some("a name has at most 100 characters")
    } else if !name.chars().all(plain) {
        Some("a name has letters, digits, \".\", \"_\" and \"-\" only")
    } else {
        None
    }
}

impl Definition {
    /// The start command, which reads this record.
    #[must_use]
    pub fn start(&self, record: String) -> Argv {
        argv(&self.action, record)
    }
}

/// A command of words that are never none.
fn argv(words: &[String], record: String) -> Argv {
    let (program, args) = words.split_first().map(|(program, args)| (program.as_str(), args)).unwrap_or_default();
    Argv::new(program.into(), args.to_vec()).reading(record)
}

impl Order {
    /// Reads a row's command: `external NAME [ARGS]`, or `external.agent.replicante.io/NAME [ARGS]`. The arguments are one
    /// JSON value, as it is or quoted as for a shell. `None`: it is about something else.
    ///
    /// # Errors
    /// It is about an external action and cannot be read: why.
    #[must_use]
    pub fn read(command: &str) -> Option<Result<Self, String>> {
        let (first, rest) = cut(command);
        let (name, rest) = match first.strip_prefix(KIND) {
            Some(name) => (name, rest),
            None if first == WORD => cut(rest),
            None => return Self::quoted(command),
        };
        if let Some(why) = wrong_name(name) {
            return Some(Err(format!("{name:?} is no name of an external action: {why}")));
        }
        // In the quotes of a shell, an object is a string to a reader of JSON.
        if let Ok([args]) = words::split(rest).as_deref() {
            if rest.starts_with('"') && args.starts_with(['{', '[']) {
                return Some(Self::with(name, args));
            }
        }
        Some(Self::with(name, rest).or_else(|why| match words::split(rest).as_deref() {
            Ok([]) => Self::with(name, ""),
            Ok([args]) => Self::with(name, args),
            _ => Err(why),
        }))
    }

    /// The same where already the first words are quoted.
    fn quoted(command: &str) -> Option<Result<Self, String>> {
        let words = words::split(command).ok()?;
        let (name, rest) = match words.first()?.strip_prefix(KIND) {
            Some(name) => (name.to_owned(), &words[1..]),
            None if words[0] == WORD => (words.get(1).cloned().unwrap_or_default(), words.get(2..).unwrap_or_default()),
            None => return None,
        };
        if let Some(why) = wrong_name(&name) {
            return Some(Err(format!("{name:?} is no name of an external action: {why}")));
        }
        Some(match rest {
            [] => Self::with(&name, ""),
            [args] => Self::with(&name, args),
            _ => Err("the arguments of an external action are one JSON value".to_owned()),
        })
    }

    fn with(name: &str, args: &str) -> Result<Self, String> {
        if args.len() > LONGEST_ARGS {
            return Err(format!("the arguments are longer than {} KiB", LONGEST_ARGS >> 10));
        }
        let args = match args.trim() {
            "" => Value::Null,
            args => serde_json::from_str(args)
                .map_err(|err| format!("the arguments of an external action are one JSON value: {err}"))?,
        };
        Ok(Self { name: name.to_owned(), args })
    }

    /// The words that a policy looks at: `external`, the name, and the arguments if there are any.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let args = Some(&self.args).filter(|args| !args.is_null()).map(ToString::to_string);
        [WORD.to_owned(), self.name.clone()].into_iter().chain(args).collect()
    }

    /// The definition that it is for, if its arguments are what that requires.
    ///
    /// # Errors
    /// Why it cannot be carried out here.
    pub fn definition<'a>(&self, definitions: &'a Definitions) -> Result<&'a Definition, String> {
        let Some(definition) = definitions.get(&self.name) else {
            return Err(format!("no external action {:?} is defined on this node", self.name));
        };
        let has = |name: &&String| self.args.get(name.as_str()).is_none_or(Value::is_null);
        match definition.required.iter().find(has) {
            None => Ok(definition),
            Some(missing) => Err(format!("the external action {:?} requires the argument {missing:?}", self.name)),
        }
    }

    /// What both commands read from their standard input.
    #[must_use]
    pub fn record(&self, id: &str, headers: &BTreeMap<String, String>) -> String {
        let kind = format!("{KIND}{}", self.name);
        json!({ "args": self.args, "headers": headers, "id": id, "kind": kind }).to_string()
    }
}

/// How many words it takes to name an external action; `None`: these words are about something else.
#[must_use]
pub fn named_by(words: &[String]) -> Option<usize> {
    let first = words.first()?;
    if first == WORD { Some(2) } else { first.starts_with(KIND).then_some(1) }
}

/// The first word, and what follows it.
fn cut(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// The UUID of an action: version 8 of RFC 9562, which holds the whole name, so that no two actions have the same and an
/// action has it in every handler.
#[must_use]
pub fn uuid(key: ActionKey) -> String {
    let queue = match key.queue {
        Queue::Oc3 => 1_u8,
        Queue::Rpc => 2,
    };
    let hex = format!("{:016x}", u64::from_be_bytes(key.id.0.to_be_bytes()));
    // queue and generation, 8; version; the id's 3 and variant and 13 digits, in the five groups of a UUID
    format!("{:08x}-00{queue:02x}-8{}-8{}-{}", key.generation, &hex[..3], &hex[3..6], &format!("{}00", &hex[6..]))
}

/// Whether a text may be a part of file and unit names: a UUID does, and so does whatever holds letters, digits, `_` and `-`
/// only, begins with a letter or a digit and has at most 128 of them.
#[must_use]
pub fn is_plain_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    id.len() <= 128 && id.bytes().all(plain) && id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// What a check command says.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The action goes on.
    Running {
        /// How far it is, in whatever form.
        progress: Option<Value>,
    },
    /// The action has done what it was for.
    Finished {
        /// What came of it.
        result: Option<Value>,
    },
    /// The action has failed.
    Failed {
        /// Why.
        error: Option<String>,
        /// The exit status that it ended with.
        exit_status: Option<i32>,
    },
}

#[derive(Deserialize)]
struct RawReport {
    status: String,
    error: Option<Value>,
    progress: Option<Value>,
    result: Option<Value>,
    exit_status: Option<Value>,
}

impl Report {
    /// Reads a check's standard output: one JSON object. Members that nobody knows are passed over.
    ///
    /// # Errors
    /// It is none: why.
    pub fn read(stdout: &str) -> Result<Self, String> {
        let text = stdout.trim();
        if text.is_empty() {
            return Err("the check printed nothing".to_owned());
        }
        if !text.starts_with('{') {
            return Err(format!("the check printed no JSON object: {}", excerpt(text)));
        }
        let raw: RawReport =
            serde_json::from_str(text).map_err(|err| format!("the check printed {}: {err}", excerpt(text)))?;
        match raw.status.as_str() {
            "running" => Ok(Self::Running { progress: raw.progress }),
            "finished" => Ok(Self::Finished { result: raw.result }),
            "failed" => Ok(Self::Failed {
                error: raw.error.map(|error| match error {
                    Value::String(text) => text,
                    other => other.to_string(),
                }),
                exit_status: raw
                    .exit_status
                    .and_then(|status| i32::try_from(status.as_i64()?).ok())
                    .filter(|status| (1..=255).contains(status)),
            }),
            other => Err(format!("the check says status {}, not running, finished or failed", excerpt(other))),
        }
    }
}

fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// How a check command ended, and what it printed, both streams clamped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How it ended; `None`: it could not be started.
    pub ended: Option<Ended>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Why it could not be started.
    pub not_started: Option<String>,
}

impl Checked {
    /// What it says.
    ///
    /// # Errors
    /// Nothing that can be relied on: why.
    fn report(&self) -> Result<Report, String> {
        match &self.ended {
            Some(Ended::Exited(0)) => Report::read(&self.stdout),
            Some(Ended::Exited(status)) => Err(format!("the check exited with status {status}")),
            Some(ended) => {
                let how = ended.reason().unwrap_or_default();
                Err(format!("the check was {}", how.trim_start_matches("opensvc-actions: ")))
            }
            None => Err(format!("the check could not be started: {}", self.not_started.as_deref().unwrap_or("why?"))),
        }
    }
}

/// An external action that was started and is asked after: everything that the next handler needs to know, even if the
/// settings do not define it any more. It is kept in the run directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// Which external action.
    pub name: String,
    /// What both commands read.
    pub record: String,
    /// The check command.
    pub check: Vec<String>,
    /// The time between two checks.
    pub interval: Duration,
    /// How long one check may run.
    pub check_timeout: Duration,
    /// How long it may take in all, from its start.
    pub timeout: Option<Duration>,
    /// The user that its commands run as; `None`: root.
    #[serde(default)]
    pub user: Option<String>,
    /// When its start command had ended.
    pub started_at: Timestamp,
    /// What the start command printed.
    pub stdout: String,
    /// The same, to standard error.
    pub stderr: String,
    /// When the next check is due.
    pub next_at: Timestamp,
    /// How many checks have ended.
    pub checks: u32,
    /// When a check last said something.
    pub heard_at: Option<Timestamp>,
    /// How far the action was then.
    pub progress: Option<Value>,
    /// How many checks in a row have failed, the last ones.
    pub failures: u32,
    /// When the first of those did.
    pub failing_since: Option<Timestamp>,
    /// Why the last of them did.
    pub failure: Option<String>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is asked after again, at [`Outside::next_at`].
    Wait,
    /// This is its result.
    Ended(Box<Outcome>, Option<String>),
}

impl Outside {
    /// Whether it has had its time.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.timeout.is_some_and(|timeout| now >= self.started_at.plus(timeout))
    }

    /// The check command.
    #[must_use]
    pub fn check(&self) -> Argv {
        argv(&self.check, self.record.clone())
    }

    /// When it is to be looked at next: for its next check, or since its time is over.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        let end = self.timeout.map_or(self.next_at, |timeout| self.started_at.plus(timeout));
        self.next_at.min(end)
    }

    /// Takes a check into account that has ended now.
    pub fn take(&mut self, checked: &Checked, now: Timestamp) -> Next {
        self.checks = self.checks.saturating_add(1);
        let overdue = self.is_overdue(now);
        let (ended, error) = match checked.report() {
            Ok(Report::Finished { .. }) => (Ended::Exited(0), None),
            Ok(Report::Failed { error, exit_status }) => (Ended::Exited(exit_status.unwrap_or(1)), Some(error)),
            Ok(Report::Running { progress }) => {
                (self.failures, self.failing_since, self.failure) = (0, None, None);
                (self.heard_at, self.progress) = (Some(now), progress.or_else(|| self.progress.take()));
                self.next_at = now.plus(self.interval);
                match self.timeout {
                    Some(timeout) if overdue => (Ended::TimedOut(timeout), None),
                    _ => return Next::Wait,
                }
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                let since = *self.failing_since.get_or_insert(now);
                let delay = self.interval.saturating_mul(1 << self.failures.min(16)).min(LONGEST_DELAY);
                self.next_at = now.plus(delay.max(self.interval));
                self.failure = Some(why.clone());
                match self.timeout {
                    Some(timeout) if overdue => (Ended::TimedOut(timeout), Some(Some(why))),
                    _ if self.failures >= LEAST_FAILURES && now.since(since) >= PATIENCE => {
                        let known = format!("its check has failed {} times in a row: {why}", self.failures);
                        (Ended::Interrupted(known), None)
                    }
                    _ => return Next::Wait,
                }
            }
        };
        self.ended(&ended, error.as_ref().map(Option::as_deref), Some(checked), now)
    }

    /// The result of one that a person has cancelled.
    #[must_use]
    pub fn cancelled(&self, now: Timestamp) -> Next {
        self.ended(&Ended::Cancelled(None), None, None, now)
    }

    /// The output of the start and of the last check, and why the result is what it is. `error`: it failed, and perhaps
    /// why.
    #[expect(clippy::option_option, reason = "failed or not, and if so, with a reason or without")]
    fn ended(&self, ended: &Ended, error: Option<Option<&str>>, last: Option<&Checked>, now: Timestamp) -> Next {
        let both = |start: &str, check: Option<&str>| {
            let mut clamp = Clamp::new();
            for text in [Some(start), check].into_iter().flatten().filter(|text| !text.is_empty()) {
                clamp.push(text.as_bytes());
                if !text.ends_with('\n') {
                    clamp.push(b"\n");
                }
            }
            clamp
        };
        let mut stderr = both(&self.stderr, last.map(|last| last.stderr.as_str()));
        let reason = match (ended.reason(), error) {
            (Some(reason), _) if !matches!(ended, Ended::Exited(_)) => {
                Some(format!("{reason}; what its start command has started may still run"))
            }
            (_, Some(error)) => {
                let error = error.unwrap_or("no reason given");
                stderr.push(error.as_bytes());
                stderr.push(b"\n");
                let first = error.lines().next().unwrap_or_default();
                Some(format!(
                    "opensvc-actions: its check says that it failed: {}",
                    first.replace(char::is_control, " ")
                ))
            }
            _ => None,
        };
        let outcome = Outcome {
            ret: ended.ret(),
            stdout: both(&self.stdout, last.map(|last| last.stdout.as_str())).finish(None),
            stderr: stderr.finish(reason.as_deref()),
            ended_at: now,
        };
        Next::Ended(Box::new(outcome), reason)
    }
}

/// What a person, or a program, is shown of it.
#[must_use]
pub fn document(outside: &Outside) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let mut document = Map::new();
    document.insert("name".to_owned(), json!(outside.name));
    document.insert("progress".to_owned(), json!(outside.progress));
    document.insert("checks".to_owned(), json!(outside.checks));
    document.insert("last_report".to_owned(), json!(time(outside.heard_at)));
    document.insert("failures".to_owned(), json!(outside.failures));
    document.insert("error".to_owned(), json!(outside.failure));
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ActionId;

    fn read(command: &str) -> Option<Result<(String, Value), String>> {
        Order::read(command).map(|order| order.map(|order| (order.name, order.args)))
    }

    #[track_caller]
    fn assert_read(command: &str, name: &str, args: &Value) {
        assert_eq!(read(command), Some(Ok((name.to_owned(), args.clone()))), "{command}");
    }

    #[test]
    fn an_order_is_read_in_every_spelling() {
        let args = json!({"target": "it's a", "n": [1]});
        for command in [
            r#"external backup.full {"target": "it's a", "n": [1]}"#,
            r#"  external   backup.full   {"target":"it's a","n":[1]}  "#,
            r#"external backup.full '{"target": "it'"'"'s a", "n": [1]}'"#,
            r#"external backup.full "{\"target\":\"it's a\",\"n\":[1]}""#,
            r#"external.agent.replicante.io/backup.full {"target": "it's a", "n": [1]}"#,
            r#"'external' 'backup.full' '{"target": "it'"'"'s a", "n": [1]}'"#,
        ] {
            assert_read(command, "backup.full", &args);
        }
        assert_read("external x", "x", &Value::Null);
        assert_read("external.agent.replicante.io/x", "x", &Value::Null);
        assert_read("external x 5", "x", &json!(5));
        assert_read("external x \"a\"", "x", &json!("a"));
        for other in ["start", "", "externals x", "start external x", "it's"] {
            assert_eq!(read(other), None, "{other}");
        }
        for wrong in
            ["external", "external ../x", "external x {", "external x a b", "external x '{}' {}", "external -x"]
        {
            assert!(matches!(read(wrong), Some(Err(_))), "{wrong}");
        }
    }

    #[test]
    fn the_words_of_an_order_are_the_same_order() {
        for args in ["", "null", "-0", "0.1", "4444444444444444444400000000000000", "[1e308,{\"a\":5e-324}]"] {
            let order = Order::read(&format!("external x {args}")).unwrap().unwrap();
            let again = Order::read(&order.words().join(" ")).unwrap().unwrap();
            assert_eq!(again, order, "{args}");
        }
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "my.custom.action", "A-1_b", &"a".repeat(100)] {
            assert_eq!(wrong_name(name), None, "{name}");
        }
        for name in ["", ".weird", "na me", "a/b", "-a", "é", "a\n", &"a".repeat(101)] {
            assert!(wrong_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_action_has_a_uuid_of_its_own() {
        let key = |queue, id, generation| ActionKey { queue, id: ActionId(id), generation };
        assert_eq!(uuid(key(Queue::Rpc, 628, 1)), "00000001-0002-8000-8000-000000027400");
        let mut seen = std::collections::BTreeSet::new();
        for queue in Queue::ALL {
            for id in [i64::MIN, -1, 0, 1, 255, 256, 628, i64::MAX] {
                for generation in [1, 2, u32::MAX] {
                    let uuid = uuid(key(queue, id, generation));
                    let groups: Vec<_> = uuid.split('-').map(str::len).collect();
                    assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
                    assert!(is_plain_id(&uuid) && seen.insert(uuid));
                }
            }
        }
    }

    #[test]
    fn ids_that_are_more_than_a_name_are_told_apart() {
        for id in ["../x", "a/b", "", ".", "a b", "*", "-x", "a\n", "é", "a.b", "a@b", &"a".repeat(129)] {
            assert!(!is_plain_id(id), "{id}");
        }
    }

    #[test]
    fn a_check_is_read_strictly_where_it_counts_and_kindly_elsewhere() {
        let running = Report::Running { progress: Some(json!(5)) };
        assert_eq!(Report::read("\n {\"status\":\"running\",\"progress\":5,\"more\":1}\n"), Ok(running));
        assert_eq!(Report::read(r#"{"status":"finished"}"#), Ok(Report::Finished { result: None }));
        let failed = |error: Option<&str>, exit_status| Report::Failed { error: error.map(str::to_owned), exit_status };
        assert_eq!(Report::read(r#"{"status":"failed"}"#), Ok(failed(None, None)));
        assert_eq!(Report::read(r#"{"status":"failed","error":null}"#), Ok(failed(None, None)));
        assert_eq!(
            Report::read(r#"{"status":"failed","error":[1],"exit_status":3}"#),
            Ok(failed(Some("[1]"), Some(3)))
        );
        assert_eq!(Report::read(r#"{"status":"failed","error":"x","exit_status":0}"#), Ok(failed(Some("x"), None)));
        for wrong in [
            "",
            "running",
            r#"["finished"]"#,
            r#"{"status":"Finished"}"#,
            r#"{"status":"finished"} trailing"#,
            r#"{"status":"running","status":"finished"}"#,
            r#"{"error":"x"}"#,
            "\u{feff}{\"status\":\"finished\"}",
        ] {
            assert!(Report::read(wrong).is_err(), "{wrong}");
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn outside(timeout: Option<u64>) -> Outside {
        Outside {
            name: "x".to_owned(),
            record: String::new(),
            check: vec!["/check".to_owned()],
            interval: Duration::from_secs(1),
            check_timeout: Duration::from_secs(30),
            timeout: timeout.map(Duration::from_secs),
            user: None,
            started_at: at(0),
            stdout: "begun".to_owned(),
            stderr: String::new(),
            next_at: at(0),
            checks: 0,
            heard_at: None,
            progress: None,
            failures: 0,
            failing_since: None,
            failure: None,
        }
    }

    fn said(stdout: &str) -> Checked {
        Checked { ended: Some(Ended::Exited(0)), stdout: stdout.to_owned(), ..Checked::default() }
    }

    #[track_caller]
    fn result(next: Next) -> (i32, String, String) {
        match next {
            Next::Ended(outcome, _) => (outcome.ret, outcome.stdout, outcome.stderr),
            Next::Wait => panic!("it goes on"),
        }
    }

    const RUNNING: &str = r#"{"status":"running","progress":"40 %"}"#;

    #[test]
    fn why_a_check_cannot_be_read_is_short_however_much_it_printed() {
        let much = "y".repeat(60_000);
        for printed in [much.clone(), format!("{{{much}"), format!(r#"{{"status":"{much}"}}"#)] {
            let why = Report::read(&printed).unwrap_err();
            assert!(why.len() < 400, "{} bytes", why.len());
        }
    }

    #[test]
    fn what_start_and_last_check_print_is_the_output() {
        let mut it = outside(None);
        let (ret, stdout, stderr) = result(it.take(&said(r#"{"status":"finished","result":7}"#), at(1)));
        assert_eq!((ret, stdout.as_str(), stderr.as_str()), (0, "begun\n{\"status\":\"finished\",\"result\":7}\n", ""));
        let (ret, _, stderr) = result(it.take(&said(r#"{"status":"failed","error":"a\nb","exit_status":9}"#), at(1)));
        assert_eq!((ret, stderr.as_str()), (9, "a\nb\nopensvc-actions: its check says that it failed: a\n"));
        assert_eq!(result(it.take(&said(r#"{"status":"failed"}"#), at(1))).0, 1);
        assert_eq!(result(it.cancelled(at(1))).0, 130);
    }

    #[test]
    fn at_its_timeout_it_is_asked_once_more() {
        let mut it = outside(Some(10));
        assert_eq!(it.take(&said(RUNNING), at(9)), Next::Wait);
        assert_eq!((it.due_at(), it.progress.clone()), (at(10), Some(json!("40 %"))));
        assert_eq!(result(it.clone().take(&said(r#"{"status":"finished"}"#), at(70))).0, 0);
        let (ret, _, stderr) = result(it.clone().take(&said(RUNNING), at(70)));
        assert!(ret == 124 && stderr.contains("timeout of 10s; what its start command"), "{stderr}");
        let failing = Checked { ended: Some(Ended::Exited(1)), ..Checked::default() };
        assert_eq!(result(it.take(&failing, at(10))).0, 124);
    }

    #[test]
    fn a_check_that_fails_is_repeated_less_and_less_often_and_not_for_ever() {
        let mut it = outside(None);
        let failing = Checked { ended: Some(Ended::TimedOut(Duration::from_secs(30))), ..Checked::default() };
        let mut now = at(0);
        let mut delays = Vec::new();
        let (ret, _, stderr) = loop {
            match it.take(&failing, now) {
                Next::Wait => delays.push(it.next_at.since(now).as_secs()),
                ended @ Next::Ended(..) => break result(ended),
            }
            now = it.next_at;
        };
        assert_eq!(delays[..7], [2, 4, 8, 16, 32, 60, 60]);
        assert!((600..=660).contains(&now.seconds), "{now:?}");
        assert!(
            ret == 254 && stderr.contains("in a row: the check was ran past") || stderr.contains("ran past"),
            "{stderr}"
        );
        // after a long time in which nobody asked, one failure is not the end of it
        let mut it = outside(None);
        assert_eq!(it.take(&failing, at(0)), Next::Wait);
        assert_eq!(it.take(&failing, at(100_000)), Next::Wait);
        // and one good answer makes good
        assert_eq!(it.take(&said(RUNNING), at(100_010)), Next::Wait);
        assert_eq!((it.failures, it.failing_since, it.failure.clone()), (0, None, None));
    }

    #[test]
    fn a_missing_argument_and_an_unknown_name_are_refused() {
        let definition = Definition {
            description: String::new(),
            action: vec!["/a".to_owned()],
            check: vec!["/c".to_owned()],
            interval: Duration::from_secs(1),
            timeout: None,
            user: None,
            start_timeout: Duration::from_secs(1),
            check_timeout: Duration::from_secs(1),
            required: vec!["target".to_owned()],
        };
        let known = Definitions::from([("x".to_owned(), definition)]);
        let refused = |command: &str| Order::read(command).unwrap().unwrap().definition(&known).map(drop);
        assert_eq!(refused(r#"external x {"target": 0}"#), Ok(()));
        for command in
            ["external x", "external x {}", r#"external x {"target": null}"#, "external x []", "external y {}"]
        {
            assert!(refused(command).is_err(), "{command}");
        }
    }
}
