//! One connection, from its first byte to its end.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, PoisonError};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::exchange::Exchange;
use super::fault::{Answer, Call, Fault, When};
use super::http::{self, Request};
use super::state::{Event, State, Ticket};
use super::{Shared, reset};

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
        Some((Fault::StallBefore | Fault::StallAfter, _, ticket)) => stall(shared, ticket),
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
        let (exchange, fault) = shared.change(|state| {
            let exchange = Exchange::of(&request, state.is_old);
            let fault = state.begin(exchange.call(), exchange.wire, &exchange.rows(), request.body.len());
            (exchange, fault)
        });
        let answer = match fault {
            None => shared.change(|state| exchange.process(&request, state, true)),
            Some(planned) => match fail(shared, &exchange, &request, stream.get_ref().tcp(), planned) {
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
        let answer = match shared.state().date.clone() {
            Some(date) => answer.header("Date", date),
            None => answer,
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

fn fail(
    shared: &Shared,
    exchange: &Exchange,
    request: &Request,
    peer: &TcpStream,
    (fault, when, ticket): (Fault, When, Ticket),
) -> Failure {
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
            Failure::Answer(process(is_there(peer)))
        }
        Fault::StallAfter => {
            let (answer, done) = shared.change(|state| {
                let first = state.events.len();
                (exchange.process(request, state, false), first..state.events.len())
            });
            stall(shared, ticket);
            if is_there(peer) {
                let told = |state: &mut State| {
                    state.events.get_mut(done).unwrap_or_default().iter_mut().for_each(Event::answer);
                };
                shared.change(told);
            }
            Failure::Answer(answer)
        }
        Fault::Answer(answer) => Failure::Answer(answer),
        Fault::Refusal(text) => {
            shared.change(|state| exchange.process_before(when, request, state));
            Failure::Answer(exchange.refusal(&text))
        }
        Fault::Huge(size) => Failure::Answer(Answer::new(200, "application/json", vec![b' '; size])),
    }
}

/// Whether somebody still waits for an answer. Whoever does sends nothing: what there is to read is a farewell.
fn is_there(peer: &TcpStream) -> bool {
    let _ = peer.set_nonblocking(true);
    let read = peer.peek(&mut [0]);
    let _ = peer.set_nonblocking(false);
    read.is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock)
}

fn stall(shared: &Shared, Ticket(releases): Ticket) {
    let mut state = shared.state();
    while state.releases == releases && !state.gone {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}
