//! What a request is about, and what a healthy collector does about it.

use serde_json::Value as Json;

use super::super::{Dialect, Wire};
use super::fault::{Answer, Call, When};
use super::http::Request;
use super::oc3;
use super::register::{self, Who};
use super::rpc::{self, Called, Caller, Form, Refusal};
use super::state::{Event, Reported, State};
use super::value::Value;

/// One request as far as it was understood.
pub(super) struct Exchange {
    pub(super) wire: Option<Wire>,
    /// Who waits for the answer of an rpc call.
    caller: Option<Caller>,
    /// The credentials in the call: uuid and name.
    credentials: Option<(String, String)>,
    wish: Wish,
}

enum Wish {
    Methods,
    Fetch,
    Ack(Vec<i64>),
    Report(Vec<(i64, i64, String, String)>),
    /// `register_node`.
    Anonymous(String),
    /// Registration over REST, at a 2.x collector or at oc3.
    Rest,
    Oc3Node,
    /// The system document.
    System,
    /// There is such a path, for another method.
    WrongMethod,
    /// A call that this collector is too old for.
    Unsupported(String),
    Strange(Refusal),
}

impl Exchange {
    /// `is_old`: the collector knows only the first version of the fetch.
    pub(super) fn of(request: &Request, is_old: bool) -> Self {
        let plain = |wire, wish| Self { wire, caller: None, credentials: None, wish };
        let oc3 = |wish: Result<Wish, String>| {
            plain(Some(Wire::Oc3), wish.unwrap_or_else(|what| Wish::Strange(Refusal::exception(what))))
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", rpc::XML_PATH) => Self::rpc(Form::Xml, &request.body, is_old),
            // It came later than the second version of the fetch.
            ("POST", rpc::JSON_PATH) if !is_old => Self::rpc(Form::Json, &request.body, is_old),
            ("POST", register::REST_PATH) => plain(None, Wish::Rest),
            ("POST", register::OC3_PATH) => plain(Some(Wire::Oc3), Wish::Oc3Node),
            ("POST", register::SYSTEM_PATH) => plain(Some(Wire::Oc3), Wish::System),
            ("GET", oc3::FETCH) => oc3(Ok(Wish::Fetch)),
            ("GET", oc3::RUNNING) => oc3(Ok(Wish::WrongMethod)),
            ("POST", path) => oc3(match path.strip_prefix(oc3::FETCH) {
                Some("/running") => oc3::ids(&request.body).map(Wish::Ack),
                Some("/done") => oc3::result(&request.body).map(|result| Wish::Report(vec![result])),
                _ => Err(format!("POST {path}")),
            }),
            (method, path) => plain(None, Wish::Strange(Refusal::exception(format!("{method} {path}")))),
        }
    }

    fn rpc(form: Form, body: &[u8], is_old: bool) -> Self {
        let (caller, call) = Called::read(form, body);
        let wire = match form {
            Form::Json => Wire::RpcJson,
            Form::Xml if is_old => Wire::RpcXmlV1,
            Form::Xml => Wire::RpcXml,
        };
        let credentials = call.as_ref().ok().and_then(Called::credentials);
        let wish = call.and_then(|call| Self::wish(&call, form, is_old)).unwrap_or_else(Wish::Strange);
        Self { wire: Some(wire), caller: Some(caller), credentials, wish }
    }

    fn wish(called: &Called, form: Form, is_old: bool) -> Result<Wish, Refusal> {
        let method = called.method.as_str();
        if !rpc::knows(is_old, form, method) {
            // Whether a method is there may be found out by calling it.
            let is_probe = (is_old && method == rpc::FETCH) || method == rpc::LIST_METHODS;
            return if is_probe {
                Ok(Wish::Unsupported(method.to_owned()))
            } else {
                Err(Refusal::NoMethod(method.to_owned()))
            };
        }
        match method {
            rpc::LIST_METHODS => Ok(Wish::Methods),
            // Who takes rows without having to say so where it could do better loses some.
            rpc::FETCH_V1 if !is_old => Err(Refusal::exception("a v1 fetch where there is v2")),
            rpc::FETCH | rpc::FETCH_V1 => called.is_fetch().map(|()| Wish::Fetch),
            rpc::RECEIVED => called.ids().map(Wish::Ack),
            rpc::REGISTER => called.name().map(Wish::Anonymous),
            _ => called.results().map(Wish::Report),
        }
    }

    pub(super) fn call(&self) -> Call {
        match &self.wish {
            Wish::Methods | Wish::Unsupported(_) => Call::Methods,
            Wish::Fetch => Call::Fetch,
            Wish::Ack(_) => Call::Ack,
            Wish::Report(_) => Call::Report,
            Wish::Anonymous(_) | Wish::Rest | Wish::Oc3Node => Call::Register,
            Wish::System => Call::System,
            Wish::WrongMethod | Wish::Strange(_) => Call::Other,
        }
    }

    /// The rows that it concerns.
    pub(super) fn rows(&self) -> Vec<i64> {
        match &self.wish {
            Wish::Ack(ids) => ids.clone(),
            Wish::Report(results) => results.iter().map(|(id, ..)| *id).collect(),
            _ => Vec::new(),
        }
    }

    fn is_rpc(&self) -> bool {
        self.caller.is_some()
    }

