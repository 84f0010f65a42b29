//! States of the disk that a run does not leave by itself, and a supervisor that has not begun yet.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use rustix::process::{Signal, kill_process};

use crate::story::{Random, Story};
use crate::support::history::Allowed;
use crate::support::{Dialect, both};

/// What the action in the middle came to.
#[derive(Debug)]
enum Expected {
    Runs,
    Unknown,
}

fn run_dir_path(story: &Story) -> PathBuf {
    story.world.node.path(&format!("var/actions/runs/{}-{}-1", story.world.dialect.name(), story.ids[1]))
}

fn run_dir(story: &Story) -> PathBuf {
    let path = run_dir_path(story);
    assert!(path.is_dir(), "there is no {}", path.display());
    path
}

fn ledger(story: &Story) -> Connection {
    Connection::open(story.world.node.path("var/actions/ledger.sqlite")).unwrap()
}

/// Ledger and claim, if there is one, say that the action in the middle was started in an earlier boot.
fn age_a_boot(story: &Story) {
    let changed = ledger(story).execute("UPDATE action SET boot_id = 'earlier' WHERE state = 'started'", []);
    assert_eq!(changed, Ok(1));
    let claim = run_dir_path(story).join("claim");
    if let Ok(text) = fs::read_to_string(&claim) {
        let (_, begun) = text.split_once('\n').unwrap();
        fs::write(claim, format!("earlier\n{begun}")).unwrap();
    }
}

fn finish(story: &Story, expected: &Expected) {
    story.recover();
    let unknown = matches!(expected, Expected::Unknown);
    let allowed = Allowed { interrupted: unknown, crashes: 1, ..Allowed::default() };
    story.check(&allowed, if unknown { &story.ids[1..2] } else { &[] });
}

both!(a_supervisor_that_comes_too_late_with_a_record_that_was_reported_goes);
fn a_supervisor_that_comes_too_late_with_a_record_that_was_reported_goes(dialect: Dialect) {
    let story = Story::new(dialect);
    // It has given its record to a handler that died before it could say that it has it.
    let handler = story.doomed("finished:2,stop@supervisor-refused:1").start();
    let supervisor = story.sleeper();
    handler.wait().exits(137);
    story.recover();
    assert!(!run_dir_path(&story).exists(), "its run directory is still there");
    kill_process(supervisor, Signal::CONT).unwrap();
    finish(&story, &Expected::Runs);
}

both!(started_in_another_boot_without_a_run_directory_is_unknown_and_not_run);
fn started_in_another_boot_without_a_run_directory_is_unknown_and_not_run(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    age_a_boot(&story);
    fs::remove_dir_all(run_dir(&story)).unwrap();
    finish(&story, &Expected::Unknown);
    assert_eq!(story.world.node.runs_of(story.ids[1]), 0);
}

both!(a_nodes_reboot_is_done_once_the_machine_has_booted_and_not_before);
fn a_nodes_reboot_is_done_once_the_machine_has_booted_and_not_before(dialect: Dialect) {
    for (command, service, another_boot, ret) in [
        ("reboot", "", true, 0),
        ("shutdown --now", "", true, 0),
        ("reboot", "", false, 254),
        ("reboot", "svc1", true, 254),
        ("rebooted", "", true, 254),
    ] {
        let story = Story::new(dialect);
        story.crash("started:2").exits(137);
        let forged = ledger(&story).execute(
            "UPDATE action SET command = ?1, svcname = ?2, svc_id = ?2 WHERE state = 'started'",
            [command, service],
        );
        assert_eq!(forged, Ok(1));
        if another_boot {
            age_a_boot(&story);
        }
        fs::remove_dir_all(run_dir(&story)).unwrap();
        story.recover();
        story.world.reason(story.ids[1], ret);
        assert_eq!(story.world.node.runs_of(story.ids[1]), 0, "{command} of {service:?}");
    }
}

both!(started_in_another_boot_with_a_claim_without_its_mark_is_unknown_and_not_run);
fn started_in_another_boot_with_a_claim_without_its_mark_is_unknown_and_not_run(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    age_a_boot(&story);
    finish(&story, &Expected::Unknown);
    assert_eq!(story.world.node.runs_of(story.ids[1]), 0);
}

both!(started_in_this_boot_and_the_claim_of_another_is_unknown_and_not_run);
fn started_in_this_boot_and_the_claim_of_another_is_unknown_and_not_run(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    fs::write(run_dir(&story).join("claim"), "earlier\n").unwrap();
    finish(&story, &Expected::Unknown);
    assert_eq!(story.world.node.runs_of(story.ids[1]), 0);
}

