//! What can be wrong with the settings.

use std::io;
use std::path::PathBuf;

use crate::action::Queue;

/// A mistake in the settings. Each text names the file and, where there is one, the line and the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be: a directory, too large, not UTF-8.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody other than root can change a settings file.
    #[error("{} is refused: {reason}", path.display())]
    Untrusted {
        /// The settings file.
        path: PathBuf,
        /// Who can write what, and what to do about it.
        reason: String,
    },
    /// The text of a file cannot be parsed.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{}:{line}: unknown key {key:?} in {table}{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The table that it stands in.
        table: String,
        /// A question that offers the nearest known key, or nothing.
        hint: String,
    },
    /// A value that does not fit its key.
    #[error("{}:{line}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its table.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// A key names a file that cannot be used.
    #[error("{}:{line}: {key}: cannot use {}", path.display(), file.display())]
    Unusable {
        /// The settings file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its table.
        key: String,
        /// The file that the key names.
        file: PathBuf,
        /// Why it cannot be used.
        source: io::Error,
    },
    /// Nothing says where a collector is.
    #[error(
        "no collector is configured: set node.collector or node.collector_feeder (collector 3), or node.dbopensvc \
         (1.x and 2.x collectors), in {} or {}", node_conf.display(), cluster_conf.display()
    )]
    NoQueue {
        /// `node.conf`.
        node_conf: PathBuf,
        /// `cluster.conf`.
        cluster_conf: PathBuf,
    },
    /// `queues` asks for a queue whose collector is not configured.
    #[error("{}:{line}: queues: {queue:?} needs {keywords} in {} or {}", path.display(), node_conf.display(), cluster_conf.display(), queue = queue.as_str())]
    NoUrl {
        /// The settings file with `queues`.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The queue.
        queue: Queue,
        /// The keywords that would name its collector.
        keywords: &'static str,
        /// `node.conf`.
        node_conf: PathBuf,
        /// `cluster.conf`.
        cluster_conf: PathBuf,
    },
    /// The node has no uuid.
    #[error("{}: node.uuid is not set: this node is not registered ('opensvc-actions register' does that, or put the uuid that its registration gave there)", node_conf.display())]
    NotRegistered {
        /// `node.conf`.
        node_conf: PathBuf,
    },
    /// The node has no usable name.
    #[error("the host name {name:?} cannot be used as node name: {reason}; set node in [collector] of actions.toml")]
    NodeName {
        /// What gethostname(2) returned.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
