//! `doctor`: each thing that can be wrong is said in one line, with its fix and the exit status that tells it; and whatever
//! is found, the queue and the state directory are as they were.

mod units;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::pki::Flaw;
use crate::support::process::{Ended, Launch};
use crate::support::world::World;
use crate::support::{Dialect, NODE, Wire, both, over_each_wire};

/// One line of it.
#[derive(Clone, Debug)]
struct Finding {
    check: String,
    result: String,
    text: String,
    fix: Option<String>,
}

/// What it has found.
#[derive(Debug)]
struct Report {
    ended: Ended,
    findings: Vec<Finding>,
}

impl Report {
    fn of(launch: Launch) -> Self {
        let ended = launch.args(["doctor", "--json"]).run();
        let all: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap_or_else(|err| panic!("{err}: {ended:?}"));
        let text = |finding: &Value, key: &str| finding[key].as_str().map(str::to_owned);
        let findings = all.iter().map(|finding| Finding {
            check: text(finding, "check").unwrap(),
            result: text(finding, "result").unwrap(),
            text: text(finding, "text").unwrap(),
            fix: text(finding, "fix"),
        });
        let findings: Vec<_> = findings.collect();
        for Finding { check, result, text, fix } in &findings {
            assert!(["ok", "warn", "fail", "skip"].contains(&result.as_str()), "{check}: {result}");
            assert_eq!(fix.is_some(), ["warn", "fail"].contains(&result.as_str()), "{check}: {text}: {fix:?}");
        }
        Self { ended, findings }
    }

    /// Insists on a finding, and on words in what it says and in its fix.
    #[track_caller]
    fn finds(&self, check: &str, result: &str, words: &str, fix: &str) -> &Self {
        let is_it = |finding: &&Finding| {
            finding.check == check
                && finding.result == result
                && finding.text.contains(words)
                && finding.fix.as_deref().unwrap_or_default().contains(fix)
        };
        let found = self.findings.iter().any(|finding| is_it(&finding));
        assert!(found, "no {result} of {check} with {words:?} and {fix:?} in {:#?}", self.findings);
        self
    }

    #[track_caller]
    fn exits(&self, code: i32) -> &Self {
        let failed = self.findings.iter().any(|finding| finding.result == "fail");
        assert_eq!(failed, code != 0, "{:#?}", self.findings);
        assert_eq!(self.ended.code(), code, "{:#?}", self.findings);
        self
    }
}

type Files = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

/// Everything in a directory, with its times.
fn files(directory: &Path) -> Files {
    let mut all = Files::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.is_file() {
                all.insert(path.clone(), (fs::read(&path).unwrap(), metadata.modified().unwrap()));
            }
        }
    }
    all
}

/// Examines the node, and insists that nothing has changed by that, here and at the collector.
#[track_caller]
fn examine(world: &World) -> Report {
    examine_with(world, world.node.handler())
}

#[track_caller]
fn examine_with(world: &World, launch: Launch) -> Report {
    let state = world.node.path("var/actions");
    let rows = || {
        let letters = world.collector.rows().into_iter().map(|row| (row.id, row.status, row.handed_out, row.ret));
        letters.collect::<Vec<_>>()
    };
    let seen = || {
        (
            files(&state),
            rows(),
            world.collector.count(Call::Fetch),
            world.collector.count(Call::Ack),
            world.node.starts(),
        )
    };
    let before = seen();
    let report = Report::of(launch);
    assert!(seen() == before, "something has changed: {:?}, then {:?}", names(&before.0), names(&files(&state)));
    report
}

fn names(files: &Files) -> Vec<&PathBuf> {
    files.keys().collect()
}

