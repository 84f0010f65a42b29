//! The story of one action: everything that happened on its way, told from the ledger.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, Wire, both};

fn ask(world: &World, words: &str) -> Value {
    let ended = world.node.handler().args(words.split(' ')).arg("--json").run();
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

fn show(world: &World, id: i64) -> Value {
    ask(world, &format!("show {id}"))
}

fn text(world: &World, words: &str) -> String {
    world.node.handler().args(words.split(' ')).run().exits(0).stdout.clone()
}

both!(each_attempt_to_report_is_told_and_after_many_the_first_and_the_last);
fn each_attempt_to_report_is_told_and_after_many_the_first_and_the_last(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::status(503));
    for _ in 0..3 {
        world.run().exits(75);
    }
    let tried = world.collector.count(Call::Report);
    assert!(tried > 6, "{tried}");
    let story = show(&world, id);
    let numbers: Vec<_> =
        story["attempts"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    let last = tried as u64;
    assert_eq!(numbers, [1, 2, 3, last - 2, last - 1, last]);
    for attempt in story["attempts"].as_array().unwrap() {
        assert_eq!(attempt["step"], "report");
        assert!(attempt["error"].as_str().unwrap().contains("503"), "{attempt}");
        assert!(attempt["at"].as_str() >= story["ended_at"].as_str(), "{story}");
    }
    let status = ask(&world, "status");
    let waiting = &status["unreported"][0];
    assert_eq!((&waiting["attempts"], waiting["last_error"].as_str().unwrap().contains("503")), (&last.into(), true));
    assert!(status["unreported_oldest_seconds"].is_u64(), "{status}");
    let screen = text(&world, "status");
    for words in [&format!("tried {last} times"), "the oldest for ", "posted by the next start", "503"] {
        assert!(screen.contains(words), "{words:?} is not in\n{screen}");
    }
    world.collector.heal();
    world.run().exits(0);
    let told = text(&world, &format!("show {id}"));
    assert_eq!(told.matches("not reported").count(), 6, "{told}");
    assert!(told.contains(&format!("({} more times)", last - 6)) && told.contains("\nreported "), "{told}");
    assert_eq!(ask(&world, "status")["unreported_oldest_seconds"], Value::Null);
    world.check();
}

#[test]
fn who_acknowledged_an_action_and_how_is_told_for_every_wire() {
    for wire in Wire::ALL {
        let world = World::over(wire);
        let id = world.enqueue("echo done");
        world.run().exits(0);
        let story = show(&world, id);
        let how = if wire == Wire::RpcXmlV1 { "by_fetch" } else { "after_fetch" };
        assert_eq!(story["acknowledged"], how, "{}", wire.name());
        assert!(story["received_at"].as_str() <= story["acknowledged_at"].as_str(), "{story}");
        assert_eq!((&story["supervisor"], &story["attempts"]), (&"direct".into(), &Value::Array(Vec::new())));
    }
}

both!(an_acknowledgement_that_fails_is_told_and_so_is_the_one_at_the_start);
fn an_acknowledgement_that_fails_is_told_and_so_is_the_one_at_the_start(dialect: Dialect) {
    let world = World::new(dialect);
    world.collector.fail(Call::Ack, When::Always, Fault::status(503));
    let id = world.enqueue("echo done");
    world.run().exits(0);
    let story = show(&world, id);
    assert_eq!((&story["acknowledged"], &story["attempts"][0]["step"]), (&Value::Null, &"acknowledge".into()));
    assert!(text(&world, &format!("show {id}")).contains("not acknowledged"));
    world.collector.heal();
    world.node.configure("[collector]\nack = \"started\"\n");
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert_eq!(show(&world, id)["acknowledged"], "at_start");
}

both!(what_a_command_has_used_is_told);
fn what_a_command_has_used_is_told(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    let usage = &show(&world, id)["usage"];
    assert_eq!(usage["of_group"], false);
    assert!(usage["memory_peak"].as_u64().unwrap() > 100_000, "{usage}");
    assert!(usage["user_usec"].as_u64().unwrap() + usage["system_usec"].as_u64().unwrap() > 0, "{usage}");
    assert!(text(&world, &format!("show {id}")).contains("\nused "), "the screen has nothing of it");
    world.check();
}

both!(a_rule_that_refuses_is_told);
fn a_rule_that_refuses_is_told(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\"*\", \"stop\", \"**\"]\n");
    let (denied, allowed) = (world.enqueue("stop"), world.enqueue("echo done"));
    world.run().exits(0);
    let story = show(&world, denied);
    let rule = story["rule"].as_str().unwrap();
    assert!(rule.starts_with("rule 1 of ") && rule.contains("deny command="), "{rule}");
    assert_eq!((&story["supervisor"], &show(&world, allowed)["rule"]), (&Value::Null, &Value::Null));
}

