//! The units, on a machine that was booted with systemd: in name spaces of its own, with the shipped units in `/etc`, and
//! with a service manager that says what a test wants it to say.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use super::{Report, examine_with};
use crate::support::Dialect;
use crate::support::world::World;

/// What the manager says: by the name of a unit and a property.
type Says = BTreeMap<(&'static str, &'static str), &'static str>;

const SOCKET: &str = "opensvc-actions.socket";
const SERVICE: &str = "opensvc-actions.service";
const TIMER: &str = "opensvc-actions.timer";
const REARM: &str = "opensvc-actions-rearm.timer";

/// All is well.
fn healthy() -> Says {
    let mut says = Says::new();
    for unit in [SOCKET, SERVICE, TIMER, REARM] {
        let is_service = unit == SERVICE;
        says.insert((unit, "LoadState"), "loaded");
        says.insert((unit, "ActiveState"), if is_service { "inactive" } else { "active" });
        says.insert((unit, "UnitFileState"), if is_service { "static" } else { "enabled" });
        says.insert((unit, "NeedDaemonReload"), "0");
        says.insert((unit, "Result"), "success");
    }
    says
}

/// Greets and answers `Properties.Get`; whatever else is asked is a mistake, and ends the connection.
fn answer(mut client: UnixStream, says: &Says) -> Option<()> {
    let mut lines = Vec::new();
    while !lines.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        lines.extend_from_slice(&byte);
    }
    client.write_all(b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n").ok()?;
    loop {
        let mut fixed = [0; 16];
        client.read_exact(&mut fixed).ok()?;
        let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().unwrap());
        let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        client.read_exact(&mut rest).ok()?;
        let message = String::from_utf8_lossy(&rest).into_owned();
        assert!(message.contains("org.freedesktop.DBus.Properties") && message.contains("Get"), "{message:?}");
        let plain = message.replace("_2d", "-").replace("_2e", ".").replace("_40", "@");
        let fits = |unit: &str, property: &str| {
            plain.contains(&format!("/{unit}\0")) && plain.contains(&format!("{property}\0"))
        };
        let (_, value) = says.iter().find(|((unit, property), _)| fits(unit, property))?;
        let mut variant = Vec::new();
        if let Ok(number) = value.parse::<u32>() {
            variant.extend_from_slice(b"\x01b\0\0");
            variant.extend_from_slice(&number.to_le_bytes());
        } else {
            variant.extend_from_slice(b"\x01s\0\0");
            variant.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            variant.extend_from_slice(value.as_bytes());
            variant.push(0);
        }
        let mut reply = b"l\x02\x01\x01".to_vec();
        reply.extend_from_slice(&u32::try_from(variant.len()).unwrap().to_le_bytes());
        reply.extend_from_slice(&1_u32.to_le_bytes());
        reply.extend_from_slice(&15_u32.to_le_bytes());
        reply.extend_from_slice(b"\x05\x01u\0");
        reply.extend_from_slice(&serial.to_le_bytes());
        reply.extend_from_slice(b"\x08\x01g\0\x01v\0\0");
        client.write_all(&[reply, variant].concat()).ok()?;
    }
}

/// Examines a node on such a machine, whose service nothing confines, since the test's launcher is "direct"; prepared by these lines of shell. Without anything to say, there is no manager.
#[track_caller]
fn examine(world: &World, says: Option<Says>, prepare: &str) -> Report {
    let socket = world.node.path("manager");
    let _ = std::fs::remove_file(&socket);
    if let Some(says) = says {
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || listener.accept().map(|(client, _)| answer(client, &says)));
    }
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/units");
    let script = world.node.path("own-system");
    let text = format!(
        "set -e\nmount -t tmpfs none /etc\nmount -t tmpfs none /run\nmkdir -p /etc/systemd/system /run/systemd/system\n\
         cp {units}/opensvc-actions* /etc/systemd/system\n\
         mkdir /etc/systemd/system/{SERVICE}.d\ncp {units}/unconfined.conf /etc/systemd/system/{SERVICE}.d\nln -s {} /run/systemd/private\ncd /etc/systemd/system\n\
         {prepare}\ncd /\nexec \"$@\"\n",
        socket.display()
    );
    std::fs::write(&script, text).unwrap();
    let words = ["unshare", "--mount", "--propagation", "private", "sh"].map(PathBuf::from);
    examine_with(world, world.node.handler().within(words.into_iter().chain([script])))
}

#[test]
fn the_shipped_units_are_all_well() {
    let world = World::new(Dialect::Rpc);
    let report = examine(&world, Some(healthy()), "");
    report.exits(0);
    for (check, words) in [
        ("socket", "active and enabled"),
        ("timer", "active and enabled"),
        ("service", "its last run was a success"),
        ("rearm", "active and enabled"),
        ("drop-ins", "unconfined.conf"),
        ("limits", "listen queue 4096"),
        ("listener", "port 1214, as node.conf says"),
    ] {
        report.finds(check, "ok", words, "");
    }
}

