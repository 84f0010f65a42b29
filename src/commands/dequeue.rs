//! `dequeue`, and what happens without a command: become the one handler, or leave the running one a mark.

use std::cell::RefCell;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::action::schedule::Verdict;
use crate::cli::Global;
use crate::collector::client::Collector;
use crate::commands::live::{How, Live};
use crate::commands::scheduled::{self, Standing};
use crate::commands::{load, now, pause, require_root, system_time};
use crate::config::{ConfigError, Network, Paths, Settings};
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::launcher::{Launcher, NoLauncher};
use crate::executor::{agent, boot, environment, machine};
use crate::handler::{Handler, Progress, open_ledger};
use crate::ledger::pause::Pause;
use crate::telemetry::service;
use crate::wake::activation::Activation;
use crate::wake::dequeuers;
use crate::wake::lock::{Owed, RunLock, WakeFiles};
use crate::wake::notification::{Doorbell, Rings};
use crate::wake::protocol::{self, Process, Seen, Step};
use crate::wake::stop::Stop;

/// How often a person who follows another handler looks whether it has ended.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// What a handler is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// What the way of being started asks for.
    AsStarted,
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
    // Where the configuration is broken, a notification leaves its mark all the same.
    let paths = Paths::resolve(global.root.as_deref(), &|name| std::env::var_os(name));
    let wake = require_root().and_then(|()| Ok(WakeFiles::open(&paths.state)?));
    let (rings, stop) = (Rings::marking(wake.as_ref().ok().cloned()), Stop::default());
    let (listening, connected) = (!activation.listeners.is_empty(), !activation.connections.is_empty());
    let own_ports = activation.ports();
    let follow = activation.terminal && matches!(task, Task::AsStarted | Task::Dequeue { no_wait: false });
    let person = activation.terminal && task != Task::Report && !global.quiet;
    let unasked = task == Task::AsStarted && !activation.terminal && !activation.by_inetd;
    let mut doorbell = match Doorbell::new(activation, allow, &rings) {
        Ok(doorbell) => doorbell,
        Err(err) => return fail(&Error::Start(err)),
    };
    let knocked = connected || doorbell.was_knocked_at();
    let start = protocol::Start { listening, knocked, follow };
    let how = if person && loaded.is_ok() && wake.is_ok() { How::for_person() } else { How::Not };
    let secret: &[String] = loaded.as_ref().map_or(&[], |(_, settings)| &settings.log.redact);
    let live = Live::new(how, &paths.state, &stop, secret, global.verbose > 0);
    let run = match (&loaded, &wake) {
        (Ok((paths, settings)), Ok(wake)) => {
            let by_timer = unasked && !knocked;
            Ok(Run {
                rings: &rings,
                stop: &stop,
                paths,
                settings,
                own_ports,
                wake,
                by_timer,
                live: &live,
                holder: None,
            })
        }
        (Err(err), _) | (_, Err(err)) => Err(err),
    };
    for warning in loaded.iter().flat_map(|(_, settings)| &settings.warnings) {
        tracing::warn!("{warning}");
    }
    // Nothing happens then, and a person would wonder why.
    if let Ok(Some(pause)) =
        Pause::in_force(&paths.state, now()).as_ref().map(|pause| pause.as_ref().filter(|_| person))
    {
        let text = pause::in_words(pause);
        tracing::warn!("this node is paused {text}: nothing new is taken until 'opensvc-actions resume'");
    }
    let exit = tokio::select! {
        () = stop.too_late() => {
            tracing::warn!("told to stop, and something is still unfinished: it waits for the next start");
            Exit::Ok
        }
        // On the heap: it is the bulk of this program's state.
        exit = Box::pin(perform(task, start, run, &rings, &stop)) => exit,
        never = doorbell.watch(allow, &rings) => match never {},
        never = live.watch() => match never {},
        broken = stop.hear_signals() => match broken {
            Ok(never) => match never {},
            Err(err) => fail(&Error::Start(err)),
        },
    };
    live.end();
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