over_each_wire!(a_healthy_node_is_all_well_and_its_queue_stays_as_it_is);
fn a_healthy_node_is_all_well_and_its_queue_stays_as_it_is(wire: Wire) {
    let world = World::over(wire);
    let done = world.enqueue("echo done");
    world.run().exits(0);
    let waiting = world.enqueue("echo waits");
    let report = examine(&world);
    let of = |what: &str| format!("{}.{what}", world.dialect.name());
    report.exits(0).finds("configuration", "ok", world.dialect.name(), "");
    for (check, words) in [
        ("name", "127.0.0.1"),
        ("tcp", "accepts connections"),
        ("tls", "is good until 2100-01-01"),
        ("credentials", NODE),
        ("offered", "actions came from there"),
    ] {
        report.finds(&of(check), "ok", words, "");
    }
    for check in ["dequeuers", "agent", "launcher", "state", "ledger", "machine", "pause", "running"] {
        report.finds(check, "ok", "", "");
    }
    assert!(matches!(world.collector.row(waiting).status, 'W' | 'N'));
    assert_eq!(world.result(done).1, "done\n");
    // The same for people, a line each.
    let ended = world.node.handler().arg("doctor").run();
    let lines: Vec<_> = ended.exits(0).stdout.lines().collect();
    assert_eq!(lines.len(), report.findings.len(), "{}", ended.stdout);
    for (line, finding) in lines.iter().zip(&report.findings) {
        assert!(line.starts_with(&finding.result) && line.contains(&finding.check), "{line}\n{finding:?}");
    }
    world.run().exits(0);
    assert_eq!(world.result(waiting).1, "waits\n");
    world.check();
}

both!(before_the_first_run_nothing_is_made);
fn before_the_first_run_nothing_is_made(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let report = examine(&world);
    report.exits(0).finds("state", "ok", "not there yet", "").finds("ledger", "ok", "none yet", "");
    report.finds("machine", "skip", "not known yet", "").finds("running", "ok", "no action runs", "");
    assert!(!world.node.path("var/actions").exists());
    assert!(matches!(world.collector.row(id).status, 'W' | 'N'));
}

both!(a_broken_configuration_is_78_and_the_rest_is_looked_at_all_the_same);
fn a_broken_configuration_is_78_and_the_rest_is_looked_at_all_the_same(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done");
    world.run().exits(0);
    world.node.configure("[execution]\nwarn_afterr = \"1h\"\n");
    let report = examine(&world);
    report.exits(78).finds("configuration", "fail", "50-test.toml:2: unknown key \"warn_afterr\"", "show-config");
    report.finds("ledger", "ok", "whole", "").finds("state", "ok", "", "").finds("agent", "ok", "bin/om", "");
    report.finds("collector", "skip", "the configuration cannot be used", "");
    let elsewhere = examine_with(&world, world.node.handler().env("PATH", "/nonexistent"));
    elsewhere.exits(78).finds("agent", "skip", "the configuration cannot be used", "");
    world.node.configure("");
    world.node.write("etc/node.conf", format!("[node]\ncollector = {}\n", world.collector.url()));
    examine(&world).exits(78).finds("configuration", "fail", "opensvc-actions register", "");
}

both!(what_is_allowed_and_worth_a_word_is_no_failure);
fn what_is_allowed_and_worth_a_word_is_no_failure(dialect: Dialect) {
    let world = World::new(dialect);
    let conf = fs::read_to_string(world.node.path("etc/node.conf")).unwrap();
    world.node.write("etc/node.conf", format!("{conf}dbinsecure = true\n[dequeue_actions]\nschedule = @1 nonsense%\n"));
    let report = examine(&world);
    report.exits(0).finds("configuration", "warn", "certificate of a collector is not verified", "show-config");
    report.finds(&format!("{}.tls", dialect.name()), "warn", "not verified", "ca_file");
}

both!(a_collector_that_is_down_is_75_and_says_where_the_way_ends);
fn a_collector_that_is_down_is_75_and_says_where_the_way_ends(dialect: Dialect) {
    let world = World::new(dialect);
    world.collector.down();
    let of = |what: &str| format!("{}.{what}", dialect.name());
    let report = examine(&world);
    report.exits(75).finds(&of("name"), "ok", "", "").finds(&of("tcp"), "fail", "refused", "firewall");
    for check in ["tls", "credentials", "clock"] {
        report.finds(&of(check), "skip", "not reached", "");
    }
    let conf = fs::read_to_string(world.node.path("etc/node.conf")).unwrap();
    world.node.write("etc/node.conf", conf.replace("127.0.0.1", "collector.invalid"));
    let report = examine(&world);
    report.exits(75).finds(&of("name"), "fail", "collector.invalid", "/etc/resolv.conf");
    report.finds(&of("tcp"), "skip", "", "");
}

