//! Output: made safe for the collector's column, and nothing else is done to it.

use std::fmt::Write as _;

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
