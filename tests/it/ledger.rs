//! What the node knows about its actions, when its disk, its files or its clockwork are not what they should be.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rustix::process::Signal;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, both};

fn state(world: &World) -> PathBuf {
    world.node.path("var/actions")
}

/// The files in the state directory whose names begin so.
fn files(world: &World, prefix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(state(world)).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
}

fn ledger(world: &World) -> Connection {
    let connection = Connection::open(state(world).join("ledger.sqlite")).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection
}

fn change(world: &World, statements: &str) {
    ledger(world).execute_batch(statements).unwrap();
}

/// Writes over the ledger. What is still in its log would heal it.
fn damage(world: &World) -> PathBuf {
    change(world, "PRAGMA wal_checkpoint(TRUNCATE)");
    let path = state(world).join("ledger.sqlite");
    fs::write(&path, "this is not a database ".repeat(500)).unwrap();
    path
}

/// The one text that a query finds.
fn ask(world: &World, query: &str) -> String {
    ledger(world).query_row(query, [], |row| row.get(0)).unwrap()
}

/// A file system of its own over the state directory, as long as this lives. Root alone can make one.
pub(crate) struct Mount(PathBuf);

impl Mount {
    fn new(world: &World, size: &str) -> Self {
        Self::at(state(world), size)
    }

    pub(crate) fn at(dir: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&dir).status();
        assert!(mounted.unwrap().success(), "cannot mount a tmpfs: these tests need root and CAP_SYS_ADMIN");
        Self(dir)
    }

    fn again(&self, options: &str) {
        let mounted = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(mounted.unwrap().success());
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        for size in [65_536, 4096, 1] {
            let bytes = vec![0_u8; size];
            while file.write_all(&bytes).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

both!(a_ledger_whose_log_is_gone_is_damaged_and_not_new);
fn a_ledger_whose_log_is_gone_is_damaged_and_not_new(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo a");
    world.run().exits(0);
    std::fs::remove_file(world.node.path("var/actions/ledger.sqlite-wal")).unwrap();
    let status = world.node.handler().arg("status").run();
    assert!(status.exits(69).stdout.contains("is gone"), "taken for an idle node: {}", status.stdout);
    world.node.handler().arg("history").run().exits(69).says("is gone");
    assert!(world.node.handler().arg("doctor").run().exits(69).stdout.contains("is gone"));
    world.collector.send_once_more(id);
    world.run().exits(0).says("is damaged");
    assert_eq!(world.node.runs_of(id), 1, "it ran again");
}

both!(a_question_or_an_order_does_not_harm_a_damaged_ledger);
fn a_question_or_an_order_does_not_harm_a_damaged_ledger(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo a");
    world.run().exits(0);
    let ledger = world.node.path("var/actions/ledger.sqlite");
    std::fs::OpenOptions::new().write(true).open(ledger).unwrap().set_len(0).unwrap();
    world.node.handler().arg("status").run().exits(69);
    for command in ["history", &format!("cancel {id}"), &format!("show {id}")] {
        world.node.handler().args(command.split(' ')).run().exits(69).says("is gone");
    }
    world.collector.send_once_more(id);
    world.run().exits(0).says("is damaged");
    assert_eq!(world.node.runs_of(id), 1, "it ran again");
}

both!(what_does_not_belong_below_runs_holds_nobody_up);
fn what_does_not_belong_below_runs_holds_nobody_up(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0); // makes the ledger
    let runs = world.node.path("var/actions/runs");
    std::fs::create_dir_all(runs.join("rpc-8-1/claim")).unwrap();
    std::fs::write(runs.join("oc3-9-1"), "").unwrap();
    let id = world.enqueue("echo a");
    world.run().exits(0).says("oc3-9-1");
    assert_eq!(world.result(id).1, "a\n");
}

both!(a_damaged_ledger_is_set_aside_and_nothing_that_is_sent_again_runs_again);
fn a_damaged_ledger_is_set_aside_and_nothing_that_is_sent_again_runs_again(dialect: Dialect) {
    let world = World::new(dialect);
    let done = world.enqueue("echo done");
    world.run().exits(0);
    let ledger = damage(&world);
    world.collector.set_status(done, 'S');
    world.collector.age(done);
    let new = world.enqueue("echo new");
    world.run().exits(0).says("is damaged").says("set aside as");
    assert_eq!((world.node.runs_of(done), world.node.runs_of(new)), (1, 1));
    assert!(world.reason(done, 254).contains("the ledger of this node was lost"));
    assert_eq!(world.result(new).1, "new\n");
    assert!(!files(&world, "ledger-damaged-").is_empty());
    world.run().exits(0);
    assert_eq!(fs::metadata(&ledger).unwrap().permissions().mode() & 0o777, 0o600);
}

both!(a_command_that_runs_while_the_ledger_is_damaged_is_seen_to_its_end);
fn a_command_that_runs_while_the_ledger_is_damaged_is_seen_to_its_end(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done exit 3");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    handler.signal(rustix::process::Signal::KILL);
    handler.wait();
    damage(&world);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Fetch, 2);
    gate.open();
    handler.wait().exits(0).says("have a run directory: 1;");
    let (ret, stdout, _) = world.result(id);
    assert_eq!((ret, stdout.as_str()), (3, "done\n"));
    world.check();
}

