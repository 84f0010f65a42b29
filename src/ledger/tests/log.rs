//! The log beside the database: every process that opens the ledger reads it from its beginning to its end.

use super::*;

/// How many pages the next one to open the ledger finds in its log: those frames that bear the salts of the log's header
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn pages_in_log(state: &Path) -> usize {
    let log = std::fs::read(state.join("ledger.sqlite-wal")).unwrap();
    let (header, frames) = log.split_at(32);
    let page = u32::from_be_bytes(header[8..12].try_into().unwrap());
    let frame = usize::try_from(page).unwrap() + 24;
    frames.chunks_exact(frame).take_while(|frame| frame[8..16] == header[16..24]).count()
}

#[test]
fn a_busy_run_leaves_no_long_log_for_all_idle_ones_after_it() {
    let state = tempfile::tempdir().unwrap();
    let mut ledger = open(state.path());
    let (mut written, mut before) = (0, 0);
    for id in 1..=100 {
        ledger.receive(Queue::Rpc, HERE, &answer([row(id, RowStatus::Waiting)]), at(1)).unwrap();
        finish(&mut ledger, key(id, 1), 0);
        ledger.commit(&[Change::Reported(key(id, 1), at(30))]).unwrap();
        let pages = pages_in_log(state.path());
        assert!(pages <= 300, "{pages} pages in the log after {id} actions");
        written += pages.saturating_sub(before);
        before = pages;
    }
    assert!(written > 600, "{written} pages do not show anything");
}
