//! Bytes of a command's stream → text that fits the collector's column.
//!
//! Collectors keep each stream in a `TEXT` column of three-byte UTF-8: 65,535 bytes, no character above U+FFFF. Collector
//! 3 refuses what does not fit (and the row then stays "running" for ever), older ones cut it silently. So it is made
//! to fit here, saying what was left out. Memory use does not depend on the length of the stream.

mod clean;

pub use clean::Cleaner;
use clean::{clean, clean_len, clean_len_of};
use std::collections::VecDeque;

/// The bytes that the collector's column holds.
pub const LIMIT: usize = 65_535;

/// The bytes kept from the beginning when not all fit.
pub const HEAD: usize = 16 * 1024;

/// The bytes kept from the end, which are not clean yet: enough for whatever the head leaves when four bytes become three,
/// wherever in a character either was cut.
const TAIL: usize = (LIMIT - HEAD) / 3 * 4 + 16;

/// The bytes that the guaranteed last line may have.
const LAST_LINE: usize = 4096;

/// A clean text of so many bytes is reported whole, whatever its last line.
pub const FITS: usize = LIMIT - LAST_LINE - 1;

/// Cleans and clamps a stream that comes in pieces.
///
/// Clean text is what a terminal would have shown, as far as the wire can carry it: escape sequences are left out (of
/// one that is broken off, only its ESC); invalid UTF-8 becomes U+FFFD as [`String::from_utf8_lossy`] does it; so do
/// characters above U+FFFF, control characters other than tab, line feed and carriage return, U+FFFE and U+FFFF.
#[derive(Debug, Default)]
pub struct Clamp {
    cleaner: Cleaner,
    kept: Kept,
}

impl Clamp {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cleaner.push_plain(bytes, &mut |text| self.kept.push(text));
    }

    /// Whether everything so far is in the result, whatever its last line.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.kept.total <= FITS as u64
    }

    /// The clean text, at most [`LIMIT`] bytes: whole when it fits; else the first [`HEAD`] bytes or a little less, the
    /// line `[opensvc-actions: N bytes left out]`, and as much of its end as fits.
    ///
    /// `last_line` (without its line feed; cleaned, made one line and cut as well) is the last line of the result
    /// whatever else has to go.
    #[must_use]
    pub fn finish(mut self, last_line: Option<&str>) -> String {
        self.cleaner.finish_plain(&mut |text| self.kept.push(text));
        self.kept.finish(&last_line.map(one_line).unwrap_or_default())
    }
}

/// [`Clamp`] in one step.
#[must_use]
pub fn clamp(bytes: &[u8], last_line: Option<&str>) -> String {
    let mut clamp = Clamp::new();
    clamp.push(bytes);
    clamp.finish(last_line)
}

/// Both ends of a text.
#[derive(Debug, Default)]
struct Kept {
    /// The bytes of the whole text, once it is clean.
    total: u64,
    /// Clean.
    head: String,
    /// Nothing goes to the head any more.
    head_is_full: bool,
    /// The last bytes behind the head, not clean yet: most of what a command prints is never looked at. May begin within a
    /// character.
    tail: VecDeque<u8>,
}

impl Kept {
    /// Takes text that is not clean yet.
    fn push(&mut self, text: &str) {
        self.total += clean_len(text);
        let mut rest = text;
        if !self.head_is_full {
            let mut room = HEAD - self.head.len();
            let does_not_fit = |(_, c): &(usize, char)| {
                let left = room.checked_sub(clean_len_of(*c));
                room = left.unwrap_or_default();
                left.is_none()
            };
            let fits = text.char_indices().find(does_not_fit).map_or(text.len(), |(at, _)| at);
            clean(&text[..fits], &mut |text| self.head.push_str(text));
            rest = &text[fits..];
            self.head_is_full = !rest.is_empty();
        }
        let bytes = &rest.as_bytes()[rest.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        if !bytes.is_empty() {
            self.tail.reserve_exact(TAIL - self.tail.len()); // once, and not twice as much
        }
        self.tail.extend(bytes);
    }

    /// `last_line` is empty, or ends in a line feed.
    fn finish(mut self, last_line: &str) -> String {
        let mut text = std::mem::take(&mut self.head);
        let kept = Vec::from(self.tail);
        // Lossy changes nothing but bytes of a character that was cut in two, which are dropped here.
        let whole = kept.iter().position(|&byte| !is_continuation(byte)).unwrap_or(kept.len());
        let mut tail = String::new();
        clean(&String::from_utf8_lossy(&kept[whole..]), &mut |text| tail.push_str(text));
        let cut = u64::try_from(text.len() + tail.len()).is_ok_and(|kept| kept < self.total);

        // A last line needs a line feed before it, if there is text that does not end in one.
        let ends_open = |text: &str| !text.is_empty() && !text.ends_with('\n');
        let open = !last_line.is_empty() && ends_open(if tail.is_empty() { &text } else { &tail });
        let behind = usize::from(open) + last_line.len();
        if cut || text.len() + tail.len() + behind > LIMIT {
            // Room for the longest marker; the real one may be shorter by a digit.
            let room = LIMIT - behind - text.len() - marker(self.total).len();
            let rest = &tail[ceil(&tail, tail.len().saturating_sub(room))..];
            text.push_str(&marker(self.total - text.len() as u64 - rest.len() as u64));
            text.push_str(rest);
        } else {
            text.push_str(&tail);
        }
        if !last_line.is_empty() && ends_open(&text) {
            text.push('\n');
        }
        text.push_str(last_line);
        text
    }
}

/// The line that stands for what was left out.
#[must_use]
pub fn marker(left_out: u64) -> String {
    format!("\n[opensvc-actions: {left_out} bytes left out]\n")
}

/// Clean text without line breaks, cut to [`LAST_LINE`] bytes, with a line feed behind it.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut cleaner = Cleaner::default();
    let mut sink = |text: &str| line.push_str(text);
    cleaner.push(&text.as_bytes()[..floor(text, LAST_LINE)], &mut sink);
    cleaner.finish(&mut sink);
    let mut line = line.trim_end().replace(['\n', '\r'], " ");
    line.truncate(floor(&line, LAST_LINE - 1));
    line.push('\n');
    line
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The first character boundary at or behind `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
