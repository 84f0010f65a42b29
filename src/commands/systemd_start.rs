//! `systemd-start`: the start command of an external action that runs in a template unit. A Replicante agent can call it as it
//! called the script of that name.

use std::fmt::Write as _;
use std::io::{self, Read as _};

use serde_json::Value;

use crate::action::external::is_plain_id;
use crate::action::unit::{Start, Unit};
use crate::cli::SystemdUnit;
use crate::commands::system_time;
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::boot;
use crate::executor::external::{Files, Note};
use crate::executor::launcher::units::{UnitError, Units};

/// More than any agent sends.
const LONGEST_RECORD: u64 = 1 << 20;

/// Why the helper cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum UnitActionError {
    /// What came on standard input is no record.
    #[error("standard input holds no action: {0}")]
    Record(String),
    /// The id could not be a part of names.
    #[error("the action's id {0:?} is refused: it has to be of letters, digits, \"_\" and \"-\", at most 128")]
    Id(String),
    /// The unit could not be part of a name.
    #[error("{0:?} is no name of a template unit: write it without \"@\" and \".service\"")]
    Template(String),
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The manager does not do it.
    #[error("{unit}: {source}")]
    Manager {
        /// About which unit.
        unit: String,
        /// Why.
        source: UnitError,
    },
    /// The unit cannot be started at all.
    #[error("{unit} is {load}")]
    NotLoaded {
        /// Which unit.
        unit: String,
        /// What the manager says.
        load: String,
    },
    /// It would run a second time.
    #[error("{0} was started before for this action, and is not started a second time")]
    Again(String),
}

/// An action, and the unit that it runs in.
pub(super) struct UnitAction {
    pub(super) unit: String,
    pub(super) pin: String,
    pub(super) files: Files,
    record: String,
}

impl UnitAction {
    /// Reads the action from standard input.
    pub(super) fn read(options: &SystemdUnit) -> Result<Self, UnitActionError> {
        if !is_template(&options.unit) {
            return Err(UnitActionError::Template(options.unit.clone()));
        }
        let mut text = String::new();
        let record = |err: &dyn std::fmt::Display| UnitActionError::Record(err.to_string());
        io::stdin().lock().take(LONGEST_RECORD).read_to_string(&mut text).map_err(|err| record(&err))?;
        let value: Value = serde_json::from_str(&text).map_err(|err| record(&err))?;
        let Some(id) = value["id"].as_str() else { return Err(record(&"it has no \"id\"")) };
        if !is_plain_id(id) {
            return Err(UnitActionError::Id(id.chars().take(200).collect()));
        }
        Ok(Self {
            unit: format!("{}@{id}.service", options.unit),
            // without dashes, which would make a slice of a slice of it
            pin: format!("opensvcaction{}x{}.slice", hex(&options.unit), hex(id)),
            files: Files::of(&options.data, id),
            record: value.to_string(),
        })
    }

    pub(super) fn manager(&self, source: UnitError) -> UnitActionError {
        UnitActionError::Manager { unit: self.unit.clone(), source }
    }

    pub(super) fn file(&self, source: io::Error) -> UnitActionError {
        UnitActionError::File { path: self.files.data().display().to_string(), source }
    }
}

/// Letters and digits that stand for a name and no other.
fn hex(name: &str) -> String {
    // 255 bytes is all that a unit's name can have: what is plain stays as it is.
    let mut plain = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() && c != 'x' {
            plain.push(c);
        } else {
            let _ = write!(plain, "x{:02x}", u32::from(c));
        }
    }
    plain
}

/// What systemd takes as the name of a template, as far as anybody uses it.
fn is_template(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | '\\');
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.len() <= 64 && name.chars().all(plain)
}

/// Starts the unit of the action that is described on standard input.
///
/// # Errors
/// When it was not started: then nothing of it is left.
pub async fn run(options: &SystemdUnit) -> Result<Exit, Error> {
    let action = UnitAction::read(options)?;
    Files::forget_old(&options.data, system_time());
    let boot_id = boot::id().map_err(Error::Start)?;
    let noted = action.files.read_note().map_err(|err| action.file(err))?;
    let noted = noted.filter(|note| note.start.boot_id == boot_id || note.report.is_some());
    let mut units = Units::open(options.user).await.map_err(|err| action.manager(err))?;
    let unit = units.look(&action.unit).await.map_err(|err| action.manager(err))?;
    if unit.is_going_on() && (unit.has_run() || unit.has_job) {
        return Ok(Exit::Ok); // as it is asked for
    }
    if unit.has_run()
        || unit.active != "inactive"
        || noted.as_ref().is_some_and(|note| note.report.is_some() || note.start.invocation.is_some())
    {
        return Err(UnitActionError::Again(action.unit).into());
    }
    if unit.load != "loaded" {
        action.files.remove_data();
        return Err(UnitActionError::NotLoaded { unit: action.unit, load: unit.load }.into());
    }
    match start(&action, &mut units, &boot_id).await {
        Ok(()) => Ok(Exit::Ok),
        Err(err) => {
            forget(&action, &mut units).await;
            Err(err.into())
        }
    }
}

async fn start(action: &UnitAction, units: &mut Units, boot_id: &str) -> Result<(), UnitActionError> {
    let manager = |err| action.manager(err);
    action.files.write_data(&action.record).map_err(|err| action.file(err))?;
    let mut note = Note { unit: action.unit.clone(), ..Note::default() };
    note.start = Start { boot_id: boot_id.to_owned(), invocation: None };
    action.files.write_note(&note).map_err(|err| action.file(err))?;
    crash::point("unit-noted");
    units.pin(&action.unit, &action.pin).await.map_err(manager)?;
    crash::point("unit-pinned");
    units.start(&action.unit).await.map_err(manager)?;
    crash::point("unit-started");
    // It runs: what goes wrong from here on is no failure to start. A unit that waits has no invocation yet.
    if let Ok(Unit { invocation, .. }) = units.look(&action.unit).await {
        note.start.invocation = Some(invocation).filter(|invocation| !invocation.is_empty());
        let _ = action.files.write_note(&note);
    }
    Ok(())
}

/// Leaves nothing of an action that was not started.
async fn forget(action: &UnitAction, units: &mut Units) {
    if units.look(&action.unit).await.is_ok_and(|unit| unit.is_going_on() || unit.has_run()) {
        return; // it was, after all
    }
    action.files.remove_data();
    action.files.remove_note();
    let _ = units.unpin(&action.pin).await;
}
