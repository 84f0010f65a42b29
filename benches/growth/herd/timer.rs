//! The shipped timer, as systemd.timer(5) says how it elapses. Its figures are read from the unit and its drop-in.

use std::fs;
use std::path::Path;

use opensvc_actions::action::retry::Backoff;

use crate::Failure;

/// Its figures, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    /// After the machine has booted.
    pub(crate) on_boot: f64,
    /// Each delay is anywhere between nothing and this,
    pub(crate) random: f64,
    /// and one for ever (it follows from the machine's id), or drawn anew each time.
    pub(crate) fixed: bool,
    /// The manager may wake up so much later; all its timers at the same place, which follows from its boot id.
    pub(crate) accuracy: f64,
}

/// A minute: `OnCalendar=minutely`.
pub(crate) const PERIOD: f64 = 60.0;

impl Timer {
    /// The unit, with and without the drop-in for systemd 247 and later.
    pub(crate) fn shipped(with_drop_in: bool) -> Result<Self, Failure> {
        let units = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../units"));
        let mut text = fs::read_to_string(units.join("opensvc-actions.timer"))?;
        if with_drop_in {
            text.push_str(&fs::read_to_string(units.join("drop-ins/opensvc-actions.timer.d/10-systemd-247.conf"))?);
        }
        // The later one counts.
        let value = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let seconds = |name: &str| -> Result<f64, Failure> {
            let text = value(name).and_then(|value| value.strip_suffix('s'));
            Ok(text.ok_or_else(|| format!("the timer has no {name}= in seconds"))?.parse()?)
        };
        if value("OnCalendar") != Some("minutely") {
            return Err("the timer is not minutely".into());
        }
        Ok(Self {
            on_boot: seconds("OnBootSec")?,
            random: seconds("RandomizedDelaySec")?,
            fixed: value("FixedRandomDelay") == Some("yes"),
            accuracy: seconds("AccuracySec")?,
        })
    }

    /// The same without anything random.
    pub(crate) fn without_jitter(self) -> Self {
        Self { random: 0.0, accuracy: 0.0, ..self }
    }
}

/// Numbers evenly between 0 and 1: delays of the product's own [`Backoff`], which are even over their bound.
pub(crate) struct Dice(Backoff);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
        Self(Backoff::new(u32::MAX, SECOND, SECOND, seed))
    }

    pub(crate) fn roll(&mut self) -> f64 {
        self.0.next().unwrap_or_default().as_secs_f64()
    }
}