both!(damage_that_shows_in_the_middle_of_a_run_is_69_and_mended_by_the_next);
fn damage_that_shows_in_the_middle_of_a_run_is_69_and_mended_by_the_next(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    change(&world, "DROP TABLE action");
    let id = world.enqueue("echo done");
    world.run().exits(69).says("is damaged");
    assert!(matches!(world.collector.row(id).status, 'W' | 'N'));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_state_directory_that_cannot_be_read_is_69_at_once);
fn a_state_directory_that_cannot_be_read_is_69_at_once(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    let id = world.enqueue("echo done");
    let runs = state(&world).join("runs");
    let _ = fs::remove_dir_all(&runs);
    fs::write(&runs, "").unwrap();
    world.run().exits(69).says("run directory");
    fs::remove_file(&runs).unwrap();
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_newer_ledger_is_69_and_not_touched);
fn a_newer_ledger_is_69_and_not_touched(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    change(&world, "PRAGMA journal_mode = DELETE; PRAGMA user_version = 7");
    let ledger = state(&world).join("ledger.sqlite");
    let before = fs::read(&ledger).unwrap();
    let id = world.enqueue("echo done");
    world.run().exits(69).says("has format 7").says("upgrade it");
    assert!(fs::read(&ledger).unwrap() == before, "it was changed");
    assert!(matches!(world.collector.row(id).status, 'W' | 'N'));
    change(&world, "PRAGMA user_version = 2");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

/// Every file below the state directory with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.extend(contents(&path));
        } else {
            // Of a supervisor's socket, that it is there.
            let is_file = fs::symlink_metadata(&path).unwrap().is_file();
            let content = if is_file { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path, content);
        }
    }
    all
}

both!(an_older_program_changes_no_byte_of_newer_state);
fn an_older_program_changes_no_byte_of_newer_state(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    handler.signal(Signal::KILL);
    handler.wait();
    // What a later program has made of it: a newer ledger, still in its log, with a run under way.
    change(&world, "PRAGMA user_version = 7");
    let before = contents(&state(&world));
    assert!(before.keys().any(|path| path.ends_with("ledger.sqlite-wal")), "{:?}", before.keys());
    for command in [&["dequeue"][..], &["report"], &["status"], &["history"], &["show", "1"], &["cancel", "1"]] {
        world.node.handler().args(command).run().exits(69).says("format 7");
    }
    let mut after = contents(&state(&world));
    // Who worked last, the wake-up that is owed to a program that can, and SQLite's index of its log, which it makes anew
    // whenever it likes: no part of what the node knows.
    let passing = ["lock", "wake", "wake.owed", "ledger.sqlite-shm"];
    let is_passing = |path: &PathBuf| passing.iter().any(|name| path.ends_with(name));
    after.retain(|path, _| !is_passing(path));
    let mut expected = before;
    expected.retain(|path, _| !is_passing(path));
    assert_eq!(after.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, content) in expected {
        assert!(after[&path] == content, "{} was changed", path.display());
    }
    // The later one goes on where it was.
    change(&world, "PRAGMA user_version = 2");
    gate.open();
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert_eq!(world.node.runs_of(id), 1);
    world.check();
}

