//! What becomes of rows, step by step.

use std::time::Duration;

use super::*;
use crate::action::admission::State;
use crate::config::Retention;
use crate::ledger::retention::Bounds;

const HOUR: i64 = 3600;
const RETENTION: Retention =
    Retention { unreported: Duration::from_secs(3600), history: Duration::from_secs(24 * 3600), kept_output: 0 };

struct World {
    _dir: tempfile::TempDir,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { ledger: open(dir.path()), _dir: dir }
    }

    fn receive(&mut self, row: QueuedAction) -> crate::ledger::Admitted {
        self.ledger.receive(Queue::Rpc, HERE, &answer([row]), at(5)).unwrap()
    }

    fn reported(&mut self, key: ActionKey, ret: i32) {
        finish(&mut self.ledger, key, ret);
        self.ledger.commit(&[Change::Reported(key, at(30))]).unwrap();
    }

    fn state(&self, key: ActionKey) -> Option<State> {
        let found = self.ledger.connection.query_row(
            "SELECT state FROM action WHERE id = ?1 AND generation = ?2",
            [key.id.0, key.generation.into()],
            |row| row.get::<_, String>(0),
        );
        found.ok().and_then(|name| State::from_name(&name))
    }

    fn prune(&mut self, bounds: Bounds, now: i64) {
        self.ledger.prune(&RETENTION, bounds, at(now)).unwrap();
    }

    fn count(&self, table: &str) -> i64 {
        self.ledger.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn a_forgotten_action_that_is_sent_again_is_answered_and_not_run() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    world.reported(key(1, 1), 3);
    world.prune(Bounds::default(), 48 * HOUR);
    assert_eq!((world.count("action"), world.count("tombstone")), (0, 1));
    let admitted = world.receive(row(1, RowStatus::Sent));
    assert_eq!((admitted.new.len(), admitted.report), (0, vec![key(1, 1)]));
    let (endpoint, result) = world.ledger.result(key(1, 1)).unwrap().unwrap();
    assert_eq!((endpoint.as_str(), result.ret), (HERE, 254));
    assert!(result.stderr.ends_with("its result expired here"), "{}", result.stderr);
}

#[test]
fn a_redo_of_a_forgotten_action_is_a_new_generation() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    world.reported(key(1, 1), 3);
    world.prune(Bounds::default(), 48 * HOUR);
    assert_eq!(world.receive(row(1, RowStatus::Notified)).new, [key(1, 2)]);
}

#[test]
fn tombstones_are_small_and_bounded_and_the_oldest_go_first() {
    let mut world = World::new();
    for id in 1..=20 {
        world.receive(row(id, RowStatus::Waiting));
        world.reported(key(id, 1), 0);
    }
    let bounds = Bounds { tombstones: 5, ..Bounds::default() };
    world.prune(bounds, 48 * HOUR);
    assert_eq!((world.count("action"), world.count("tombstone")), (0, 5));
    assert_eq!(world.receive(row(20, RowStatus::Sent)).new, []);
    assert_eq!(world.receive(row(15, RowStatus::Sent)).new, [key(15, 1)]);

    let many = 20_000;
    let grow = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                INSERT INTO tombstone SELECT 'oc3', 4000000000 + i, 1, i * 123456789123456, 1795251603 + i FROM n";
    let pages = || -> i64 { world.ledger.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap() };
    let before = pages();
    world.ledger.connection.execute(grow, [many]).unwrap();
    assert!((pages() - before) * 4096 / many < 100, "{} bytes each", (pages() - before) * 4096 / many);
}

#[test]
fn the_history_is_bounded_in_number_and_only_complete_actions_go() {
    let mut world = World::new();
    for id in 1..=10 {
        world.receive(row(id, RowStatus::Waiting));
        if id != 2 {
            world.reported(key(id, 1), 0);
        }
    }
    world.prune(Bounds { actions: 4, ..Bounds::default() }, 60);
    let kept: Vec<_> = (1..=10).filter(|id| world.state(key(*id, 1)).is_some()).collect();
    assert_eq!(kept, [2, 7, 8, 9, 10]);
    world.prune(Bounds { at_once: 3, ..Bounds::default() }, 48 * HOUR);
    assert_eq!(world.count("action"), 2, "a bounded part at once");
}

