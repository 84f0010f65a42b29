//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, ArgGroup, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::action::Queue;
use crate::action::civil::Civil;
use crate::action::name::ActionName;
use crate::action::time::Timestamp;
use crate::config::duration;
use crate::config::nearest::nearest;

/// Fetches the actions that an OpenSVC collector has queued for this node, runs them and reports their results.
///
/// Without a command it does what its way of being started asks for: started by a systemd socket, by inetd or by a
/// timer it handles the queue and exits; on a terminal it does the same as `dequeue`.
#[derive(Debug, Parser)]
#[command(name = "opensvc-actions", version, max_term_width = 100)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The command line of units: options alone.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct WithoutCommand {
    #[command(flatten)]
    global: Global,
}

impl Cli {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// When it is wrong, or asks for help or the version.
    pub fn of_process() -> Result<Self, clap::Error> {
        // To make all commands known takes a quarter of a millisecond, which every start would pay.
        match WithoutCommand::try_parse() {
            Ok(WithoutCommand { global }) => Ok(Self { global, command: None }),
            Err(_) => Self::try_parse(),
        }
    }
}

/// The same error; a command that was mistyped is told.
#[must_use]
pub fn with_tip(mut err: clap::Error) -> clap::Error {
    let tip = match err.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => {
            let command = Cli::command();
            nearest(word, command.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
        }
        _ => None,
    };
    if let Some(tip) = tip {
        err.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![tip]));
    }
    err
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Move every file under DIR: DIR/etc, DIR/var/actions
    #[arg(long, global = true, display_order = 101, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Read FILE instead of actions.toml and its drop-ins
    #[arg(long, global = true, display_order = 102, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of text, where a command prints anything
    #[arg(long, global = true, display_order = 103)]
    pub json: bool,
    /// Whether text is coloured.
    #[arg(
        help = "Colour text always, never, or (auto) on a terminal unless NO_COLOR is set",
        long,
        global = true,
        display_order = 104,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub color: Color,
    /// Say more; -vv also says which exchanges are made with collectors
    #[arg(short, long, global = true, display_order = 105, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say warnings and errors only
    #[arg(short, long, global = true, display_order = 106)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch, run and report until a fetch brings nothing new and nothing is left to run
    Dequeue {
        /// When another handler works already, leave it a mark and exit at once instead of waiting for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Post the results that no collector has accepted yet; fetch nothing and run nothing
    Report,
    /// Show what this node does and what waits: queues, running, waiting and unreported actions, pause
    Status(Status),
    /// List the actions that have ended, the newest first
    History(History),
    /// Show everything that is known about one action
    Show(Show),
    /// Skip a waiting action or stop a running one; the collector is told 130, cancelled
    Cancel {
        /// The action: 628, rpc:628 or rpc:628.2 (queue, id, generation); a short form has to fit only one
        #[arg(value_name = "ID", allow_negative_numbers = true)]
        id: ActionName,
    },
    /// Take no new actions, over a reboot too, until told to resume; a running one goes on, results still go out
    Pause(Pause),
    /// Take new actions again
    Resume,
    /// Print what would become of actions: the policy's verdict and the words to execute; nothing runs
    Plan {
        /// Actions as collector 3 sends them, {"actions": [...]}; without it, standard input is read
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check configuration, collectors, units, agent, ledger and disk, and say what to do; nothing is changed or fetched
    Doctor,
    /// Obtain this node's uuid from its collector and write it to node.conf, changing nothing else there
    Register(Register),
    /// External actions: list those that are defined here, or start or check one by hand
    #[command(subcommand)]
    External(External),
    /// Start command for an external action that runs in the template unit UNIT@.service; reads the action on standard input
    SystemdStart(SystemdUnit),
    /// Check command for the same; prints how the action is
    SystemdCheck(SystemdUnit),
    /// Print the effective settings and where each comes from; nothing is sent anywhere
    ShowConfig,
    /// Print what a shell needs to complete the command lines of this program
    Completions {
        /// The shell: bash, fish or zsh
        #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
        shell: Shell,
    },
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Wherever it goes.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    /// What was asked for; `None`: to find out.
    #[must_use]
    pub const fn wanted(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::Always => Some(true),
            Self::Never => Some(false),
        }
    }
}