/// Does what it was started for.
async fn perform(
    task: Task,
    mut start: protocol::Start,
    mut run: Result<Run<'_>, &Error>,
    rings: &Rings,
    stop: &Stop,
) -> Exit {
    // Only where the timer starts the same service.
    let stands_in = task == Task::AsStarted && start.listening && start.knocked;
    if let Some(run) = run.as_mut().ok().filter(|_| stands_in) {
        if rings.first().await == Seen::Ignored && run.timer_is_overdue() {
            tracing::debug!("senders that do not count keep the timer from starting this: it is done for the timer");
            (run.by_timer, start.knocked) = (true, false);
        }
    }
    let reported = match &run {
        Ok(run) if task == Task::Report => Some(run.only_report().await),
        Ok(run) if run.by_timer => run.keep_to_schedule().await.transpose(),
        _ => None,
    };
    if let Some(reported) = reported {
        match reported {
            Ok(Reported::Done(exit)) => return exit,
            Ok(Reported::FetchOwed) => tracing::info!("another start left its work to this one: handling the queue"),
            Err(err) => return fail(&err),
        }
    }
    follow_protocol(Process::new(start), run, rings, stop).await
}

/// Does one step after the other, as the protocol says. Between two waits nothing else happens in this process: what is
/// accepted after the last wait stays with the kernel.
async fn follow_protocol(mut process: Process, mut run: Result<Run<'_>, &Error>, rings: &Rings, stop: &Stop) -> Exit {
    let mut exit = Exit::Ok;
    loop {
        let seen = match (process.step(), &mut run) {
            (Step::Exit, _) => return exit,
            (Step::Listen, _) => Ok(rings.first().await),
            (Step::Linger, _) => Ok(tokio::select! { seen = rings.linger() => seen, () = stop.asked() => Seen::Quiet }),
            (Step::Hush, _) => {
                tokio::select! { () = rings.hush() => {}, () = stop.asked() => {} }
                Ok(Seen::Done)
            }
            (next, Ok(run)) => run.perform(next, &mut exit).await.inspect_err(|err| run.give_up(err)),
            (_, Err(err)) => {
                exit = exit.and(fail(err));
                Ok(Seen::Failed)
            }
        };
        let seen = seen.unwrap_or_else(|err| {
            exit = exit.and(fail(&err));
            Seen::Failed
        });
        process = process.next(seen, stop.is_asked());
    }
}

/// How far reporting alone went.
enum Reported {
    Done(Exit),
    /// Somebody wants a fetch who could not have the lock meanwhile.
    FetchOwed,
}

/// What a run needs to know, and what it has.
struct Run<'a> {
    rings: &'a Rings,
    stop: &'a Stop,
    paths: &'a Paths,
    settings: &'a Settings,
    /// Of the sockets that this process was given.
    own_ports: Vec<u16>,
    wake: &'a WakeFiles,
    /// Nobody asked for this run.
    by_timer: bool,
    /// What a person sees.
    live: &'a Live<'a>,
    /// While this process holds the lock.
    holder: Option<(Handler<'a>, Progress)>,
}

