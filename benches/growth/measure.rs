//! What one process and its children cost.
//!
//! The peak of memory that the kernel keeps for a process begins with that of whoever started it, before its exec. So a
//! process of its own starts what is measured: this executable again, which has done nothing yet and is small.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Failure;

/// The first argument of the process that starts what is measured.
pub(crate) const MEASURED: &str = "--measured";

/// The cost of one run: of the process, and of its children that it has waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall_ms: f64,
    /// Processor time, in user mode and in the kernel.
    pub(crate) cpu_ms: f64,
    /// The most memory that one of the processes ever had.
    pub(crate) peak_kib: f64,
    /// Bytes of `read(2)` and the like, from files and pipes, wherever they came from.
    pub(crate) read: f64,
    /// Bytes of `write(2)` and the like.
    pub(crate) written: f64,
    /// Bytes of pages that were made dirty, and are to be written to a disk.
    pub(crate) stored: f64,
}

/// Runs a program to its end. Its standard output goes nowhere; what it says is seen.
pub(crate) fn cost(program: &Path, arguments: &[&OsStr], accepted: &[i32]) -> Result<Cost, Failure> {
    let mut helper = Command::new(std::env::current_exe()?);
    helper.arg(MEASURED).arg(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = helper.output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[wall_us, cpu_us, peak_kib, own_kib, read, written, stored, status] = &numbers[..] else {
        return Err(format!("{}: could not be measured", program.display()).into());
    };
    if !accepted.iter().any(|accepted| (f64::from(*accepted) - status).abs() < 0.5) {
        return Err(format!("{} {arguments:?} ended with status {status}", program.display()).into());
    }
    if own_kib >= peak_kib {
        return Err(format!("{}: its peak of {peak_kib} KiB may be ours, {own_kib} KiB", program.display()).into());
    }
    Ok(Cost { wall_ms: wall_us / 1e3, cpu_ms: cpu_us / 1e3, peak_kib, read, written, stored })
}

/// The process between: starts the rest of its command line, and says in one line what that has cost.
pub(crate) fn helper(mut words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let program = words.next().ok_or("what is to be measured?")?;
    let begin = Instant::now();
    let mut child = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process has this number")?;
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = begin.elapsed();
    // It has ended and is still there to be asked; what its children did was added when it waited for them.
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id()))?;
    let status = child.wait()?.code().ok_or("it was killed")?;
    let bytes = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("0");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    // Not that of getrusage(2), in which is what started this process.
    let memory = std::fs::read_to_string("/proc/self/status")?;
    let own = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    println!(
        "{} {} {} {} {} {} {} {status}",
        wall.as_micros(),
        micros(&usage),
        usage.max_rss(),
        own.ok_or("the kernel does not tell how much memory this has")?,
        bytes("rchar"),
        bytes("wchar"),
        bytes("write_bytes"),
    );
    Ok(())
}

fn micros(usage: &Usage) -> i64 {
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    micros(usage.user_time()) + micros(usage.system_time())
}

/// How many system calls a run takes, those of its children included, by strace.
pub(crate) fn syscalls(program: &Path, arguments: &[&OsStr], table: &Path, accepted: &[i32]) -> Result<f64, Failure> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-c", "-o"]).arg(table).arg("--").arg(program).args(arguments);
    strace.stdin(Stdio::null()).stdout(Stdio::null());
    let status = strace.status().map_err(|err| format!("strace counts system calls: {err}"))?;
    if !status.code().is_some_and(|code| accepted.contains(&code)) {
        return Err(format!("{} {arguments:?} under strace: {status}", program.display()).into());
    }
    let table = std::fs::read_to_string(table)?;
    let total = table.lines().find(|line| line.ends_with(" total")).and_then(|line| line.split_whitespace().nth(3));
    Ok(total.ok_or("strace has counted nothing")?.parse()?)
}

/// The middle one.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => numbers[length / 2],
        length => f64::midpoint(numbers[length / 2 - 1], numbers[length / 2]),
    }
}

/// The median of each figure.
pub(crate) fn median_cost(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    Cost {
        wall_ms: of(|cost| cost.wall_ms),
        cpu_ms: of(|cost| cost.cpu_ms),
        peak_kib: of(|cost| cost.peak_kib),
        read: of(|cost| cost.read),
        written: of(|cost| cost.written),
        stored: of(|cost| cost.stored),
    }
}
