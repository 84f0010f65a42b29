//! What the registration of a node needs to know: everything about its collectors but the uuid, which it is to bring.

use std::path::Path;

use super::assembly::Sources;
use super::endpoint::{self, Endpoint};
use super::fragments::Fragments;
use super::keywords::{Document, Keywords, Located};
use super::overrides::Notes;
use super::url::shown;
use super::{ConfigError, Paths, QueueSettings, Secret};
use crate::action::Queue;

/// The end of an `rpc` endpoint beside which the REST interface of 1.x/2.x collectors is known to be.
const RPC: &str = "/feed/default/call/xmlrpc";

/// A collector that the node can be registered at.
#[derive(Clone, Debug)]
pub struct Registration {
    /// How its queue is talked to. The uuid is empty where the node has none yet.
    pub queue: QueueSettings,
    /// Where users are known: `oc3`: the server's base, `https://c/server`; `rpc`: the base of the REST interface,
    /// `https://c:443/init/rest/api`. In its place a mistake, where the settings do not say it.
    pub users_at: Result<String, Misplaced>,
    /// `node.app`: what the node belongs to unless the command line says otherwise.
    pub app: Option<String>,
    /// `node.env`.
    pub env: Option<String>,
    /// `node.connect_to`: where the collector shall send its notifications.
    pub connect_to: Option<String>,
    /// `cluster.id`.
    pub cluster_id: Option<String>,
    /// See [`super::Settings::listener_port`].
    pub listener_port: u16,
}

/// Why the settings do not say where a collector knows its users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Only the feeder is named.
    #[error(
        "node.collector_feeder alone does not say where nodes are registered: set node.collector or node.collector_server"
    )]
    FeederOnly,
    /// Another application than `feed`.
    #[error("node.dbopensvc names another application than \"feed\": beside which REST interface it is, is not known")]
    OtherApplication,
    /// A password would travel unencrypted.
    #[error("node.dbopensvc is plain http: a user's password is sent over https only")]
    Unencrypted,
}

impl Registration {
    /// The uuid that the node has now.
    #[must_use]
    pub fn uuid(&self) -> Option<&Secret> {
        Some(&self.queue.uuid).filter(|uuid| !uuid.expose().is_empty())
    }

    /// Reads the same files as [`super::Settings::load`], and gives each collector that they name, with what an operator
    /// should know although it is allowed.
    ///
    /// # Errors
    /// The first mistake found. That the node has no uuid is none.
    pub fn load(
        paths: &Paths,
        config: Option<&Path>,
        hostname: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Vec<Self>, Vec<String>), ConfigError> {
        let (fragments, keywords) = (Fragments::load(paths, config)?, Keywords::load(paths)?);
        let sources = Sources { paths, keywords, fragments, hostname, env, registering: true };
        let mut notes = Notes::default();
        let queues = sources.queues(&mut notes)?;
        let all = queues.into_iter().map(|queue| sources.registration(queue, &mut notes)).collect::<Result<_, _>>()?;
        Ok((all, notes.warnings))
    }
}

impl Sources<'_> {
    fn registration(&self, queue: QueueSettings, notes: &mut Notes) -> Result<Registration, ConfigError> {
        let users_at = match queue.queue {
            Queue::Oc3 => self.server(&queue.node, notes)?.ok_or(Misplaced::FeederOnly),
            Queue::Rpc => beside(&queue.base_url),
        };
        let merged = &self.keywords.merged_v3;
        let text = |document: &Document, key| -> Result<Option<String>, ConfigError> {
            Ok(self.keyword(document, key, &queue.node)?.map(|keyword| keyword.value))
        };
        Ok(Registration {
            users_at,
            app: text(merged, "app")?,
            env: text(merged, "env")?,
            connect_to: text(merged, "connect_to")?,
            cluster_id: merged.get("cluster", "id").map(|keyword| keyword.value.clone()).filter(|id| !id.is_empty()),
            listener_port: self.listener_port(notes),
            queue,
        })
    }

    /// `node.collector_server`, or `node.collector` with `/server` behind it.
    fn server(&self, node: &str, notes: &mut Notes) -> Result<Option<String>, ConfigError> {
        for (key, suffix) in [("collector_server", ""), ("collector", "/server")] {
            let Some(keyword) = self.keyword(&self.keywords.merged_v3, key, node)? else { continue };
            let server = endpoint::oc3(&keyword.value, suffix).map_err(|reason| {
                keyword.error(format!("node.{key}"), format!("{} is not usable: {reason}", shown(&keyword.value)))
            })?;
            self.forbid_exposure(key, &keyword.with(server.clone()), node, notes)?;
            return Ok(Some(server.url));
        }
        Ok(None)
    }

    fn forbid_exposure(
        &self,
        key: &str,
        server: &Located<Endpoint>,
        node: &str,
        notes: &mut Notes,
    ) -> Result<(), ConfigError> {
        if !server.value.exposed {
            return Ok(());
        }
        let problem = format!("to {} passwords would travel unencrypted", shown(&server.value.url));
        if self.dbinsecure(node)?.is_none() {
            let ways = "write https:// instead, or accept it with \"dbinsecure = true\" in [node]";
            return Err(server.error(format!("node.{key}"), format!("{problem}; {ways}")));
        }
        notes.warn(server, &format!("node.{key}: {problem}"));
        Ok(())
    }
}

/// The REST interface of a 1.x/2.x collector, whose remote procedure calls are at this endpoint.
fn beside(endpoint: &str) -> Result<String, Misplaced> {
    let host = endpoint.strip_suffix(RPC).ok_or(Misplaced::OtherApplication)?;
    if host.starts_with("https://") { Ok(format!("{host}/init/rest/api")) } else { Err(Misplaced::Unencrypted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_interface_is_beside_feed_and_over_https_only() {
        assert_eq!(beside("https://c:443/feed/default/call/xmlrpc").as_deref(), Ok("https://c:443/init/rest/api"));
        assert_eq!(beside("http://c:80/feed/default/call/xmlrpc"), Err(Misplaced::Unencrypted));
        assert_eq!(beside("https://c:443/other/default/call/xmlrpc"), Err(Misplaced::OtherApplication));
    }
}
