//! Files that are not what they should be.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use super::*;
use crate::action::admission::State;
use crate::ledger::LedgerError;

fn set_aside(state: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.to_string_lossy().contains("ledger-damaged-")).collect();
    found.sort();
    found
}

/// A ledger that somebody has damaged, opened again with one run directory there.
fn reopened_after(damage: impl FnOnce(&Path)) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    ledger.receive(Queue::Rpc, HERE, &answer([row(1, RowStatus::Waiting)]), at(5)).unwrap();
    ledger.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(ledger);
    damage(&dir.path().join("ledger.sqlite"));
    let ledger = Ledger::open(dir.path(), at(1000), || Ok(vec![key(1, 1)])).unwrap();
    (dir, ledger)
}

fn is_replaced(damage: impl FnOnce(&Path)) {
    let (dir, mut ledger) = reopened_after(damage);
    let aside = set_aside(dir.path());
    assert_eq!(aside[0].file_name().unwrap(), "ledger-damaged-19700101T001640000Z.sqlite");
    let started = ledger.in_state(State::Started).unwrap();
    assert_eq!(started.iter().map(|record| record.key).collect::<Vec<_>>(), [key(1, 1)]);
    assert!(started[0].refused.is_some(), "it must never run: nobody knows what it was");
    // What is known from its run directory is recognised by its id alone.
    let admitted = ledger.receive(Queue::Rpc, HERE, &answer([row(1, RowStatus::Sent)]), at(1001)).unwrap();
    assert_eq!(admitted.acknowledge, [ActionId(1)]);
    assert!(admitted.new.is_empty());
    // What was forgotten is not run when it is sent again, and what is new runs.
    let rows = [row(2, RowStatus::Sent), row(3, RowStatus::Waiting)];
    let admitted = ledger.receive(Queue::Rpc, HERE, &answer(rows), at(1002)).unwrap();
    assert_eq!((admitted.new, admitted.report), (vec![key(3, 1)], vec![key(2, 1)]));
    assert_eq!(ledger.result(key(2, 1)).unwrap().unwrap().1.ret, 254);
    // A day and the first answer after it later all is as ever.
    for (id, expected) in [(4, vec![]), (5, vec![key(5, 1)])] {
        let later = at(1000 + 27 * 3600);
        let admitted = ledger.receive(Queue::Rpc, HERE, &answer([row(id, RowStatus::Sent)]), later).unwrap();
        assert_eq!(admitted.new, expected);
    }
    drop(ledger);
    open(dir.path());
    assert_eq!(set_aside(dir.path()), aside);
}

#[test]
fn a_file_that_is_no_database_is_replaced() {
    is_replaced(|path| fs::write(path, "not a database at all, but text ".repeat(200)).unwrap());
}

#[test]
fn a_file_whose_beginning_is_damaged_is_replaced() {
    is_replaced(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[..100].fill(0x55);
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn somebody_else_s_database_is_replaced() {
    is_replaced(|path| {
        fs::remove_file(path).unwrap();
        Connection::open(path).unwrap().execute_batch("CREATE TABLE contact (name TEXT)").unwrap();
    });
}

#[test]
fn a_ledger_that_is_gone_while_its_log_is_there_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    ledger.receive(Queue::Rpc, HERE, &answer([row(1, RowStatus::Waiting)]), at(5)).unwrap();
    drop(ledger);
    fs::write(dir.path().join("ledger.sqlite"), "").unwrap();
    let ledger = open(dir.path());
    assert!(ledger.in_state(State::Received).unwrap().is_empty());
    assert!(!set_aside(dir.path()).is_empty());
}

#[test]
fn damage_that_shows_later_is_found_out_and_the_next_start_replaces_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.connection.execute_batch("DROP TABLE action").unwrap();
    let err = ledger.in_state(State::Started).unwrap_err();
    ledger.retire_if_damaged(&err, at(7)).unwrap();
    assert_eq!(set_aside(dir.path()).len(), 3, "the file, its log and the log's index");
    open(dir.path()).in_state(State::Started).unwrap();
}

#[test]
fn an_odd_error_of_a_sound_ledger_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let error = ledger.connection.execute("INSERT INTO lost VALUES ('rpc', NULL)", []).unwrap_err();
    ledger.retire_if_damaged(&LedgerError::Sqlite { path: PathBuf::new(), error }, at(7)).unwrap();
    assert!(set_aside(dir.path()).is_empty());
}

#[test]
fn a_newer_ledger_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.sqlite");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 3; CREATE TABLE x (y)").unwrap();
    let before = fs::read(&path).unwrap();
    let opened = Ledger::open(dir.path(), at(0), || Ok(Vec::new()));
    assert!(matches!(opened, Err(LedgerError::Newer { found: 3, known: 2, .. })), "{opened:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_reserve_is_made_given_up_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.hold_reserve().unwrap();
    ledger.hold_reserve().unwrap();
    assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 1 << 20);
    assert!(ledger.give_up_reserve());
    assert!(!ledger.give_up_reserve());
    ledger.hold_reserve().unwrap();
}

#[test]
fn the_start_of_a_run_does_not_read_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let plan: Vec<String> = ledger
        .connection
        .prepare(&format!(
            "EXPLAIN QUERY PLAN SELECT 1 FROM action WHERE {} AND state = ?1 ORDER BY rowid",
            crate::ledger::schema::OPEN
        ))
        .unwrap()
        .query_map(["started"], |row| row.get(3))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("INDEX action_open (state=?)"), "{plan:?}");
}
