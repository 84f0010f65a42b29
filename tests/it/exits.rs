//! The program's exit statuses, each with nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::node::Node;
use crate::support::pki::Flaw;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// The row is where it was, and nothing ran.
#[track_caller]
fn assert_untouched(world: &World, id: i64) {
    let row = world.collector.row(id);
    assert!(matches!(row.status, 'W' | 'N'), "{row:?}");
    assert_eq!(world.node.starts(), []);
}

/// Once things are well, the row is worked on as if nothing had been.
#[track_caller]
fn assert_recovers(world: &World, id: i64) {
    world.run().exits(0);
    assert_eq!(world.result(id), (0, "done\n".to_owned(), String::new()));
    assert_eq!(world.node.runs_of(id), 1);
    world.check_but(&Allowed { unauthorized: true, ..Allowed::default() });
}

both!(a_wrong_uuid_is_77_and_loses_nothing);
fn a_wrong_uuid_is_77_and_loses_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let node_conf = fs::read_to_string(world.node.path("etc/node.conf")).unwrap();
    let wrong = "11111111-2222-3333-4444-555555555555";
    world.node.write("etc/node.conf", node_conf.replace(crate::support::UUID, wrong));
    let ended = world.run();
    assert!(!ended.exits(77).stderr.contains(wrong), "a secret was said");
    ended.says("credentials");
    assert_untouched(&world, id);
    world.node.write("etc/node.conf", node_conf);
    assert_recovers(&world, id);
}

both!(a_collector_that_is_down_is_75_and_a_later_run_does_the_work);
fn a_collector_that_is_down_is_75_and_a_later_run_does_the_work(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.down();
    world.run().exits(75).says(&world.collector.url());
    assert_untouched(&world, id);
    world.collector.up();
    assert_recovers(&world, id);
}

both!(down_between_run_and_report_is_75_and_the_next_run_only_posts);
fn down_between_run_and_report_is_75_and_the_next_run_only_posts(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    world.collector.down();
    gate.open();
    handler.wait().exits(75);
    world.collector.up();
    assert_recovers(&world, id);
}

both!(a_certificate_that_is_no_good_is_75_in_words);
fn a_certificate_that_is_no_good_is_75_in_words(dialect: Dialect) {
    for (flaw, words) in
        [(Flaw::Expired, "has expired"), (Flaw::OtherName, "another name"), (Flaw::OtherAuthority, "signed by nobody")]
    {
        let world = World::with_flaw(dialect, flaw);
        let id = world.enqueue("echo done");
        world.run().exits(75).says(words).says(&world.collector.url());
        assert_untouched(&world, id);
        assert_eq!(world.collector.count(Call::Fetch), 0);
    }
}

both!(a_setting_that_is_wrong_is_78_with_file_and_line);
fn a_setting_that_is_wrong_is_78_with_file_and_line(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    for (toml, line, words) in [
        ("[execution]\ntimeout = 10\n", 2, "execution.timeout"),
        ("[execution]\n\ntimeout = \"soon\"\n", 3, "execution.timeout"),
        ("[execution]\n# …\ntimeuot = \"10s\"\n", 3, "timeuot"),
        ("[wake]\nallow = [\"nobody\"]\n", 2, "wake.allow"),
        ("\n[excution]\n", 2, "excution"),
        ("queues = [\"cattle\"]\n", 1, "cattle"),
        ("a = \"\n", 1, ""),
    ] {
        world.node.configure(toml);
        let ended = world.run();
        ended.exits(78).says(&format!("actions.d/50-test.toml:{line}:")).says(words);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(world.collector.count(Call::Connection), 0);
    world.node.configure("");
    assert_recovers(&world, id);
}

both!(settings_that_others_can_write_are_78);
fn settings_that_others_can_write_are_78(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    for path in ["etc/actions.toml", "etc/node.conf", "etc"] {
        let path = world.node.path(path);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode.mode() | 0o020)).unwrap();
        world.run().exits(78).says(&path.display().to_string());
        fs::set_permissions(&path, mode).unwrap();
    }
    assert_untouched(&world, id);
    assert_recovers(&world, id);
}

