use super::*;
use proptest::prelude::*;

/// The whole clean text, whatever its length.
fn cleaned(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut sink = |piece: &str| text.push_str(piece);
    let mut cleaner = Cleaner::default();
    cleaner.push(bytes, &mut sink);
    cleaner.finish(&mut sink);
    text
}

fn in_pieces(bytes: &[u8], sizes: &[usize], last_line: Option<&str>) -> String {
    let mut clamp = Clamp::new();
    let mut rest = bytes;
    for &size in sizes.iter().cycle().take(bytes.len()) {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        clamp.push(piece);
        rest = behind;
    }
    clamp.push(rest);
    clamp.finish(last_line)
}

#[test]
fn what_fits_is_unchanged() {
    assert_eq!(clamp(b"", None), "");
    assert_eq!(clamp("tab\tcrlf\r\n\u{e9}\u{20ac}\u{7f}".as_bytes(), None), "tab\tcrlf\r\n\u{e9}\u{20ac}\u{7f}");
    let full = "x".repeat(LIMIT);
    assert_eq!(clamp(full.as_bytes(), None), full);
}

#[test]
fn escape_sequences_go() {
    for (sequence, what) in [
        ("\x1b[0m", "colour"),
        ("\x1b[1;31m", "colours"),
        ("\x1b[m", "no parameter"),
        ("\x1b[?25l", "private"),
        ("\x1b[38:2::1:2:3m", "colons"),
        ("\x1b[3A", "cursor"),
        ("\x1b[ q", "intermediate"),
        ("\x1b]0;title\x07", "title, BEL"),
        ("\x1b]8;;http://é\x1b\\", "link, ST"),
        ("\x1bP1$r0m\x1b\\", "device control"),
        ("\x1b(B", "character set"),
        ("\x1b#8", "alignment"),
        ("\x1b7", "two bytes"),
        ("\x1b=", "keypad"),
        ("\x1bM", "reverse index"),
        ("\x1b", "lone"),
    ] {
        assert_eq!(clamp(format!("a{sequence}\nb").as_bytes(), None), "a\nb", "{what}");
        assert_eq!(clamp(format!("a{sequence}").as_bytes(), None), "a", "{what}, at the end");
    }
}

#[test]
fn a_broken_sequence_loses_its_esc_only() {
    assert_eq!(clamp(b"a\x1b[31\nb", None), "a[31\nb");
    assert_eq!(clamp(b"a\x1b[31", None), "a[31");
    assert_eq!(clamp(b"a\x1b]0;t\nb", None), "a]0;t\nb");
    assert_eq!(clamp(b"a\x1b]0;t\x1b[0mb", None), "a]0;tb");
    assert_eq!(clamp(b"\x1b\x1b\x1b[0mb\x1b(", None), "b(");
    assert_eq!(clamp("\x1b\u{e9}".as_bytes(), None), "\u{e9}");
    let long = format!("\x1b]0;{}\x07", "x".repeat(5000));
    assert_eq!(clamp(long.as_bytes(), None), format!("]0;{}\u{fffd}", "x".repeat(5000)));
}

#[test]
fn what_the_wire_cannot_carry_is_replaced() {
    assert_eq!(clamp(b"bell\x07 nul\0", None), "bell\u{fffd} nul\u{fffd}");
    assert_eq!(clamp("\u{1f600}\u{fffe}\u{ffff}\u{10ffff}".as_bytes(), None), "\u{fffd}".repeat(4));
    assert_eq!(clamp(b"\xff\xe2\x82|\xe2\x82", None), "\u{fffd}\u{fffd}|\u{fffd}");
}