over_each_wire!(credentials_that_are_refused_are_77_and_nothing_is_fetched_to_find_out);
fn credentials_that_are_refused_are_77_and_nothing_is_fetched_to_find_out(wire: Wire) {
    let world = World::over(wire);
    world.collector.unregister(NODE);
    world.enqueue("echo done");
    let credentials = format!("{}.credentials", world.dialect.name());
    examine(&world).exits(77).finds(&credentials, "fail", "refused this node's credentials", "register");
    // What is worse comes first.
    world.node.remove("bin/om");
    examine(&world).exits(77).finds("agent", "fail", "\"om\"", "[execution] om");
    world.collector.register(NODE, crate::support::UUID);
    examine(&world).exits(69).finds(&credentials, "ok", NODE, "");
}

#[test]
fn a_url_that_leads_elsewhere_is_no_queue() {
    let world = World::new(Dialect::Oc3);
    for (fault, words) in [(Fault::status(404), "404"), (Fault::garbage(), "something else answers here")] {
        world.collector.fail(Call::Other, When::Always, fault);
        let report = examine(&world);
        report.finds("oc3.credentials", "fail", words, "");
        assert_ne!(report.ended.code(), 0);
        world.collector.heal();
    }
}

both!(a_collector_in_trouble_is_75);
fn a_collector_in_trouble_is_75(dialect: Dialect) {
    let world = World::new(dialect);
    let call = if dialect == Dialect::Oc3 { Call::Other } else { Call::Report };
    world.collector.fail(call, When::Always, Fault::status(503));
    let check = format!("{}.credentials", dialect.name());
    examine(&world).exits(75).finds(&check, "fail", "HTTP status 503", "look at the collector");
}

both!(each_flaw_of_a_certificate_has_its_words);
fn each_flaw_of_a_certificate_has_its_words(dialect: Dialect) {
    for (flaw, result, words, fix, exit) in [
        (Flaw::Expired, "fail", "has expired", "renew", 75),
        (Flaw::OtherName, "fail", "for another name", "renew", 75),
        (Flaw::OtherAuthority, "fail", "that this machine trusts", "ca_file", 75),
        (Flaw::ExpiresSoon, "warn", "9 d 23 h left", "renew", 0),
    ] {
        let world = World::with_flaw(dialect, flaw);
        let report = examine(&world);
        report.exits(exit).finds(&format!("{}.tls", dialect.name()), result, words, fix);
    }
}

both!(a_clock_far_off_the_collectors_is_69);
fn a_clock_far_off_the_collectors_is_69(dialect: Dialect) {
    let world = World::new(dialect);
    let clock = format!("{}.clock", dialect.name());
    examine(&world).exits(0).finds(&clock, "skip", "does not tell the time", "");
    world.collector.tell_the_time("Tue, 01 Jan 2019 00:00:00 GMT");
    examine(&world).exits(69).finds(&clock, "fail", "ahead of the collector's", "clock");
    world.collector.tell_the_time("Fri, 01 Jan 2100 00:00:00 GMT");
    examine(&world).exits(69).finds(&clock, "fail", "behind the collector's", "clock");
    world.collector.tell_the_time("yesterday");
    examine(&world).exits(0).finds(&clock, "skip", "", "");
}

both!(another_dequeuer_is_69_with_its_recipe);
fn another_dequeuer_is_69_with_its_recipe(dialect: Dialect) {
    let world = World::new(dialect);
    fs::create_dir_all(world.node.path("var/lsnr")).unwrap();
    let name = if dialect == Dialect::Oc3 { "http.sock" } else { "lsnr.sock" };
    let _daemon = UnixListener::bind(world.node.path("var/lsnr").join(name)).unwrap();
    examine(&world).exits(69).finds("dequeuers", "fail", name, "systemctl disable --now");
    world.node.configure("[collector]\nexclusive = true\n");
    examine(&world).exits(0).finds("dequeuers", "ok", "the site asserts it", "");
}

both!(a_registered_node_that_was_never_offered_anything_is_told_what_to_do);
fn a_registered_node_that_was_never_offered_anything_is_told_what_to_do(dialect: Dialect) {
    let world = World::new(dialect);
    let check = format!("{}.offered", dialect.name());
    examine(&world).exits(0).finds(&check, "skip", "not fetched yet", "");
    world.run().exits(0);
    let fix = if dialect == Dialect::Oc3 { "register --asset" } else { "pushasset" };
    examine(&world).exits(0).finds(&check, "warn", "either none was queued", fix);
    world.enqueue("echo done");
    world.run().exits(0);
    examine(&world).exits(0).finds(&check, "ok", "actions came from there", "");
}

