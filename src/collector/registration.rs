//! Registration: the exchange that brings a node its uuid, and the one that makes collector 3 offer it rows.
//!
//! | | request | who vouches |
//! | --- | --- | --- |
//! | collector 3 | `POST {server}/api/auth/node`, JSON | a user (HTTP Basic), or nobody where `server.allow_anon_register` is set |
//! | 1.x/2.x, REST | `POST {rest}/register`, a form | a user (HTTP Basic) |
//! | 1.x/2.x, XML-RPC | `register_node(node)` | nobody, unless the collector refuses that |
//!
//! All but the last may be repeated: they give the same uuid again. The answers carry the uuid, so none of them is ever
//! traced, and no error quotes one.

use std::error::Error as StdError;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::http::{Answer, Http, HttpError, Request};
use super::oc3;
use super::row::bounded;
use super::rpc::registration::{self as register_node, Answered};
use super::rpc::{FaultKind, RpcError};
use super::system::System;
use crate::action::Queue;
use crate::config::{Registration, Secret};

/// The bytes of a collector's words that are shown.
const WORDS: usize = 1024;

/// The longest body of an answer that is read: a uuid, or a sentence.
const ANSWER: usize = 64 * 1024;

/// A person of whom the collector knows that he may register nodes.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, mostly an address of mail.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// What the collector gave.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The node's secret.
    pub uuid: Secret,
    /// The collector knew the node before.
    pub known: bool,
}

/// What kind of failure it is: the exit status depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something has to be said on the command line.
    Usage,
    /// The collector does not want to.
    Refused,
    /// The collector cannot at present.
    Unavailable,
    /// The settings lead somewhere else.
    Misconfigured,
    /// The answer makes no sense.
    Undecodable,
}

/// Why there is no uuid.
#[derive(Debug)]
pub struct RegistrationError {
    /// What kind of failure it is.
    pub kind: Kind,
    url: String,
    text: String,
    source: Option<HttpError>,
}

impl RegistrationError {
    fn new(kind: Kind, url: &str, text: impl Into<String>) -> Self {
        Self { kind, url: url.to_owned(), text: text.into(), source: None }
    }

    /// The same, where the collector has not echoed the password in its words.
    fn without(mut self, user: Option<&User>) -> Self {
        if let Some(user) = user.filter(|user| !user.password.expose().is_empty()) {
            self.text = self.text.replace(user.password.expose(), "<redacted>");
        }
        self
    }
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => source.fmt(f),
            None => write!(f, "{}: {}", self.url, self.text),
        }
    }
}

impl StdError for RegistrationError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // It is printed as a whole, so what follows is what lies below it.
        self.source.as_ref().and_then(StdError::source)
    }
}

impl From<HttpError> for RegistrationError {
    fn from(err: HttpError) -> Self {
        let kind = match &err {
            HttpError::File { .. } | HttpError::Setup(_) => Kind::Misconfigured,
            HttpError::Identity { .. } => Kind::Refused,
            HttpError::TooLarge { .. } => Kind::Undecodable,
            HttpError::Certificate { .. } | HttpError::Unreachable { .. } | HttpError::Endless { .. } => {
                Kind::Unavailable
            }
        };
        Self { kind, url: String::new(), text: String::new(), source: Some(err) }
    }
}

/// Asks the collector to register this node, once.
///
/// # Errors
/// As [`RegistrationError`] says, in words. The collector may have registered the node all the same.
pub async fn register(
    settings: &Registration,
    user: Option<&User>,
    app: Option<&str>,
) -> Result<Registered, RegistrationError> {
    let request = request(settings, user, app)?;
    let answer = exchange(&Http::new(&settings.queue)?, request).await?;
    let read = match (settings.queue.queue, user) {
        (Queue::Oc3, _) => read_oc3(&answer, user),
        (Queue::Rpc, Some(user)) => read_rest(&answer, user),
        (Queue::Rpc, None) => read_rpc(&answer, &settings.queue.node),
    };
    read.map_err(|err| err.without(user))
}