#[test]
fn without_systemd_the_units_are_left_out() {
    let world = World::new(Dialect::Rpc);
    let report = examine(&world, None, "rmdir /run/systemd/system");
    for check in ["socket", "timer", "service", "rearm", "drop-ins", "limits", "listener"] {
        report.exits(0).finds(check, "skip", "not booted with systemd", "");
    }
}

#[test]
fn what_the_manager_says_of_a_unit_has_its_fix() {
    let world = World::new(Dialect::Rpc);
    for (unit, property, value, check, result, words, fix) in [
        (SOCKET, "ActiveState", "failed", "socket", "fail", "opensvc-actions.socket has failed", "systemctl start"),
        (
            SOCKET,
            "ActiveState",
            "inactive",
            "socket",
            "warn",
            "closes actions as unreachable",
            "systemctl enable --now",
        ),
        (SOCKET, "LoadState", "masked", "socket", "warn", "is masked", "systemctl unmask"),
        (TIMER, "UnitFileState", "disabled", "timer", "warn", "after the next boot", "systemctl enable"),
        (TIMER, "LoadState", "not-found", "timer", "warn", "is not installed", "README"),
        (SERVICE, "ActiveState", "failed", "service", "fail", "the last run failed", "journalctl -u"),
        (SERVICE, "NeedDaemonReload", "1", "service", "warn", "have changed", "systemctl daemon-reload"),
        (REARM, "ActiveState", "inactive", "rearm", "warn", "stays closed", "systemctl enable --now"),
    ] {
        let mut says = healthy();
        says.insert((unit, property), value);
        let report = examine(&world, Some(says), "");
        report.exits(if result == "fail" { 69 } else { 0 }).finds(check, result, words, fix);
    }
}

#[test]
fn a_manager_that_cannot_be_asked_is_said_and_the_files_are_read() {
    let world = World::new(Dialect::Rpc);
    let report = examine(&world, None, "");
    report.exits(0).finds("socket", "warn", "cannot be asked", "systemctl status").finds("limits", "ok", "4096", "");
}

#[test]
fn the_drop_in_that_is_printed_makes_the_socket_agree_with_node_conf() {
    let world = World::new(Dialect::Rpc);
    let conf = std::fs::read_to_string(world.node.path("etc/node.conf")).unwrap();
    world
        .node
        .write("etc/node.conf", format!("{conf}connect_to = 192.0.2.5\n[listener]\nport = 1216\naddr = 192.0.2.5\n"));
    let report = examine(&world, Some(healthy()), "");
    report.exits(0).finds(
        "listener",
        "warn",
        "listens on port 1214, and the collector knocks at 1216",
        "ListenStream=192.0.2.5:1216",
    );
    let listener = report.findings.iter().find(|finding| finding.check == "listener").unwrap();
    // As it is printed, but for what a real manager would be told.
    let fix = listener.fix.clone().unwrap().split(" && systemctl").next().unwrap().to_owned();
    let report = examine(&world, Some(healthy()), &fix);
    report.exits(0).finds("listener", "ok", "port 1216", "").finds("drop-ins", "ok", "50-listener.conf", "");
}

#[test]
fn another_unit_on_the_port_a_start_limit_and_a_deadly_stop_are_seen() {
    let world = World::new(Dialect::Rpc);
    let drop_in = |unit: &str, text: &str| format!("mkdir -p {unit}.d; printf '{text}' >{unit}.d/zz-site.conf");
    let report = examine(&world, Some(healthy()), "printf '[Socket]\\nListenStream=0.0.0.0:1214\\n' >agent.socket");
    report.exits(0).finds(
        "listener",
        "warn",
        "agent.socket listens on port 1214, too",
        "systemctl disable --now agent.socket",
    );
    let report = examine(&world, Some(healthy()), &drop_in(SERVICE, "[Unit]\\nStartLimitIntervalSec=10\\n"));
    report.exits(0).finds("limits", "warn", "start limit", "StartLimitIntervalSec=0").finds(
        "drop-ins",
        "ok",
        "zz-site.conf",
        "",
    );
    let report = examine(&world, Some(healthy()), &drop_in(SERVICE, "[Service]\\nKillMode=mixed\\n"));
    report.exits(0).finds("limits", "warn", "KillMode", "KillMode=process");
}

#[test]
fn a_launcher_that_the_sandbox_of_the_unit_would_hold_in_is_69() {
    let world = World::new(Dialect::Rpc); // with launcher = "direct"
    examine(&world, Some(healthy()), "").exits(0).finds("launcher", "ok", "direct", "");
    let report = examine(&world, Some(healthy()), &format!("rm {SERVICE}.d/unconfined.conf"));
    report.exits(69).finds("launcher", "fail", "is confined", "unconfined.conf").finds("drop-ins", "ok", "none", "");
}
