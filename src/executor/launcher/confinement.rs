//! What holds this process in that does not hold in the machine's first process. What this program starts itself is held
//! in likewise, and a command of an action must not be: it would fail where it works for a person, or half do its work.

use std::fs;

/// What the kernel tells of a process, as far as it confines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    no_new_privs: bool,
    /// How many filters of system calls; up to Linux 5.8 it tells only whether there is one.
    filters: u64,
    /// The capabilities that any program started from here can have.
    bounding: u64,
}

impl Status {
    fn of(process: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let number = |name| field(name).and_then(|value| value.parse().ok());
        Some(Self {
            no_new_privs: field("NoNewPrivs").is_some_and(|value| value != "0"),
            filters: number("Seccomp_filters")
                .unwrap_or_else(|| number("Seccomp").map_or(0, |mode: u64| u64::from(mode == 2))),
            bounding: u64::from_str_radix(field("CapBnd")?, 16).ok()?,
        })
    }

    /// A process that nothing holds in, under a kernel whose highest capability is `last`.
    fn free(last: u32) -> Self {
        Self { no_new_privs: false, filters: 0, bounding: u64::MAX >> 63_u32.saturating_sub(last) }
    }

    /// What holds `self` in and not `first`.
    fn confined_beside(self, first: Self) -> Option<&'static str> {
        if first.bounding & !self.bounding != 0 {
            Some("a bounded set of capabilities")
        } else if self.no_new_privs && !first.no_new_privs {
            Some("no new privileges")
        } else if self.filters > first.filters {
            Some("a filter of system calls")
        } else {
            None
        }
    }
}

/// What takes rights from this process, if anything does. In a container that is the container's own first process to be
/// compared with: there the whole machine is so.
pub(super) fn of_rights() -> Option<&'static str> {
    let Some(own) = Status::of("self") else { return Some("no view of /proc") };
    // Hidden from us, it is assumed to be free.
    own.confined_beside(Status::of("1").unwrap_or_else(|| Status::free(last_capability())))
}

/// What gives this process another view of the machine than its first process has, or takes rights from it.
pub(super) fn of_rights_or_view() -> Option<&'static str> {
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    of_rights().or_else(|| {
        let differ = mounts("1").zip(mounts("self")).is_some_and(|(first, own)| first != own);
        differ.then_some("mounts of its own")
    })
}

fn last_capability() -> u32 {
    fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(40)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: &str = "Name:\tx\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";

    fn confined(own: &str, first: &str) -> Option<&'static str> {
        Status::parse(own).unwrap().confined_beside(Status::parse(first).unwrap())
    }

    #[test]
    fn each_of_a_units_bounds_is_seen_and_a_containers_own_are_not() {
        let less = FREE.replace("000001ffffffffff", "0000000000000000");
        let container = FREE.replace("000001ffffffffff", "00000000fdecafff").replace("filters:\t0", "filters:\t11");
        let filtered = container.replace("filters:\t11", "filters:\t12");
        assert_eq!(confined(FREE, FREE), None);
        assert_eq!(confined(&less, FREE), Some("a bounded set of capabilities"));
        assert_eq!(confined(&FREE.replace("Privs:\t0", "Privs:\t1"), FREE), Some("no new privileges"));
        assert_eq!(confined(&container, &container), None);
        assert_eq!(confined(&filtered, &container), Some("a filter of system calls"));
    }

    #[test]
    fn a_kernel_that_counts_no_filters_tells_whether_there_is_one() {
        let old = "CapBnd:\t0000003fffffffff\nNoNewPrivs:\t0\nSeccomp:\t2\n";
        assert_eq!(Status::parse(old).unwrap().filters, 1);
        assert_eq!(confined(old, &old.replace("Seccomp:\t2", "Seccomp:\t0")), Some("a filter of system calls"));
    }

    #[test]
    fn a_first_process_that_is_hidden_counts_as_free() {
        assert_eq!(Status::free(40), Status::parse(FREE).unwrap());
        assert_eq!(Status::free(63).bounding, u64::MAX);
        assert_eq!(Status::parse(FREE).unwrap().confined_beside(Status::free(40)), None);
    }
}
