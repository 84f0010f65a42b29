//! An in-memory collector over real TLS that speaks every wire, registers nodes, fails on request, and remembers
//! everything.

mod exchange;
pub(crate) mod fault;
mod http;
mod json;
mod oc3;
pub(crate) mod register;
mod rpc;
mod serve;
pub(crate) mod state;
mod value;
mod xml;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::pki::{Flaw, Pki};
use super::{DEADLINE, Dialect, Wire};
use fault::{Call, Fault, Planned, When};
use register::Registered;
use state::{Event, Row, State};

/// A running collector; it goes with its value.
pub(crate) struct Collector {
    /// Keeps the port ours while nobody listens on it.
    _reservation: OwnedFd,
    address: SocketAddr,
    pki: Option<Pki>,
    shared: Arc<Shared>,
}

/// What the threads of a collector have in common.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        done
    }
}

impl Collector {
    /// Starts one with a good certificate.
    pub(crate) fn start() -> Self {
        Self::with_flaw(Flaw::None)
    }

    /// Starts one whose certificate has a flaw.
    pub(crate) fn with_flaw(flaw: Flaw) -> Self {
        Self::launch(Some(Pki::new(flaw)))
    }

    /// Starts one without TLS.
    pub(crate) fn plain() -> Self {
        Self::launch(None)
    }

