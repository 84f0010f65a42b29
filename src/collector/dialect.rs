//! What a dialect has to say: which requests to send, and what their answers mean. No I/O: [`super::client`] does that.

use crate::action::{ActionId, Batch, Queue};
use crate::collector::http::{Answer, Request};
use crate::collector::rpc::{FaultKind, RpcError};
use crate::collector::{CollectorError, Report, oc3, rpc};
use crate::config::{QueueSettings, Secret};

/// One way to talk to an action queue.
pub(super) trait Dialect {
    /// Asks for the queue.
    fn fetch(&self) -> Request;
    /// Reads the answer to [`Self::fetch`].
    fn fetched(&self, answer: Answer) -> Result<Batch, CollectorError>;
    /// Says that we hold these rows.
    fn acknowledge(&self, ids: &[ActionId]) -> Request;
    /// Posts a result.
    fn report(&self, report: &Report) -> Request;
    /// Reads the answer to [`Self::acknowledge`] and [`Self::report`].
    fn accepted(&self, answer: Answer) -> Result<(), CollectorError>;
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
            endpoint: settings.base_url.clone(),
            node: settings.node.clone(),
            uuid: settings.uuid.clone(),
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

    fn acknowledge(&self, ids: &[ActionId]) -> Request {
        self.request("/running", Some(oc3::encode_running(ids)))
    }

    fn report(&self, report: &Report) -> Request {
        self.request("/done", Some(oc3::encode_done(report)))
    }

    fn accepted(&self, answer: Answer) -> Result<(), CollectorError> {
        Self::success(answer).map(drop)
    }
}

/// XML-RPC to a 1.x/2.x collector: name and uuid are the last argument of every call.
struct Rpc {
    endpoint: String,
    node: String,
    uuid: Secret,
}

impl Rpc {
    fn request(&self, body: Vec<u8>) -> Request {
        Request { url: self.endpoint.clone(), content_type: "text/xml", credentials: None, body: Some(body) }
    }

    fn read<T>(answer: Answer, decode: impl Fn(&[u8]) -> Result<T, RpcError>) -> Result<T, CollectorError> {
        let Answer { url, status, retry_after, body } = answer;
        if status != 200 {
            return Err(CollectorError::Refused { url, status, text: None, retry_after });
        }
        decode(&body).map_err(|err| match err {
            RpcError::Decode(source) => CollectorError::Undecodable { url, source },
            RpcError::Fault { kind: FaultKind::BadUuid | FaultKind::NotRegistered, text } => {
                CollectorError::Credentials { url, text }
            }
            RpcError::Fault { text, .. } => CollectorError::Fault { url, text },
        })
    }
}

impl Dialect for Rpc {
    fn fetch(&self) -> Request {
        self.request(rpc::encode_fetch(&self.node, self.uuid.expose()))
    }

    fn fetched(&self, answer: Answer) -> Result<Batch, CollectorError> {
        Self::read(answer, rpc::decode_fetch)
    }

    fn acknowledge(&self, ids: &[ActionId]) -> Request {
        self.request(rpc::encode_received(ids, &self.node, self.uuid.expose()))
    }

    fn report(&self, report: &Report) -> Request {
        self.request(rpc::encode_update(std::slice::from_ref(report), &self.node, self.uuid.expose()))
    }

    fn accepted(&self, answer: Answer) -> Result<(), CollectorError> {
        Self::read(answer, rpc::decode_done)
    }
}
