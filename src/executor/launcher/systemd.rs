//! The launcher that asks the service manager: each supervisor is the main process of a transient unit, which has nothing
//! to do with the unit of the handler. What confines the handler, or ends it, does not touch the command.
//!
//! The properties are those of systemd 239, one excepted that later ones have to be told. The unit's name holds the
//! generation: a redo would meet its own earlier unit, if that is kept by a daemon left behind.

use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::bus::{Bus, CallError, Connection};
use super::message::{Call, Value, Writer};
use super::{Job, NotLaunched};
use crate::action::ActionKey;
use crate::action::limits::GroupLimits;
use crate::crash;
use crate::executor::{run, supervisor};

/// The directory that is there if the machine was booted with systemd: see `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// The unit of the handler.
const HANDLER: &str = "opensvc-actions.service";

/// After the time that the supervisor may take to end its command, it has this many microseconds more to record it.
const TO_RECORD_USEC: u64 = 30_000_000;

/// Warnings and what is worse; the manager's word for each start and end of a unit is not.
const NOTICE: i32 = 5;

/// The kernel spares a supervisor, which lives in what bounds its command: it is larger than many a shell, and with it the
/// end of the command would be lost. What it starts is not spared (`inherited.rs`).
const SPARED: i32 = -900;

/// The first systemd that ends a unit when the kernel has killed one of its processes for want of memory.
const HAS_OOM_POLICY: u32 = 243;

/// How long the manager may be silent before a supervisor counts as not started. It does one thing after the other: while it
/// starts a thousand units it answers nobody, and giving up would leave an action waiting with nobody to come for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// After so long it is said what is waited for.
const SILENT: Duration = Duration::from_secs(10);

/// Between two questions to a manager that has lost the first, as while it executes itself anew.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Whether the machine was booted with systemd.
pub(super) fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// The name of an action's unit. An id may be negative; nothing in it needs to be escaped.
#[must_use]
pub fn unit(key: ActionKey) -> String {
    format!("opensvc-action-{}.service", run::name(key))
}

/// The name of the unit of a check of an external action: the number tells it from an earlier one that has left something
/// behind.
#[must_use]
pub fn check_unit(key: ActionKey, number: u32) -> String {
    format!("opensvc-action-{}-check-{number}.service", run::name(key))
}

/// What is known of the manager.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    pub(super) bus: Bus,
    version: Cell<Option<u32>>,
}

impl Systemd {
    /// Opens a connection to the manager, and knows its version then. One that is silent is waited for.
    ///
    /// # Errors
    /// When nobody is there, or the manager is silent for longer than `patience`.
    pub(super) async fn reach(&self, patience: Duration) -> Result<Connection, CallError> {
        let reach = async {
            loop {
                let mut connection = self.bus.open_within(patience).await?;
                match self.version(&mut connection).await {
                    Ok(_) => return Ok(connection),
                    Err(CallError::Unanswered(_)) => sleep(AGAIN_AFTER).await,
                    Err(err) => return Err(err),
                }
            }
        };
        let silence = || io::Error::new(ErrorKind::TimedOut, format!("it is silent for {patience:?}"));
        waiting(timeout(patience, reach)).await.unwrap_or_else(|_| Err(CallError::Unreachable(silence())))
    }

