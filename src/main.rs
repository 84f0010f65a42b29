//! Process edge: arguments in, exit status out. The program itself is the library.

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind as UsageError;
use rustix::fs::Mode;
use tokio::runtime::Builder;

use opensvc_actions::cli::{Cli, Command, with_tip};
use opensvc_actions::commands::dequeue::Task;
use opensvc_actions::commands::{
    cancel, completions, dequeue, doctor, external, history, pause, plan, register, resume, show, show_config, status,
    systemd_check, systemd_start,
};
use opensvc_actions::error::{Error, Exit};
use opensvc_actions::executor::{drain, run_as, supervisor};
use opensvc_actions::telemetry::{color, log, service};
use opensvc_actions::wake::activation::Activation;

fn main() -> ExitCode {
    // The small processes around a command: before anything else is set up.
    match std::env::args_os().nth(1) {
        Some(argument) if argument == supervisor::ARGUMENT => {
            return if supervisor::run() { Exit::Ok } else { Exit::Unavailable }.into();
        }
        Some(argument) if argument == drain::ARGUMENT => {
            return if drain::run() { Exit::Ok } else { Exit::Usage }.into();
        }
        Some(argument) if argument == run_as::ARGUMENT => {
            return if run_as::run() { Exit::Ok } else { Exit::Unavailable }.into();
        }
        _ => {}
    }
    if let Some(arguments) = helper_arguments() {
        return helper(arguments);
    }
    std::panic::set_hook(Box::new(die_of_a_bug));
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Before anything can be printed: under inetd, standard error is the peer.
    let activation = Activation::take();
    let cli = match Cli::of_process() {
        Ok(cli) => cli,
        Err(err) => return usage(&with_tip(err), activation),
    };
    if activation.as_ref().is_ok_and(|activation| activation.by_inetd) {
        service::mute();
    }
    service::ready();
    let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    color::decide(cli.global.color.wanted(), no_color.as_deref(), term.as_deref());
    log::init(log::Options {
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
        stderr_was_peer: activation.as_ref().is_ok_and(|activation| activation.stderr_was_peer),
    });
    match run(&cli, activation) {
        Ok(exit) => exit.into(),
        Err(err) => {
            tracing::error!("{}", err.report());
            err.exit().into()
        }
    }
}

/// The command line, if this is `systemd-start` or `systemd-check`, by its own name or by the first word. They are not the
/// handler's: whatever their caller has given them as standard input is no notification.
fn helper_arguments() -> Option<Vec<OsString>> {
    const HELPERS: [&str; 2] = ["systemd-start", "systemd-check"];
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let own = Path::new(arguments.first()?).file_name()?.to_owned();
    if HELPERS.iter().any(|name| own == *name) {
        arguments.insert(1, own);
        return Some(arguments);
    }
    HELPERS.iter().any(|name| arguments.get(1).is_some_and(|word| word == *name)).then_some(arguments)
}

fn helper(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(err) => return usage(&err, Err(ErrorKind::Other.into())),
    };
    let done = block_on(async || match &cli.command {
        Some(Command::SystemdStart(options)) => systemd_start::run(options).await,
        Some(Command::SystemdCheck(options)) => systemd_check::run(options).await,
        _ => Ok(Exit::Usage),
    });
    match done.and_then(|done| done) {
        Ok(exit) => exit.into(),
        Err(err) => {
            // What cannot be said, on a full disk for one, is still told by the exit status.
            let _ = writeln!(std::io::stderr(), "opensvc-actions: {}", err.report());
            err.exit().into()
        }
    }
}

fn run(cli: &Cli, activation: std::io::Result<Activation>) -> Result<Exit, Error> {
    let global = &cli.global;
    let task = match &cli.command {
        None => Task::AsStarted,
        Some(Command::Dequeue { no_wait }) => Task::Dequeue { no_wait: *no_wait },
        Some(Command::Report) => Task::Report,
        Some(Command::Status(options)) => return status::run(global, options),
        Some(Command::History(options)) => return history::run(global, options),
        Some(Command::Show(options)) => return show::run(global, options),
        Some(Command::Cancel { id }) => return cancel::run(global, *id),
        Some(Command::Pause(options)) => return pause::run(global, options),
        Some(Command::Resume) => return resume::run(global),
        Some(Command::Plan { file }) => return plan::run(global, file.as_deref()),
        Some(Command::Doctor) => return block_on(|| doctor::run(global))?,
        Some(Command::Register(options)) => return block_on(|| register::run(global, options))?,
        Some(Command::External(what)) => return block_on(|| external::run(global, what))?,
        Some(Command::SystemdStart(options)) => return block_on(|| systemd_start::run(options))?,
        Some(Command::SystemdCheck(options)) => return block_on(|| systemd_check::run(options))?,
        Some(Command::ShowConfig) => return show_config::run(global),
        Some(Command::Completions { shell }) => return completions::run(*shell),
    };
    let activation = activation.map_err(Error::Start)?;
    block_on(|| dequeue::run(global, task, activation))
}

/// Runs a future to its end, on this thread.
fn block_on<F: Future>(future: impl FnOnce() -> F) -> Result<F::Output, Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    let done = runtime.block_on(future());
    // Dropping it would wait for a name server that never answers.
    runtime.shutdown_background();
    Ok(done)
}

/// A panic is a bug: it is said where everything else is said, and has an exit status of its own.
#[expect(clippy::disallowed_methods, reason = "a panic does not return to main")]
fn die_of_a_bug(panic: &std::panic::PanicHookInfo<'_>) {
    tracing::error!("bug, please report it: {panic}");
    std::process::exit(Exit::Software as i32);
}

/// Prints help or what is wrong with the arguments. A socket is drained all the same: a mistake in a unit must not make
/// systemd start this program again and again until it closes the port.
fn usage(err: &clap::Error, activation: std::io::Result<Activation>) -> ExitCode {
    let _ = err.print();
    if let Ok(activation) = activation {
        if !activation.listeners.is_empty() {
            let _ = block_on(|| dequeue::hush(activation));
        }
    }
    match err.kind() {
        UsageError::DisplayHelp | UsageError::DisplayVersion => Exit::Ok.into(),
        _ => Exit::Usage.into(),
    }
}
