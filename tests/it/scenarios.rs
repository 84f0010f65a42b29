//! Runs every file of `tests/scenarios` over every wire. Its README says how one is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::state::{Event, Odd, Row};
use crate::support::history::Allowed;
use crate::support::node::{Gate, Node};
use crate::support::process::{Ended, Process};
use crate::support::world::World;
use crate::support::{Dialect, Wire};

/// Set, it has the files rewritten with what happened. Look at the difference before you commit it.
const UPDATE: &str = "UPDATE_SCENARIOS";

/// The wires that the handler speaks: each scenario runs over all of them that it does not exclude.
const SPOKEN: &[Wire] = &Wire::ALL;

/// A file as it is written: steps, and what is to be seen.
struct Story {
    name: String,
    path: PathBuf,
    steps: String,
    wires: Vec<Wire>,
    /// What is to be seen: everywhere (of no wire), and in its place over some wires.
    expected: Vec<(Vec<Wire>, String)>,
}

impl Story {
    fn read(path: PathBuf) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut parts: Vec<(Option<&str>, String)> = vec![(None, String::new())];
        for line in text.lines() {
            match line.strip_prefix("---") {
                Some(wires) => parts.push((Some(wires.trim()), String::new())),
                None => parts.last_mut().unwrap().1.extend([line, "\n"]),
            }
        }
        let wires = |names: &str| -> Vec<Wire> {
            let wire = |word| Wire::ALL.into_iter().find(|wire| wire.name() == word);
            let known = |word| wire(word).unwrap_or_else(|| panic!("{name}: there is no wire {word:?}"));
            names.split_whitespace().map(known).collect()
        };
        let mut parts = parts.into_iter();
        let steps = parts.next().unwrap().1;
        let only = steps.lines().find_map(|line| line.strip_prefix("only "));
        let only = only.map_or(Wire::ALL.to_vec(), wires);
        let expected: Vec<_> = parts.map(|(names, part)| (wires(names.unwrap_or_default()), part)).collect();
        assert!(expected.first().is_some_and(|(wires, _)| wires.is_empty()), "{name}: there is no line '---'");
        Self { path, steps, wires: only, expected, name }
    }

    /// Which part of what is to be seen is meant for this wire.
    fn part(&self, wire: Wire) -> usize {
        self.expected.iter().position(|(wires, _)| wires.contains(&wire)).unwrap_or(0)
    }

    fn write(&self) {
        let mut text = self.steps.clone();
        for (wires, part) in &self.expected {
            text.push_str("---");
            for wire in wires {
                text.extend([" ", wire.name()]);
            }
            let _ = write!(text, "\n{part}");
        }
        fs::write(&self.path, text).unwrap();
    }
}

#[test]
fn each_does_what_it_says_over_every_wire() {
    let stories: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("txt".as_ref()))
        .map(|path| Mutex::new(Story::read(path)))
        .collect();
    assert!(stories.len() >= 20, "where are the scenarios?");
    let is_told = |story: &Mutex<Story>, wire: Wire| story.lock().unwrap().wires.contains(&wire);
    let all = SPOKEN.iter().flat_map(|wire| stories.iter().map(move |story| (story, *wire)));
    let runs: Vec<_> = all.filter(|(story, wire)| is_told(story, *wire)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // They wait more than they work.
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((story, wire)) = runs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(failure) = check(story, *wire) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} runs failed:\n\n{}", failures.len(), runs.len(), failures.join("\n"));
}

fn check(story: &Mutex<Story>, wire: Wire) -> Result<(), String> {
    let (name, steps, part, expected) = {
        let story = story.lock().unwrap();
        let part = story.part(wire);
        (format!("{} ({})", story.name, wire.name()), story.steps.clone(), part, story.expected[part].1.clone())
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut scenario = Scenario::new(wire);
        for (number, line) in steps.lines().enumerate() {
            if let Err(why) = scenario.step(line.trim()) {
                panic!("line {}: {why}: {line}", number + 1);
            }
        }
        let asked = scenario.world.collector.wires();
        assert!(asked.iter().all(|asked| *asked == wire), "it was to be over {wire:?}, and was over {asked:?}");
        scenario.world.check_but(&scenario.allowed);
        scenario.said
    }));
    let said = outcome.map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        format!("{name}: {why}\n")
    })?;
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if said.len() == expected.len() && said.iter().zip(&expected).all(|(said, pattern)| matches(pattern, said)) {
        return Ok(());
    }
    let mut story = story.lock().unwrap();
    let is_its_own = part > 0 || story.wires.first() == Some(&wire);
    if std::env::var_os(UPDATE).is_some() && is_its_own {
        story.expected[part].1 = said.join("\n") + "\n";
        story.write();
    }
    Err(format!("{name}:\n{}", difference(&expected, &said)))
}