#[test]
fn the_last_line_is_a_line_of_its_own() {
    let line = Some("opensvc-actions: x");
    assert_eq!(clamp(b"", line), "opensvc-actions: x\n");
    assert_eq!(clamp(b"a", line), "a\nopensvc-actions: x\n");
    assert_eq!(clamp(b"a\n", line), "a\nopensvc-actions: x\n");
    assert_eq!(clamp(b"", Some("a\nb\x1b[0m\x07\n")), "a b\u{fffd}\n");
    let long = clamp("x".repeat(LIMIT).as_bytes(), Some(&"\u{1f600}y".repeat(LIMIT)));
    assert!(long.len() <= LIMIT && long.len() > LIMIT - 5, "{}", long.len());
    assert!(long.ends_with("y\u{fffd}y\n"));
    let exactly = "x".repeat(LIMIT - 3);
    assert_eq!(clamp(exactly.as_bytes(), Some("y")), format!("{exactly}\ny\n"));
    assert!(clamp(format!("x{exactly}").as_bytes(), Some("y")).contains(" bytes left out]\n"));
}

#[test]
fn a_long_stream_keeps_both_ends_in_little_memory() {
    let mut clamp = Clamp::new();
    for line in 0..400_000 {
        clamp.push(format!("{line:09}\n").as_bytes());
    }
    assert!(clamp.kept.head.capacity() + clamp.kept.tail.capacity() < 256 * 1024);
    let text = clamp.finish(None);
    assert!(text.len() <= LIMIT && text.len() > LIMIT - 5, "{}", text.len());
    assert!(text.starts_with("000000000\n000000001\n"));
    assert!(text.ends_with("000399998\n000399999\n"));
    let left_out: usize = text.split_once("[opensvc-actions: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(left_out + text.len() - marker(left_out as u64).len(), 4_000_000);
}

/// Bytes that hold much of what is special.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[ -~]{0,9}".prop_map(String::into_bytes),
        2 => "\\PC{0,4}".prop_map(String::into_bytes),
        2 => "\x1b[\\[\\]P(\\\\0-9;?m\x07\x1b]{0,8}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..6),
        1 => "[\0-\x1f]{0,3}".prop_map(String::into_bytes),
        1 => (20_000usize..70_000, any::<char>()).prop_map(|(count, c)| String::from(c).repeat(count / 3).into_bytes()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_do_not_matter(bytes in nasty(), sizes in prop::collection::vec(1usize..40, 1..5), line: Option<String>) {
        prop_assert_eq!(in_pieces(&bytes, &sizes, line.as_deref()), clamp(&bytes, line.as_deref()));
    }

    #[test]
    fn the_column_takes_the_result(bytes in nasty(), line: Option<String>) {
        let text = clamp(&bytes, line.as_deref());
        prop_assert!(text.len() <= LIMIT);
        let carried = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}');
        prop_assert!(text.chars().all(carried));
        prop_assert!(line.is_none() || text.ends_with('\n'));
    }

    #[test]
    fn both_ends_and_the_count_are_true(bytes in nasty()) {
        let (whole, text) = (cleaned(&bytes), clamp(&bytes, None));
        if whole.len() <= LIMIT {
            prop_assert_eq!(text, whole);
        } else {
            let at = (0..=HEAD).rev().find(|&at| whole.is_char_boundary(at)).unwrap();
            prop_assert_eq!(&text[..at], &whole[..at]);
            let (count, tail) =
                text[at..].strip_prefix("\n[opensvc-actions: ").unwrap().split_once(" bytes left out]\n").unwrap();
            prop_assert!(whole.ends_with(tail));
            prop_assert_eq!(count.parse::<usize>().unwrap(), whole.len() - at - tail.len());
            prop_assert!(text.len() + 8 > LIMIT);
        }
    }

    #[test]
    fn without_esc_only_single_characters_change(bytes in nasty()) {
        let bytes: Vec<_> = bytes.into_iter().filter(|&byte| byte != 0x1b).collect();
        let expected: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| if c > '\u{fffd}' || (c < ' ' && !"\t\n\r".contains(c)) { '\u{fffd}' } else { c })
            .collect();
        prop_assert_eq!(cleaned(&bytes), expected);
    }

    #[test]
    fn a_cleaned_text_is_clean(bytes in nasty()) {
        let once = cleaned(&bytes);
        prop_assert_eq!(cleaned(once.as_bytes()), once);
    }
}
