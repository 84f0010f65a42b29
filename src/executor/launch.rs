//! The handler's side of a run: prepare it, launch its supervisor or attach to one that lives, wait for its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendFlags, SocketFlags, send};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::action::ActionKey;
use crate::action::argv::Argv;
use crate::action::limits::GroupLimits;
use crate::action::state::Trace;
use crate::executor::kept;
use crate::executor::launcher::{self, Job, Launcher, NotLaunched, Supervisor};
use crate::executor::record::{self, Record};
use crate::executor::run::{self, Claim, RunDir};
use crate::executor::supervisor::{GOES_ON, Spec};

/// How often a handler that attached looks whether the supervisor still lives. One that launched it need not look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the claim of a command that could not be started may be held still, before somebody is taken to run it,
const LET_GO_WITHIN: Duration = Duration::from_secs(1);
/// and how often that is looked at.
const LET_GO_EVERY: Duration = Duration::from_millis(20);

/// How long a supervisor may take to hand its record over.
const OFFER_WITHIN: Duration = Duration::from_secs(5);

/// What bounds a command, and whose rights it has.
#[derive(Clone, Debug)]
pub struct Limits {
    /// It is killed when it runs longer.
    pub timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
    /// How many bytes of each stream stay on this node.
    pub kept_output: u64,
    /// Bounds that only a control group can hold.
    pub group: GroupLimits,
    /// The user that it runs as; `None`: root.
    pub user: Option<String>,
}

/// A run whose claim is made and held here: the ledger may say "started" now.
#[derive(Debug)]
pub struct Prepared {
    key: ActionKey,
    unit: String,
    dir: RunDir,
    claim: File,
}

impl Prepared {
    /// Makes the run directory of `key`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(state: &Path, key: ActionKey, boot_id: &str) -> io::Result<Self> {
        let dir = RunDir::of(state, key);
        let claim = dir.create(boot_id)?;
        if let Err(err) = kept::forget(state, key) {
            tracing::warn!("cannot remove what an earlier run of this name has kept: {err}"); // no reason not to run
        }
        Ok(Self { key, unit: launcher::unit(key), claim, dir })
    }

    /// The same for a check of the external action `key`, with this number.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn check(state: &Path, key: ActionKey, number: u32, boot_id: &str) -> io::Result<Self> {
        let dir = RunDir::of(state, key).of_check();
        let claim = dir.create(boot_id)?;
        Ok(Self { key, unit: launcher::check_unit(key, number), claim, dir })
    }

    /// Starts the supervisor, which takes the claim over. Only after the ledger says "started".
    ///
    /// # Errors
    /// When it was definitely not started: the command did not start.
    pub async fn launch(
        self,
        launcher: &Launcher,
        argv: &Argv,
        environment: &BTreeMap<OsString, OsString>,
        limits: Limits,
        boot_id: &str,
    ) -> Result<Running, NotLaunched> {
        let spec = Spec {
            program: argv.program().to_string_lossy().into_owned(),
            args: argv.args().to_vec(),
            environment: environment
                .iter()
                .map(|(name, value)| (name.clone().into_vec(), value.clone().into_vec()))
                .collect(),
            timeout: limits.timeout,
            kill_grace: limits.kill_grace,
            kept_output: limits.kept_output,
            user: limits.user,
            input: argv.input().map(str::to_owned),
        };
        spec.write(self.dir.path())?;
        // The socket is there before a supervisor could come to its end.
        let socket = launcher.asks_manager().then(|| listen(&self.dir)).transpose()?;
        let job = Job {
            key: self.key,
            unit: self.unit.clone(),
            run: self.dir.path(),
            claim: self.claim,
            limits: limits.group,
            kill_grace: limits.kill_grace,
        };
        let supervisor = match launcher.launch(job).await {
            Err(NotLaunched::Failed(err)) if !never_began(&self.dir, boot_id).await => {
                tracing::debug!("a supervisor was started all the same: {err}");
                None
            }
            other => other?,
        };
        let unit = supervisor.is_none().then_some(self.unit);
        let (child, connection) = match supervisor {
            Some(Supervisor { child, connection }) => (Some(child), Some(connection)),
            None => (None, None),
        };
        let heard = Vec::new();
        Ok(Running { dir: self.dir, socket, connection, heard, child, unit, boot_id: boot_id.to_owned() })
    }
}