    /// Does what a healthy collector does.
    pub(super) fn process(&self, request: &Request, state: &mut State, answered: bool) -> Answer {
        match &self.wish {
            Wish::Strange(refusal) => {
                state.events.push(Event::Strange(refusal.told()));
                return self.refuse(refusal);
            }
            Wish::Unsupported(method) => {
                state.events.push(Event::Unsupported(method.clone()));
                return self.refuse(&Refusal::NoMethod(method.clone()));
            }
            // The answer needs no credentials.
            Wish::Methods => {
                let methods = rpc::methods(state.is_old).into_iter().map(Value::text).collect();
                return self.reply(Value::Array(methods));
            }
            Wish::Anonymous(_) | Wish::Rest | Wish::Oc3Node => return self.register(request, state, answered),
            _ => {}
        }
        if let Err(refusal) = self.authorize(request, state) {
            state.events.push(Event::Unauthorized);
            return refusal;
        }
        match &self.wish {
            Wish::Fetch if self.is_rpc() => self.reply(rpc::queue(&state.fetch(Dialect::Rpc, answered))),
            Wish::WrongMethod => oc3::wrong_method(),
            Wish::Fetch => oc3::queue(&state.fetch(Dialect::Oc3, answered)),
            Wish::Ack(ids) => {
                state.acknowledge(ids, answered);
                self.done()
            }
            Wish::Report(results) => match store(state, results, answered, false) {
                Ok(()) => self.done(),
                Err(why) => self.refusal(&why),
            },
            Wish::System => {
                let node = state.registry.who(request.header("authorization"));
                let Who::Node(node) = node else { return oc3::unauthorized() };
                let missing = state.registry.system(node, &request.body);
                let name = state.registry.nodes[node].name.clone();
                state.events.push(Event::System { name, missing });
                oc3::accepted()
            }
            _ => unreachable!("answered above"),
        }
    }

    /// What a collector does that refuses one row of a batch: those before it are stored, one by one, and the caller
    /// does not hear of it.
    pub(super) fn process_before(&self, when: When, request: &Request, state: &mut State) {
        let Wish::Report(results) = &self.wish else { return };
        let culprit = results.iter().position(|(id, _, stdout, stderr)| match when {
            When::Row(row) => row == *id,
            When::Larger(limit) => stdout.len() + stderr.len() > limit,
            _ => true,
        });
        if let (Some(culprit), Ok(())) = (culprit, self.authorize(request, state)) {
            // What does not fit is in the history.
            let _ = store(state, &results[..culprit], false, true);
        }
    }

    fn authorize(&self, request: &Request, state: &State) -> Result<(), Answer> {
        if !self.is_rpc() {
            let who = state.registry.who(request.header("authorization"));
            return if matches!(who, Who::Node(_)) { Ok(()) } else { Err(oc3::unauthorized()) };
        }
        let checked = match &self.credentials {
            None => Err("no authentication data found in the request".to_owned()),
            Some((uuid, name)) => state.registry.check(uuid, name),
        };
        checked.map_err(|why| self.refuse(&Refusal::exception(why)))
    }

    fn register(&self, request: &Request, state: &mut State, answered: bool) -> Answer {
        let who = state.registry.who(request.header("authorization"));
        let says = |kind: &str| request.header("content-type").is_some_and(|given| given.starts_with(kind));
        let (status, document) = match &self.wish {
            Wish::Anonymous(name) => {
                let result = state.registry.anonymous(name);
                let (name, refusal) = (name.clone(), result.as_ref().err().map(ToString::to_string));
                state.events.push(Event::Registered { name, refusal, answered });
                return self.reply(match result {
                    Ok(uuid) => Value::text(&uuid),
                    Err(refusal) => Value::Array(vec![Value::text(refusal)]),
                });
            }
            Wish::Rest => {
                let is_form = says("application/x-www-form-urlencoded");
                let form = if is_form { register::form(&request.body) } else { Vec::new() };
                state.registry.rest(who, &form)
            }
            _ => {
                let body = serde_json::from_slice::<Json>(&request.body).ok().filter(|_| says("application/json"));
                state.registry.oc3(who, body.as_ref())
            }
        };
        let refusal = (status != 200).then(|| document.to_string());
        // Whom it was about stands in the body, if anywhere.
        let name = String::from_utf8_lossy(&request.body).into_owned();
        state.events.push(Event::Registered { name, refusal, answered });
        Answer::new(status, "application/json", format!("{document}\n"))
    }

    fn reply(&self, value: Value) -> Answer {
        match &self.caller {
            Some(caller) => caller.answer(&Ok(value)),
            None => oc3::accepted(),
        }
    }

    fn done(&self) -> Answer {
        self.reply(Value::Nil)
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        match (&self.caller, &self.wish) {
            (Some(caller), _) => caller.answer(&Err(refusal.clone())),
            (None, Wish::Rest) => {
                let document = serde_json::json!({ "error": refusal.told() });
                Answer::new(500, "application/json", format!("{document}\n"))
            }
            (None, _) => oc3::problem(500, &refusal.told()),
        }
    }

    /// The dialect's own error with this text.
    pub(super) fn refusal(&self, text: &str) -> Answer {
        self.refuse(&Refusal::exception(text))
    }
}

/// Stores one after the other, until one does not fit.
fn store(
    state: &mut State,
    results: &[(i64, i64, String, String)],
    answered: bool,
    in_refused_batch: bool,
) -> Result<(), String> {
    for (id, ret, stdout, stderr) in results {
        let (stdout, stderr) = (stdout.clone(), stderr.clone());
        state.report(Reported { id: *id, generation: 0, ret: *ret, stdout, stderr, answered, in_refused_batch })?;
    }
    Ok(())
}
