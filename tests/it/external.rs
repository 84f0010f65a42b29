//! External actions: started once, asked after by whichever handler is there, over as many of them as it takes.

use std::fs;

use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// Notes each call with what it reads, and says what the file `start` and `check` have.
fn install(node: &Node) {
    let root = node.root().display();
    for name in ["start", "check"] {
        node.write(name, "");
        node.install_script(
            &format!("{name}-it"),
            &format!(
                "#!/bin/sh\nread -r record\nprintf '%s %s\\n' \"$record\" \"$*\" >>{root}/{name}s\n\
                 [ -e {root}/{name}-waits ] && read -r _ <{root}/{name}-waits\n. {root}/{name}\n"
            ),
        );
    }
}

/// `[external_actions.NAME]` for `start-it` and `check-it`, with more lines.
fn definition(node: &Node, name: &str, more: &str) -> String {
    let bin = node.path("bin");
    format!(
        "[external_actions.\"{name}\"]\naction = [\"{0}/start-it\", \"now\"]\ncheck = [\"{0}/check-it\"]\n{more}\n",
        bin.display()
    )
}

/// A node with the external action `backup.full`, whose checks are far apart.
fn world(dialect: Dialect) -> World {
    let world = World::new(dialect);
    install(&world.node);
    world.node.configure(&definition(&world.node, "backup.full", "interval = \"1h\"\nrequired = [\"target\"]"));
    world
}

fn says(world: &World, check: &str) {
    world.node.write("check", format!("cat <<'END'\n{check}\nEND\n"));
}

