use std::fs;
use std::time::SystemTime;

use super::*;
use crate::action::{ActionId, Queue};

const KEY: ActionKey = ActionKey { queue: Queue::Rpc, id: ActionId(7), generation: 1 };

/// A state directory with a run directory in it.
fn state() -> (tempfile::TempDir, PathBuf) {
    let state = tempfile::tempdir().unwrap();
    let run = RunDir::of(state.path(), KEY).path().to_owned();
    fs::create_dir_all(&run).unwrap();
    (state, run)
}

fn read(state: &Path, stream: Stream) -> Option<Vec<u8>> {
    let kept = Kept::find(state, KEY, stream).unwrap()?;
    let mut all = Vec::new();
    kept.read(|piece| {
        all.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    Some(all)
}

/// What must be read of a stream.
fn expected(whole: &[u8], capacity: usize) -> Vec<u8> {
    if whole.len() <= capacity {
        return whole.to_vec();
    }
    let (head, tail) = (capacity / 2, capacity - capacity / 2);
    let marker = output::marker((whole.len() - capacity) as u64);
    [&whole[..head], marker.as_bytes(), &whole[whole.len() - tail..]].concat()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

#[test]
fn both_ends_of_a_stream_are_kept_however_long_it_is() {
    for capacity in [2, 3, 10, 64] {
        for length in (1..40).chain([63, 64, 65, 127, 128, 129, 1000]) {
            for piece in [1, 7, 1000] {
                let (state, run) = state();
                let mut keeper = Keeper::new(&run, Stream::Stderr, capacity);
                let whole = bytes(length);
                for piece in whole.chunks(piece) {
                    keeper.push(piece, false);
                }
                let what = format!("{length} bytes in pieces of {piece}, {capacity} kept");
                let read = read(state.path(), Stream::Stderr).unwrap();
                assert_eq!(read, expected(&whole, usize::try_from(capacity).unwrap()), "{what}");
                assert!(fs::metadata(run.join("stderr")).unwrap().len() <= capacity + HEADER as u64, "{what}");
            }
        }
    }
}

#[test]
fn what_the_report_holds_costs_no_file() {
    let (state, run) = state();
    let mut keeper = Keeper::new(&run, Stream::Stdout, 1 << 20);
    keeper.push(&bytes(HELD), true);
    assert!(fs::read_dir(&run).unwrap().next().is_none());
    keeper.push(b"x", true);
    assert_eq!(read(state.path(), Stream::Stdout).unwrap().len(), HELD + 1);
    let mut keeper = Keeper::new(&run, Stream::Stderr, 1 << 20);
    keeper.push(b"\xff", true);
    keeper.push(b"\xff", false); // one byte may become three
    assert_eq!(read(state.path(), Stream::Stderr).unwrap(), b"\xff\xff");
}

#[test]
fn a_full_disk_ends_the_keeping_and_nothing_else() {
    let (state, run) = state();
    std::os::unix::fs::symlink("/dev/full", run.join("stdout")).unwrap();
    let mut keeper = Keeper::new(&run, Stream::Stdout, 1 << 20);
    for _ in 0..3 {
        keeper.push(&bytes(100_000), false);
    }
    assert_eq!((keeper.layout.kept, keeper.layout.total), (0, 300_000));
    // One that becomes full on the way: what is missing is still known.
    let mut keeper = Keeper::new(&run, Stream::Stderr, 1 << 20);
    keeper.push(b"first", false);
    let file = File::options().read(true).write(true).open(run.join("stderr")).unwrap();
    keeper.place = Place::Nowhere(Some(file));
    keeper.push(b"second", false);
    assert_eq!(read(state.path(), Stream::Stderr).unwrap(), [&b"first"[..], output::marker(6).as_bytes()].concat());
}

#[test]
fn a_file_that_is_not_whole_is_not_shown() {
    let (state, run) = state();
    Keeper::new(&run, Stream::Stdout, 100).push(&bytes(1000), false);
    let whole = fs::read(run.join("stdout")).unwrap();
    for length in [0, 1, HEADER, whole.len() - 1] {
        fs::write(run.join("stdout"), &whole[..length]).unwrap();
        assert!(read(state.path(), Stream::Stdout).is_none(), "{length}");
    }
    for index in 0..8 {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        fs::write(run.join("stdout"), changed).unwrap();
        assert!(read(state.path(), Stream::Stdout).is_none(), "{index}");
    }
    for field in [[0; 8], [0xff; 8]] {
        let mut changed = whole.clone();
        changed[8..16].copy_from_slice(&field);
        fs::write(run.join("stdout"), changed).unwrap();
        assert!(read(state.path(), Stream::Stdout).is_none());
    }
}

#[test]
fn the_oldest_goes_first_and_what_is_too_old_goes_in_any_case() {
    let (state, _) = state();
    let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let left = || -> Vec<i64> {
        let mut left = Vec::new();
        for parent in ["output", "runs"] {
            for (key, directory) in run::keys_in(&state.path().join(parent)).unwrap() {
                left.extend(directory.join("stdout").exists().then_some(key.id.0));
            }
        }
        left.sort_unstable();
        left
    };
    for (id, seconds, is_reported) in [(1, 40, true), (2, 10, true), (3, 30, false), (4, 20, true), (5, 50, true)] {
        let key = ActionKey { id: ActionId(id), ..KEY };
        let run = RunDir::of(state.path(), key).path().to_owned();
        fs::create_dir_all(&run).unwrap();
        Keeper::new(&run, Stream::Stdout, 1000).push(&bytes(1000 - HEADER), false);
        File::open(run.join("stdout")).unwrap().set_modified(at(seconds)).unwrap();
        if is_reported {
            forget(state.path(), key).unwrap();
            keep(state.path(), key).unwrap();
        }
    }
    fs::create_dir(state.path().join("output/rpc-9-1")).unwrap(); // a crash came before anything was moved here
    prune(state.path(), 5000, at(0)).unwrap();
    assert_eq!(left(), [1, 2, 3, 4, 5]);
    assert!(!state.path().join("output/rpc-9-1").exists());
    prune(state.path(), 5000, at(20)).unwrap();
    assert_eq!(left(), [1, 3, 4, 5]);
    prune(state.path(), 2999, at(0)).unwrap();
    assert_eq!(left(), [1, 5]);
    forget(state.path(), ActionKey { id: ActionId(1), ..KEY }).unwrap();
    assert_eq!(left(), [5]);
    prune(state.path(), 0, at(0)).unwrap();
    assert_eq!(left(), [5], "the newest stays while it is not too old");
    prune(state.path(), 0, at(51)).unwrap();
    assert_eq!(left(), [0; 0]);
}
