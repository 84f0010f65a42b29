//! A wire between node and collector that is cut after so many bytes.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::net::connect_unspec;

/// Which way the bytes go that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// What the node sends.
    Out,
    /// What the collector answers.
    Back,
}

/// How it is cut, for both ends alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// In good order; the next connection is well again.
    End,
    /// By a reset; the next connection is well again.
    Reset,
    /// Nothing comes any more, and nobody says so; the next connection is well again.
    Silence,
    /// By a reset, and no other connection comes about until [`Cutter::mend`].
    Down,
}

/// After so many bytes one way, in all connections together. With none: at the connection, or before an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) way: Way,
    pub(crate) after: u64,
    pub(crate) how: How,
}

/// The wire; it goes with its value.
pub(crate) struct Cutter {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    cut: Option<Cut>,
    /// Out and back.
    passed: [u64; 2],
    is_cut: bool,
    is_down: bool,
    is_gone: bool,
    connections: Vec<Arc<Connection>>,
}

struct Connection {
    node: TcpStream,
    collector: TcpStream,
    /// What comes is read and goes nowhere.
    is_dead: AtomicBool,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cutter {
    /// A wire to this collector.
    pub(crate) fn to(port: u16, cut: Option<Cut>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            State { cut, passed: [0, 0], is_cut: false, is_down: false, is_gone: false, connections: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((node, _)) = listener.accept() {
                let (is_gone, is_down) = {
                    let state = lock(&shared);
                    (state.is_gone, state.is_down)
                };
                if is_gone {
                    return;
                } else if is_down {
                    let _ = connect_unspec(&node);
                } else if let Ok(collector) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    connect(&shared, node, collector);
                }
            }
        });
        Self { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many bytes have passed, out and back.
    pub(crate) fn passed(&self) -> [u64; 2] {
        lock(&self.state).passed
    }

    /// Whether it came to the cut.
    pub(crate) fn is_cut(&self) -> bool {
        lock(&self.state).is_cut
    }

    /// From here on everything passes.
    pub(crate) fn mend(&self) {
        let mut state = lock(&self.state);
        (state.cut, state.is_down) = (None, false);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let connections = {
            let mut state = lock(&self.state);
            state.is_gone = true;
            std::mem::take(&mut state.connections)
        };
        for connection in connections {
            let _ = connection.node.shutdown(Shutdown::Both);
            let _ = connection.collector.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(state: &Arc<Mutex<State>>, node: TcpStream, collector: TcpStream) {
    // What is small goes at once, as it came.
    let _ = (node.set_nodelay(true), collector.set_nodelay(true));
    let connection = Arc::new(Connection { node, collector, is_dead: AtomicBool::new(false) });
    {
        let mut state = lock(state);
        state.connections.push(Arc::clone(&connection));
        if let Some(cut) = state.cut.filter(|cut| cut.way == Way::Out && cut.after == 0 && !state.is_cut) {
            state.carry_out(cut, &connection);
        }
    }
    for way in [Way::Out, Way::Back] {
        let (state, connection) = (Arc::clone(state), Arc::clone(&connection));
        thread::spawn(move || carry(&state, &connection, way));
    }
}

/// Carries what comes one way until it ends.
fn carry(state: &Mutex<State>, connection: &Connection, way: Way) {
    let (mut from, mut to) = match way {
        Way::Out => (&connection.node, &connection.collector),
        Way::Back => (&connection.collector, &connection.node),
    };
    let mut buffer = [0; 16 << 10];
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => &buffer[..count],
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut state = lock(state);
        if connection.is_dead.load(Ordering::SeqCst) {
            continue;
        }
        let cut = state.cut.filter(|cut| cut.way == way && !state.is_cut);
        let passed = &mut state.passed[way as usize];
        let room = cut.map_or(usize::MAX, |cut| usize::try_from(cut.after - *passed).unwrap());
        let some = &bytes[..bytes.len().min(room)];
        *passed += some.len() as u64;
        let written = to.write_all(some);
        if let Some(cut) = cut.filter(|_| some.len() == room) {
            state.carry_out(cut, connection);
        } else if written.is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl State {
    fn carry_out(&mut self, cut: Cut, connection: &Connection) {
        self.is_cut = true;
        connection.is_dead.store(true, Ordering::SeqCst);
        for end in [&connection.node, &connection.collector] {
            match cut.how {
                How::End => drop(end.shutdown(Shutdown::Write)),
                How::Reset | How::Down => drop(connect_unspec(end)),
                How::Silence => {}
            }
        }
        self.is_down = cut.how == How::Down;
    }
}
