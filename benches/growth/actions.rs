//! What one run costs that finds few or many queued actions: from one to ten thousand, each of them the same no-op.

use opensvc_actions::action::Queue;

use crate::Failure;
use crate::fit::{flatness, growth};
use crate::measure::{Cost, cost, median_cost, syscalls};
use crate::plot::{self, Curve, Panel};
use crate::programs::Programs;
use crate::site::{Node, Site};

/// How many are queued. Nothing is the cost of having looked.
const SIZES: [u32; 7] = [0, 1, 10, 100, 1_000, 3_000, 10_000];

/// A figure of a run, and its unit.
type Figure = (&'static str, fn(&Point) -> f64);

const FIGURES: [Figure; 6] = [
    ("wall time, ms", |point| point.cost.wall_ms),
    ("processor time, ms", |point| point.cost.cpu_ms),
    ("peak RSS of the handler, MiB", |point| point.cost.peak_kib / 1024.0),
    ("bytes written", |point| point.cost.written),
    ("bytes stored", |point| point.cost.stored),
    ("HTTP requests", |point| point.requests),
];

/// One size of the series.
struct Point {
    actions: u32,
    cost: Cost,
    requests: f64,
    /// What the next run costs, which finds nothing.
    idle: Cost,
    /// And how many system calls it makes.
    idle_calls: f64,
}

/// Measures both dialects, fits, draws.
pub(crate) fn run(programs: &Programs, most: u32, rounds: usize) -> Result<(), Failure> {
    let mut curves: Vec<(Queue, Vec<Point>)> = Vec::new();
    for queue in Queue::ALL {
        let site = Site::new(programs)?;
        let mut points = Vec::new();
        println!("\n{queue}: one run, so many queued actions; figures of the last column: the idle run after it");
        println!(
            "{:>8} {:>10} {:>10} {:>8} {:>11} {:>11} {:>8}  idle: wall, CPU, KiB read, calls",
            "actions", "wall ms", "CPU ms", "RSS MiB", "written", "stored", "requests"
        );
        for actions in SIZES.into_iter().filter(|size| *size <= most) {
            let rounds = if actions <= 100 { rounds } else { 1 };
            let point = measure(programs, &site, queue, actions, rounds)?;
            let Cost { wall_ms, cpu_ms, peak_kib, written, stored, .. } = &point.cost;
            println!(
                "{actions:>8} {wall_ms:>10.1} {cpu_ms:>10.1} {:>8.2} {written:>11.0} {stored:>11.0} {:>8.0}  {:.1}, {:.1}, {:.0}, {:.0}",
                peak_kib / 1024.0,
                point.requests,
                point.idle.wall_ms,
                point.idle.cpu_ms,
                point.idle.read / 1024.0,
                point.idle_calls
            );
            points.push(point);
        }
        for (title, figure) in &FIGURES {
            let points: Vec<_> = points.iter().map(|point| (f64::from(point.actions), figure(point))).collect();
            println!("{queue}: {title}: {}", growth(&points));
        }
        let after: [Figure; 2] =
            [("processor time", |point| point.idle.cpu_ms), ("system calls", |point| point.idle_calls)];
        for (title, figure) in after {
            let points: Vec<_> = points.iter().map(|point| (f64::from(point.actions), figure(point))).collect();
            println!("{queue}: {title} of the idle run after it: {}", flatness(&points));
        }
        curves.push((queue, points));
    }
    let panel = |(title, figure): &Figure| Panel {
        title: (*title).to_owned(),
        curves: curves
            .iter()
            .map(|(queue, points)| Curve {
                name: queue.to_string(),
                points: points.iter().map(|point| (f64::from(point.actions), figure(point))).collect(),
            })
            .collect(),
    };
    let panels: Vec<_> = FIGURES.iter().map(panel).collect();
    let path = programs.target.join("growth-actions.svg");
    plot::write(&path, "One run, from nothing to 10,000 queued no-op actions", "queued actions", &panels)
}

/// Each round has a node of its own: it remembers nothing.
fn measure(programs: &Programs, site: &Site<'_>, queue: Queue, actions: u32, rounds: usize) -> Result<Point, Failure> {
    let (mut costs, mut idles, mut requests) = (Vec::new(), Vec::new(), 0);
    let mut idle_calls = 0.0;
    for round in 0..rounds {
        let node: Node = site.node(&mut site.store()?, &format!("n{actions}-{round}"), queue)?;
        let look = || cost(&programs.handler, &node.arguments(&["dequeue"]), &[0]);
        look()?; // makes the ledger
        site.enqueue(&node, actions)?;
        let before = site.requests()?;
        costs.push(look()?);
        requests = site.requests()? - before;
        site.all_came_back(&node, usize::try_from(actions)?)?;
        idles.push(look()?);
        idle_calls = syscalls(&programs.handler, &node.arguments(&["dequeue"]), &node.root.join("strace"), &[0])?;
    }
    Ok(Point { actions, cost: median_cost(&costs), requests: requests as f64, idle: median_cost(&idles), idle_calls })
}
