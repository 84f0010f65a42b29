//! From a notification, or the timer, to the result at the collector.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Machine, Queue};

#[test]
fn a_notification_runs_node_service_and_failing_actions_and_their_results_arrive() {
    let machine = Machine::with_product("rpc");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    // The collector itself pokes port 1214 for each.
    let node = collector.enqueue("echo for the node");
    let service = collector.enqueue_for("svc1", "echo 'for the  service'");
    let failing = collector.enqueue("fail 3 'no such thing'");

    let result = collector.result(node);
    assert_eq!((&result["ret"], &result["stdout"]), (&0.into(), &"for the node\n".into()), "{result}");
    let result = collector.result(service);
    assert_eq!((&result["ret"], &result["stdout"]), (&0.into(), &"for the  service\n".into()), "{result}");
    let result = collector.result(failing);
    assert_eq!((&result["ret"], &result["stderr"]), (&3.into(), &"no such thing\n".into()), "{result}");

    let ran = machine.ran();
    assert_eq!(ran, ["node echo for the node", "svc -s svc1 echo for the  service", "node fail 3 no such thing"]);
    machine.wait_until_idle();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
}

#[test]
fn the_timers_run_fetches_feed_rows_and_their_results_arrive() {
    let machine = Machine::with_product("oc3");
    let collector = machine.collector(Queue::Oc3);
    let node = collector.enqueue("echo for the node");
    let service = collector.enqueue_for("svc1", "echo for the service");
    let failing = collector.enqueue("fail 3 'no such thing'");
    // Its first run, in haste. No socket is enabled: nobody pokes for these rows.
    let haste = "[Timer]\nOnBootSec=\nOnCalendar=\nOnActiveSec=100ms\nRandomizedDelaySec=0\nAccuracySec=1ms\n";
    machine.write("/etc/systemd/system/opensvc-actions.timer.d/haste.conf", haste);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "opensvc-actions.timer"]);

    assert_eq!(collector.result(node)["stdout"], "for the node\n");
    assert_eq!(collector.result(service)["stdout"], "for the service\n");
    assert_eq!(collector.result(failing)["ret"], 3);
    assert_eq!(machine.ran().len(), 3);
}

#[test]
fn the_journal_names_each_action_in_fields() {
    let machine = Machine::with_product("journal");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue_for("svc1", "fail 3 broken");
    collector.result(id);
    machine.wait_until_idle();

    let lines = machine.journal(&["_SYSTEMD_UNIT=opensvc-actions.service", &format!("ACTION_ID={id}")]);
    assert!(!lines.is_empty(), "no line of the action");
    for line in &lines {
        for field in ["ACTION_QUEUE", "ACTION_GENERATION", "SVCNAME", "MESSAGE_ID", "MESSAGE"] {
            assert!(line[field].is_string(), "no {field}: {line:#}");
        }
        assert_eq!(line["ACTION_QUEUE"], "rpc");
        assert_eq!(line["SVCNAME"], "svc1");
        assert_eq!(line["MESSAGE_ID"].as_str().map(str::len), Some(32), "{line:#}");
    }
    let ends: Vec<&Value> = lines.iter().filter(|line| line["ACTION_RET"] == "3").collect();
    assert!(!ends.is_empty(), "no line with ACTION_RET=3: {lines:#?}");
    for end in ends {
        assert!(end["ACTION_DURATION_USEC"].as_str().unwrap().parse::<u64>().unwrap() > 0, "{end:#}");
    }
    // With the limit out of the way, each step has its number: received, started, finished, reported.
    machine.log_everything();
    let id = collector.enqueue_for("svc1", "echo hello");
    collector.result(id);
    machine.wait_until_idle();
    let lines = machine.journal(&["_SYSTEMD_UNIT=opensvc-actions.service", &format!("ACTION_ID={id}")]);
    let mut numbers: Vec<_> = lines.iter().filter_map(|line| line["MESSAGE_ID"].as_str()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "{lines:#?}");

    // A node action has no service.
    let id = collector.enqueue("echo hello");
    collector.result(id);
    machine.wait_until_idle();
    let lines = machine.journal(&["_SYSTEMD_UNIT=opensvc-actions.service", &format!("ACTION_ID={id}")]);
    assert!(!lines.is_empty() && lines.iter().all(|line| line["SVCNAME"].is_null()), "{lines:#?}");
}