/// Whether the claim proves that nobody has started the command, and nobody will. Our own copy of it is closed; process 1 may
/// have one for a moment still, of a unit that it has just refused.
async fn never_began(dir: &RunDir, boot_id: &str) -> bool {
    let let_go = async {
        loop {
            match dir.claim(boot_id).map(Claim::trace) {
                Ok(Trace::Lives) => sleep(LET_GO_EVERY).await,
                trace => return trace.is_ok_and(|trace| trace == Trace::NeverBegan),
            }
        }
    };
    timeout(LET_GO_WITHIN, let_go).await == Ok(true)
}

/// A run that somebody supervises.
#[derive(Debug)]
pub struct Running {
    dir: RunDir,
    /// Where a supervisor that this process has not started itself knocks.
    socket: Option<UnixListener>,
    /// On which one that it has started hands its record over.
    connection: Option<UnixStream>,
    /// What came of that so far.
    heard: Vec<u8>,
    child: Option<Box<Child>>,
    /// The unit that it was to be, if the service manager was asked to start it.
    unit: Option<String>,
    boot_id: String,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// There is a record. Once the ledger holds it, [`Told::recorded`] releases the supervisor.
    Recorded(Box<Record>, Option<Told>),
    /// The supervisor is gone and has left no record.
    Vanished(Claim),
}

/// A supervisor that waits to hear that its record is in the ledger.
#[derive(Debug)]
pub struct Told {
    connection: UnixStream,
    /// It is our child, and would see to another command.
    next: Option<Box<Child>>,
}

impl Told {
    /// Tells it. If it has gone meanwhile, it has synced the record itself. Gives it back if it would see to another command.
    pub fn recorded(self) -> Option<Supervisor> {
        // One byte always has room.
        match send(&self.connection, b"R", SendFlags::NOSIGNAL) {
            Ok(_) => self.next.map(|child| Supervisor { child, connection: self.connection }),
            Err(err) => {
                tracing::debug!("a supervisor did not wait: {err}");
                None
            }
        }
    }
}

impl Running {
    /// Attaches to the run of `key`, whose claim was seen to be held.
    ///
    /// # Errors
    /// When its directory cannot be used.
    pub fn attach(state: &Path, key: ActionKey, boot_id: &str) -> io::Result<Self> {
        Self::attach_to(RunDir::of(state, key), boot_id)
    }

    /// Who its supervisor is where it is another one than the launcher was asked for: the service manager could not be reached.
    #[must_use]
    pub fn launched_otherwise(&self, key: ActionKey, launcher: &Launcher) -> Option<String> {
        let is_child = self.child.is_some();
        (is_child && launcher.supervisor_of(key) != launcher::DIRECT).then(|| launcher::DIRECT.to_owned())
    }

    /// The same where the directory is another one than that of an action.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn attach_to(dir: RunDir, boot_id: &str) -> io::Result<Self> {
        let socket = Some(listen(&dir)?);
        let (connection, heard, child) = (None, Vec::new(), None);
        Ok(Self { dir, socket, connection, heard, child, unit: None, boot_id: boot_id.to_owned() })
    }

    /// Waits for the end. May be given up at any point: the run goes on.
    ///
    /// # Errors
    /// When the run directory cannot be read.
    pub async fn end(&mut self) -> io::Result<End> {
        loop {
            // The socket is there already: a supervisor that comes to its end from here on will knock. One that came to
            // it before has left its record.
            if self.child.is_none() {
                match self.seen()? {
                    End::Vanished(Claim::Held) => {}
                    // It may have offered its record before it died.
                    End::Vanished(claim) => return Ok(self.offered().await?.unwrap_or(End::Vanished(claim))),
                    recorded @ End::Recorded(..) => return Ok(recorded),
                }
            }
            tokio::select! {
                biased;
                // Only this much can be given up for the others: an offer that was begun is heard to its end.
                () = begun(self.connection.as_ref(), &mut self.heard) => {
                    if let Some(recorded) = self.hear_ours().await {
                        return Ok(recorded);
                    }
                }
                knock = accept(self.socket.as_ref()) => {
                    if let Ok(Some(recorded)) = hear(knock?).await {
                        return Ok(recorded);
                    }
                }
                () = exit(&mut self.child) => self.child = None,
                () = sleep(LOOK_EVERY), if self.child.is_none() => {}
            }
        }
    }

    /// A record that waits to be accepted, whatever the runtime knows of it.
    async fn offered(&mut self) -> io::Result<Option<End>> {
        if let Some(recorded) = self.hear_ours().await {
            return Ok(Some(recorded));
        }
        let Some(socket) = &self.socket else { return Ok(None) };
        // The socket does not block.
        while let Ok(supervisor) = rustix::net::accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let supervisor = UnixStream::from_std(std::os::unix::net::UnixStream::from(supervisor))?;
            if let Ok(Some(recorded)) = hear(supervisor).await {
                return Ok(Some(recorded));
            }
        }
        Ok(None)
    }

    /// Takes the record that the supervisor hands over which this process has started. `None`: it has closed the connection.
    async fn hear_ours(&mut self) -> Option<End> {
        let (mut connection, mut bytes) = (self.connection.take()?, std::mem::take(&mut self.heard));
        let whole = async {
            while Record::length(&bytes).is_none_or(|length| bytes.len() <= length)
                && bytes.len() as u64 <= record::LIMIT
            {
                if connection.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    return false;
                }
            }
            true
        };
        // Behind the record it says whether it would go on.
        let is_whole = timeout(OFFER_WITHIN, whole).await == Ok(true);
        let goes_on = is_whole && bytes.pop() == Some(GOES_ON);
        let record = Record::decode(&bytes)?;
        let next = self.child.take().filter(|_| goes_on);
        Some(End::Recorded(Box::new(record), Some(Told { connection, next })))
    }

    /// What the supervisor could not do, if it said so, or who may know.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let hint = || self.unit.as_ref().map(|unit| format!("the journal of {unit} may tell"));
        self.dir.error().or_else(hint)
    }

    /// What the run directory tells. The claim first: if it is free and there is no record then, there never will be.
    fn seen(&self) -> io::Result<End> {
        let claim = self.dir.claim(&self.boot_id)?;
        Ok(match Record::read(self.dir.path())? {
            Some(record) => End::Recorded(Box::new(record), None),
            None => End::Vanished(claim),
        })
    }
}

