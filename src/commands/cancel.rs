//! `cancel`: skip a waiting action, stop a running one. Either is reported as 130, cancelled on the node.
//!
//! A handler may be about to start the action, or to see its end: the ledger decides who was first. As long as it says
//! that the action waits, it gets its result here and will not start. Once it says "started", the supervisor is told,
//! which looks before it begins and heeds it while the command runs. If the command turns out not to have begun, the
//! ledger says "waiting" again, and the first rule holds.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::json;

use crate::action::ActionKey;
use crate::action::admission::State;
use crate::action::name::{ActionName, NameError};
use crate::action::outcome::{Ended, Outcome};
use crate::action::output::Clamp;
use crate::cli::Global;
use crate::commands::{now, paths, print, require_root};
use crate::error::{Error, Exit};
use crate::executor::boot;
use crate::executor::run::RunDir;
use crate::ledger::orders::Orders;
use crate::ledger::view::Entry;
use crate::wake::holder;
use crate::wake::lock::WakeFiles;

/// What was cancelled.
enum Cancelled {
    Waiting,
    Running,
}

/// Cancels the action, and leaves a mark so that a handler that is about to end reports it still.
///
/// # Errors
/// When the name does not lead to one action, or it has ended.
pub fn run(global: &Global, name: ActionName) -> Result<Exit, Error> {
    require_root()?;
    let state = paths(global).state;
    let orders = Orders::open(&state)?.ok_or(NameError::Unknown(name))?;
    let key = name.only_one_of(orders.called(name)?)?;
    let cancelled = cancel(&state, &orders, key)?;
    WakeFiles::open(&state)?.set_mark()?;
    let handler = holder::running(&state);
    print(|out| {
        if global.json {
            let was = if matches!(cancelled, Cancelled::Waiting) { "waiting" } else { "running" };
            return writeln!(out, "{}", json!({ "action": key.to_string(), "was": was, "handler": handler }));
        }
        match cancelled {
            Cancelled::Waiting => write!(out, "{key} will not run.")?,
            Cancelled::Running => write!(out, "{key} is told to end.")?,
        }
        match handler {
            Some(pid) => writeln!(out, " The handler at work (process {pid}) reports it."),
            None => {
                writeln!(out, " The next start reports it (a notification, the timer, or 'opensvc-actions report').")
            }
        }
    })
}

fn cancel(state: &Path, orders: &Orders, key: ActionKey) -> Result<Cancelled, Error> {
    let ended = Ended::Cancelled(None);
    let outcome = Outcome {
        ret: ended.ret(),
        stdout: String::new(),
        stderr: Clamp::new().finish(ended.reason().as_deref()),
        ended_at: now(),
    };
    let run = RunDir::of(state, key);
    let boot_id = boot::id().map_err(Error::Start)?;
    let too_late = |why: &str| Err(Error::TooLate { key, why: why.to_owned() });
    let mut told = false;
    loop {
        let Some(entry) = orders.entry(key)? else { return too_late("the ledger does not hold it any more") };
        match entry.state {
            State::Received if orders.finish_waiting(key, &outcome)? => return Ok(Cancelled::Waiting),
            State::Received => {} // started, or superseded, between the two looks
            State::Started if told => return Ok(Cancelled::Running),
            State::Started if entry.boot_id.as_ref() != Some(&boot_id) && !run.is_outside() => {
                return too_late("it went down with the machine; the next start says so to the collector");
            }
            State::Started if run.is_abandoned(&boot_id) => {
                return too_late("its supervisor is gone; the next start ends what is left of it and says so");
            }
            State::Started if run.has_record() => return too_late("it has ended; the next start reports it"),
            State::Started => match run.cancel("") {
                Ok(()) => told = true,
                // The ledger will tell: its result is there and accepted.
                Err(err) if err.kind() == ErrorKind::NotFound && !is_still(orders, key, State::Started)? => {}
                Err(err) => return Err(Error::run(run.path())(err)),
            },
            // It may have ended of it, or by itself in the same moment.
            _ if told && entry.ret == Some(outcome.ret) => {
                return Ok(Cancelled::Running);
            }
            State::Finished | State::Reported | State::Superseded | State::Expired => {
                return too_late(&what_became_of(&entry));
            }
        }
    }
}

fn is_still(orders: &Orders, key: ActionKey, state: State) -> Result<bool, Error> {
    Ok(orders.entry(key)?.is_some_and(|entry| entry.state == state))
}

fn what_became_of(entry: &Entry) -> String {
    match (entry.ret, entry.state) {
        (None, _) | (_, State::Superseded) => "a newer action has taken its place".to_owned(),
        (Some(ret), State::Reported) => format!("it has ended with {ret}, and the collector knows"),
        (Some(ret), _) => format!("it has ended with {ret}, which is about to be reported"),
    }
}