    /// Has the supervisor started. `Ok` means that it may run: whether it does, its claim tells.
    ///
    /// # Errors
    /// When it definitely does not run.
    pub(super) async fn launch(&self, connection: &mut Connection, job: Job<'_>) -> Result<(), NotLaunched> {
        let version = self.version.get().unwrap_or_default();
        let program = this_program()?;
        let run = fs::canonicalize(job.run)?;
        let no_text = || io::Error::new(ErrorKind::InvalidInput, "a directory whose name is no text");
        let run = run.to_str().ok_or_else(no_text)?;
        let mut environment: Vec<String> = Vec::new();
        for (name, value) in crash::environment() {
            environment.push(format!("{name}={}", value.to_string_lossy()));
        }
        let argv = ["opensvc-actions", supervisor::ARGUMENT];
        let handler = [HANDLER.to_owned()];
        let description = format!("OpenSVC action {}:{}, generation {}", job.key.queue, job.key.id, job.key.generation);
        let grace = u64::try_from(job.kill_grace.as_micros()).unwrap_or(u64::MAX);
        let mut properties = vec![
            ("Description", Value::Text(&description)),
            // The manager goes on at once. If the program cannot be executed, the claim is free without an X.
            ("Type", Value::Text("simple")),
            ("ExecStart", Value::Command(&program, &argv)),
            ("Environment", Value::Texts(&environment)),
            ("WorkingDirectory", Value::Text(run)),
            ("StandardInputFileDescriptor", Value::Descriptor(0)),
            ("StandardOutput", Value::Text("null")),
            ("StandardError", Value::Text("null")),
            // Stopping it tells the supervisor, which ends its command and no daemon of an action that has finished.
            ("KillMode", Value::Text("process")),
            ("TimeoutStopUSec", Value::Number(grace.saturating_add(TO_RECORD_USEC))),
            ("CollectMode", Value::Text("inactive-or-failed")),
            // At shutdown the order is the reverse: first the handler goes, so that it does not take the end of a command for
            // the command's own. Nothing else follows from it, and the handler's unit need not exist.
            ("Before", Value::Texts(&handler)),
            // What is below the unit's control group is the supervisor's.
            ("Delegate", Value::Flag(true)),
            ("TasksMax", Value::Number(job.limits.tasks_max.unwrap_or(u64::MAX))),
            ("LogLevelMax", Value::Int(NOTICE)),
            ("OOMScoreAdjust", Value::Int(SPARED)),
        ];
        properties.extend(job.limits.memory_max.map(|bytes| ("MemoryMax", Value::Number(bytes))));
        // Microseconds of processor time a second.
        let quota = job.limits.cpu_quota.map(|percent| u64::from(percent) * 10_000);
        properties.extend(quota.map(|usec| ("CPUQuotaPerSecUSec", Value::Number(usec))));
        if version >= HAS_OOM_POLICY {
            properties.push(("OOMPolicy", Value::Text("continue")));
        }
        let mut arguments = Writer::default();
        arguments.text(&job.unit);
        arguments.text("fail"); // and do not stand in the way of a shutdown
        arguments.properties(&properties);
        arguments.array(8, |_| {}); // no other units
        let start = manager("StartTransientUnit", "ssa(sv)a(sa(sv))");
        let started = connection.call_within(PATIENCE, &start, &arguments, Some(job.claim.as_fd()));
        match waiting(started).await {
            Ok(_) => Ok(()),
            Err(err @ CallError::Unanswered(_)) => {
                tracing::warn!("{}: {err}", job.unit);
                Ok(())
            }
            Err(CallError::Refused { name, text }) if name.ends_with(".TransactionIsDestructive") => {
                Err(NotLaunched::GoingDown(text))
            }
            Err(err) => Err(io::Error::other(err).into()),
        }
    }

    /// Kills every process of an action's unit, if it is there.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub(super) async fn kill(&self, unit: &str) -> io::Result<()> {
        let mut connection = self.bus.open().await.map_err(io::Error::other)?;
        let mut arguments = Writer::default();
        arguments.text(unit);
        arguments.text("all");
        arguments.i32(rustix::process::Signal::KILL.as_raw());
        match connection.call(&manager("KillUnit", "ssi"), &arguments, None).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { name, .. })
                if name.ends_with(".NoSuchUnit") || name.ends_with(".NoSuchProcess") =>
            {
                Ok(())
            }
            Err(err) => Err(io::Error::other(err)),
        }
    }

    async fn version(&self, connection: &mut Connection) -> Result<u32, CallError> {
        if let Some(version) = self.version.get() {
            return Ok(version);
        }
        let get = Call { interface: "org.freedesktop.DBus.Properties", ..manager("Get", "ss") };
        let mut arguments = Writer::default();
        arguments.text("org.freedesktop.systemd1.Manager");
        arguments.text("Version");
        let text = connection.call(&get, &arguments, None).await?;
        let version = text.as_deref().map_or(0, version_in);
        self.version.set(Some(version));
        Ok(version)
    }
}

/// Says so when an answer takes long.
async fn waiting<T>(answer: impl Future<Output = T>) -> T {
    let say = async {
        sleep(SILENT).await;
        tracing::warn!("the service manager is silent: waiting until it starts the command");
        std::future::pending().await
    };
    tokio::select! { answer = answer => answer, never = say => never }
}

pub(super) const fn manager<'a>(member: &'a str, signature: &'a str) -> Call<'a> {
    Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
        signature,
    }
}

/// The number in "252.39-1~deb12u2", "v245.4-4ubuntu3" or "systemd 239"; 0 where there is none.
fn version_in(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_default()
}

