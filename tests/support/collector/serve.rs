//! One connection, from its first byte to its end.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, PoisonError};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::Dialect;
use super::fault::{Answer, Call, Fault};
use super::http::{self, Request};
use super::rpc::Called;
use super::state::{Event, Reported, State, Ticket};
use super::{Shared, oc3, reset, rpc};

/// With or without TLS.
trait Stream: Read + Write {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// Serves a connection until it ends, in whatever way.
pub(super) fn connection(shared: &Shared, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    let (number, fault) = shared.change(|state| {
        state.connections += 1;
        if let Ok(clone) = stream.try_clone() {
            state.sockets.push((state.connections, clone));
        }
        (state.connections, state.begin(Call::Connection, None, &[], 0))
    });
    let forget = || shared.change(|state| state.sockets.retain(|(known, _)| *known != number));
    match fault {
        None => {}
        Some((Fault::StallBefore | Fault::StallAfter, ticket)) => stall(shared, ticket),
        Some(_) => {
            forget();
            let _ = reset(&stream);
            return;
        }
    }
    // It ends badly when the peer does not like our certificate, or goes away: that is what some tests are about.
    let _ = match tls {
        None => requests(shared, stream, forget),
        Some(tls) => match ServerConnection::new(tls) {
            Ok(session) => requests(shared, StreamOwned::new(session, stream), forget),
            Err(err) => Err(io::Error::other(err)),
        },
    };
    forget();
}

fn requests(shared: &Shared, stream: impl Stream, forget: impl Fn()) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream)? {
        let exchange = Exchange::of(&request);
        let fault =
            shared.change(|state| state.begin(exchange.call(), exchange.dialect, &exchange.rows(), request.body.len()));
        let answer = match fault {
            None => shared.change(|state| exchange.process(&request, state, true)),
            Some((fault, ticket)) => match fail(shared, &exchange, &request, fault, ticket) {
                Failure::Reset => {
                    forget();
                    return reset(stream.get_ref().tcp());
                }
                Failure::Half(answer) => {
                    let mut bytes = http::head(&answer, answer.body.len());
                    bytes.extend_from_slice(&answer.body[..answer.body.len() / 2]);
                    stream.get_mut().write_all(&bytes)?;
                    return stream.get_mut().flush();
                }
                Failure::Chunked(answer) => {
                    http::write_chunked(stream.get_mut(), &answer)?;
                    continue;
                }
                Failure::Close(answer) => return http::write(stream.get_mut(), &answer),
                Failure::Answer(answer) => answer,
            },
        };
        http::write(stream.get_mut(), &answer)?;
    }
    Ok(())
}

enum Failure {
    Reset,
    Half(Answer),
    Chunked(Answer),
    Close(Answer),
    Answer(Answer),
}

fn fail(shared: &Shared, exchange: &Exchange, request: &Request, fault: Fault, ticket: Ticket) -> Failure {
    let process = |answered| shared.change(|state| exchange.process(request, state, answered));
    match fault {
        Fault::ResetBefore => Failure::Reset,
        Fault::ResetAfter => {
            process(false);
            Failure::Reset
        }
        Fault::HalfBody => Failure::Half(process(false)),
        Fault::Close => Failure::Close(process(true).header("Connection", "close")),
        Fault::Chunked => Failure::Chunked(process(true)),
        Fault::Status(status) => {
            process(true);
            Failure::Answer(Answer::new(status, "text/plain", ""))
        }
        Fault::StallBefore => {
            stall(shared, ticket);
            Failure::Answer(process(true))
        }
        Fault::StallAfter => {
            let answer = process(true);
            stall(shared, ticket);
            Failure::Answer(answer)
        }
        Fault::Answer(answer) => Failure::Answer(answer),
        Fault::Refusal(text) => Failure::Answer(exchange.refusal(&text)),
        Fault::Huge(size) => Failure::Answer(Answer::new(200, "application/json", vec![b' '; size])),
    }
}

