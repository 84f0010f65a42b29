//! Notifications: connections that say "there is something in your queue".
//!
//! Any connection from an allowed sender counts, whatever it carries: the original notifier sends the 15 bytes
//! `dequeue_actions`, a port probe sends none. What is sent is read with a bound in size and time, so that a polite
//! sender is not reset, and thrown away; nothing is answered. A connection counts when it is accepted: no work waits
//! for a slow sender.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Network;
use crate::wake::activation::Activation;
use crate::wake::lock::WakeFiles;
use crate::wake::protocol::Seen;

/// A listening socket counts as idle when nobody has knocked for this long. A handler that ended at once would be
/// started again for each knock of a burst, and systemd closes a port that is triggered too often.
pub const QUIET: Duration = Duration::from_millis(250);

/// How long senders that do not count can keep a handler from ending.
const RESTLESS: Duration = Duration::from_secs(2);

/// How long a sender may take to send what it wants to say.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many bytes of it are read. The rest is the sender's loss.
const PAYLOAD_LIMIT: usize = 4096;

/// How many senders may be waited for at once; the oldest has to go when there are more.
const WAITING_LIMIT: usize = 128;

/// The notifications that were seen so far, shared between the one who accepts and the one who works.
#[derive(Debug, Default)]
pub struct Rings {
    count: Cell<u64>,
    ignored: Cell<u64>,
    taken: Cell<u64>,
    rung: Notify,
    mark: Option<WakeFiles>,
}

impl Rings {
    /// Each notification sets the mark as soon as it is accepted: nobody else knows of it from then on.
    #[must_use]
    pub fn marking(mark: Option<WakeFiles>) -> Self {
        Self { mark, ..Self::default() }
    }

    fn ring(&self) {
        if let Some(Err(err)) = self.mark.as_ref().map(WakeFiles::set_mark_of_notification) {
            tracing::debug!("a notification that only this process remembers: {err}");
        }
        self.count.set(self.count.get() + 1);
        self.rung.notify_waiters();
    }

    fn ignore(&self) {
        self.ignored.set(self.ignored.get() + 1);
        self.rung.notify_waiters();
    }

    /// Notifications so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Connections of senders that do not count, so far.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored.get()
    }

    /// Waits for the first connection, of whatever sender, but no longer than [`QUIET`]: it may have gone away again.
    pub async fn first(&self) -> Seen {
        if self.count.get() + self.ignored.get() == 0 {
            tokio::select! { () = self.rung.notified() => {}, () = sleep(QUIET) => {} }
        }
        match (self.count.get(), self.ignored.get()) {
            (0, 0) => Seen::Quiet,
            (0, _) => Seen::Ignored,
            _ => Seen::Rung,
        }
    }

    /// Whether there was a notification since the last call.
    pub fn take(&self) -> bool {
        self.taken.replace(self.count.get()) != self.count.get()
    }

    /// Waits for a notification, but no longer than until nobody has knocked for [`QUIET`]: `Rung` when one came since
    /// the last [`Self::take`]; it is not taken. Senders that do not count are bounded: meanwhile nobody looks at the
    /// mark.
    pub async fn linger(&self) -> Seen {
        let latest = Instant::now() + RESTLESS;
        while self.taken.get() == self.count.get() {
            let quiet = latest.min(Instant::now() + QUIET);
            tokio::select! { () = self.rung.notified() => {}, () = sleep_until(quiet) => return self.seen() }
        }
        self.seen()
    }

    fn seen(&self) -> Seen {
        if self.taken.get() == self.count.get() { Seen::Quiet } else { Seen::Rung }
    }

    /// Lets everybody knock in vain until it is quiet: for a run that has failed. A socket that is left with somebody
    /// waiting starts this program again at once, and systemd closes a port that does so for long.
    pub async fn hush(&self) {
        while self.linger().await == Seen::Rung {
            self.take();
        }
    }
}

/// The sockets on which notifications arrive.
#[derive(Debug)]
pub struct Doorbell {
    listeners: Vec<TcpListener>,
    knocked: bool,
    waiting: VecDeque<Sender>,
}