#[test]
fn a_run_that_finds_nothing_writes_nothing() {
    let machine = Machine::with_product("idle");
    let _collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    for _ in 0..3 {
        machine.ok(&["systemctl", "start", "opensvc-actions.service"]);
        machine.wait_until_inactive();
    }
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
    let own = machine.journal(&["_SYSTEMD_UNIT=opensvc-actions.service"]);
    let managers = machine.journal(&["_PID=1", "UNIT=opensvc-actions.service"]);
    assert!(own.is_empty() && managers.is_empty(), "{own:#?} {managers:#?}");
}

#[test]
fn the_status_says_what_is_running() {
    let machine = Machine::with_product("status");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue_for("svc1", "await /run/go-on");
    machine.wait_for("the command", || machine.is_running("svc -s svc1 await /run/go-on"));
    machine.wait_for("a status that names it", || {
        let status = machine.property("opensvc-actions.service", "StatusText");
        status.contains(&id.to_string()) && status.contains("svc1")
    });
    machine.sh("touch /run/go-on");
    assert_eq!(collector.result(id)["ret"], 0);
}

#[test]
fn stopping_the_service_takes_less_than_5_seconds_and_leaves_the_command_alone() {
    let machine = Machine::with_product("stop");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue("await /run/go-on");
    machine.wait_for("the command", || machine.is_running("node await /run/go-on"));

    let before = Instant::now();
    machine.ok(&["systemctl", "stop", "opensvc-actions.socket", "opensvc-actions.service"]);
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
    assert_eq!(machine.property("opensvc-actions.service", "ActiveState"), "inactive");
    assert!(machine.is_running("node await /run/go-on"), "the command was ended: {:?}", machine.marks());
    machine.sh("touch /run/go-on");
    machine.wait_for("the command's own end", || !machine.is_running("node await /run/go-on"));

    // Started again, the handler answers for it and does not run it a second time.
    machine.ok(&["systemctl", "start", "opensvc-actions.socket", "opensvc-actions.service"]);
    collector.result(id);
    machine.wait_until_idle();
    assert_eq!(machine.ran().len(), 1);
}

#[test]
fn a_handler_that_is_killed_keeps_the_port_open_and_the_next_run_answers_for_its_action() {
    let machine = Machine::with_product("killed");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue("await /run/go-on");
    machine.wait_for("the command", || machine.is_running("node await /run/go-on"));
    // The handler and its command with it: the whole control groups of both.
    let unit = format!("opensvc-action-rpc-{id}-1.service");
    machine.ok(&["systemctl", "kill", "--signal=KILL", "opensvc-actions.service", &unit]);
    machine.wait_until_inactive();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "signal");
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");

    let next = collector.enqueue("echo next");
    assert_eq!(collector.result(next)["stdout"], "next\n");
    let result = collector.result(id);
    assert_eq!(result["ret"], 254, "{result}");
    let starts = machine.marks().into_iter().filter(|mark| mark.start).count();
    assert_eq!(starts, 2, "the killed command ran again");
}

#[test]
fn an_upgrade_beside_a_running_action_disturbs_nothing() {
    let machine = Machine::with_product("upgrade");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue("await /run/go-on");
    machine.wait_for("the command", || machine.is_running("node await /run/go-on"));
    // As a package manager does it: a new file in place of the old one, then reload.
    machine.sh("cp /usr/bin/opensvc-actions /usr/bin/new && mv /usr/bin/new /usr/bin/opensvc-actions");
    machine.ok(&["systemctl", "daemon-reload"]);
    let next = collector.enqueue("echo next");
    machine.sh("touch /run/go-on");
    assert_eq!(collector.result(id)["ret"], 0);
    assert_eq!(collector.result(next)["stdout"], "next\n");
    assert_eq!(machine.ran(), ["node await /run/go-on", "node echo next"]);
    machine.wait_until_idle();
}

