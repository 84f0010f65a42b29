//! Commands under the service manager: each in a transient unit of its own, and the same results as without.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Collector, Machine, Queue};

const SERVICE: &str = "opensvc-actions.service";
const SOCKET: &str = "opensvc-actions.socket";
const EXECUTABLE: &str = "/usr/bin/opensvc-actions";

/// The unit of the first generation of a feed row.
fn unit(id: u64) -> String {
    generation(id, 1)
}

fn generation(id: u64, generation: u32) -> String {
    format!("opensvc-action-oc3-{id}-{generation}.service")
}

/// Every unit of an action that the manager has loaded.
fn loaded(machine: &Machine) -> Vec<String> {
    let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "opensvc-action-*"];
    machine.ok(&list).lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Nothing is left of any action: no unit, no run directory, no zombie, no descriptor in the manager.
fn expect_nothing_left(machine: &Machine) {
    machine.wait_for("the units to be gone", || loaded(machine).is_empty());
    assert_eq!(machine.sh("ls /var/lib/opensvc-actions/runs 2>/dev/null || :"), "");
    assert_eq!(machine.sh("ps -e -o stat=,args= | grep ^Z || :"), "");
    assert_eq!(machine.sh("ls -l /proc/1/fd | grep /opensvc-actions/ || :"), "");
    // Not whether the groups themselves are there: systemd 252 may forget the unit of a daemon that has ended before it has
    // removed the empty group.
    let inhabited = "find /sys/fs/cgroup -path '*opensvc-action-*' -name cgroup.procs 2>/dev/null | xargs -r cat";
    assert_eq!(machine.sh(inhabited), "");
}

/// Has the handler itself start the commands.
fn launch_directly(machine: &Machine) {
    machine.lift_the_sandbox();
    machine.write("/etc/opensvc/actions.d/launcher.toml", "[execution]\nlauncher = \"direct\"\n");
}

/// Without what differs from moment to moment: the signals that wait for any process of root.
fn without_counts(told: &Value) -> String {
    told.to_string().split("\\n").filter(|line| !line.starts_with("SigQ:")).collect::<Vec<_>>().join("\n")
}

/// One handler for these commands, and what they came to.
fn results(machine: &Machine, collector: &Collector<'_>, commands: &[&str]) -> Vec<Value> {
    let ids: Vec<_> = commands.iter().map(|command| collector.enqueue(command)).collect();
    machine.ok(&["systemctl", "start", SERVICE]);
    ids.into_iter().map(|id| collector.result(id)).collect()
}

#[test]
fn a_command_comes_to_the_same_end_and_is_born_the_same_under_both_launchers() {
    const COMMANDS: [&str; 6] =
        ["echo äöü", "fail 3 broken", "what", "suicide", "surroundings", "echo \u{1b}[31mred\u{1b}[0m"];
    let machine = Machine::with_product("same");
    let collector = machine.collector(Queue::Oc3);
    let by_systemd = results(&machine, &collector, &COMMANDS);
    machine.wait_until_inactive();
    launch_directly(&machine);
    let directly = results(&machine, &collector, &COMMANDS);
    for (one, other) in by_systemd.iter().zip(&directly) {
        for key in ["ret", "stdout", "stderr"] {
            assert_eq!(without_counts(&one[key]), without_counts(&other[key]), "{key} of {}", one["command"]);
        }
    }
    let rets: Vec<_> = by_systemd.iter().map(|result| result["ret"].as_i64().unwrap()).collect();
    assert_eq!(rets, [0, 3, 2, 137, 0, 0]);
    expect_nothing_left(&machine);
}

