//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::client::ClientError;
use crate::commands;
use crate::serve::{self, Options, ServeError};
use crate::state::{DEFAULT_DIR, StateDir};
use crate::store::{ActionType, Status};

const JSON_HELP: &str = "\
Documents of --json (dates in RFC 3339, UTC, or null):
  node add                     {name, node_id, uuid, type, connect_to, port, cluster}
  node list                    {nodes: [...]}
  user add, user remove        {name}
  user list                    {users: [{name}, ...]}
  enqueue, show, redo, cancel  {id, node, service, type, command, status, ret, queued, notified,
                               sent, received, reported, dequeued, stdout, stderr}
  list                         {actions: [...]}, each without stdout and stderr

Statuses: W waiting, N notified, S sent, R running, T terminated, C cancelled.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// A small collector for one machine: holds a queue of OpenSVC actions, hands them to nodes, stores their results.
///
/// It speaks the queue protocols of the 1.x/2.x collectors (pull rows, TCP notifications) and of collector 3 (feed rows).
/// Rows are kept for ever. Sites that outgrow it use a real OpenSVC collector: nothing on the nodes changes but the URL.
#[derive(Debug, Parser)]
#[command(name = "opensvc-actions-collector", version, max_term_width = 100, after_long_help = JSON_HELP)]
pub struct Cli {
    /// The server's directory: database, certificates, token.
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_DIR)]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server, until SIGTERM or SIGINT.
    Serve(Serve),
    #[command(flatten)]
    Operator(OperatorCommand),
}

/// What an operator does. Each takes `--json`.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Register nodes, list them.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Users, who may register nodes with their passwords.
    #[command(subcommand)]
    User(UserCommand),
    /// Queue an action; print its number.
    Enqueue(Enqueue),
    /// List the queue.
    List(List),
    /// Show an action, its dates and its result.
    Show(Show),
    /// Queue an action again. Refused while it waits or runs.
    Redo(One),
    /// Cancel an action. Refused when it is terminated; a node that already holds it still runs it.
    Cancel(One),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where to listen; port 0 takes a free one. The line `listening on https://…` says where.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// A certificate chain in PEM, instead of our own. Client commands then want --url, and --ca-file unless the system
    /// trusts it.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// One more name or address for our own certificate, besides this machine's name and localhost. Repeatable.
    #[arg(long = "name", value_name = "NAME", conflicts_with = "cert")]
    names: Vec<String>,
    /// Never connect to nodes: pull rows then wait until they are fetched.
    #[arg(long)]
    no_notify: bool,
    /// Let nodes register themselves without any credentials (the real collectors' `refuse_anon_register = False` and
    /// `allow_anon_register`): whoever can connect can then add nodes. Without it a user's password is needed.
    #[arg(long)]
    allow_anonymous_registration: bool,
    /// Milliseconds before the first attempt to notify.
    #[arg(long, value_name = "MS", default_value_t = 1000, hide = true)]
    notify_delay: u64,
    /// Log each request and each notification.
    #[arg(long, short)]
    verbose: bool,
}

/// What every client command takes.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The server's URL, instead of the address in its directory.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The authority to trust, in PEM, instead of `ca.pem` in its directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The operator's token, instead of `token` in its directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Register a node, or change what is given of it; print its uuid.
    Add(NodeAdd),
    /// List nodes. The uuids are secrets: only --json shows them.
    List(ClientArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user, or give one another password: a line of standard input, or asked for at a terminal. A user may register
    /// any node, and be told the uuid of any.
    Add(UserAdd),
    /// List users.
    List(ClientArgs),
    /// Remove a user. The nodes that it registered stay.
    Remove(UserRemove),
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// The user's name, often a mail address.
    pub(crate) name: String,
    /// Read the password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UserRemove {
    /// The user's name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NodeAdd {
    /// The node's host name.
    pub(crate) name: String,
    /// `pull`: notified, fetches with XML-RPC. `feed`: fetches from the oc3 feeder. Default for a new node: pull.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) action_type: Option<ActionType>,
    /// Its secret. Default for a new node: a random one.
    #[arg(long)]
    pub(crate) uuid: Option<String>,
    /// Where to notify it. Default for a new node: its name.
    #[arg(long, value_name = "HOST")]
    pub(crate) connect_to: Option<String>,
    /// The port to notify it on. Default for a new node: 1214.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Its cluster: nodes of one cluster may acknowledge each other's feed rows. Default for a new node: the empty name.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Enqueue {
    /// The node to run it.
    pub(crate) node: String,
    /// The service it is about; without one it is about the node.
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// The command, as one argument and without a program's name: 'start --local'.
    #[arg(allow_hyphen_values = true)]
    pub(crate) command: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this node's.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only those in this status.
    #[arg(long, value_name = "LETTER", ignore_case = true)]
    pub(crate) status: Option<Status>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The action's number.
    pub(crate) id: i64,
    /// Wait until it is terminated, at most so long; exit 1 if it is not.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The action's number.
    pub(crate) id: i64,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot start")]
    Runtime(#[from] std::io::Error),
}

/// Reads the command line, obeys it, and says with which status to exit: 0, 1 when it failed, 2 when it made no sense.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        let result = runtime.block_on(run(cli));
        // A name being looked up must not delay the exit.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|failure| {
        let mut error: Option<&dyn std::error::Error> = Some(&failure);
        let mut words = Vec::new();
        while let Some(cause) = error {
            words.push(cause.to_string());
            error = cause.source();
        }
        eprintln!("opensvc-actions-collector: {}", words.join(": "));
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let state = StateDir::new(cli.state);
    match cli.command {
        Command::Serve(serve) => {
            start_log(serve.verbose);
            serve::serve(serve.options(state)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Operator(command) => Ok(commands::run(command, &state).await?),
    }
}

fn start_log(verbose: bool) {
    let level = if verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false).without_time();
    log.with_ansi(false).with_writer(std::io::stderr).init();
}

impl Serve {
    fn options(self, state: StateDir) -> Options {
        let notify = (!self.no_notify).then_some(Duration::from_millis(self.notify_delay));
        Options {
            state,
            listen: self.listen,
            pair: self.cert.zip(self.key),
            names: self.names,
            notify,
            anonymous: self.allow_anonymous_registration,
        }
    }
}
