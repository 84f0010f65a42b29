//! What a person asks and orders: with no handler, beside one, and after one was cut off.

use std::fs;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::node::{Node, is_alive};
use crate::support::process::Ended;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// Runs a command.
fn ask(node: &Node, words: &str) -> Ended {
    node.handler().args(words.split(' ')).run()
}

/// Runs a command that has to succeed, and reads its document.
#[track_caller]
fn document(node: &Node, words: &str) -> Value {
    let ended = ask(node, &format!("{words} --json"));
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

#[track_caller]
fn status(node: &Node) -> Value {
    document(node, "status")
}

/// The ids in a list of actions.
fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|action| action["id"].as_i64().unwrap()).collect()
}

/// A handler starts the first action, is told to go, and the command ends without it: one action has ended and the
/// ledger does not know, the other waits.
fn left_alone(world: &World) -> (i64, i64) {
    let mut gate = world.node.gate("left-alone");
    let (ended, waiting) = (world.enqueue("wait left-alone exit 3"), world.enqueue("echo waited"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(ended);
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    gate.open();
    world.node.wait_until_alone(&[]);
    (ended, waiting)
}

fn ledger(node: &Node) -> Connection {
    Connection::open(node.path("var/actions/ledger.sqlite")).unwrap()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn cancelled() -> Allowed {
    Allowed { interrupted: true, ..Allowed::default() }
}

#[test]
fn a_node_on_which_no_handler_has_worked_answers_every_question() {
    let node = Node::bare();
    let status = status(&node);
    assert_eq!((&status["handler"], &status["pause"]), (&Value::Null, &Value::Null));
    for list in ["queues", "running", "waiting", "unreported"] {
        assert_eq!(status[list], Value::Array(Vec::new()), "{list}");
    }
    assert!(status["configuration_error"].is_string());
    assert!(ask(&node, "status").exits(0).stdout.contains("not at work"));
    ask(&node, "status --max-age 366d").exits(75);
    assert_eq!(ask(&node, "history --json").exits(0).stdout, "");
    assert_eq!(ask(&node, "history").exits(0).stdout.lines().count(), 1);
    ask(&node, "show 1").exits(64).says("no action 1");
    ask(&node, "cancel rpc:-1.2").exits(64).says("no action rpc:-1.2");
    ask(&node, "resume").exits(0);
    assert!(!node.path("var").exists(), "a question has made something");
}

#[test]
fn only_root_may_ask_and_order() {
    let node = Node::bare();
    for words in ["status", "history", "show 1", "cancel 1", "pause", "resume", "report"] {
        node.handler().args(words.split(' ')).user(65534).run().exits(77).says("root");
    }
}

#[test]
fn what_is_no_name_time_or_number_is_wrong_usage() {
    let node = Node::bare();
    for words in [
        "show",
        "show x",
        "show 1 2",
        "show --stdout --stderr 1",
        "cancel",
        "cancel xml:1",
        "stauts",
        "status --max-age 5",
        "pause --for 0s",
        "history --limit -1",
        "history --since yesterday",
        "history --since 2026-02-30",
    ] {
        ask(&node, words).exits(64);
    }
    ask(&node, "stauts").says("'status'");
    ask(&node, "history --since yesterday").says("2026-11-21T09:00");
    let help = ask(&node, "show --help").exits(0).stdout.clone();
    assert!(help.find("--stderr") < help.find("--root"), "its own options stand first: {help}");
}

both!(a_broken_configuration_stops_no_question_and_no_order);
fn a_broken_configuration_stops_no_question_and_no_order(dialect: Dialect) {
    let world = World::new(dialect);
    let (ended, waiting) = left_alone(&world);
    world.node.configure("nonsense = 1\n");
    let status = status(&world.node);
    assert!(status["configuration_error"].as_str().unwrap().contains("nonsense"));
    assert_eq!((ids(&status["running"]), ids(&status["waiting"])), (vec![ended], vec![waiting]));
    ask(&world.node, "status --max-age 1h").exits(0);
    ask(&world.node, "history").exits(0);
    ask(&world.node, &format!("show {waiting}")).exits(0);
    ask(&world.node, "pause").exits(0);
    ask(&world.node, "resume").exits(0);
    ask(&world.node, &format!("cancel {waiting}")).exits(0);
    ask(&world.node, "report").exits(78);
}

both!(a_reader_that_has_seen_enough_is_no_failure);
fn a_reader_that_has_seen_enough_is_no_failure(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    for words in [&["history"][..], &["status"], &["show", &id.to_string()], &["show-config"]] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(world.node.path("bin/opensvc-actions"));
        command.arg("--root").arg(world.node.root()).args(words).stdout(Stdio::from(writer));
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{words:?}");
    }
}

both!(the_status_beside_a_handler);
fn the_status_beside_a_handler(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let running = world.enqueue_for("svc1", "wait gate --token hidden");
    let waiting = world.enqueue("echo next");
    let handler = world.node.handler().start();
    world.node.wait_for_start(running);
    let status = status(&world.node);
    assert_eq!(status["handler"], handler.pid());
    assert_eq!((ids(&status["running"]), ids(&status["waiting"])), (vec![running], vec![waiting]));
    assert_eq!(ids(&status["unreported"]), [0; 0]);
    let action = &status["running"][0];
    assert_eq!(action["action"], format!("{}:{running}.1", dialect.name()));
    assert_eq!((&action["service"], &action["state"]), (&"svc1".into(), &"started".into()));
    assert_eq!(action["progress"], "running");
    assert!(action["command"].as_str().unwrap().contains("--token <redacted>"), "{action}");
    let queue = &status["queues"][0];
    assert_eq!(queue["queue"], dialect.name());
    assert!(queue["collector"].as_str().unwrap().starts_with(&world.collector.url()), "{queue}");
    assert_eq!(queue["error"], Value::Null);
    assert!(queue["last_contact"].as_str() <= status["time"].as_str());
    let screen = ask(&world.node, "status --max-age 1h").exits(0).stdout.clone();
    for words in [&format!("at work, process {}", handler.pid()), "running     1", "waiting     1", "svc1 ", " s ago)"]
    {
        assert!(screen.contains(words), "{words:?} is not in\n{screen}");
    }
    assert!(!screen.contains("hidden"), "{screen}");
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(the_status_of_what_was_left_alone);
fn the_status_of_what_was_left_alone(dialect: Dialect) {
    let world = World::new(dialect);
    let (ended, waiting) = left_alone(&world);
    let left = status(&world.node);
    assert_eq!(left["handler"], Value::Null, "a handler that has gone is said to be at work");
    assert_eq!((ids(&left["running"]), &left["running"][0]["progress"]), (vec![ended], &"ended".into()));
    assert_eq!(ids(&left["waiting"]), [waiting]);
    let next = || ask(&world.node, "status").exits(0).stdout.clone();
    assert!(next().contains("  next  taken up by the next start"), "{}", next());
    ask(&world.node, "pause").exits(0);
    assert!(next().contains("  next  what waits does so until 'opensvc-actions resume'"), "{}", next());
    ask(&world.node, "resume").exits(0);
    // As if the machine had gone down and nothing of the run had reached the disk.
    fs::remove_dir_all(world.node.path("var/actions/runs")).unwrap();
    ledger(&world.node).execute("UPDATE action SET boot_id = 'another'", []).unwrap();
    assert_eq!(status(&world.node)["running"][0]["progress"], "went_down");
    ask(&world.node, &format!("cancel {ended}")).exits(64).says("went down with the machine");
    world.run().exits(0);
    world.reason(ended, 254);
    assert_eq!(world.result(waiting).1, "waited\n");
    assert_eq!(ids(&status(&world.node)["running"]), [0; 0]);
    world.check_but(&cancelled());
}

both!(the_last_contact_is_remembered_and_so_is_what_went_wrong_since);
fn the_last_contact_is_remembered_and_so_is_what_went_wrong_since(dialect: Dialect) {
    let world = World::new(dialect);
    ask(&world.node, "status --max-age 366d").exits(75);
    world.run().exits(0);
    ask(&world.node, "status --max-age 1h").exits(0);
    ask(&world.node, "status --max-age 1ms").exits(75);
    let good = status(&world.node)["queues"][0].clone();
    assert!(good["last_contact"].is_string() && good["error"].is_null(), "{good}");
    world.collector.down();
    world.run().exits(75);
    let bad = status(&world.node)["queues"][0].clone();
    assert_eq!(bad["last_contact"], good["last_contact"]);
    assert!(bad["error"]["at"].as_str() > good["last_contact"].as_str(), "{bad}");
    assert!(bad["error"]["text"].is_string(), "{bad}");
    world.collector.up();
    world.run().exits(0);
    let again = status(&world.node)["queues"][0].clone();
    assert!(again["error"].is_null() && again["last_contact"].as_str() > bad["error"]["at"].as_str(), "{again}");
    world.check();
}

both!(the_history_is_what_has_ended_newest_first);
fn the_history_is_what_has_ended_newest_first(dialect: Dialect) {
    let world = World::new(dialect);
    let first = world.enqueue("exit 3");
    world.run().exits(0);
    let second = world.enqueue_for("svc1", "start");
    world.run().exits(0);
    let third = world.enqueue("exit 1");
    world.run().exits(0);
    let ids = |words: &str| -> Vec<i64> {
        let ended = ask(&world.node, &format!("history --json {words}"));
        let lines: Vec<Value> = ended.exits(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter().map(|action| action["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids("--limit 10"), [third, second, first]);
    assert_eq!(ids("--limit 1"), [third]);
    assert_eq!(ids("--failed"), [third, first]);
    assert_eq!(ids("--since 1h"), [third, second, first]);
    assert_eq!(ids("--since 1970-01-01"), [third, second, first]);
    assert_eq!(ids("--since 2100-01-01T00:00Z"), [0; 0]);
    let ended_at = document(&world.node, &format!("show {third}"))["ended_at"].as_str().unwrap().to_owned();
    assert_eq!(ids(&format!("--since {ended_at}")), [third]);
    let table = ask(&world.node, "history").exits(0).stdout.clone();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ENDED") && lines.len() == 4, "{table}");
    assert!(lines[2].contains("svc1 ") && lines[3].contains("  3  "), "{table}");
    world.check();
}

both!(show_tells_the_whole_story);
fn show_tells_the_whole_story(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue_for("svc1", "start --password seen echo out err why exit 3");
    let mut gate = world.node.gate("gate");
    let running = world.enqueue("wait gate kill KILL");
    let handler = world.node.handler().start();
    world.node.wait_for_start(running);
    world.collector.wait_for_result(id);
    ask(&world.node, &format!("show --stdout {running}")).exits(75).says("has not ended");
    let unfinished = document(&world.node, &format!("show {running}"));
    assert_eq!((&unfinished["state"], &unfinished["ret"]), (&"started".into(), &Value::Null));
    gate.open();
    handler.wait().exits(0);
    let name = format!("{}:{id}.1", dialect.name());
    for short in [&name, &id.to_string(), &format!("{}:{id}", dialect.name())] {
        let story = document(&world.node, &format!("show {short}"));
        for (member, expected) in [
            ("action", Value::from(name.as_str())),
            ("queue", dialect.name().into()),
            ("id", id.into()),
            ("generation", 1.into()),
            ("state", "reported".into()),
            ("service", "svc1".into()),
            ("ret", 3.into()),
            ("reason", Value::Null),
            ("stdout", "out\n".into()),
            ("stderr", "why\n".into()),
        ] {
            assert_eq!(story[member], expected, "{member}");
        }
        assert!(story["command"].as_str().unwrap().contains("--password seen"), "show hides nothing: {story}");
        let times = ["received_at", "started_at", "ended_at", "reported_at"];
        let times = times.map(|member| story[member].as_str().unwrap().to_owned());
        assert!(times.is_sorted(), "{times:?}");
        assert!(story["collector"].as_str().unwrap().starts_with(&world.collector.url()), "{story}");
        assert!(story["queued_at"].is_string() && story["service_id"].is_string(), "{story}");
    }
    assert_eq!(ask(&world.node, &format!("show {id} --stdout")).exits(0).stdout, "out\n");
    assert_eq!(ask(&world.node, &format!("show --stderr {id}")).exits(0).stdout, "why\n");
    let text = ask(&world.node, &format!("show {id}")).exits(0).stdout.clone();
    for words in ["svc1", "--password seen", "reported", "standard output, 4 bytes:\nout\n", "result        3"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let killed = document(&world.node, &format!("show {running}"));
    assert_eq!((&killed["ret"], &killed["reason"]), (&137.into(), &"killed by signal 9 (SIGKILL)".into()));
    world.check();
}

both!(generations_have_to_be_told_apart);
fn generations_have_to_be_told_apart(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    world.collector.redo(id);
    world.run().exits(0);
    let name = dialect.name();
    for words in ["show", "cancel"] {
        let ended = ask(&world.node, &format!("{words} {id}"));
        ended.exits(64).says(&format!("{name}:{id}.1, {name}:{id}.2"));
    }
    assert_eq!(document(&world.node, &format!("show {id}.2"))["generation"], 2);
    ask(&world.node, &format!("show {id}.3")).exits(64).says("no action");
    world.check();
}

both!(a_cancelled_waiting_action_never_runs_and_the_handler_beside_it_reports_it);
fn a_cancelled_waiting_action_never_runs_and_the_handler_beside_it_reports_it(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second, third) = (world.enqueue("wait gate"), world.enqueue("echo never"), world.enqueue("echo third"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    let order = document(&world.node, &format!("cancel {second}"));
    assert_eq!((&order["was"], &order["handler"]), (&"waiting".into(), &handler.pid().into()));
    assert_eq!(ids(&status(&world.node)["unreported"]), [second]);
    ask(&world.node, &format!("cancel {second}")).exits(64).says("ended with 130");
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.reason(second, 130), "cancelled on the node");
    assert_eq!((world.node.runs_of(second), world.result(third).1), (0, "third\n".to_owned()));
    let story = document(&world.node, &format!("show {second}"));
    assert_eq!((&story["started_at"], &story["ret"]), (&Value::Null, &130.into()));
    world.check();
}

both!(a_waiting_action_that_is_cancelled_without_a_handler_is_reported_by_the_next);
fn a_waiting_action_that_is_cancelled_without_a_handler_is_reported_by_the_next(dialect: Dialect) {
    let world = World::new(dialect);
    let (ended, waiting) = left_alone(&world);
    let said = ask(&world.node, &format!("cancel {waiting}"));
    assert!(said.exits(0).stdout.contains("will not run. The next start reports it"), "{}", said.stdout);
    ask(&world.node, &format!("cancel {ended}")).exits(64).says("it has ended");
    world.run().exits(0);
    world.reason(waiting, 130);
    assert_eq!((world.result(ended).0, world.node.runs_of(waiting)), (3, 0));
    ask(&world.node, &format!("cancel {ended}")).exits(64).says("has ended with 3");
    world.check();
}

both!(a_cancelled_running_action_ends);
fn a_cancelled_running_action_ends(dialect: Dialect) {
    for attached in [true, false] {
        let world = World::new(dialect);
        let _closed = world.node.gate("gate");
        let id = world.enqueue("echo begun wait gate");
        let next = world.enqueue("echo next");
        let handler = world.node.handler().start();
        let command = world.node.wait_for_start(id);
        let mut handler = Some(handler);
        if !attached {
            let handler = handler.take().unwrap();
            handler.signal(Signal::KILL);
            handler.wait();
        }
        let order = document(&world.node, &format!("cancel {id}"));
        assert_eq!((&order["was"], order["handler"].is_null()), (&"running".into(), !attached));
        match handler {
            Some(handler) => handler.wait().exits(0),
            None => world.run().exits(0),
        };
        assert_eq!(world.reason(id, 130), "cancelled on the node");
        assert_eq!((world.result(id).1.as_str(), world.result(next).1.as_str()), ("begun\n", "next\n"));
        assert!(!is_alive(command.pid), "it still runs");
        ask(&world.node, &format!("cancel {id}")).exits(64).says("ended with 130");
        world.check_but(&cancelled());
    }
}

both!(an_action_that_was_cancelled_before_its_command_began_never_runs);
fn an_action_that_was_cancelled_before_its_command_began_never_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let (_, waiting) = left_alone(&world);
    // As if the handler had been killed between "started" and the launch of the supervisor.
    ledger(&world.node)
        .execute("UPDATE action SET state = 'started', boot_id = ?1 WHERE id = ?2", (boot_id(), waiting))
        .unwrap();
    let run = world.node.path(&format!("var/actions/runs/{}-{waiting}-1", dialect.name()));
    fs::create_dir(&run).unwrap();
    fs::write(run.join("claim"), boot_id() + "\n").unwrap();
    assert_eq!(document(&world.node, &format!("cancel {waiting}"))["was"], "running");
    world.run().exits(0);
    world.reason(waiting, 130);
    assert_eq!(world.node.runs_of(waiting), 0);
    world.check();
}

both!(whoever_is_first_wins_when_a_cancellation_meets_a_start);
fn whoever_is_first_wins_when_a_cancellation_meets_a_start(dialect: Dialect) {
    let world = World::new(dialect);
    let mut outcomes = [0, 0, 0];
    for round in 0..12 {
        let name = format!("gate-{round}");
        let mut gate = world.node.gate(&name);
        let (first, second) = (world.enqueue(&format!("wait {name}")), world.enqueue("echo done"));
        let handler = world.node.handler().start();
        world.node.wait_for_start(first);
        let order = |world: &World| world.node.handler().arg("cancel").arg(second.to_string()).start();
        // Now the one, now the other has a head start.
        let order = if round % 2 == 0 {
            gate.open();
            order(&world)
        } else {
            let order = order(&world);
            gate.open();
            order
        };
        let said = order.wait();
        handler.wait().exits(0);
        let (ret, runs) = (world.result(second).0, world.node.runs_of(second));
        let told = said.code() == 0 && said.stdout.contains("is told to end");
        match (said.code(), ret) {
            (0, 130) if !told => assert_eq!(runs, 0, "it was said not to run: {}", said.stdout),
            // It was told to end, and may have been quicker.
            (0, 130 | 0) if told => {}
            (64, 0) => assert_eq!(runs, 1),
            other => panic!("{other:?}: {} {}", said.stdout, said.stderr),
        }
        outcomes[if said.code() == 64 { 2 } else { usize::from(told) }] += 1;
    }
    println!("{outcomes:?} were waiting, running, over");
    world.check_but(&cancelled());
}

both!(a_paused_node_takes_nothing_until_it_is_resumed);
fn a_paused_node_takes_nothing_until_it_is_resumed(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let order = document(&world.node, "pause --reason maintenance");
    assert_eq!(order["pause"]["reason"], "maintenance");
    for _ in 0..2 {
        let ended = world.run();
        assert_eq!(ended.exits(0).stderr, "", "an idle paused node says something");
    }
    world.node.handler().arg("-v").run().exits(0).says("paused");
    assert_eq!((world.collector.count(Call::Fetch), world.node.runs_of(id)), (0, 0));
    let pause = status(&world.node)["pause"].clone();
    assert_eq!((&pause["reason"], &pause["until"]), (&"maintenance".into(), &Value::Null));
    assert!(pause["since"].is_string());
    assert!(ask(&world.node, "status").exits(0).stdout.contains(": maintenance"));
    assert_eq!(document(&world.node, "resume")["ended"]["reason"], "maintenance");
    assert_eq!(document(&world.node, "resume")["ended"], Value::Null);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_pause_can_end_by_itself);
fn a_pause_can_end_by_itself(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let order = document(&world.node, "pause --for 2h");
    assert!(order["pause"]["until"].as_str() > order["pause"]["since"].as_str(), "{order}");
    world.run().exits(0);
    assert_eq!(world.node.runs_of(id), 0);
    ask(&world.node, "pause --for 1ms").exits(0);
    assert_eq!(status(&world.node)["pause"], Value::Null);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_pause_beside_a_handler_lets_the_running_command_end_and_starts_no_other);
fn a_pause_beside_a_handler_lets_the_running_command_end_and_starts_no_other(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("wait gate echo first"), world.enqueue("echo second"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    assert_eq!(document(&world.node, "pause")["handler"], handler.pid());
    gate.open();
    handler.wait().exits(0);
    assert_eq!((world.result(first).1.as_str(), world.node.runs_of(second)), ("first\n", 0));
    world.run().exits(0);
    assert_eq!(ids(&status(&world.node)["waiting"]), [second]);
    // What waits can be cancelled meanwhile, and results still go out.
    ask(&world.node, &format!("cancel {second}")).exits(0);
    world.run().exits(0);
    world.reason(second, 130);
    ask(&world.node, "resume").exits(0);
    world.run().exits(0);
    world.check();
}

both!(a_node_that_is_resumed_beside_a_handler_goes_on_at_once);
fn a_node_that_is_resumed_beside_a_handler_goes_on_at_once(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let first = world.enqueue("wait gate echo first");
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    ask(&world.node, "pause").exits(0);
    let second = world.enqueue("echo second");
    ask(&world.node, "resume").exits(0);
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(second).1, "second\n");
    world.check();
}

both!(report_posts_what_is_left_and_takes_nothing);
fn report_posts_what_is_left_and_takes_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::status(503));
    world.run().exits(75);
    assert_eq!(ids(&status(&world.node)["unreported"]), [id]);
    ask(&world.node, "report").exits(75);
    let fetches = world.collector.count(Call::Fetch);
    let other = world.enqueue("echo other");
    world.collector.heal();
    // A mark that somebody left who was cut off is no reason to fetch.
    world.node.write("var/actions/wake", "");
    assert_eq!(ask(&world.node, "report").exits(0).stderr, "");
    assert_eq!(world.result(id).1, "done\n");
    assert_eq!((world.collector.count(Call::Fetch), world.node.runs_of(other)), (fetches, 0));
    assert_eq!(ids(&status(&world.node)["unreported"]), [0; 0]);
    world.run().exits(0);
    world.check();
}

both!(report_takes_over_what_has_ended_alone_and_starts_nothing);
fn report_takes_over_what_has_ended_alone_and_starts_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let (ended, waiting) = left_alone(&world);
    ask(&world.node, "report").exits(0);
    assert_eq!((world.result(ended).0, world.node.runs_of(waiting)), (3, 0));
    world.run().exits(0);
    assert_eq!(world.result(waiting).1, "waited\n");
    world.check();
}

both!(report_beside_a_handler_leaves_it_to_that);
fn report_beside_a_handler_leaves_it_to_that(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    ask(&world.node, "report").exits(0).says("another handler works");
    assert!(world.node.path("var/actions/wake").exists(), "it was not told");
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(id).0, 0);
    world.check();
}

both!(a_start_that_meets_a_report_gets_its_fetch);
fn a_start_that_meets_a_report_gets_its_fetch(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::status(503));
    world.run().exits(75);
    world.collector.heal();
    let reports = world.collector.count(Call::Report);
    world.collector.fail(Call::Report, When::First(1), Fault::StallBefore);
    let report = world.node.handler().arg("report").start();
    world.collector.wait_for_count(Call::Report, reports + 1);
    let other = world.enqueue("echo other");
    assert_eq!(world.run().exits(0).stderr, "");
    assert_eq!(world.node.runs_of(other), 0, "two handlers at once");
    world.collector.heal();
    report.wait().exits(0);
    assert_eq!((world.result(id).1.as_str(), world.result(other).1.as_str()), ("done\n", "other\n"));
    world.check();
}

#[test]
fn an_id_that_both_queues_have_is_ambiguous() {
    let (oc3, rpc) = (Collector::start(), Collector::start());
    let node = Node::bare();
    node.register(&[(Dialect::Oc3, &oc3), (Dialect::Rpc, &rpc)]);
    let id = oc3.enqueue(Dialect::Oc3, "echo one");
    assert_eq!(rpc.enqueue(Dialect::Rpc, "echo two"), id);
    node.run().exits(0);
    ask(&node, &format!("show {id}")).exits(64).says(&format!("oc3:{id}.1, rpc:{id}.1"));
    assert_eq!(document(&node, &format!("show rpc:{id}"))["stdout"], "two\n");
    assert_eq!(status(&node)["queues"].as_array().unwrap().len(), 2);
    // One of two queues out of reach is out of contact.
    fs::remove_file(node.path("var/actions/contact-oc3")).unwrap();
    ask(&node, "status --max-age 1h").exits(75);
    node.wait_until_alone(&[]);
}

both!(what_is_no_longer_kept_or_wanted_is_said);
fn what_is_no_longer_kept_or_wanted_is_said(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done exit 1");
    world.run().exits(0);
    ledger(&world.node).execute("UPDATE action SET stdout = NULL, stderr = NULL", []).unwrap();
    ask(&world.node, &format!("show --stdout {id}")).exits(69).says("no longer kept");
    assert!(ask(&world.node, &format!("show {id}")).exits(0).stdout.contains("no longer kept"));
    let story = document(&world.node, &format!("show {id}"));
    assert_eq!((&story["ret"], &story["stdout"]), (&1.into(), &Value::Null));
    for (state, said) in [("superseded", "a newer action has taken its place"), ("expired", "has ended with 1")] {
        ledger(&world.node).execute("UPDATE action SET state = ?1", [state]).unwrap();
        assert_eq!(document(&world.node, &format!("show {id}"))["state"], state);
        assert!(ask(&world.node, "history --failed").exits(0).stdout.contains(&format!(":{id}.1")));
        ask(&world.node, &format!("cancel {id}")).exits(64).says(said);
    }
    // A newer program's ledger is not touched.
    ledger(&world.node).pragma_update(None, "user_version", 99).unwrap();
    for words in ["status", "history", "show 1", "cancel 1"] {
        ask(&world.node, words).exits(69).says("upgrade");
    }
}
