//! Who started us. One question to the kernel, `SO_ACCEPTCONN`, tells every way of being started apart; no launcher
//! flag and no variable is needed beyond `LISTEN_FDS` for descriptors other than 0.

use std::io::{self, IsTerminal as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use listenfd::ListenFd;
use rustix::fs::{self, OFlags};
use rustix::net::sockopt::socket_acceptconn;
use rustix::stdio;

/// What this process was given when it was started.
#[derive(Debug, Default)]
pub struct Activation {
    /// Listening sockets: systemd `Accept=no`, inetd `wait`.
    pub listeners: Vec<TcpListener>,
    /// Connected sockets: systemd `Accept=yes`, inetd `nowait`.
    pub connections: Vec<TcpStream>,
    /// A person sits in front of it.
    pub terminal: bool,
    /// Started by inetd or its like: a socket as standard input, and none passed on as systemd does.
    pub by_inetd: bool,
    /// Standard error was the peer's socket, and is `/dev/null` now.
    pub stderr_was_peer: bool,
}

impl Activation {
    /// Takes the inherited descriptors. Call it first thing: before any thread exists (it removes variables), and
    /// before anything can be printed, because under inetd descriptors 0, 1 and 2 are the peer's socket. Such ones are
    /// replaced by `/dev/null`, so that nothing is ever written to a peer.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated or `/dev/null` cannot be opened.
    pub fn take() -> io::Result<Self> {
        let mut activation = Self::default();
        let mut inherited = ListenFd::from_env();
        for index in 0..inherited.len() {
            // A descriptor that is not a TCP socket is somebody's mistake, not a notification: left alone.
            if let Ok(Some(socket)) = inherited.take_tcp_listener(index) {
                activation.adopt(socket.into());
            }
        }
        let stdin = io::stdin();
        if socket_acceptconn(stdin.as_fd()).is_ok() {
            if inherited.len() == 0 {
                activation.by_inetd = true;
                activation.adopt(stdin.as_fd().try_clone_to_owned()?);
            }
            activation.stderr_was_peer = detach_from_peer(stdin.as_fd())?;
        } else {
            activation.terminal = stdin.is_terminal();
        }
        Ok(activation)
    }

    /// The local TCP ports of these sockets: whoever holds them as well holds them for this program.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let listeners = self.listeners.iter().map(TcpListener::local_addr);
        let connections = self.connections.iter().map(TcpStream::local_addr);
        listeners.chain(connections).flatten().map(|address| address.port()).collect()
    }

    fn adopt(&mut self, socket: OwnedFd) {
        match socket_acceptconn(&socket) {
            Ok(true) => self.listeners.push(socket.into()),
            Ok(false) => self.connections.push(socket.into()),
            Err(_) => {}
        }
    }
}

/// Puts `/dev/null` in the place of every standard descriptor that is the same socket as standard input. Tells whether
/// standard error was one of them.
fn detach_from_peer(stdin: BorrowedFd<'_>) -> io::Result<bool> {
    let null = fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, fs::Mode::empty())?;
    let peer = fs::fstat(stdin)?;
    let is_peer =
        |fd: BorrowedFd<'_>| fs::fstat(fd).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (peer.st_dev, peer.st_ino));
    let stderr_was_peer = is_peer(io::stderr().as_fd());
    if is_peer(io::stdout().as_fd()) {
        stdio::dup2_stdout(&null)?;
    }
    if stderr_was_peer {
        stdio::dup2_stderr(&null)?;
    }
    stdio::dup2_stdin(&null)?;
    Ok(stderr_was_peer)
}
