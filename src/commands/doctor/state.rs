//! The state directory and what it tells: the ledger, room, the machine, a pause, actions that run long.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::finding::Finding;
use super::{NO_SETTINGS, Node};
use crate::action::admission::State;
use crate::commands::text::{self, bytes, in_words, when_and_ago};
use crate::error::{Error, Exit, in_full};
use crate::executor::run::RunDir;
use crate::executor::{boot, machine};
use crate::ledger::LedgerError;
use crate::ledger::inspect::{self, Found};
use crate::ledger::pause::Pause;
use crate::ledger::view::{Entry, View};

/// With less nothing is fetched: a handler keeps a reserve of 1 MiB, and wants as much again to be free when it makes it.
const NEEDED: u64 = 2 << 20;

/// With less somebody should look.
const SCARCE: u64 = 64 << 20;

/// With fewer free inodes somebody should look.
const SCARCE_INODES: u64 = 1000;

/// So many actions are named.
const NAMED: usize = 3;

/// Checks all of it; the ledger, if there is one that can be read, is for others to look at as well.
pub(super) fn check(node: &Node) -> (Vec<Finding>, Option<View>) {
    let state = &node.paths.state;
    let (of_ledger, view) = ledger(state);
    let mut findings = vec![directory(state)];
    findings.extend(of_ledger);
    findings.extend([room(state), machine(state), pause(node), running(node, view.as_ref())]);
    (findings, view)
}

fn directory(state: &Path) -> Finding {
    const CHECK: &str = "state";
    let shown = state.display();
    let fix = format!("chown root {shown} && chmod 700 {shown}");
    match fs::metadata(state) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok(CHECK, format!("{shown} is not there yet: the first run makes it"))
        }
        Err(err) => Finding::fail(CHECK, Exit::Unavailable, format!("{shown}: {err}"), "make it a directory of root's"),
        Ok(it) if !it.is_dir() => {
            Finding::fail(CHECK, Exit::Unavailable, format!("{shown} is no directory"), "move it away")
        }
        Ok(it) if it.uid() != 0 || it.mode() & 0o022 != 0 => {
            Finding::fail(CHECK, Exit::Unavailable, format!("others than root can write {shown}"), fix)
        }
        Ok(it) if it.mode() & 0o055 != 0 => {
            Finding::warn(CHECK, format!("others than root can look into {shown}: it holds commands and output"), fix)
        }
        Ok(_) => Finding::ok(CHECK, format!("{shown} is root's alone")),
    }
}

fn ledger(state: &Path) -> (Vec<Finding>, Option<View>) {
    const CHECK: &str = "ledger";
    let (finding, view) = match inspect::inspect(state) {
        Ok(Found::Missing) => (Finding::ok(CHECK, "there is none yet: the first run makes it"), None),
        Ok(Found::Whole(view)) => (Finding::ok(CHECK, "it is whole"), Some(view)),
        Ok(Found::Damaged(damage)) => {
            let text = format!("{} is damaged: {damage}", state.join("ledger.sqlite").display());
            let fix = "the next run sets it aside and begins a new one with what the run directories tell ('opensvc-actions \
                       dequeue'); then check the disk";
            (Finding::fail(CHECK, Exit::Unavailable, text, fix), None)
        }
        Err(err @ LedgerError::Older { .. }) => {
            (Finding::warn(CHECK, err.to_string(), "'opensvc-actions dequeue' is such a run"), None)
        }
        Err(err) => {
            let fix = match &err {
                LedgerError::Newer { .. } => "install the newer opensvc-actions again",
                LedgerError::Gone { .. } => {
                    "find out what removed it, and look whether actions of that time are missing at the collector"
                }
                _ => "look at the disk and at the rights on the file",
            };
            (Finding::fail(CHECK, Exit::Unavailable, in_full(&err), fix), None)
        }
    };
    let mut findings = vec![finding];
    if let Some(aside) = inspect::set_aside(state).ok().and_then(|mut all| all.pop()) {
        let text = format!("a damaged one was set aside: {}", aside.display());
        let fix =
            "check the disk, look whether actions of that time are missing at the collector, then remove the file";
        findings.push(Finding::warn(CHECK, text, fix));
    }
    (findings, view)
}

