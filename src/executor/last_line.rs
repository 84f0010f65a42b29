//! The last line that a running command has printed, for a person who looks on. A supervisor that nobody asks only keeps
//! it in mind; one that is asked, by a file in the run directory, leaves it in another one there, a few times a second at
//! most. Nothing depends on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::action::ActionKey;
use crate::action::output::Clamp;
use crate::executor::kept::Stream;
use crate::executor::run::RunDir;

/// The file that asks for it.
const WANTED: &str = "watched";

/// The file that holds it.
const FILE: &str = "last-line";

/// Bytes of a stream that are kept in mind: what is longer than a line of a terminal is cut at its beginning.
const KEPT: usize = 512;

/// The least time between two writes.
const EVERY: Duration = Duration::from_millis(200);

/// The supervisor's side.
#[derive(Default)]
pub(super) struct LastLine {
    /// The end of each stream.
    tails: [Vec<u8>; 2],
    /// Which of them has spoken last.
    latest: usize,
    wanted: bool,
    written_at: Option<Instant>,
    behind: bool,
}

impl LastLine {
    /// Takes the next bytes of a stream.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.latest = usize::from(stream == Stream::Stderr);
        let tail = &mut self.tails[self.latest];
        let new = &bytes[bytes.len().saturating_sub(KEPT)..];
        let old = (tail.len() + new.len()).saturating_sub(KEPT);
        tail.drain(..old.min(tail.len()));
        tail.extend_from_slice(new);
        self.behind = true;
    }

    /// Something has appeared in the run directory.
    pub(super) fn look(&mut self) {
        self.wanted = self.wanted || Path::new(WANTED).exists();
    }

    /// Leaves the line in the current directory, if somebody wants it and it is time.
    pub(super) fn write(&mut self, now: Instant) {
        if self.due(now).is_some_and(|due| due <= now) {
            let _ = fs::write(FILE, last_line(&self.tails[self.latest]));
            (self.behind, self.written_at) = (false, Some(now));
        }
    }

    /// When [`Self::write`] has something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.wanted && self.behind).then(|| self.written_at.map_or(now, |at| at + EVERY))
    }
}

/// The last line with anything in it; what a carriage return begins anew is a line as well.
fn last_line(tail: &[u8]) -> &[u8] {
    let mut lines = tail.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
    lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default()
}

/// Asks the supervisor of a running action for the last line of its command, and tells what it was when last written.
///
/// # Errors
/// When it cannot be asked, as one whose run is over.
pub fn of(state: &Path, key: ActionKey) -> io::Result<Option<String>> {
    let run = RunDir::of(state, key);
    OpenOptions::new().append(true).create(true).mode(0o600).open(run.path().join(WANTED))?;
    let mut bytes = Vec::new();
    match File::open(run.path().join(FILE)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(KEPT as u64).read_to_end(&mut bytes)?,
    };
    let mut clamp = Clamp::new();
    clamp.push(&bytes);
    Ok(Some(clamp.finish(None)).filter(|line| !line.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_what_was_printed_last_with_anything_in_it() {
        let mut line = LastLine::default();
        let mut after = |stream, bytes: &[u8]| {
            line.push(stream, bytes);
            String::from_utf8(last_line(&line.tails[line.latest]).to_vec()).unwrap()
        };
        assert_eq!(after(Stream::Stdout, b"one\ntw"), "tw");
        assert_eq!(after(Stream::Stdout, b"o\n\n"), "two");
        assert_eq!(after(Stream::Stderr, b"10 %\r20 %"), "20 %");
        assert_eq!(after(Stream::Stdout, b"three"), "three");
        assert_eq!(after(Stream::Stdout, &[b'x'; 2 * KEPT]), "x".repeat(KEPT));
        assert_eq!(after(Stream::Stdout, b"y"), format!("{}y", "x".repeat(KEPT - 1)));
        assert_eq!(after(Stream::Stderr, &[b'\n'; KEPT]), "");
    }

    #[test]
    fn nobody_who_has_not_asked_gets_a_file() {
        let (mut line, now) = (LastLine::default(), Instant::now());
        assert_eq!(line.due(now), None);
        line.push(Stream::Stdout, b"x");
        assert_eq!(line.due(now), None);
        line.wanted = true;
        assert_eq!(line.due(now), Some(now));
        (line.behind, line.written_at) = (false, Some(now));
        assert_eq!(line.due(now), None);
        line.push(Stream::Stdout, b"y");
        assert_eq!(line.due(now), Some(now + EVERY));
    }
}
