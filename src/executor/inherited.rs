//! What a process gets from its parent without anybody having asked for it, and a command must not get from us.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{FORBIDDEN, SIGPIPE};

use crate::executor::proc;

/// Where a process sees which descriptors it has.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Where a process says how much the kernel should spare it when memory runs out.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Closes every descriptor but the three: some starter of the handler has left it open for us. Nothing of ours may be open
/// yet.
///
/// # Errors
/// When it cannot be known which are open.
pub(super) fn close_descriptors() -> io::Result<()> {
    close(listed()?.into_iter().filter(|number| *number > 2)); // that of the directory is closed already
    Ok(())
}

/// Does something that may leave descriptors open, as whoever knows the users may, and closes them.
///
/// # Errors
/// When it cannot be known which are open.
pub(super) fn closing_what_opens<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    // Not the one by which this is found out: it is closed, and what is left open may get its number.
    let is_open = |number: &i32| fs::read_link(format!("{DESCRIPTORS}/{number}")).is_ok();
    let before: Vec<i32> = listed()?.into_iter().filter(is_open).collect();
    let done = work();
    close(listed()?.into_iter().filter(|number| !before.contains(number)));
    Ok(done)
}

/// Those that are open, and the one by which this is found out.
fn listed() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(DESCRIPTORS)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn close(numbers: impl Iterator<Item = i32>) {
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}

/// Makes every signal that this process was made to ignore an ordinary one for whatever it executes: a signal that is
/// caught here, and not ignored, is back at its default there. `nohup` and shells that start something in the background
/// ignore some. What they had in mind for the handler is no wish for a command.
///
/// SIGPIPE, which the language's runtime ignores, is put right by its own way to start a process; so is the mask.
///
/// # Errors
/// When a signal cannot be caught.
pub(super) fn heed_signals() -> io::Result<()> {
    let status = proc::read("/proc/self/status", 4096)?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // 32 and 33 belong to the C library.
    for signal in (1..=64).filter(|signal| ignored >> (signal - 1) & 1 == 1 && !matches!(signal, 32 | 33)) {
        if signal != SIGPIPE && !FORBIDDEN.contains(&signal) {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
    }
    Ok(())
}

/// Does something while the kernel spares this process no more than any other, when memory runs out: what is started in
/// it is not spared either. A handler may be; a command that eats all memory must not.
pub(super) fn unspared<T>(work: impl FnOnce() -> T) -> T {
    let spared = proc::read(OOM_SCORE_ADJ, 16).ok().filter(|score| score.starts_with('-'));
    let Some(score) = spared else { return work() };
    // Neither is worth an action: the one may always be done, the other needs a capability.
    let _ = fs::write(OOM_SCORE_ADJ, "0");
    let done = work();
    let _ = fs::write(OOM_SCORE_ADJ, score.trim());
    done
}
