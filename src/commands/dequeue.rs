//! `dequeue`, and what happens without a command: become the one handler, or leave the running one a mark. `report` is
//! the same walk with less to do.

use std::time::Duration;

use tokio::time::sleep;

use crate::cli::Global;
use crate::collector::client::Collector;
use crate::commands::{load, require_root};
use crate::config::{Network, Paths, Settings};
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::{agent, boot, environment};
use crate::handler::{Handler, open_ledger};
use crate::telemetry::service;
use crate::wake::activation::Activation;
use crate::wake::lock::{RunLock, WakeFiles};
use crate::wake::notification::{Doorbell, Rings};
use crate::wake::stop::Stop;

/// How often a person who follows another handler looks whether it has ended.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// What a handler is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Fetch, run and report.
    Dequeue {
        /// Do not wait for another handler to end.
        no_wait: bool,
    },
    /// Post results and nothing else.
    Report,
}

/// Handles the queue. What goes wrong is said, and becomes the exit status.
pub async fn run(global: &Global, task: Task, activation: Activation) -> Exit {
    let loaded = require_root().and_then(|()| load(global));
    let allow: &[Network] = loaded.as_ref().map_or(&[], |(_, settings)| &settings.wake.allow);
    let (rings, stop) = (Rings::default(), Stop::default());
    let start = Start {
        task,
        follow: activation.terminal && task == Task::Dequeue { no_wait: false },
        listening: !activation.listeners.is_empty(),
        connected: !activation.connections.is_empty(),
    };
    let mut doorbell = match Doorbell::new(activation, allow, &rings) {
        Ok(doorbell) => doorbell,
        Err(err) => return fail(&Error::Start(err)),
    };
    let knocked = start.connected || doorbell.was_knocked_at();
    let exit = tokio::select! {
        () = stop.too_late() => {
            tracing::warn!("told to stop, and something is still unfinished: it waits for the next start");
            Exit::Ok
        }
        exit = handle(&start, knocked, &rings, &stop, &loaded) => exit,
        never = doorbell.watch(allow, &rings) => match never {},
        broken = stop.hear_signals() => match broken {
            Ok(never) => match never {},
            Err(err) => fail(&Error::Start(err)),
        },
    };
    service::stopping();
    doorbell.hear_out().await;
    exit
}

/// Drains the sockets until it is quiet, and does nothing else.
pub async fn hush(activation: Activation) {
    let rings = Rings::default();
    let Ok(mut doorbell) = Doorbell::new(activation, &[], &rings) else { return };
    tokio::select! {
        () = rings.hush() => {}
        never = doorbell.watch(&[], &rings) => match never {},
    }
}

/// How this process was started, as far as it matters here.
struct Start {
    task: Task,
    /// Somebody sits at a terminal and wants to see the end of it.
    follow: bool,
    /// Notifications can still arrive.
    listening: bool,
    /// This process is one notification's.
    connected: bool,
}

async fn handle(
    start: &Start,
    knocked: bool,
    rings: &Rings,
    stop: &Stop,
    loaded: &Result<(Paths, Settings), Error>,
) -> Exit {
    if start.listening && knocked {
        rings.first().await;
    }
    let done = match loaded {
        Ok((paths, settings)) => {
            let run = Run { start, rings, stop, paths, settings };
            // On the heap: it is the bulk of this program's state.
            Box::pin(run.become_handler()).await.map_err(|err| fail(&err))
        }
        Err(err) => Err(fail(err)),
    };
    match done {
        Ok(exit) => exit,
        Err(exit) => {
            if start.listening {
                rings.hush().await;
            }
            exit
        }
    }
}

/// How far reporting alone went.
enum Reported {
    Done(Exit),
    /// Somebody wants a fetch who could not have the lock meanwhile.
    FetchOwed,
}

/// What a run needs to know.
struct Run<'a> {
    start: &'a Start,
    rings: &'a Rings,
    stop: &'a Stop,
    paths: &'a Paths,
    settings: &'a Settings,
}

impl Run<'_> {
    async fn become_handler(&self) -> Result<Exit, Error> {
        let Self { start, rings, stop, settings, .. } = self;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let notified = rings.count() > 0;
        if !notified && (start.connected || rings.ignored() > 0) {
            tracing::debug!("started by a sender that does not count: nothing to do");
            return Ok(Exit::Ok);
        }
        let wake = WakeFiles::open(&self.paths.state)?;
        if start.task == Task::Report {
            match self.only_report(&wake).await? {
                Reported::Done(exit) => return Ok(exit),
                Reported::FetchOwed => tracing::info!("another start left its work to this one: handling the queue"),
            }
        }
        let mut exit = Exit::Ok;
        loop {
            // First the mark, then the lock: whoever holds it sees the mark, or we get the lock.
            wake.set_mark()?;
            rings.take();
            match wake.try_lock()? {
                Some(mut lock) => {
                    crash::point("locked");
                    lock.sign();
                    exit = exit.and(self.handler(&wake, &lock)?.run(notified).await);
                    drop(lock);
                    if stop.is_asked() || !wake.is_marked() {
                        return Ok(exit);
                    }
                    // Set between the handler's last look and the end of its lock.
                }
                None if start.listening && rings.wait_or_quiet().await => {}
                None if start.follow && !stop.is_asked() => self.follow(&wake).await,
                None => {
                    tracing::debug!("another handler works on this node: it has been told");
                    return Ok(exit);
                }
            }
        }
    }

    /// Posts results under the lock, or tells the handler that holds it. A starter that comes while this holds the lock
    /// relies on it for a fetch; a mark that was there before is nobody's, since every starter sets its own.
    async fn only_report(&self, wake: &WakeFiles) -> Result<Reported, Error> {
        for tell in [true, false] {
            let before = wake.mark();
            if let Some(mut lock) = wake.try_lock()? {
                lock.sign();
                let exit = self.handler(wake, &lock)?.report().await;
                drop(lock);
                let done = self.stop.is_asked() || wake.mark() == before;
                return Ok(if done { Reported::Done(exit) } else { Reported::FetchOwed });
            }
            if tell {
                wake.set_mark()?;
            }
        }
        tracing::info!("another handler works on this node: it has been told");
        Ok(Reported::Done(Exit::Ok))
    }

    /// Waits for the running handler to end.
    async fn follow(&self, wake: &WakeFiles) {
        let who = wake.holder().map_or_else(String::new, |pid| format!(" (process {pid})"));
        tracing::info!("another handler{who} works on this node: waiting for it");
        while !self.stop.is_asked() && !matches!(wake.try_lock(), Ok(Some(_))) {
            tokio::select! { () = sleep(FOLLOW_INTERVAL) => {}, () = self.stop.asked() => {} }
        }
    }

    fn handler<'a>(&'a self, wake: &'a WakeFiles, lock: &'a RunLock) -> Result<Handler<'a>, Error> {
        let settings = self.settings;
        Ok(Handler {
            settings,
            collectors: settings.queues.iter().map(Collector::new).collect::<Result<_, _>>()?,
            agent: agent::find(&settings.execution.om, std::env::var_os("PATH").as_deref()),
            state: &self.paths.state,
            boot_id: boot::id().map_err(Error::Start)?,
            environment: environment::for_command(std::env::vars_os(), &settings.execution.environment),
            ledger: open_ledger(&self.paths.state)?,
            wake,
            lock,
            rings: self.rings,
            listening: self.start.listening,
            stop: self.stop,
        })
    }
}

fn fail(err: &Error) -> Exit {
    tracing::error!("{}", err.report());
    err.exit()
}
