//! `doctor` beside a real service manager: what it says of the units is what the manager says, and its fixes fix.

use serde_json::Value;

use crate::harness::{Machine, Queue, json};

/// Result, text and fix of one check, and the exit status.
fn finding(machine: &Machine, check: &str) -> (String, String, String, i32) {
    let output = machine.run(&["opensvc-actions", "doctor", "--json"]);
    let all = json(&output.stdout);
    let finding = all.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check} in {all:#}"));
    let text = |member: &Value| member.as_str().unwrap_or_default().to_owned();
    (text(&finding["result"]), text(&finding["text"]), text(&finding["fix"]), output.status)
}

#[track_caller]
fn assert_found(machine: &Machine, check: &str, result: &str, words: &str) -> String {
    let found = finding(machine, check);
    assert!(found.0 == result && found.1.contains(words), "{check}: {result} with {words:?} expected, not {found:?}");
    found.2
}

#[test]
fn what_it_says_of_the_units_is_what_the_manager_says_and_its_fixes_fix() {
    let machine = Machine::with_product("doctor");
    let collector = machine.collector(Queue::Rpc);
    let units = ["opensvc-actions.timer", "opensvc-actions-rearm.timer"];

    let fix = assert_found(&machine, "socket", "warn", "is inactive");
    machine.sh(&fix);
    machine.ok(&[&["systemctl", "--quiet", "enable", "--now"], &units[..]].concat());
    for check in ["socket", "timer", "rearm"] {
        assert_found(&machine, check, "ok", "is active and enabled");
    }
    let id = collector.enqueue("echo done");
    assert_eq!(collector.result(id)["stdout"], "done\n");
    machine.wait_until_idle();
    assert_found(&machine, "service", "ok", "its last run was a success");
    assert_found(&machine, "launcher", "ok", "the service manager starts commands");
    for check in ["limits", "listener", "dequeuers", "ledger", "rpc.credentials", "rpc.tls", "machine", "rpc.offered"] {
        assert_found(&machine, check, "ok", "");
    }
    assert_eq!(finding(&machine, "socket").3, 0);

    // The collector is told of another port.
    let conf = machine.read("/etc/opensvc/node.conf");
    machine.write("/etc/opensvc/node.conf", format!("{conf}[listener]\nport = 1216\n"));
    let fix = assert_found(&machine, "listener", "warn", "listens on port 1214, and the collector knocks at 1216");
    machine.sh(&fix);
    assert_found(&machine, "listener", "ok", "port 1216");
    assert_found(&machine, "drop-ins", "ok", "50-listener.conf");
    assert_found(&machine, "socket", "ok", "");
    assert!(!machine.ok(&["ss", "-Hltn", "sport = :1216"]).is_empty());

    // Files that the manager has not read.
    machine.write("/etc/systemd/system/opensvc-actions.socket.d/60-x.conf", "[Socket]\nBacklog=9\n");
    machine.sh(&assert_found(&machine, "socket", "warn", "have changed"));
    assert_found(&machine, "socket", "ok", "");

    // A configuration that cannot be used is the service's failure, too.
    machine.write("/etc/opensvc/actions.toml", "[wak]\n");
    machine.run(&["systemctl", "start", "opensvc-actions.service"]);
    machine.wait_for("the service to fail", || {
        machine.property("opensvc-actions.service", "ActiveState") == "failed"
            || machine.property("opensvc-actions.service", "ExecMainStatus") == "78"
    });
    assert_eq!(finding(&machine, "configuration").3, 78);
}
