//! Where a collector notifies this node.

use std::net::IpAddr;

use super::assembly::Sources;
use super::fragments::Fragments;
use super::keywords::Keywords;
use super::overrides::Notes;
use super::references::References;
use super::{ConfigError, Paths};

/// Where the agents of 1.x and 2.x listen unless `[listener] port` says otherwise, and what a collector assumes of a node
/// that never told it.
pub const PORT: u16 = 1214;

/// Where OpenSVC's files say that the node is notified. Nothing here listens by it: `doctor` compares it with the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `listener.port`.
    pub port: u16,
    /// `listener.addr`, if it is a certain address; none is any.
    pub addr: Option<IpAddr>,
    /// `node.connect_to`, if it is an address: where the collector connects to.
    pub connect_to: Option<IpAddr>,
}

impl Listener {
    /// Reads it from `node.conf` and `cluster.conf`, whatever else may be wrong in them. What is no address is left out: a
    /// name can mean any.
    ///
    /// # Errors
    /// When one of the files cannot be parsed, or a reference in it leads nowhere.
    pub fn load(paths: &Paths, node: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (keywords, fragments) = (Keywords::load(paths)?, Fragments::default());
        let sources = Sources { paths, keywords, fragments, hostname: node, env, registering: true };
        let document = &sources.keywords.merged_v3;
        let address = |section: &str, key: &str| -> Result<Option<IpAddr>, ConfigError> {
            let Some(keyword) = document.get(section, key) else { return Ok(None) };
            let value = References { document, node, env }.expand(&keyword.value);
            let value = value.map_err(|reason| keyword.error(format!("{section}.{key}"), reason))?;
            let address: Option<IpAddr> = value.trim().trim_matches(['[', ']']).parse().ok();
            Ok(address.filter(|address| !address.is_unspecified()))
        };
        Ok(Self {
            port: sources.listener_port(&mut Notes::default()),
            addr: address("listener", "addr")?,
            connect_to: address("node", "connect_to")?,
        })
    }
}

impl Sources<'_> {
    /// `listener.port`. It is looked at and not listened on: a value that is no port is worth a warning, and no more.
    pub(super) fn listener_port(&self, notes: &mut Notes) -> u16 {
        let Some(keyword) = self.keywords.merged_v3.get("listener", "port") else { return PORT };
        match keyword.value.trim().parse() {
            Ok(0) | Err(_) if keyword.value.trim().is_empty() => PORT,
            Ok(0) | Err(_) => {
                let text =
                    format!("listener.port: {:?} is not a number from 1 to 65535; {PORT} is assumed", keyword.value);
                notes.warn(keyword, &text);
                PORT
            }
            Ok(port) => port,
        }
    }
}