#[test]
fn a_running_command_has_a_unit_that_says_what_it_is_and_outlives_handler_and_manager() {
    let machine = Machine::with_product("unit");
    let collector = machine.collector(Queue::Oc3);
    let id = collector.enqueue("await /run/go-on 3 'all of it'");
    let unit = unit(id);
    machine.enable_socket();
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_for("the command", || !machine.begun().is_empty());
    assert_eq!(loaded(&machine), [&*unit]);
    for (property, expected) in [
        ("ActiveState", "active"),
        ("Description", &*format!("OpenSVC action oc3:{id}, generation 1")),
        ("KillMode", "process"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("TimeoutStopUSec", "40s"),
        ("OOMPolicy", "continue"),
        ("TasksMax", "infinity"),
        ("WorkingDirectory", &*format!("/var/lib/opensvc-actions/runs/oc3-{id}-1")),
    ] {
        assert_eq!(machine.property(&unit, property), expected, "{property}");
    }
    // Nothing ties it to the handler, and the command is not to be read in it.
    let show = machine.ok(&["systemctl", "show", &unit]);
    assert!(!show.contains("all of it"), "{show}");
    let ties: Vec<_> = show.lines().filter(|line| line.contains(SERVICE)).collect();
    let [before] = ties[..] else { panic!("{ties:?}") };
    let mut before: Vec<_> = before.strip_prefix("Before=").unwrap_or_default().split(' ').collect();
    before.sort_unstable();
    assert_eq!(before, [SERVICE, "shutdown.target"]);
    let pid = &machine.marks()[0].pid;
    let group = machine.read(&format!("/proc/{pid}/cgroup"));
    assert!(group.contains(&unit), "{group}");
    // When memory runs out within the unit's bound, the one that tells of it is not the one that goes.
    // (A container may not be allowed to do so; then the manager leaves the supervisor as it is.)
    assert_eq!(machine.property(&unit, "OOMScoreAdjust"), "-900");
    assert_eq!(machine.read(&format!("/proc/{pid}/oom_score_adj")).trim(), "0");

    machine.ok(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", SERVICE]);
    machine.wait_until_inactive();
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "daemon-reexec"]);
    machine.ok(&["systemctl", "stop", SOCKET, SERVICE]);
    assert_eq!(machine.counts(), [1, 0, 0]);
    machine.ok(&["systemctl", "start", SOCKET, SERVICE]);
    machine.wait_for("a status that names it", || {
        machine.property(SERVICE, "StatusText").contains(&format!("running oc3:{id}"))
    });
    machine.sh("touch /run/go-on");
    let result = collector.result(id);
    assert_eq!((&result["ret"], &result["stderr"]), (&3.into(), &"all of it\n".into()), "{result}");
    machine.wait_until_idle();
    assert_eq!(machine.ran().len(), 1);
    expect_nothing_left(&machine);
}

#[test]
fn a_handler_whose_executable_was_replaced_starts_the_program_that_it_is() {
    let machine = Machine::with_product("swapped");
    let collector = machine.collector(Queue::Oc3);
    let results = results(&machine, &collector, &["swap", "echo after it", "fail 3 it"]);
    assert_eq!((&results[1]["ret"], &results[1]["stdout"]), (&0.into(), &"after it\n".into()));
    assert_eq!(results[2]["ret"], 3);
    assert!(machine.read(EXECUTABLE).starts_with("#!"), "it was not replaced");
    assert!(!machine.read("/run/swapped").contains("supervise"), "another program was to supervise");
    machine.sh("mv /usr/bin/kept /usr/bin/opensvc-actions");
    expect_nothing_left(&machine);
}

#[test]
fn a_redo_has_a_unit_of_its_own_beside_that_of_a_daemon_left_behind() {
    let machine = Machine::with_product("daemon");
    let collector = machine.collector(Queue::Oc3);
    // Nobody listens to the one, and the other keeps the output that it was given.
    for (words, state) in [("daemon", "inactive"), ("daemon loud", "active")] {
        let id = collector.enqueue(words);
        machine.ok(&["systemctl", "start", SERVICE]);
        assert_eq!(collector.result(id)["ret"], 0);
        machine.wait_until_inactive();
        machine.wait_for("the unit to be left", || machine.property(&unit(id), "ActiveState") == state);
        collector.command(&["redo", &id.to_string()]);
        machine.ok(&["systemctl", "start", SERVICE]);
        assert_eq!(collector.result(id)["ret"], 0);
        machine.wait_until_inactive();
        assert_eq!(loaded(&machine), [generation(id, 1), generation(id, 2)]);
        let daemons = machine.sh("pgrep -fx 'sleep 1234'");
        assert_eq!(daemons.lines().count(), 2, "{words}");
        // And they go with their daemons.
        machine.sh("pkill -fx 'sleep 1234'");
        expect_nothing_left(&machine);
    }
    assert_eq!(machine.ran().len(), 4);
}

