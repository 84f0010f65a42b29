//! A connection to the service manager over D-Bus: opened for one call or two and closed again.
//!
//! Kept open it would fill: the manager tells every private connection of every unit that changes, and holds back in its
//! own memory what nobody reads. Opening one takes a fraction of a millisecond.
//!
//! Why not a library: the one that is well kept, zbus 5.13, adds 718,472 bytes to this program, which is to stay below
//! 5 MiB; rustbus 0.19 stands on releases of its dependencies from 2022; dbus-tokio needs a C library. What is
//! needed is one call with one descriptor.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, sendmsg, socket_with,
};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::{self, Call, Data, Incoming, Writer};

/// How long the manager may take to greet.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long it may take to answer: it does one thing after the other, and a busy machine gives it much to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How many messages for others may come before the answer.
const OTHERS: usize = 100_000;

/// The longest greeting.
const GREETING: usize = 4096;

/// What the bus says in the manager's place when that has got a call and has not answered it, as while it executes itself
/// anew. What became of the call nobody knows.
const UNANSWERED: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",
];

/// Why a call has brought no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It never reached the manager.
    #[error("cannot reach the service manager: {0}")]
    Unreachable(io::Error),
    /// The manager has refused it.
    #[error("the service manager refuses: {text} ({name})")]
    Refused {
        /// The error's name.
        name: String,
        /// What it says.
        text: String,
    },
    /// It was sent, and nobody knows what became of it.
    #[error("the service manager has not answered: {0}")]
    Unanswered(io::Error),
}

/// A place where the manager listens.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Others are there as well, and it wants to be greeted.
    shared: bool,
}

/// Where the manager can be called: its own socket, where root may and `systemctl` does, and which needs no bus daemon;
/// else the bus of the system.
#[derive(Clone, Debug)]
pub(super) struct Bus([Place; 2]);

impl Default for Bus {
    fn default() -> Self {
        let place = |path: &str, shared| Place { path: path.into(), shared };
        Self([place("/run/systemd/private", false), place("/run/dbus/system_bus_socket", true)])
    }
}

impl Bus {
    /// A manager that listens elsewhere.
    pub(super) fn at(private: &Path, system: &Path) -> Self {
        Self([Place { path: private.into(), shared: false }, Place { path: system.into(), shared: true }])
    }

    /// Whether somebody listens there whom this process may call.
    ///
    /// # Errors
    /// When not: what the last place said.
    pub(super) fn look(&self) -> io::Result<()> {
        let mut last = None;
        for place in &self.0 {
            match look_at(&place.path) {
                Ok(()) => return Ok(()),
                Err(err) => last = Some(about(&place.path, &err)),
            }
        }
        Err(last.unwrap_or_else(|| ErrorKind::NotFound.into()))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) async fn open(&self) -> Result<Connection, CallError> {
        self.open_within(OPEN_WITHIN).await
    }

    /// The same where each place has so long to greet: behind both is the one manager.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) async fn open_within(&self, patience: Duration) -> Result<Connection, CallError> {
        let mut last = None;
        for place in &self.0 {
            let opened = timeout(patience, Connection::open(place)).await;
            match opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                Ok(connection) => return Ok(connection),
                Err(err) => last = Some(about(&place.path, &err)),
            }
        }
        Err(CallError::Unreachable(last.unwrap_or_else(|| ErrorKind::NotFound.into())))
    }
}

fn about(path: &Path, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}

fn look_at(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // Its queue is full, but it is there.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// What has come and was not read yet.
    received: Vec<u8>,
    /// The last answer, whole.
    last: Vec<u8>,
    serial: u32,
}

impl Connection {
    async fn open(place: &Place) -> io::Result<Self> {
        let stream = UnixStream::connect(&place.path).await?;
        let mut connection = Self { stream, received: Vec::new(), last: Vec::new(), serial: 0 };
        connection.authenticate().await?;
        if place.shared {
            let hello = Call {
                destination: "org.freedesktop.DBus",
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "Hello",
                signature: "",
            };
            connection.call(&hello, &Writer::default(), None).await.map_err(io::Error::other)?;
        }
        Ok(connection)
    }

    /// The kernel tells who we are; all lines go at once, as libsystemd sends them.
    async fn authenticate(&mut self) -> io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.chars().flat_map(|digit| ['3', digit]).collect();
        let lines = format!("\0AUTH EXTERNAL {hex}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        self.send(lines.as_bytes(), None).await?;
        for expected in ["OK ", "AGREE_UNIX_FD"] {
            let line = self.line().await?;
            if !line.starts_with(expected) {
                return Err(io::Error::new(ErrorKind::PermissionDenied, format!("it says {line:?}")));
            }
        }
        Ok(())
    }

