//! What a run asks of the kernel, counted by strace, which changes when things happen but not what.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// System calls by their names.
pub(crate) type Calls = BTreeMap<String, usize>;

/// Of the contender itself, and of everything that it has started.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) own: Calls,
    pub(crate) others: Calls,
}

/// The words to put in front of a contender's, so that its calls go into this file.
pub(crate) fn strace(file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    ["strace", "-f", "-qq", "-e", "signal=none", "-o", &file, "--"].map(str::to_owned).into()
}

/// Reads such a file: lines of a thread's number and a call. A call that another thread interrupts is on two lines, of
/// which the first ends with `<unfinished ...>`.
pub(crate) fn read(file: &Path) -> io::Result<Counts> {
    let text = fs::read_to_string(file)?;
    let mut counts = Counts::default();
    let mut own: Vec<&str> = Vec::new();
    let mut making_threads: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if own.is_empty() {
            own.push(thread);
        }
        let is_resumed = rest.starts_with("<... ");
        // Whose thread is born: the flags are where the call begins, the number is where it ends.
        let name = rest.trim_start_matches("<... ").split(['(', ' ']).next().unwrap_or_default();
        if name.starts_with("clone") && own.contains(&thread) {
            if rest.contains("CLONE_THREAD") {
                making_threads.push(thread);
            }
            let born = rest.rsplit_once("= ").map(|(_, number)| number.trim());
            let born = born.filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
            if let (Some(born), Some(place)) = (born, making_threads.iter().position(|maker| *maker == thread)) {
                making_threads.remove(place);
                own.push(born);
            }
        }
        if is_resumed || !rest.contains('(') {
            continue;
        }
        let calls = if own.contains(&thread) { &mut counts.own } else { &mut counts.others };
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// How many there are in all.
pub(crate) fn total(calls: &Calls) -> usize {
    calls.values().sum()
}

/// How many of them wait for a disk.
pub(crate) fn syncs(calls: &Calls) -> usize {
    ["fdatasync", "fsync", "sync_file_range", "syncfs", "sync", "msync"]
        .iter()
        .filter_map(|name| calls.get(*name))
        .sum()
}
