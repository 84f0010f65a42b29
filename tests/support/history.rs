//! What must be true of every history, whatever happened in it: the promises I1 (an action generation starts at most
//! once), I2 (what was taken gets exactly one result), I4 (the result is the command's) and I6 (nothing is left).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Dialect;
use super::collector::Collector;
use super::collector::state::{Event, Reported};
use super::node::{Mark, Node};

/// What this history may have beyond a plain one.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an exception of its own")]
pub(crate) struct Allowed {
    /// Results that are missing still: the collector is not well yet.
    pub(crate) missing: bool,
    /// A result of ours (124, 130, 254) in the place of the command's.
    pub(crate) interrupted: bool,
    /// Credentials that were refused.
    pub(crate) unauthorized: bool,
    /// How often a crash may have come between the acceptance of a result and the record of that: the result is then
    /// posted again, as it is.
    pub(crate) crashes: usize,
    /// Commands that were killed by the test.
    pub(crate) killed: bool,
    /// Processes that live on, on purpose.
    pub(crate) daemons: Vec<i32>,
}

/// Checks a history and panics with everything that is wrong in it.
#[track_caller]
pub(crate) fn check(node: &Node, collectors: &[&Collector], allowed: &Allowed) {
    let mut wrong = Vec::new();
    node.wait_until_alone(&allowed.daemons);
    starts(node, collectors, &mut wrong);
    for collector in collectors {
        results(node, collector, allowed, &mut wrong);
    }
    left_over(&node.path("var/actions"), allowed, &mut wrong);
    assert!(wrong.is_empty(), "this history must not be:\n  {}", wrong.join("\n  "));
}

/// I1.
fn starts(node: &Node, collectors: &[&Collector], wrong: &mut Vec<String>) {
    let mut started: BTreeMap<(Dialect, i64), usize> = BTreeMap::new();
    for row in node.starts().iter().filter_map(Mark::row) {
        *started.entry(row).or_default() += 1;
    }
    let rows = collectors.iter().flat_map(|collector| collector.rows());
    for row in rows.filter(|row| row.tagged) {
        let runs = started.get(&(row.dialect, row.id)).copied().unwrap_or_default();
        if runs > row.generation as usize {
            wrong.push(format!("I1: {} was started {runs} times in {} generations", row.id, row.generation));
        }
    }
}

/// I2 and I4.
fn results(node: &Node, collector: &Collector, allowed: &Allowed, wrong: &mut Vec<String>) {
    let mut taken = BTreeSet::new();
    let mut by_generation: BTreeMap<(i64, u32), Vec<Reported>> = BTreeMap::new();
    for event in collector.events() {
        match event {
            Event::Fetched { ids, answered: true } | Event::Acked { ids, .. } => taken.extend(ids),
            Event::Reported(reported) => {
                by_generation.entry((reported.id, reported.generation)).or_default().push(reported);
            }
            Event::Strange(what) => wrong.push(format!("a request is not in the protocol: {what}")),
            Event::Unfit { id, why } => wrong.push(format!("the result of {id} does not fit: {why}")),
            Event::Unauthorized if !allowed.unauthorized => wrong.push("credentials were refused".to_owned()),
            _ => {}
        }
    }
    let rows = collector.rows();
    for row in rows.iter().filter(|row| taken.contains(&row.id) && row.has_id()) {
        let id = row.id;
        if !by_generation.contains_key(&(id, row.generation)) && !allowed.missing {
            wrong.push(format!("I2: {id} was taken and has no result (generation {})", row.generation));
        }
    }
    for ((id, generation), reports) in &by_generation {
        let Some(row) = rows.iter().find(|row| row.id == *id) else { continue };
        let answered = reports.iter().filter(|reported| reported.answered).count();
        // A row that is handed out again is answered again.
        let again = row.handed_out.saturating_sub(row.generation) as usize;
        if answered > 1 + again + allowed.crashes {
            wrong.push(format!("I2: {id}.{generation} has {answered} results, and was sent again {again} times"));
        }
        let same = |a: &Reported, b: &Reported| (a.ret, &a.stdout, &a.stderr) == (b.ret, &b.stdout, &b.stderr);
        if reports.windows(2).any(|pair| !same(&pair[0], &pair[1])) {
            wrong.push(format!("I2: {id}.{generation} has results that differ: {reports:?}"));
        }
    }
    let dialects: BTreeMap<_, _> = rows.iter().map(|row| (row.id, row.dialect)).collect();
    let marks = node.marks();
    let is_of_here = |start: &&Mark| start.row().is_some_and(|(dialect, id)| dialects.get(&id) == Some(&dialect));
    let starts: Vec<_> = marks.iter().filter(|mark| mark.kind == "start").filter(is_of_here).collect();
    commands(&marks, &starts, &by_generation, allowed, wrong);
}

/// I4: the nth run of a row is its nth generation.
fn commands(
    marks: &[Mark],
    starts: &[&Mark],
    reports: &BTreeMap<(i64, u32), Vec<Reported>>,
    allowed: &Allowed,
    wrong: &mut Vec<String>,
) {
    let mut generations: BTreeMap<i64, u32> = BTreeMap::new();
    let mut ends: BTreeMap<i32, Vec<&Mark>> = BTreeMap::new();
    for end in marks.iter().filter(|mark| mark.kind == "end") {
        ends.entry(end.pid).or_default().push(end);
    }
    for (nth, start) in starts.iter().enumerate() {
        let Some(id) = start.id() else { continue };
        let generation = generations.entry(id).or_default();
        *generation += 1;
        // Numbers of processes are used again: its end comes before the next start of the same number.
        let after = |mark: &Mark| mark.position > start.position;
        let next = starts[nth + 1..].iter().find(|next| next.pid == start.pid).map_or(usize::MAX, |next| next.position);
        let end = ends.get(&start.pid).and_then(|ends| ends.iter().find(|end| after(end) && end.position < next));
        let ended: Option<i64> = end.and_then(|mark| mark.words.first()?.parse().ok());
        let reported = reports.get(&(id, *generation)).and_then(|reports| reports.first());
        let (Some(ended), Some(reported)) = (ended, reported) else { continue };
        let killed = allowed.killed && reported.ret == 137;
        let ours = killed || allowed.interrupted && matches!(reported.ret, 124 | 130 | 254);
        if reported.ret != ended && !ours {
            wrong.push(format!("I4: {id}.{generation} ended with {ended}, and {} was reported", reported.ret));
        }
    }
}

/// I6: files.
fn left_over(state: &Path, allowed: &Allowed, wrong: &mut Vec<String>) {
    for path in files(state) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What is too long for a report stays, in two files of these names.
        let is_kept = path.starts_with(state.join("output")) && matches!(name.as_str(), "stdout" | "stderr");
        let is_run = path.parent().is_some_and(|parent| parent != state) && !allowed.missing && !is_kept;
        let is_temporary = name.starts_with('.') || name.contains("tmp") || name.ends_with('~');
        if is_temporary || is_run {
            wrong.push(format!("I6: {} is left", path.display()));
        }
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