both!(a_result_survives_the_way_back_to_the_release_before);
fn a_result_survives_the_way_back_to_the_release_before(dialect: Dialect) {
    let world = World::new(dialect);
    let program = world.node.path("bin/opensvc-actions");
    // As packages do it: another file under the same name. What runs keeps the one that it was started from.
    let install = || {
        let new = world.node.path("bin/opensvc-actions.new");
        // By another process: what a test beside this one starts would hold a file that is open for writing here.
        assert!(Command::new("cp").arg(&program).arg(&new).status().unwrap().success());
        fs::rename(new, &program).unwrap();
    };
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&program).unwrap());
    install();
    let later = inode();
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    install();
    assert_ne!(inode(), later);
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    let back = world.node.handler().start();
    gate.open();
    back.wait().exits(0);
    assert_eq!(world.result(id), (0, "done\n".to_owned(), String::new()));
    assert_eq!(world.node.runs_of(id), 1);
    world.check();
}

both!(on_a_read_only_disk_nothing_is_fetched);
fn on_a_read_only_disk_nothing_is_fetched(dialect: Dialect) {
    let world = World::new(dialect);
    let mount = Mount::new(&world, "8M");
    world.run().exits(0);
    let id = world.enqueue("echo done");
    let fetches = world.collector.count(Call::Fetch);
    mount.again("ro");
    world.run().exits(69).says("Read-only file system");
    assert_eq!(world.collector.count(Call::Fetch), fetches);
    mount.again("rw");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(on_a_full_disk_the_action_that_frees_it_runs);
fn on_a_full_disk_the_action_that_frees_it_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let mount = Mount::new(&world, "8M");
    world.run().exits(0);
    assert_eq!(fs::metadata(state(&world).join("reserve")).unwrap().len(), 1 << 20);
    let filler = mount.fill();
    let relative = filler.strip_prefix(world.node.root()).unwrap();
    let frees = world.enqueue(&format!("remove {} echo freed", relative.display()));
    let more: Vec<_> = (0..5).map(|_| world.enqueue("echo more")).collect();
    world.run().exits(0).says("is given up");
    assert_eq!(world.result(frees).1, "freed\n");
    assert!(more.iter().all(|id| world.result(*id).1 == "more\n"));
    assert!(state(&world).join("reserve").exists(), "it is made again");
    world.check();
}

both!(on_a_full_disk_without_a_reserve_nothing_is_fetched_and_results_are_posted);
fn on_a_full_disk_without_a_reserve_nothing_is_fetched_and_results_are_posted(dialect: Dialect) {
    let world = World::new(dialect);
    let mount = Mount::new(&world, "8M");
    let old = world.enqueue("echo old");
    world.collector.fail(Call::Report, When::Always, Fault::status(502));
    world.run().exits(75);
    world.collector.heal();
    fs::remove_file(state(&world).join("reserve")).unwrap();
    let filler = mount.fill();
    let new = world.enqueue("echo new");
    let fetches = world.collector.count(Call::Fetch);
    world.run().exits(69).says("the disk is full").says("nothing is fetched");
    assert_eq!(world.collector.count(Call::Fetch), fetches);
    assert_eq!(world.result(old).1, "old\n");
    fs::remove_file(filler).unwrap();
    world.run().exits(0);
    assert_eq!(world.result(new).1, "new\n");
    assert_eq!((world.node.runs_of(old), world.node.runs_of(new)), (1, 1));
}

