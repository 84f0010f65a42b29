//! What a command costs on a node that has done nothing yet, or a hundred thousand actions in the last month.

use std::time::Duration;

use opensvc_actions::action::outcome::Outcome;
use opensvc_actions::action::time::Timestamp;
use opensvc_actions::action::usage::Usage;
use opensvc_actions::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};
use opensvc_actions::ledger::story::{Acknowledged, Note};
use opensvc_actions::ledger::{Change, Ledger};

use crate::Failure;
use crate::fit::{flatness, growth};
use crate::measure::{Cost, cost, median_cost, syscalls};
use crate::plot::{self, Curve, Panel};
use crate::programs::Programs;
use crate::site::{Node, Site};

/// How many actions the node remembers. The last is as many as are kept.
const SIZES: [u32; 4] = [0, 1_000, 10_000, 100_000];

/// So many actions are recorded at once.
const CHUNK: u32 = 1000;

/// They are spread over this, up to now: nothing is old enough to be forgotten.
const SPAN: Duration = Duration::from_secs(29 * 24 * 3600);

/// What is asked.
struct Question {
    name: &'static str,
    words: &'static [&'static str],
    /// So many are queued before.
    actions: u32,
    /// With what it may end. `doctor` has something to say about a node without units.
    accepted: &'static [i32],
    /// What is to be told of the curve.
    shape: fn(&[(f64, f64)]) -> String,
}

const QUESTIONS: [Question; 5] = [
    Question { name: "idle run", words: &["dequeue"], actions: 0, accepted: &[0], shape: flatness },
    Question { name: "10 actions", words: &["dequeue"], actions: 10, accepted: &[0], shape: flatness },
    Question { name: "status", words: &["status"], actions: 0, accepted: &[0], shape: flatness },
    // One that remembers nothing has less to show.
    Question {
        name: "history",
        words: &["history"],
        actions: 0,
        accepted: &[0],
        shape: |points| flatness(points.get(1..).unwrap_or_default()),
    },
    // It reads the whole ledger: that is what it is for.
    Question { name: "doctor", words: &["doctor"], actions: 0, accepted: &[0, 1, 69, 75, 77, 78], shape: growth },
];

