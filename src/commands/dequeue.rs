//! `dequeue`, and what happens without a command: become the one handler, or leave the running one a mark.

use std::time::Duration;

use tokio::time::sleep;

use crate::cli::Global;
use crate::collector::client::Collector;
use crate::commands::{load, require_root};
use crate::config::{Network, Paths, Settings};
use crate::error::{Error, Exit};
use crate::executor::{agent, environment};
use crate::handler::Handler;
use crate::ledger::Ledger;
use crate::telemetry::service;
use crate::wake::activation::Activation;
use crate::wake::lock::{RunLock, WakeFiles};
use crate::wake::notification::{Doorbell, Rings};
use crate::wake::stop::Stop;

/// How often a person who follows another handler looks whether it has ended.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// How this process was started, as far as it matters here.
struct Start {
    /// Somebody sits at a terminal and wants to see the end of it.
    follow: bool,
    listening: bool,
    /// There was a connection, of whatever sender.
    knocked: bool,
    /// A connection that this process was started with counts as a notification.
    notified: bool,
}

/// Handles the queue.
///
/// # Errors
/// Never: what goes wrong is said, and becomes the exit status.
pub async fn run(global: &Global, no_wait: bool, activation: Activation) -> Exit {
    let follow = activation.terminal && !no_wait;
    let loaded = require_root().and_then(|()| load(global));
    let allow: &[Network] = loaded.as_ref().map_or(&[], |(_, settings)| &settings.wake.allow);
    let mut doorbell = match Doorbell::new(activation) {
        Ok(doorbell) => doorbell,
        Err(err) => return fail(&Error::Start(err)),
    };
    let senders = doorbell.senders();
    let start = Start {
        follow,
        listening: doorbell.is_listening(),
        knocked: doorbell.was_knocked_at() || !senders.is_empty(),
        notified: senders.iter().any(|sender| allow.is_empty() || allow.iter().any(|net| net.contains(*sender))),
    };
    let (rings, stop) = (Rings::default(), Stop::default());
    let exit = tokio::select! {
        exit = handle(&start, &rings, &stop, &loaded) => exit,
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

async fn handle(start: &Start, rings: &Rings, stop: &Stop, loaded: &Result<(Paths, Settings), Error>) -> Exit {
    if start.listening && start.knocked {
        rings.first().await;
    }
    let exit = match loaded {
        Ok((paths, settings)) => match become_handler(start, rings, stop, paths, settings).await {
            Ok(exit) => return exit,
            Err(err) => fail(&err),
        },
        Err(err) => fail(err),
    };
    if start.listening {
        rings.hush().await;
    }
    exit
}

async fn become_handler(
    start: &Start,
    rings: &Rings,
    stop: &Stop,
    paths: &Paths,
    settings: &Settings,
) -> Result<Exit, Error> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let wake = WakeFiles::open(&paths.state)?;
    let notified = start.notified || rings.count() > 0;
    if start.knocked && !notified && (rings.ignored() > 0 || !start.listening) {
        tracing::debug!("started by a sender that does not count (wake.allow): nothing to do");
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::Ok;
    loop {
        // First the mark, then the lock: whoever holds it sees the mark, or we get the lock.
        wake.set_mark()?;
        rings.take();
        match wake.try_lock()? {
            Some(mut lock) => {
                lock.sign();
                exit = exit.and(work(start, rings, stop, paths, settings, &wake, &lock, notified).await?);
                drop(lock);
                if stop.is_asked() || !wake.is_marked() {
                    return Ok(exit);
                }
                // Set between the handler's last look and the end of its lock.
            }
            None if start.listening && rings.wait_or_quiet().await => {}
            None if start.follow && !stop.is_asked() => follow(&wake, stop).await,
            None => {
                tracing::debug!("another handler works on this node: it has been told");
                return Ok(exit);
            }
        }
    }
}

/// Waits a little for the running handler.
async fn follow(wake: &WakeFiles, stop: &Stop) {
    let who = wake.holder().map_or_else(String::new, |pid| format!(" (process {pid})"));
    tracing::info!("another handler{who} works on this node: waiting for it");
    while !stop.is_asked() {
        tokio::select! { () = sleep(FOLLOW_INTERVAL) => {}, () = stop.asked() => {} }
        if matches!(wake.try_lock(), Ok(Some(_))) {
            return;
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the pieces of one call, put together here and nowhere else")]
async fn work(
    start: &Start,
    rings: &Rings,
    stop: &Stop,
    paths: &Paths,
    settings: &Settings,
    wake: &WakeFiles,
    lock: &RunLock,
    notified: bool,
) -> Result<Exit, Error> {
    let handler = Handler {
        settings,
        collectors: settings.queues.iter().map(Collector::new).collect::<Result<_, _>>()?,
        agent: agent::find(&settings.execution.om, std::env::var_os("PATH").as_deref()),
        environment: environment::for_command(std::env::vars_os(), &settings.execution.environment),
        ledger: Ledger::open(&paths.state)?,
        wake,
        lock,
        rings,
        listening: start.listening,
        stop,
    };
    Ok(handler.run(notified).await)
}

fn fail(err: &Error) -> Exit {
    tracing::error!("{}", err.report());
    err.exit()
}