#[test]
fn outputs_go_first_and_the_result_stays() {
    let mut world = World::new();
    for id in 1..=40 {
        world.receive(row(id, RowStatus::Waiting));
        let output = Outcome { stdout: "x".repeat(50_000), ..outcome(7) };
        world.ledger.commit(&[Change::Finished(key(id, 1), output)]).unwrap();
        world.ledger.commit(&[Change::Reported(key(id, 1), at(30))]).unwrap();
    }
    world.prune(Bounds { bytes: 1_500_000, ..Bounds::default() }, 60);
    let (_, oldest) = world.ledger.result(key(1, 1)).unwrap().unwrap();
    assert_eq!((oldest.ret, oldest.stdout.as_str(), oldest.stderr.as_str()), (7, "", crate::ledger::NO_OUTPUT));
    assert_eq!(world.count("action"), 40);
    let kept: i64 = world.count("action WHERE stdout IS NOT NULL");
    assert!((1..30).contains(&kept), "{kept} outputs are kept");
}

#[test]
fn a_result_that_nobody_accepts_in_time_is_given_up_and_still_answers_a_row_that_is_sent_again() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    finish(&mut world.ledger, key(1, 1), 3);
    assert_eq!(world.ledger.expire(&RETENTION, at(HOUR)).unwrap(), []);
    assert_eq!(world.ledger.expire(&RETENTION, at(HOUR + 60)).unwrap(), [key(1, 1)]);
    assert!(!world.ledger.is_open(key(1, 1)).unwrap());
    assert_eq!(world.receive(row(1, RowStatus::Sent)).report, [key(1, 1)]);
    assert_eq!(world.ledger.result(key(1, 1)).unwrap().unwrap().1, outcome(3));
    world.ledger.commit(&[Change::Reported(key(1, 1), at(8000))]).unwrap();
    assert_eq!(world.state(key(1, 1)), Some(State::Reported));
}

#[test]
fn a_reused_id_supersedes_what_waits_and_what_runs() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    let other = QueuedAction { command: "other".to_owned(), ..row(1, RowStatus::Waiting) };
    assert_eq!(world.receive(other.clone()).new, [key(1, 2)]);
    assert_eq!(world.state(key(1, 1)), Some(State::Superseded));
    let start = |generation| Change::Started(key(1, generation), at(10), "boot".to_owned());
    assert_eq!(world.ledger.commit(&[start(1)]).unwrap(), [key(1, 1)], "it must not start any more");

    world.ledger.commit(&[start(2)]).unwrap();
    assert_eq!(world.receive(row(1, RowStatus::Sent)).new, [key(1, 3)]);
    assert_eq!(world.state(key(1, 2)), Some(State::Started), "it runs, and somebody has to see to its end");
    world.ledger.commit(&[Change::Finished(key(1, 2), outcome(0))]).unwrap();
    assert_eq!(world.state(key(1, 2)), Some(State::Superseded));
    assert_eq!(world.ledger.result(key(1, 2)).unwrap(), None);
}

#[test]
fn a_newer_result_ends_the_older_ones_and_older_ones_are_posted_first() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    world.ledger.commit(&[Change::Started(key(1, 1), at(10), "boot".to_owned())]).unwrap();
    assert_eq!(world.receive(row(1, RowStatus::Waiting)).new, [key(1, 2)]);
    world.ledger.commit(&[Change::Finished(key(1, 1), outcome(1))]).unwrap();
    finish(&mut world.ledger, key(1, 2), 2);
    assert_eq!(world.receive(row(1, RowStatus::Sent)).report, [key(1, 1), key(1, 2)]);
    assert_eq!(world.receive(row(1, RowStatus::Waiting)).report_first, [key(1, 1), key(1, 2)]);
    world.ledger.commit(&[Change::Reported(key(1, 2), at(30))]).unwrap();
    assert_eq!(world.state(key(1, 1)), Some(State::Superseded));
}

#[test]
fn a_row_of_a_restored_database_is_answered_and_a_redo_runs() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Notified));
    world.reported(key(1, 1), 3);
    assert_eq!(world.receive(row(1, RowStatus::Notified)).report, [key(1, 1)]);
    let redo = QueuedAction { earlier_ret: Some(3), ..row(1, RowStatus::Waiting) };
    assert_eq!(world.receive(redo).new, [key(1, 2)]);
}

#[test]
fn a_collector_that_has_moved_gets_the_results_of_what_it_hands_out() {
    let mut world = World::new();
    world.receive(row(1, RowStatus::Waiting));
    let there = "https://d/feeder";
    world
        .ledger
        .receive(Queue::Rpc, there, &answer([row(1, RowStatus::Sent), row(2, RowStatus::Sent)]), at(6))
        .unwrap();
    finish(&mut world.ledger, key(1, 1), 3);
    assert_eq!(world.ledger.result(key(1, 1)).unwrap().unwrap().0, there);
}
