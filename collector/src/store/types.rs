//! What the tables hold, and how the values are spelled in them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Which conversation delivers a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ActionType {
    /// Notified over TCP and fetched with XML-RPC.
    Pull,
    /// Fetched from the oc3 feeder.
    Feed,
}

impl ActionType {
    /// How it is spelled, in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Feed => "feed",
        }
    }
}

/// The letter of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Status {
    /// Waiting.
    #[value(name = "W")]
    W,
    /// Notified.
    #[value(name = "N")]
    N,
    /// Sent.
    #[value(name = "S")]
    S,
    /// Running.
    #[value(name = "R")]
    R,
    /// Terminated.
    #[value(name = "T")]
    T,
    /// Cancelled.
    #[value(name = "C")]
    C,
}

impl Status {
    const ALL: [Self; 6] = [Self::W, Self::N, Self::S, Self::R, Self::T, Self::C];

    /// The letter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::W => "W",
            Self::N => "N",
            Self::S => "S",
            Self::R => "R",
            Self::T => "T",
            Self::C => "C",
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::W => "waiting",
            Self::N => "notified",
            Self::S => "sent",
            Self::R => "running",
            Self::T => "terminated",
            Self::C => "cancelled",
        }
    }

    /// The status of this letter.
    #[must_use]
    pub fn parse(letter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == letter)
    }
}

impl ToSql for ActionType {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl FromSql for ActionType {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "pull" => Ok(Self::Pull),
            "feed" => Ok(Self::Feed),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl ToSql for Status {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, compared without regard to case.
    pub name: String,
    /// What its rows are filed under.
    pub node_id: String,
    /// Its secret.
    pub uuid: String,
    /// How its actions will be delivered.
    #[serde(rename = "type")]
    pub action_type: ActionType,
    /// Where to notify it; its name when absent.
    pub connect_to: Option<String>,
    /// The port to notify it on.
    pub port: u16,
    /// Its cluster; nodes of one cluster may acknowledge each other's rows.
    pub cluster: String,
}

/// A row of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the table, described there")]
pub struct Action {
    pub id: i64,
    pub node_id: String,
    pub nodename: String,
    pub svc_id: Option<String>,
    pub svcname: Option<String>,
    pub action_type: ActionType,
    pub connect_to: Option<String>,
    pub command: String,
    pub status: Status,
    pub ret: Option<i64>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub queued: Timestamp,
    pub dequeued: Option<Timestamp>,
    pub notified: Option<Timestamp>,
    pub sent: Option<Timestamp>,
    pub received: Option<Timestamp>,
    pub reported: Option<Timestamp>,
}
