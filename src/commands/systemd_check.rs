//! `systemd-check`: the check command of an external action that runs in a template unit. It says the truth, or that it
//! cannot find out.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::action::unit::Verdict;
use crate::cli::SystemdUnit;
use crate::commands::print;
use crate::commands::systemd_start::{UnitAction, UnitActionError};
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::boot;
use crate::executor::external::{Note, journal};
use crate::executor::launcher::units::{UnitError, Units};

/// How often a manager is asked that does not answer, and how long after one another: a caller may take one failure for the
/// end of the action.
const TRIES: u32 = 5;
const APART: Duration = Duration::from_secs(1);

/// Prints how the action is that is described on standard input.
///
/// # Errors
/// When that cannot be found out.
pub async fn run(options: &SystemdUnit) -> Result<Exit, Error> {
    let action = UnitAction::read(options)?;
    let note = action.files.read_note().map_err(|err| action.file(err))?;
    // Who asks again is told again.
    if let Some(report) = note.as_ref().and_then(|note| note.report.clone()) {
        tidy(&action, options.user).await;
        return say(&report);
    }
    let boot_id = boot::id().map_err(Error::Start)?;
    let report = look(&action, options.user, note.clone(), &boot_id).await.map_err(|err| action.manager(err))?;
    if report["status"] != "running" {
        let note = Note { report: Some(report.clone()), unit: action.unit.clone(), ..note.unwrap_or_default() };
        // Whoever cannot be told again is told now.
        let _ = action.files.write_note(&note);
        crash::point("unit-told");
        tidy(&action, options.user).await;
    }
    say(&report)
}

/// The unit has read its data, and its end is noted.
async fn tidy(action: &UnitAction, of_user: bool) {
    action.files.remove_data();
    if let Ok(mut units) = Units::open(of_user).await {
        let _ = units.unpin(&action.pin).await;
    }
}

fn say(report: &Value) -> Result<Exit, Error> {
    print(|out| writeln!(out, "{report}"))
}

async fn look(action: &UnitAction, of_user: bool, note: Option<Note>, boot_id: &str) -> Result<Value, UnitError> {
    let mut tries = 0;
    let unit = loop {
        tries += 1;
        let looked = match Units::open(of_user).await {
            Ok(mut units) => units.look(&action.unit).await,
            Err(err) => Err(err),
        };
        match looked {
            Err(_) if tries < TRIES => sleep(APART).await,
            looked => break looked?,
        }
    };
    let mut note = note;
    if let Some(note) = note.as_mut().filter(|note| note.start.invocation.is_none() && !unit.invocation.is_empty()) {
        note.start.invocation = Some(unit.invocation.clone());
        let _ = action.files.write_note(note);
    }
    let start = note.as_ref().map(|note| &note.start);
    if unit.is_going_on() && start.is_none_or(|start| start.boot_id == boot_id) {
        return Ok(json!({ "status": "running" }));
    }
    let known = Some(unit.invocation.as_str()).filter(|id| !id.is_empty());
    let invocation = known.or_else(|| start.and_then(|start| start.invocation.as_deref()));
    let (evidence, lines) = journal(&action.unit, of_user, invocation).await;
    Ok(match unit.verdict(start, boot_id, &evidence) {
        Verdict::Running => json!({ "status": "running" }),
        Verdict::Finished => json!({ "status": "finished" }),
        Verdict::Failed(why, exit_status) => {
            let lines = lines.iter().fold(String::new(), |text, line| text + "\n" + line);
            let mut report = json!({ "status": "failed", "error": format!("{}: {why}{lines}", action.unit) });
            if let Some(status) = exit_status {
                report["exit_status"] = json!(status);
            }
            report
        }
    })
}

impl From<UnitActionError> for Error {
    fn from(err: UnitActionError) -> Self {
        Self::UnitAction(err)
    }
}
