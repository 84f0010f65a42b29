//! External actions: their start is a run like any other; from then on they go on outside, and this asks after them, each
//! check a small run of its own, under a supervisor, within the run directory of the action. What is known lies there as
//! well, so that the next handler goes on where this one left. Nobody waits here for one that takes its time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::run::{Ran, said_finished, without_output};
use super::{Handler, timestamp};
use crate::action::ActionKey;
use crate::action::admission::State;
use crate::action::argv::Argv;
use crate::action::external::{Checked, Next, Order, Outside, uuid};
use crate::action::limits::GroupLimits;
use crate::action::outcome::{Ended, Outcome};
use crate::action::policy::Permit;
use crate::crash;
use crate::error::Error;
use crate::executor::launch::{End, Limits, Prepared, Running, Told};
use crate::executor::launcher::{Launcher, NotLaunched, check_unit};
use crate::executor::record::Record as EndRecord;
use crate::executor::run::{Claim, RunDir};
use crate::ledger::{Change, Record};

/// How long a handler that has nothing else to do stays for one that has just been started: many are short.
const LINGER: Duration = Duration::from_secs(5);

/// How often one that waits for its next check looks whether it was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How much of a check's output stays on this node, in bytes of each stream: all that can be read of it.
const KEPT: u64 = 64 << 10;

/// The name of the external action that a row is for.
pub(super) fn name_of(record: &Record) -> Option<String> {
    Order::read(&record.row.command)?.ok().map(|order| order.name)
}

