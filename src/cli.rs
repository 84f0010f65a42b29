//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

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

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Move every file under DIR: DIR/etc, DIR/var/actions
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Read FILE instead of actions.toml and its drop-ins
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of text, where a command prints anything
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; -vv also says which exchanges are made with collectors
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say warnings and errors only
    #[arg(short, long, global = true)]
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
    /// Print the effective settings and where each comes from; nothing is sent anywhere
    ShowConfig,
}
