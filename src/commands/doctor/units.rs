//! The units: what the service manager says of them, what changes them, and whether the socket listens where the collector
//! knocks.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Node;
use super::finding::Finding;
use super::unit_file::{self, UnitFile};
use crate::action::Queue;
use crate::commands::hostname;
use crate::config::listener::Listener;
use crate::error::{Error, Exit};
use crate::executor::launcher::manager::{self, UnitState};

const SOCKET: &str = "opensvc-actions.socket";
const SERVICE: &str = "opensvc-actions.service";
/// The one of `Accept=yes`.
const TEMPLATE: &str = "opensvc-actions@.service";
const TIMER: &str = "opensvc-actions.timer";
const REARM: &str = "opensvc-actions-rearm.timer";

/// The checks that there are, in their order.
const CHECKS: [&str; 7] = ["socket", "timer", "service", "rearm", "drop-ins", "limits", "listener"];

pub(super) async fn check(node: &Node) -> Vec<Finding> {
    if !manager::is_booted() {
        let why = "not booted with systemd: inetd or cron has to start it";
        return CHECKS.map(|check| Finding::skip(check, why)).into();
    }
    let places = unit_file::places();
    let socket = unit_file::load(&places, SOCKET);
    let takes_each = socket.as_ref().is_some_and(|socket| socket.flag("Socket", "Accept"));
    let service_name = if takes_each { TEMPLATE } else { SERVICE };
    let service = unit_file::load(&places, service_name);
    let mut findings = match manager::states([SOCKET, TIMER, SERVICE, REARM]).await {
        Ok(states) => of_states(node, states),
        Err(err) => {
            let text = format!("the service manager cannot be asked: {err}");
            let fix = "run this outside of a sandbox; 'systemctl status' tells how the manager is";
            CHECKS[..4].iter().map(|check| Finding::warn(*check, &text, fix)).collect()
        }
    };
    findings.push(drop_ins(&[(SOCKET, socket.as_ref()), (service_name, service.as_ref())]));
    findings.push(limits(socket.as_ref(), service_name, service.as_ref()));
    findings.push(listener(node, &places, socket.as_ref()));
    findings
}

/// Whether a queue is fetched, as far as is known.
fn wants(node: &Node, queue: Queue) -> bool {
    node.settings().is_none_or(|settings| settings.queues.iter().any(|other| other.queue == queue))
}

fn of_states(node: &Node, [socket, timer, service, rearm]: [UnitState; 4]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_socket = socket.active == "active";
    let without_socket = "a 1.x/2.x collector closes actions as unreachable";
    let without_timer = "nothing fetches without a notification, and nothing posts what is left over";
    findings.push(if wants(node, Queue::Rpc) || has_socket || socket.active == "failed" {
        unit("socket", SOCKET, &socket, without_socket)
    } else {
        Finding::skip("socket", "collector 3 notifies nobody: the timer is what counts")
    });
    findings.push(unit("timer", TIMER, &timer, without_timer));
    findings.push(match (service.active.as_str(), service.needs_reload) {
        ("failed", _) => {
            let text = format!("the last run failed ({})", service.result);
            Finding::fail("service", Exit::Unavailable, text, format!("'journalctl -u {SERVICE} -n 50' tells why"))
        }
        (_, true) => needs_reload("service", SERVICE),
        _ if service.load == "not-found" => Finding::warn("service", format!("{SERVICE} is not installed"), INSTALL),
        (active, _) => Finding::ok("service", format!("{SERVICE} is {active}; its last run was a success")),
    });
    findings.push(if has_socket {
        unit("rearm", REARM, &rearm, "a socket that fails stays closed")
    } else {
        Finding::skip("rearm", "there is no socket to open again")
    });
    findings
}

const INSTALL: &str = "install the units and enable them as the README says, unless inetd and cron do their work";

fn needs_reload(check: &str, name: &str) -> Finding {
    let text = format!("the files of {name} have changed since the manager read them");
    Finding::warn(check, text, "systemctl daemon-reload")
}

/// A unit that should be active now and after each boot.
fn unit(check: &str, name: &str, state: &UnitState, without: &str) -> Finding {
    let UnitState { load, active, file, result, needs_reload: reload } = state;
    match (load.as_str(), active.as_str(), file.as_str()) {
        ("not-found", ..) => Finding::warn(check, format!("{name} is not installed: {without}"), INSTALL),
        ("masked", ..) => {
            let fix = format!("systemctl unmask {name} && systemctl enable --now {name}");
            Finding::warn(check, format!("{name} is masked: {without}"), fix)
        }
        (_, "failed", _) => {
            let fix = format!("'journalctl -u {name}' tells why; systemctl start {name}");
            Finding::fail(check, Exit::Unavailable, format!("{name} has failed ({result}): {without}"), fix)
        }
        (_, "active" | "activating", _) if *reload => needs_reload(check, name),
        (_, "active" | "activating", "enabled" | "enabled-runtime" | "static" | "linked") => {
            Finding::ok(check, format!("{name} is {active} and {file}"))
        }
        (_, "active" | "activating", _) => {
            let text = format!("{name} is {active} and {file}: after the next boot it is not there");
            Finding::warn(check, text, format!("systemctl enable {name}"))
        }
        _ => Finding::warn(check, format!("{name} is {active}: {without}"), format!("systemctl enable --now {name}")),
    }
}

