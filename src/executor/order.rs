//! The order to a supervisor: which run is its.
//!
//! A supervisor that this program starts itself may be started before anybody knows of what: the time that a process takes
//! to come to life then passes beside the handler's own work. Its standard input is a socket, over which the order comes
//! once the ledger says "started": two descriptors, the run directory and the claim in it, whose lock goes with it. On the
//! same connection the record comes back, and the next order may follow. Whoever is the main process of a unit stands in the run directory from the
//! beginning, with the claim as its standard input.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::fchdir;

/// What goes with the two descriptors: a message must not be empty.
const RUN: &[u8] = b"R";

/// Which run a supervisor is to see to. It stands in its directory.
pub(super) struct Order {
    /// The claim, held.
    pub(super) claim: File,
    /// The handler that gave the order, where it can be told of the end directly.
    pub(super) handler: Option<UnixStream>,
}

impl Order {
    /// Waits for the order of this process. `None`: the handler has no work for it after all, or is gone, or this process is
    /// told to `stop`. Standard input is `/dev/null` from then on: the command gets none of it.
    ///
    /// # Errors
    /// When this is no supervisor, or the order cannot be understood.
    pub(super) fn wait(stop: Option<&UnixStream>) -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        let kind = FileType::from_raw_mode(fstat(stdin.as_fd())?.st_mode);
        let given = fcntl_dupfd_cloexec(stdin.as_fd(), 3)?;
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        match kind {
            FileType::RegularFile => Ok(Some(Self { claim: File::from(given), handler: None })),
            FileType::Socket => Self::next(UnixStream::from(given), stop),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "there is no claim")),
        }
    }

    /// Waits for the next order of a handler. `None`: there is none, or this process is told to `stop`, which is not about
    /// a command that may come: another supervisor gets that.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(super) fn next(handler: UnixStream, stop: Option<&UnixStream>) -> io::Result<Option<Self>> {
        if let Some(stop) = stop {
            let mut ready = [PollFd::new(stop, PollFlags::IN), PollFd::new(&handler, PollFlags::IN)];
            while poll(&mut ready, None) == Err(Errno::INTR) {}
            if ready[0].revents().contains(PollFlags::IN) {
                return Ok(None);
            }
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0; RUN.len()];
        let received = loop {
            match recvmsg(&handler, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None), // it has gone with something unread
                received => break received?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = descriptors.next().into_iter().flatten();
        let (Some(run), Some(claim)) = (descriptors.next(), descriptors.next()) else {
            return Err(io::Error::new(ErrorKind::InvalidData, "an order without its descriptors"));
        };
        fchdir(&run)?;
        Ok(Some(Self { claim: File::from(claim), handler: Some(handler) }))
    }

    /// Gives one. What the supervisor gets of it, it gets whole.
    ///
    /// # Errors
    /// When the supervisor is gone: it got nothing.
    pub(super) fn give(supervisor: impl AsFd, run: &OwnedFd, claim: &File) -> io::Result<()> {
        let descriptors = [run.as_fd(), claim.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(supervisor, &[IoSlice::new(RUN)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
