//! `register`: obtain the node's uuid from its collector and write it to `node.conf`.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::action::Queue;
use crate::action::time::Timestamp;
use crate::cli::{self, Global};
use crate::collector::registration::{self, Registered, RegistrationError, User};
use crate::collector::system::System;
use crate::commands::password::{self, PasswordError};
use crate::commands::{hostname, paths, print, require_root};
use crate::config::Registration;
use crate::config::edit::{EditError, NodeConf};
use crate::error::{Error, Exit};

/// Why the node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Both kinds of collector are configured.
    #[error(
        "the settings name collectors of both kinds and a node has one uuid: say with --queue oc3 or --queue rpc which is \
         to give it (two collectors over one database give the same)"
    )]
    WhichQueue,
    /// The queue that was asked for is not configured.
    #[error("the settings name no collector for queue {0}")]
    NoSuchQueue(Queue),
    /// An inventory is something for collector 3.
    #[error("--asset is for collector 3: a 1.x/2.x collector notifies a node as soon as it is registered")]
    NoAsset,
    /// Only a user can put a node somewhere.
    #[error("--app needs --user at a 1.x/2.x collector")]
    AppWithoutUser,
    /// The node has a uuid that the collector did not give.
    #[error(
        "{} holds another uuid than {collector} gives: this node is registered elsewhere, or was registered anew; --force \
         replaces it", node_conf.display()
    )]
    Other {
        /// The file.
        node_conf: std::path::PathBuf,
        /// The collector's URL.
        collector: String,
    },
    /// The collector gives a uuid only once, and there is one already.
    #[error(
        "{} holds a uuid already; without --user {collector} would register the node anew: give --user, or --force to \
         replace it", node_conf.display()
    )]
    Already {
        /// The file.
        node_conf: std::path::PathBuf,
        /// The collector's URL.
        collector: String,
    },
    /// The password cannot be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The collector gave nothing.
    #[error(transparent)]
    Collector(#[from] RegistrationError),
    /// The file cannot be written.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A signal came.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl RegisterError {
    /// The exit status that tells it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        use registration::Kind;
        match self {
            Self::Interrupted | Self::Password(PasswordError::Interrupted) => Exit::TempFail,
            Self::WhichQueue | Self::NoAsset | Self::AppWithoutUser | Self::Password(_) => Exit::Usage,
            Self::NoSuchQueue(_) | Self::Other { .. } | Self::Already { .. } | Self::Edit(EditError::Shape(_)) => {
                Exit::Config
            }
            Self::Edit(_) => Exit::Unavailable,
            Self::Collector(err) => match err.kind {
                Kind::Usage => Exit::Usage,
                Kind::Refused => Exit::NoPermission,
                Kind::Unavailable => Exit::TempFail,
                Kind::Misconfigured => Exit::Config,
                Kind::Undecodable => Exit::Data,
            },
        }
    }
}

/// Registers the node.
///
/// # Errors
/// When it is not registered, or its uuid cannot be written. Running it again is safe.
pub async fn run(global: &Global, options: &cli::Register) -> Result<Exit, Error> {
    require_root()?;
    let paths = paths(global);
    let env = |name: &str| std::env::var(name).ok();
    let (all, warnings) = Registration::load(&paths, global.config.as_deref(), &hostname(), &env)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Of several only one takes an inventory.
    let wanted = options.queue.or((options.asset && all.len() > 1).then_some(Queue::Oc3));
    let outcome = register(&paths.node_conf, choose(all, wanted)?, options).await?;
    print(|out| if global.json { outcome.document(out) } else { outcome.words(out) })
}

/// The one collector that is meant.
fn choose(all: Vec<Registration>, wanted: Option<Queue>) -> Result<Registration, RegisterError> {
    let mut fitting = all.into_iter().filter(|one| wanted.is_none_or(|queue| one.queue.queue == queue));
    match (fitting.next(), fitting.next(), wanted) {
        (Some(one), None, _) => Ok(one),
        (None, _, Some(queue)) => Err(RegisterError::NoSuchQueue(queue)),
        // None without a wish does not happen: settings without any collector are not loaded.
        (Some(_), Some(_), _) | (None, _, None) => Err(RegisterError::WhichQueue),
    }
}