fn drop_ins(units: &[(&str, Option<&UnitFile>)]) -> Finding {
    let files = units.iter().filter_map(|(_, unit)| *unit).flat_map(|unit| &unit.drop_ins);
    let files: Vec<_> = files.map(|path| path.display().to_string()).collect();
    let text = if files.is_empty() { "none changes the units".to_owned() } else { files.join(", ") };
    Finding::ok("drop-ins", text)
}

/// What would close the port under a burst, or take running commands along.
fn limits(socket: Option<&UnitFile>, service_name: &str, service: Option<&UnitFile>) -> Finding {
    const CHECK: &str = "limits";
    let (Some(socket), Some(service)) = (socket, service) else {
        return Finding::skip(CHECK, "the units are not installed");
    };
    let fix = |section: &str, line: &str| drop_in(service_name, "limits", section, &[line]);
    let interval = ["StartLimitIntervalSec", "StartLimitInterval"].map(|key| service.value("Unit", key));
    let is_zero = |value: &str| value.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim() == "0";
    let takes_each = socket.flag("Socket", "Accept");
    if !takes_each && !interval.into_iter().flatten().next().is_some_and(is_zero) {
        let text = format!("{service_name} has a start limit: a burst of notifications closes the port");
        return Finding::warn(CHECK, text, fix("Unit", "StartLimitIntervalSec=0"));
    }
    if service.value("Service", "KillMode") != Some("process") {
        let text = format!("stopping {service_name} kills what runs in it (KillMode= is not process)");
        return Finding::warn(CHECK, text, fix("Service", "KillMode=process"));
    }
    let value = |key| socket.value("Socket", key).unwrap_or("systemd's default");
    let kernel = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let text = format!(
        "listen queue {} (the kernel allows {}), trigger limit {} in {}",
        value("Backlog"),
        kernel.trim(),
        value("TriggerLimitBurst"),
        value("TriggerLimitIntervalSec")
    );
    Finding::ok(CHECK, text)
}

/// Whether the socket listens where OpenSVC's files say, and nobody else does there.
fn listener(node: &Node, places: &[PathBuf], socket: Option<&UnitFile>) -> Finding {
    const CHECK: &str = "listener";
    let name = node
        .settings()
        .and_then(|settings| settings.queues.first())
        .map_or_else(|| hostname().to_lowercase(), |queue| queue.node.clone());
    let listener = match Listener::load(&node.paths, &name, &|name| std::env::var(name).ok()) {
        Ok(listener) => listener,
        Err(err) => {
            let err = Error::Config(err);
            return Finding::fail(CHECK, err.exit(), err.report(), "correct it there");
        }
    };
    let Some(socket) = socket.filter(|socket| !socket.masked) else {
        return Finding::skip(CHECK, format!("{SOCKET} is not installed"));
    };
    let streams: Vec<_> = socket.values("Socket", "ListenStream").into_iter().filter_map(address).collect();
    if let Some(problem) = disagreement(&streams, &listener) {
        let text = format!("{SOCKET} {problem} (all is well where a firewall leads from one to the other)");
        return Finding::warn(CHECK, text, agreeing(&listener));
    }
    let others = unit_file::names(places, ".socket").into_iter().filter(|other| other != SOCKET);
    let holds = |other: &String| {
        let unit = unit_file::load(places, other).filter(|unit| !unit.masked);
        let streams = unit.iter().flat_map(|unit| unit.values("Socket", "ListenStream")).filter_map(address);
        streams.into_iter().any(|(_, port)| port == listener.port)
    };
    match others.into_iter().find(holds) {
        Some(other) => {
            let text = format!("{other} listens on port {}, too", listener.port);
            Finding::warn(CHECK, text, format!("systemctl disable --now {other} && systemctl restart {SOCKET}"))
        }
        None => Finding::ok(CHECK, format!("{SOCKET} listens on port {}, as node.conf says", listener.port)),
    }
}

/// The address and the port of a stream; no address is any. `None`: it is no TCP port.
fn address(stream: &str) -> Option<(Option<IpAddr>, u16)> {
    if let Ok(port) = stream.parse() {
        return Some((None, port));
    }
    let address: SocketAddr = stream.split('%').next()?.parse().ok()?;
    Some((Some(address.ip()).filter(|ip| !ip.is_unspecified()), address.port()))
}

