//! The way to each collector, step by step: its name, its port, its certificate, what it thinks of this node, its clock.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::finding::Finding;
use super::{NO_SETTINGS, Node};
use crate::action::Queue;
use crate::action::time::Timestamp;
use crate::collector::CollectorError;
use crate::collector::http::HttpError;
use crate::collector::probe::{self, Probe};
use crate::commands::now;
use crate::commands::text::{length, when, when_and_ago};
use crate::config::{Proxy, QueueSettings};
use crate::error::{Error, Exit};
use crate::ledger::contact::Contact;
use crate::ledger::view::View;

/// A certificate that is good for less should be renewed now.
const RENEW_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clocks that differ by more are worth a word: the dates of results are this node's.
const SKEW: Duration = Duration::from_secs(10);

/// With more, certificates and schedules are at stake.
const SKEW_TOO_LARGE: Duration = Duration::from_secs(300);

/// So many addresses of a name are tried.
const ADDRESSES: usize = 8;

/// The variables by which a proxy is found.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

pub(super) async fn check(node: &Node, view: Option<&View>) -> Vec<Finding> {
    let Some(settings) = node.settings() else { return vec![Finding::skip("collector", NO_SETTINGS)] };
    let mut findings = Vec::new();
    for settings in &settings.queues {
        let way = Way { settings };
        let reached = way.reach(&mut findings).await;
        way.talk(reached, &mut findings).await;
        findings.push(way.offered(node, view));
    }
    findings
}

/// The way to one collector.
struct Way<'a> {
    settings: &'a QueueSettings,
}