#[test]
fn a_damaged_ledger_is_69_and_is_left_to_a_handler() {
    let world = World::new(Dialect::Oc3);
    for number in 0..20 {
        world.enqueue(&format!("echo {number}"));
    }
    world.run().exits(0);
    let path = world.node.path("var/actions/ledger.sqlite");
    // All of it into the file: what is in the log as well would be read from there.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    examine(&world).exits(0).finds("ledger", "ok", "whole", "");
    let whole = fs::read(&path).unwrap();
    // The page that everything about actions begins with, and what says that it is a database.
    for place in [4096, 0] {
        let mut damaged = whole.clone();
        damaged[place..place + 64].fill(0x5a);
        fs::write(&path, damaged).unwrap();
        examine(&world).exits(69).finds("ledger", "fail", "is damaged", "sets it aside");
    }
    world.run().exits(0);
    examine(&world)
        .exits(0)
        .finds("ledger", "warn", "set aside: ", "remove the file")
        .finds("ledger", "ok", "whole", "");
}

#[test]
fn a_log_without_its_ledger_is_damage() {
    let world = World::new(Dialect::Oc3);
    world.enqueue("echo done");
    world.run().exits(0);
    assert!(fs::metadata(world.node.path("var/actions/ledger.sqlite-wal")).unwrap().len() > 0);
    world.node.write("var/actions/ledger.sqlite", "");
    examine(&world).exits(69).finds("ledger", "fail", "its log is not", "sets it aside");
}