    /// Calls a method, and waits for the answer: the text that it returns, if it does. With it goes a descriptor.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call(
        &mut self,
        call: &Call<'_>,
        arguments: &Writer,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Option<String>, CallError> {
        self.call_within(ANSWER_WITHIN, call, arguments, descriptor).await
    }

    /// The same where the manager has so long to answer. Who gives up and closes the connection takes a call back that it
    /// has not come to yet, or perhaps not.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call_within(
        &mut self,
        patience: Duration,
        call: &Call<'_>,
        arguments: &Writer,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Option<String>, CallError> {
        self.serial += 1;
        let message = call.encode(self.serial, arguments, u32::from(descriptor.is_some()));
        // A message that is not whole is none.
        self.send(&message, descriptor).await.map_err(CallError::Unreachable)?;
        match timeout(patience, self.answer()).await {
            Ok(Ok(Incoming::Failed { name, text, .. })) if UNANSWERED.contains(&name.as_str()) => {
                Err(CallError::Unanswered(io::Error::other(text.unwrap_or(name))))
            }
            Ok(Ok(Incoming::Failed { name, text, .. })) => {
                Err(CallError::Refused { name, text: text.unwrap_or_default() })
            }
            Ok(Ok(Incoming::Returned { text, .. })) => Ok(text),
            Ok(Ok(Incoming::Other)) => Err(CallError::Unanswered(ErrorKind::InvalidData.into())),
            Ok(Err(err)) => Err(CallError::Unanswered(err)),
            Err(_) => Err(CallError::Unanswered(ErrorKind::TimedOut.into())),
        }
    }

    /// The names and values that the last call has returned.
    ///
    /// # Errors
    /// When it has returned something else.
    pub(super) fn properties(&self) -> io::Result<BTreeMap<String, Data>> {
        message::properties(&self.last)
    }