/// The record of an action that ended while nobody watched, changed by whoever can.
fn change_record(world: &World, id: i64, change: impl FnOnce(&mut Value)) {
    let path: PathBuf = world.node.path(&format!("var/actions/runs/{}-{id}-1/record", world.dialect.name()));
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    change(&mut record);
    let body = record.to_string();
    let sum = body
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    fs::write(path, format!("opensvc-actions-record-1 {} {sum:016x}\n{body}", body.len())).unwrap();
}

both!(a_lack_of_memory_is_named_in_the_journal_and_in_the_story);
fn a_lack_of_memory_is_named_in_the_journal_and_in_the_story(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate kill KILL");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    gate.open();
    world.node.wait_until_alone(&[]);
    // As it would be in a control group that knows how much its memory may be.
    change_record(&world, id, |record| {
        record["usage"]["of_group"] = true.into();
        record["usage"]["oom_kills"] = 2.into();
    });
    let remark = "the kernel killed 2 of its processes for want of memory";
    world.run().exits(0).says(&format!("killed by signal 9 (SIGKILL); {remark}"));
    assert_eq!(show(&world, id)["usage"]["oom_kills"], 2);
    assert!(text(&world, &format!("show {id}")).contains(remark));
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}

both!(what_stays_here_beside_the_report_is_told);
fn what_stays_here_beside_the_report_is_told(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nkept_output = \"256KiB\"\n");
    world.node.write("long", "x".repeat(300 << 10));
    let id = world.enqueue("cat long err short");
    world.run().exits(0);
    let story = show(&world, id);
    assert_eq!(story["kept_stdout"], serde_json::json!({ "bytes": 256 << 10, "of": 300 << 10 }));
    assert_eq!(story["kept_stderr"], Value::Null);
    let told = text(&world, &format!("show {id}"));
    assert!(told.contains("256.0 KiB of 300.0 KiB of standard output: show --stdout"), "{told}");
}

both!(on_a_terminal_long_output_does_not_drive_the_story_away);
fn on_a_terminal_long_output_does_not_drive_the_story_away(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("long", (1..=100).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n"));
    let id = world.enqueue("cat long err short");
    world.run().exits(0);
    let shown = world.node.handler().args(["show", &id.to_string()]).terminal().run().exits(0).stdout.clone();
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!((lines.len(), lines[0].trim_end(), lines[19].trim_end()), (20, "line 81", "line 100"), "{shown}");
    assert!(shown.contains("the last 20 lines (all: 'show ") && shown.contains(" --stdout')"), "{shown}");
    assert!(shown.contains("standard error, 6 bytes:"), "{shown}");
    assert!(text(&world, &format!("show {id}")).contains("line 1\n"), "a pipe gets everything");
}

both!(a_ledger_that_is_gone_is_said_and_not_taken_for_an_idle_node);
fn a_ledger_that_is_gone_is_said_and_not_taken_for_an_idle_node(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    for companion in ["", "-wal", "-shm"] {
        fs::remove_file(world.node.path(&format!("var/actions/ledger.sqlite{companion}"))).unwrap();
    }
    let status = world.node.handler().args(["status", "--json"]).run();
    let document: Value = serde_json::from_str(&status.exits(69).stdout).unwrap();
    assert!(document["ledger_error"].as_str().unwrap().contains("ledger.sqlite is gone"), "{document}");
    for list in ["running", "waiting", "unreported"] {
        assert_eq!(document[list], Value::Null, "{list}");
    }
    assert_eq!(document["handler"], handler.pid());
    let screen = world.node.handler().arg("status").run();
    assert!(screen.exits(69).stdout.contains("is gone") && !screen.stdout.contains("running"), "{}", screen.stdout);
    for words in ["history", "show 1", "cancel 1"] {
        world.node.handler().args(words.split(' ')).run().exits(69).says("is gone");
    }
    gate.open();
    handler.wait();
    world.node.wait_until_alone(&[]);
}

#[test]
fn what_sqlite_says_is_said_once() {
    let world = World::new(Dialect::Oc3);
    world.run().exits(0);
    let ledger = world.node.path("var/actions/ledger.sqlite");
    fs::remove_file(&ledger).unwrap();
    fs::create_dir(&ledger).unwrap();
    let said = world.node.handler().arg("history").run().exits(69).stderr.to_lowercase();
    assert_eq!(said.matches("disk i/o error").count(), 1, "{said}");
    assert!(said.contains("(sqlite error 266)"), "{said}");
}

both!(a_run_directory_that_cannot_be_used_is_named);
fn a_run_directory_that_cannot_be_used_is_named(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    let id = world.enqueue("echo done");
    let runs = world.node.path("var/actions/runs");
    let of_action = runs.join(format!("{}-{id}-1", dialect.name()));
    fs::create_dir_all(&runs).unwrap();
    fs::write(&of_action, "").unwrap();
    world.run().exits(69).says(&format!("cannot use the run directory {}: ", of_action.display()));
    fs::remove_file(&of_action).unwrap();
    fs::remove_dir(&runs).unwrap();
    fs::write(&runs, "").unwrap();
    world.run().exits(69).says(&format!("cannot use the run directory {}: ", runs.display()));
}
