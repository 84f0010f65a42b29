//! Who else dequeues for this node: the promise that nothing runs twice holds for one dequeuer only.
//!
//! What can be seen is looked at, cheaply, and nothing is ever sent to the port of notifications. Where `/proc` does not
//! tell whose a socket is, nobody is accused.
//!
//! | seen | it dequeues |
//! | --- | --- |
//! | the socket of a 2.x daemon (`lsnr/lsnr.sock`) answers | pull rows: it owns port 1214 |
//! | the socket of a 3.x daemon (`lsnr/http.sock`) answers | feed rows |
//! | another program holds the port of notifications | pull rows |
//! | this program with another state directory holds it | whatever it is configured for |

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::listeners::listening;
use crate::action::Queue;
use crate::config::{Paths, QueueSettings};

/// How this program is called among processes.
const OURS: &str = "opensvc-actions";

/// Something else that dequeues for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dequeuer {
    /// The daemon of an agent 2.x answers.
    Daemon2 {
        /// At this socket.
        socket: PathBuf,
    },
    /// The daemon of an agent 3.x answers.
    Daemon3 {
        /// At this socket.
        socket: PathBuf,
    },
    /// The port on which the collector notifies this node belongs to a process that is no service manager.
    Port {
        /// The port.
        port: u16,
        /// The process.
        pid: u32,
        /// Its name; any text.
        name: String,
    },
    /// This program works for the same node with another state directory.
    Copy {
        /// The port that it holds.
        port: u16,
        /// The process.
        pid: u32,
        /// Its state directory.
        state: PathBuf,
    },
}

impl Dequeuer {
    /// Whether it takes rows of this queue.
    #[must_use]
    pub fn takes(&self, queue: Queue) -> bool {
        match self {
            Self::Daemon2 { .. } | Self::Port { .. } => queue == Queue::Rpc,
            Self::Daemon3 { .. } => queue == Queue::Oc3,
            Self::Copy { .. } => true,
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn recipe(&self) -> &'static str {
        match self {
            Self::Daemon2 { .. } => {
                "stop it ('systemctl disable --now opensvc-agent'), or keep its listener from the collector's \
                 notifications as the README says"
            }
            Self::Daemon3 { .. } => {
                "stop it ('systemctl disable --now opensvc-server'), or let it not know the collector as the README says"
            }
            Self::Port { .. } => {
                "end it and open opensvc-actions.socket, or set listener.port in node.conf to the port of the collector's \
                 notifications"
            }
            Self::Copy { .. } => "keep one of the two",
        }
    }

    /// A short name for machines.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Daemon2 { .. } => "daemon_2",
            Self::Daemon3 { .. } => "daemon_3",
            Self::Port { .. } => "port",
            Self::Copy { .. } => "copy",
        }
    }
}

impl fmt::Display for Dequeuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon2 { socket } => write!(f, "the daemon of an agent 2.x answers at {}", socket.display()),
            Self::Daemon3 { socket } => write!(f, "the daemon of an agent 3.x answers at {}", socket.display()),
            Self::Port { port, pid, name } => write!(f, "TCP port {port} is held by process {pid} ({name:?})"),
            Self::Copy { port, pid, state } => {
                write!(f, "{OURS} (process {pid}) holds TCP port {port} with the state directory {}", state.display())
            }
        }
    }
}

/// Looks for others that take rows of these queues, but for those that are `exclusive`. `own_ports` are those of the sockets that this process was given, so
/// that whoever holds such a port holds it for this program.
///
/// Costs a handful of system calls where the port is ours or nobody's. Only where somebody else holds it, and process 1
/// does not, `/proc` is searched.
#[must_use]
pub fn find(paths: &Paths, queues: &[QueueSettings], port: u16, own_ports: &[u16]) -> Vec<Dequeuer> {
    let mut found = Vec::new();
    // Of the others, the site asserts that nobody else takes their rows.
    let shared: Vec<_> = queues.iter().filter(|settings| !settings.exclusive).map(|settings| settings.queue).collect();
    if shared.is_empty() {
        return found;
    }
    let wanted = |queue| shared.contains(&queue);
    let socket = paths.agent_var.join("lsnr/http.sock");
    if wanted(Queue::Oc3) && answers(&socket) {
        found.push(Dequeuer::Daemon3 { socket });
    }
    let socket = paths.agent_var.join("lsnr/lsnr.sock");
    if wanted(Queue::Rpc) && answers(&socket) {
        // The port is its own then.
        found.push(Dequeuer::Daemon2 { socket });
    } else if !own_ports.contains(&port) {
        found.extend(holder(port, &paths.state));
    }
    found.retain(|other| shared.iter().any(|queue| other.takes(*queue)));
    found
}