/// Posts what makes collector 3 offer the node its rows.
///
/// # Errors
/// As [`RegistrationError`] says.
pub async fn post_system(settings: &Registration, uuid: &Secret, system: &System) -> Result<(), RegistrationError> {
    let request = Request {
        url: format!("{}/api/node/system", settings.queue.base_url),
        content_type: "application/json",
        credentials: Some((settings.queue.node.clone(), uuid.clone())),
        body: Some(system.encode()),
        id: 0,
    };
    let answer = exchange(&Http::new(&settings.queue)?, request).await?;
    let text = |words: &str| words.replace(uuid.expose(), "<redacted>");
    match answer.status {
        200..=299 => Ok(()),
        status => {
            let words = oc3::error_text(&answer.body).map(|words| format!(": {}", text(&words))).unwrap_or_default();
            Err(RegistrationError::new(kind_of(status), &answer.url, format!("HTTP status {status}{words}")))
        }
    }
}

fn request(settings: &Registration, user: Option<&User>, app: Option<&str>) -> Result<Request, RegistrationError> {
    let node = settings.queue.node.as_str();
    let credentials = user.map(|user| (user.name.clone(), user.password.clone()));
    let users_at = || {
        let misplaced =
            |err: &_| RegistrationError::new(Kind::Misconfigured, &settings.queue.base_url, format!("{err}"));
        settings.users_at.as_ref().map_err(misplaced)
    };
    Ok(match (settings.queue.queue, user) {
        (Queue::Oc3, _) => {
            let mut body = Map::from_iter([("nodename".to_owned(), json!(node))]);
            if let Some(app) = app {
                body.insert("app".to_owned(), json!(app));
            }
            let (url, content_type) = (format!("{}/api/auth/node", users_at()?), "application/json");
            Request { url, content_type, credentials, body: Some(Value::Object(body).to_string().into_bytes()), id: 0 }
        }
        (Queue::Rpc, Some(_)) => {
            let mut body = format!("nodename={}", form_encoded(node));
            if let Some(app) = app {
                body.push_str("&app=");
                body.push_str(&form_encoded(app));
            }
            let (url, content_type) = (format!("{}/register", users_at()?), "application/x-www-form-urlencoded");
            Request { url, content_type, credentials, body: Some(body.into_bytes()), id: 0 }
        }
        (Queue::Rpc, None) => Request {
            url: settings.queue.base_url.clone(),
            content_type: "text/xml",
            credentials: None,
            body: Some(register_node::encode(node)),
            id: 0,
        },
    })
}

/// One exchange, of which only that it took place is traced.
async fn exchange(http: &Http, request: Request) -> Result<Answer, HttpError> {
    tracing::trace!("> POST {} (not shown: credentials)", request.url);
    let answer = http.exchange(request).with_subscriber(NoSubscriber::new()).await?;
    tracing::trace!("< {} (not shown: credentials)", answer.status);
    Ok(answer)
}

/// What an HTTP status says where the collector's words say nothing better.
fn kind_of(status: u16) -> Kind {
    match status {
        300..=399 | 404 | 405 => Kind::Misconfigured,
        408 | 425 | 429 | 500..=599 => Kind::Unavailable,
        _ => Kind::Refused,
    }
}

fn read_oc3(answer: &Answer, user: Option<&User>) -> Result<Registered, RegistrationError> {
    #[derive(Deserialize)]
    struct Body {
        uuid: String,
        #[serde(default)]
        info: Option<String>,
    }
    if answer.status == 200 {
        let body: Body = serde_json::from_slice(&answer.body).map_err(|_| undecodable(answer))?;
        return registered(answer, body.uuid, body.info.is_some_and(|info| info.contains("already")));
    }
    let words = oc3::error_text(&answer.body).unwrap_or_else(|| format!("HTTP status {}", answer.status));
    let failed = |kind, text: String| Err(RegistrationError::new(kind, &answer.url, text));
    match (answer.status, user) {
        (401, Some(user)) => failed(
            Kind::Refused,
            format!(
                "the collector does not accept user {:?} with this password, or cannot look it up: {words}",
                user.name
            ),
        ),
        (401, None) => failed(
            Kind::Refused,
            format!("the collector registers no node that nobody vouches for: give --user ({words})"),
        ),
        (403, _) if words.contains("anonymous") => failed(Kind::Refused, format!("{words}: give --user")),
        (403, _) => failed(Kind::Refused, format!("{words} (--app)")),
        (400, _) if words.contains("missing app") => failed(Kind::Usage, format!("{words}: give --app")),
        (409, _) => failed(
            Kind::Refused,
            format!(
                "{words}: the collector holds this node several times; its operator has to delete what is too many"
            ),
        ),
        // The user belongs to no group, so that there is no application to put the node into.
        (500, Some(_)) if words.contains("cannot verify app") || words.contains("default app") => {
            failed(Kind::Refused, format!("{words}: this user has no application of his own; give --app"))
        }
        (404 | 405 | 300..=399, _) => failed(
            Kind::Misconfigured,
            format!("{words}: is node.collector_server right? Nodes are not registered there"),
        ),
        (status, _) => failed(kind_of(status), words),
    }
}