impl Way<'_> {
    /// A check's name: `oc3.tls`.
    fn check(&self, what: &str) -> String {
        format!("{}.{what}", self.settings.queue)
    }

    /// Finds out whether somebody listens there.
    async fn reach(&self, findings: &mut Vec<Finding>) -> bool {
        let (name, tcp) = (self.check("name"), self.check("tcp"));
        let place = match &self.settings.proxy {
            Proxy::Url(url) => {
                findings.push(Finding::ok(self.check("proxy"), format!("by way of {}", self.settings.proxy)));
                place_of(url)
            }
            Proxy::Environment => {
                let set =
                    PROXY_VARIABLES.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
                if let Some(variable) = set {
                    let text = format!("{variable} is set here; the units do not get your environment");
                    let fix = "write it to [collector] proxy in actions.toml, or \"none\"";
                    findings.push(Finding::warn(self.check("proxy"), text, fix));
                    let why = "not checked: a proxy of the environment may stand between";
                    findings.extend([Finding::skip(name, why), Finding::skip(tcp, why)]);
                    return true;
                }
                place_of(&self.settings.base_url)
            }
            Proxy::Never => place_of(&self.settings.base_url),
        };
        let Some((host, port)) = place else {
            findings.extend([name, tcp].map(|check| Finding::skip(check, "the URL names no host")));
            return true;
        };
        let limit = self.settings.connect_timeout;
        let found = match timeout(limit, lookup_host((host.as_str(), port))).await {
            Ok(Ok(found)) => Ok(found.take(ADDRESSES).collect::<Vec<_>>()),
            Ok(Err(err)) => Err(err.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        };
        let addresses = match found {
            Ok(addresses) if !addresses.is_empty() => addresses,
            other => {
                let why = other.err().unwrap_or_else(|| "it has no address".to_owned());
                let fix = "correct the host in node.conf, or /etc/resolv.conf, or add it to /etc/hosts";
                findings.push(Finding::fail(name, Exit::TempFail, format!("{host}: {why}"), fix));
                findings.push(Finding::skip(tcp, NOT_REACHED));
                return false;
            }
        };
        let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        findings.push(Finding::ok(name, format!("{host} is {}", list.join(", "))));
        let (finding, reached) = self.connect(tcp, &addresses).await;
        findings.push(finding);
        reached
    }

    async fn connect(&self, check: String, addresses: &[SocketAddr]) -> (Finding, bool) {
        let limit = self.settings.connect_timeout;
        let mut refusals = Vec::new();
        for address in addresses {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return (Finding::ok(check, format!("{address} accepts connections")), true),
                Ok(Err(err)) => refusals.push(format!("{address}: {err}")),
                Err(_) => refusals.push(format!("{address}: no answer within {limit:?}")),
            }
        }
        let fix = "start the collector, or open the way to it (firewall, route, proxy: [collector] proxy)";
        (Finding::fail(check, Exit::TempFail, refusals.join(", "), fix), false)
    }

    /// Has one exchange, in which nothing is taken.
    async fn talk(&self, reached: bool, findings: &mut Vec<Finding>) {
        let checks = ["tls", "credentials", "clock"].map(|what| self.check(what));
        if !reached {
            findings.extend(checks.map(|check| Finding::skip(check, NOT_REACHED)));
            return;
        }
        let before = now();
        let Probe { accepted, date, expires } = probe::probe(self.settings).await;
        let after = now();
        let [tls, credentials, clock] = checks;
        let (of_tls, goes_on) = self.tls(tls, &accepted, expires, after);
        findings.push(of_tls);
        if let Some(own) = self.own_certificate(after) {
            findings.push(own);
        }
        findings.push(if goes_on {
            self.credentials(credentials, accepted)
        } else {
            Finding::skip(credentials, NOT_REACHED)
        });
        findings.push(match date {
            None => Finding::skip(clock, "the collector does not tell the time"),
            Some(date) => of_clock(clock, probe::skew(date, before, after)),
        });
    }

    /// About the certificate, and whether there was an exchange behind it.
    fn tls(
        &self,
        check: String,
        accepted: &Result<(), CollectorError>,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> (Finding, bool) {
        const SETTINGS: &str = "give [collector] ca_file, client_cert and client_key files that can be used";
        match accepted {
            Err(CollectorError::Http(err @ HttpError::Certificate { .. })) => {
                let fix = "renew the collector's certificate, or name its authority with [collector] ca_file";
                return (Finding::fail(check, Exit::TempFail, err.to_string(), fix), false);
            }
            Err(CollectorError::Http(err @ (HttpError::File { .. } | HttpError::Setup(_)))) => {
                return (Finding::fail(check, Exit::Config, crate::error::in_full(err), SETTINGS), false);
            }
            Err(CollectorError::Http(err @ HttpError::Identity { .. })) => {
                let fix =
                    "give this node a certificate that the collector trusts ([collector] client_cert, client_key)";
                return (Finding::fail(check, Exit::NoPermission, err.to_string(), fix), false);
            }
            _ => {}
        }
        if self.settings.base_url.starts_with("http://") {
            return (Finding::skip(check, "plain http"), true);
        }
        if !self.settings.tls.verify {
            let text = "the certificate is not verified (node.dbinsecure): whoever answers gets this node's secret";
            let fix = "remove dbinsecure from node.conf and name the collector's authority with [collector] ca_file";
            return (Finding::warn(check, text, fix), true);
        }
        let Some(expires) = expires else {
            return (Finding::skip(check, "there was no handshake to look at"), true);
        };
        let text = format!("the certificate is good until {} ({} left)", when(expires), length(expires.since(now)));
        let soon = expires.since(now) < RENEW_WITHIN;
        let finding = if soon {
            Finding::warn(check, text, "renew the collector's certificate")
        } else {
            Finding::ok(check, text)
        };
        (finding, true)
    }

    /// About this node's own certificate, where it has one and it will not be good for long.
    fn own_certificate(&self, now: Timestamp) -> Option<Finding> {
        let expires = probe::own_certificate_expires(self.settings)?;
        let check = self.check("client_cert");
        let text = format!("this node's certificate is good until {}", when(expires));
        Some(if expires.since(now) < RENEW_WITHIN {
            Finding::warn(check, text, "renew the file of [collector] client_cert")
        } else {
            Finding::ok(check, text)
        })
    }

    fn credentials(&self, check: String, accepted: Result<(), CollectorError>) -> Finding {
        let node = &self.settings.node;
        let Err(err) = accepted else {
            return Finding::ok(check, format!("the collector knows {node} and takes its uuid"));
        };
        let fix = match &err {
            CollectorError::Credentials { .. } => {
                "'opensvc-actions register --user USER' obtains the uuid; compare the node's name ([collector] node) with \
                 the collector's; or the collector's database is down: it says the same then"
            }
            CollectorError::Refused { status: 404 | 410, .. } => "the URL in node.conf leads elsewhere: correct it",
            CollectorError::Undecodable { .. } | CollectorError::UnknownMethod { .. } => {
                "is this a collector? 'opensvc-actions -vv doctor' shows the exchange"
            }
            CollectorError::Http(_) | CollectorError::Refused { .. } | CollectorError::Fault { .. } => {
                "look at the collector; 'opensvc-actions -vv doctor' shows the exchange"
            }
        };
        let err = Error::from(err);
        Finding::fail(check, err.exit(), err.report(), fix)
    }

    /// Whether the collector ever gave this node anything to do. It cannot be asked whether it would.
    fn offered(&self, node: &Node, view: Option<&View>) -> Finding {
        let check = self.check("offered");
        let queue = self.settings.queue;
        let last = match Contact::read(&node.paths.state, queue) {
            Ok(contact) => contact.and_then(|contact| contact.last),
            Err(err) => return Finding::skip(check, Error::State(err).report()),
        };
        let Some((view, last)) = view.zip(last) else { return Finding::skip(check, "it was not fetched yet") };
        match (view.has_heard_of(queue), queue) {
            (Err(err), _) => Finding::skip(check, crate::error::in_full(&err)),
            (Ok(true), _) => {
                Finding::ok(check, format!("actions came from there; last fetched {}", when_and_ago(last, node.now)))
            }
            (Ok(false), Queue::Oc3) => {
                let text = "this node is registered and fetches, and was never offered an action: either none was queued, \
                            or the collector has no inventory of it and keeps them back";
                let fix = "'om node push asset', or 'opensvc-actions register --asset'; then queue a new action";
                Finding::warn(check, text, fix)
            }
            (Ok(false), Queue::Rpc) => {
                let text = "this node fetches, and no action ever came: either none was queued, or not as pull actions";
                let fix = "'om node pushasset'; then queue a new action";
                Finding::warn(check, text, fix)
            }
        }
    }
}

