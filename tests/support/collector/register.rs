//! Who may speak: nodes with their secrets, users with their passwords, and how the one comes from the other. The rules
//! and the words are those of web2py's `register_node` and `/init/rest/api/register`, and of oc3's `/api/auth/node`.

#![allow(dead_code, reason = "not every test binary registers nodes")]

use serde_json::{Value as Json, json};

use super::super::{NODE, UUID, base64};

/// A user of the collector, for Basic: name and password. The password has what `:`, forms and shells take apart.
pub(crate) const USER: (&str, &str) = ("operator@example.com", "c0rrect:horse battery+staple &=%é");
/// The applications that the user is responsible for; the first is the default.
pub(crate) const APPS: [&str; 2] = ["accounting", "billing"];
/// A user who is in no group.
pub(crate) const LONER: (&str, &str) = ("loner@example.com", "alone");

pub(super) const REST_PATH: &str = "/init/rest/api/register";
pub(super) const OC3_PATH: &str = "/server/api/auth/node";
pub(super) const SYSTEM_PATH: &str = "/feeder/api/node/system";

const REFUSES_ANONYMOUS: &str =
    "This collector refuses anonymous register. Please use 'nodemgr register --user <user>'.";

/// What a system document must have in `properties`, or the job that reads it gives up and the node stays what it was.
const PROPERTIES: [&str; 26] = [
    "bios_version",
    "cluster_id",
    "cpu_cores",
    "cpu_dies",
    "cpu_freq",
    "cpu_model",
    "cpu_threads",
    "enclosure",
    "fqdn",
    "last_boot",
    "listener_port",
    "manufacturer",
    "mem_banks",
    "mem_bytes",
    "mem_slots",
    "model",
    "node_env",
    "nodename",
    "os_arch",
    "os_kernel",
    "os_name",
    "os_vendor",
    "serial",
    "sp_version",
    "tz",
    "version",
];

/// A node that has a secret.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) app: Option<String>,
    /// Whether what is queued for it becomes a feed row: after its first system document.
    pub(crate) is_feed: bool,
    /// The last system document that was accepted.
    pub(crate) system: Option<Json>,
}

/// Whose credentials a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// None.
    Nobody,
    /// A user, by its apps.
    User(&'static [&'static str]),
    /// A node, by its place.
    Node(usize),
    /// Wrong ones.
    Stranger,
}

/// All nodes and users.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) nodes: Vec<Registered>,
    pub(super) allows_anonymous: bool,
    given: u64,
}

impl Default for Registry {
    fn default() -> Self {
        let mut registry = Self { nodes: Vec::new(), allows_anonymous: false, given: 0 };
        registry.add(NODE, UUID, None);
        registry
    }
}

impl Registry {
    pub(super) fn add(&mut self, name: &str, uuid: &str, app: Option<&str>) {
        let (name, uuid) = (name.to_owned(), uuid.to_owned());
        self.nodes.push(Registered { name, uuid, app: app.map(str::to_owned), is_feed: false, system: None });
    }

    /// A secret that looks like one, and another each time.
    fn new_uuid(&mut self) -> String {
        self.given += 1;
        format!("9e1d0202-0b38-4{:03x}-845e-{:012x}", self.given, self.given * 0x9e37_79b9)
    }

    /// Checks the credentials of an rpc call.
    pub(super) fn check(&self, uuid: &str, name: &str) -> Result<(), String> {
        let mut known = self.nodes.iter().filter(|node| node.name.eq_ignore_ascii_case(name)).peekable();
        if known.peek().is_none() {
            return Err(format!("agent {name} not registered"));
        }
        let is_it = known.any(|node| node.uuid.eq_ignore_ascii_case(uuid));
        if is_it { Ok(()) } else { Err("agent authentication error".to_owned()) }
    }

    /// Tells whose the credentials in an `Authorization` header are.
    pub(super) fn who(&self, authorization: Option<&str>) -> Who {
        let Some(given) = authorization else { return Who::Nobody };
        let is = |name: &str, secret: &str| given == format!("Basic {}", base64(format!("{name}:{secret}").as_bytes()));
        if is(USER.0, USER.1) {
            return Who::User(&APPS);
        }
        if is(LONER.0, LONER.1) {
            return Who::User(&[]);
        }
        self.nodes.iter().position(|node| is(&node.name, &node.uuid)).map_or(Who::Stranger, Who::Node)
    }

