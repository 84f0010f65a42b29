//! Who starts the supervisors of commands: this program itself, or the service manager. Supervisor, run directory, record
//! and result are the same.
//!
//! Commands must not run confined as the handler may be. The manager runs them outside of what confines the handler; if it
//! cannot be asked, this program starts supervisors itself only if nothing confines it.

mod bus;
mod confinement;
mod direct;
pub mod manager;
mod message;
mod systemd;
pub mod units;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use self::direct::Direct;
use self::systemd::Systemd;
use crate::action::ActionKey;
use crate::action::limits::GroupLimits;
use crate::config::Launcher as Wanted;

pub use self::direct::Supervisor;
pub use self::systemd::{check_unit, unit};

/// The launcher that needs nobody, by its name.
pub(super) const DIRECT: &str = "direct";

/// How long the manager may be silent before this program starts a supervisor itself, where it can.
const ELSE_DIRECT: Duration = Duration::from_secs(30);

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// A supervisor that is to be started.
#[derive(Debug)]
pub struct Job<'a> {
    /// The action.
    pub key: ActionKey,
    /// The unit, where there are any.
    pub unit: String,
    /// Its run directory, with the spec in it.
    pub run: &'a Path,
    /// The claim, whose lock goes with it.
    pub claim: File,
    /// What the whole of its processes is held to.
    pub limits: GroupLimits,
    /// Between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
}

/// Commands could not run here as they must.
#[derive(Debug, thiserror::Error)]
pub enum NoLauncher {
    /// `launcher = "systemd"`, and it cannot be asked.
    #[error("execution.launcher is \"systemd\", and the service manager cannot be reached")]
    NoManager(#[source] io::Error),
    /// Commands would be confined, and the manager cannot be asked.
    #[error(
        "this handler is confined ({by}), and the service manager, which would run commands outside, cannot be reached: \
         give it access, or lift the confinement with the drop-in unconfined.conf"
    )]
    Confined {
        /// By what.
        by: &'static str,
        /// Why the manager cannot be asked.
        source: io::Error,
    },
    /// The same where the machine has no such manager.
    #[error("this handler is confined ({0}), commands would be, too, and there is no systemd to run them outside")]
    ConfinedWithoutManager(&'static str),
    /// Commands would be confined, and the manager is not to be asked.
    #[error(
        "execution.launcher is \"direct\", and this handler is confined ({0}), as its commands would be: \
         lift the confinement with the drop-in unconfined.conf, or let the launcher be \"auto\""
    )]
    ConfinedDirect(&'static str),
}

/// These limits cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotLimit {
    /// Only the manager makes control groups.
    #[error("memory_max, cpu_quota and tasks_max need the launcher \"systemd\"")]
    Direct,
    /// The kernel or its command line lacks a controller.
    #[error("this machine has no control group controller {0:?}")]
    NoController(&'static str),
}