impl<'a> Run<'a> {
    /// Does one step of the protocol.
    async fn perform(&mut self, step: Step, exit: &mut Exit) -> Result<Seen, Error> {
        Ok(match (step, &mut self.holder) {
            (Step::SetMark, _) => {
                // A notification that comes meanwhile sets its own.
                self.wake.set_mark_for(self.whom())?;
                self.rings.take();
                Seen::Done
            }
            (Step::TryLock, _) => {
                if let Some(lock) = self.wake.try_lock()? {
                    return self.hold(lock).await;
                }
                self.wake.repeat_mark_for(self.whom());
                // Who does not see that any more has let go of the lock.
                if let Some(lock) = self.wake.try_lock()? {
                    return self.hold(lock).await;
                }
                tracing::debug!("another handler works on this node: it has been told");
                Seen::Busy
            }
            (Step::Follow, _) => match self.follow().await? {
                Some(lock) => self.hold(lock).await?,
                None => Seen::Done,
            },
            (Step::Pace, Some((handler, _))) => {
                handler.pace().await;
                Seen::Done
            }
            (Step::TakeMark, Some((_, progress))) => {
                let was_marked = self.wake.take_mark()?;
                if was_marked {
                    progress.heard(self.wake.notifications_taken());
                }
                if was_marked | self.rings.take() {
                    progress.start_afresh();
                }
                Seen::Done
            }
            (Step::Work, Some((handler, progress))) => {
                if handler.round(progress).await? {
                    Seen::News
                } else {
                    Seen::Nothing
                }
            }
            (Step::LookAtMark, _) if self.wake.is_marked() => Seen::Marked,
            (Step::LookAtMark, _) => Seen::Unmarked,
            (Step::Unlock, holder) => {
                if let Some((handler, progress)) = holder.take() {
                    *exit = exit.and(handler.end(&progress));
                }
                Seen::Done
            }
            // Not without the lock, or not here.
            (Step::Pace | Step::TakeMark | Step::Work, None)
            | (Step::Listen | Step::Linger | Step::Hush | Step::Exit, _) => Seen::Failed,
        })
    }

    /// For whom this run sets the mark.
    fn whom(&self) -> Owed {
        if self.by_timer { Owed::BySchedule } else { Owed::ToSomebody }
    }

    /// Becomes the handler.
    async fn hold(&mut self, lock: RunLock) -> Result<Seen, Error> {
        self.live.hold();
        let (handler, progress) = self.holder.insert((self.handler(lock, true).await?, Progress::default()));
        *progress = handler.begin().await?;
        Ok(Seen::Locked)
    }

    /// Something local has failed: nothing can be done any more.
    fn give_up(&mut self, err: &Error) {
        if let Some((handler, progress)) = self.holder.take() {
            handler.give_up(err, &progress);
        }
    }