both!(started_in_this_boot_without_a_run_directory_is_unknown_and_not_run);
fn started_in_this_boot_without_a_run_directory_is_unknown_and_not_run(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    fs::remove_dir_all(run_dir(&story)).unwrap();
    finish(&story, &Expected::Unknown);
    assert_eq!(story.world.node.runs_of(story.ids[1]), 0);
}

both!(started_in_this_boot_with_a_free_claim_without_its_mark_is_run);
fn started_in_this_boot_with_a_free_claim_without_its_mark_is_run(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    finish(&story, &Expected::Runs);
}

both!(a_result_in_a_record_counts_in_another_boot);
fn a_result_in_a_record_counts_in_another_boot(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("launched:2,supervisor-kept:1").exits(137);
    story.world.node.wait_until_alone(&[]);
    age_a_boot(&story);
    finish(&story, &Expected::Runs);
}

both!(a_record_that_nothing_was_started_does_not_count_in_another_boot);
fn a_record_that_nothing_was_started_does_not_count_in_another_boot(dialect: Dialect) {
    // It may be what a power cut brought back of an earlier try: its removal was not synced, and the try after it
    // did start.
    let story = Story::new(dialect);
    story.crash("started:2").exits(137);
    let body = "{\"ended\":null,\"not_started\":\"no memory\",\"stdout\":\"\",\"stderr\":\"\",\
                \"ended_at\":{\"seconds\":1,\"nanos\":0},\"duration_usec\":0}";
    let sum = body
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let record = format!("opensvc-actions-record-1 {} {sum:016x}\n{body}", body.len());
    fs::write(run_dir(&story).join("record"), record).unwrap();
    age_a_boot(&story);
    finish(&story, &Expected::Unknown);
    assert_eq!(story.world.node.runs_of(story.ids[1]), 0);
}

both!(a_record_that_is_not_whole_is_no_record);
fn a_record_that_is_not_whole_is_no_record(dialect: Dialect) {
    let story = Story::new(dialect);
    story.crash("launched:2,supervisor-kept:1").exits(137);
    story.world.node.wait_until_alone(&[]);
    let whole = fs::read(run_dir(&story).join("record")).unwrap();
    let mut random = Random(7);
    let mut mutants = vec![Vec::new(), whole[..1].to_vec(), whole[..whole.len() - 1].to_vec(), vec![0; whole.len()]];
    mutants.push(whole.iter().chain(b"\n").copied().collect());
    for _ in 0..3 {
        mutants.push(whole[..random.below(whole.len())].to_vec());
        let mut flipped = whole.clone();
        flipped[random.below(whole.len())] ^= 1 << random.below(8);
        mutants.push(flipped);
    }
    // The same moment again and again.
    let kept = story.world.node.path("kept");
    copy(&story.world.node.path("var/actions"), &kept);
    let rows = story.world.collector.rows();
    for mutant in mutants {
        println!("{} {:?}", dialect.name(), String::from_utf8_lossy(&mutant));
        fs::remove_dir_all(story.world.node.path("var/actions")).unwrap();
        copy(&kept, &story.world.node.path("var/actions"));
        story.world.collector.go_back_to(rows.clone());
        fs::write(run_dir(&story).join("record"), &mutant).unwrap();
        story.recover();
        story.world.reason(story.ids[1], 254);
        assert_eq!(story.world.node.runs_of(story.ids[1]), 1);
    }
}

both!(a_supervisor_that_sleeps_before_its_first_instruction_keeps_its_claim_and_runs_once);
fn a_supervisor_that_sleeps_before_its_first_instruction_keeps_its_claim_and_runs_once(dialect: Dialect) {
    for dies in [false, true] {
        let story = Story::new(dialect);
        let id = story.ids[1];
        let handler = story.doomed("stop@supervisor-begun:2").start();
        let supervisor = story.sleeper();
        handler.signal(Signal::KILL);
        handler.wait().exits(137);
        let handlers: Vec<_> = (0..50).map(|_| story.world.node.handler().start()).collect();
        // One of them waits for the sleeper, all others have gone.
        let mut waiting = handlers;
        while waiting.len() > 1 {
            waiting.retain_mut(crate::support::process::Process::is_running);
            std::thread::yield_now();
        }
        assert!(waiting[0].is_running() && waiting[0].said().contains("runs already"), "{}", waiting[0].said());
        assert_eq!((story.world.node.runs_of(id), story.world.node.runs_of(story.ids[2])), (0, 0));
        // Awake, or gone for good: then it is known not to have begun.
        kill_process(supervisor, if dies { Signal::KILL } else { Signal::CONT }).unwrap();
        let ended = waiting.remove(0).wait();
        assert!(dies || ended.code() == 0, "{ended:?}");
        finish(&story, &Expected::Runs);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