/// What the commands were called with.
fn calls(world: &World, name: &str) -> Vec<String> {
    let text = fs::read_to_string(world.node.path(&format!("{name}s"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn enqueue(world: &World, command: &str) -> i64 {
    world.collector.add(world.row(command).untagged())
}

const ARGS: &str = r#"external backup.full {"target": "it's /srv", "deep": {"b": 1, "a": [true]}}"#;
const RUNNING: &str = r#"{"status": "running", "progress": "40 %"}"#;
const FINISHED: &str = r#"{"status": "finished", "result": {"files": 7}}"#;

/// What is known of an action that goes on outside.
fn noted(world: &World, id: i64) -> std::path::PathBuf {
    world.node.path(&format!("var/actions/runs/{}-{id}-1/external", world.dialect.name()))
}

/// Changes what is known, as if time had passed.
fn change(world: &World, id: i64, change: impl FnOnce(&mut Value)) {
    let path = noted(world, id);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The next check is due.
fn make_due(world: &World, id: i64) {
    change(world, id, |outside| outside["next_at"]["seconds"] = json!(0));
}

fn status(world: &World) -> Value {
    serde_json::from_str(&world.node.handler().args(["status", "--json"]).run().exits(0).stdout).unwrap()
}

both!(it_is_started_once_and_asked_after_by_later_handlers_until_it_has_finished);
fn it_is_started_once_and_asked_after_by_later_handlers_until_it_has_finished(dialect: Dialect) {
    let world = world(dialect);
    world.node.write("start", "echo begun; echo oops >&2");
    says(&world, RUNNING);
    let id = enqueue(&world, ARGS);
    let other = world.enqueue("echo other");
    world.run().exits(0);
    assert_eq!(world.result(other).0, 0, "it stands in nobody's way");
    assert_eq!((calls(&world, "start").len(), calls(&world, "check").len()), (1, 0));
    world.run().exits(0); // not due
    assert_eq!(calls(&world, "check").len(), 0);
    let running = status(&world)["running"][0].clone();
    assert_eq!((&running["progress"], &running["external"]["progress"]), (&json!("running"), &Value::Null));

    make_due(&world, id);
    world.run().exits(0);
    assert_eq!(calls(&world, "check").len(), 1);
    let running = status(&world)["running"][0].clone();
    assert_eq!(running["external"]["progress"], "40 %", "{running}");
    let text = world.node.handler().arg("status").run().exits(0).stdout.clone();
    assert!(text.contains("progress 40 %") && !text.contains("srv"), "{text}");
    let name = id.to_string();
    assert!(world.node.handler().args(["show", &name]).run().exits(0).stdout.contains("progress 40 %"));

    says(&world, FINISHED);
    make_due(&world, id);
    world.run().exits(0);
    let (ret, stdout, stderr) = world.result(id);
    assert_eq!((ret, stderr.as_str()), (0, "oops\n"));
    assert_eq!(stdout, format!("begun\n{FINISHED}\n"));
    assert_eq!((calls(&world, "start").len(), calls(&world, "check").len()), (1, 2));
    world.check();

    // Both commands read the same record, and it is that of the protocol.
    let (start, checks) = (calls(&world, "start"), calls(&world, "check"));
    let (record, words) = start[0].rsplit_once(' ').unwrap();
    assert_eq!(words, "now");
    assert!(checks.iter().all(|check| check.trim_end() == record), "{checks:?}");
    let record: Value = serde_json::from_str(record).unwrap();
    let keys: Vec<_> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["args", "headers", "id", "kind"]);
    assert_eq!(record["args"], json!({"target": "it's /srv", "deep": {"a": [true], "b": 1}}));
    assert_eq!(record["kind"], "external.agent.replicante.io/backup.full");
    let groups: Vec<_> = record["id"].as_str().unwrap().split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert_eq!(record["headers"]["x-opensvc-action"], format!("{}:{id}.1", dialect.name()));
}

#[test]
fn both_commands_run_as_the_user_of_the_definition_and_read_what_they_are_given() {
    let world = world(Dialect::Rpc);
    let toml = |user: &str| {
        format!(
            "[external_actions.\"backup.full\"]\naction = [\"/bin/sh\", \"-c\", \"id -un; cat\"]\n\
             check = [\"/bin/sh\", \"-c\", 'read -r line; id -un >&2; echo \"{{\\\"status\\\":\\\"finished\\\"}}\"; case $line in *kind*) ;; *) exit 9 ;; esac']\n\
             interval = \"100ms\"\nuser = \"{user}\"\n"
        )
    };
    world.node.configure(&toml("daemon"));
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    let (ret, stdout, stderr) = world.result(id);
    let (who, given) = stdout.split_once('\n').unwrap();
    assert_eq!((ret, who, stderr.as_str()), (0, "daemon", "daemon\n"), "{stdout}");
    assert!(given.starts_with("{\"args\":{") && given.contains("it's /srv"), "{given}");
    let by_hand = world.node.handler().args(["external", "start", "backup.full"]).run();
    assert!(by_hand.exits(0).stderr.contains("daemon") || by_hand.stdout.contains("daemon"), "{by_hand:?}");
    world.check();

    world.node.configure(&toml("no-such-user-here"));
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    assert!(world.reason(id, 125).contains("\"no-such-user-here\", whom this machine does not know"));
    world.check();
}

#[test]
fn a_short_one_is_asked_after_while_the_handler_lingers() {
    let world = world(Dialect::Rpc);
    world.node.configure(&definition(&world.node, "backup.full", "interval = \"100ms\""));
    world.node.write("check", "if [ -e ${0%/*}/../second ]; then echo '{\"status\":\"finished\"}'; else : >${0%/*}/../second; echo '{\"status\":\"running\"}'; fi");
    let id = enqueue(&world, "external.agent.replicante.io/backup.full");
    world.run().exits(0);
    assert_eq!(world.result(id).0, 0);
    assert_eq!(calls(&world, "check").len(), 2);
    world.check();
}

#[test]
fn what_cannot_be_carried_out_is_refused_and_what_does_not_start_is_reported() {
    let world = world(Dialect::Oc3);
    let refused = [
        ("external backup.full", "requires the argument \"target\""),
        ("external backup.full {}", "requires the argument \"target\""),
        ("external other {}", "no external action \"other\""),
        ("external ../x {}", "no name of an external action"),
        ("external", "no name of an external action"),
        ("external backup.full {\"target\"", "one JSON value"),
    ];
    let ids: Vec<_> = refused.iter().map(|(command, _)| enqueue(&world, command)).collect();
    world.run().exits(0);
    for (id, (_, why)) in ids.into_iter().zip(refused) {
        let reason = world.reason(id, 125);
        assert!(reason.contains(why), "{reason}");
    }
    assert!(calls(&world, "start").is_empty());

    world.node.write("start", "echo no >&2; exit 3");
    let failed = enqueue(&world, ARGS);
    world.run().exits(0);
    assert_eq!(world.result(failed), (3, String::new(), "no\n".to_owned()));

    world.node.configure("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\"external\", \"backup.*\", \"**\"]\n");
    let denied = enqueue(&world, ARGS);
    world.run().exits(0);
    assert!(world.reason(denied, 125).contains("rule 1"));
    world.check();
}

#[test]
fn a_hanging_start_is_ended_at_its_own_timeout() {
    let world = world(Dialect::Rpc);
    world.node.configure(&definition(&world.node, "backup.full", "start_timeout = \"50ms\""));
    let _gate = world.node.gate("start-waits");
    let id = enqueue(&world, "external backup.full");
    world.run().exits(0);
    assert!(world.reason(id, 124).contains("50ms"));
    assert!(calls(&world, "check").is_empty());
    world.check();
}

#[test]
fn a_failure_is_reported_with_the_words_and_the_status_of_the_check() {
    let world = world(Dialect::Rpc);
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    says(&world, r#"{"status": "failed", "error": "disk full\nlast line", "exit_status": 9, "more": 1}"#);
    make_due(&world, id);
    world.run().exits(0);
    let (ret, _, stderr) = world.result(id);
    assert_eq!(ret, 9);
    assert_eq!(stderr, "disk full\nlast line\nopensvc-actions: its check says that it failed: disk full\n");
    world.check();
}

#[test]
fn a_check_that_fails_is_asked_again_and_given_up_in_the_end() {
    let world = world(Dialect::Rpc);
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    let bad = ["exit 1", "kill -9 $$", "echo nonsense", "echo '[\"finished\"]'", "echo '{\"status\":\"finished\"} x'"];
    for check in bad {
        world.node.write("check", check);
        make_due(&world, id);
        let said = world.run().exits(0).stderr.clone();
        assert!(said.contains("it is asked again"), "{said}");
    }
    let failures = status(&world)["running"][0]["external"]["failures"].clone();
    assert_eq!(failures, 5);
    // A check that hangs is ended, and one that prints without end is bounded.
    world.node.configure(&definition(&world.node, "backup.full", "interval = \"1h\"\ncheck_timeout = \"50ms\""));
    world.node.write("check", "sleep infinity");
    make_due(&world, id);
    world.run().exits(0);
    world.node.write("check", "yes");
    make_due(&world, id);
    world.run().exits(0);
    // One good answer makes good.
    world.node.configure(&definition(&world.node, "backup.full", "interval = \"1h\""));
    says(&world, RUNNING);
    make_due(&world, id);
    world.run().exits(0);
    assert_eq!(status(&world)["running"][0]["external"]["failures"], 0);

    world.node.write("check", "echo broken >&2; exit 1");
    change(&world, id, |outside| {
        (outside["failures"], outside["next_at"]["seconds"]) = (json!(9), json!(0));
        outside["failing_since"] = json!({"seconds": 1, "nanos": 0});
    });
    world.run().exits(0);
    let reason = world.reason(id, 254);
    assert!(reason.contains("10 times in a row: the check exited with status 1"), "{reason}");
    assert!(world.result(id).2.contains("broken\n"));
    world.check();
}

#[test]
fn at_its_timeout_it_is_asked_once_more() {
    for (check, ret) in [(RUNNING, 124), (FINISHED, 0)] {
        let world = world(Dialect::Oc3);
        let id = enqueue(&world, ARGS);
        world.run().exits(0);
        says(&world, check);
        change(&world, id, |outside| outside["started_at"]["seconds"] = json!(1));
        world.run().exits(0);
        assert_eq!(calls(&world, "check").len(), 1);
        assert_eq!(world.result(id).0, ret);
        if ret == 124 {
            assert!(world.reason(id, 124).contains("timeout of 6h; what its start command has started may still run"));
        }
        world.check();
    }
}

#[test]
fn one_of_a_name_runs_at_a_time_and_the_node_and_others_go_on() {
    let world = world(Dialect::Rpc);
    let definitions =
        [definition(&world.node, "a", "interval = \"1h\""), definition(&world.node, "b", "interval = \"1h\"")].concat();
    world.node.configure(&definitions);
    let [first, second, third] = ["external a 1", "external a 2", "external b 3"].map(|row| enqueue(&world, row));
    let node = world.enqueue("echo the-node");
    world.run().exits(0);
    assert_eq!(world.result(node).0, 0);
    let begun: Vec<_> = calls(&world, "start").iter().map(|call| call.chars().nth(8).unwrap()).collect();
    assert_eq!(begun, ['1', '3']);
    says(&world, FINISHED);
    make_due(&world, first);
    world.run().exits(0);
    assert_eq!(world.result(first).0, 0);
    assert_eq!(calls(&world, "start").len(), 3, "the second of its name follows at once");
    for id in [second, third] {
        make_due(&world, id);
    }
    world.run().exits(0);
    assert_eq!((world.result(second).0, world.result(third).0), (0, 0));
    world.check();
}

#[test]
fn it_goes_on_without_its_definition_without_an_agent_and_while_paused() {
    let world = world(Dialect::Rpc);
    world.node.remove("bin/om");
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    assert_eq!(calls(&world, "start").len(), 1, "no agent is needed for it");
    world.node.install_om();
    world.node.configure("");
    world.node.handler().arg("pause").run().exits(0);
    says(&world, FINISHED);
    make_due(&world, id);
    world.run().exits(0);
    assert_eq!(world.result(id).0, 0);
    world.check();
}

#[test]
fn cancelled_it_is_not_asked_after_any_more() {
    let world = world(Dialect::Rpc);
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    world.node.handler().args(["cancel", &id.to_string()]).run().exits(0);
    world.run().exits(0);
    assert!(world.reason(id, 130).contains("may still run"));
    assert!(calls(&world, "check").is_empty());
    world.check();
}

#[test]
fn reporting_alone_asks_after_it_and_starts_nothing() {
    let world = world(Dialect::Rpc);
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    let waiting = enqueue(&world, ARGS);
    says(&world, FINISHED);
    make_due(&world, id);
    world.node.handler().arg("report").run().exits(0);
    assert_eq!(world.result(id).0, 0);
    assert_eq!(calls(&world, "start").len(), 1);
    assert_eq!(world.collector.row(waiting).status, 'N');
}

#[test]
fn an_answer_that_a_killed_handler_has_heard_and_not_recorded_is_not_lost() {
    let world = world(Dialect::Rpc);
    let id = enqueue(&world, ARGS);
    world.run().exits(0);
    says(&world, FINISHED);
    make_due(&world, id);
    let mut gate = world.node.gate("check-waits");
    let handler = world.node.handler().start();
    let begun = world.node.path(&format!("var/actions/runs/rpc-{id}-1/check/claim"));
    while !begun.exists() || calls(&world, "check").is_empty() {
        std::thread::yield_now();
    }
    handler.signal(rustix::process::Signal::KILL);
    handler.wait();
    gate.open();
    world.node.wait_until_alone(&[]);
    world.node.write("check", "exit 1"); // what a second check would say
    world.run().exits(0);
    assert_eq!(calls(&world, "check").len(), 1);
    assert_eq!(world.result(id).0, 0);
    world.check();
}

#[test]
fn the_commands_get_the_environment_of_every_command() {
    let world = world(Dialect::Rpc);
    world.node.write("start", "env >${0%/*}/../seen");
    enqueue(&world, ARGS);
    world.node.handler().env("SECRET_TOKEN", "x").env("OSVC_CONTEXT", "y").run().exits(0);
    let seen = fs::read_to_string(world.node.path("seen")).unwrap();
    assert!(seen.contains("PATH=") && !seen.contains("SECRET_TOKEN") && !seen.contains("OSVC_CONTEXT"), "{seen}");
}

#[test]
fn by_hand_it_is_listed_started_and_asked_after() {
    let world = world(Dialect::Rpc);
    world.node.write("start", "echo begun");
    says(&world, RUNNING);
    let external = |words: &[&str]| world.node.handler().arg("external").args(words).run();
    assert!(external(&["list"]).exits(0).stdout.contains("backup.full"));
    let list: Value = serde_json::from_str(&external(&["list", "--json"]).exits(0).stdout).unwrap();
    assert_eq!(list["external_actions"][0]["kind"], "external.agent.replicante.io/backup.full");
    external(&["start", "backup.full"]).exits(64);
    external(&["start", "other"]).exits(64);
    external(&["start", "backup.full", "{}", "--id", "../x"]).exits(64);
    let stdout = external(&["start", "backup.full", r#"{"target": 1}"#]).exits(0).stdout.clone();
    let id = stdout.strip_prefix("begun\n").unwrap().trim();
    assert_eq!(external(&["check", "backup.full", id, r#"{"target": 1}"#]).exits(0).stdout.trim(), RUNNING);
    assert!(calls(&world, "start")[0].contains(id) && calls(&world, "check")[0].contains(id));
    world.node.write("check", "exit 1");
    external(&["check", "backup.full", id, r#"{"target": 1}"#]).exits(64);
    // plan shows what would be executed
    world.node.write("rows", r#"{"actions": [{"id": 1, "command": "external backup.full {\"target\": 1}"}, {"id": 2, "command": "external x"}]}"#);
    let plan = world.node.handler().args(["plan", "--json"]).arg(world.node.path("rows")).run().exits(0).stdout.clone();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["actions"][0]["argv"][1], "now");
    assert_eq!(plan["actions"][0]["timeout_seconds"], 21600.0);
    assert_eq!(plan["actions"][1]["verdict"], "deny");
}

#[test]
fn a_command_that_does_not_read_its_record_is_no_failure_and_leaves_no_zombie() {
    let world = world(Dialect::Rpc);
    let words = "[external_actions.\"backup.full\"]\naction = [\"/bin/true\"]\n";
    world
        .node
        .configure(&format!("{words}check = [\"/bin/echo\", '{{\"status\": \"finished\"}}']\ninterval = \"100ms\"\n"));
    let id = enqueue(&world, &format!(r#"external backup.full "{}""#, "x".repeat(32_000)));
    world.run().exits(0);
    assert_eq!(world.result(id), (0, "{\"status\": \"finished\"}\n".to_owned(), String::new()));
    let longer = enqueue(&world, &format!(r#"external backup.full "{}""#, "x".repeat(33_000)));
    world.run().exits(0);
    assert!(world.reason(longer, 125).contains("longer than 32 KiB"));
    world.check();
}