const NOT_REACHED: &str = "not checked: the collector was not reached";

fn of_clock(check: String, (ahead, skew): (bool, Duration)) -> Finding {
    const FIX: &str = "set the clock of whichever is wrong (timedatectl set-ntp true)";
    let which = if ahead { "ahead of" } else { "behind" };
    let text = format!("this machine's clock is {} {which} the collector's", length(skew));
    if skew >= SKEW_TOO_LARGE {
        Finding::fail(check, Exit::Unavailable, text, FIX)
    } else if skew >= SKEW {
        Finding::warn(check, text, FIX)
    } else {
        Finding::ok(check, "as the collector's")
    }
}

/// The host and the port of a URL.
fn place_of(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, behind)| behind);
    let default = if scheme == "http" { 80 } else { 443 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() { None } else { Some((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        for (url, expected) in [
            ("https://c.example.com/feeder", Some(("c.example.com", 443))),
            ("https://c:8443", Some(("c", 8443))),
            ("http://127.0.0.1/x:y", Some(("127.0.0.1", 80))),
            ("https://[2001:db8::5]/feeder", Some(("2001:db8::5", 443))),
            ("https://[::1]:444/", Some(("::1", 444))),
            ("http://user:p@ss@proxy:3128", Some(("proxy", 3128))),
            ("proxy", None),
            ("https:///x", None),
        ] {
            let place = place_of(url);
            assert_eq!(place.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{url}");
        }
    }
}