#[test]
fn a_daemon_that_an_action_leaves_behind_stays_and_does_not_hold_up_the_handler() {
    let machine = Machine::with_product("daemon");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let id = collector.enqueue("daemon");
    assert_eq!(collector.result(id)["ret"], 0);
    machine.wait_until_inactive();
    let next = collector.enqueue("echo next");
    assert_eq!(collector.result(next)["ret"], 0);
    machine.wait_until_inactive();
    machine.ok(&["pgrep", "-xf", "sleep 1234"]);
}

#[test]
fn a_broken_configuration_fails_the_service_with_78_and_the_socket_stays_open() {
    let machine = Machine::with_product("configuration");
    let collector = machine.collector(Queue::Rpc);
    let good = machine.read("/etc/opensvc/actions.toml");
    machine.write("/etc/opensvc/actions.toml", format!("{good}nonsense = true\n"));
    machine.enable_socket();
    let id = collector.enqueue("echo hello");
    machine.wait_for("the failure", || machine.property("opensvc-actions.service", "ExecMainStatus") == "78");
    machine.wait_until_idle();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "exit-code");
    let lines = machine.journal(&["_SYSTEMD_UNIT=opensvc-actions.service"]);
    let named = |line: &Value| {
        line["MESSAGE"].as_str().is_some_and(|it| it.contains("actions.toml") && it.contains("nonsense"))
    };
    assert!(lines.iter().any(named), "{lines:#?}");

    machine.write("/etc/opensvc/actions.toml", good);
    assert_eq!(machine.peer(1, 1, "notify").refused, 0);
    assert_eq!(collector.result(id)["stdout"], "hello\n");
}

#[test]
fn a_person_the_timer_and_the_socket_at_once_are_one_handler_and_no_trigger_is_lost() {
    let machine = Machine::with_product("at-once");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let mut ids = vec![collector.enqueue("await /run/go-on")];
    machine.wait_for("the first command", || machine.is_running("node await /run/go-on"));
    // While one handler holds the lock: rows come in, with all ways to ask for them.
    let mut people = Vec::new();
    for number in 0..10 {
        ids.push(collector.enqueue(&format!("echo {number}")));
        people.push(machine.start(&["opensvc-actions", "dequeue", "--no-wait"]));
        people.push(machine.start(&["systemctl", "start", "opensvc-actions.service"]));
        machine.peer(3, 3, "notify");
    }
    machine.sh("touch /run/go-on");
    for person in people {
        let output = person.finish();
        assert_eq!(output.status, 0, "{output:?}");
    }
    for id in ids {
        assert_eq!(collector.result(id)["ret"], 0);
    }
    // One at a time, each once.
    assert_eq!(machine.ran().len(), 11);
    machine.wait_until_idle();
}

#[test]
fn a_person_who_holds_the_lock_works_off_what_is_notified_meanwhile() {
    let machine = Machine::with_product("person");
    let collector = machine.collector(Queue::Rpc);
    let first = collector.enqueue("await /run/go-on");
    let person = machine.start(&["opensvc-actions", "dequeue"]);
    machine.wait_for("the command", || machine.is_running("node await /run/go-on"));
    machine.enable_socket();
    let second = collector.enqueue("echo second");
    // The socket's handler has nothing to do but to say so, and leaves.
    machine.peer(1, 1, "notify");
    machine.wait_until_inactive();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
    assert_eq!(machine.marks().len(), 1);

    machine.sh("touch /run/go-on");
    let output = person.finish();
    assert_eq!(output.status, 0, "{output:?}");
    // All of it is done when the person has the prompt again.
    assert_eq!(collector.show(first)["status"], "T");
    assert_eq!(collector.show(second)["stdout"], "second\n");
    assert_eq!(machine.ran().len(), 2);
}

#[test]
fn a_trigger_of_any_kind_that_comes_with_the_last_command_is_not_lost() {
    let machine = Machine::with_product("last-moment");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    // Rows queued at moments spread over the life of a handler: its start, its work, its linger, its end.
    for number in 0..40_u64 {
        let id = collector.enqueue(&format!("echo {number}"));
        thread::sleep(Duration::from_millis(number * 23 % 350));
        if number % 8 == 7 {
            assert_eq!(collector.result(id)["stdout"], format!("{number}\n"));
        }
    }
    machine.wait_for("all results", || machine.ended() == 40);
    machine.wait_until_idle();
    assert_eq!(machine.ran().len(), 40);
}
