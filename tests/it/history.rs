//! A node on which much has happened: what people ask is answered from indices, beside a handler and without one.

use rusqlite::Connection;
use serde_json::Value;

use crate::support::node::Node;
use crate::support::process::Ended;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// So many actions have ended here.
const MANY: i64 = 100_000;

/// Gives the node a long past, which ends with action 900000. Every hundredth action has failed.
fn grow_old(world: &World) {
    let ledger = Connection::open(world.node.path("var/actions/ledger.sqlite")).unwrap();
    let grow = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
        INSERT INTO action (queue, id, generation, endpoint, state, command, svc_id, svcname, received_at, started_at,
                            finished_at, reported_at, ret, stdout, stderr)
        SELECT ?1, 900000 - ?2 + i, 1, 'https://c/feeder', 'reported', 'do --this ' || i, '', '', 1000 * i, 1000 * i,
               1000 * i + 5, 1000 * i + 9, i % 100 = 0, 'out', '' FROM n";
    ledger.execute(grow, rusqlite::params![world.dialect.name(), MANY]).unwrap();
}

fn ask(node: &Node, words: &str) -> Ended {
    node.handler().args(words.split(' ')).run()
}

/// How many pages of the ledger a question takes, and what was answered.
fn pages(world: &World, words: &str) -> (usize, String) {
    let trace = world.node.path("pages");
    let options = ["-f", "-qq", "-e", "trace=pread64", "-e", "signal=none", "-o"];
    let ended = world.node.handler().args(words.split(' ')).under("strace", &options, &trace).run();
    let calls = std::fs::read_to_string(&trace).unwrap();
    (calls.lines().filter(|line| line.contains("pread64(")).count(), ended.exits(0).stdout.clone())
}

fn ids(lines: &str) -> Vec<i64> {
    let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    documents.map(|document| document["id"].as_i64().unwrap()).collect()
}

fn answers_from_indices(world: &World) {
    for (words, most) in [
        ("history --json --limit 3", 100),
        ("history --json --limit 3 --failed", 100),
        ("history --json --limit 3 --since 1970-01-02T03:00Z", 100),
        ("show --json 850000", 100),
        ("status --json", 100),
    ] {
        let (pages, answer) = pages(world, words);
        assert!(pages < most, "{words}: {pages} pages were read");
        assert!(answer.contains("\"id\"") || words.starts_with("status"), "{words}: {answer}");
    }
    let failed = ids(&ask(&world.node, "history --json --failed --limit 2").exits(0).stdout);
    assert_eq!(failed, [900_000, 899_900]);
    let shown: Value = serde_json::from_str(&ask(&world.node, "show --json 850000").exits(0).stdout).unwrap();
    assert_eq!((&shown["command"], &shown["ret"]), (&"do --this 50000".into(), &1.into()));
}

both!(a_hundred_thousand_actions_of_history_are_in_nobodys_way);
fn a_hundred_thousand_actions_of_history_are_in_nobodys_way(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    grow_old(&world);
    answers_from_indices(&world);
    assert_eq!(ids(&ask(&world.node, "history --json --limit 3").exits(0).stdout), [900_000, 899_999, 899_998]);
    // The same beside a handler, which works on.
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    answers_from_indices(&world);
    let status: Value = serde_json::from_str(&ask(&world.node, "status --json").exits(0).stdout).unwrap();
    assert_eq!((&status["running"][0]["id"], &status["handler"]), (&id.into(), &handler.pid().into()));
    gate.open();
    handler.wait().exits(0);
    assert_eq!(ids(&ask(&world.node, "history --json --limit 1").exits(0).stdout), [id]);
}

#[test]
fn on_a_terminal_a_table_is_as_wide_as_the_terminal_and_elsewhere_nothing_is_cut() {
    let world = World::new(Dialect::Oc3);
    let command = format!("echo done {}", "--with-a-long-option ".repeat(20));
    world.enqueue_for("svc1", &command);
    world.run().exits(0);
    let piped = ask(&world.node, "history").exits(0).stdout.clone();
    assert_eq!(piped.matches("--with-a-long-option").count(), 20);
    let header: Vec<_> = piped.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ENDED", "AGO", "RESULT", "TOOK", "ACTION", "COMMAND"]);
    for columns in [80, 100] {
        let on_screen = |words: &str| {
            let asked =
                world.node.handler().args(words.split(' ')).terminal().env("COLUMNS", columns.to_string()).run();
            asked.exits(0).stdout.replace('\r', "")
        };
        let table = on_screen("history");
        let row = table.lines().nth(1).unwrap();
        assert!(row.ends_with('…') && row.chars().count() == columns, "{table}");
        assert_eq!(table.lines().count(), 2, "{table}");
        // What tells a story is not cut.
        let story = on_screen("show 601");
        assert_eq!(story.matches("--with-a-long-option").count(), 20, "{story}");
        assert!(story.lines().all(|line| line.chars().count() <= columns), "{story}");
    }
    let exact = world.node.handler().arg("history").terminal().env("COLUMNS", "0").run();
    assert_eq!(
        exact.exits(0).stdout.matches("--with-a-long-option").count(),
        20,
        "a terminal without a size cuts nothing"
    );
}
