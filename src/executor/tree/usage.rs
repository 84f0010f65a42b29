//! Counting what a command has used of this machine.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::group::Group;
use crate::action::usage::Usage;

/// What the members of a group have used, in the words of its files (Linux: Documentation/admin-guide/cgroup-v2.rst).
pub(super) fn of_group(group: &Group) -> Option<Usage> {
    let cpu = group.read("cpu.stat")?;
    let io = group.read("io.stat");
    Some(Usage {
        of_group: true,
        user_usec: field(&cpu, "user_usec")?,
        system_usec: field(&cpu, "system_usec")?,
        memory_peak: group.read("memory.peak").and_then(|text| text.trim().parse().ok()), // from Linux 5.19 on
        read_bytes: io.as_deref().map(|io| sum(io, "rbytes=")),
        written_bytes: io.as_deref().map(|io| sum(io, "wbytes=")),
        oom_kills: group.read("memory.events").and_then(|text| field(&text, "oom_kill")),
    })
}

/// What the children of this process that it has waited for have used, and what those had waited for.
pub(super) fn of_children() -> Option<Usage> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let blocks = |number| u64::try_from(number).ok().map(|blocks: u64| blocks.saturating_mul(512));
    Some(Usage {
        of_group: false,
        user_usec: microseconds(usage.user_time()),
        system_usec: microseconds(usage.system_time()),
        memory_peak: u64::try_from(usage.max_rss()).ok().map(|kibibytes| kibibytes.saturating_mul(1024)),
        read_bytes: blocks(usage.block_reads()),
        written_bytes: blocks(usage.block_writes()),
        oom_kills: None,
    })
}

fn microseconds(time: TimeVal) -> u64 {
    let (seconds, rest) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_usec()));
    seconds.unwrap_or_default().saturating_mul(1_000_000).saturating_add(rest.unwrap_or_default())
}

/// The number behind a name on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of a number over all devices.
fn sum(text: &str, name: &str) -> u64 {
    let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let cpu = "usage_usec 3000\nuser_usec 1000\nsystem_usec 2000\nnice_usec 0\n";
        assert_eq!((field(cpu, "user_usec"), field(cpu, "system_usec")), (Some(1000), Some(2000)));
        // `oom_kill` and not `oom`, nor what begins with it.
        let events = "low 0\nhigh 0\nmax 7\noom 5\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(field(events, "oom_kill"), Some(3));
        let io = "8:0 rbytes=10 wbytes=1 rios=1 wios=1\n253:0 rbytes=20 wbytes=2 rios=1 wios=1 dbytes=9\n8:16 \n";
        assert_eq!((sum(io, "rbytes="), sum(io, "wbytes=")), (30, 3));
        assert_eq!(sum("", "rbytes="), 0);
    }
}