/// Whether somebody accepts connections at a socket. A file that nobody listens on any more refuses.
fn answers(path: &Path) -> bool {
    let Ok(address) = SocketAddrUnix::new(path) else { return false };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return false };
    // With a full queue of connections it would have to be waited for: somebody is there.
    matches!(connect(&socket, &address), Ok(()) | Err(Errno::AGAIN))
}

/// Who holds a port, if it is somebody that dequeues.
fn holder(port: u16, state: &Path) -> Option<Dequeuer> {
    let sockets = listening(port);
    if sockets.is_empty() || holds(1, &sockets) {
        return None;
    }
    let pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .collect();
    let name = |pid: u32| {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
    };
    // Of several that hold it one is enough that holds it for us; their names are cheaper to read than their sockets.
    let named: Vec<_> = pids.into_iter().map(|pid| (pid, name(pid))).collect();
    // Programs that listen for others: what they start is this program, or nobody knows. There are many inetds
    // (xinetd, rlinetd, inetutils-inetd).
    let is_manager = |name: &str| name == "systemd" || name.starts_with("systemd-socket") || name.ends_with("inetd");
    if named.iter().any(|(pid, name)| is_manager(name) && holds(*pid, &sockets)) {
        return None;
    }
    let mut other = None;
    for (pid, name) in named.into_iter().filter(|(_, name)| !is_manager(name)) {
        if !holds(pid, &sockets) {
            continue;
        }
        if name != OURS {
            other.get_or_insert(Dequeuer::Port { port, pid, name });
            continue;
        }
        match state_of(pid) {
            // A handler of this node that serves the port, while this process was started without it.
            Some(its) if is_same(&its, state) => return None,
            Some(state) => other = Some(Dequeuer::Copy { port, pid, state }),
            None => return None,
        }
    }
    other
}

/// Whether two names, one perhaps by way of a symbolic link, are of one directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let directory = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    one == other || directory(one).is_some_and(|one| directory(other) == Some(one))
}

/// Whether a process has one of these sockets open. Not, where that cannot be seen.
fn holds(pid: u32, sockets: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| sockets.contains(&inode))
    })
}

/// The state directory of another process of this program, from its command line and its environment.
fn state_of(pid: u32) -> Option<PathBuf> {
    let read = |what| fs::read(format!("/proc/{pid}/{what}")).ok();
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let environment = read("environ")?;
    let variable = |name: &str| {
        let value = environment
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(OsString::from_vec(value.to_vec()))
    };
    let root = root_of(&read("cmdline")?).map(|root| directory.join(root));
    Some(Paths::resolve(root.as_deref(), &variable).state)
}

/// The value of `--root` on a command line.
fn root_of(command_line: &[u8]) -> Option<PathBuf> {
    let mut words = command_line.split(|byte| *byte == 0);
    let value = words.find_map(|word| word.strip_prefix(b"--root").map(<[u8]>::to_vec))?;
    let value = match value.split_first() {
        None => words.next()?.to_vec(),
        Some((b'=', value)) => value.to_vec(),
        Some(_) => return None,
    };
    Some(PathBuf::from(OsStr::from_bytes(&value))).filter(|root| !root.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_as_the_command_line_has_it() {
        assert_eq!(root_of(b"opensvc-actions\0--root\0/r\0dequeue\0"), Some("/r".into()));
        assert_eq!(root_of(b"opensvc-actions\0dequeue\0--root=/r\0"), Some("/r".into()));
        assert_eq!(root_of(b"opensvc-actions\0"), None);
        assert_eq!(root_of(b"opensvc-actions\0--root\0"), None);
    }

    #[test]
    fn whose_rows_are_whose() {
        let socket = PathBuf::from("/s");
        let taken = |other: &Dequeuer| Queue::ALL.map(|queue| other.takes(queue));
        assert_eq!(taken(&Dequeuer::Daemon3 { socket: socket.clone() }), [true, false]);
        assert_eq!(taken(&Dequeuer::Daemon2 { socket: socket.clone() }), [false, true]);
        assert_eq!(taken(&Dequeuer::Port { port: 1214, pid: 2, name: "nc".to_owned() }), [false, true]);
        assert_eq!(taken(&Dequeuer::Copy { port: 1214, pid: 2, state: socket }), [true, true]);
    }
}