/// Whether a line is as expected, where `*` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// Both lists as one: what is common, what is missing (`-`) and what is too much (`+`).
fn difference(expected: &[&str], said: &[String]) -> String {
    // The length of the longest common rest, from each pair of positions.
    let mut common = vec![vec![0; said.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..said.len()).rev() {
            common[i][j] = if matches(expected[i], &said[j]) {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < expected.len() || j < said.len() {
        if i < expected.len() && j < said.len() && matches(expected[i], &said[j]) {
            let _ = writeln!(text, "      {}", said[j]);
            (i, j) = (i + 1, j + 1);
        } else if j == said.len() || (i < expected.len() && common[i + 1][j] >= common[i][j + 1]) {
            let _ = writeln!(text, "    - {}", expected[i]);
            i += 1;
        } else {
            let _ = writeln!(text, "    + {}", said[j]);
            j += 1;
        }
    }
    text
}

/// A scenario as it goes on.
struct Scenario {
    /// The handler in the background; before the world, so that it goes first.
    running: Option<Process>,
    world: World,
    gate: Gate,
    settings: String,
    ids: BTreeMap<String, i64>,
    allowed: Allowed,
    /// Marks and events that were told already.
    told: (usize, usize),
    said: Vec<String>,
}

type Step = Result<(), String>;

impl Scenario {
    fn new(wire: Wire) -> Self {
        let world = World::over(wire);
        let gate = world.node.gate("gate");
        Self {
            running: None,
            world,
            gate,
            settings: String::new(),
            ids: BTreeMap::new(),
            allowed: Allowed::default(),
            told: (0, 0),
            said: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) -> Step {
        if line.is_empty() || line.starts_with('#') || line.starts_with("only ") {
            return Ok(());
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let node = &self.world.node;
        match (verb, rest) {
            ("queue", row) => return self.queue(row),
            ("fault", fault) => return self.fault(fault),
            ("set", setting) => {
                self.settings.push_str(setting);
                self.settings.push('\n');
                node.configure(&self.settings);
            }
            ("file", file) => {
                let (name, content) = file.split_once(": ").ok_or("a name, ': ' and a JSON string or a size")?;
                let content = match content.parse::<usize>() {
                    Ok(size) => "x".repeat(size),
                    Err(_) => serde_json::from_str(content).map_err(|err| err.to_string())?,
                };
                node.write(name, content);
            }
            ("allow", "interrupted") => self.allowed.interrupted = true,
            ("allow", "missing") => self.allowed.missing = true,
            ("allow", "unauthorized") => self.allowed.unauthorized = true,
            ("heal", "") => self.world.collector.heal(),
            ("down", "") => self.world.collector.down(),
            ("up", "") => self.world.collector.up(),
            ("remove", file) => node.remove(file),
            ("install", "om") => node.install_om(),
            ("redo", name) => self.world.collector.redo(self.id(name)?),
            ("cancel", name) => self.world.collector.cancel(self.id(name)?),
            ("unreachable", name) => self.world.collector.set_status(self.id(name)?, 'T'),
            ("age", name) => self.world.collector.age(self.id(name)?),
            ("resend", name) => {
                self.world.collector.set_status(self.id(name)?, 'S');
                self.world.collector.age(self.id(name)?);
            }
            ("run", "") => {
                let ended = node.run();
                self.tell(&ended);
            }
            ("knock", count) => {
                let listener = Node::listen();
                let address = listener.local_addr().unwrap();
                for _ in 0..count.parse::<usize>().map_err(|err| err.to_string())? {
                    TcpStream::connect(address).unwrap().write_all(b"dequeue_actions").unwrap();
                }
                let ended = node.handler().systemd(listener).run();
                self.tell(&ended);
            }
            ("nowait", "") => {
                let listener = Node::listen();
                let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let connection = listener.accept().unwrap().0;
                let ended = node.handler().inetd(connection).run();
                self.tell(&ended);
            }
            ("start", "") => self.running = Some(node.handler().start()),
            ("until", name) => drop(node.wait_for_start(self.id(name)?)),
            ("reported", name) => drop(self.world.collector.wait_for_result(self.id(name)?)),
            ("open", "") => self.gate.open(),
            ("signal", name) => {
                let signal = match name {
                    "TERM" => Signal::TERM,
                    "KILL" => Signal::KILL,
                    "HUP" => Signal::HUP,
                    _ => return Err("no such signal here".to_owned()),
                };
                self.running.as_ref().ok_or("nothing runs")?.signal(signal);
            }
            ("end", "") => {
                let ended = self.running.take().ok_or("nothing runs")?.wait();
                self.tell(&ended);
            }
            _ => return Err("no such step".to_owned()),
        }
        Ok(())
    }

    /// `NAME FLAG… [for SERVICE]: COMMAND`
    fn queue(&mut self, line: &str) -> Step {
        let (head, command) = line.split_once(':').ok_or("a name, ':' and a command")?;
        let mut words = head.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let mut row = Row::new(self.world.dialect, command.trim());
        while let Some(word) = words.next() {
            row = match word {
                "for" => row.service(words.next().ok_or("for whom?")?),
                "waiting" => row.status('W'),
                "notified" => row.status('N'),
                "sent" => row.status('S'),
                "old" => row.old(),
                "stuck" => row.stuck(),
                "untagged" => row.untagged(),
                "nulls" => row.odd(Odd::NullMembers),
                "unknown-members" => row.odd(Odd::UnknownMembers),
                "no-command" => row.odd(Odd::NoCommand),
                "null-command" => row.odd(Odd::NullCommand),
                "id-is-word" => row.odd(Odd::IdIsWord),
                "no-id" => row.odd(Odd::NoId),
                "not-a-row" => row.odd(Odd::NotARow),
                "dangling" => {
                    "ffffffff-0562-11e6-8c70-7e9e6cf13c8a".clone_into(&mut row.svc_id);
                    row
                }
                _ => return Err(format!("{word}?")),
            };
        }
        let id = self.world.collector.add(row);
        self.ids.insert(name, id);
        Ok(())
    }

    /// `EXCHANGE WHEN: HOW`
    fn fault(&mut self, line: &str) -> Step {
        let (head, how) = line.split_once(": ").ok_or("an exchange, a time, ': ' and what happens")?;
        let words: Vec<_> = head.split(' ').collect();
        let number = |text: &str| text.parse::<usize>().map_err(|err| err.to_string());
        let (call, when) = words.split_first().ok_or("an exchange")?;
        let call = match *call {
            "connection" => Call::Connection,
            "fetch" => Call::Fetch,
            "ack" => Call::Ack,
            "report" => Call::Report,
            _ => return Err(format!("{call}?")),
        };
        let when = match when {
            ["nth", n] => When::Nth(number(n)?),
            ["first", n] => When::First(number(n)?),
            ["always"] => When::Always,
            ["larger", n] => When::Larger(number(n)?),
            ["row", name] => When::Row(self.id(name)?),
            _ => return Err("nth N, first N, always, larger N or row NAME".to_owned()),
        };
        let fault = match how.split_once(' ').unwrap_or((how, "")) {
            ("reset-before", "") => Fault::ResetBefore,
            ("reset-after", "") => Fault::ResetAfter,
            ("half-body", "") => Fault::HalfBody,
            ("stall-before", "") => Fault::StallBefore,
            ("stall-after", "") => Fault::StallAfter,
            ("garbage", "") => Fault::garbage(),
            ("status", status) => Fault::status(status.parse().map_err(|err| format!("{err}"))?),
            ("refusal", text) => Fault::Refusal(text.to_owned()),
            ("unauthorized", "") if self.world.dialect == Dialect::Rpc => {
                Fault::Refusal("agent authentication error".to_owned())
            }
            ("unauthorized", "") => Fault::Answer(Answer::new(401, "application/json", "{\"text\":\"invalid\"}\n")),
            _ => return Err(format!("{how}?")),
        };
        self.world.collector.fail(call, when, fault);
        Ok(())
    }

    fn id(&self, name: &str) -> Result<i64, String> {
        self.ids.get(name).copied().ok_or_else(|| format!("no row {name}"))
    }

    fn name(&self, id: i64) -> &str {
        self.ids.iter().find(|(_, known)| **known == id).map_or("?", |(name, _)| name)
    }

    /// Tells what happened since it was last told.
    fn tell(&mut self, ended: &Ended) {
        let (marks, events) = (self.world.node.marks(), self.world.collector.events());
        let mut said = Vec::new();
        for mark in marks[self.told.0..].iter().filter(|mark| mark.kind == "start") {
            said.push(format!("ran {}: {}", mark.id().map_or("?", |id| self.name(id)), mark.argv().join(" ")));
        }
        for event in &events[self.told.1..] {
            // How a refused batch is cut to pieces is the client's business: what counts is what arrives then.
            if let Event::Reported(reported) = event {
                if reported.in_refused_batch {
                    continue;
                }
                let (name, text) = (self.name(reported.id), |text: &str| format!("{:?}", abridged(text)));
                said.push(format!(
                    "reported {name}: {} {} {}",
                    reported.ret,
                    text(&reported.stdout),
                    text(&reported.stderr)
                ));
            }
        }
        said.push(format!("exit {}", ended.code()));
        self.said.append(&mut said);
        self.told = (marks.len(), events.len());
    }
}

fn abridged(text: &str) -> String {
    match text.len() {
        0..300 => text.to_owned(),
        length => format!("({length} bytes)"),
    }
}
