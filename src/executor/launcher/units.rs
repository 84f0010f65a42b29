//! Units that are not ours: starting one, looking at it, and holding on to it until its end was seen.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use super::bus::{Bus, CallError, Connection};
use super::message::{Call, Data, Value, Writer};
use super::systemd::manager;
use crate::action::unit::Unit;

/// Why a unit could not be started or looked at.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Nobody answers.
    #[error("{0}")]
    NoManager(String),
    /// The manager does not want to.
    #[error("{0}")]
    Refused(String),
}

impl From<CallError> for UnitError {
    fn from(err: CallError) -> Self {
        match err {
            CallError::Refused { .. } => Self::Refused(err.to_string()),
            CallError::Unreachable(_) | CallError::Unanswered(_) => Self::NoManager(err.to_string()),
        }
    }
}

impl From<io::Error> for UnitError {
    fn from(err: io::Error) -> Self {
        Self::NoManager(format!("the service manager answers what nobody understands: {err}"))
    }
}

/// A conversation with a manager of units.
#[derive(Debug)]
pub struct Units(Connection);

impl Units {
    /// Begins one with the system's manager, or with that of the user.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn open(of_user: bool) -> Result<Self, UnitError> {
        let bus = if of_user {
            let own = || PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
            let runtime = env::var_os("XDG_RUNTIME_DIR").map_or_else(own, PathBuf::from);
            Bus::at(&runtime.join("systemd/private"), &runtime.join("bus"))
        } else {
            Bus::default()
        };
        Ok(Self(bus.open().await?))
    }

    /// Describes a unit, which the manager loads if it has to.
    ///
    /// # Errors
    /// When the manager does not answer, or not so.
    pub async fn look(&mut self, unit: &str) -> Result<Unit, UnitError> {
        let mut arguments = Writer::default();
        arguments.text(unit);
        let path = self.0.call(&manager("LoadUnit", "s"), &arguments, None).await?.unwrap_or_default();
        let get_all = Call { interface: "org.freedesktop.DBus.Properties", path: &path, ..manager("GetAll", "s") };
        let mut arguments = Writer::default();
        arguments.text(""); // of every interface
        self.0.call(&get_all, &arguments, None).await?;
        Ok(described(&self.0.properties()?))
    }

    /// Has a unit started, as `systemctl start --no-block` does.
    ///
    /// # Errors
    /// When the manager refuses; when it does not answer, the unit may have been started.
    pub async fn start(&mut self, unit: &str) -> Result<(), UnitError> {
        let mut arguments = Writer::default();
        arguments.text(unit);
        arguments.text("replace");
        self.0.call(&manager("StartUnit", "ss"), &arguments, None).await?;
        Ok(())
    }

    /// Makes the manager remember how a unit ends: one that has ended well is forgotten at once, unless another unit
    /// refers to it. That other one, `pin`, is a slice: it has no process, and goes with the boot.
    ///
    /// # Errors
    /// When the manager refuses.
    pub async fn pin(&mut self, unit: &str, pin: &str) -> Result<(), UnitError> {
        let held = [unit.to_owned()];
        let properties = [("Description", Value::Text("Remembers how an action ends")), ("After", Value::Texts(&held))];
        let mut arguments = Writer::default();
        arguments.text(pin);
        arguments.text("replace");
        arguments.properties(&properties);
        arguments.array(8, |_| {});
        match self.0.call(&manager("StartTransientUnit", "ssa(sv)a(sa(sv))"), &arguments, None).await {
            Err(CallError::Refused { name, .. }) if name.ends_with(".UnitExists") => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    /// Lets go of it again.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn unpin(&mut self, pin: &str) -> Result<(), UnitError> {
        let mut arguments = Writer::default();
        arguments.text(pin);
        arguments.text("replace");
        match self.0.call(&manager("StopUnit", "ss"), &arguments, None).await {
            Err(CallError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }
}

/// From properties, of which each may be missing: a unit need not be a service.
fn described(properties: &BTreeMap<String, Data>) -> Unit {
    let text = |name: &str| match properties.get(name) {
        Some(Data::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let number = |name: &str| match properties.get(name) {
        Some(Data::Number(number)) => *number,
        _ => 0,
    };
    let invocation = match properties.get("InvocationID") {
        Some(Data::List(bytes)) => bytes.iter().fold(String::new(), |mut hex, byte| {
            if let Data::Number(byte) = byte {
                let _ = write!(hex, "{byte:02x}");
            }
            hex
        }),
        _ => String::new(),
    };
    let has_job =
        matches!(properties.get("Job"), Some(Data::List(job)) if !matches!(job.first(), Some(Data::Number(0)) | None));
    let lists = |data: &Data| matches!(data, Data::List(list) if !list.is_empty());
    let has_own_successes =
        matches!(properties.get("SuccessExitStatus"), Some(Data::List(both)) if both.iter().any(lists));
    Unit {
        load: text("LoadState"),
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        kind: text("Type"),
        invocation: if invocation.bytes().all(|digit| digit == b'0') { String::new() } else { invocation },
        has_job,
        main_code: number("ExecMainCode"),
        main_status: number("ExecMainStatus"),
        main_exited_at: number("ExecMainExitTimestampMonotonic"),
        active_exited_at: number("ActiveExitTimestampMonotonic"),
        left_inactive_at: number("InactiveExitTimestampMonotonic"),
        has_own_successes,
        condition_failed: number("ConditionTimestampMonotonic") > 0
            && properties.get("ConditionResult") == Some(&Data::Flag(false)),
    }
}