#[test]
fn nothing_is_left_of_a_command_whose_supervisor_was_killed() {
    let machine = Machine::with_product("abandoned");
    let collector = machine.collector(Queue::Oc3);
    let result = &results(&machine, &collector, &["abandon"])[0];
    assert_eq!(result["ret"], 254, "{result}");
    machine.wait_until_inactive();
    // The handler is confined, and could not have done it by itself everywhere.
    assert_eq!(machine.sh("pgrep -fx 'sleep 1234' || :"), "");
    // And does not say that something was left, only since it may not write to control groups.
    assert_eq!(machine.sh(&format!("journalctl --no-pager --unit={SERVICE} | grep 'cannot end' || :")), "");
    expect_nothing_left(&machine);
}

#[test]
fn nothing_is_left_of_a_tree_that_ran_too_long_or_was_cancelled() {
    let machine = Machine::with_product("tree");
    let collector = machine.collector(Queue::Oc3);
    let settings = |timeout: &str| {
        let text = format!("[execution]\nkill_grace = \"200ms\"\ntimeout = \"{timeout}\"\n");
        machine.write("/etc/opensvc/actions.d/timeout.toml", text);
    };
    settings("2s");
    let result = &results(&machine, &collector, &["tree"])[0];
    assert_eq!(result["ret"], 124, "{result}");
    machine.wait_until_inactive();
    assert_eq!(machine.sh("pgrep -fx 'sleep 4321' || :"), "");

    settings("1h");
    let id = collector.enqueue("tree");
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_for("the tree", || machine.run(&["pgrep", "-fxc", "sleep 4321"]).stdout == "3");
    assert_eq!(machine.property(&unit(id), "TimeoutStopUSec"), "30.200000s");
    machine.ok(&["opensvc-actions", "cancel", &id.to_string()]);
    assert_eq!(collector.result(id)["ret"], 130);
    machine.wait_until_inactive();
    assert_eq!(machine.sh("pgrep -fx 'sleep 4321' || :"), "");
    expect_nothing_left(&machine);
}

#[test]
fn a_unit_that_the_manager_refuses_to_start_is_tried_three_times_and_is_then_126() {
    let machine = Machine::with_product("refused");
    let collector = machine.collector(Queue::Oc3);
    let id = collector.enqueue("echo never");
    machine.ok(&["ln", "-s", "/dev/null", &format!("/etc/systemd/system/{}", unit(id))]);
    machine.ok(&["systemctl", "daemon-reload"]);
    for start in 1..=3_usize {
        machine.ok(&["systemctl", "start", SERVICE]);
        machine.wait_until_inactive();
        assert_eq!(machine.failures(SERVICE), vec!["69"; start.min(2)], "start {start}");
    }
    let result = collector.result(id);
    assert_eq!(result["ret"], 126, "{result}");
    assert!(result["stderr"].as_str().unwrap().contains("the service manager refuses"), "{result}");
    assert!(machine.marks().is_empty());
}

#[test]
fn a_unit_that_is_stopped_ends_its_command_in_good_order_and_the_result_says_so() {
    let machine = Machine::with_product("unit-stopped");
    let collector = machine.collector(Queue::Oc3);
    let id = collector.enqueue("sleep 1234");
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_for("the command", || !machine.begun().is_empty());
    machine.ok(&["systemctl", "stop", &unit(id)]);
    assert_eq!(collector.result(id)["ret"], 143);
    machine.wait_until_inactive();
    assert_eq!(machine.sh("pgrep -fx 'sleep 1234' || :"), "");
    expect_nothing_left(&machine);
}

