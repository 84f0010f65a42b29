//! Where settings come from: OpenSVC's own files and `actions.toml`.
//!
//! Text becomes validated, immutable [`Settings`] in one step, [`Settings::load`]; a mistake becomes a [`ConfigError`]
//! that names the file, the line and the key. Invariant: nothing that was not validated reaches the code that acts, and
//! no secret is shown by `Debug`, by `Display`, in an error or by [`Settings::explain`].
//!
//! [`node_conf`] reads OpenSVC's INI files, [`settings`] holds what the rest of the program works with.

mod assembly;
mod credential;
pub mod duration;
pub mod edit;
mod endpoint;
pub mod error;
mod explain;
mod external;
mod fragments;
mod keywords;
mod known;
pub mod listener;
pub(crate) mod nearest;
pub mod network;
pub mod node_conf;
mod overrides;
pub mod paths;
mod policy;
mod references;
pub mod registration;
pub mod secret;
pub mod settings;
mod size;
mod source;
mod toml_table;
mod url;

pub use error::ConfigError;
pub use known::known_keys;
pub use network::Network;
pub use paths::Paths;
pub use registration::Registration;
pub use secret::Secret;
pub use settings::{
    Ack, Execution, Explained, Format, Launcher, Log, Metrics, Origin, Origins, Proxy, QueueSettings, Retention,
    Settings, TimerSchedule, Tls, Wake,
};

#[cfg(test)]
mod tests;
