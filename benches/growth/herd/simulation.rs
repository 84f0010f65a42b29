//! Idle nodes by a clock that takes no time: when each asks its collector, and what that adds up to in each second.
//!
//! A timer's run asks once; while the collector is down it asks again after the delays that the handler waits, and then
//! leaves it to the next minute. What is assumed of all nodes is the worst: clocks that agree, one moment at which all
//! of them have booted, a collector that refuses at once and so is asked as often as can be.

use std::ops::Range;

use opensvc_actions::action::retry::Backoff;
use opensvc_actions::handler::{FIRST_DELAY, LONGEST_DELAY, TRIES};

use super::timer::{Dice, PERIOD, Timer};
use crate::Failure;

/// What happens.
#[derive(Clone, Copy)]
enum Case {
    /// Nothing.
    Steady,
    /// All machines have booted at this moment.
    Boot(f64),
    /// The collector was down for an hour, and is back at this moment.
    Back(f64),
}

/// So long it was down.
const DOWN: f64 = 3600.0;
/// So long the collector is looked at.
const LOOK: u32 = 180;
/// And before that moment, where it matters.
const LOOK_BACK: u32 = 300;

/// One node's way of waiting.
struct Node {
    timer: Timer,
    jitter: bool,
    delay: f64,
    late: f64,
    dice: Dice,
    seed: u64,
}

impl Node {
    fn new(timer: Timer, jitter: bool, seed: u64) -> Self {
        // Seeds that follow each other are no luck of the draw.
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        let (delay, late) = (dice.roll() * timer.random, dice.roll() * timer.accuracy);
        Self { timer, jitter, delay, late, dice, seed }
    }

    fn delay(&mut self) -> f64 {
        let delay = if self.timer.fixed { self.delay } else { self.dice.roll() * self.timer.random };
        delay + self.late
    }

    /// The delays between the tries of one run.
    fn retries(&mut self) -> Vec<f64> {
        if self.jitter {
            self.seed = self.seed.wrapping_add(0x1_0000_0001);
            let delays = Backoff::new(TRIES, FIRST_DELAY, LONGEST_DELAY, self.seed ^ self.seed.rotate_left(29));
            return delays.map(|delay| delay.as_secs_f64()).collect();
        }
        // Nobody ships this: the bounds themselves.
        (0..TRIES).map(|number| FIRST_DELAY.saturating_mul(1 << number).min(LONGEST_DELAY).as_secs_f64()).collect()
    }

    /// Adds the moments at which it asks, and whether it is answered.
    fn ask(&mut self, starts: &[f64], down: &Range<f64>, asked: &mut Vec<(f64, bool)>) {
        let mut busy = f64::NEG_INFINITY;
        for &start in starts {
            if start < busy {
                continue; // the service runs already: systemd keeps it single
            }
            let mut at = start;
            let mut retries = self.retries().into_iter();
            loop {
                let is_answered = !down.contains(&at);
                asked.push((at, is_answered));
                match retries.next().filter(|_| !is_answered) {
                    Some(delay) => at += delay,
                    None => break,
                }
            }
            busy = at;
        }
    }
}

/// What the collector has seen from the moment on that matters.
struct Load {
    /// Requests a second over the first minute.
    mean: f64,
    /// In the busiest second.
    peak: usize,
    /// Attempts that found nobody, in the busiest second before.
    refused: usize,
    /// When every node has been answered.
    all: f64,
}