/// In which way a socket is not where the collector knocks.
fn disagreement(streams: &[(Option<IpAddr>, u16)], listener: &Listener) -> Option<String> {
    let there: Vec<_> = streams.iter().filter(|(_, port)| *port == listener.port).map(|(ip, _)| *ip).collect();
    if there.is_empty() {
        let ports: Vec<_> = streams.iter().map(|(_, port)| port.to_string()).collect();
        let ports = if ports.is_empty() { "no port".to_owned() } else { format!("port {}", ports.join(" and ")) };
        return Some(format!("listens on {ports}, and the collector knocks at {}", listener.port));
    }
    let is_heard = |wanted: &IpAddr| there.iter().any(|ip| ip.is_none_or(|ip| ip == *wanted));
    let unheard = |key: &str, wanted: IpAddr| format!("does not listen on {wanted}, which is {key} in node.conf");
    let of_addr = listener.addr.filter(|addr| !is_heard(addr)).map(|addr| unheard("listener.addr", addr));
    of_addr.or_else(|| listener.connect_to.filter(|to| !is_heard(to)).map(|to| unheard("node.connect_to", to)))
}

/// The drop-in with which the socket listens where OpenSVC's files say.
fn agreeing(listener: &Listener) -> String {
    let stream = match listener.addr {
        Some(addr) => SocketAddr::new(addr, listener.port).to_string(),
        None => listener.port.to_string(),
    };
    let stream = format!("ListenStream={stream}");
    let mut lines = vec!["ListenStream=", &stream];
    if listener.addr.is_some() {
        lines.push("FreeBind=yes");
    }
    format!("{} && systemctl restart {SOCKET}", drop_in(SOCKET, "listener", "Socket", &lines))
}

/// A command that writes a drop-in: it can be pasted.
fn drop_in(unit: &str, name: &str, section: &str, lines: &[&str]) -> String {
    let directory = format!("/etc/systemd/system/{unit}.d");
    let lines = lines.join("\\n");
    format!(
        "mkdir -p {directory} && printf '[{section}]\\n{lines}\\n' > {directory}/50-{name}.conf && systemctl daemon-reload"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16, addr: Option<&str>, connect_to: Option<&str>) -> Listener {
        let ip = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        Listener { port, addr: ip(addr), connect_to: ip(connect_to) }
    }

    fn problem(streams: &[&str], listener: &Listener) -> Option<String> {
        disagreement(&streams.iter().filter_map(|stream| address(stream)).collect::<Vec<_>>(), listener)
    }

    #[test]
    fn a_socket_agrees_where_it_hears_what_the_collector_sends() {
        let plain = listener(1214, None, None);
        for streams in [&["1214"][..], &["0.0.0.0:1214"], &["[::]:1214"], &["/run/x", "1214"], &["192.0.2.5:1214"]] {
            assert_eq!(problem(streams, &plain), None, "{streams:?}");
        }
        assert!(problem(&["1216"], &plain).unwrap().contains("listens on port 1216, and the collector knocks at 1214"));
        assert!(problem(&["/run/x"], &plain).unwrap().contains("no port"));
        let certain = listener(1214, Some("192.0.2.5"), Some("192.0.2.6"));
        assert_eq!(problem(&["1214"], &certain), None);
        assert!(problem(&["192.0.2.9:1214"], &certain).unwrap().contains("192.0.2.5, which is listener.addr"));
        assert!(problem(&["192.0.2.5:1214"], &certain).unwrap().contains("192.0.2.6, which is node.connect_to"));
        assert_eq!(problem(&["192.0.2.5:1214", "192.0.2.6:1214"], &certain), None);
    }

    #[test]
    fn the_drop_in_makes_the_socket_agree() {
        for wanted in [listener(1216, None, None), listener(1214, Some("2001:db8::5"), None)] {
            let command = agreeing(&wanted);
            let text = command.split('\'').nth(1).unwrap().replace("\\n", "\n");
            let stream = text.lines().rfind(|line| line.starts_with("ListenStream=")).unwrap();
            assert_eq!(problem(&[&stream["ListenStream=".len()..]], &wanted), None, "{command}");
        }
    }

    #[test]
    fn each_state_of_a_unit_has_its_words() {
        let told = |load: &str, active: &str, file: &str, needs_reload| {
            let state = UnitState {
                load: load.to_owned(),
                active: active.to_owned(),
                file: file.to_owned(),
                result: "trigger-limit-hit".to_owned(),
                needs_reload,
            };
            let finding = unit("socket", SOCKET, &state, "nobody listens");
            (finding.exit() as u8, format!("{finding:?}"))
        };
        for (load, active, file, reload, exit, words) in [
            ("loaded", "active", "enabled", false, 0, "is active and enabled"),
            ("loaded", "active", "enabled", true, 0, "systemctl daemon-reload"),
            ("loaded", "active", "disabled", false, 0, "after the next boot"),
            ("loaded", "inactive", "enabled", false, 0, "systemctl enable --now"),
            ("loaded", "failed", "enabled", false, 69, "has failed (trigger-limit-hit)"),
            ("masked", "inactive", "masked", false, 0, "systemctl unmask"),
            ("not-found", "inactive", "", false, 0, "is not installed"),
        ] {
            let (its, text) = told(load, active, file, reload);
            assert!(its == exit && text.contains(words), "{its} {text}");
        }
    }
}