impl Handler<'_> {
    /// The start command of an external action.
    pub(super) fn start_of(&self, record: &Record, order: &Order) -> Result<Argv, String> {
        let definition = order.definition(&self.settings.external_actions)?;
        let mut headers = BTreeMap::from([("x-opensvc-action".to_owned(), record.key.to_string())]);
        if !record.row.svcname.is_empty() {
            headers.insert("x-opensvc-service".to_owned(), record.row.svcname.clone());
        }
        Ok(definition.start(order.record(&uuid(record.key), &headers)))
    }

    /// How long the command of an action may run: a start command has a limit of its own.
    pub(super) fn limit_of_start(&self, record: &Record, limit: Option<Duration>) -> Option<Duration> {
        let name = name_of(record);
        let definition = name.and_then(|name| self.settings.external_actions.get(&name));
        definition.map_or(limit, |definition| Some(definition.start_timeout))
    }

    /// Who the command of an action runs as: whom the rule names, else whom the definition of an external action names.
    pub(super) fn user(&self, record: &Record, permit: &Permit<'_>) -> Option<String> {
        let of_rule = permit.rule.and_then(|rule| rule.user.clone());
        let definition = || self.settings.external_actions.get(&name_of(record)?);
        of_rule.or_else(|| definition()?.user.clone())
    }

    /// What is known of an external action that goes on outside.
    pub(super) fn outside(&self, key: ActionKey) -> Result<Option<Outside>, Error> {
        let dir = RunDir::of(self.state, key);
        dir.outside().map_err(Error::run(dir.path()))
    }

    /// Where a record is that of the start of an external action, which has ended well: notes, durably, that it goes on
    /// outside.
    pub(super) fn goes_outside(&self, record: &Record, end: &EndRecord) -> Result<Option<Outside>, Error> {
        let Some(Ok(order)) = Order::read(&record.row.command) else { return Ok(None) };
        let definition = self.settings.external_actions.get(&order.name);
        let (Some(Ended::Exited(0)), Some(definition), Ok(start)) =
            (&end.ended, definition, self.start_of(record, &order))
        else {
            return Ok(None);
        };
        let now = timestamp();
        let permit = self.permit(record);
        let outside = Outside {
            name: order.name,
            record: start.input().unwrap_or_default().to_owned(),
            check: definition.check.clone(),
            interval: definition.interval,
            check_timeout: definition.check_timeout,
            timeout: permit.rule.and_then(|rule| rule.timeout).unwrap_or(definition.timeout),
            user: self.user(record, &permit),
            started_at: end.ended_at,
            stdout: end.stdout.clone(),
            stderr: end.stderr.clone(),
            next_at: now.plus(definition.interval),
            checks: 0,
            heard_at: None,
            progress: None,
            failures: 0,
            failing_since: None,
            failure: None,
        };
        let dir = RunDir::of(self.state, record.key);
        dir.write_outside(&outside).map_err(Error::run(dir.path()))?;
        crash::point("outside");
        about_action!(info, record, [], "{} is started, and goes on outside", record.key);
        Ok(Some(outside))
    }

    /// Whether a handler with nothing else to do waits for the next look at this.
    pub(super) fn is_worth_staying(&self, key: ActionKey, outside: &Outside) -> bool {
        let dir = RunDir::of(self.state, key);
        if dir.is_cancelled() || dir.of_check().path().exists() {
            return true; // there is something to do at once
        }
        let (due, now) = (outside.due_at(), timestamp());
        due <= now || (due <= outside.started_at.plus(LINGER) && now < outside.started_at.plus(LINGER))
    }

    /// Asks after each one that is due, once. For a run that starts nothing.
    pub(super) async fn ask_after_all(&self) -> Result<(), Error> {
        if self.launcher.is_err() {
            return Ok(());
        }
        let started = self.ledger.borrow().in_state(State::Started)?;
        for record in started {
            let dir = RunDir::of(self.state, record.key);
            let Some(outside) = self.outside(record.key)? else { continue };
            if self.stop.is_asked() || !(dir.is_cancelled() || outside.due_at() <= timestamp()) {
                continue;
            }
            let key = record.key;
            if let Ran::Ended(outcome, told) = self.ask(Rc::new(record), outside, Rc::default()).await? {
                self.commit_changes(&[Change::Finished(key, outcome)])?;
                self.tell(told);
            }
        }
        Ok(())
    }

    /// Asks after one when its time has come. `holds` tells whether that is going on.
    pub(super) async fn ask(
        &self,
        record: Rc<Record>,
        mut outside: Outside,
        holds: Rc<Cell<bool>>,
    ) -> Result<Ran, Error> {
        let key = record.key;
        let dir = RunDir::of(self.state, key);
        let begun = dir.of_check();
        while begun.claim(&self.boot_id).map_err(Error::run(begun.path()))? == Claim::Missing {
            let now = timestamp();
            if dir.is_cancelled() {
                return Ok(self.outside_ended(&record, outside.cancelled(now), None));
            }
            if outside.due_at() <= now {
                break;
            }
            let rest = outside.due_at().since(now).min(LOOK_EVERY);
            tokio::select! { () = sleep(rest) => {}, () = self.stop.asked() => return Ok(Ran::Left) }
        }
        holds.set(true);
        let Some((checked, told)) = self.check(&record, &outside, &begun).await? else { return Ok(Ran::Left) };
        crash::point("checked");
        if dir.is_cancelled() {
            return Ok(self.outside_ended(&record, outside.cancelled(timestamp()), told));
        }
        let before = outside.failure.clone();
        match outside.take(&checked, timestamp()) {
            Next::Wait => {
                if let Some(why) = outside.failure.as_ref().filter(|why| before.as_ref() != Some(why)) {
                    about_action!(warn, &record, [], "{key}: {why}; it is asked again");
                }
                dir.write_outside(&outside).map_err(Error::run(dir.path()))?;
                self.tell(told);
                crash::point("asked");
                begun.remove().map_err(Error::run(begun.path()))?;
                Ok(Ran::Outside(Box::new(outside)))
            }
            ended @ Next::Ended(..) => Ok(self.outside_ended(&record, ended, told)),
        }
    }

    fn outside_ended(&self, record: &Record, next: Next, told: Option<Told>) -> Ran {
        match next {
            Next::Ended(outcome, reason) => {
                let started = self.outside(record.key).ok().flatten().map(|outside| outside.started_at);
                let duration = started.map(|started| outcome.ended_at.since(started)).unwrap_or_default();
                said_finished(record, outcome.ret, reason.as_deref(), duration);
                Ran::Ended(*outcome, told)
            }
            Next::Wait => Ran::Left,
        }
    }

    /// Runs a check, or sees one to its end that was begun before. `None`: told to leave it.
    async fn check(
        &self,
        record: &Record,
        outside: &Outside,
        begun: &RunDir,
    ) -> Result<Option<(Checked, Option<Told>)>, Error> {
        let not_started = |why: String| Some((Checked { not_started: Some(why), ..Checked::default() }, None));
        // The claim first: if it is free and there is no record then, there never will be.
        let claim = begun.claim(&self.boot_id).map_err(Error::run(begun.path()))?;
        if let Some(end) = EndRecord::read(begun.path()).map_err(Error::run(begun.path()))? {
            return Ok(Some((checked(end), None)));
        }
        let mut running = if claim == Claim::Held {
            Running::attach_to(begun.clone(), &self.boot_id).map_err(Error::run(begun.path()))?
        } else {
            match self.begin_check(record.key, outside).await {
                Ok(running) => running,
                Err(NotLaunched::GoingDown(_)) => return Ok(None),
                Err(NotLaunched::Failed(err)) => return Ok(not_started(err.to_string())),
            }
        };
        crash::point("check-launched");
        let end = tokio::select! {
            end = running.end() => end.map_err(Error::run(begun.path()))?,
            () = self.stop.now() => return Ok(None),
        };
        Ok(match end {
            End::Recorded(end, told) => Some((checked(*end), told)),
            End::Vanished(_) => {
                let _ = begun.kill_command();
                let _ = Launcher::kill_unit(&check_unit(record.key, outside.checks)).await;
                not_started("its supervisor was killed".to_owned())
            }
        })
    }

    async fn begin_check(&self, key: ActionKey, outside: &Outside) -> Result<Running, NotLaunched> {
        let launcher = self.launcher.as_ref().map_err(|err| std::io::Error::other(err.to_string()))?;
        // A definition that has changed meanwhile counts; one that is gone does not take its running actions along.
        let mut outside = outside.clone();
        if let Some(definition) = self.settings.external_actions.get(&outside.name) {
            outside.check.clone_from(&definition.check);
            outside.check_timeout = definition.check_timeout;
        }
        let prepared = Prepared::check(self.state, key, outside.checks, &self.boot_id)?;
        crash::point("check-prepared");
        let limits = Limits {
            timeout: Some(outside.check_timeout),
            kill_grace: self.settings.execution.kill_grace,
            kept_output: KEPT,
            group: GroupLimits::default(),
            user: outside.user.clone(),
        };
        prepared.launch(launcher, &outside.check(), &self.environment, limits, &self.boot_id).await
    }
}

/// The result of an external action whose start is over, and after which nobody can ask.
pub(super) fn undefined(record: &Record, end: &EndRecord) -> Option<Outcome> {
    let gone = matches!(end.ended, Some(Ended::Exited(0))) && name_of(record).is_some();
    gone.then(|| {
        let ended = Ended::Interrupted("it was started, and its definition was removed since".to_owned());
        said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
        without_output(&ended)
    })
}

fn checked(end: EndRecord) -> Checked {
    let EndRecord { ended, not_started, stdout, stderr, .. } = end;
    Checked { ended, stdout, stderr, not_started }
}