/// Where the manager finds this very program. While the file is in its place, that is its name; once it was replaced,
/// it is reached through this process. Should this process be gone before the manager comes to it, nothing was started.
fn this_program() -> io::Result<String> {
    const SELF: &str = "/proc/self/exe";
    let own = fs::metadata(SELF)?;
    let name = fs::read_link(SELF)?;
    let in_place =
        fs::metadata(&name).is_ok_and(|there| (there.st_dev(), there.st_ino()) == (own.st_dev(), own.st_ino()));
    // The manager would read more into some characters.
    let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    Ok(match name.to_str().filter(plain).filter(|_| in_place) {
        Some(name) => name.to_owned(),
        None => format!("/proc/{}/exe", std::process::id()),
    })
}

/// What the machine's control groups cannot hold of these limits.
pub(super) fn cannot_hold(limits: GroupLimits, groups: &Path) -> Option<&'static str> {
    // In the unified hierarchy the root lists them; in the older one each has a directory.
    let unified = fs::read_to_string(groups.join("cgroup.controllers")).unwrap_or_default();
    let wanted = [
        (limits.memory_max.is_some(), "memory"),
        (limits.cpu_quota.is_some(), "cpu"),
        (limits.tasks_max.is_some(), "pids"),
    ];
    wanted.into_iter().find_map(|(wanted, controller)| {
        let there = unified.split_whitespace().any(|name| name == controller) || groups.join(controller).is_dir();
        (wanted && !there).then_some(controller)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::action::{ActionId, Queue};

    #[test]
    fn a_unit_has_a_name_that_systemd_accepts_whatever_the_id() {
        let longest = ActionKey { queue: Queue::Rpc, id: ActionId(i64::MIN), generation: u32::MAX };
        for key in [longest, ActionKey { queue: Queue::Oc3, id: ActionId(628), generation: 1 }] {
            let name = unit(key);
            assert!(name.len() < 256 && name.ends_with(".service"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.".contains(&byte)), "{name}");
        }
        let id = ActionId(-5);
        assert_eq!(unit(ActionKey { queue: Queue::Rpc, id, generation: 2 }), "opensvc-action-rpc--5-2.service");
    }

    /// Greets each client and answers its question with what is no answer; gone after the third.
    fn forgetful_manager(listener: &UnixListener) {
        for client in 1.. {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut received = Vec::new();
            let mut until = |found: &dyn Fn(&[u8]) -> bool| {
                let mut bytes = [0; 1024];
                while !found(&received) {
                    let length = stream.read(&mut bytes).unwrap();
                    received.extend_from_slice(&bytes[..length]);
                }
                stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n").unwrap();
            };
            until(&|received| received.ends_with(b"BEGIN\r\n"));
            until(&|received| received.windows(7).any(|some| some == b"Version"));
            if client > 2 {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_manager_that_loses_a_question_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let (private, system) = (dir.path().join("private"), dir.path().join("system"));
        let listener = UnixListener::bind(&private).unwrap();
        let systemd = Systemd { bus: Bus::at(&private, &system), ..Systemd::default() };
        let manager = thread::spawn(move || {
            forgetful_manager(&listener);
            drop(listener);
        });
        let err = systemd.reach(PATIENCE).await.unwrap_err();
        assert!(matches!(err, CallError::Unreachable(_)), "{err}"); // it has gone
        manager.join().unwrap(); // and was asked three times
    }

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let versions = ["252.39-1~deb12u2", "v245.4-4ubuntu3", "systemd 239", "257", ""].map(version_in);
        assert_eq!(versions, [252, 245, 239, 257, 0]);
    }

    #[test]
    fn a_limit_without_its_controller_cannot_be_held() {
        let groups = tempfile::tempdir().unwrap();
        let limits = GroupLimits { memory_max: Some(1 << 20), cpu_quota: None, tasks_max: Some(9) };
        assert_eq!(cannot_hold(limits, groups.path()), Some("memory"));
        fs::write(groups.path().join("cgroup.controllers"), "cpuset cpu io memory\n").unwrap();
        assert_eq!(cannot_hold(limits, groups.path()), Some("pids"));
        fs::create_dir(groups.path().join("pids")).unwrap();
        assert_eq!(cannot_hold(limits, groups.path()), None);
        assert_eq!(cannot_hold(GroupLimits::default(), Path::new("/nonexistent")), None);
    }

    #[test]
    fn while_it_is_in_its_place_this_program_goes_by_its_name() {
        let name = this_program().unwrap();
        assert_eq!(Path::new(&name), std::env::current_exe().unwrap());
    }
}
