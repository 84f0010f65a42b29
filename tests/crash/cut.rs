//! The network is cut after every byte of a run, out and back: fetch, acknowledgement and reports are each cut
//! everywhere.
//!
//! After each byte it ends and is reset, and is well again at once; after some it falls silent, which costs a request's
//! time, or stays away until the handler has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cutter::{Cut, Cutter, How, Way};
use crate::story::{Random, Story, for_each_told, is_full, seed};
use crate::support::Wire;
use crate::support::collector::Collector;
use crate::support::history::Allowed;

/// How many runs are under way at once: most of each is waiting.
const AT_ONCE: usize = 16;
/// Of so many bytes one is followed by silence, where all bytes are taken.
const SILENCE: u64 = 17;
/// And one by a network that stays away.
const DOWN: u64 = 23;

/// A story whose node reaches its collector over a wire that can be cut.
struct Reached {
    story: Story,
    cutter: Cutter,
}

impl Reached {
    fn new(wire: Wire, tls: bool, cut: Option<Cut>) -> Self {
        let collector = if tls { Collector::start() } else { Collector::plain() };
        let story = Story::at(collector, wire.dialect());
        let (node, collector) = (&story.world.node, &story.world.collector);
        node.wire(&[(wire, collector)]);
        let cutter = Cutter::to(collector.port(), cut);
        let text = std::fs::read_to_string(node.path("etc/node.conf")).unwrap();
        let far = format!("127.0.0.1:{}", collector.port());
        assert!(text.contains(&far));
        node.write("etc/node.conf", text.replace(&far, &format!("127.0.0.1:{}", cutter.port())));
        // Long enough for whatever answers; a silence lasts no longer.
        node.configure("[collector]\nconnect_timeout = \"2s\"\nrequest_timeout = \"2s\"\n");
        Self { story, cutter }
    }

    /// The bytes of a run in which nothing goes wrong, out and back.
    fn whole(wire: Wire, tls: bool) -> [u64; 2] {
        let reached = Self::new(wire, tls, None);
        reached.story.world.run().exits(0);
        reached.story.check(&Allowed::default(), &[]);
        reached.cutter.passed()
    }
}

/// What a run with a cut came to.
struct Came {
    /// It was cut; it may have been over before, as not all runs are alike.
    cut: bool,
    code: i32,
}

fn run(wire: Wire, tls: bool, cut: Cut) -> Came {
    let Reached { story, cutter } = Reached::new(wire, tls, Some(cut));
    let code = story.world.run().code();
    // Nothing but a network that stays away is beyond what the handler mends by itself.
    let documented = code == 0 || (code == 75 && cut.how == How::Down);
    assert!(documented, "the handler ended with {code}");
    let came = Came { cut: cutter.is_cut(), code };
    // Else it was over before.
    assert!(came.cut || cutter.passed()[cut.way as usize] < cut.after, "it was not cut");
    cutter.mend();
    story.recover();
    // A result whose answer was cut off is posted again, as it is.
    let allowed = Allowed { crashes: usize::from(came.cut), ..Allowed::default() };
    story.check(&allowed, &[]);
    came
}

/// Every cut, or a sample of so many. In full: over plain HTTP both ways to end after every byte (of JSON, which differs
/// from XML in its bodies only, one of them); over TLS one of them after every byte, and for the two that are in the same
/// records as the first, after every third.
fn cuts(wire: Wire, tls: bool, whole: [u64; 2], sample: usize, random: &mut Random) -> Vec<Cut> {
    let step = if is_full() && tls && wire != Wire::Oc3 { 3 } else { 1 };
    let both = !is_full() || !(tls || wire == Wire::RpcJson);
    let mut all = Vec::new();
    for (way, length) in [(Way::Out, whole[0]), (Way::Back, whole[1])] {
        let first = random.next() % step;
        let ends = first..=length;
        for after in ends.step_by(usize::try_from(step).unwrap()) {
            let is_even = (after / step) % 2 == 0;
            all.extend((both || is_even).then_some(Cut { way, after, how: How::End }));
            all.extend((both || !is_even).then_some(Cut { way, after, how: How::Reset }));
            all.extend((after % SILENCE == 0).then_some(Cut { way, after, how: How::Silence }));
            all.extend((after % DOWN == 0).then_some(Cut { way, after, how: How::Down }));
        }
    }
    if is_full() {
        return all;
    }
    (0..sample).map(|_| all[random.below(all.len())]).collect()
}

fn prove(wire: Wire, tls: bool, sample: usize) {
    let seed = seed();
    let what = format!("network cut, {} over {}", wire.name(), if tls { "TLS" } else { "plain HTTP" });
    println!("{what}: CRASH_SEED={seed}");
    // Dates and signatures differ in length, and results may go in one call or in several: a sample is taken of what is there
    // in each of a few runs, and all is what is there in any.
    let runs: Vec<_> = (0..5).map(|_| Reached::whole(wire, tls)).collect();
    let whole = [0, 1].map(|way| {
        let lengths = runs.iter().map(|run| run[way]);
        if is_full() { lengths.max() } else { lengths.min() }.unwrap()
    });
    let cuts = cuts(wire, tls, whole, sample, &mut Random(seed));
    let came = for_each_told(&what, AT_ONCE, &cuts, |cut| {
        let came = catch_unwind(AssertUnwindSafe(|| run(wire, tls, *cut)));
        came.map_err(|panic| {
            let why = panic.downcast_ref::<String>().cloned();
            format!(
                "{cut:?}: {}",
                why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
            )
        })
    });
    let wrong: Vec<_> = came.iter().filter_map(|came| came.as_ref().err()).collect();
    let reached = came.iter().flatten().filter(|came| came.cut).count();
    let unfinished = came.iter().flatten().filter(|came| came.code != 0).count();
    println!(
        "{what}: {} points of {} bytes out and {} back, cut at {reached}, {unfinished} times 75, {} violations",
        cuts.len(),
        whole[0],
        whole[1],
        wrong.len()
    );
    assert!(wrong.is_empty(), "CRASH_SEED={seed}: {wrong:#?}");
    let least = if is_full() { cuts.len() * 9 / 10 } else { cuts.len() / 2 };
    assert!(reached >= least, "it is not cut");
}

/// Makes a test for each wire on which nothing that was handed out is lost with its answer.
macro_rules! over {
    ($($wire:ident: $name:ident),*) => {
        $(
            mod $name {
                use super::{Wire, prove};

                #[test]
                fn over_plain_http_cut_after_any_byte_nothing_is_lost_and_nothing_starts_twice() {
                    prove(Wire::$wire, false, 24);
                }

                #[test]
                fn over_tls_cut_after_any_byte_nothing_is_lost_and_nothing_starts_twice() {
                    prove(Wire::$wire, true, 10);
                }
            }
        )*
    };
}

over!(Oc3: oc3, RpcXml: xml, RpcJson: json);