    fn launch(pki: Option<Pki>) -> Self {
        let reservation = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        sockopt::set_socket_reuseaddr(&reservation, true).unwrap();
        bind(&reservation, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = rustix::net::getsockname(&reservation).unwrap().try_into().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let collector = Self { _reservation: reservation, address, pki, shared };
        collector.up();
        collector
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The authority that nodes are told to trust.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.pki.as_ref().map(|pki| pki.ca_pem.as_str())
    }

    /// Closes the port and every connection.
    pub(crate) fn down(&self) {
        self.shared.change(|state| {
            state.listening += 1;
            for (_, socket) in state.sockets.drain(..) {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        });
        // Wakes the thread that accepts, which sees that it is not wanted any more and lets go of the port.
        let _ = TcpStream::connect(self.address);
        self.wait_until("the port to be closed", |state| !state.accepting);
    }

    /// Ends every connection, as servers do with idle ones; the port stays open.
    pub(crate) fn cut(&self) {
        self.shared.change(|state| {
            for (_, socket) in &state.sockets {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        });
    }

    /// Opens the port, at first and after [`Self::down`].
    pub(crate) fn up(&self) {
        let deadline = Instant::now() + DEADLINE;
        let listener = loop {
            match TcpListener::bind(self.address) {
                // A process that another test is about to start holds our last one until it executes its program.
                Err(err) if err.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => thread::yield_now(),
                listener => break listener.unwrap(),
            }
        };
        let generation = self.shared.change(|state| {
            state.accepting = true;
            state.listening
        });
        let (shared, tls) = (Arc::clone(&self.shared), self.pki.as_ref().map(|pki| Arc::clone(&pki.server)));
        thread::spawn(move || {
            loop {
                let accepted = listener.accept();
                if shared.state().listening != generation {
                    break;
                }
                if let Ok((stream, _)) = accepted {
                    let (shared, tls) = (Arc::clone(&shared), tls.clone());
                    thread::spawn(move || serve::connection(&shared, stream, tls));
                }
            }
            drop(listener);
            shared.change(|state| state.accepting = false);
        });
    }

    /// Queues a node action and returns its id. The command is preceded by a tag (`%oc3:601`) by which the fake `om` is
    /// known to have run just this one.
    pub(crate) fn enqueue(&self, dialect: Dialect, command: &str) -> i64 {
        self.add(Row::new(dialect, command))
    }

    /// Queues an action of a service.
    pub(crate) fn enqueue_for(&self, dialect: Dialect, service: &str, command: &str) -> i64 {
        self.add(Row::new(dialect, command).service(service))
    }

    /// Queues a row as it is, but for its id (if it has none) and the tag of its command.
    pub(crate) fn add(&self, row: Row) -> i64 {
        self.shared.change(|state| state.add(row))
    }

    /// What an operator does to have it run again.
    pub(crate) fn redo(&self, id: i64) {
        self.shared.change(|state| {
            let row = state.row_mut(id);
            assert!(!matches!(row.status, 'R' | 'W'), "the real collector refuses to redo {id} in {}", row.status);
            row.status = 'W';
            row.generation += 1;
        });
    }

    /// What an operator does to have it not run.
    pub(crate) fn cancel(&self, id: i64) {
        self.shared.change(|state| state.row_mut(id).status = 'C');
    }

    /// The collector remembers the row as it was when it was handed out: its answers were lost, or its database is
    /// from yesterday.
    pub(crate) fn set_status(&self, id: i64, status: char) {
        self.shared.change(|state| state.row_mut(id).status = status);
    }

    /// The row is as it was before it was ever handed out: the database is from yesterday.
    pub(crate) fn restore(&self, id: i64) {
        self.shared.change(|state| {
            let row = state.row_mut(id);
            (row.status, row.ret, row.stdout, row.stderr) = ('N', None, None, None);
        });
    }

    /// From now on the row is older than the time in which a sent row is not sent again.
    pub(crate) fn age(&self, id: i64) {
        self.shared.change(|state| state.row_mut(id).old = true);
    }

    /// From now on the row is in the next answer, whatever its letter.
    pub(crate) fn send_once_more(&self, id: i64) {
        self.shared.change(|state| state.row_mut(id).send_once_more = true);
    }

    pub(crate) fn row(&self, id: i64) -> Row {
        self.shared.state().row_mut(id).clone()
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.shared.state().rows.clone()
    }

    /// The collector as it was at another moment: these rows, and nothing has happened.
    #[allow(dead_code, reason = "not every test binary goes back in time")]
    pub(crate) fn go_back_to(&self, rows: Vec<Row>) {
        self.shared.change(|state| {
            state.rows = rows;
            state.forget_events();
        });
    }

    /// From now on it is one of those that know only the first version of the fetch, and no acknowledgement.
    pub(crate) fn become_old(&self) {
        self.shared.change(|state| state.is_old = true);
    }

    /// What its clock shows from now on: the header `Date` of its answers.
    #[allow(dead_code, reason = "not every test binary looks at clocks")]
    pub(crate) fn tell_the_time(&self, date: &str) {
        self.shared.change(|state| state.date = Some(date.to_owned()));
    }

    /// Plans a failure.
    pub(crate) fn fail(&self, call: Call, when: When, fault: Fault) {
        self.shared.change(|state| state.faults.push(Planned { call, when, fault }));
    }

    /// Ends all planned failures, and lets everything go on that is stalled.
    pub(crate) fn heal(&self) {
        self.shared.change(|state| state.faults.clear());
        self.release();
    }

    /// Lets everything go on that is stalled now.
    pub(crate) fn release(&self) {
        self.shared.change(|state| state.releases += 1);
    }

    /// Everything that happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.state().events.clone()
    }

    /// How many exchanges of a kind there were.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.shared.state().count(call)
    }

    /// Waits for so many exchanges of a kind.
    pub(crate) fn wait_for_count(&self, call: Call, count: usize) {
        self.wait_until(&format!("{count} × {call:?}"), |state| state.count(call) >= count);
    }

    /// Waits for a result to be accepted, and returns the row.
    pub(crate) fn wait_for_result(&self, id: i64) -> Row {
        self.wait_until(&format!("the result of {id}"), |state| state.row_mut(id).status == 'T');
        self.row(id)
    }

    /// Waits until a row has this status.
    pub(crate) fn wait_for_status(&self, id: i64, status: char) {
        self.wait_until(&format!("{status} as the status of {id}"), |state| state.row_mut(id).status == status);
    }

    fn wait_until(&self, what: &str, enough: impl Fn(&mut State) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.shared.state();
        while !enough(&mut state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; the collector saw:\n{}", state.told());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.change(|state| state.gone = true);
        if thread::panicking() {
            eprintln!("The collector at {} saw:\n{}", self.address, self.shared.state().told());
        }
        if self.shared.state().accepting {
            self.shared.change(|state| {
                state.listening += 1;
                for (_, socket) in state.sockets.drain(..) {
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }
            });
            let _ = TcpStream::connect(self.address);
        }
    }
}

/// Who is registered.
#[allow(dead_code, reason = "not every test binary registers nodes")]
impl Collector {
    /// Whether nodes may register themselves (`refuse_anon_register` of 2.x, `allow_anon_register` of oc3). At first not.
    pub(crate) fn allow_anonymous(&self, allow: bool) {
        self.shared.change(|state| state.registry.allows_anonymous = allow);
    }

    /// Registers a node, beside those that there are.
    pub(crate) fn register(&self, name: &str, uuid: &str) {
        self.shared.change(|state| state.registry.add(name, uuid, None));
    }

    /// Forgets a node, even the one that is known from the start.
    pub(crate) fn unregister(&self, name: &str) {
        self.shared.change(|state| state.registry.nodes.retain(|node| node.name != name));
    }

    /// The nodes of a name: one for each application it was registered with.
    pub(crate) fn registered(&self, name: &str) -> Vec<Registered> {
        let state = self.shared.state();
        state.registry.nodes.iter().filter(|node| node.name == name).cloned().collect()
    }

    /// Queues a node action as a real collector does: a feed row for a feed node, a pull row for any other.
    pub(crate) fn enqueue_for_node(&self, name: &str, command: &str) -> i64 {
        let is_feed = self.registered(name).iter().any(|node| node.is_feed);
        self.enqueue(if is_feed { Dialect::Oc3 } else { Dialect::Rpc }, command)
    }

    /// Over which wires so far something was asked.
    pub(crate) fn wires(&self) -> BTreeSet<Wire> {
        let wire = |event: &Event| if let Event::Asked { wire, .. } = event { *wire } else { None };
        self.shared.state().events.iter().filter_map(wire).collect()
    }
}

/// Ends a connection so that the peer sees a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO))?)
}