fn read_rest(answer: &Answer, user: &User) -> Result<Registered, RegistrationError> {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        data: Option<Data>,
        #[serde(default)]
        info: Option<Value>,
        #[serde(default)]
        error: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Data {
        uuid: String,
    }
    let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
    let is_json = body.is_some();
    let Body { data, info, error } = body.unwrap_or_default();
    let said = |value: Option<Value>| match value {
        Some(Value::String(text)) => Some(bounded(&text, WORDS)),
        Some(Value::Array(texts)) => {
            let texts: Vec<_> = texts.iter().filter_map(Value::as_str).collect();
            Some(bounded(&texts.join("; "), WORDS))
        }
        _ => None,
    };
    let (info, error) = (said(info), said(error));
    if let (200, Some(data)) = (answer.status, data) {
        return registered(answer, data.uuid, info.is_some_and(|info| info.contains("already")));
    }
    let failed = |kind, text: String| Err(RegistrationError::new(kind, &answer.url, text));
    let words = error.or(info);
    let with_words = |text: &str| words.as_ref().map_or(text.to_owned(), |words| format!("{text}: {words}"));
    match answer.status {
        401 => failed(
            Kind::Refused,
            with_words(&format!("the collector does not accept user {:?} with this password", user.name)),
        ),
        403 => failed(Kind::Refused, with_words("the collector refuses (--app)")),
        400 => failed(Kind::Refused, with_words("the collector refuses")),
        // The answer to a node that it holds several times: a sentence, as JSON or not.
        200 if words.is_some() || answer.body.starts_with(b"already") => failed(
            Kind::Refused,
            with_words("the collector holds this node several times; its operator has to delete what is too many"),
        ),
        200 if is_json => Err(undecodable(answer)),
        200 => Err(undecodable(answer)),
        404 | 405 | 300..=399 => failed(
            Kind::Misconfigured,
            with_words(&format!("HTTP status {}: nodes are not registered there", answer.status)),
        ),
        status => failed(kind_of(status), with_words(&format!("HTTP status {status}"))),
    }
}

fn read_rpc(answer: &Answer, node: &str) -> Result<Registered, RegistrationError> {
    let failed = |kind, text: String| Err(RegistrationError::new(kind, &answer.url, text));
    if answer.status != 200 {
        return failed(kind_of(answer.status), format!("HTTP status {}", answer.status));
    }
    match register_node::decode(&answer.body) {
        Ok(Answered::Uuid(uuid)) => registered(answer, uuid, false),
        Ok(Answered::Refusal(words)) => {
            let words = bounded(&words, WORDS);
            let advice = if words.contains("already registered") {
                format!(
                    "the collector knows {node} and does not tell its uuid to everybody: give --user, or have its operator \
                     delete the node's registration"
                )
            } else if words.contains("anonymous") {
                "give --user".to_owned()
            } else {
                "the collector refuses".to_owned()
            };
            failed(Kind::Refused, format!("{words}: {advice}"))
        }
        Err(RpcError::Fault { kind: FaultKind::UnknownMethod, text }) => failed(Kind::Misconfigured, text),
        Err(RpcError::Fault { text, .. }) => {
            failed(Kind::Unavailable, format!("the collector answered with a fault: {text}"))
        }
        Err(RpcError::Decode(_)) => Err(undecodable(answer)),
    }
}

/// Nothing of the answer is quoted: it may hold the uuid.
fn undecodable(answer: &Answer) -> RegistrationError {
    RegistrationError::new(Kind::Undecodable, &answer.url, "the answer holds no uuid, and no reason either")
}

