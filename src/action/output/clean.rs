//! A stream of bytes → a stream of text that the collectors' columns and both wire formats can carry.

/// The longest escape sequence that is recognized, in bytes: long enough for the hyperlinks and titles that programs
/// write, short enough to be held.
const SEQUENCE_LIMIT: usize = 4096;

const REPLACEMENT: &str = "\u{fffd}";

/// Takes bytes in pieces of any size and hands clean text to a sink. What comes out does not depend on the pieces.
///
/// In this order: invalid UTF-8 becomes U+FFFD, grouped as [`String::from_utf8_lossy`] groups it; terminal escape
/// sequences go; characters above U+FFFF, control characters other than tab, line feed and carriage return, and the two
/// noncharacters U+FFFE and U+FFFF become U+FFFD.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// The beginning of a character whose rest has not come yet: the first `.1` bytes.
    partial: ([u8; 4], usize),
    state: State,
    /// The characters of the escape sequence at hand, without its ESC: text again, should it turn out not to be one.
    sequence: String,
}

/// Where in an escape sequence (ECMA-48) the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and intermediate characters, such as the `(` of the character set selection `ESC ( B`.
    Intermediate,
    /// After `ESC [`: parameters and intermediates up to a final character.
    Csi,
    /// After `ESC ]`, `ESC P`, `ESC X`, `ESC ^` or `ESC _`: any text up to BEL or ST (`ESC \`).
    ControlString,
    /// As before, after an ESC that may begin the ST.
    StringEscape,
}

impl Cleaner {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(&str)) {
        self.push_plain(bytes, &mut |text| clean(text, sink));
    }

    /// The same, but what cannot be carried is still in the text, which comes in larger pieces: for [`clean`], whenever
    /// that is worth the time.
    pub(super) fn push_plain(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&str)) {
        while self.partial.1 > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return };
            let (mut buffer, len) = self.partial;
            buffer[len] = next;
            match std::str::from_utf8(&buffer[..=len]) {
                Ok(text) => {
                    self.partial.1 = 0;
                    self.text(text, sink);
                }
                Err(error) if error.error_len().is_none() => self.partial = (buffer, len + 1),
                Err(_) => {
                    // The partial character was wrong; the byte at hand may begin another.
                    self.partial.1 = 0;
                    self.text(REPLACEMENT, sink);
                    break;
                }
            }
            bytes = rest;
        }
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return self.text(text, sink),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), sink);
                    let Some(wrong) = error.error_len() else {
                        self.partial.0[..rest.len()].copy_from_slice(rest);
                        self.partial.1 = rest.len();
                        return;
                    };
                    self.text(REPLACEMENT, sink);
                    bytes = &rest[wrong..];
                }
            }
        }
    }

    /// The end of the stream: an unfinished character is an invalid one, an unfinished sequence is text without its ESC.
    pub fn finish(self, sink: &mut impl FnMut(&str)) {
        self.finish_plain(&mut |text| clean(text, sink));
    }

    /// The same for [`Self::push_plain`].
    pub(super) fn finish_plain(mut self, sink: &mut impl FnMut(&str)) {
        if self.partial.1 > 0 {
            self.text(REPLACEMENT, sink);
        }
        self.not_a_sequence(sink);
    }

    fn text(&mut self, mut text: &str, sink: &mut impl FnMut(&str)) {
        while !text.is_empty() {
            if self.state == State::Text {
                let Some(escape) = text.find('\x1b') else { return sink(text) };
                sink(&text[..escape]);
                self.state = State::Escape;
                text = &text[escape + 1..];
            } else {
                let mut chars = text.chars();
                if let Some(c) = chars.next() {
                    if self.step(c, sink) {
                        text = chars.as_str();
                    }
                }
            }
        }
    }

    /// One character of a sequence. False when it is not part of it and must be looked at again.
    fn step(&mut self, c: char, sink: &mut impl FnMut(&str)) -> bool {
        let next = match (self.state, c) {
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') | (State::ControlString, '\t' | ' '..) => State::ControlString,
            (State::Escape | State::Intermediate, ' '..='/') => State::Intermediate,
            (State::Escape, '[') | (State::Csi, ' '..='?') => State::Csi,
            (State::ControlString, '\x1b') => State::StringEscape,
            (State::Escape | State::Intermediate, '0'..='~')
            | (State::Csi, '@'..='~')
            | (State::ControlString, '\x07')
            | (State::StringEscape, '\\') => {
                self.sequence.clear();
                self.state = State::Text;
                return true;
            }
            (State::StringEscape, _) => {
                // That ESC begins another sequence.
                self.not_a_sequence(sink);
                self.state = State::Escape;
                return false;
            }
            _ => {
                self.not_a_sequence(sink);
                return false;
            }
        };
        self.state = next;
        if c != '\x1b' {
            self.sequence.push(c);
        }
        if self.sequence.len() > SEQUENCE_LIMIT {
            self.not_a_sequence(sink);
        }
        true
    }

    fn not_a_sequence(&mut self, sink: &mut impl FnMut(&str)) {
        sink(&self.sequence);
        self.sequence.clear();
        self.state = State::Text;
    }
}

/// Text without escape sequences: replaces the characters that cannot be carried.
pub(super) fn clean(text: &str, sink: &mut impl FnMut(&str)) {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| !is_carried(c)) {
        sink(&rest[..at]);
        sink(REPLACEMENT);
        rest = &rest[at + c.len_utf8()..];
    }
    sink(rest);
}

/// How many bytes [`clean`] makes of a character.
pub(super) fn clean_len_of(c: char) -> usize {
    if is_carried(c) { c.len_utf8() } else { REPLACEMENT.len() }
}

/// How many bytes [`clean`] makes of a text. As it has to be counted for all that a command prints, it takes the time of
/// one look at each byte: a control character becomes two bytes longer, and one of four bytes, which its first byte tells,
/// shorter by one.
pub(super) fn clean_len(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut weight, mut at) = (0_usize, 0);
    // Plain indices: this is fast in a build that is not optimized, too.
    while at < bytes.len() {
        weight += WEIGHTS[bytes[at] as usize] as usize;
        at += 1;
    }
    weight as u64
}

/// For each byte, how many it is in clean text.
const WEIGHTS: [u8; 256] = {
    let mut weights = [1; 256];
    let mut byte = 0;
    while byte < 256 {
        match byte {
            0x09 | 0x0a | 0x0d => {}
            0..0x20 => weights[byte] = 3,
            0xf0.. => weights[byte] = 0,
            _ => {}
        }
        byte += 1;
    }
    weights
};

/// XML 1.0 has no way to write most control characters (a collector that reads one refuses the whole call), and the
/// collectors' columns hold three-byte UTF-8.
fn is_carried(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}')
}