fn room(state: &Path) -> Finding {
    const CHECK: &str = "disk";
    const FIX: &str = "make room there, or lower retention.kept_output and retention.history";
    // Before the first run, what it will be in.
    let Some(there) = state.ancestors().find(|path| path.exists()) else {
        return Finding::skip(CHECK, "there is no such directory");
    };
    let volume = match statvfs(there) {
        Ok(volume) => volume,
        Err(errno) => return Finding::skip(CHECK, format!("{}: {errno}", there.display())),
    };
    let shown = state.display();
    if volume.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let fix = "mount it for writing; check the disk if the kernel did this";
        return Finding::fail(CHECK, Exit::Unavailable, format!("{shown} is mounted read-only"), fix);
    }
    let free = volume.f_bfree.saturating_mul(volume.f_frsize);
    let has_reserve = state.join("reserve").exists();
    let counts_inodes = volume.f_files > 0;
    let text = format!("{} free for {shown}", bytes(free));
    if counts_inodes && volume.f_ffree == 0 {
        Finding::fail(CHECK, Exit::Unavailable, format!("no inode is free for {shown}"), "remove files there")
    } else if free < NEEDED && !has_reserve {
        Finding::fail(CHECK, Exit::Unavailable, format!("{text}: nothing is fetched with less than 2 MiB"), FIX)
    } else if free < SCARCE {
        Finding::warn(CHECK, text, FIX)
    } else if counts_inodes && volume.f_ffree < SCARCE_INODES {
        Finding::warn(CHECK, format!("{} inodes free for {shown}", volume.f_ffree), "remove files there")
    } else {
        Finding::ok(CHECK, text)
    }
}

fn machine(state: &Path) -> Finding {
    const CHECK: &str = "machine";
    match (machine::id(), machine::remembered(state)) {
        (Err(err), _) | (_, Err(err)) => Finding::skip(CHECK, format!("which machine this is cannot be read: {err}")),
        (Ok(None), _) => Finding::skip(CHECK, "this machine has no /etc/machine-id"),
        (_, Ok(None)) => Finding::skip(CHECK, "not known yet: the first run remembers /etc/machine-id"),
        (Ok(Some(id)), Ok(Some(remembered))) if id == remembered => {
            Finding::ok(CHECK, "it is the one that this state directory was made on")
        }
        (Ok(Some(_)), Ok(Some(_))) => {
            let text = "/etc/machine-id is another than when the state directory was first used: this is a clone, with the \
                        uuid and the ledger of the machine that it was made from";
            let fix = format!(
                "on a clone: stop the units, remove {}, give the machine its own name, and 'opensvc-actions register \
                 --force --user USER'; if only the id was changed: rm {}",
                state.display(),
                machine::file(state).display()
            );
            Finding::fail(CHECK, Exit::Unavailable, text, fix)
        }
    }
}

fn pause(node: &Node) -> Finding {
    const CHECK: &str = "pause";
    match Pause::in_force(&node.paths.state, node.now) {
        Err(err) => {
            let fix = "check the disk and the rights on the file";
            Finding::fail(CHECK, Exit::Unavailable, Error::Pause(err).report(), fix)
        }
        Ok(None) => Finding::ok(CHECK, "not paused"),
        Ok(Some(pause)) => {
            let since =
                pause.since.map(|since| format!(" since {}", when_and_ago(since, node.now))).unwrap_or_default();
            let reason = pause.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Finding::warn(CHECK, format!("paused{since}{reason}"), "'opensvc-actions resume' takes new actions again")
        }
    }
}

fn running(node: &Node, view: Option<&View>) -> Finding {
    const CHECK: &str = "running";
    let Some(settings) = node.settings() else { return Finding::skip(CHECK, NO_SETTINGS) };
    let (Some(view), Ok(boot_id)) = (view, boot::id()) else { return Finding::ok(CHECK, "no action runs") };
    let started = match view.in_state(State::Started) {
        Ok(started) => started,
        Err(err) => return Finding::skip(CHECK, in_full(&err)),
    };
    let is_running = |entry: &Entry| {
        entry.boot_id.as_ref() == Some(&boot_id) && !RunDir::of(&node.paths.state, entry.key).has_record()
    };
    let age = |entry: &Entry| -> Duration { node.now.since(entry.started_at.unwrap_or(entry.received_at)) };
    let running: Vec<_> = started.into_iter().filter(is_running).collect();
    let long: Vec<_> = running.iter().filter(|entry| age(entry) > settings.execution.warn_after).collect();
    let Some(first) = long.first() else {
        let count = running.len();
        let text = if count == 0 { "no action runs".to_owned() } else { format!("{count} running, none for long") };
        return Finding::ok(CHECK, text);
    };
    let told = |entry: &&&Entry| {
        format!("{} runs for {} ({})", entry.key, text::age(age(entry)), in_words(entry, &settings.log.redact))
    };
    let mut text = long.iter().take(NAMED).map(|entry| told(&entry)).collect::<Vec<_>>().join(", ");
    if let Some(more) = long.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text = format!("{text} and {more} more");
    }
    let key = first.key;
    let fix = format!("'opensvc-actions show {key}' tells what it is; 'opensvc-actions cancel {key}' ends it");
    Finding::warn(CHECK, text, fix)
}