#[derive(Debug)]
struct Sender {
    stream: TcpStream,
    until: Instant,
    left: usize,
}

impl Doorbell {
    /// Takes over the sockets of `activation`; its connections count in `rings` if their senders are allowed. Call it
    /// inside a runtime.
    ///
    /// # Errors
    /// When a socket cannot be watched.
    pub fn new(activation: Activation, allow: &[Network], rings: &Rings) -> io::Result<Self> {
        let mut doorbell = Self { listeners: Vec::new(), knocked: false, waiting: VecDeque::new() };
        for listener in activation.listeners {
            doorbell.knocked |= poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&Timespec::default()))? > 0;
            listener.set_nonblocking(true)?;
            doorbell.listeners.push(TcpListener::from_std(listener)?);
        }
        for connection in activation.connections {
            connection.set_nonblocking(true)?;
            // A sender without an address is a local one: the other end of a socket pair.
            let allowed = connection.peer_addr().map_or(true, |peer| is_allowed(allow, peer.ip()));
            if allowed {
                rings.ring();
            } else {
                rings.ignore();
            }
            doorbell.hold(TcpStream::from_std(connection)?);
        }
        Ok(doorbell)
    }

    /// Whether notifications can still arrive.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Whether somebody waited on a listening socket when this process started.
    #[must_use]
    pub fn was_knocked_at(&self) -> bool {
        self.knocked
    }

    /// Accepts for ever, counting the notifications of allowed senders in `rings`.
    pub async fn watch(&mut self, allow: &[Network], rings: &Rings) -> Infallible {
        loop {
            let next_sweep = self.waiting.front().map(|sender| sender.until);
            tokio::select! {
                accepted = accept_any(&self.listeners) => match accepted {
                    Ok((stream, peer)) => {
                        if is_allowed(allow, peer.ip()) {
                            rings.ring();
                            self.hold(stream);
                        } else {
                            rings.ignore();
                        }
                    }
                    Err(err) => {
                        // Out of descriptors, most likely: make room, and do not spin.
                        tracing::debug!("cannot accept a notification: {err}");
                        self.waiting.clear();
                        sleep(Duration::from_millis(10)).await;
                    }
                },
                () = sleep_until(next_sweep.unwrap_or_else(Instant::now)), if next_sweep.is_some() => self.sweep(),
            }
        }
    }

    /// Waits until every connection that this process was started with has said what it wants, or was too slow.
    pub async fn hear_out(&mut self) {
        while let Some(until) = self.waiting.front().map(|sender| sender.until) {
            let pause = sleep(Duration::from_millis(5));
            tokio::select! { () = pause => {}, () = sleep_until(until) => {} }
            self.waiting.retain_mut(|sender| !sender.has_finished());
            self.sweep();
        }
    }

    fn hold(&mut self, stream: TcpStream) {
        let mut sender = Sender { stream, until: Instant::now() + PATIENCE, left: PAYLOAD_LIMIT };
        if sender.has_finished() {
            return;
        }
        if self.waiting.len() == WAITING_LIMIT {
            self.waiting.retain_mut(|sender| !sender.has_finished());
        }
        if self.waiting.len() == WAITING_LIMIT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(sender);
    }

    /// Lets go of the senders whose time is over.
    fn sweep(&mut self) {
        let now = Instant::now();
        self.waiting.retain_mut(|sender| sender.until > now && !sender.has_finished());
    }
}

impl Sender {
    /// Reads what is there. True when there is nothing more to wait for.
    fn has_finished(&mut self) -> bool {
        let mut buffer = [0; 512];
        while self.left > 0 {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => self.left = self.left.saturating_sub(n),
                Err(err) => return err.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn is_allowed(allow: &[Network], sender: IpAddr) -> bool {
    let allowed = allow.is_empty() || allow.iter().any(|network| network.contains(sender));
    if !allowed {
        tracing::debug!("a notification of {sender} does not count: wake.allow");
    }
    allowed
}

/// Accepts from whichever socket has somebody waiting; waits for ever where there is no socket.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}
