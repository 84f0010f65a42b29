//! The floor: the least that does the work of `opensvc-actions`, for `process` to compare with.
//!
//! ```text
//! bench-floor ADDRESS CA oc3 NODE CREDENTIALS STATE COMMAND
//! bench-floor ADDRESS CA rpc NODE UUID STATE COMMAND
//! ```
//!
//! Started by a notification, with the socket as systemd passes it, it takes what is queued at the collector, runs each
//! action and reports each result. Every effect on the system that the job needs is there, in the order that the promises
//! of the product ask for, and none besides:
//!
//! * the notification is accepted before the queue is asked for;
//! * one connection, TLS with the same library, verified against the CA file alone;
//! * one fetch, one acknowledgement of everything fetched, after it is durable;
//! * per action one append and one fdatasync before its command starts. What was received, and how earlier commands
//!   ended, rides on them. So the *last* results are reported before they are durable, which the product does not do;
//! * per action one process, its output read through pipes and reported;
//! * commands never wait for reports: those go out beside them, one call at a time, and where the dialect can, as many
//!   results in one call as there are by then.
//!
//! What it has not: settings, a look at other dequeuers, a check of what it is sent (rows are found by fixed patterns), policy,
//! supervisors, timeouts, a ledger that can be asked, recovery, retries, a second fetch, a log.

mod link;
mod wire;

use std::error::Error;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::SystemTime;

use link::Link;
use listenfd::ListenFd;
use wire::{Dialect, Outcome};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench-floor: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, ca, dialect, node, credentials, state, command] = &arguments[..] else {
        return Err("usage: bench-floor ADDRESS CA DIALECT NODE CREDENTIALS STATE COMMAND".into());
    };
    let notifications = notifications()?;
    let dialect = Dialect::new(dialect, address, node, credentials)?;
    let mut link = Link::connect(address, ca)?;
    link.send(&dialect.fetch())?;
    // While the answer is on its way.
    let mut ledger = OpenOptions::new().append(true).create(true).open(state)?;
    for mut notification in notifications {
        notification.set_nonblocking(true)?;
        let _ = notification.read(&mut [0; 4096]); // so that its sender is not reset
    }
    let rows = dialect.rows(&link.answer()?);

    let mut lines = String::new();
    for row in &rows {
        writeln!(lines, "received {} {}", row.id, row.command)?;
    }
    let dialect = Arc::new(dialect);
    let (results, to_report) = channel();
    let mut waiting = Some((link, to_report));
    let mut reporting = None;
    for row in &rows {
        writeln!(lines, "begun {}", row.id)?;
        ledger.write_all(lines.as_bytes())?;
        ledger.sync_data()?;
        lines.clear();
        let child = Command::new(command)
            .args(row.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Only now, for the first command does not have to wait for it.
        if let Some((link, to_report)) = waiting.take() {
            let (dialect, ids) = (Arc::clone(&dialect), rows.iter().map(|row| row.id).collect::<Vec<_>>());
            reporting = Some(thread::spawn(move || report(link, &dialect, &ids, &to_report)));
        }
        let output = child.wait_with_output()?;
        let ret = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(254);
        writeln!(lines, "ended {} {ret}", row.id)?;
        results.send(Outcome { id: row.id, ret, ended_at: now(), stdout: output.stdout, stderr: output.stderr })?;
    }
    drop(results);
    ledger.write_all(lines.as_bytes())?;
    match reporting.map(thread::JoinHandle::join) {
        Some(Err(_)) => Err("the reporter panicked".into()),
        Some(Ok(reported)) => Ok(reported?),
        None => Ok(()),
    }
}

/// Acknowledges everything, then reports whatever has ended, one call at a time.
fn report(mut link: Link, dialect: &Dialect, ids: &[u64], results: &Receiver<Outcome>) -> io::Result<()> {
    link.send(&dialect.acknowledge(ids))?;
    link.answer()?;
    while let Ok(first) = results.recv() {
        let more = results.try_iter().take(dialect.results_in_a_call() - 1);
        let call = dialect.report(&std::iter::once(first).chain(more).collect::<Vec<_>>());
        link.send(&call)?;
        link.answer()?;
    }
    Ok(())
}

/// The connections that were waiting, or the one that was passed.
fn notifications() -> io::Result<Vec<TcpStream>> {
    let mut found = Vec::new();
    let Some(socket) = ListenFd::from_env().take_tcp_listener(0)? else { return Ok(found) };
    socket.set_nonblocking(true)?;
    loop {
        match socket.accept() {
            Ok((connection, _)) => found.push(connection),
            Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(found),
            // It does not listen: it is the connection.
            Err(err) if err.kind() == ErrorKind::InvalidInput => {
                found.push(OwnedFd::from(socket).into());
                return Ok(found);
            }
            Err(err) => return Err(err),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a report says when its command ended")]
fn now() -> SystemTime {
    SystemTime::now()
}
