//! What is told beside what has to be known: it rides along, it is bounded, and it goes with its action.

use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::action::usage::Usage;
use crate::config::Retention;
use crate::ledger::retention::Bounds;
use crate::ledger::schema;
use crate::ledger::story::{Acknowledged, Attempt, Note, Step, Story};
use crate::ledger::view::{View, Wanted, history};

fn story(dir: &Path, key: ActionKey) -> Story {
    View::open(dir).unwrap().unwrap().story(key).unwrap()
}

fn received(ids: impl IntoIterator<Item = i64>) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let rows = ids.into_iter().map(|id| row(id, RowStatus::Waiting));
    ledger.receive(Queue::Rpc, HERE, &answer(rows), at(5)).unwrap();
    (dir, ledger)
}

#[test]
fn what_was_noted_is_written_with_the_next_commit_and_not_before() {
    let (dir, mut ledger) = received([1, 2]);
    let usage =
        Usage { of_group: true, user_usec: 7, memory_peak: Some(u64::MAX), oom_kills: Some(2), ..Usage::default() };
    let ids = vec![ActionId(1), ActionId(2), ActionId(99)];
    ledger.note(Note::Acknowledged(Queue::Rpc, ids.clone(), at(6), Acknowledged::AfterFetch));
    ledger.note(Note::Decided(key(1, 1), "rule 1".to_owned()));
    ledger.note(Note::RunsAs(key(1, 1), "backup".to_owned()));
    ledger.note(Note::Launched(key(1, 1), "direct".to_owned()));
    ledger.note(Note::Used(key(1, 1), usage.clone()));
    assert!(story(dir.path(), key(1, 1)).acknowledged.is_none());
    finish(&mut ledger, key(1, 1), 0);
    let told = story(dir.path(), key(1, 1));
    assert_eq!(told.acknowledged, Some((at(6), Acknowledged::AfterFetch)));
    let texts = [told.rule, told.user, told.launcher];
    assert_eq!(texts.map(Option::unwrap), ["rule 1", "backup", "direct"]);
    let memory_peak = u64::try_from(i64::MAX).ok();
    assert_eq!(told.usage, Some(Usage { memory_peak, ..usage }));
    assert_eq!(story(dir.path(), key(2, 1)).acknowledged, Some((at(6), Acknowledged::AfterFetch)));
    // The first acknowledgement is the one that counts.
    ledger.note(Note::Acknowledged(Queue::Rpc, ids, at(60), Acknowledged::AtStart));
    ledger.write_notes().unwrap();
    assert_eq!(story(dir.path(), key(1, 1)).acknowledged.unwrap().0, at(6));
    assert!(story(dir.path(), key(99, 1)).acknowledged.is_none());
}

#[test]
fn of_many_attempts_the_first_and_the_last_are_kept_and_all_are_counted() {
    let (dir, mut ledger) = received([1]);
    for number in 1..=20 {
        ledger.note(Note::Failed(key(1, 1), Step::Report, at(number), format!("no. {number}")));
        ledger.write_notes().unwrap();
    }
    ledger.note(Note::Failed(key(1, 1), Step::Start, at(3), "é".repeat(400)));
    ledger.note(Note::Unacknowledged(Queue::Rpc, vec![ActionId(1)], at(2), "not now".to_owned()));
    ledger.note(Note::Failed(key(7, 1), Step::Report, at(3), "nobody's".to_owned()));
    ledger.write_notes().unwrap();
    let attempts = story(dir.path(), key(1, 1)).attempts;
    let steps: Vec<_> = attempts.iter().map(|attempt| (attempt.step, attempt.number)).collect();
    let reports = [1, 2, 3, 18, 19, 20].map(|number| (Step::Report, number));
    assert_eq!(steps, [&[(Step::Acknowledge, 1), (Step::Start, 1)][..], &reports].concat());
    assert_eq!(attempts[1].error.len(), 500);
    let last = View::open(dir.path()).unwrap().unwrap().last_attempt(key(1, 1), Step::Report).unwrap();
    assert_eq!(last, Some(Attempt { step: Step::Report, number: 20, at: at(20), error: "no. 20".to_owned() }));
    assert_eq!(story(dir.path(), key(7, 1)).attempts, []);
}