    /// A handler that is about to `fetch`, or not.
    async fn handler(&self, mut lock: RunLock, fetch: bool) -> Result<Handler<'a>, Error> {
        crash::point("locked");
        lock.sign();
        machine::remember(&self.paths.state);
        let settings = self.settings;
        let collectors: Vec<_> = settings.queues.iter().map(Collector::new).collect::<Result<_, _>>()?;
        let agent = agent::find(&settings.execution.om, std::env::var_os("PATH").as_deref());
        let launcher = self.launcher()?;
        let others = dequeuers::find(self.paths, &settings.queues, settings.listener_port, &self.own_ports);
        let nothing_stops = agent.is_ok() && launcher.is_ok() && others.is_empty() && !self.stop.is_asked();
        if fetch
            && nothing_stops
            && lock.rest(settings.wake.min_interval, system_time()).is_none()
            && self.is_unpaused()
        {
            // Its round trips pass while the ledger is opened. It gets on whenever this yields.
            collectors.first().into_iter().for_each(Collector::connect);
        }
        yield_now().await;
        let boot_id = boot::id().map_err(Error::Start)?;
        let environment = environment::for_command(std::env::vars_os(), &settings.execution.environment);
        yield_now().await;
        let ledger = RefCell::new(open_ledger(&self.paths.state)?);
        yield_now().await;
        Ok(Handler {
            settings,
            collectors,
            agent,
            state: &self.paths.state,
            launcher,
            boot_id,
            environment,
            ledger,
            wake: self.wake,
            others,
            lock,
            stop: self.stop,
        })
    }

    /// Whether it is certain that this node is not paused now.
    fn is_unpaused(&self) -> bool {
        Pause::in_force(&self.paths.state, now()).is_ok_and(|pause| pause.is_none())
    }

    /// Who starts commands; that there may be nobody is not decided here. Limits of the policy that cannot be held are a
    /// mistake of the configuration: nothing is fetched that would then run without them.
    fn launcher(&self) -> Result<Result<Launcher, NoLauncher>, Error> {
        let launcher = Launcher::choose(self.settings.execution.launcher);
        for rule in &self.settings.policy.rules {
            if let Err(reason) = launcher.as_ref().map_or(Ok(()), |launcher| launcher.can_limit(rule.group)) {
                return Err(Error::Config(ConfigError::Value {
                    path: rule.place.file.clone(),
                    line: rule.place.line,
                    key: "policy.rule".to_owned(),
                    reason: reason.to_string(),
                }));
            }
        }
        Ok(launcher)
    }

    /// Whether a run of the timer would have fetched, and has not come.
    fn timer_is_overdue(&self) -> bool {
        let standing = Standing::look(self.settings, &self.paths.state, now());
        standing.is_ok_and(|standing| standing.is_overdue()) && self.is_unpaused()
    }

    /// For the run of a timer. `None`: by the schedule it is its turn, or somebody still waits for a fetch. Otherwise it
    /// posts results and nothing else; while another handler works, that one does so. Whoever comes while this holds the
    /// lock relies on it for a fetch.
    async fn keep_to_schedule(&self) -> Result<Option<Reported>, Error> {
        let state = &self.paths.state;
        let standing = Standing::look(self.settings, state, now())?;
        let denials = match standing.turn() {
            Verdict::Denied(_) if standing.is_awaited() => return Ok(None),
            Verdict::Denied(denials) => denials,
            Verdict::Allowed { .. } => {
                if Pause::in_force(state, now()).map_err(Error::Pause)?.is_none() {
                    // First the mark: whatever ends this process before it has fetched, the turn is not used up.
                    self.wake.set_mark_for(Owed::BySchedule)?;
                    scheduled::remember(state, now());
                }
                return Ok(None);
            }
        };
        let why: Vec<_> = denials.iter().map(ToString::to_string).collect();
        tracing::debug!("nothing is fetched, by dequeue_actions.schedule: {}", why.join(", "));
        let Some(lock) = self.wake.try_lock()? else { return Ok(Some(Reported::Done(Exit::Ok))) };
        let exit = self.handler(lock, false).await?.report().await;
        let done = self.stop.is_asked() || self.wake.owed() != Some(Owed::ToSomebody);
        Ok(Some(if done { Reported::Done(exit) } else { Reported::FetchOwed }))
    }

    /// Posts results under the lock, or tells the handler that holds it. A starter that comes while this holds the lock
    /// relies on it for a fetch; a mark that was there before is nobody's, since every starter sets its own, and adds to
    /// it when it finds the lock busy.
    async fn only_report(&self) -> Result<Reported, Error> {
        for tell in [true, false] {
            let before = self.wake.mark();
            if let Some(lock) = self.wake.try_lock()? {
                let exit = self.handler(lock, false).await?.report().await;
                let done = self.stop.is_asked() || self.wake.mark() == before;
                return Ok(if done { Reported::Done(exit) } else { Reported::FetchOwed });
            }
            if tell {
                self.wake.set_mark()?;
            }
        }
        tracing::info!("another handler works on this node: it has been told");
        Ok(Reported::Done(Exit::Ok))
    }

    /// Waits for the running handler to end. `None`: told to stop.
    async fn follow(&self) -> Result<Option<RunLock>, Error> {
        let other = self.wake.holder();
        self.live.follow(other);
        self.stop.set_waits(true);
        let who = other.map_or_else(String::new, |pid| format!(" (process {pid})"));
        tracing::info!("another handler{who} works on this node: waiting for it");
        while !self.stop.is_asked() {
            if let Some(lock) = self.wake.try_lock()? {
                self.stop.set_waits(false);
                return Ok(Some(lock));
            }
            tokio::select! { () = sleep(FOLLOW_INTERVAL) => {}, () = self.stop.asked() => {} }
        }
        Ok(None)
    }
}

fn fail(err: &Error) -> Exit {
    tracing::error!("{}", err.report());
    err.exit()
}
