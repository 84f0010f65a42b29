//! What a dialect has to say: which requests to send, and what their answers mean. No I/O: [`super::client`] does that.

use std::cell::Cell;

use crate::action::{ActionId, Batch, Queue};
use crate::collector::http::{Answer, Request};
use crate::collector::rpc::{Call, FaultKind, RpcError, json, xml};
use crate::collector::{CollectorError, DecodeError, Report, oc3, rpc};
use crate::config::{Format, QueueSettings, Secret};

/// One way to talk to an action queue.
pub(super) trait Dialect {
    /// Asks for the queue.
    fn fetch(&self) -> Request;
    /// Reads the answer to [`Self::fetch`].
    fn fetched(&self, answer: Answer) -> Result<Batch, CollectorError>;
    /// Says that we hold these rows; none where the collector does not want to know.
    fn acknowledge(&self, ids: &[ActionId]) -> Option<Request>;
    /// Whether so many results, of so many bytes together, go in one call.
    fn takes(&self, results: usize, bytes: usize) -> bool;
    /// Posts results, one at least, and together no more than [`Self::takes`].
    fn report(&self, reports: &[Report]) -> Request;
    /// Reads the answer to [`Self::acknowledge`] and [`Self::report`].
    fn accepted(&self, answer: Answer) -> Result<(), CollectorError>;

    /// Asks for nothing, in a way that only good credentials get through.
    fn probe(&self) -> Request;
    /// Reads the answer to [`Self::probe`].
    fn probed(&self, answer: Answer) -> Result<(), CollectorError>;

    /// The collector does not know how to be asked for the queue. What asks it for the ways that it knows, if it can be
    /// asked that.
    fn ask_for_methods(&self) -> Option<Request> {
        None
    }
    /// Changes to another way of asking for the queue, if there is one that the collector knows; tells whether. The
    /// answer is that to [`Self::ask_for_methods`].
    fn fall_back(&self, _methods: Option<Answer>) -> Result<bool, CollectorError> {
        Ok(false)
    }
    /// The collector does not know how to be told that we hold rows.
    fn never_acknowledge(&self) {}
}

/// The dialect of a queue.
pub(super) fn of(settings: &QueueSettings) -> Box<dyn Dialect> {
    match settings.queue {
        Queue::Oc3 => Box::new(Oc3 {
            base: settings.base_url.clone(),
            user: settings.node.clone(),
            password: settings.uuid.clone(),
        }),
        Queue::Rpc => Box::new(Rpc {
            endpoint: rpc_endpoint(&settings.base_url, settings.format),
            format: settings.format,
            node: settings.node.clone(),
            uuid: settings.uuid.clone(),
            calls: Cell::new(0),
            is_v1: Cell::new(false),
            acknowledges: Cell::new(true),
        }),
    }
}

/// REST to collector 3: the node's name and uuid are HTTP Basic credentials.
struct Oc3 {
    base: String,
    user: String,
    password: Secret,
}

impl Oc3 {
    fn request(&self, path: &str, body: Option<Vec<u8>>) -> Request {
        Request {
            url: format!("{}/api/node/actionq{path}", self.base),
            content_type: "application/json",
            credentials: Some((self.user.clone(), self.password.clone())),
            body,
            id: 0,
        }
    }

    /// Any 2xx is a success: a proxy may turn 202 into 200 or 204.
    fn success(answer: Answer) -> Result<Answer, CollectorError> {
        match answer.status {
            200..=299 => Ok(answer),
            401 | 403 => Err(CollectorError::Credentials {
                url: answer.url,
                text: oc3::error_text(&answer.body).unwrap_or_else(|| format!("HTTP status {}", answer.status)),
            }),
            status => Err(CollectorError::Refused {
                status,
                text: oc3::error_text(&answer.body),
                url: answer.url,
                retry_after: answer.retry_after,
            }),
        }
    }
}

impl Dialect for Oc3 {
    fn fetch(&self) -> Request {
        self.request("", None)
    }

    fn fetched(&self, answer: Answer) -> Result<Batch, CollectorError> {
        let answer = Self::success(answer)?;
        oc3::decode_actions(&answer.body).map_err(|source| CollectorError::Undecodable { url: answer.url, source })
    }

    fn acknowledge(&self, ids: &[ActionId]) -> Option<Request> {
        Some(self.request("/running", Some(oc3::encode_running(ids))))
    }

    fn takes(&self, results: usize, _: usize) -> bool {
        results <= 1
    }

    fn report(&self, reports: &[Report]) -> Request {
        debug_assert!(reports.len() == 1, "this queue takes one result a call");
        self.request("/done", reports.first().map(oc3::encode_done))
    }

    fn accepted(&self, answer: Answer) -> Result<(), CollectorError> {
        Self::success(answer).map(drop)
    }

    /// A GET where only a POST does anything. Who is not known is sent away before that is found out.
    fn probe(&self) -> Request {
        self.request("/running", None)
    }

    fn probed(&self, answer: Answer) -> Result<(), CollectorError> {
        match answer.status {
            405 => Ok(()),
            status @ 200..=299 => Err(CollectorError::Undecodable {
                url: answer.url,
                source: DecodeError {
                    line: 1,
                    column: 0,
                    what: format!("HTTP status {status} where a collector answers 405: something else answers here"),
                },
            }),
            _ => Self::success(answer).map(drop),
        }
    }
}

/// XML-RPC or JSON-RPC 2 to a 1.x/2.x collector: name and uuid are the last argument of every call.
struct Rpc {
    endpoint: String,
    format: Format,
    node: String,
    uuid: Secret,
    /// How many calls there were.
    calls: Cell<u64>,
    /// The collector was found to be one that hands rows out for good: nothing is acknowledged.
    is_v1: Cell<bool>,
    /// The collector was not found to be one without acknowledgements.
    acknowledges: Cell<bool>,
}

