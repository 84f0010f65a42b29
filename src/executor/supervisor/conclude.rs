//! The handing-over of the end record: to a handler whose ledger takes it, or to the disk.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::crash;
use crate::executor::record::{self, Record};
use crate::executor::run;

use super::{GOES_ON, IS_LAST};

/// How long a handler may take to say that its ledger holds the result.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// How often a record that nobody takes and that the disk does not take either is offered again.
const OFFER_EVERY: Duration = Duration::from_secs(1);

/// Finds a handler whose ledger takes the record, or makes it durable here. At shutdown each is tried once more. Gives the
/// handler back that gave the order, if it took the record and this process `goes_on`.
pub(super) fn conclude(
    record: &Record,
    mut handler: Option<UnixStream>,
    goes_on: bool,
    stop: &UnixStream,
) -> io::Result<Option<UnixStream>> {
    let mut bytes = record.encode();
    // The one that gave the order; if that is gone, another one may wait.
    if let Some(mut handler) = handler.take() {
        bytes.push(if goes_on { GOES_ON } else { IS_LAST });
        let taken = took(&mut handler, &bytes, false);
        bytes.pop();
        if taken.is_ok() {
            crash::point("supervisor-told");
            return Ok(Some(handler).filter(|_| goes_on));
        }
    }
    loop {
        if a_handler_took(&bytes) {
            crash::point("supervisor-told");
            return Ok(None);
        }
        crash::point("supervisor-refused");
        let written = match write_record(&bytes) {
            // The run directory is gone: a handler that died before it could answer had taken the record, and another
            // one has reported it.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            written => written,
        };
        let mut fds = [PollFd::new(stop, PollFlags::IN)];
        // No sleep where it was written; else until there may be room again, or the machine goes down.
        if written.is_ok() || poll(&mut fds, Timespec::try_from(OFFER_EVERY).ok().as_ref()).is_ok_and(|ready| ready > 0)
        {
            return written.map(|()| None);
        }
    }
}

/// Offers the record to another handler that waits for this run.
fn a_handler_took(record: &[u8]) -> bool {
    UnixStream::connect(run::SOCKET).and_then(|mut handler| took(&mut handler, record, true)).is_ok()
}

/// Hands the record over, and waits until the handler's ledger holds it.
fn took(handler: &mut UnixStream, record: &[u8], is_all: bool) -> io::Result<()> {
    handler.set_write_timeout(Some(RECORDED_WITHIN))?;
    handler.set_read_timeout(Some(RECORDED_WITHIN))?;
    handler.write_all(record)?;
    if is_all {
        handler.shutdown(Shutdown::Write)?;
    }
    crash::point("supervisor-offered");
    handler.read_exact(&mut [0])?;
    handler.set_read_timeout(None)
}

/// Writes the record, whole or not at all, and syncs it.
fn write_record(record: &[u8]) -> io::Result<()> {
    let draft = format!("{}.new", record::FILE);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(record)?;
    crash::point("supervisor-drafted");
    file.sync_all()?;
    crash::point("supervisor-synced");
    fs::rename(&draft, record::FILE)?;
    crash::point("supervisor-recorded");
    // The names: the record's, the run directory's, and that of the directory of all runs.
    for directory in [".", "..", "../.."] {
        File::open(directory)?.sync_all()?;
    }
    crash::point("supervisor-kept");
    Ok(())
}
