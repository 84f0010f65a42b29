//! Output that is too long to be reported: as much of it as the settings say stays on this node.
//!
//! A stream that fits the report is nowhere else. From the first byte that does not, it goes into a file in the run
//! directory, which moves to `STATE/output/<queue>-<id>-<generation>/` when the result is accepted: the first half of
//! what is kept in its place, behind it a ring of the last half. The file's header says how many bytes there were and how
//! many of them went in here, so that what is missing is known exactly, also when the supervisor was killed. Nothing of
//! this is synced, and a disk that is full ends the keeping and nothing else.

mod store;

pub(super) use store::forget;
pub use store::{keep, prune};

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::action::ActionKey;
use crate::action::output;
use crate::executor::run::{self, RunDir};

/// How much of a stream is held in memory before it goes into a file: what the report holds in any case.
const HELD: usize = output::FITS;

const MAGIC: [u8; 8] = *b"OSVCOUT1";

/// The header: magic, capacity, bytes that went into the file, bytes of the stream; little endian.
const HEADER: usize = 32;

/// One of a command's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    const fn file(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a file holds, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    capacity: u64,
    /// The bytes that went into the file, one after the other.
    kept: u64,
    /// The bytes of the stream.
    total: u64,
}

impl Layout {
    /// The bytes at its beginning that stay.
    const fn head(self) -> u64 {
        self.capacity / 2
    }

    const fn ring(self) -> u64 {
        self.capacity - self.head()
    }

    /// Where in the file the byte at this position of the stream is, and how many may follow it there.
    const fn place(self, position: u64) -> (u64, u64) {
        let (offset, room) = match position.checked_sub(self.head()) {
            None => (position, self.head() - position),
            Some(behind) => (self.head() + behind % self.ring(), self.ring() - behind % self.ring()),
        };
        (HEADER as u64 + offset, room)
    }

    /// The first position behind the head that is still there.
    fn tail(self) -> u64 {
        self.kept.saturating_sub(self.ring()).max(self.head().min(self.kept))
    }

    fn header(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        for (field, number) in header[8..].chunks_exact_mut(8).zip([self.capacity, self.kept, self.total]) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        header
    }

    /// The layout of a file of this length, if its header is one.
    fn read(header: &[u8; HEADER], length: u64) -> Option<Self> {
        let mut fields = header[8..].chunks_exact(8).filter_map(|field| field.try_into().ok().map(u64::from_le_bytes));
        let layout = Self { capacity: fields.next()?, kept: fields.next()?, total: fields.next()? };
        let there = layout.kept.min(layout.capacity).checked_add(HEADER as u64)?;
        let is_whole = header[..8] == MAGIC && layout.capacity >= 2 && layout.kept <= layout.total && there <= length;
        is_whole.then_some(layout)
    }
}

/// The supervisor's side: takes a stream piece by piece, in constant memory.
pub(super) struct Keeper {
    path: PathBuf,
    layout: Layout,
    place: Place,
}

enum Place {
    Memory(Vec<u8>),
    File(File),
    /// It could not be kept, or not to its end.
    Nowhere(Option<File>),
}

impl Keeper {
    /// Keeps a stream in a run directory, as soon as that is necessary.
    pub(super) fn new(directory: &Path, stream: Stream, capacity: u64) -> Self {
        Self {
            path: directory.join(stream.file()),
            layout: Layout { capacity, kept: 0, total: 0 },
            place: Place::Memory(Vec::new()),
        }
    }

    /// Takes the next bytes. `fits`: the report still holds everything.
    pub(super) fn push(&mut self, bytes: &[u8], fits: bool) {
        self.layout.total += bytes.len() as u64;
        if let Place::Memory(held) = &mut self.place {
            held.extend_from_slice(bytes);
            if fits && held.len() <= HELD {
                return;
            }
            let held = std::mem::take(held);
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path);
            self.place = file.map_or(Place::Nowhere(None), Place::File);
            self.write(&held);
        } else {
            self.write(bytes);
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        let file = match std::mem::replace(&mut self.place, Place::Nowhere(None)) {
            Place::File(file) => file,
            Place::Nowhere(Some(file)) => {
                let _ = file.write_all_at(&self.layout.header(), 0);
                self.place = Place::Nowhere(Some(file));
                return;
            }
            Place::Nowhere(None) | Place::Memory(_) => return,
        };
        while !bytes.is_empty() {
            let (offset, room) = self.layout.place(self.layout.kept);
            let piece = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
            match file.write_at(piece, offset) {
                Ok(written @ 1..) => {
                    self.layout.kept += written as u64;
                    bytes = &bytes[written..];
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let told = file.write_all_at(&self.layout.header(), 0).is_ok();
        self.place = if told && bytes.is_empty() { Place::File(file) } else { Place::Nowhere(Some(file)) };
    }
}

/// The kept part of one stream of one action.
#[derive(Debug)]
pub struct Kept {
    file: File,
    layout: Layout,
}

impl Kept {
    /// Looks for it: in the run directory, then where it goes from there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(state: &Path, key: ActionKey, stream: Stream) -> io::Result<Option<Self>> {
        for directory in [RunDir::of(state, key).path().to_owned(), kept_of(state, key)] {
            let file = match File::open(directory.join(stream.file())) {
                Ok(file) => file,
                Err(err) if err.kind() == ErrorKind::NotFound => continue,
                Err(err) => return Err(err),
            };
            let mut header = [0; HEADER];
            match file.read_exact_at(&mut header, 0) {
                Err(err) if err.kind() != ErrorKind::UnexpectedEof => return Err(err),
                _ => {}
            }
            // What is not whole was left by a disk that was full, or by a power cut.
            if let Some(layout) = Layout::read(&header, file.metadata()?.len()) {
                return Ok(Some(Self { file, layout }));
            }
        }
        Ok(None)
    }

    /// The bytes that are kept, and the bytes that there were.
    #[must_use]
    pub const fn sizes(&self) -> (u64, u64) {
        let Layout { capacity, kept, total } = self.layout;
        (if kept < capacity { kept } else { capacity }, total)
    }

    /// Hands it over in order, piece by piece; where bytes are missing, a line that says how many. What the command prints
    /// meanwhile may show in what is read of the ring.
    ///
    /// # Errors
    /// When it cannot be read, and when `take` fails.
    pub fn read(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (layout, tail) = (self.layout, self.layout.tail());
        let head = layout.head().min(layout.kept);
        self.read_range(0, head, &mut take)?;
        if tail > head {
            take(output::marker(tail - head).as_bytes())?;
        }
        self.read_range(tail, layout.kept, &mut take)?;
        if layout.total > layout.kept {
            take(output::marker(layout.total - layout.kept).as_bytes())?;
        }
        Ok(())
    }

    fn read_range(&self, from: u64, to: u64, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut position = from;
        while position < to {
            let (offset, room) = self.layout.place(position);
            let wanted = usize::try_from(room.min(to - position)).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_exact_at(&mut buffer[..wanted], offset)?;
            take(&buffer[..wanted])?;
            position += wanted as u64;
        }
        Ok(())
    }
}

fn kept_of(state: &Path, key: ActionKey) -> PathBuf {
    state.join("output").join(run::name(key))
}

#[cfg(test)]
mod tests;
