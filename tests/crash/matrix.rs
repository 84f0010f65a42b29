//! Every named point × what goes wrong at the collector × both dialects.

use crate::points::{POINTS, Point, Then};
use crate::story::{Story, for_each, is_full};
use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::{Dialect, both};

/// What goes wrong at the collector, beside the crash.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    AckAnswerLost,
    ReportAnswerLost,
    ReportRefused,
    FetchAnswerLost,
}

impl Trouble {
    const ALL: [Self; 5] =
        [Self::None, Self::AckAnswerLost, Self::ReportAnswerLost, Self::ReportRefused, Self::FetchAnswerLost];

    fn plan(self, collector: &Collector) {
        match self {
            Self::None => {}
            Self::AckAnswerLost => collector.fail(Call::Ack, When::First(1), Fault::ResetAfter),
            // The one in the middle.
            Self::ReportAnswerLost => collector.fail(Call::Report, When::Nth(2), Fault::ResetAfter),
            Self::ReportRefused => collector.fail(Call::Report, When::Nth(2), Fault::status(500)),
            Self::FetchAnswerLost => collector.fail(Call::Fetch, When::First(1), Fault::ResetAfter),
        }
    }
}

/// Crashes at the nth pass of a point, recovers, and checks.
fn cell(dialect: Dialect, trouble: Trouble, point: Point, nth: usize) {
    // With TLS where nothing else is in the way.
    let collector = if matches!(trouble, Trouble::None) { Collector::start() } else { Collector::plain() };
    let story = Story::at(collector, dialect);
    trouble.plan(&story.world.collector);
    let crashed = story.crash(&point.at(nth));
    story.world.node.wait_until_alone(&[]); // a supervisor that is to die as well
    for (name, pass) in point.passes(nth) {
        assert!(story.passes(name) >= pass, "{name} was passed {} times: {crashed:?}", story.passes(name));
    }
    assert!(point.is_supervisors() || crashed.code() == 137, "it did not crash: {crashed:?}");
    story.recover();
    let allowed = Allowed { interrupted: point.then == Then::Unknown, crashes: 1, ..Allowed::default() };
    let unknown: &[i64] = if point.then == Then::Unknown { &story.ids[nth - 1..nth] } else { &[] };
    story.check(&allowed, unknown);
}

/// Which passes of a point: of three actions, the one in the middle.
fn passes(point: Point) -> std::ops::RangeInclusive<usize> {
    match (point.each, is_full()) {
        (false, _) => 1..=1,
        (true, false) => 2..=2,
        (true, true) => 1..=3,
    }
}

both!(crash_at_every_point_and_with_every_trouble);
fn crash_at_every_point_and_with_every_trouble(dialect: Dialect) {
    let mut cells = Vec::new();
    for point in POINTS {
        cells.extend(Trouble::ALL.iter().flat_map(|trouble| passes(point).map(move |nth| (*trouble, point, nth))));
    }
    for_each(&cells, |(trouble, point, nth)| {
        println!("{} {trouble:?} {} {nth}", dialect.name(), point.name);
        cell(dialect, *trouble, *point, *nth);
    });
    println!("{}: {} cells of the crash matrix", dialect.name(), cells.len());
}

both!(crash_and_crash_again_while_recovering);
fn crash_and_crash_again_while_recovering(dialect: Dialect) {
    let recovering = POINTS.iter().map(|point| point.name).filter(|name| !name.contains(','));
    let recovering: Vec<_> = recovering.chain(["record-found"]).collect();
    let pairs = POINTS.iter().flat_map(|first| recovering.iter().map(move |second| (*first, *second)));
    let pairs: Vec<_> = pairs.step_by(if is_full() { 1 } else { 23 }).collect();
    for_each(&pairs, |(first, second)| {
        println!("{} {} then {second}", dialect.name(), first.name);
        let story = Story::new(dialect);
        story.crash(&first.at(if first.each { 2 } else { 1 }));
        story.world.node.wait_until_alone(&[]);
        story.recount();
        story.crash(second);
        story.recover();
        // Only what a supervisor took with it is unknown: of each crash, one.
        let is_lost = |id: &i64| story.world.collector.row(*id).ret == Some(254);
        let lost: Vec<_> = story.ids.iter().copied().filter(is_lost).collect();
        assert!(lost.len() <= 2);
        story.check(&Allowed { interrupted: true, crashes: 2, ..Allowed::default() }, &lost);
    });
    println!("{}: {} pairs of crashes", dialect.name(), pairs.len());
}

both!(a_run_passes_every_point);
fn a_run_passes_every_point(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("").exits(0);
    for name in POINTS.iter().map(|point| point.name).filter(|name| !name.contains(',')) {
        assert!(story.passes(name) > 0, "{name}");
    }
    story.check(&Allowed::default(), &[]);
}