#[test]
fn the_story_is_forgotten_with_its_action() {
    let (dir, mut ledger) = received([1, 2]);
    for id in [1, 2] {
        ledger.note(Note::Failed(key(id, 1), Step::Report, at(3), "no".to_owned()));
        finish(&mut ledger, key(id, 1), 0);
    }
    ledger.commit(&[Change::Reported(key(1, 1), at(30))]).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let retention = Retention { unreported: day, history: day, kept_output: 0 };
    ledger.prune(&retention, Bounds::default(), at(48 * 3600)).unwrap();
    assert_eq!(story(dir.path(), key(1, 1)).attempts, []);
    assert_eq!(story(dir.path(), key(2, 1)).attempts.len(), 1);
}

fn schema_of(connection: &Connection) -> Vec<(String, String)> {
    let mut query =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_ledger_of_every_earlier_format_is_brought_up_to_date_with_all_that_is_in_it() {
    let new = tempfile::tempdir().unwrap();
    let expected = schema_of(&open(new.path()).connection);
    for version in 1..schema::STEPS.len() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
        old.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        schema::STEPS[..version].iter().for_each(|step| old.execute_batch(step).unwrap());
        old.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
        old.execute_batch(
            "INSERT INTO action (queue, id, generation, endpoint, state, command, svc_id, svcname, received_at, boot_id,
                                 started_at, finished_at, reported_at, ret, stdout, stderr)
             VALUES ('rpc', 1, 1, 'https://c/feeder', 'reported', 'do 1', '', '', 5000, 'b', 6000, 7000, 8000, 3, 'o', 'e'),
                    ('rpc', 2, 1, 'https://c/feeder', 'started', 'do 2', '', '', 5000, 'b', 6000, NULL, NULL, NULL, NULL, NULL);
             INSERT INTO tombstone VALUES ('rpc', 3, 1, 7, NULL);",
        )
        .unwrap();
        drop(old);
        assert!(matches!(View::open(dir.path()), Err(crate::ledger::LedgerError::Older { found: 1, .. })));
        let mut ledger = open(dir.path());
        assert_eq!(schema_of(&ledger.connection), expected, "from format {version}");
        let now: i64 = ledger.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(now, schema::VERSION);
        assert_eq!(ledger.result(key(1, 1)).unwrap().unwrap().1.stdout, "o");
        ledger.note(Note::Launched(key(2, 1), "direct".to_owned()));
        ledger.commit(&[Change::Finished(key(2, 1), outcome(0))]).unwrap();
        assert_eq!(story(dir.path(), key(2, 1)).launcher.unwrap(), "direct");
        assert!(story(dir.path(), key(1, 1)).usage.is_none());
        drop(ledger);
        open(dir.path()); // and nothing is done twice
    }
}

#[test]
fn the_history_of_a_hundred_thousand_actions_is_read_from_its_index() {
    let (dir, ledger) = received([]);
    ledger
        .connection
        .execute_batch(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO action (queue, id, generation, endpoint, state, command, svc_id, svcname, received_at, started_at,
                                 finished_at, reported_at, ret, stdout, stderr)
             SELECT 'rpc', i, 1, 'https://c/feeder', 'reported', 'do', '', '', i, i, i * 10, i * 10, i = 500, '', '' FROM n",
        )
        .unwrap();
    let plan = |query: &str| -> Vec<String> {
        let mut query = ledger.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let rows = query.query_map([i64::MIN, 10], |row| row.get(3)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    // One step each: nothing is sorted, and nothing else is read.
    assert_eq!(plan(&history(false)), ["SEARCH action USING INDEX action_end (<expr>>?)"]);
    assert_eq!(plan(&history(true)), ["SEARCH action USING INDEX action_failed (<expr>>?)"]);
    let view = View::open(dir.path()).unwrap().unwrap();
    let wanted = |failed, since| {
        let entries = view.history(Wanted { limit: 3, failed, since }).unwrap();
        entries.into_iter().map(|entry| entry.key.id.0).collect::<Vec<_>>()
    };
    assert_eq!(wanted(false, None), [100_000, 99_999, 99_998]);
    assert_eq!(wanted(true, None), [500]);
    assert_eq!(wanted(false, Some(at(1000))), [100_000]);
}