    /// Sends all of it, a descriptor with the first byte.
    async fn send(&self, mut bytes: &[u8], mut descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        while !bytes.is_empty() {
            let descriptors: Vec<_> = descriptor.into_iter().collect();
            let sent = self.stream.async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(&descriptors));
                }
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(sendmsg(self.stream.as_fd(), &[IoSlice::new(bytes)], &mut control, flags)?)
            });
            bytes = &bytes[sent.await?..];
            descriptor = None;
        }
        Ok(())
    }

    /// The answer to the last call.
    async fn answer(&mut self) -> io::Result<Incoming> {
        for _ in 0..OTHERS {
            self.receive(message::FIXED).await?;
            let fixed = self.received.first_chunk().ok_or(ErrorKind::UnexpectedEof)?;
            let length = message::whole_length(fixed)?;
            self.receive(length).await?;
            self.last = self.received.drain(..length).collect();
            let incoming = Incoming::decode(&self.last)?;
            match incoming {
                Incoming::Returned { to, .. } | Incoming::Failed { to, .. } if to == self.serial => {
                    return Ok(incoming);
                }
                _ => {}
            }
        }
        Err(io::Error::new(ErrorKind::InvalidData, "it sends everything but an answer"))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + 2);
                return Ok(line);
            }
            if self.received.len() > GREETING {
                return Err(io::Error::new(ErrorKind::InvalidData, "its greeting has no end"));
            }
            let length = self.received.len();
            self.receive(length + 1).await?;
        }
    }

    /// Reads until at least so many bytes are there.
    async fn receive(&mut self, length: usize) -> io::Result<()> {
        while self.received.len() < length {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread::{self, JoinHandle};

    use rustix::fs::{FlockOperation, flock};
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    const CALL: Call<'_> = Call { destination: "d", path: "/", interface: "i.i", member: "M", signature: "" };

    /// Greets one client as the manager does, takes one message, answers with `answer`, and closes.
    fn manager(listener: UnixListener, greeting: &'static [u8], answer: Vec<u8>) -> JoinHandle<Option<OwnedFd>> {
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut lines = Vec::new();
            while !lines.ends_with(b"BEGIN\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                lines.extend_from_slice(&byte);
            }
            assert!(lines.starts_with(b"\0AUTH EXTERNAL 3"), "{lines:?}");
            client.write_all(greeting).unwrap();
            let descriptor = take(&client);
            client.write_all(&answer).unwrap();
            descriptor
        })
    }

    fn take(client: &UnixStream) -> Option<OwnedFd> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(client, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
    }

    const GREETING: &[u8] = b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n";

    /// An empty return of the call with this serial.
    fn returned(serial: u8) -> Vec<u8> {
        vec![b'l', 2, 1, 1, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 5, 1, b'u', 0, serial, 0, 0, 0]
    }

    /// The error of this name, in answer to the call with this serial.
    fn failed(serial: u8, name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        let head = [b'l', 3, 1, 1, 0, 0, 0, 0, 9, 0, 0, 0, length + 17, 0, 0, 0];
        let fields = [5, 1, b'u', 0, serial, 0, 0, 0, 4, 1, b's', 0, length, 0, 0, 0];
        let mut message = [&head[..], &fields, name.as_bytes(), &[0]].concat();
        message.resize(message.len().next_multiple_of(8), 0);
        message
    }

    fn places() -> (tempfile::TempDir, Bus, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (private, system) = (dir.path().join("private"), dir.path().join("system"));
        let bus = Bus::at(&private, &system);
        (dir, bus, private, system)
    }

    #[tokio::test]
    async fn a_lock_goes_with_its_descriptor_and_is_free_once_the_other_side_closes_it() {
        let (dir, bus, private, _) = places();
        let manager = manager(UnixListener::bind(private).unwrap(), GREETING, [returned(7), returned(1)].concat());
        let path = dir.path().join("claim");
        let claim = File::create(&path).unwrap();
        flock(&claim, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut connection = bus.open().await.unwrap();
        assert_eq!(connection.call(&CALL, &Writer::default(), Some(claim.as_fd())).await.unwrap(), None);
        drop(claim);
        let other = File::open(&path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockShared).is_err(), "nobody holds it");
        drop(manager.join().unwrap());
        flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_no_refusal() {
        let (_dir, bus, private, _) = places();
        for answer in [Vec::new(), returned(1)[..20].to_vec(), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
            let _ = std::fs::remove_file(&private);
            let manager = manager(UnixListener::bind(&private).unwrap(), GREETING, answer);
            let mut connection = bus.open().await.unwrap();
            let err = connection.call(&CALL, &Writer::default(), None).await.unwrap_err();
            assert!(matches!(err, CallError::Unanswered(_)), "{err}");
            manager.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_bus_that_answers_for_a_manager_that_is_gone_has_not_refused_anything() {
        let (_dir, bus, private, _) = places();
        for (name, refused) in UNANSWERED
            .map(|name| (name, false))
            .into_iter()
            .chain([("org.freedesktop.DBus.Error.ServiceUnknown", true), ("org.freedesktop.systemd1.UnitExists", true)])
        {
            let _ = std::fs::remove_file(&private);
            let manager = manager(UnixListener::bind(&private).unwrap(), GREETING, failed(1, name));
            let mut connection = bus.open().await.unwrap();
            let err = connection.call(&CALL, &Writer::default(), None).await.unwrap_err();
            assert_eq!(matches!(err, CallError::Refused { .. }), refused, "{err}");
            assert!(refused || matches!(err, CallError::Unanswered(_)), "{err}");
            manager.join().unwrap();
        }
    }

    #[tokio::test]
    async fn without_the_managers_own_socket_the_system_bus_is_greeted_and_used() {
        let (_dir, bus, _, system) = places();
        let manager = manager(UnixListener::bind(system).unwrap(), GREETING, returned(1));
        bus.open().await.unwrap();
        manager.join().unwrap();
    }

    #[tokio::test]
    async fn who_is_sent_away_or_finds_nobody_has_called_nobody() {
        let (_dir, bus, private, system) = places();
        bus.look().unwrap_err();
        let err = bus.open().await.unwrap_err();
        assert!(matches!(&err, CallError::Unreachable(_)) && err.to_string().contains("system"), "{err}");
        let places = [private, system].map(|path| UnixListener::bind(path).unwrap());
        bus.look().unwrap();
        drop(places[0].accept().unwrap());
        let managers = places.map(|place| {
            thread::spawn(move || {
                let (mut client, _) = place.accept().unwrap();
                let mut bytes = [0; 64];
                let _ = client.read(&mut bytes).unwrap();
                client.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
            })
        });
        let err = bus.open().await.unwrap_err();
        assert!(err.to_string().contains("REJECTED"), "{err}");
        for manager in managers {
            manager.join().unwrap();
        }
    }
}