/// Takes a record that a supervisor offers. `None`: it died on the way, or is not one.
async fn hear(mut supervisor: UnixStream) -> io::Result<Option<End>> {
    let mut bytes = Vec::with_capacity(4096); // most are not longer
    let mut offered = (&mut supervisor).take(record::LIMIT);
    match timeout(OFFER_WITHIN, offered.read_to_end(&mut bytes)).await {
        Ok(Ok(_)) => {
            let told = Told { connection: supervisor, next: None };
            Ok(Record::decode(&bytes).map(|record| End::Recorded(Box::new(record), Some(told))))
        }
        Ok(Err(err)) => Err(err),
        Err(_) => Ok(None),
    }
}

/// Waits until something comes on a connection, or its end, and takes it. May be given up.
async fn begun(connection: Option<&UnixStream>, heard: &mut Vec<u8>) {
    let Some(connection) = connection else { return std::future::pending().await };
    heard.reserve(4096); // most records are not longer
    while connection.readable().await.is_ok() {
        match connection.try_read_buf(heard) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

async fn accept(socket: Option<&UnixListener>) -> io::Result<UnixStream> {
    match socket {
        Some(socket) => Ok(socket.accept().await?.0),
        None => std::future::pending().await,
    }
}

async fn exit(child: &mut Option<Box<Child>>) {
    match child {
        Some(child) => drop(child.wait().await),
        None => std::future::pending().await,
    }
}

/// Listens in a run directory. Its path may be longer than a socket's address can be: the way through the descriptor is
/// short.
fn listen(dir: &RunDir) -> io::Result<UnixListener> {
    let directory = File::open(dir.path())?;
    let socket = dir.path().join(run::SOCKET);
    match std::fs::remove_file(&socket) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    UnixListener::bind(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), run::SOCKET))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::action::{ActionId, Queue};

    const BOOT: &str = "this boot";

    fn claimed(state: &tempfile::TempDir) -> (RunDir, File) {
        let dir = RunDir::of(state.path(), ActionKey { queue: Queue::Oc3, id: ActionId(1), generation: 1 });
        let claim = dir.create(BOOT).unwrap();
        (dir, claim)
    }

    #[tokio::test]
    async fn a_claim_that_is_let_go_of_soon_proves_that_nothing_began() {
        let state = tempfile::tempdir().unwrap();
        let (dir, claim) = claimed(&state);
        let let_go = async {
            sleep(5 * LET_GO_EVERY).await;
            drop(claim);
        };
        assert!(tokio::join!(never_began(&dir, BOOT), let_go).0);
    }

    #[tokio::test]
    async fn one_that_is_held_on_or_was_begun_proves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let (dir, mut claim) = claimed(&state);
        assert!(!never_began(&dir, BOOT).await, "somebody holds it");
        claim.write_all(b"X 1 2 3\n").unwrap();
        drop(claim);
        assert!(!never_began(&dir, BOOT).await, "somebody has begun");
    }
}