    /// `register_node`: a uuid, or the one refusal.
    pub(super) fn anonymous(&mut self, name: &str) -> Result<String, &'static str> {
        if !self.allows_anonymous {
            return Err(REFUSES_ANONYMOUS);
        }
        if name.is_empty() {
            return Err("no node name provided");
        }
        if self.nodes.iter().any(|node| node.name.eq_ignore_ascii_case(name)) {
            return Err("already registered");
        }
        let uuid = self.new_uuid();
        self.add(name, &uuid, None);
        Ok(uuid)
    }

    /// The node of this name and application, made if it must be: its uuid, and whether it was there.
    fn resend(&mut self, name: &str, app: Option<&str>) -> (String, bool) {
        let is_it = |node: &&Registered| node.name.eq_ignore_ascii_case(name) && node.app.as_deref() == app;
        if let Some(node) = self.nodes.iter().find(is_it) {
            return (node.uuid.clone(), true);
        }
        let uuid = self.new_uuid();
        self.add(name, &uuid, app);
        (uuid, false)
    }

    /// `POST /init/rest/api/register` with a form: a status and a document.
    pub(super) fn rest(&mut self, who: Who, form: &[(String, String)]) -> (u16, Json) {
        let of_form = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let Who::User(apps) = who else { return (401, json!({"error": "basic authentication failed"})) };
        let Some(name) = of_form("nodename") else {
            return (400, json!({"error": "The 'nodename' key is mandatory"}));
        };
        // An agent that was told none sends python's name for nothing.
        let app = match of_form("app").filter(|app| *app != "None") {
            None => apps.first().copied(),
            Some(app) if apps.contains(&app) => Some(app),
            Some(app) => return (403, json!({"error": format!("You are not responsible for the '{app}' app")})),
        };
        match self.resend(name, app) {
            (uuid, true) => (200, json!({"data": {"uuid": uuid}, "info": "already registered, resend uuid."})),
            (uuid, false) => (200, json!({"data": {"uuid": uuid}})),
        }
    }

    /// `POST /api/auth/node`: a status and a document. The body is none if it is no JSON or does not say that it is.
    pub(super) fn oc3(&mut self, who: Who, body: Option<&Json>) -> (u16, Json) {
        let problem = |status, text: &str| (status, json!({ "text": text }));
        match who {
            Who::Stranger => {
                let text =
                    "strategies/union: [not public url, not public url, invalid credentials, invalid credentials]";
                return problem(401, text);
            }
            Who::Nobody if !self.allows_anonymous => {
                let text = "strategies/union: [not public url, not public url, strategies/basic: Request missing \
                            BasicAuth, strategies/basic: Request missing BasicAuth]";
                return problem(401, text);
            }
            _ => {}
        }
        let Some(body) = body else { return problem(400, "invalid request body") };
        let (name, app) = (body["nodename"].as_str().unwrap_or_default(), body["app"].as_str().unwrap_or_default());
        let app = match who {
            Who::User([]) if app.is_empty() => return problem(500, "cannot verify app"),
            Who::User(apps) if app.is_empty() => apps[0],
            Who::User(apps) if !apps.contains(&app) => {
                return problem(403, &format!("you are not responsible for the '{app}' app"));
            }
            Who::Node(_) if !self.allows_anonymous => return problem(403, "anonymous node registration is disabled"),
            Who::Nobody | Who::Node(_) if app.is_empty() => return problem(400, "missing app"),
            _ => app,
        };
        match self.resend(name, Some(app)) {
            (uuid, true) => (200, json!({"info": "node is already registered", "uuid": uuid})),
            (uuid, false) => (200, json!({"info": "node is registered", "uuid": uuid})),
        }
    }

    /// What is missing or wrong in a system document; nothing: it was taken, and the node is a feed node now. The sender
    /// hears the same either way: the document is read later, by a job.
    pub(super) fn system(&mut self, node: usize, body: &[u8]) -> Vec<String> {
        let Ok(document) = serde_json::from_slice::<Json>(body) else { return vec!["JSON".to_owned()] };
        let Some(properties) = document["properties"].as_object() else { return vec!["properties".to_owned()] };
        let value = |name: &str| properties.get(name).and_then(|property| property.get("value"));
        let mut wrong: Vec<_> =
            PROPERTIES.into_iter().filter(|name| value(name).is_none()).map(str::to_owned).collect();
        if value("version").is_some_and(|version| !version.is_string()) {
            wrong.push("version is no text".to_owned());
        }
        match value("last_boot") {
            None | Some(Json::Null) => {}
            Some(Json::String(date)) if is_rfc3339(date) => {}
            Some(other) => wrong.push(format!("last_boot is {other}")),
        }
        if wrong.is_empty() {
            self.nodes[node].is_feed = true;
            self.nodes[node].system = Some(document);
        }
        wrong
    }
}

/// `2026-11-21T08:50:03Z`, with a fraction or an offset if it likes.
fn is_rfc3339(date: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd".bytes();
    let fits = |(c, shape): (u8, u8)| if shape == b'd' { c.is_ascii_digit() } else { c == shape };
    date.len() > 19 && date.bytes().zip(shape).all(fits) && (date.ends_with('Z') || date[19..].contains(['+', '-']))
}

/// The fields of a form.
pub(super) fn form(body: &[u8]) -> Vec<(String, String)> {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decode(&pair[..at]), decode(pair.get(at + 1..).unwrap_or_default()))
        })
        .collect()
}

fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        (rest, bytes) = match (byte, hex) {
            (b'%', Some(code)) => (&behind[2..], [bytes, vec![code]].concat()),
            (b'+', _) => (behind, [bytes, vec![b' ']].concat()),
            _ => (behind, [bytes, vec![*byte]].concat()),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