fn stall(shared: &Shared, Ticket(releases): Ticket) {
    let mut state = shared.state();
    while state.releases == releases && !state.gone {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What a request is about.
struct Exchange {
    dialect: Option<Dialect>,
    wish: Wish,
}

enum Wish {
    Fetch,
    Ack(Vec<i64>),
    Report(Vec<(i64, i64, String, String)>),
    Strange(String),
}

impl Exchange {
    fn of(request: &Request) -> Self {
        let (dialect, wish) = match (request.method.as_str(), request.path.as_str()) {
            ("POST", rpc::PATH) => (Some(Dialect::Rpc), Self::rpc(&request.body)),
            ("GET", oc3::FETCH) => (Some(Dialect::Oc3), Ok(Wish::Fetch)),
            ("POST", path) => (
                Some(Dialect::Oc3),
                match path.strip_prefix(oc3::FETCH) {
                    Some("/running") => oc3::ids(&request.body).map(Wish::Ack),
                    Some("/done") => oc3::result(&request.body).map(|result| Wish::Report(vec![result])),
                    _ => Err(format!("POST {path}")),
                },
            ),
            (method, path) => (None, Err(format!("{method} {path}"))),
        };
        Self { dialect, wish: wish.unwrap_or_else(Wish::Strange) }
    }

    fn rpc(body: &[u8]) -> Result<Wish, String> {
        let called = Called::read(body)?;
        match called.method.as_str() {
            "collector_get_action_queue_v2" => Ok(Wish::Fetch),
            "collector_update_action_queue_received" => called.ids().map(Wish::Ack),
            "collector_update_action_queue" => called.results().map(Wish::Report),
            method => Err(format!("method \"{method}\" is not supported")),
        }
    }

    fn call(&self) -> Call {
        match self.wish {
            Wish::Fetch => Call::Fetch,
            Wish::Ack(_) => Call::Ack,
            Wish::Report(_) => Call::Report,
            Wish::Strange(_) => Call::Other,
        }
    }

    fn rows(&self) -> Vec<i64> {
        match &self.wish {
            Wish::Ack(ids) => ids.clone(),
            Wish::Report(results) => results.iter().map(|(id, ..)| *id).collect(),
            Wish::Fetch | Wish::Strange(_) => Vec::new(),
        }
    }

    /// Does what a healthy collector does.
    fn process(&self, request: &Request, state: &mut State, answered: bool) -> Answer {
        let is_rpc = self.dialect == Some(Dialect::Rpc);
        if let Wish::Strange(what) = &self.wish {
            state.events.push(Event::Strange(what.clone()));
            return self.refusal(what);
        }
        let authorized = if is_rpc {
            Called::read(&request.body).is_ok_and(|called| called.is_authorized())
        } else {
            oc3::is_authorized(request)
        };
        if !authorized {
            state.events.push(Event::Unauthorized);
            return if is_rpc { rpc::unauthorized() } else { oc3::unauthorized() };
        }
        match &self.wish {
            Wish::Fetch if is_rpc => rpc::queue(&state.fetch(Dialect::Rpc, answered)),
            Wish::Fetch => oc3::queue(&state.fetch(Dialect::Oc3, answered)),
            Wish::Ack(ids) => {
                state.acknowledge(ids, answered);
                if is_rpc { rpc::nil() } else { oc3::accepted() }
            }
            Wish::Report(results) => {
                for (id, ret, stdout, stderr) in results {
                    let (stdout, stderr) = (stdout.clone(), stderr.clone());
                    let reported = Reported { id: *id, generation: 0, ret: *ret, stdout, stderr, answered };
                    if let Err(why) = state.report(reported) {
                        return self.refusal(&why);
                    }
                }
                if is_rpc { rpc::nil() } else { oc3::accepted() }
            }
            Wish::Strange(what) => self.refusal(what),
        }
    }

    fn refusal(&self, text: &str) -> Answer {
        match self.dialect {
            Some(Dialect::Rpc) => rpc::fault(&format!("<type 'exceptions.Exception'>:{text}")),
            _ => oc3::problem(500, text),
        }
    }
}