/// A figure of a run.
type Figure = (&'static str, fn(&Point) -> f64);

const FIGURES: [Figure; 5] = [
    ("wall time, ms", |point| point.cost.wall_ms),
    ("processor time, ms", |point| point.cost.cpu_ms),
    ("system calls", |point| point.syscalls),
    ("bytes read", |point| point.cost.read),
    ("bytes written", |point| point.cost.written),
];

struct Point {
    rows: u32,
    cost: Cost,
    syscalls: f64,
}

/// Measures every question over every size, fits, draws.
pub(crate) fn run(programs: &Programs, most: u32, rounds: usize) -> Result<(), Failure> {
    let site = Site::new(programs)?;
    let mut nodes = Vec::new();
    // A smoke run has at least one size to compare with.
    for rows in SIZES.into_iter().filter(|rows| *rows <= most.max(SIZES[1])) {
        let node = site.node(&mut site.store()?, &format!("n{rows}"), Queue::Oc3)?;
        cost(&programs.handler, &node.arguments(&["dequeue"]), &[0])?; // makes the ledger
        grow_old(&node, rows)?;
        nodes.push((rows, node));
    }
    let mut curves: Vec<(&str, Vec<Point>)> = Vec::new();
    for Question { name, words, actions, accepted, shape } in QUESTIONS {
        // Round by round through all sizes: what disturbs one disturbs all.
        let mut costs = vec![Vec::new(); nodes.len()];
        for _ in 0..rounds {
            for ((_, node), costs) in nodes.iter().zip(&mut costs) {
                site.enqueue(node, actions)?;
                costs.push(cost(&programs.handler, &node.arguments(words), accepted)?);
            }
        }
        let mut points = Vec::new();
        println!("\n{name}: so many actions in the ledger");
        println!("{:>8} {:>9} {:>9} {:>8} {:>10} {:>10}", "rows", "wall ms", "CPU ms", "calls", "read", "written");
        for ((rows, node), costs) in nodes.iter().zip(&costs) {
            site.enqueue(node, actions)?;
            let table = node.root.join("strace");
            let syscalls = syscalls(&programs.handler, &node.arguments(words), &table, accepted)?;
            let point = Point { rows: *rows, cost: median_cost(costs), syscalls };
            println!(
                "{rows:>8} {:>9.2} {:>9.2} {syscalls:>8.0} {:>10.0} {:>10.0}",
                point.cost.wall_ms, point.cost.cpu_ms, point.cost.read, point.cost.written
            );
            points.push(point);
        }
        for (title, figure) in &FIGURES {
            let points: Vec<_> = points.iter().map(|point| (f64::from(point.rows), figure(point))).collect();
            println!("{name}: {title}: {}", shape(&points));
        }
        curves.push((name, points));
    }
    let done = u32::try_from(rounds)? * 10 + 10;
    for (_, node) in &nodes {
        site.all_came_back(node, usize::try_from(done)?)?;
    }
    let panel = |(title, figure): &Figure| Panel {
        title: (*title).to_owned(),
        curves: curves
            .iter()
            .map(|(name, points)| Curve {
                name: (*name).to_owned(),
                points: points.iter().map(|point| (f64::from(point.rows), figure(point))).collect(),
            })
            .collect(),
    };
    let panels: Vec<_> = FIGURES.iter().map(panel).collect();
    let path = programs.target.join("growth-ledger.svg");
    plot::write(&path, "Commands on a node that remembers up to 100,000 actions", "actions in the ledger", &panels)
}

/// Gives the node a past, in the words that a handler would have used: received, acknowledged, started, finished,
/// reported. Every hundredth has failed.
fn grow_old(node: &Node, rows: u32) -> Result<(), Failure> {
    let now = now();
    let state = node.root.join("var/actions");
    let mut ledger = Ledger::open(&state, now, || Ok(Vec::new()))?;
    let at = |number: u32| now.minus(SPAN.mul_f64(1.0 - f64::from(number) / f64::from(rows + 1)));
    for first in (1..=rows).step_by(CHUNK as usize) {
        let numbers = first..=rows.min(first + CHUNK - 1);
        let begin = at(first);
        let actions: Vec<_> = numbers.clone().map(|number| row(number, at(number))).collect();
        let ids: Vec<_> = actions.iter().map(|row| row.id).collect();
        let batch = Batch { actions, ..Batch::default() };
        let admitted = ledger.receive(Queue::Oc3, "https://collector.example.com/feeder", &batch, begin)?;
        if admitted.new.len() != ids.len() {
            return Err("what was to be new is known".into());
        }
        ledger.note(Note::Acknowledged(Queue::Oc3, ids, begin, Acknowledged::AfterFetch));
        let boot = || "0b8ae1c2-1d1c-4c4e-9d8e-3c1b3a6f3d55".to_owned();
        let keys = || numbers.clone().map(|number| (number, key(number)));
        let started: Vec<_> = keys().map(|(number, key)| Change::Started(key, at(number), boot())).collect();
        ledger.commit(&started)?;
        for (_, key) in keys() {
            ledger.note(Note::Launched(key, "systemd".to_owned()));
            ledger.note(Note::Used(key, Usage { user_usec: 812, system_usec: 1377, ..Usage::default() }));
        }
        let finished: Vec<_> = keys().map(|(number, key)| Change::Finished(key, outcome(number, at(number)))).collect();
        ledger.commit(&finished)?;
        let reported: Vec<_> = keys().map(|(number, key)| Change::Reported(key, at(number))).collect();
        ledger.commit(&reported)?;
    }
    drop(ledger);
    // Each size begins with an empty log: what is in it is read by every run, and is no matter of size.
    let connection = rusqlite::Connection::open(state.join("ledger.sqlite"))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let found: u32 =
        connection.query_row("SELECT count(*) FROM action WHERE state = 'reported'", [], |row| row.get(0))?;
    if found == rows { Ok(()) } else { Err(format!("{found} actions of {rows} are complete").into()) }
}

fn key(number: u32) -> ActionKey {
    ActionKey { queue: Queue::Oc3, id: ActionId(i64::from(number)), generation: 1 }
}

fn row(number: u32, at: Timestamp) -> QueuedAction {
    let service = format!("svc{}", number % 50);
    QueuedAction {
        id: ActionId(i64::from(number)),
        status: RowStatus::Waiting,
        command: format!("instance provision --rid fs#{} --waitlock 5m", number % 7),
        svc_id: format!("0f9f4d1e-7f5c-4a57-8a53-{:012}", number % 50),
        svcname: service,
        queued_at: Some(at.rfc3339_millis()),
        earlier_ret: None,
    }
}

fn outcome(number: u32, at: Timestamp) -> Outcome {
    let stdout =
        format!("svc{}: fs#{}: provisioned, mounted and up in 1.{:03}s\n", number % 50, number % 7, number % 1000);
    Outcome { ret: i32::from(number % 100 == 0), stdout, stderr: String::new(), ended_at: at }
}

#[expect(clippy::disallowed_methods, reason = "the past ends now")]
fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}
