//! A longer way to the collector: a TCP forwarder that holds everything back for half a round trip in each direction. What
//! follows closely arrives closely: it is a line, not a queue with one place. The handshake of TCP ends at the forwarder, so
//! the first bytes of a connection are held back for the round trip that it would have taken.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Listens on a port of its own and forwards to `to`. It never stops.
pub(crate) fn start(to: SocketAddr, round_trip: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            // Whoever hangs up is noticed by the pump that reads from him.
            let _ = forward(&near, &far, round_trip / 2, round_trip);
            let _ = forward(&far, &near, round_trip / 2, Duration::ZERO);
        }
    });
    Ok(address)
}

fn forward(from: &TcpStream, to: &TcpStream, delay: Duration, first: Duration) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    to.set_nodelay(true)?;
    let (line, end) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // TCP lets nothing overtake: what follows the first bytes is behind them.
        let mut not_before = Instant::now() + first;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            not_before = not_before.max(Instant::now());
            if line.send((not_before + delay, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
        let _ = line.send((not_before.max(Instant::now()) + delay, Vec::new()));
    });
    thread::spawn(move || {
        for (when, data) in end {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            if data.is_empty() || to.write_all(&data).is_err() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
    Ok(())
}
