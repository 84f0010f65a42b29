//! Instructions, counted by callgrind: each work is done so many times and twice as many times, and the difference is
//! what it takes. What comes before, the loading of the program included, is in both.

use std::process::{Command, ExitCode};

use super::{PARTS, Work};

/// How many units are counted at least, so that the first time is nothing beside the others.
const UNITS: usize = 2_000;

/// A table of all works, or of those of a part.
pub(crate) fn table(wanted: Option<&str>) -> ExitCode {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("there is no valgrind, which counts the instructions");
        return ExitCode::from(69);
    }
    println!("{:<44} {:>14} {:>9}", "", "instructions", "of each");
    for (part, works) in PARTS.into_iter().filter(|(part, _)| wanted.is_none_or(|wanted| wanted == *part)) {
        for work in works() {
            let instructions = of_each(part, &work);
            println!("{:<44} {instructions:>14.2} {:>9}", format!("{part}: {work}"), work.unit);
        }
    }
    ExitCode::SUCCESS
}

/// The instructions that a work takes for each of its units.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn of_each(part: &str, work: &Work) -> f64 {
    let rounds = (UNITS / work.units).clamp(1, UNITS);
    let [some, twice] = [rounds, 2 * rounds].map(|rounds| collected(part, &work.name, rounds));
    (twice - some) as f64 / (rounds * work.units) as f64
}

/// What callgrind counts when this program does a work so many times.
fn collected(part: &str, name: &str, rounds: usize) -> u64 {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["work", part, name, &rounds.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    assert!(done.status.success() && line.is_some(), "{said}");
    line.unwrap().1.trim().parse().unwrap()
}

/// Does a work, in the process that is counted.
pub(crate) fn work(part: &str, name: &str, rounds: usize) -> ExitCode {
    let mut works = PARTS.into_iter().filter(|(known, _)| *known == part).flat_map(|(_, works)| works());
    let work = works.find(|work| work.name == name);
    let Some(work) = work else { return ExitCode::from(64) };
    for _ in 0..=rounds {
        (work.once)();
    }
    ExitCode::SUCCESS
}
