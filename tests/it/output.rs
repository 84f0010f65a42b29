//! Output: made safe for the collector's column, and nothing else is done to it.

use std::fmt::Write as _;
use std::fs;

use crate::interruptions::supervisor_of;
use crate::kept::peak;
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, both};

const COLUMN: usize = 65_535;

/// Lines that each say where they are.
fn lines(bytes: usize) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < bytes {
        number += 1;
        let _ = writeln!(text, "line {number:08} é");
    }
    text
}

/// Checks that `kept` is the two ends of `whole`, with the exact count of what is missing between them.
#[track_caller]
fn assert_both_ends(kept: &str, whole: &str) {
    assert!(kept.len() <= COLUMN, "{} bytes", kept.len());
    let (head, rest) = kept.split_once("[opensvc-actions: ").expect("a count of what was left out");
    let (count, tail) = rest.split_once(" bytes left out]\n").expect("a count of what was left out");
    let count: usize = count.parse().unwrap();
    // The marker stands on a line of its own.
    let whole_head = if whole.starts_with(head) { head } else { head.strip_suffix('\n').unwrap() };
    assert!(whole.starts_with(whole_head) && whole.ends_with(tail), "not both ends");
    assert_eq!(whole_head.len() + count + tail.len(), whole.len(), "the count is wrong");
    assert!((16_000..=16_384).contains(&whole_head.len()), "{} bytes of its beginning", whole_head.len());
    assert!(tail.len() > 48_000, "{} bytes of its end", tail.len());
}

both!(escapes_go_and_what_no_column_holds_is_replaced);
fn escapes_go_and_what_no_column_holds_is_replaced(dialect: Dialect) {
    let world = World::new(dialect);
    let bytes = b"\x1b[1;31mred\x1b[0m \x1b[3A\x1b[?25lup \x1b]0;title\x07osc \x1b(Bset\n\
        emoji \xf0\x9f\x98\x80\nnul \x00 bell \x07\ninvalid \xff\xfe \xc3\nutf8 \xc3\xa9\xe2\x82\xac ]]> <&\"'>\n\ttab";
    let expected = "red up osc set\nemoji \u{fffd}\nnul \u{fffd} bell \u{fffd}\ninvalid \u{fffd}\u{fffd} \u{fffd}\n\
        utf8 é€ ]]> <&\"'>\n\ttab";
    world.node.write("bytes", bytes);
    let id = world.enqueue("cat bytes cat-err bytes exit 1");
    world.run().exits(0);
    assert_eq!(world.result(id), (1, expected.to_owned(), expected.to_owned()));
    world.check();
}

both!(trailing_line_feeds_and_spaces_stay);
fn trailing_line_feeds_and_spaces_stay(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("bytes", "  a  \n\n \n\n");
    let spaces = world.enqueue("cat bytes");
    world.node.write("blank", " \n ");
    let blank = world.enqueue("cat blank");
    world.run().exits(0);
    assert_eq!(world.result(spaces).1, "  a  \n\n \n\n");
    assert_eq!(world.result(blank).1, " \n ");
    world.check();
}

both!(what_fits_exactly_stays_and_one_byte_more_is_cut);
fn what_fits_exactly_stays_and_one_byte_more_is_cut(dialect: Dialect) {
    let world = World::new(dialect);
    let mut text = lines(COLUMN);
    text.retain(|c| c.is_ascii());
    text.truncate(COLUMN - 2);
    let fits = format!("{text}{}", "x".repeat(COLUMN - text.len()));
    let over = format!("{fits}y");
    world.node.write("fits", &fits);
    world.node.write("over", &over);
    let (fit, cut) = (world.enqueue("cat fits"), world.enqueue("cat over"));
    world.run().exits(0);
    assert_eq!(world.result(fit).1, fits);
    assert_both_ends(&world.result(cut).1, &over);
    world.check();
}

both!(of_a_mebibyte_both_ends_stay_with_the_exact_count);
fn of_a_mebibyte_both_ends_stay_with_the_exact_count(dialect: Dialect) {
    let world = World::new(dialect);
    let whole = lines(1 << 20);
    world.node.write("whole", &whole);
    let id = world.enqueue("cat whole cat-err whole");
    world.run().exits(0);
    let (_, stdout, stderr) = world.result(id);
    assert_both_ends(&stdout, &whole);
    assert_both_ends(&stderr, &whole);
    world.check();
}

