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

/// What `all` is more than `before`. A peak is no sum: unless that of the command is known, that of all of them is its own
/// only if it is a new one.
pub(super) fn since(before: &Usage, peak: Option<u64>, all: &Usage) -> Usage {
    let more = |all: Option<u64>, before: Option<u64>| Some(all?.saturating_sub(before.unwrap_or_default()));
    Usage {
        user_usec: all.user_usec.saturating_sub(before.user_usec),
        system_usec: all.system_usec.saturating_sub(before.system_usec),
        memory_peak: all.memory_peak.filter(|all| Some(*all) > before.memory_peak).or(peak),
        read_bytes: more(all.read_bytes, before.read_bytes),
        written_bytes: more(all.written_bytes, before.written_bytes),
        ..all.clone()
    }
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
    fn what_earlier_commands_have_used_is_not_counted_again() {
        let usage = |n: u64| Usage {
            user_usec: n,
            system_usec: 2 * n,
            memory_peak: Some(3 * n),
            read_bytes: Some(4 * n),
            written_bytes: None,
            ..Usage::default()
        };
        let more = since(&usage(10), Some(7), &usage(11));
        assert_eq!((more.user_usec, more.system_usec, more.read_bytes, more.written_bytes), (1, 2, Some(4), None));
        assert_eq!(more.memory_peak, Some(33), "a new peak is its own");
        assert_eq!(since(&usage(10), Some(7), &usage(10)).memory_peak, Some(7));
        assert_eq!(since(&usage(10), None, &usage(10)).memory_peak, None);
        assert_eq!(since(&Usage::default(), None, &usage(10)), usage(10));
    }

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
