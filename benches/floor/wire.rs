//! The calls of both dialects, with as little as they can do with.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which protocol is spoken, and the parts of its calls that never change.
pub(crate) struct Dialect {
    is_rpc: bool,
    host: String,
    /// For `oc3`: what goes into the header; for `rpc`: the last argument of each call.
    auth: String,
    node: String,
}

/// What is to be run.
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) command: String,
    service: String,
}

/// How a command has ended.
pub(crate) struct Outcome {
    pub(crate) id: u64,
    pub(crate) ret: i32,
    pub(crate) ended_at: SystemTime,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Row {
    /// As the product calls `om`, for words without quotes.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &str> {
        let object = if self.service.is_empty() { vec!["node"] } else { vec!["svc", "-s", &self.service] };
        object.into_iter().chain(self.command.split_whitespace())
    }
}

impl Dialect {
    pub(crate) fn new(name: &str, host: &str, node: &str, credentials: &str) -> Result<Self, String> {
        let is_rpc = match name {
            "oc3" => false,
            "rpc" => true,
            other => return Err(format!("there is no dialect {other:?}")),
        };
        let auth = if is_rpc {
            format!(
                "<param>\n<value><array><data>\n<value><string>{credentials}</string></value>\n\
                 <value><string>{node}</string></value>\n</data></array></value>\n</param>\n"
            )
        } else {
            credentials.to_owned()
        };
        Ok(Self { is_rpc, host: host.to_owned(), auth, node: node.to_owned() })
    }

    pub(crate) fn fetch(&self) -> Vec<u8> {
        if self.is_rpc {
            let node = format!("<value><string>{}</string></value>\n", self.node);
            return self.call("collector_get_action_queue_v2", &node);
        }
        self.request("GET", "/feeder/api/node/actionq", "application/json", "")
    }

    /// The rows of the answer to a fetch, found by what surrounds them in every answer.
    pub(crate) fn rows(&self, answer: &str) -> Vec<Row> {
        let (start, command, id, service) = if self.is_rpc {
            let name = |name: &str, of: &str| format!("<name>{name}</name>\n<value><{of}>");
            ("<struct>", name("command", "string"), name("id", "int"), name("svcname", "string"))
        } else {
            ("{\"command\":", "\"command\":\"".to_owned(), "\"id\":".to_owned(), "\"svcname\":\"".to_owned())
        };
        let rows = answer.match_indices(start).map(|(at, _)| at);
        let ends = rows.clone().skip(1).chain([answer.len()]);
        let row = |(start, end): (usize, usize)| {
            let row = &answer[start..end];
            let after = |name: &str| row.find(name).map(|at| &row[at + name.len()..]);
            let text =
                |name: &str| after(name).and_then(|rest| rest.split(['"', '<']).next()).unwrap_or_default().to_owned();
            let number = after(&id)?.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok()?;
            Some(Row { id: number, command: text(&command), service: text(&service) })
        };
        rows.zip(ends).filter_map(row).collect()
    }

    pub(crate) fn acknowledge(&self, ids: &[u64]) -> Vec<u8> {
        if self.is_rpc {
            let ids: Vec<String> = ids.iter().map(|id| format!("<value><int>{id}</int></value>\n")).collect();
            return self.call("collector_update_action_queue_received", &array(&ids.concat()));
        }
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let body = format!("{{\"ids\":[{}]}}", ids.join(","));
        self.request("POST", "/feeder/api/node/actionq/running", "application/json", &body)
    }

    /// How many results one call can take.
    pub(crate) fn results_in_a_call(&self) -> usize {
        if self.is_rpc { 100 } else { 1 }
    }

    pub(crate) fn report(&self, outcomes: &[Outcome]) -> Vec<u8> {
        if self.is_rpc {
            let results: String = outcomes.iter().map(xml).collect();
            return self.call("collector_update_action_queue", &array(&results));
        }
        let body: String = outcomes.iter().map(json).collect();
        self.request("POST", "/feeder/api/node/actionq/done", "application/json", &body)
    }

    fn call(&self, method: &str, argument: &str) -> Vec<u8> {
        let body = format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n<param>\n{argument}</param>\n{}\
             </params>\n</methodCall>\n",
            self.auth
        );
        self.request("POST", "/feed/default/call/xmlrpc", "text/xml", &body)
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\n", self.host);
        // Writing to memory does not fail.
        if !self.is_rpc {
            let _ = write!(request, "Authorization: Basic {}\r\n", self.auth);
        }
        if method == "POST" {
            let _ = write!(request, "Content-Length: {}\r\n", body.len());
        }
        let _ = write!(request, "\r\n{body}");
        request.into_bytes()
    }
}

fn array(elements: &str) -> String {
    format!("<value><array><data>\n{elements}</data></array></value>\n")
}

fn xml(outcome: &Outcome) -> String {
    let text =
        |stream: &[u8]| String::from_utf8_lossy(stream).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    array(&format!(
        "<value><int>{}</int></value>\n<value><int>{}</int></value>\n<value><string>{}</string></value>\n\
         <value><string>{}</string></value>\n",
        outcome.id,
        outcome.ret,
        text(&outcome.stdout),
        text(&outcome.stderr)
    ))
}

fn json(outcome: &Outcome) -> String {
    let text = |stream: &[u8]| {
        let mut escaped = String::with_capacity(stream.len() + 2);
        for character in String::from_utf8_lossy(stream).chars() {
            match character {
                '"' | '\\' => escaped.extend(['\\', character]),
                '\0'..' ' => {
                    let _ = write!(escaped, "\\u{:04x}", u32::from(character));
                }
                other => escaped.push(other),
            }
        }
        escaped
    };
    format!(
        "{{\"id\":{},\"ret\":{},\"stdout\":\"{}\",\"stderr\":\"{}\",\"dequeued_at\":\"{}\"}}",
        outcome.id,
        outcome.ret,
        text(&outcome.stdout),
        text(&outcome.stderr),
        rfc3339(outcome.ended_at)
    )
}

/// The date in UTC, by the count of days from 0000-03-01 on, in eras of 400 years.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400 + 719_468, since.as_secs() % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}