/// `SYSTEM_TEST_ACTIONS`: how many, instead of 100.
#[test]
fn nothing_is_left_of_a_hundred_mixed_actions() {
    const COMMANDS: [&str; 5] = ["echo", "fail 3 it", "what", "suicide", "daemon"];
    let count = std::env::var("SYSTEM_TEST_ACTIONS").map_or(100, |count| count.parse().unwrap());
    let machine = Machine::with_product("mixed");
    let collector = machine.collector(Queue::Oc3);
    let ids: Vec<_> = COMMANDS.iter().cycle().take(count).map(|command| collector.enqueue(command)).collect();
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_for("the first command", || !machine.begun().is_empty());
    // While it works there may be one for a moment; none that stays.
    machine.wait_at_most(Duration::from_secs(120), "the last command", || {
        machine.wait_for("no zombie", || machine.sh("ps -e -o stat=,args= | grep '^Z.*opensvc' || :").is_empty());
        machine.begun().len() == count
    });
    let mut rets = BTreeMap::new();
    for id in ids {
        *rets.entry(collector.result(id)["ret"].as_i64().unwrap()).or_insert(0) += 1;
    }
    let each = count / COMMANDS.len();
    assert_eq!(rets, BTreeMap::from([(0, 2 * each), (2, each), (3, each), (137, each)]));
    machine.wait_until_inactive();
    // The daemons live, each in what was its action's unit, and nothing else does.
    assert_eq!(machine.sh("pgrep -fx 'sleep 1234'").lines().count(), each);
    machine.wait_for("the other units to be gone", || loaded(&machine).len() == each);
    let groups = "ls -d /sys/fs/cgroup/system.slice/opensvc-action-* /sys/fs/cgroup/systemd/system.slice/opensvc-action-* \
                  2>/dev/null | wc -l";
    assert_eq!(machine.sh(groups), each.to_string(), "control groups");
    machine.sh("pkill -fx 'sleep 1234'");
    expect_nothing_left(&machine);
}

#[test]
fn a_manager_that_is_silent_for_a_while_is_waited_for_and_the_action_is_not_left_behind() {
    let machine = Machine::with_product("silent-manager");
    let collector = machine.collector(Queue::Oc3);
    let settings = machine.read("/etc/opensvc/actions.toml");
    machine.write("/etc/opensvc/actions.toml", format!("{settings}[execution]\nlauncher = \"systemd\"\n"));
    let handler = |log: &str| machine.start(&["sh", "-c", &format!("exec opensvc-actions dequeue 2>{log}")]);
    let is_waiting = |log: &str| machine.read(log).contains("the service manager is silent");

    // It never answered this handler.
    let first = collector.enqueue("echo first");
    machine.freeze_manager();
    let running = handler("/first");
    machine.wait_for("the handler to wait", || is_waiting("/first"));
    machine.thaw_manager();
    assert_eq!(running.finish().status, 0, "{}", machine.read("/first"));

    // It falls silent between two actions.
    let (_, second) = (collector.enqueue("await /run/go"), collector.enqueue("echo second"));
    let running = handler("/second");
    machine.wait_for("the command to run", || machine.is_running("node await /run/go"));
    machine.freeze_manager();
    machine.write("/run/go", "");
    machine.wait_for("the handler to wait", || is_waiting("/second"));
    machine.thaw_manager();
    assert_eq!(running.finish().status, 0, "{}", machine.read("/second"));

    for (id, stdout) in [(first, "first\n"), (second, "second\n")] {
        assert_eq!((&collector.show(id)["ret"], &collector.show(id)["stdout"]), (&0.into(), &stdout.into()));
    }
    assert_eq!(machine.ran().len(), 3);
}
