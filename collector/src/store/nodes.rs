//! Nodes: who may fetch.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{ActionType, Node, Store, StoreError};
use crate::state::random_uuid;

const NODE: &str = "SELECT nodename, node_id, uuid, action_type, connect_to, port, cluster FROM nodes";

/// The answer to "is it you?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// No node has this name.
    Unknown,
    /// The node has another uuid.
    WrongSecret,
    /// It is this one.
    Node(Identity),
}

/// An authenticated node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What its rows are filed under.
    pub node_id: String,
    /// Its cluster.
    pub cluster: String,
}

/// What an operator says of a node; what is absent stays as it was, or takes its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// Its name.
    pub name: String,
    /// Default `pull`, as for a node whose asset was never pushed.
    #[serde(rename = "type")]
    pub action_type: Option<ActionType>,
    /// Default: a new one.
    pub uuid: Option<String>,
    /// Default: the node's name.
    pub connect_to: Option<String>,
    /// Default 1214.
    pub port: Option<u16>,
    /// Default: no cluster, the empty name.
    pub cluster: Option<String>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Node> {
    Ok(Node {
        name: row.get(0)?,
        node_id: row.get(1)?,
        uuid: row.get(2)?,
        action_type: row.get(3)?,
        connect_to: row.get(4)?,
        port: row.get(5)?,
        cluster: row.get(6)?,
    })
}

fn check(what: &str, text: &str) -> Result<(), StoreError> {
    let bad = text.is_empty() || text.len() > 128 || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad || (what == "node name" && text.contains(':')) {
        return Err(StoreError::Invalid(format!("{text:?} is no valid {what}")));
    }
    Ok(())
}

impl Store {
    /// Tells whether these credentials are a node's. Neither name nor uuid has regard to case, as on the real servers.
    ///
    /// # Errors
    /// The database failed.
    pub fn authenticate(&self, name: &str, uuid: &str) -> Result<Auth, StoreError> {
        let node =
            self.db.prepare_cached(&format!("{NODE} WHERE nodename = ?1"))?.query_row([name], read).optional()?;
        Ok(match node {
            None => Auth::Unknown,
            Some(node) if same_secret(&node.uuid, uuid) => {
                Auth::Node(Identity { node_id: node.node_id, cluster: node.cluster })
            }
            Some(_) => Auth::WrongSecret,
        })
    }

    /// Adds a node, or changes what is given of it.
    ///
    /// # Errors
    /// A value is unusable, or the database failed.
    pub fn put_node(&mut self, change: &NodeChange) -> Result<Node, StoreError> {
        check("node name", &change.name)?;
        for (what, text) in
            [("uuid", &change.uuid), ("address to connect to", &change.connect_to), ("cluster", &change.cluster)]
        {
            match text {
                Some(text) if what == "cluster" && text.is_empty() => {}
                Some(text) => check(what, text)?,
                None => {}
            }
        }
        if change.port == Some(0) {
            return Err(StoreError::Invalid("0 is no valid port".to_owned()));
        }
        let (uuid, node_id) = (random_uuid()?, random_uuid()?);
        let tx = self.begin()?;
        tx.execute(
            "INSERT INTO nodes (node_id, nodename, uuid, action_type, port, cluster) VALUES (?1, ?2, ?3, 'pull', 1214, '')
             ON CONFLICT (nodename) DO NOTHING",
            params![node_id, change.name, uuid],
        )?;
        tx.execute(
            "UPDATE nodes SET action_type = ifnull(?2, action_type), uuid = ifnull(?3, uuid),
             connect_to = ifnull(?4, connect_to), port = ifnull(?5, port), cluster = ifnull(?6, cluster)
             WHERE nodename = ?1",
            params![change.name, change.action_type, change.uuid, change.connect_to, change.port, change.cluster],
        )?;
        let node = tx.query_row(&format!("{NODE} WHERE nodename = ?1"), [&change.name], read)?;
        tx.commit()?;
        Ok(node)
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// The database failed.
    pub fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let mut query = self.db.prepare_cached(&format!("{NODE} ORDER BY nodename"))?;
        let nodes = query.query_map([], read)?.collect::<Result<_, _>>()?;
        Ok(nodes)
    }
}

/// Compares secrets in a time that tells nothing of where they differ.
#[must_use]
fn same_secret(ours: &str, theirs: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    ours.to_ascii_lowercase().as_bytes().ct_eq(theirs.to_ascii_lowercase().as_bytes()).into()
}
