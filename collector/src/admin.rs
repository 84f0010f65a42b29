//! The operator's API, server side. Its shapes are described at the top of this crate.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;
use crate::http::{Answer, Collector, Request};
use crate::store::{Action, NodeChange, Status, StoreError};

/// Where the API is.
pub const PREFIX: &str = "/api/operator/";

/// What to queue.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAction {
    /// The node.
    pub node: String,
    /// The service, for an action of a service.
    #[serde(default)]
    pub service: Option<String>,
    /// The command, without a program's name.
    pub command: String,
}

/// A user to add, or to give another password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// A user to remove.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldUser {
    /// Its name.
    pub name: String,
}

/// Why a request is refused.
enum Refusal {
    Unauthorized,
    NotFound,
    NotAllowed,
    Bad(String),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Refusal {
    fn answer(&self) -> Answer {
        let (status, text) = match self {
            Self::Unauthorized => (401, "the operator's token is missing or wrong".to_owned()),
            Self::NotFound => (404, "there is nothing at this path".to_owned()),
            Self::NotAllowed => (405, "this path has no such method".to_owned()),
            Self::Bad(text) => (400, text.clone()),
            Self::Store(error) => {
                let status = match error {
                    StoreError::NoNode(_) | StoreError::NoAction(_) | StoreError::NoUser(_) => 404,
                    StoreError::Full(_) => 507,
                    StoreError::Refused { .. } => 409,
                    StoreError::Invalid(_) => 400,
                    _ => 500,
                };
                if status == 500 {
                    tracing::error!("{error}");
                }
                (status, error.to_string())
            }
        };
        json_answer(status, &json!({ "error": text }))
    }
}

fn json_answer(status: u16, value: &impl Serialize) -> Answer {
    Answer::json(status, serde_json::to_string(value).unwrap_or_default() + "\n")
}

/// Answers a request.
#[must_use]
pub fn answer(collector: &Collector, request: &Request, now: Timestamp) -> Answer {
    authorized(collector, request)
        .and_then(|()| dispatch(collector, request, now))
        .unwrap_or_else(|refusal| refusal.answer())
}

fn authorized(collector: &Collector, request: &Request) -> Result<(), Refusal> {
    let given = request.credentials("Bearer").unwrap_or_default();
    let same: bool = given.as_bytes().ct_eq(collector.token.as_bytes()).into();
    if same { Ok(()) } else { Err(Refusal::Unauthorized) }
}

fn dispatch(collector: &Collector, request: &Request, now: Timestamp) -> Result<Answer, Refusal> {
    let path: Vec<&str> = request.path().strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
    match (request.method.as_str(), &path[..]) {
        ("GET", ["nodes"]) => Ok(json_answer(200, &json!({ "nodes": collector.store().nodes()? }))),
        ("POST", ["nodes"]) => Ok(json_answer(200, &collector.store().put_node(&body::<NodeChange>(request)?)?)),
        ("GET", ["users"]) => {
            let users: Vec<Value> = collector.store().users()?.iter().map(|name| json!({ "name": name })).collect();
            Ok(json_answer(200, &json!({ "users": users })))
        }
        ("POST", ["users"]) => {
            let new: NewUser = body(request)?;
            // It takes a moment in which nobody is served: operators are few.
            collector.store().put_user(&new.name, &new.password)?;
            Ok(json_answer(200, &json!({ "name": new.name })))
        }
        ("POST", ["users", "remove"]) => {
            let user: OldUser = body(request)?;
            collector.store().remove_user(&user.name)?;
            Ok(json_answer(200, &json!({ "name": user.name })))
        }
        ("GET", ["actions"]) => {
            let (node, status) = filters(request.query())?;
            let actions = collector.store().list(node.as_deref(), status)?;
            let actions: Vec<Value> = actions.iter().map(summary).collect();
            Ok(json_answer(200, &json!({ "actions": actions })))
        }
        ("POST", ["actions"]) => {
            let new: NewAction = body(request)?;
            let action = collector.store().enqueue(&new.node, new.service.as_deref(), &new.command, now)?;
            collector.waiting.notify_one();
            Ok(json_answer(201, &whole(&action)))
        }
        ("GET", ["actions", id]) => Ok(json_answer(200, &whole(&collector.store().action(number(id)?)?))),
        ("POST", ["actions", id, "redo"]) => {
            let action = collector.store().redo(number(id)?)?;
            collector.waiting.notify_one();
            Ok(json_answer(200, &whole(&action)))
        }
        ("POST", ["actions", id, "cancel"]) => Ok(json_answer(200, &whole(&collector.store().cancel(number(id)?)?))),
        (
            _,
            ["nodes" | "actions" | "users"] | ["users", "remove"] | ["actions", _] | ["actions", _, "redo" | "cancel"],
        ) => Err(Refusal::NotAllowed),
        _ => Err(Refusal::NotFound),
    }
}

fn body<'a, T: Deserialize<'a>>(request: &'a Request) -> Result<T, Refusal> {
    serde_json::from_slice(&request.body).map_err(|error| Refusal::Bad(format!("the body is not as expected: {error}")))
}

fn number(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| Refusal::Bad(format!("{id:?} is no action number")))
}

fn filters(query: &str) -> Result<(Option<String>, Option<Status>), Refusal> {
    let (mut node, mut status) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "node" => node = Some(value.into_owned()),
            "status" => {
                let letter = Status::parse(&value).ok_or_else(|| Refusal::Bad(format!("{value:?} is no status")))?;
                status = Some(letter);
            }
            _ => return Err(Refusal::Bad(format!("there is no filter {name:?}"))),
        }
    }
    Ok((node, status))
}

fn summary(action: &Action) -> Value {
    let date = |date: Option<Timestamp>| date.map(Timestamp::rfc3339_millis);
    json!({
        "id": action.id,
        "node": action.nodename,
        "service": action.svcname,
        "type": action.action_type,
        "command": action.command,
        "status": action.status,
        "ret": action.ret,
        "queued": date(Some(action.queued)),
        "notified": date(action.notified),
        "sent": date(action.sent),
        "received": date(action.received),
        "reported": date(action.reported),
        "dequeued": date(action.dequeued),
    })
}

fn whole(action: &Action) -> Value {
    let mut value = summary(action);
    value["stdout"] = json!(action.stdout);
    value["stderr"] = json!(action.stderr);
    value
}
