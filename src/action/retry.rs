//! How long to wait before asking again: an iterator of delays, nothing more. How often is the handler's decision.

use std::time::Duration;

/// Delays with full jitter: each is anywhere between nothing and a bound that doubles, so that two thousand nodes that
/// lost their collector at the same moment do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    left: u32,
    bound: Duration,
    longest: Duration,
    random: u64,
}

impl Backoff {
    /// `tries` delays, the first one at most `first`, none longer than `longest`. `seed` is any number that differs
    /// from node to node.
    #[must_use]
    pub const fn new(tries: u32, first: Duration, longest: Duration, seed: u64) -> Self {
        Self { left: tries, bound: first, longest, random: seed }
    }

    /// The next number of the splitmix64 sequence.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let bound = self.bound.min(self.longest);
        self.bound = bound.saturating_mul(2);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(self.next_random() % nanos.saturating_add(1).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_counted_and_bounded() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(300));
        for seed in 0..1000 {
            let delays: Vec<_> = Backoff::new(4, first, longest, seed).collect();
            assert_eq!(delays.len(), 4);
            for (delay, bound) in delays.into_iter().zip([100, 200, 300, 300]) {
                assert!(delay <= Duration::from_millis(bound), "{delay:?}");
            }
        }
    }

    #[test]
    fn two_nodes_do_not_wait_alike() {
        let delays = |seed| Backoff::new(3, Duration::from_secs(1), Duration::from_secs(8), seed).collect::<Vec<_>>();
        assert_ne!(delays(1), delays(2));
    }
}
