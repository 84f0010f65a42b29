//! What the rest of the program works with: every setting, validated.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::assembly::Sources;
use super::fragments::Fragments;
use super::keywords::Keywords;
use super::{ConfigError, Network, Paths, Secret};
use crate::action::Queue;
use crate::action::external::Definitions;
use crate::action::policy::Policy;
use crate::action::schedule::{Invalid, Schedule};

/// Every setting of the program, validated and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The queues to poll, in this order; never empty.
    pub queues: Vec<QueueSettings>,
    /// When a timer's run may fetch: `dequeue_actions.schedule`; `None`: always.
    pub schedule: Option<TimerSchedule>,
    /// What counts as a notification.
    pub wake: Wake,
    /// How commands run.
    pub execution: Execution,
    /// Which commands run.
    pub policy: Policy,
    /// The external actions of this node.
    pub external_actions: Definitions,
    /// How long what is known about an action is kept.
    pub retention: Retention,
    /// What is hidden in the journal.
    pub log: Log,
    /// What is left for monitoring.
    pub metrics: Metrics,
    /// The TCP port on which the collector notifies this node: `listener.port`, else [`super::listener::PORT`].
    pub listener_port: u16,
    /// What an operator should know although it is allowed; one sentence each.
    pub warnings: Vec<String>,
    /// Where the values come from, for [`Settings::explain`].
    pub origins: Origins,
}

/// When a timer's run may fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerSchedule {
    /// As it is written, references replaced, on one line.
    pub text: String,
    /// What it means.
    pub schedule: Schedule,
    /// What was left out of it.
    pub left_out: Vec<Invalid>,
}

/// One queue at one collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Which queue.
    pub queue: Queue,
    /// `oc3`: the feeder's base without a slash at its end, `https://c/feeder`; `rpc`: the whole endpoint,
    /// `https://c:443/feed/default/call/xmlrpc`.
    pub base_url: String,
    /// The node's name at the collector.
    pub node: String,
    /// The node's shared secret; never empty, but in a [`super::Registration`].
    pub uuid: Secret,
    /// How the collector's identity is checked and ours is shown.
    pub tls: Tls,
    /// Whether a proxy stands between.
    pub proxy: Proxy,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an exchange may go without progress.
    pub request_timeout: Duration,
    /// When an action is acknowledged.
    pub ack: Ack,
    /// The site asserts that nothing else dequeues for this node.
    pub exclusive: bool,
    /// How the `rpc` queue is spoken to; of no meaning to others.
    pub format: Format,
}

/// TLS towards one collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether the certificate is verified at all.
    pub verify: bool,
    /// Trusted instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key of this node, for mutual TLS.
    pub client_identity: Option<(PathBuf, PathBuf)>,
}

/// The way to a collector.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxy {
    /// As `HTTPS_PROXY` and `NO_PROXY` of the environment say.
    Environment,
    /// Never through a proxy.
    Never,
    /// Through this one. Its user-info is a secret: show [`Proxy`] by its `Display`, not the string.
    Url(String),
}

/// When a fetched action is acknowledged to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// As soon as it is durable here.
    #[default]
    Received,
    /// When its turn comes.
    Started,
}

/// How calls to a 1.x/2.x collector are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// XML-RPC, as the agents 1.x and 2.x speak it.
    #[default]
    Xml,
    /// JSON-RPC 2, which collectors have since 2022.
    Json,
}

/// Who starts the supervisor of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Launcher {
    /// The service manager where there is one; else this program, unless it is confined.
    #[default]
    Auto,
    /// The service manager: each action in a transient unit of its own.
    Systemd,
    /// This program.
    Direct,
}

/// What counts as a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The senders that count; empty: all.
    pub allow: Vec<Network>,
    /// After an empty fetch, the next notified fetch starts no sooner.
    pub min_interval: Duration,
}

/// How commands run.
#[derive(Clone, PartialEq, Eq)]
pub struct Execution {
    /// The program for node and service actions: a name to look up in `PATH`, or an absolute path.
    pub om: String,
    /// How long an action may run.
    pub timeout: Option<Duration>,
    /// The time between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
    /// A longer run is mentioned.
    pub warn_after: Duration,
    /// How many actions may run at once: each service is a lane, a node action a barrier. At least 1.
    pub max_parallel: u32,
    /// Who starts their supervisors.
    pub launcher: Launcher,
    /// How many bytes of each stream of an action stay on this node.
    pub kept_output: u64,
    /// Added to what passes through of the environment.
    pub environment: BTreeMap<String, String>,
}

/// How long what is known about an action is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A result that no collector accepts is posted so long.
    pub unreported: Duration,
    /// A complete action stays readable so long.
    pub history: Duration,
    /// How many bytes of output stay on this node in all.
    pub kept_output: u64,
}

/// What is hidden in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Globs on option names whose values are hidden, beside the built-in ones.
    pub redact: Vec<String>,
}

/// What is left for monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The file that is written after each run, in the text format of Prometheus; absolute. `None`: no metrics.
    pub textfile: Option<PathBuf>,
}

/// Where one value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The host name.
    HostName,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The origin of each value that is not the default, by the key that [`Settings::explain`] uses.
pub type Origins = BTreeMap<String, Origin>;

/// One effective setting, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The key with its table, `execution.timeout`.
    pub key: String,
    /// The value, a secret redacted.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Settings {
    /// Reads `cluster.conf`, `node.conf`, `actions.toml` and its drop-ins (or `config` instead of the latter two) and
    /// validates them all.
    ///
    /// `hostname` is what gethostname(2) returned, `env` the process environment.
    ///
    /// # Errors
    ///
    /// The first mistake found, with its file, line and key.
    pub fn load(
        paths: &Paths,
        config: Option<&Path>,
        hostname: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (fragments, keywords) = (Fragments::load(paths, config)?, Keywords::load(paths)?);
        Sources { paths, keywords, fragments, hostname, env, registering: false }.settings()
    }
}

impl fmt::Debug for Execution {
    /// Without the values of the environment: some may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution")
            .field("om", &self.om)
            .field("timeout", &self.timeout)
            .field("kill_grace", &self.kill_grace)
            .field("warn_after", &self.warn_after)
            .field("max_parallel", &self.max_parallel)
            .field("launcher", &self.launcher)
            .field("kept_output", &self.kept_output)
            .field("environment", &self.environment.keys())
            .finish()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::HostName => f.write_str("host name"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}
