//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::collector::Kind;
use crate::contender::Dialect;

/// Measures whole runs of the handler beside the floor, which does the least that does the work, and beside any other
/// program that dequeues.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Rounds that count; of more than 100 actions a tenth as many, at least 5
    #[arg(long, default_value_t = 30)]
    pub(crate) rounds: usize,
    /// Rounds before them that do not count [default: a fifteenth, at least 1]
    #[arg(long)]
    pub(crate) warm_up: Option<usize>,
    /// How many actions are queued
    #[arg(long, value_delimiter = ',', default_value = "0,1,10,1000")]
    pub(crate) actions: Vec<usize>,
    /// Milliseconds that a round trip to the collector takes in addition
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub(crate) rtt: Vec<f64>,
    /// How the collector is spoken to
    #[arg(long, value_delimiter = ',', default_value = "oc3,rpc")]
    pub(crate) dialect: Vec<Dialect>,
    /// Who answers
    #[arg(long, default_value = "fixed")]
    pub(crate) collector: Kind,
    /// What passes the notification on
    #[arg(long, default_value = "listening")]
    pub(crate) start: Start,
    /// How the handler starts supervisors
    #[arg(long, default_value = "direct")]
    pub(crate) launcher: Launcher,
    /// The handler, instead of the one that is built
    #[arg(long)]
    pub(crate) handler: Option<PathBuf>,
    /// A program to measure as well, run as `PATH --root DIR` (and with `OSVC_ROOT_PATH`) in a node's root with etc/node.conf and
    /// etc/actions.toml, with a socket as systemd passes it, but without `LISTEN_PID`; it has to fetch, run the actions with the program
    /// that `execution.om` names, report, and exit with 0
    #[arg(long)]
    pub(crate) other: Vec<PathBuf>,
    /// Of the order in which the contenders take their turns, and of the intervals [default: another each time]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Leave out what strace counts and how much memory a supervisor takes
    #[arg(long)]
    pub(crate) no_counts: bool,
    /// Where to write everything that was measured, as JSON
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// It runs in that machine
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// What a contender is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    /// A listening socket with a connection that waits (systemd's `Accept=no`, which is what is shipped)
    Listening,
    /// The connection (`Accept=yes`, inetd)
    Connected,
    /// Nothing, as a timer starts it
    Timer,
}

impl Start {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Connected => "connected",
            Self::Timer => "timer",
        }
    }
}

/// A value of `execution.launcher`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Launcher {
    /// The handler starts them
    Direct,
    /// The service manager does, each in a unit of its own: in a machine that is booted for it (root, systemd-container, the tree of
    /// `tests/system`). Those units are no descendants of the handler: neither are they part of its processor time, nor can strace count
    Systemd,
}

impl Launcher {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Systemd => "systemd",
        }
    }
}

impl Options {
    /// The same again for a run elsewhere, but for the contenders and for what goes where.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let dialects: Vec<&str> = self.dialect.iter().map(|dialect| dialect.name()).collect();
        let mut arguments = vec![
            format!("--rounds={}", self.rounds),
            format!("--actions={}", joined(&self.actions)),
            format!("--rtt={}", joined(&self.rtt)),
            format!("--dialect={}", dialects.join(",")),
            format!("--start={}", self.start.name()),
            format!("--collector={}", self.collector.name()),
            format!("--launcher={}", self.launcher.name()),
        ];
        arguments.extend(self.warm_up.map(|rounds| format!("--warm-up={rounds}")));
        arguments.extend(self.seed.map(|seed| format!("--seed={seed}")));
        arguments
    }

    /// How many rounds do not count, and how many do.
    pub(crate) fn rounds(&self, actions: usize) -> (usize, usize) {
        let rounds = if actions > 100 { (self.rounds / 10).max(self.rounds.min(5)) } else { self.rounds }.max(1);
        (self.warm_up.unwrap_or((rounds / 15).max(1)), rounds)
    }
}

fn joined(numbers: &[impl ToString]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
