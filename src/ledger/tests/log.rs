//! The log beside the database: every process that opens the ledger reads it from its beginning to its end.

use super::*;

fn bytes_of_log(state: &Path) -> u64 {
    std::fs::metadata(state.join("ledger.sqlite-wal")).unwrap().len()
}

/// Takes actions all the way until the log is a long one.
fn make_long(ledger: &mut Ledger, state: &Path) {
    for id in 1.. {
        ledger.receive(Queue::Rpc, HERE, &answer([row(id, RowStatus::Waiting)]), at(1)).unwrap();
        finish(ledger, key(id, 1), 0);
        ledger.commit(&[Change::Reported(key(id, 1), at(30))]).unwrap();
        if bytes_of_log(state) > 256 << 10 {
            return;
        }
        let before = bytes_of_log(state);
        ledger.shorten_log().unwrap();
        assert_eq!(bytes_of_log(state), before, "a short log is left alone");
    }
}

#[test]
fn a_busy_run_leaves_no_long_log_for_all_idle_ones_after_it() {
    let state = tempfile::tempdir().unwrap();
    let mut ledger = open(state.path());
    make_long(&mut ledger, state.path());
    ledger.shorten_log().unwrap();
    assert_eq!(bytes_of_log(state.path()), 0);
    assert_eq!(ledger.result(key(1, 1)).unwrap(), Some((HERE.to_owned(), outcome(0))));
    drop(ledger);
    let ledger = open(state.path());
    assert_eq!(ledger.result(key(1, 1)).unwrap(), Some((HERE.to_owned(), outcome(0))));
}

#[test]
fn who_reads_in_a_long_log_is_not_disturbed_and_holds_nobody_up() {
    let state = tempfile::tempdir().unwrap();
    let mut ledger = open(state.path());
    make_long(&mut ledger, state.path());
    let reader = rusqlite::Connection::open(state.path().join("ledger.sqlite")).unwrap();
    let count = || reader.query_row("SELECT count(*) FROM action", [], |row| row.get::<_, i64>(0)).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let seen = count();
    ledger.shorten_log().unwrap();
    assert!(bytes_of_log(state.path()) > 0);
    assert_eq!(count(), seen);
    reader.execute_batch("COMMIT").unwrap();
    ledger.shorten_log().unwrap();
    assert_eq!((bytes_of_log(state.path()), count()), (0, seen));
}

#[test]
fn only_a_commit_that_writes_something_makes_durable_what_was_written_before_it() {
    let state = tempfile::tempdir().unwrap();
    let mut ledger = open(state.path());
    ledger.receive(Queue::Rpc, HERE, &answer([row(1, RowStatus::Waiting)]), at(1)).unwrap();
    assert!(ledger.is_behind);
    let started = |id| Change::Started(key(id, 1), at(2), "boot".to_owned());
    assert_eq!(ledger.commit(&[started(2)]).unwrap(), [key(2, 1)], "there is no such action");
    assert!(ledger.is_behind, "nothing was written, and so nothing synced");
    assert!(ledger.commit(&[started(1)]).unwrap().is_empty());
    assert!(!ledger.is_behind);
}