/// A supervisor definitely was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotLaunched {
    /// The machine goes down, and its manager starts nothing more. Nothing is wrong with the action.
    #[error("the machine goes down: {0}")]
    GoingDown(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Starts supervisors.
#[derive(Debug)]
pub struct Launcher {
    kind: Kind,
    direct: Direct,
}

#[derive(Debug)]
enum Kind {
    Direct,
    Systemd(Systemd),
    /// The manager, or where it cannot be reached this program itself, which nothing confines.
    Either(Systemd),
}

impl Launcher {
    /// Chooses what was configured, if commands can run so. The manager is not asked anything yet.
    ///
    /// # Errors
    /// When they cannot.
    pub fn choose(wanted: Wanted) -> Result<Self, NoLauncher> {
        let systemd = Systemd::default();
        let kind = match wanted {
            Wanted::Systemd => {
                systemd.bus.look().map_err(NoLauncher::NoManager)?;
                Kind::Systemd(systemd)
            }
            // What gives it another view may be meant so.
            Wanted::Direct => match confinement::of_rights() {
                Some(by) => return Err(NoLauncher::ConfinedDirect(by)),
                None => Kind::Direct,
            },
            Wanted::Auto if systemd::is_booted() => match confinement::of_rights_or_view() {
                Some(by) => {
                    systemd.bus.look().map_err(|source| NoLauncher::Confined { by, source })?;
                    Kind::Systemd(systemd)
                }
                None => Kind::Either(systemd),
            },
            Wanted::Auto => match confinement::of_rights() {
                Some(by) => return Err(NoLauncher::ConfinedWithoutManager(by)),
                None => Kind::Direct,
            },
        };
        Ok(Self { kind, direct: Direct::default() })
    }

    /// An action will start soon: what can be made ready without knowing it is begun.
    pub fn expect_work(&self) {
        if matches!(self.kind, Kind::Direct) {
            self.direct.start_ahead();
        }
    }

    /// A supervisor has seen to its command, and may see to another.
    pub fn give_back(&self, supervisor: Supervisor) {
        self.direct.give_back(supervisor);
    }

    /// Whether the manager may be asked to start supervisors.
    #[must_use]
    pub const fn asks_manager(&self) -> bool {
        !matches!(self.kind, Kind::Direct)
    }

    /// Who the supervisor of an action is to be, for people: a unit, or a child of this process (`direct`).
    #[must_use]
    pub fn supervisor_of(&self, key: ActionKey) -> String {
        match self.kind {
            Kind::Direct => DIRECT.to_owned(),
            Kind::Systemd(_) | Kind::Either(_) => unit(key),
        }
    }

    /// Who starts commands, in a few words.
    #[must_use]
    pub fn in_words(&self) -> &'static str {
        match self.kind {
            Kind::Direct => "this program starts commands itself",
            Kind::Systemd(_) => "the service manager starts commands",
            Kind::Either(_) => "the service manager starts commands, or this program where it cannot",
        }
    }

    /// Whether commands can be held to these limits. To be asked when the settings are read: what cannot be held is not to
    /// be promised.
    ///
    /// # Errors
    /// When not: why.
    pub fn can_limit(&self, limits: GroupLimits) -> Result<(), CannotLimit> {
        if limits == GroupLimits::default() {
            return Ok(());
        }
        match self.kind {
            Kind::Direct => Err(CannotLimit::Direct),
            Kind::Systemd(_) | Kind::Either(_) => systemd::cannot_hold(limits, Path::new(GROUPS))
                .map_or(Ok(()), |what| Err(CannotLimit::NoController(what))),
        }
    }

    /// Has a supervisor started, and gives it the claim. It is our child, or nobody's that we know; then the claim tells.
    ///
    /// # Errors
    /// When it was definitely not started.
    pub async fn launch(&self, job: Job<'_>) -> Result<Option<Supervisor>, NotLaunched> {
        self.can_limit(job.limits).map_err(io::Error::other)?;
        let (systemd, only) = match &self.kind {
            Kind::Direct => return Ok(Some(self.direct.launch(&job)?)),
            Kind::Systemd(systemd) => (systemd, true),
            Kind::Either(systemd) => (systemd, job.limits != GroupLimits::default()),
        };
        match systemd.reach(if only { systemd::PATIENCE } else { ELSE_DIRECT }).await {
            Ok(mut connection) => systemd.launch(&mut connection, job).await.map(|()| None),
            Err(err) if only => Err(io::Error::other(err).into()),
            Err(err) => {
                tracing::warn!("{err}: this program starts the command itself");
                Ok(Some(self.direct.launch(&job)?))
            }
        }
    }

    /// Kills what the unit of an action holds after its supervisor was killed, if it has one. The manager does it, since the
    /// handler may be confined.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub async fn kill_unit(unit: &str) -> io::Result<()> {
        if systemd::is_booted() { Systemd::default().kill(unit).await } else { Ok(()) }
    }
}
