//! What `--json` prints: the members that the manual lists, all of them and no other, so that a script can rely on them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::collector::register::USER;
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// The members that the manual lists for a command, or for an action.
fn documented(name: &str) -> BTreeSet<String> {
    let sections = include_str!("../../man/opensvc-actions.8.sections");
    let section = sections.split(".SH JSON\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let of_it = |entry: &&str| entry.lines().next().is_some_and(|line| line.trim_start_matches(".B ") == name);
    let entry = section.split(".TP\n").find(|entry| of_it(&entry.replace("\\-", "-").as_str())).unwrap();
    let mut found = BTreeSet::new();
    for line in entry.lines().skip(1) {
        let Some((name, words)) = line.split_once(' ').filter(|(name, _)| name.starts_with(".B") || *name == ".RB")
        else {
            continue;
        };
        // Arguments are separated by blanks, but within quotes; every other one is bold.
        let mut arguments = Vec::new();
        for (index, part) in words.split('"').enumerate() {
            if index % 2 == 1 { arguments.push(part) } else { arguments.extend(part.split_whitespace()) }
        }
        let bold = |index: usize| name == ".B" || (index % 2 == 0) == (name == ".BR");
        let names = arguments.into_iter().enumerate().filter(|(index, _)| bold(*index)).map(|(_, name)| name);
        found.extend(names.filter(|name| !name.starts_with("\\-")).map(str::to_owned));
    }
    assert!(!found.is_empty(), "{name}");
    found
}

/// All members of a document, and of what is in it.
fn members(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                members(value, found);
            }
        }
        Value::Array(list) => {
            for value in list {
                members(value, found);
            }
        }
        _ => {}
    }
}

fn seen(documents: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for document in documents {
        members(document, &mut found);
    }
    found
}

fn ask(world: &World, words: &str) -> Value {
    let ended = world.node.handler().arg("--json").args(words.split(' ')).run();
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

/// Adds a section to `node.conf`.
fn add_to_conf(world: &World, text: &str) {
    let conf = fs::read_to_string(world.node.path("etc/node.conf")).unwrap();
    world.node.write("etc/node.conf", conf + text);
}

#[track_caller]
fn same(command: &str, documents: &[Value], documented: &BTreeSet<String>) {
    assert_eq!(&seen(documents), documented, "{command}: left: printed, right: in the manual");
}

both!(the_manual_lists_the_members_of_every_document);
fn the_manual_lists_the_members_of_every_document(dialect: Dialect) {
    let world = World::new(dialect);
    let action = documented("An action");
    let with = |names: &BTreeSet<String>| action.union(names).cloned().collect::<BTreeSet<_>>();

    // An action with everything: a long output, a result that nobody wants, a fetch that fails.
    world.node.configure("[[policy.rule]]\nverdict = \"allow\"\ncommand = [\"*\", \"planned\"]\n");
    world.node.write("long", "x".repeat(200 << 10));
    let id = world.enqueue("cat long");
    world.collector.fail(Call::Report, When::Always, Fault::status(503));
    world.run().exits(75);
    same("show", &[ask(&world, &format!("show {id}"))], &with(&documented("show")));
    same("history", &[ask(&world, "history")], &action);

    world.collector.fail(Call::Fetch, When::Always, Fault::status(503));
    world.run().exits(75);
    let unreachable = ask(&world, "status");
    world.collector.heal();
    let gate = world.node.gate("gate");
    let running = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(running);
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    let pause = ask(&world, "pause --for 1h --reason why");
    same("pause", &[pause], &documented("pause"));
    add_to_conf(&world, "[dequeue_actions]\nschedule = [\"@1\", \"nonsense\"]\n");
    fs::create_dir_all(world.node.path("var/lsnr")).unwrap();
    let socket = if dialect == Dialect::Oc3 { "http.sock" } else { "lsnr.sock" };
    let daemon = UnixListener::bind(world.node.path(&format!("var/lsnr/{socket}"))).unwrap();
    let busy = ask(&world, "status");
    drop(daemon);
    same("status", &[unreachable, busy], &with(&documented("status")));

    same("resume", &[ask(&world, "resume")], &documented("resume"));
    same("cancel", &[ask(&world, &format!("cancel {running}"))], &documented("cancel"));
    let rows = world.node.write("rows.json", r#"{"actions": [{"id": 1, "command": "%1 planned"}]}"#);
    same("plan", &[ask(&world, &format!("plan {}", rows.display()))], &documented("plan"));
    same("show-config", &[ask(&world, "show-config")], &documented("show-config"));
    drop(gate);
    world.run().exits(0);
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
    world.node.write("password", format!("{}\n", USER.1));
    let register =
        format!("register --force --user {} --password-file {}", USER.0, world.node.path("password").display());
    same("register", &[ask(&world, &register)], &documented("register"));
}
