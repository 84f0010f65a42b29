//! The handler in its sandbox, and its commands outside of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Machine, Queue};

const SERVICE: &str = "opensvc-actions.service";

/// What `/proc` says of a process, as far as it confines.
fn status(text: &str) -> BTreeMap<String, String> {
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    let wanted = ["NoNewPrivs", "CapBnd", "CapEff", "Seccomp", "Seccomp_filters"];
    fields
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A command that told of its surroundings is as free as the machine's first process.
fn expect_free(machine: &Machine, result: &Value) {
    let told = result["stdout"].as_str().unwrap_or_default();
    assert_eq!(result["ret"], 0, "{result}");
    assert_eq!(status(told), status(&machine.read("/proc/1/status")), "{told}");
    assert!(told.contains(&machine.sh("readlink /proc/1/ns/mnt")), "mounts of its own: {told}");
    assert!(told.contains("/usr can be written"), "{told}");
}

#[test]
fn the_exposure_of_the_service_is_at_most_2_and_of_one_for_each_connection_at_most_3_5() {
    let machine = Machine::with_product("exposure");
    machine.install_accept_yes();
    // The latter leaves out what makes a thousand processes at once slow: mounts of their own.
    for (unit, threshold) in [(SERVICE, "20"), ("opensvc-actions@1.service", "35")] {
        let threshold = format!("--threshold={threshold}");
        let output = machine.run(&["systemd-analyze", "security", "--no-pager", &threshold, unit]);
        assert_eq!(output.status, 0, "{}", output.stdout);
        assert!(output.stdout.contains("Overall exposure level"), "{output:?}");
    }
    // The measure does measure.
    machine.lift_the_sandbox();
    let output = machine.run(&["systemd-analyze", "security", "--no-pager", "--threshold=20", SERVICE]);
    assert_ne!(output.status, 0, "{}", output.stdout);
}

#[test]
fn the_drop_in_that_lifts_the_sandbox_passes_verification() {
    let machine = Machine::with_product("verify-unconfined");
    machine.lift_the_sandbox();
    let output = machine.run(&["systemd-analyze", "verify", "--man=no", SERVICE]);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
}

#[test]
fn a_handler_in_its_sandbox_runs_commands_outside_of_it() {
    let machine = Machine::with_product("sandbox");
    let collector = machine.collector(Queue::Rpc);
    // A name to be resolved, and an address of each kind.
    let conf = machine.read("/etc/opensvc/node.conf").replace("127.0.0.1", "localhost");
    machine.write("/etc/opensvc/node.conf", conf);
    machine.enable_socket();
    let first = collector.enqueue("surroundings");
    expect_free(&machine, &collector.result(first));
    // Now look at the handler itself, beside a command.
    let second = collector.enqueue("await /run/go-on");
    machine.wait_for("the command", || machine.begun().len() == 2);
    let handler = machine.property(SERVICE, "MainPID");
    let status = status(&machine.read(&format!("/proc/{handler}/status")));
    assert_eq!((&*status["NoNewPrivs"], &*status["CapBnd"], &*status["Seccomp"]), ("1", "0000000000000000", "2"));
    let written = machine.run(&["nsenter", "--target", &handler, "--mount", "touch", "/usr/written", "/etc/written"]);
    assert_ne!(written.status, 0, "the handler can write to /usr");
    machine.sh("touch /run/go-on");
    assert_eq!(collector.result(second)["ret"], 0);
    machine.wait_until_idle();
    assert_eq!(machine.property(SERVICE, "Result"), "success");
}

#[test]
fn one_handler_for_each_connection_is_confined_and_its_commands_are_not() {
    let machine = Machine::with_product("sandbox-accept-yes");
    let collector = machine.collector(Queue::Rpc);
    machine.install_accept_yes();
    machine.enable_socket();
    let id = collector.enqueue("surroundings");
    expect_free(&machine, &collector.result(id));
}

/// Hides the manager from the handler.
fn hide_the_manager(machine: &Machine) {
    let text = "[Service]\nInaccessiblePaths=-/run/systemd/private -/run/dbus/system_bus_socket\n";
    machine.write(&format!("/etc/systemd/system/{SERVICE}.d/hidden.conf"), text);
    machine.ok(&["systemctl", "daemon-reload"]);
}

#[test]
fn a_confined_handler_that_cannot_ask_the_manager_fetches_nothing_and_says_what_lifts_that() {
    let machine = Machine::with_product("no-bus");
    let collector = machine.collector(Queue::Oc3);
    hide_the_manager(&machine);
    let id = collector.enqueue("surroundings");
    machine.run(&["systemctl", "start", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.failures(SERVICE), ["69"]);
    let said = machine.sh(&format!("journalctl --no-pager --unit={SERVICE}"));
    assert!(said.contains("unconfined.conf"), "{said}");
    assert!(said.contains("confined (a bounded set of capabilities)"), "{said}");
    // It is still the collector's.
    assert!(["W", "N"].map(Value::from).contains(&collector.show(id)["status"]), "{}", collector.show(id));
    assert_eq!(machine.counts(), [0, 0, 0]);
    // With the sandbox lifted the handler runs it itself, as free as it is; but its mounts are still others, and only
    // whoever says "direct" means that.
    machine.lift_the_sandbox();
    machine.run(&["systemctl", "start", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.failures(SERVICE), ["69", "69"]);
    machine.write("/etc/opensvc/actions.d/launcher.toml", "[execution]\nlauncher = \"direct\"\n");
    machine.ok(&["systemctl", "start", SERVICE]);
    assert_eq!(collector.result(id)["ret"], 0);
}

#[test]
fn a_manager_that_cannot_be_reached_is_said_where_no_other_launcher_is_allowed() {
    let machine = Machine::with_product("no-manager");
    let collector = machine.collector(Queue::Oc3);
    collector.enqueue("echo");
    hide_the_manager(&machine);
    machine.lift_the_sandbox();
    machine.write("/etc/opensvc/actions.d/launcher.toml", "[execution]\nlauncher = \"systemd\"\n");
    machine.run(&["systemctl", "start", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.failures(SERVICE), ["69"]);
    let said = machine.sh(&format!("journalctl --no-pager --unit={SERVICE}"));
    assert!(said.contains("service manager cannot be reached"), "{said}");
    assert!(machine.marks().is_empty());
}

#[test]
fn in_the_sandbox_no_command_is_started_by_the_handler_itself_and_outside_it_is_free() {
    let machine = Machine::with_product("direct");
    let collector = machine.collector(Queue::Oc3);
    machine.write("/etc/opensvc/actions.d/launcher.toml", "[execution]\nlauncher = \"direct\"\n");
    let id = collector.enqueue("surroundings");
    machine.run(&["systemctl", "start", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.failures(SERVICE), ["69"]);
    assert!(machine.marks().is_empty());
    machine.lift_the_sandbox();
    machine.ok(&["systemctl", "start", SERVICE]);
    expect_free(&machine, &collector.result(id));
    // And a command outlives it there as well.
    machine.wait_until_inactive();
    let id = collector.enqueue("await /run/go-on");
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_for("the command", || machine.begun().len() == 2);
    machine.ok(&["systemctl", "stop", SERVICE]);
    assert_eq!(machine.counts(), [1, 0, 0]);
    machine.sh("touch /run/go-on");
    machine.ok(&["systemctl", "start", SERVICE]);
    assert_eq!(collector.result(id)["ret"], 0);
}

#[test]
fn limits_of_the_policy_are_those_of_the_unit_or_refused_before_anything_is_fetched() {
    let machine = Machine::with_product("limits");
    let collector = machine.collector(Queue::Oc3);
    let rule = "[[policy.rule]]\nverdict = \"allow\"\nmemory_max = \"96MiB\"\ncpu_quota = \"50%\"\ntasks_max = 77\n";
    machine.write("/etc/opensvc/actions.d/limits.toml", rule);
    let id = collector.enqueue("await /run/go-on");
    machine.run(&["systemctl", "start", SERVICE]);
    let listed = machine.sh("cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || :");
    let there = machine.sh("ls /sys/fs/cgroup");
    let lacks = |name: &&str| !listed.split_whitespace().chain(there.split_whitespace()).any(|other| other == *name);
    if let Some(missing) = ["memory", "cpu", "pids"].iter().find(|name| lacks(name)) {
        machine.wait_until_inactive();
        assert_eq!(machine.failures(SERVICE), ["78"]);
        let said = machine.sh(&format!("journalctl --no-pager --unit={SERVICE}"));
        let words = format!("limits.toml:1: policy.rule: this machine has no control group controller {missing:?}");
        assert!(said.contains(&words), "{said}");
        assert!(["W", "N"].map(Value::from).contains(&collector.show(id)["status"]), "{}", collector.show(id));
        return;
    }
    machine.wait_for("the command", || machine.begun().len() == 1);
    let unit = format!("opensvc-action-oc3-{id}-1.service");
    let limits = ["MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"].map(|name| machine.property(&unit, name));
    assert_eq!(limits, [(96 << 20).to_string(), "500ms".to_owned(), "77".to_owned()]);
    machine.sh("touch /run/go-on");
    assert_eq!(collector.result(id)["ret"], 0);
}