/// Takes a uuid that can stand in `node.conf` for every agent.
fn registered(answer: &Answer, uuid: String, known: bool) -> Result<Registered, RegistrationError> {
    let uuid = Secret::from(uuid);
    let is_plain = |text: &str| {
        (8..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if answer.body.len() > ANSWER || !is_plain(uuid.expose()) {
        return Err(undecodable(answer));
    }
    Ok(Registered { uuid, known })
}

/// As HTML forms write it.
fn form_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'*' => char::from(byte).to_string(),
            b' ' => "+".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9e1d0202-0b38-440a-845e-e1deb340d38b";

    fn answer(status: u16, body: impl fmt::Display) -> Answer {
        Answer { url: "https://c/x".to_owned(), status, retry_after: None, body: body.to_string().into_bytes(), id: 0 }
    }

    fn user() -> User {
        User { name: "alice".to_owned(), password: Secret::new("pa55word") }
    }

    /// The kind and the words.
    fn said(read: Result<Registered, RegistrationError>) -> (Kind, String) {
        let err = read.unwrap_err();
        (err.kind, err.to_string())
    }

    #[test]
    fn the_answers_of_collector_3() {
        let user = user();
        let new = read_oc3(&answer(200, json!({"info": "node is registered", "uuid": UUID})), Some(&user)).unwrap();
        assert_eq!((new.uuid.expose(), new.known), (UUID, false));
        let known = json!({"info": "node is already registered", "uuid": UUID});
        assert!(read_oc3(&answer(200, known), Some(&user)).unwrap().known);
        let unauthorized =
            "strategies/union: [not public url, not public url, invalid credentials, invalid credentials]";
        for (status, text, user, kind, words) in [
            (401, unauthorized, Some(&user), Kind::Refused, "does not accept user \"alice\""),
            (401, unauthorized, None, Kind::Refused, "give --user"),
            (403, "you are not responsible for the 'x' app", Some(&user), Kind::Refused, "the 'x' app (--app)"),
            (403, "anonymous node registration is disabled", None, Kind::Refused, "disabled: give --user"),
            (400, "missing app", None, Kind::Usage, "give --app"),
            (409, "node double registration attempt", Some(&user), Kind::Refused, "several times"),
            (500, "cannot verify app", Some(&user), Kind::Refused, "give --app"),
            (500, "database error", Some(&user), Kind::Unavailable, "database error"),
            (404, "Not Found", Some(&user), Kind::Misconfigured, "node.collector_server"),
            (302, "", Some(&user), Kind::Misconfigured, "HTTP status 302"),
            (503, "", None, Kind::Unavailable, "HTTP status 503"),
        ] {
            let (is, says) = said(read_oc3(&answer(status, json!({"text": text})), user));
            assert!(is == kind && says.contains(words), "{status} {text}: {is:?} {says}");
        }
    }

    #[test]
    fn the_answers_of_the_rest_interface() {
        let user = user();
        let new = read_rest(&answer(200, json!({"data": {"uuid": UUID}})), &user).unwrap();
        assert_eq!((new.uuid.expose(), new.known), (UUID, false));
        let known = json!({"data": {"uuid": UUID}, "info": "already registered, resend uuid."});
        assert!(read_rest(&answer(200, known), &user).unwrap().known);
        for (status, body, kind, words) in [
            (401, json!({"error": "authentication failed", "ret": 1}), Kind::Refused, "does not accept user \"alice\""),
            (403, json!({"error": "You are not responsible for the 'x' app"}), Kind::Refused, "the 'x' app"),
            (400, json!({"error": "The 'nodename' key is mandatory"}), Kind::Refused, "mandatory"),
            (200, json!({"error": "already registered"}), Kind::Refused, "several times"),
            (200, json!({"data": {}}), Kind::Undecodable, "no uuid"),
            (500, json!({"error": ["a", "b"]}), Kind::Unavailable, "a; b"),
            (404, json!("x"), Kind::Misconfigured, "HTTP status 404"),
        ] {
            let (is, says) = said(read_rest(&answer(status, &body), &user));
            assert!(is == kind && says.contains(words), "{status} {body}: {is:?} {says}");
        }
        assert_eq!(said(read_rest(&answer(200, "already registered"), &user)).0, Kind::Refused);
    }

    #[test]
    fn nothing_secret_is_in_the_words() {
        let uuid = format!("{UUID} and more");
        for body in [json!({"uuid": uuid}), json!({"data": {"uuid": uuid}})] {
            let user = user();
            assert!(!said(read_oc3(&answer(200, &body), Some(&user))).1.contains(UUID));
            assert!(!said(read_rest(&answer(200, &body), &user)).1.contains(UUID));
        }
        let err = RegistrationError::new(Kind::Refused, "https://c", "bad password 'pa55word'").without(Some(&user()));
        assert!(!err.to_string().contains("pa55word"), "{err}");
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form_encoded("n1.example.com"), "n1.example.com");
        assert_eq!(form_encoded("a b&c=é"), "a+b%26c%3D%C3%A9");
    }
}