async fn register(node_conf: &Path, settings: Registration, options: &cli::Register) -> Result<Outcome, RegisterError> {
    let queue = settings.queue.queue;
    if options.asset && queue != Queue::Oc3 {
        return Err(RegisterError::NoAsset);
    }
    let anonymous = options.user.is_none();
    if queue == Queue::Rpc && anonymous && options.app.is_some() {
        return Err(RegisterError::AppWithoutUser);
    }
    let mut outcome = Outcome { settings, known: true, written: None, asset: options.asset };
    let settings = &outcome.settings;
    let uuid = match settings.uuid() {
        // Nothing is asked for but the inventory.
        Some(uuid) if options.asset && anonymous && !options.force => uuid.clone(),
        Some(_) if anonymous && !options.force && queue == Queue::Rpc => {
            let (node_conf, collector) = (node_conf.to_owned(), settings.queue.base_url.clone());
            return Err(RegisterError::Already { node_conf, collector });
        }
        before => {
            let user = options.user.as_ref().map(|name| -> Result<_, PasswordError> {
                let password = password::obtain(name, options.password_file.as_deref())?;
                Ok(User { name: name.clone(), password })
            });
            let user = user.transpose()?;
            // Whatever can fail on this side fails before the collector is asked: it may give the uuid only once.
            let file = NodeConf::prepare(node_conf)?;
            let app = options.app.as_deref().or(settings.app.as_deref()).filter(|_| queue == Queue::Oc3 || !anonymous);
            let asked = registration::register(settings, user.as_ref(), app);
            let Registered { uuid, known } = unless_interrupted(asked).await??;
            outcome.known = known;
            match before {
                Some(before) if *before == uuid => {}
                Some(_) if !options.force => {
                    let (node_conf, collector) = (node_conf.to_owned(), settings.queue.base_url.clone());
                    return Err(RegisterError::Other { node_conf, collector });
                }
                _ => outcome.written = Some(file.write(&uuid)?.display().to_string()),
            }
            uuid
        }
    };
    if outcome.asset {
        unless_interrupted(registration::post_system(&outcome.settings, &uuid, &system(&outcome.settings))).await??;
    }
    Ok(outcome)
}

/// A signal ends it in a way that leaves no temporary file.
async fn unless_interrupted<T>(exchange: impl Future<Output = T>) -> Result<T, RegisterError> {
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return Ok(exchange.await);
    };
    tokio::select! {
        done = exchange => Ok(done),
        _ = int.recv() => Err(RegisterError::Interrupted),
        _ = term.recv() => Err(RegisterError::Interrupted),
    }
}

/// What is told about this machine.
fn system(settings: &Registration) -> System {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    System {
        node: settings.queue.node.clone(),
        cluster_id: settings.cluster_id.clone().unwrap_or_default(),
        connect_to: settings.connect_to.clone(),
        listener_port: settings.listener_port,
        env: settings.env.clone().unwrap_or_else(|| "TST".to_owned()),
        os_kernel: text(uname.release()),
        os_arch: text(uname.machine()),
        last_boot: booted.map(|seconds| Timestamp { seconds, nanos: 0 }.to_string()),
    }
}

/// What has been done.
struct Outcome {
    settings: Registration,
    /// The collector knew the node before.
    known: bool,
    /// The file that the uuid was written to.
    written: Option<String>,
    /// The inventory was posted.
    asset: bool,
}

impl Outcome {
    fn document(&self, out: &mut impl io::Write) -> io::Result<()> {
        let document = json!({
            "queue": self.settings.queue.queue.as_str(),
            "collector": self.settings.queue.base_url,
            "node": self.settings.queue.node,
            "known_before": self.known,
            "written": self.written,
            "asset": self.asset,
        });
        writeln!(out, "{document}")
    }

    fn words(&self, out: &mut impl io::Write) -> io::Result<()> {
        let queue = &self.settings.queue;
        let was = if self.known { "was registered before" } else { "is registered" };
        writeln!(out, "{} {was} at {}.", queue.node, queue.base_url)?;
        match &self.written {
            Some(path) => writeln!(out, "Its uuid has been written to {path}.")?,
            None => writeln!(out, "Its uuid is in the configuration already: nothing was written.")?,
        }
        match queue.queue {
            Queue::Rpc => writeln!(
                out,
                "Actions are notified on TCP port {}, at the address that the agent's inventory gives the collector \
                 ('om node pushasset').",
                self.settings.listener_port
            ),
            Queue::Oc3 if self.asset => writeln!(
                out,
                "The collector has taken this node's inventory: once it has worked on it, it offers the node what is queued \
                 from then on. What was queued before stays out of reach."
            ),
            Queue::Oc3 => writeln!(
                out,
                "The collector does NOT offer this node any action yet: a new node is a pull node, whose actions are out of \
                 this queue's reach for good, until it has the node's inventory. The agent pushes it ('om node push asset'), \
                 or 'opensvc-actions register --asset' posts the least that will do."
            ),
        }
    }
}