fn load(nodes: usize, timer: Timer, jitter: bool, case: Case, seed: u64) -> Load {
    let (from, down, boot) = match case {
        Case::Steady => (600.0, 0.0..0.0, None),
        Case::Boot(at) => (at, 0.0..0.0, Some(at)),
        // Of the hour, only its last minutes matter: nobody waits longer than for the next one.
        Case::Back(at) => (at, at - DOWN..at, None),
    };
    let first_minute = ((boot.unwrap_or(from - f64::from(LOOK_BACK))) / PERIOD).ceil() - 1.0;
    let (mut answered, mut refused, mut all) = (vec![0_usize; LOOK as usize], vec![0_usize; LOOK_BACK as usize], 0_f64);
    for number in 0..nodes {
        let mut node = Node::new(timer, jitter, seed << 32 | number as u64);
        let mut starts = Vec::new();
        if let Some(boot) = boot {
            starts.push(boot + timer.on_boot + node.delay());
        }
        for minute in 0..=(LOOK + LOOK_BACK) / 60 + 1 {
            let elapse = (first_minute + f64::from(minute)) * PERIOD;
            // The timer begins with the machine: what has elapsed before does not elapse.
            if boot.is_none_or(|boot| elapse > boot) {
                starts.push(elapse + node.delay());
            }
        }
        starts.sort_by(f64::total_cmp);
        let mut asked = Vec::new();
        node.ask(&starts, &down, &mut asked);
        let mut first = f64::INFINITY;
        for (at, is_answered) in asked {
            if !is_answered {
                count(&mut refused, from - at);
            } else if at >= from {
                first = first.min(at - from);
                count(&mut answered, at - from);
            }
        }
        all = all.max(first);
    }
    let most = |seconds: &[usize]| seconds.iter().copied().max().unwrap_or_default();
    Load {
        mean: answered[..60].iter().sum::<usize>() as f64 / 60.0,
        peak: most(&answered),
        refused: most(&refused),
        all,
    }
}

/// Counts one in its second, if that is looked at.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no second of these is out of range"
)]
fn count(seconds: &mut [usize], at: f64) {
    if let Some(second) = seconds.get_mut(at as usize) {
        *second += 1;
    }
}

/// Prints the table: of each case the median and the worst of many moments within the minute.
pub(crate) fn run(nodes: usize) -> Result<(), Failure> {
    let with_drop_in = Timer::shipped(true)?;
    let without = Timer::shipped(false)?;
    println!("\nherd, simulated: {nodes} idle nodes; requests a second at the collector, {LOOK} s from the moment on");
    println!("{with_drop_in:?} (systemd 247 and later)\n{without:?}");
    println!("each figure: the median and the worst over the 60 seconds of a minute at which it may happen");
    println!(
        "{:<34} {:<26} {:>13} {:>13} {:>15} {:>17}",
        "", "timer", "mean, 1st min", "peak second", "all served, s", "refused, peak s"
    );
    for (what, case) in [
        ("all day", (|_| Case::Steady) as fn(f64) -> Case),
        ("all booted at the same moment", |at| Case::Boot(600.0 + at)),
        ("the collector was down for 1 h", |at| Case::Back(2.0 * DOWN + at)),
    ] {
        for (name, timer, jitter) in [
            ("systemd 247 and later", with_drop_in, true),
            ("before 247", without, true),
            ("no jitter (not shipped)", with_drop_in.without_jitter(), false),
        ] {
            let loads: Vec<_> =
                (0..60_u32).map(|at| load(nodes, timer, jitter, case(f64::from(at)), u64::from(at))).collect();
            let of = |figure: fn(&Load) -> f64| {
                let mut values: Vec<_> = loads.iter().map(figure).collect();
                values.sort_by(f64::total_cmp);
                (values[values.len() / 2], values[values.len() - 1])
            };
            let (mean, peak) = (of(|load| load.mean), of(|load| load.peak as f64));
            let (all, refused) = (of(|load| load.all), of(|load| load.refused as f64));
            println!(
                "{what:<34} {name:<26} {:>6.1} {:>6.1} {:>6.0} {:>6.0} {:>7.1} {:>7.1} {:>8.0} {:>8.0}",
                mean.0, mean.1, peak.0, peak.1, all.0, all.1, refused.0, refused.1
            );
            if !all.1.is_finite() {
                return Err("a node was never served".into());
            }
        }
    }
    Ok(())
}
