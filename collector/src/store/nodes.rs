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

/// What came of a registration: the node's uuid, new or as it was.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "said above")]
pub enum Registration {
    New(String),
    Known(String),
}

/// What a node says of itself in its system document, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Its cluster.
    pub cluster: String,
    /// Where to notify it, when it says so.
    pub connect_to: Option<String>,
    /// The port to notify it on, when it says so.
    pub port: Option<u16>,
}

/// Nodes do not register themselves beyond this many.
const NODES_MAX: i64 = 10_000;

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

/// Whether a text can be a name.
pub(super) fn check(what: &str, text: &str) -> Result<(), StoreError> {
    let bad = text.is_empty() || text.len() > 128 || text.chars().any(|c| c.is_whitespace() || c.is_control());
    // Basic credentials end a name there.
    if bad || (what.ends_with(" name") && text.contains(':')) {
        let shown: String = text.chars().take(130).collect();
        return Err(StoreError::Invalid(format!("{shown:?} is no valid {what}")));
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

    /// Gives a node its uuid: a new pull node unless there is one of this name.
    ///
    /// # Errors
    /// The name is unusable, there are too many nodes, or the database failed.
    pub fn register(&mut self, name: &str) -> Result<Registration, StoreError> {
        check("node name", name)?;
        let known = "SELECT uuid FROM nodes WHERE nodename = ?1";
        if let Some(uuid) = self.db.query_row(known, [name], |row| row.get(0)).optional()? {
            return Ok(Registration::Known(uuid));
        }
        let count: i64 = self.db.query_row("SELECT count(*) FROM nodes", [], |row| row.get(0))?;
        if count >= NODES_MAX {
            return Err(StoreError::Full("nodes"));
        }
        let node = self.put_node(&NodeChange { name: name.to_owned(), ..NodeChange::default() })?;
        Ok(Registration::New(node.uuid))
    }

    /// Takes what a node says of itself. From now on it is a feed node, as on the real servers; what was queued before
    /// stays as it is.
    ///
    /// # Errors
    /// A value is unusable, or the database failed.
    pub fn put_system(&mut self, node_id: &str, system: &System) -> Result<(), StoreError> {
        if !system.cluster.is_empty() {
            check("cluster", &system.cluster)?;
        }
        if let Some(connect_to) = &system.connect_to {
            check("address to connect to", connect_to)?;
        }
        self.db.execute(
            "UPDATE nodes SET action_type = 'feed', cluster = ?2, connect_to = ifnull(?3, connect_to),
             port = ifnull(?4, port) WHERE node_id = ?1",
            params![node_id, system.cluster, system.connect_to, system.port],
        )?;
        Ok(())
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
