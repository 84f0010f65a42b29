//! `opensvc-actions-collector`: a small collector for one machine.
//!
//! It holds a queue of actions in `SQLite`, hands them to nodes over HTTPS and stores their results. It speaks the node
//! side of two real collectors, with their rules and their error bodies:
//!
//! * `oc3` ([`feeder`]): the REST feeder of collector 3, for *feed* rows;
//! * `rpc` ([`rpc`]): the queue calls of the 1.x/2.x collectors, over XML-RPC and JSON-RPC 2, for *pull* rows, whose nodes
//!   are notified over TCP ([`notifier`]).
//!
//! Nodes register with a user's password, or without where the server allows it ([`register`]).
//!
//! A row is feed or pull, as its node was when the action was queued, and never changes sides. Operators work through an
//! authenticated API ([`admin`]) and the command line that uses it ([`cli`], [`client`]).
//!
//! # Letters
//!
//! | letter | meaning | set by |
//! |---|---|---|
//! | `W` | waiting | `enqueue`, `redo` |
//! | `N` | notified (pull rows) | the notifier, when its 15 bytes were written |
//! | `S` | sent | each fetch |
//! | `R` | running | the node's acknowledgement |
//! | `T` | terminated | the node's result; the notifier, when the node is unreachable or the command invalid |
//! | `C` | cancelled | `cancel` |
//!
//! As on the real collectors nothing guards the order of the letters: a node may acknowledge or report any row of its
//! own at any time, a cancelled row already sent still runs, and a fetch returns every row in `W` or `N`, and those in
//! `S` whose *queue* date is more than 20 seconds old.
//!
//! # What is not here
//!
//! Purging (rows are kept for ever), applications, groups and rights, push rows, and every other call of a real
//! collector.
//!
//! # JSON
//!
//! `--json` prints one document per command. Dates are RFC 3339 in UTC with milliseconds, or null.
//!
//! * a node: `{"name", "node_id", "uuid", "type": "pull"|"feed", "connect_to": string|null, "port": number, "cluster"}`
//! * `node list`: `{"nodes": [node…]}`
//! * `user add` and `user remove`: `{"name"}`; `user list`: `{"users": [{"name"}…]}`
//! * an action: `{"id", "node", "service": string|null, "type", "command", "status", "ret": number|null,
//!   "queued", "notified", "sent", "received", "reported", "dequeued", "stdout": string|null, "stderr": string|null}`;
//!   `dequeued` is the date the node itself gave (`oc3`) or the date of its last call (`rpc`)
//! * `list`: `{"actions": [action…]}`, each without `stdout` and `stderr`
//! * `node add` prints a node; `enqueue`, `show`, `redo` and `cancel` print an action
//!
//! # Operator API
//!
//! `Authorization: Bearer TOKEN`, bodies in JSON, errors as `{"error": "…"}`.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /api/operator/nodes` | | 200, `{"nodes": […]}` |
//! | `POST /api/operator/nodes` | `name`, and optionally `type`, `uuid`, `connect_to`, `port`, `cluster` | 200, the node |
//! | `GET /api/operator/users` | | 200, `{"users": [{"name"}…]}` |
//! | `POST /api/operator/users` | `name`, `password` | 200, `{"name"}` |
//! | `POST /api/operator/users/remove` | `name` | 200, `{"name"}` |
//! | `GET /api/operator/actions?node=&status=` | | 200, `{"actions": […]}` |
//! | `POST /api/operator/actions` | `node`, `command`, optionally `service` | 201, the action |
//! | `GET /api/operator/actions/ID` | | 200, the action |
//! | `POST /api/operator/actions/ID/redo`, `…/cancel` | | 200, the action |

pub mod admin;
pub mod cli;
pub mod client;
pub mod clock;
mod commands;
pub mod feeder;
pub mod gojson;
pub mod gotime;
pub mod http;
pub mod jsonrpc;
pub mod notifier;
pub mod password;
pub mod register;
pub mod rpc;
mod secret;
pub mod serve;
pub mod state;
pub mod store;
pub mod text;
pub mod tls;
pub mod value;
pub mod xml;