both!(a_result_that_is_not_accepted_in_time_is_given_up_and_said);
fn a_result_that_is_not_accepted_in_time_is_given_up_and_said(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[retention]\nunreported = \"1h\"\n");
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::status(502));
    world.run().exits(75);
    change(&world, "UPDATE action SET finished_at = finished_at - 3600000");
    world.run().says("was not accepted within");
    let fetches = world.collector.count(Call::Report);
    world.run().exits(0);
    assert_eq!(world.collector.count(Call::Report), fetches);
    assert_eq!(ask(&world, "SELECT state || ret FROM action"), "expired0");
    assert_ne!(world.collector.row(id).status, 'T');
    assert_eq!(fs::read_dir(state(&world).join("runs")).unwrap().count(), 0);
}

both!(an_action_whose_history_is_over_is_answered_and_not_run_again);
fn an_action_whose_history_is_over_is_answered_and_not_run_again(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[retention]\nhistory = \"1h\"\n");
    let id = world.enqueue("echo done");
    world.run().exits(0);
    change(&world, "UPDATE action SET reported_at = reported_at - 3600000");
    world.run().exits(0);
    assert_eq!(ask(&world, "SELECT (SELECT count(*) FROM action) || '-' || (SELECT count(*) FROM tombstone)"), "0-1");
    world.collector.set_status(id, 'S');
    world.collector.age(id);
    world.run().exits(0);
    assert!(world.reason(id, 254).contains("its result expired here"));
    world.collector.redo(id);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert_eq!(world.node.runs_of(id), 2);
}

both!(a_hundred_thousand_actions_of_history_are_not_read_at_a_start);
fn a_hundred_thousand_actions_of_history_are_not_read_at_a_start(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    let reads = reads_of_an_idle_run(&world);
    change(
        &world,
        &format!(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO action (queue, id, generation, endpoint, state, command, svc_id, svcname, received_at,
                             finished_at, reported_at, ret, stdout, stderr)
         SELECT '{}', 1000000 + i, 1, 'https://c', 'reported', 'start --local', '', '', t, t, t, 0, 'x', ''
         FROM n, (SELECT unixepoch() * 1000 AS t);
         PRAGMA wal_checkpoint(TRUNCATE)",
            dialect.name()
        ),
    );
    world.run().exits(0);
    let more = reads_of_an_idle_run(&world);
    assert!(more < reads + 60, "{reads} reads without a history, {more} with one");
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_run_of_twenty_actions_syncs_once_for_the_answer_and_once_for_each_action);
fn a_run_of_twenty_actions_syncs_once_for_the_answer_and_once_for_each_action(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo first"); // makes the ledger
    world.run().exits(0);
    let ids: Vec<_> = (0..20).map(|number| world.enqueue(&format!("echo {number}"))).collect();
    let traced = trace(&world, "fsync,fdatasync,sync_file_range,msync,sync,syncfs");
    let synced: usize = traced.values().map(|trace| trace.lines().filter(|line| is_call(line)).count()).sum();
    // SQLite's log's directory, the answer, the first start, nineteen results with the next start, the last result.
    assert_eq!(synced, 1 + 1 + 1 + 19 + 1, "{:#?}", traced.values().collect::<Vec<_>>());
    assert!(ids.iter().all(|id| world.collector.row(*id).status == 'T'));
    world.check_but(&Allowed::default());
}
/// Runs the handler and everything that it starts under strace, and returns what each process did.
fn trace(world: &World, calls: &str) -> BTreeMap<String, String> {
    let directory = world.node.path("trace");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let ended = world
        .node
        .handler()
        .under(
            "strace",
            &["-ff", "-qq", "-e", &format!("trace={calls}"), "-e", "signal=none", "-o"],
            &directory.join("t"),
        )
        .run();
    ended.exits(0);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), read(&path)))
        .collect()
}

fn is_call(line: &str) -> bool {
    line.contains('(') && !line.starts_with("+++") && !line.starts_with("---")
}

fn reads_of_an_idle_run(world: &World) -> usize {
    trace(world, "pread64").values().map(|trace| trace.lines().filter(|line| is_call(line)).count()).sum()
}
