//! From a queued row to its result.

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::collector::state::Event;
use crate::support::history::Allowed;
use crate::support::node::{Mark, is_alive};
use crate::support::world::World;
use crate::support::{Dialect, both};

both!(a_node_action_a_service_action_and_a_failing_one);
fn a_node_action_a_service_action_and_a_failing_one(dialect: Dialect) {
    let world = World::new(dialect);
    let node = world.enqueue("echo hello");
    let service = world.enqueue_for("svc1", "start --local echo started");
    let failing = world.enqueue("err broken exit 3");
    world.run().exits(0);
    assert_eq!(world.result(node), (0, "hello\n".to_owned(), String::new()));
    assert_eq!(world.result(service), (0, "started\n".to_owned(), String::new()));
    assert_eq!(world.result(failing), (3, String::new(), "broken\n".to_owned()));
    let starts = world.node.starts();
    let argv: Vec<_> = starts.iter().map(|start| start.argv().join(" ")).collect();
    assert_eq!(argv, ["node echo hello", "svc -s svc1 start --local echo started", "node err broken exit 3"]);
    world.check();
}

both!(an_empty_queue_costs_one_exchange_and_says_nothing);
fn an_empty_queue_costs_one_exchange_and_says_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let ended = world.run();
    assert_eq!(ended.exits(0).stderr, "");
    let calls = [Call::Connection, Call::Fetch, Call::Ack, Call::Report, Call::Other];
    assert_eq!(calls.map(|call| world.collector.count(call)), [1, 1, 0, 0, 0]);
    world.check();
}

both!(everything_goes_over_one_connection);
fn everything_goes_over_one_connection(dialect: Dialect) {
    let world = World::new(dialect);
    for _ in 0..5 {
        world.enqueue("echo x");
    }
    world.run().exits(0);
    assert_eq!(world.collector.count(Call::Connection), 1);
    assert_eq!(world.collector.count(Call::Ack), 1, "one acknowledgement for the whole answer");
    assert_eq!(world.collector.count(Call::Fetch), 2, "one fetch that brings something, one that brings nothing");
    world.check();
}

both!(the_words_are_split_as_shlex_does_and_no_shell_sees_them);
fn the_words_are_split_as_shlex_does_and_no_shell_sees_them(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue(r#"compliance check --module "a b" --env=k="v;$(id)" # 'no comment' \'x\\y é€ "q\"q" > /dev/null "#);
    world.run().exits(0);
    let starts = world.node.starts();
    let expected = [
        "node",
        "compliance",
        "check",
        "--module",
        "a b",
        "--env=k=v;$(id)",
        "#",
        "no comment",
        "'x\\y",
        "é€",
        "q\"q",
        ">",
        "/dev/null",
    ];
    assert_eq!(starts[0].argv(), expected);
    world.check();
}

both!(exit_statuses_are_reported_as_they_are);
fn exit_statuses_are_reported_as_they_are(dialect: Dialect) {
    let world = World::new(dialect);
    let ids = [0, 1, 2, 77, 124, 125, 254, 255].map(|status| (status, world.enqueue(&format!("exit {status}"))));
    world.run().exits(0);
    for (status, id) in ids {
        assert_eq!(world.result(id), (status, String::new(), String::new()));
    }
    world.check();
}

both!(a_signal_is_128_and_its_number_with_the_reason_last);
fn a_signal_is_128_and_its_number_with_the_reason_last(dialect: Dialect) {
    let world = World::new(dialect);
    let ids = [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("HUP", 129)]
        .map(|(name, ret)| (name, ret, world.enqueue(&format!("err before kill {name}"))));
    world.run().exits(0);
    for (name, ret, id) in ids {
        assert!(world.reason(id, ret).contains(&format!("SIG{name}")));
        assert!(world.result(id).2.starts_with("before\n"));
    }
    world.check();
}

both!(a_program_that_vanishes_is_127_and_one_that_is_none_is_126);
fn a_program_that_vanishes_is_127_and_one_that_is_none_is_126(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("remove bin/om");
    let id = world.enqueue("echo never");
    world.run().exits(0);
    world.reason(id, 127);
    world.node.install_script("om", "\u{7f}neither a script nor a program\n");
    let id = world.enqueue("echo never");
    world.run().exits(0);
    world.reason(id, 126);
    world.check();
}

both!(an_action_that_runs_past_its_timeout_is_124_and_hears_of_it_first);
fn an_action_that_runs_past_its_timeout_is_124_and_hears_of_it_first(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"500ms\"\nkill_grace = \"20s\"\n");
    let _closed = world.node.gate("closed");
    let id = world.enqueue("echo begun say-term wait closed");
    let next = world.enqueue("echo next");
    world.run().exits(0);
    assert!(world.reason(id, 124).contains("500ms"));
    assert_eq!(world.result(id).1, "begun\n");
    assert!(world.node.marks().iter().any(|mark| mark.kind == "term"), "it got no SIGTERM before it was killed");
    assert_eq!(world.result(next).0, 0);
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}

