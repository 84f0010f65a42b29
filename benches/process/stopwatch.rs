//! Plays systemd and the notifier for one run of one contender, and says what it took, as one line of JSON.
//!
//! ```text
//! bench-stopwatch listening|connected|timer PROGRAM ARGUMENT…
//! ```
//!
//! It is a process of its own because the kernel adds up for it, and for nothing else, what its descendants have used, and
//! because a process's peak of memory begins with that of whoever started it: this one is small.
//!
//! Time zero is before the notification: connect, 15 bytes, close; then the contender is started at once. Descendants that
//! lose their parent become this one's children, and everything is over when there are none left.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, dup2, fcntl_setfd};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench-stopwatch: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    // The first descriptor of ours is the number under which systemd passes the first socket.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    if listener.as_raw_fd() != 3 {
        return Err("descriptor 3 has to be free".into());
    }
    let port = listener.local_addr()?.port();
    let mut passed = OwnedFd::from(listener);
    let mut arguments = std::env::args_os().skip(1);
    let how = arguments.next().unwrap_or_default();
    let mut command = Command::new(arguments.next().ok_or("which program?")?);
    let said = File::from(memfd_create("said", MemfdFlags::CLOEXEC)?);
    command.args(arguments).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    command.env_remove("LISTEN_PID").env_remove("NOTIFY_SOCKET");
    if how != "timer" {
        command.env("LISTEN_FDS", "1");
        fcntl_setfd(&passed, FdFlags::empty())?;
    }
    set_child_subreaper(Some(getpid()))?;
    let written_before = written()?;

    let start = now();
    if how != "timer" {
        TcpStream::connect(("127.0.0.1", port))?.write_all(b"dequeue_actions")?;
    }
    if how == "connected" {
        let listener = TcpListener::from(passed.try_clone()?);
        let (connection, _) = listener.accept()?;
        dup2(connection, &mut passed)?;
    }
    let mut child = command.spawn()?;
    let status = child.wait()?;
    let exit = now();
    while wait(WaitOptions::empty()).is_ok() {}
    let gone = now();

    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let written = written()?;
    println!(
        "{}",
        json!({
            "start": start,
            "exit": exit,
            "gone": gone,
            "user": microseconds(used.user_time()),
            "system": microseconds(used.system_time()),
            "peak": used.max_rss(),
            "faults": used.minor_page_faults(),
            "switches": used.voluntary_context_switches(),
            "written": written.0 - written_before.0,
            "stored": written.1 - written_before.1,
        })
    );
    if status.success() {
        return Ok(());
    }
    let (mut said, mut text) = (said, String::new());
    said.rewind()?;
    said.read_to_string(&mut text)?;
    Err(format!("{status}: {text}").into())
}

/// Nanoseconds of the clock that is the same for every process.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The bytes that this process and those that it has reaped have written to files, pipes and sockets by `write`, and those
/// of them that are bound for a disk.
fn written() -> Result<(u64, u64), Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/io")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Ok((field("wchar:").ok_or("no wchar")?, field("write_bytes:").ok_or("no write_bytes")?))
}