both!(our_reason_is_the_last_line_even_behind_a_mebibyte);
fn our_reason_is_the_last_line_even_behind_a_mebibyte(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("whole", lines(1 << 20));
    let id = world.enqueue("cat-err whole kill KILL");
    world.run().exits(0);
    assert!(world.reason(id, 137).contains("SIGKILL"));
    assert!(world.result(id).2.len() <= COLUMN);
    world.check();
}

both!(three_byte_characters_and_markup_at_the_limit_still_fit);
fn three_byte_characters_and_markup_at_the_limit_still_fit(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("euros", "€".repeat(100_000));
    world.node.write("markup", "<&>\"\\".repeat(50_000));
    let (euros, markup) = (world.enqueue("cat euros"), world.enqueue("cat markup"));
    world.run().exits(0);
    for id in [euros, markup] {
        assert!(world.result(id).1.len() > COLUMN - 200);
    }
    world.check();
}

/// Prints so many times 128 MiB without a line feed, tells after each, and goes on when its gate is opened.
const FLOOD: &str = r#"#!/bin/sh
D=${0%/bin/*}
part=0
while [ $part -lt "$1" ]; do
    part=$((part + 1))
    head -c 134217728 /dev/zero
    echo "part-$part $$" >>"$D/marks"
done
read -r _ <"$D/gate"
"#;

/// What a stream keeps on this node, with its header.
const KEPT: u64 = 32 + (16 << 20);

/// Insists that neither memory nor disk have grown with what the command has printed so far.
#[track_caller]
fn assert_within_caps(world: &World, id: i64, handler: i32, supervisor: i32) {
    let peaks = (peak(supervisor), peak(handler));
    println!("KiB of memory at most, supervisor and handler: {peaks:?}");
    assert!(peaks.0 < 16 * 1024 && peaks.1 < 32 * 1024, "memory grows with output: {peaks:?}");
    let run = world.node.path(&format!("var/actions/runs/{}-{id}-1", world.dialect.name()));
    let sizes = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let all: u64 = sizes.sum();
    assert!((KEPT..KEPT + 65_536).contains(&all), "{all} bytes in the run directory");
}

/// A gibibyte, or as many as the environment says.
#[test]
fn of_a_gibibyte_in_one_line_both_ends_stay_within_the_caps_of_memory_and_disk() {
    let gibibytes: u64 = std::env::var("OUTPUT_GIB").map_or(1, |number| number.parse().unwrap());
    let world = World::new(Dialect::Oc3); // what is taken from a pipe knows nothing of dialects
    let mut gate = world.node.gate("gate");
    world.node.install_script("flood", FLOOD);
    let id = world.enqueue(&format!("become flood {}", gibibytes * 8));
    let handler = world.node.handler().start();
    let supervisor = supervisor_of(world.node.wait_for_start(id).pid).as_raw_nonzero().get();
    for part in 1..=gibibytes * 8 {
        world.node.wait_for_mark(&format!("part-{part}"));
    }
    assert_within_caps(&world, id, handler.pid(), supervisor);
    gate.open();
    handler.wait().exits(0);
    // Each of these bytes is one that no column holds, and becomes three.
    let stdout = world.result(id).1;
    let (head, rest) = stdout.split_once("\n[opensvc-actions: ").unwrap();
    let (count, tail) = rest.split_once(" bytes left out]\n").unwrap();
    assert!(head.chars().chain(tail.chars()).all(|c| c == '\u{fffd}') && tail.len() > 48_000);
    assert_eq!(head.len() as u64 + count.parse::<u64>().unwrap() + tail.len() as u64, (3 * gibibytes) << 30);
    world.check();
}

both!(a_stream_that_never_ends_stays_within_the_caps_until_it_is_cancelled);
fn a_stream_that_never_ends_stays_within_the_caps_until_it_is_cancelled(dialect: Dialect) {
    let world = World::new(dialect);
    // It goes on printing in its grace.
    world.node.configure("[execution]\nkill_grace = \"200ms\"\n");
    let endless =
        "#!/bin/sh\ntrap '' TERM\nyes | head -c 50000000\necho \"much $$\" >>\"${0%/bin/*}/marks\"\nexec yes\n";
    world.node.install_script("endless", endless);
    let id = world.enqueue("become endless x");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_mark("much").pid;
    assert_within_caps(&world, id, handler.pid(), supervisor_of(command).as_raw_nonzero().get());
    world.node.handler().args(["cancel", &id.to_string()]).run().exits(0);
    handler.wait().exits(0);
    world.reason(id, 130);
    assert!(world.result(id).1.ends_with("y\n"));
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}