#[test]
fn a_ledger_of_another_version_is_said() {
    let world = World::new(Dialect::Oc3);
    world.run().exits(0);
    let connection = rusqlite::Connection::open(world.node.path("var/actions/ledger.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    examine(&world).exits(69).finds("ledger", "fail", "has format 99", "newer");
}

// What a handler that was killed leaves is a log with its index: neither is touched.
both!(beside_a_handler_and_after_one_was_killed_nothing_is_touched);
fn beside_a_handler_and_after_one_was_killed_nothing_is_touched(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nwarn_after = \"1ms\"\n");
    let mut gate = world.node.gate("gate");
    let id = world.enqueue_for("svc1", "wait gate --password tellnobody echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    world.collector.wait_for_status(id, 'R'); // it was acknowledged, too
    let runs_long = |report: &Report| {
        report.exits(0).finds(
            "running",
            "warn",
            &format!("{}:{id}.1 runs for", dialect.name()),
            "opensvc-actions cancel",
        );
        report.finds("running", "warn", "svc1", "").finds("ledger", "ok", "whole", "");
        assert!(!report.ended.stdout.contains("tellnobody"));
    };
    runs_long(&examine(&world));
    handler.signal(Signal::KILL);
    handler.wait();
    assert!(world.node.path("var/actions/ledger.sqlite-wal").exists());
    runs_long(&examine(&world));
    gate.open();
    world.run().exits(0);
    assert_eq!(world.result(id).0, 0);
    examine(&world).exits(0).finds("running", "ok", "no action runs", "");
}

#[test]
fn a_full_disk_is_69_and_a_scarce_one_a_warning() {
    let world = World::new(Dialect::Oc3);
    fs::create_dir_all(world.node.path("var/actions")).unwrap();
    let within = |options: &str| {
        let script = world.node.root().join("own-disk");
        let state = world.node.path("var/actions").display().to_string();
        fs::write(&script, format!("set -e\nmount -t tmpfs -o mode=0700,{options} none {state}\nexec \"$@\"\n"))
            .unwrap();
        let words = ["unshare", "--mount", "--propagation", "private", "sh"].map(PathBuf::from);
        examine_with(&world, world.node.handler().within(words.into_iter().chain([script])))
    };
    within("size=1m").exits(69).finds("disk", "fail", "nothing is fetched", "make room");
    within("size=8m").exits(0).finds("disk", "warn", "8.0 MiB free", "make room");
    within("size=900m,ro").exits(69).finds("disk", "fail", "read-only", "mount it");
    within("size=900m").exits(0).finds("disk", "ok", "900.0 MiB free", "");
}

#[test]
fn a_state_directory_that_others_can_write_is_69() {
    let world = World::new(Dialect::Rpc);
    world.run().exits(0);
    let state = world.node.path("var/actions");
    let mode = |mode| fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o777);
    examine(&world).exits(69).finds("state", "fail", "others than root can write", "chmod 700");
    mode(0o755);
    examine(&world).exits(0).finds("state", "warn", "can look into", "chmod 700");
}

both!(a_pause_is_shown_with_its_reason_and_how_to_end_it);
fn a_pause_is_shown_with_its_reason_and_how_to_end_it(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    world.node.handler().args(["pause", "--reason", "night work"]).run().exits(0);
    examine(&world).exits(0).finds("pause", "warn", "night work", "opensvc-actions resume");
    world.node.handler().arg("resume").run().exits(0);
    examine(&world).exits(0).finds("pause", "ok", "not paused", "");
}

both!(a_cloned_machine_is_69_and_the_first_run_is_what_remembers_it);
fn a_cloned_machine_is_69_and_the_first_run_is_what_remembers_it(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    let remembered = fs::read_to_string(world.node.path("var/actions/machine-id")).unwrap();
    assert_eq!(remembered.trim(), fs::read_to_string("/etc/machine-id").unwrap().trim());
    examine(&world).exits(0).finds("machine", "ok", "", "");
    let other = "00112233445566778899aabbccddeeff\n";
    world.node.write("var/actions/machine-id", other);
    examine(&world).exits(69).finds("machine", "fail", "this is a clone", "register --force");
    // No run takes another machine for its own.
    world.run().exits(0);
    assert_eq!(fs::read_to_string(world.node.path("var/actions/machine-id")).unwrap(), other);
}

#[test]
fn a_proxy_that_the_units_would_not_see_is_a_warning() {
    let world = World::new(Dialect::Oc3);
    let port = world.collector.port();
    let launch =
        world.node.handler().env("HTTPS_PROXY", format!("http://127.0.0.1:{port}")).env("NO_PROXY", "127.0.0.1");
    let report = examine_with(&world, launch);
    report
        .exits(0)
        .finds("oc3.proxy", "warn", "HTTPS_PROXY", "[collector] proxy")
        .finds("oc3.tcp", "skip", "proxy", "");
    world.node.configure("[collector]\nproxy = \"http://me:tellnobody@127.0.0.1:1\"\n");
    let report = examine(&world);
    report.exits(75).finds("oc3.proxy", "ok", "<redacted>@127.0.0.1:1", "").finds(
        "oc3.tcp",
        "fail",
        "127.0.0.1:1",
        "proxy",
    );
    assert!(!report.ended.stdout.contains("tellnobody"));
}

#[test]
fn two_queues_are_two_ways() {
    let (collector, down) = (Collector::start(), Collector::start());
    let world = World::at(collector, Dialect::Oc3);
    world.node.register(&[(Dialect::Oc3, &world.collector), (Dialect::Rpc, &down)]);
    down.down();
    let report = examine(&world);
    report.exits(75).finds("oc3.credentials", "ok", "", "").finds("rpc.tcp", "fail", "refused", "");
}

#[test]
fn who_is_not_root_is_77() {
    let world = World::new(Dialect::Oc3);
    let ended = world.node.handler().user(65_534).arg("doctor").run();
    assert_eq!(ended.exits(77).says("root").stdout, "");
}

#[test]
fn on_a_terminal_lines_are_folded_between_words() {
    let world = World::new(Dialect::Oc3);
    world.collector.down();
    let ended = world.node.handler().terminal().arg("doctor").run();
    ended.exits(75);
    let (lines, width): (Vec<_>, usize) = (ended.stdout.lines().map(str::trim_end).collect(), 80);
    assert!(lines.iter().any(|line| line.trim_start().starts_with("fix: start the collector")), "{}", ended.stdout);
    let is_one_word = |line: &str| line.split_whitespace().count() <= 3;
    let long: Vec<_> = lines.iter().filter(|line| line.chars().count() > width && !is_one_word(line)).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_agent_is_named_and_not_run() {
    let world = World::new(Dialect::Oc3);
    world.node.install_script("own-om", "#!/bin/sh\ntouch \"$0.ran\"\n");
    world.node.configure(&format!("[execution]\nom = {:?}\n", world.node.path("bin/own-om").display().to_string()));
    examine(&world).exits(0).finds("agent", "ok", "own-om", "");
    assert!(!world.node.path("bin/own-om.ran").exists());
}