both!(a_timed_out_action_loses_its_whole_group_although_it_ignores_sigterm);
fn a_timed_out_action_loses_its_whole_group_although_it_ignores_sigterm(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"500ms\"\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    let id = world.enqueue("ignore-term child closed wait closed");
    world.run().exits(0);
    world.reason(id, 124);
    let child = world.node.wait_for_mark("child");
    assert!(!is_alive(child.pid), "a process of a timed-out action survives");
    world.check();
}

both!(what_is_queued_meanwhile_is_taken_by_the_same_run);
fn what_is_queued_meanwhile_is_taken_by_the_same_run(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let first = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    let second = world.enqueue("echo second");
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(second).1, "second\n");
    world.check();
}

both!(a_result_is_posted_while_the_next_command_runs);
fn a_result_is_posted_while_the_next_command_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let first = world.enqueue("echo first");
    let second = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    assert_eq!(world.collector.wait_for_result(first).stdout.unwrap(), "first\n");
    world.node.wait_for_start(second);
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(commands_run_one_after_the_other_in_the_order_of_the_answer);
fn commands_run_one_after_the_other_in_the_order_of_the_answer(dialect: Dialect) {
    let world = World::new(dialect);
    let ids: Vec<_> = (0..6).map(|n| world.enqueue(&format!("echo {n}"))).collect();
    world.run().exits(0);
    let marks = world.node.marks();
    let kinds: Vec<_> = marks.iter().map(|mark| mark.kind.as_str()).collect();
    assert_eq!(kinds, ["start", "end"].repeat(6));
    let started: Vec<_> = marks.iter().filter_map(Mark::id).collect();
    assert_eq!(started, ids);
    world.check();
}

both!(the_first_command_waits_for_no_acknowledgement_and_every_result_does);
fn the_first_command_waits_for_no_acknowledgement_and_every_result_does(dialect: Dialect) {
    let world = World::new(dialect);
    let ids = vec![world.enqueue("echo a"), world.enqueue("echo b")];
    world.collector.fail(Call::Ack, When::Nth(1), Fault::StallBefore);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Ack, 1);
    for id in &ids {
        world.node.wait_for_start(*id);
    }
    assert_eq!(world.collector.count(Call::Report), 0, "the acknowledgement would undo a result");
    world.collector.release();
    handler.wait().exits(0);
    let events = world.collector.events();
    let acked = events.iter().position(|event| *event == Event::Acked { ids: ids.clone(), answered: true }).unwrap();
    let reported = events.iter().position(|event| matches!(event, Event::Reported(_))).unwrap();
    assert!(acked < reported, "{events:?}");
    world.check();
}

both!(under_ack_started_each_action_is_acknowledged_when_its_turn_comes);
fn under_ack_started_each_action_is_acknowledged_when_its_turn_comes(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[collector]\nack = \"started\"\n");
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("wait gate"), world.enqueue("echo b"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    let acked = |id| Event::Acked { ids: vec![id], answered: true };
    let before: Vec<_> =
        world.collector.events().into_iter().filter(|event| matches!(event, Event::Acked { .. })).collect();
    assert_eq!(before, [acked(first)]);
    gate.open();
    handler.wait().exits(0);
    assert!(world.collector.events().contains(&acked(second)));
    world.check();
}

both!(an_agent_of_1_x_has_two_programs);
fn an_agent_of_1_x_has_two_programs(dialect: Dialect) {
    let world = World::new(dialect);
    let om = include_str!("../support/om.sh").replace("@DIR@", &world.node.root().display().to_string());
    world.node.remove("bin/om");
    world.node.install_script("nodemgr", &om);
    world.node.install_script("svcmgr", &om);
    world.enqueue("pushasset");
    world.enqueue_for("svc1", "start");
    world.run().exits(0);
    let argv: Vec<_> = world.node.starts().iter().map(|start| start.argv().join(" ")).collect();
    assert_eq!(argv, ["pushasset", "-s svc1 start"]);
    world.check();
}

both!(three_hundred_actions_are_all_run_once);
fn three_hundred_actions_are_all_run_once(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.install_script("om", "#!/bin/true\n");
    let ids: Vec<_> = (0..300).map(|_| world.enqueue("x")).collect();
    world.run().exits(0);
    assert!(ids.iter().all(|id| world.collector.row(*id).ret == Some(0)));
    let calls = world.collector.count(Call::Report);
    match dialect {
        Dialect::Oc3 => assert_eq!(calls, 300),
        Dialect::Rpc => assert!((3..=300).contains(&calls), "{calls}: results that wait go in one call, 100 at most"),
    }
    world.check();
}

both!(the_program_may_be_replaced_by_what_it_runs);
fn the_program_may_be_replaced_by_what_it_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let upgrade = world.enqueue("remove bin/opensvc-actions echo upgraded");
    let next = world.enqueue("echo next daemon gate");
    let mut gate = world.node.gate("gate");
    world.run().exits(0);
    assert_eq!([upgrade, next].map(|id| world.result(id).1), ["upgraded\n", "next\n"]);
    gate.open();
    assert_eq!(world.node.wait_for_mark("daemon-end").words, ["0"]);
    world.check();
}
