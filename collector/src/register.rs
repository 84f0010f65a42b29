//! Nodes that ask for their secret: with a user's password, or with nothing where the server allows that.
//!
//! Three ways: `register_node` (rpc, anonymous), `POST /init/rest/api/register` (a form, as agents 2.x send it) and
//! `POST /server/api/auth/node` (JSON, as agents 3.x send it). There are no applications and no groups here: any user may
//! register any node, and `app` is not looked at. What the real collectors do with anonymous nodes and we do not: tell the
//! secret of a node that is registered already to anybody who gives its name.

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::gojson;
use crate::http::{Answer, Collector, Request};
use crate::password::Hash;
use crate::store::{Auth, Registration, StoreError};

/// Where agents 2.x register with a user's password.
const REST: &str = "/init/rest/api/register";
/// Where agents 3.x register; the prefix is the reverse proxy's.
const OC3: [&str; 2] = ["/server/api/auth/node", "/api/auth/node"];
/// Nobody has more to say.
const BODY_MAX: usize = 16 * 1024;

/// One password at a time is looked at: strangers do not get all processors.
static PASSWORDS: Semaphore = Semaphore::const_new(1);

/// Whose credentials a request has.
enum Who {
    Nobody,
    User,
    Node,
    Stranger,
}

/// Whether a request is for this conversation.
#[must_use]
pub fn is_for_us(request: &Request) -> bool {
    request.path() == REST || OC3.contains(&request.path())
}

/// Registers a node that shows nothing: its uuid.
///
/// # Errors
/// The words of the refusal.
pub fn anonymous(collector: &Collector, name: &str) -> Result<String, String> {
    if !collector.anonymous {
        let text = "This collector refuses anonymous register. Please use 'nodemgr register --user <user>'.";
        return Err(text.to_owned());
    }
    if name.is_empty() {
        return Err("no node name provided".to_owned());
    }
    match register(collector, name) {
        Ok(Registration::New(uuid)) => Ok(uuid),
        Ok(Registration::Known(_)) => Err("already registered".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn register(collector: &Collector, name: &str) -> Result<Registration, StoreError> {
    let result = collector.store().register(name);
    match &result {
        Ok(Registration::New(_)) => tracing::info!("node {name} is registered"),
        Ok(Registration::Known(_)) => tracing::info!("node {name} asked to be registered again"),
        Err(error) => tracing::warn!("a node was not registered: {error}"),
    }
    result
}

/// Answers a request.
pub async fn answer(collector: &Collector, request: &Request) -> Answer {
    let who = match identify(collector, request).await {
        Ok(who) => who,
        Err(error) => {
            tracing::error!("cannot tell who wants to register a node: {error}");
            return document(500, &json!({"error": "the server failed", "text": "the server failed"}));
        }
    };
    let (status, value) = match (request.path() == REST, request.method.as_str()) {
        (_, method) if method != "POST" => (405, json!({ "message": "Method Not Allowed" })),
        _ if request.body.len() > BODY_MAX => {
            (413, json!({"error": "the request is too large", "text": "the request is too large"}))
        }
        (true, _) => rest(collector, &who, request),
        (false, _) => oc3(collector, &who, request),
    };
    document(status, &value)
}

fn document(status: u16, value: &Value) -> Answer {
    Answer::json(status, gojson::write(value))
}

async fn identify(collector: &Collector, request: &Request) -> Result<Who, StoreError> {
    let Some((name, secret)) = request.basic() else { return Ok(Who::Nobody) };
    if matches!(collector.store().authenticate(&name, &secret)?, Auth::Node(_)) {
        return Ok(Who::Node);
    }
    let known = collector.store().user(&name)?;
    let hash = known.unwrap_or_else(Hash::of_nobody);
    // It is never closed; without a turn the password is looked at all the same.
    let _turn = PASSWORDS.acquire().await.ok();
    let is_it = tokio::task::spawn_blocking(move || hash.matches(&secret)).await;
    Ok(if is_it.unwrap_or(false) { Who::User } else { Who::Stranger })
}

fn rest(collector: &Collector, who: &Who, request: &Request) -> (u16, Value) {
    let refused = |status, text: &str| (status, json!({ "error": text }));
    if !matches!(who, Who::User) {
        return refused(401, "a user's name and password are needed");
    }
    let mut form = form_urlencoded::parse(&request.body);
    let Some((_, name)) = form.find(|(key, _)| key == "nodename") else {
        return refused(400, "The 'nodename' key is mandatory");
    };
    match register(collector, &name) {
        Ok(Registration::New(uuid)) => (200, json!({"data": {"uuid": uuid}})),
        Ok(Registration::Known(uuid)) => {
            (200, json!({"data": {"uuid": uuid}, "info": "already registered, resend uuid."}))
        }
        Err(error) => refused(status(&error), &error.to_string()),
    }
}

fn oc3(collector: &Collector, who: &Who, request: &Request) -> (u16, Value) {
    let problem = |status, text: &str| (status, json!({ "text": text }));
    match who {
        Who::Stranger => {
            return problem(
                401,
                "strategies/union: [not public url, not public url, invalid credentials, invalid credentials]",
            );
        }
        Who::Nobody if !collector.anonymous => {
            return problem(401, "strategies/union: [not public url, strategies/basic: Request missing BasicAuth]");
        }
        Who::Node if !collector.anonymous => return problem(403, "anonymous node registration is disabled"),
        _ => {}
    }
    let is_json = request.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    let body = serde_json::from_slice::<Value>(&request.body).ok().filter(|body| is_json && body.is_object());
    let Some(body) = body else { return problem(400, "invalid request body") };
    let result = register(collector, body["nodename"].as_str().unwrap_or_default());
    match (result, who) {
        (Ok(Registration::New(uuid)), _) => (200, json!({"info": "node is registered", "uuid": uuid})),
        (Ok(Registration::Known(uuid)), Who::User) => {
            (200, json!({"info": "node is already registered", "uuid": uuid}))
        }
        (Ok(Registration::Known(_)), _) => {
            problem(403, "node is already registered: only a user is told its uuid again")
        }
        (Err(error), _) => problem(status(&error), &error.to_string()),
    }
}

fn status(error: &StoreError) -> u16 {
    match error {
        StoreError::Invalid(_) => 400,
        StoreError::Full(_) => 507,
        _ => 500,
    }
}