/// Whose command line is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, with bash-completion.
    Bash,
    /// fish.
    Fish,
    /// zsh.
    Zsh,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Exit with 75 when the last contact of a queue is older than AGE, like 10m or 2h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub max_age: Option<Duration>,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Show at most N actions
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Show only those whose result is not 0
    #[arg(long)]
    pub failed: bool,
    /// Show only those that ended since TIME: 2026-11-21, 2026-11-21T09:00 (local time), 2026-11-21T09:00+01:00, or 2h ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
}

/// Options of `show`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("stream").args(["stdout", "stderr"]))]
pub struct Show {
    /// The action: 628, rpc:628 or rpc:628.2 (queue, id, generation); a short form has to fit only one
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    pub id: ActionName,
    /// Print what it wrote to standard output, and nothing else
    #[arg(long)]
    pub stdout: bool,
    /// Print what it wrote to standard error, and nothing else
    #[arg(long)]
    pub stderr: bool,
}

/// Options of `pause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// Why, for whoever asks for the status
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Resume by itself after TIME, like 30m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = age)]
    pub duration: Option<Duration>,
}

/// Options of `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// A user of the collector who may register nodes; the password is asked for, or read from standard input
    #[arg(long, value_name = "USER", value_parser = user)]
    pub user: Option<String>,
    /// Read that user's password from the first line of FILE
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// The application that the node belongs to, instead of node.app of node.conf or the user's own
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Which collector, where node.conf names both: oc3 or rpc
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<Queue>,
    /// Post the least inventory that makes collector 3 offer this node its actions; alone, on a registered node, nothing else
    #[arg(long)]
    pub asset: bool,
    /// Replace another uuid in node.conf
    #[arg(long)]
    pub force: bool,
}

/// What to do by hand about external actions.
#[derive(Debug, Subcommand)]
pub enum External {
    /// List the external actions that are defined on this node
    List,
    /// Run the start command of an external action as a queued action would, and print the id that it was given
    Start {
        /// Which external action
        #[arg(value_name = "NAME")]
        name: String,
        /// Its arguments: one JSON value
        #[arg(value_name = "ARGS")]
        args: Option<String>,
        /// Use ID, a UUID, instead of a new one
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Run the check command of an external action, and print what it says
    Check {
        /// Which external action
        #[arg(value_name = "NAME")]
        name: String,
        /// The id that its start has printed
        #[arg(value_name = "ID")]
        id: String,
        /// The arguments that it was started with: one JSON value
        #[arg(value_name = "ARGS")]
        args: Option<String>,
    },
}

/// Options of `systemd-start` and `systemd-check`: those of the scripts of these names.
#[derive(Debug, Args)]
#[command(infer_long_args = true)]
pub struct SystemdUnit {
    /// Ask the user's manager instead of the system's
    #[arg(long)]
    pub user: bool,
    /// Keep what the unit reads, and what is known of it, in DIR
    #[arg(long, value_name = "DIR", default_value = "/run")]
    pub data: PathBuf,
    /// The template unit, without "@" and ".service"
    #[arg(value_name = "UNIT")]
    pub unit: String,
}

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
    /// When the local clock shows this.
    Local(Civil),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::Local(time));
        }
        if text.contains('-') {
            return text.parse().map(Self::At).map_err(|err| format!("{err}"));
        }
        let ago = age(text.strip_suffix(" ago").unwrap_or(text));
        ago.map(Self::Ago).map_err(|_| "write 2026-11-21, 2026-11-21T09:00, 2h or 30m".to_owned())
    }
}

/// A user's name as HTTP can say it (RFC 7617): behind a colon begins the password.
fn user(text: &str) -> Result<String, String> {
    if text.contains(':') { Err("a user's name holds no colon".to_owned()) } else { Ok(text.to_owned()) }
}

fn age(text: &str) -> Result<Duration, String> {
    duration::parse(text, &(Duration::from_millis(1)..=duration::LONGEST))
}
