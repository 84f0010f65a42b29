//! Tables for people, and JSON for whoever draws or compares.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::Scenario;
use crate::contender::Contender;
use crate::measure::{Counted, Sample};
use crate::statistics::{Interval, Random, median, median_with_interval, quantile};
use crate::trace;

/// What is shown of a sample: its key, its name, its unit, the digits behind the point, and whether it is counted (the same
/// each time, more or less: no interval).
const MEASURES: [(&str, &str, &str, usize, bool); 17] = [
    ("fetch", "first fetch arrived", "ms", 2, false),
    ("command", "first command started", "ms", 2, false),
    ("reported", "last result accepted", "ms", 2, false),
    ("exited", "exited", "ms", 2, false),
    ("cpu_before", "processor time to first byte", "ms", 2, false),
    ("cpu", "processor time, all processes", "ms", 2, false),
    ("peak", "peak memory, largest process", "KiB", 0, false),
    ("faults", "page faults", "", 0, true),
    ("switches", "voluntary context switches", "", 0, true),
    ("stored", "stored", "KiB", 0, true),
    ("written", "written", "B", 0, true),
    ("sent", "sent to the collector", "B", 0, true),
    ("received", "received from it", "B", 0, true),
    ("connections", "connections", "", 0, true),
    ("fetches", "fetches", "", 0, true),
    ("acknowledgements", "acknowledgements", "", 0, true),
    ("reports", "reports", "", 0, true),
];

/// Everything about one scenario.
pub(crate) struct Figures<'a> {
    scenario: Scenario,
    contenders: &'a [Contender],
    rounds: Vec<Vec<Sample>>,
    counts: Vec<Counted>,
}

impl<'a> Figures<'a> {
    pub(crate) fn new(
        scenario: Scenario,
        contenders: &'a [Contender],
        rounds: Vec<Vec<Sample>>,
        counts: Vec<Counted>,
    ) -> Self {
        Self { scenario, contenders, rounds, counts }
    }

    /// Of one contender, all rounds.
    fn values(&self, contender: usize, key: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round[contender].get(key).copied()).collect()
    }

    /// One contender in proportion to the floor, round by round.
    fn ratio(&self, contender: usize, key: &str, random: &mut Random) -> Option<Interval> {
        let floor =
            self.contenders.iter().position(|contender| contender.is_floor).filter(|floor| *floor != contender)?;
        let of = |round: &Vec<Sample>| {
            let (one, other) = (*round[contender].get(key)?, *round[floor].get(key)?);
            (other > 0.0).then_some(one / other)
        };
        let ratios: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        (!ratios.is_empty()).then(|| median_with_interval(&ratios, random))
    }

    /// At most 100 columns.
    pub(crate) fn table(&self, random: &mut Random) -> String {
        let Scenario { dialect, actions, rtt } = self.scenario;
        let plural = |number: usize| if number == 1 { "" } else { "s" };
        let (rounds, s) = (self.rounds.len(), plural(actions));
        let mut text =
            format!("{}, {actions} action{s}, RTT +{rtt} ms; {rounds} round{}\n", dialect.name(), plural(rounds));
        let _ = writeln!(text, "{:<41} {:>10}     {:<17}  ratio to floor [95 %]", "", "median", "quartiles");
        for (key, name, unit, digits, counted) in MEASURES {
            let mut name = name;
            for (number, contender) in self.contenders.iter().enumerate() {
                let mut values = self.values(number, key);
                if values.is_empty() {
                    continue;
                }
                if key == "stored" {
                    for value in &mut values {
                        *value /= 1024.0;
                    }
                }
                let _ = write!(text, "{name:<30} {:<10} {:>10.digits$} {unit:<3}", contender.name, median(&values));
                name = "";
                let quartiles = format!("{:.digits$} … {:.digits$}", quantile(&values, 0.25), quantile(&values, 0.75));
                let _ = write!(text, " {quartiles:<17}");
                if let Some(ratio) = self.ratio(number, key, random) {
                    let _ = write!(text, "  {:.2}", ratio.estimate);
                    if !counted {
                        let _ = write!(text, " [{:.2}, {:.2}]", ratio.low, ratio.high);
                    }
                }
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
        }
        self.count_rows(&mut text);
        text
    }

    fn count_rows(&self, text: &mut String) {
        let mut row = |name: &str, contender: &Contender, value: String| {
            let _ = writeln!(text, "{name:<30} {:<10} {value}", contender.name);
        };
        for (name, count) in [
            ("system calls, own + others'", trace::total as fn(&trace::Calls) -> usize),
            ("syncs, own + others'", trace::syncs),
        ] {
            for (place, (contender, counted)) in self.contenders.iter().zip(&self.counts).enumerate() {
                let (own, others) = (count(&counted.calls.own), count(&counted.calls.others));
                row(if place == 0 { name } else { "" }, contender, format!("{own:>10} + {others}"));
            }
        }
        let mut name = "around a waiting command";
        for (contender, counted) in self.contenders.iter().zip(&self.counts) {
            if let Some((private, resident)) = counted.parent {
                row(name, contender, format!("{private:>10} KiB private, {resident} KiB resident"));
                name = "";
            }
        }
    }

    /// All that is known, each sample included.
    pub(crate) fn json(&self, random: &mut Random) -> Value {
        let mut contenders = Map::new();
        for (number, contender) in self.contenders.iter().enumerate() {
            let mut measures = Map::new();
            for (key, ..) in MEASURES {
                let values = self.values(number, key);
                if values.is_empty() {
                    continue;
                }
                let ratio = self.ratio(number, key, random);
                let ratio = ratio.map(|ratio| json!({"median": ratio.estimate, "low": ratio.low, "high": ratio.high}));
                let summary = json!({"median": median(&values), "ratio_to_floor": ratio, "rounds": values});
                measures.insert(key.to_owned(), summary);
            }
            let counted = self.counts.get(number).map(|counted| {
                json!({
                    "calls": counted.calls.own, "calls_of_others": counted.calls.others,
                    "syncs": trace::syncs(&counted.calls.own), "syncs_of_others": trace::syncs(&counted.calls.others),
                    "parent_private_kib": counted.parent.map(|(private, _)| private),
                    "parent_resident_kib": counted.parent.map(|(_, resident)| resident),
                })
            });
            let all = json!({"program": contender.program, "measures": measures, "counted": counted});
            contenders.insert(contender.name.clone(), all);
        }
        let Scenario { dialect, actions, rtt } = self.scenario;
        json!({"dialect": dialect.name(), "actions": actions, "rtt_ms": rtt, "contenders": contenders})
    }
}
