//! What the actions run in `process`: as little as possible. Its arguments come as `om` gets them, `node WORDS`.
//!
//! * `noop` ends at once;
//! * `stamp SOCKET` first sends the time to a datagram socket;
//! * `block SOCKET FIFO` first sends its parent's number there, and then waits until somebody opens the pipe for writing.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::parent_id;

use rustix::time::{ClockId, clock_gettime};

fn main() -> io::Result<()> {
    let now = clock_gettime(ClockId::Monotonic);
    let mut words = std::env::args().skip(2);
    match (words.next().as_deref(), words.next()) {
        (Some("stamp"), Some(socket)) => {
            tell(&socket, &(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).to_string())
        }
        (Some("block"), Some(socket)) => {
            tell(&socket, &parent_id().to_string())?;
            words.next().map_or(Ok(()), |fifo| File::open(fifo).map(drop))
        }
        _ => Ok(()),
    }
}

fn tell(socket: &str, what: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(what.as_bytes(), socket).map(drop)
}
