//! Three services side by side, and a crash at every named point: what a single lane never leaves, several starts, ends
//! and posts at once, is recovered from like anything else.

use crate::points::{POINTS, Point, Then};
use crate::story::{COMMANDS, Story, for_each, is_full};
use crate::support::collector::Collector;
use crate::support::collector::state::Row;
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, both};

fn side_by_side(dialect: Dialect) -> Story {
    let world = World::at(Collector::plain(), dialect);
    world.node.make_dir("counts");
    world.node.configure("[execution]\nmax_parallel = 3\n");
    let rows = COMMANDS.iter().zip(["a", "b", "c"]);
    let ids =
        rows.map(|((command, ..), service)| world.collector.add(Row::new(dialect, command).service(service).old()));
    let ids = ids.collect();
    Story { world, ids }
}

both!(crash_at_every_point_while_several_run);
fn crash_at_every_point_while_several_run(dialect: Dialect) {
    let passes = |point: &Point| if point.each && is_full() { 1..=3 } else { 1..=1 + usize::from(point.each) };
    // Where two die, the second may be the supervisor of another action, whose end then nobody knows.
    let points = POINTS.into_iter().filter(|point| point.then == Then::Runs && !point.name.contains(','));
    let cells: Vec<_> = points.flat_map(|point| passes(&point).map(move |pass| (point, pass))).collect();
    for_each(&cells, |(point, pass)| {
        let story = side_by_side(dialect);
        let crashed = story.crash(&point.at(*pass));
        story.world.node.wait_until_alone(&[]); // what runs on, and a supervisor that is to die as well
        // Results that wait side by side may go in one call, and then there is no second one to die behind.
        let in_one_call = dialect == Dialect::Rpc && point.name == "posted" && *pass > 1 && crashed.code() == 0;
        assert!(
            point.is_supervisors() || crashed.code() == 137 || in_one_call,
            "{point:?}: it did not crash: {crashed:?}"
        );
        story.recover();
        story.check(&Allowed { crashes: 1, ..Allowed::default() }, &[]);
    });
}