both!(without_an_agent_it_is_69_and_nothing_is_fetched);
fn without_an_agent_it_is_69_and_nothing_is_fetched(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.remove("bin/om");
    world.run().exits(69).says("om");
    assert_eq!(world.collector.count(Call::Fetch), 0);
    assert_untouched(&world, id);
    world.node.install_om();
    assert_recovers(&world, id);
}

both!(without_an_agent_what_is_left_is_still_reported);
fn without_an_agent_what_is_left_is_still_reported(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    world.collector.down();
    gate.open();
    handler.wait().exits(75);
    world.collector.up();
    world.node.remove("bin/om");
    world.run().exits(69);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(an_answer_that_cannot_be_decoded_is_65_with_the_place);
fn an_answer_that_cannot_be_decoded_is_65_with_the_place(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let type_ = if dialect == Dialect::Oc3 { "application/json" } else { "text/xml" };
    for body in ["", "\u{1}what?", "<html>\n<p>hello</html>", "{\"actions\": [", "{}", "[]", "null"] {
        world.collector.fail(Call::Fetch, When::First(10), Fault::Answer(Answer::new(200, type_, body)));
        world.run().exits(65).says("line ");
        world.collector.heal();
    }
    assert_untouched(&world, id);
    assert_recovers(&world, id);
}

both!(wrong_usage_is_64);
fn wrong_usage_is_64(dialect: Dialect) {
    let world = World::new(dialect);
    for args in [&["--nonsense"][..], &["frobnicate"], &["dequeue", "--no-such"], &["dequeue", "extra"]] {
        let ended = world.node.handler().args(args).run();
        assert!(!ended.exits(64).stderr.is_empty());
    }
    for args in ["--help", "--version"] {
        let ended = world.node.handler().args([args]).run();
        assert!(ended.exits(0).stdout.contains("opensvc-actions"));
    }
    assert_eq!(world.collector.count(Call::Connection), 0);
}

both!(not_root_is_77);
fn not_root_is_77(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.handler().user(65534).run().exits(77).says("root");
    assert_untouched(&world, id);
    assert_recovers(&world, id);
}

both!(a_state_directory_that_cannot_be_used_is_69);
fn a_state_directory_that_cannot_be_used_is_69(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.write("var", "not a directory");
    world.run().exits(69).says("var/actions");
    assert_untouched(&world, id);
    world.node.remove("var");
    assert_recovers(&world, id);
}

both!(a_ledger_of_a_later_version_is_69);
fn a_ledger_of_a_later_version_is_69(dialect: Dialect) {
    let world = World::new(dialect);
    world.run().exits(0);
    let ledger = fs::read_dir(world.node.path("var/actions")).unwrap().map(|entry| entry.unwrap().path());
    let is_ledger = |path: &std::path::PathBuf| fs::read(path).unwrap().starts_with(b"SQLite format 3");
    let ledger = ledger.filter(|path| path.is_file()).find(is_ledger).unwrap();
    let version = |number: u32| {
        let connection = rusqlite::Connection::open(&ledger).unwrap();
        let before = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap();
        connection.pragma_update(None, "user_version", number).unwrap();
        before
    };
    let known = version(9999);
    let id = world.enqueue("echo done");
    world.run().exits(69).says("9999").says("upgrade");
    assert_untouched(&world, id);
    version(known);
    assert_recovers(&world, id);
}

#[test]
fn an_answer_above_64_mib_is_65() {
    let world = World::new(Dialect::Oc3);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Fetch, When::First(1), Fault::Huge((64 << 20) + 1));
    world.run().exits(65).says("64 MiB");
    assert_untouched(&world, id);
    assert_recovers(&world, id);
}

#[test]
fn refused_credentials_at_one_collector_count_more_than_another_that_is_down() {
    let (refusing, down) = (Collector::start(), Collector::start());
    let node = Node::bare();
    node.register(&[(Dialect::Oc3, &refusing), (Dialect::Rpc, &down)]);
    down.down();
    let unauthorized = Answer::new(401, "application/json", "{\"text\":\"invalid credentials\"}\n");
    refusing.fail(Call::Fetch, When::Always, Fault::Answer(unauthorized));
    node.run().exits(77).says("invalid credentials").says(&down.url());
}