/// Where calls go. The URL of the XML-RPC endpoint names the collector in either format: results stay at home when a
/// site changes the format.
fn rpc_endpoint(url: &str, format: Format) -> String {
    match (format, url.strip_suffix("/xmlrpc")) {
        (Format::Json, Some(calls)) => format!("{calls}/jsonrpc2"),
        _ => url.to_owned(),
    }
}

impl Rpc {
    fn request(&self, call: &Call) -> Request {
        let id = self.calls.get() + 1;
        self.calls.set(id);
        let (node, uuid) = (&self.node, self.uuid.expose());
        let (content_type, body) = match self.format {
            Format::Xml => ("text/xml", xml::encode(call, node, uuid)),
            Format::Json => ("application/json", json::encode(id, call, node, uuid)),
        };
        Request { url: self.endpoint.clone(), content_type, credentials: None, body: Some(body), id }
    }

    /// Reads an answer in the format that was asked in.
    fn read<T>(
        &self,
        answer: Answer,
        xml: impl Fn(&[u8]) -> Result<T, RpcError>,
        json: impl Fn(u64, &[u8]) -> Result<T, RpcError>,
    ) -> Result<T, CollectorError> {
        let Answer { url, status, retry_after, body, id } = answer;
        if status != 200 {
            let text = if self.format == Format::Json { json::error_text(&body) } else { None };
            return Err(CollectorError::Refused { url, status, text, retry_after });
        }
        let read = match self.format {
            Format::Xml => xml(&body),
            Format::Json => json(id, &body),
        };
        read.map_err(|err| match err {
            RpcError::Decode(source) => CollectorError::Undecodable { url, source },
            RpcError::Fault { kind, text } => match kind {
                FaultKind::BadUuid | FaultKind::NotRegistered => CollectorError::Credentials { url, text },
                FaultKind::UnknownMethod => CollectorError::UnknownMethod { url, text },
                FaultKind::Trouble => CollectorError::Fault { url, text, trouble: true },
                FaultKind::Other => CollectorError::Fault { url, text, trouble: false },
            },
        })
    }
}

impl Dialect for Rpc {
    fn fetch(&self) -> Request {
        self.request(if self.is_v1.get() { &Call::FetchV1 } else { &Call::Fetch })
    }

    fn fetched(&self, answer: Answer) -> Result<Batch, CollectorError> {
        self.read(answer, xml::decode_fetch, json::decode_fetch)
    }

    fn acknowledge(&self, ids: &[ActionId]) -> Option<Request> {
        (!self.is_v1.get() && self.acknowledges.get()).then(|| self.request(&Call::Received(ids)))
    }

    fn takes(&self, results: usize, bytes: usize) -> bool {
        results <= rpc::REPORTS && bytes <= rpc::REPORTS_BYTES
    }

    fn report(&self, reports: &[Report]) -> Request {
        self.request(&Call::Update(reports))
    }

    fn accepted(&self, answer: Answer) -> Result<(), CollectorError> {
        self.read(answer, xml::decode_done, json::decode_done)
    }

    /// No results at all: every collector takes them, the old ones too.
    fn probe(&self) -> Request {
        self.request(&Call::Update(&[]))
    }

    fn probed(&self, answer: Answer) -> Result<(), CollectorError> {
        self.accepted(answer)
    }

    /// JSON-RPC 2 has no such method; but there, that a method is unknown has a code of its own.
    fn ask_for_methods(&self) -> Option<Request> {
        (self.format == Format::Xml).then(|| self.request(&Call::ListMethods))
    }

    fn fall_back(&self, methods: Option<Answer>) -> Result<bool, CollectorError> {
        let knows_v1 = match methods {
            None => true,
            Some(answer) => {
                let names = self.read(answer, xml::decode_methods, |_, _| Ok(Vec::new()))?;
                let knows = |call: Call| names.iter().any(|name| name == call.method());
                knows(Call::FetchV1) && !knows(Call::Fetch)
            }
        };
        // One that has it and denies it is not asked for ever.
        Ok(knows_v1 && !self.is_v1.replace(true))
    }

    fn never_acknowledge(&self) {
        self.acknowledges.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_error_in_json_beside_another_status_are_heard() {
        let rpc = Rpc {
            endpoint: "u".to_owned(),
            format: Format::Json,
            node: "n".to_owned(),
            uuid: Secret::new("s"),
            calls: Cell::new(0),
            is_v1: Cell::new(false),
            acknowledges: Cell::new(true),
        };
        let answer = |status, body: &str| {
            rpc.accepted(Answer {
                url: "u".to_owned(),
                status,
                retry_after: None,
                body: body.as_bytes().to_vec(),
                id: 1,
            })
            .unwrap_err()
        };
        let error = r#"{"id": 1, "error": {"code": -32099, "data": "DataError: (1406, 'Data too long')\nFalse"}}"#;
        assert_eq!(answer(500, error).answer(), "HTTP status 500: (1406, 'Data too long')");
        assert!(answer(500, error).is_about_content() && answer(200, error).is_about_content());
        assert_eq!(answer(502, "<html>").answer(), "HTTP status 502");
    }

    #[test]
    fn the_format_changes_the_last_part_of_the_url() {
        let url = "https://c:443/feed/default/call/xmlrpc";
        assert_eq!(rpc_endpoint(url, Format::Xml), url);
        assert_eq!(rpc_endpoint(url, Format::Json), "https://c:443/feed/default/call/jsonrpc2");
    }
}
