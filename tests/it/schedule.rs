//! `dequeue_actions.schedule`: what nobody has asked for keeps to it, and says so. And the local time in which it, and
//! people, count.

use std::fs::File;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::node::Node;
use crate::support::process::Ended;
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, UUID, both};

const NEVER: &str = "@0";
const DAILY: &str = "@1d";
const MORNINGS: &str = "00:00-11:59@1";

/// Gives the node this schedule.
fn schedule(world: &World, schedule: &str) {
    let keyword = match world.dialect {
        Dialect::Oc3 => "collector",
        Dialect::Rpc => "dbopensvc",
    };
    let url = world.collector.url();
    let text = format!("[node]\n{keyword} = {url}\nuuid = {UUID}\n[dequeue_actions]\nschedule = {schedule}\n");
    world.node.write("etc/node.conf", text);
}

/// The schedules of these tests are hours away from their edges.
#[expect(clippy::disallowed_methods, reason = "a node's last run is set relative to now")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A time zone in which it is about half past this hour.
fn zone(hour: i64) -> String {
    let now = now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let utc = i64::try_from(now / 3600 % 24).unwrap();
    // POSIX counts to the west.
    format!("LOC{}", (utc - hour + 36).rem_euclid(24) - 12)
}

fn fetches(world: &World) -> usize {
    world.collector.count(Call::Fetch)
}

/// Insists that a timer's run fetches, or that it does not.
#[track_caller]
fn timer(world: &World, fetches_now: bool) -> Ended {
    let before = fetches(world);
    let ended = world.run();
    ended.exits(0);
    assert_eq!(fetches(world) > before, fetches_now, "it said:\n{}", ended.stderr);
    ended
}

fn ask(node: &Node, words: &str) -> Ended {
    node.handler().args(words.split(' ')).run()
}

fn status(world: &World) -> Value {
    serde_json::from_str::<Value>(&ask(&world.node, "status --json").exits(0).stdout).unwrap()["schedule"].take()
}

fn knock(listener: &TcpListener) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"dequeue_actions").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

/// Leaves a result that the collector has not accepted.
fn leftover(world: &World) -> i64 {
    let id = world.enqueue("echo left");
    world.collector.fail(Call::Report, When::Always, Fault::Answer(Answer::new(503, "text/plain", "")));
    world.run().exits(75);
    world.collector.heal();
    id
}

fn set_last_run(world: &World, time: SystemTime) {
    File::options().write(true).open(world.node.path("var/actions/scheduled")).unwrap().set_modified(time).unwrap();
}

both!(outside_of_the_schedule_a_timer_fetches_nothing_and_posts_what_is_left);
fn outside_of_the_schedule_a_timer_fetches_nothing_and_posts_what_is_left(dialect: Dialect) {
    let world = World::new(dialect);
    let left = leftover(&world);
    let fetched = fetches(&world);
    schedule(&world, MORNINGS);
    set_last_run(&world, now() - Duration::from_secs(86_400));
    let new = world.enqueue("echo new");
    world.node.handler().env("TZ", zone(18)).run().exits(0);
    assert_eq!(world.result(left).1, "left\n");
    assert_eq!((fetches(&world), world.node.runs_of(new)), (fetched, 0));
    world.node.handler().env("TZ", zone(6)).run().exits(0);
    assert_eq!(world.result(new).1, "new\n");
    world.check();
}

both!(people_and_notifications_are_not_bound_by_the_schedule);
fn people_and_notifications_are_not_bound_by_the_schedule(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, NEVER);
    timer(&world, false);
    let listener = Node::listen();
    let idle = world.node.handler().systemd(listener.try_clone().unwrap()).run();
    idle.exits(0);
    assert_eq!(fetches(&world), 0, "a timer that gets an idle socket is a timer");
    let peer = knock(&listener);
    world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(0);
    drop(peer);
    let after_a_knock = fetches(&world);
    assert!(after_a_knock > 0);
    let peer = knock(&listener);
    world.node.handler().inetd(listener.accept().unwrap().0).run().exits(0);
    drop(peer);
    let after_a_connection = fetches(&world);
    assert!(after_a_connection > after_a_knock);
    world.node.handler().arg("dequeue").run().exits(0);
    let after_an_order = fetches(&world);
    assert!(after_an_order > after_a_connection);
    world.node.handler().terminal().run().exits(0);
    assert!(fetches(&world) > after_an_order);
    timer(&world, false);
    world.check();
}

both!(a_notification_while_a_timer_only_posts_is_not_lost);
fn a_notification_while_a_timer_only_posts_is_not_lost(dialect: Dialect) {
    let world = World::new(dialect);
    leftover(&world);
    schedule(&world, NEVER);
    let posted = world.collector.count(Call::Report);
    world.collector.fail(Call::Report, When::First(1), Fault::StallBefore);
    let listener = Node::listen();
    let handler = world.node.handler().systemd(listener.try_clone().unwrap()).start();
    world.collector.wait_for_count(Call::Report, posted + 1);
    let id = world.enqueue("echo notified");
    drop(knock(&listener));
    world.collector.release();
    handler.wait().exits(0);
    assert_eq!(world.result(id).1, "notified\n");
    world.check();
}

both!(beside_a_handler_a_timer_that_has_no_turn_leaves_no_mark);
fn beside_a_handler_a_timer_that_has_no_turn_leaves_no_mark(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    schedule(&world, NEVER);
    timer(&world, false);
    assert!(!world.node.path("var/actions/wake").exists());
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(the_interval_counts_from_the_last_run_of_a_timer);
fn the_interval_counts_from_the_last_run_of_a_timer(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, DAILY);
    assert_eq!((&status(&world)["last_run"], &status(&world)["due"]), (&Value::Null, &true.into()));
    timer(&world, true);
    timer(&world, false);
    let standing = status(&world);
    assert_eq!((&standing["value"], &standing["due"]), (&DAILY.into(), &false.into()));
    assert!(standing["last_run"].is_string() && standing["next_run"].as_str() > standing["last_run"].as_str());
    let screen = ask(&world.node, "status").exits(0).stdout.clone();
    assert!(screen.contains("@1d; last run ") && screen.contains("(in 23 h"), "{screen}");
    // A person does not count.
    set_last_run(&world, now() - Duration::from_secs(2 * 86_400));
    ask(&world.node, "dequeue").exits(0);
    timer(&world, true);
    timer(&world, false);
    // A clock that was set back silences nobody.
    set_last_run(&world, now() + Duration::from_secs(3600));
    timer(&world, true);
    timer(&world, false);
    world.check();
}

both!(a_minutely_timer_that_comes_early_keeps_its_turn);
fn a_minutely_timer_that_comes_early_keeps_its_turn(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, "@1");
    timer(&world, true);
    set_last_run(&world, now() - Duration::from_secs(40));
    timer(&world, true);
}

both!(a_scheduled_fetch_that_failed_is_repeated_within_its_time_and_a_notified_one_at_any);
fn a_scheduled_fetch_that_failed_is_repeated_within_its_time_and_a_notified_one_at_any(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, DAILY);
    world.collector.down();
    world.run().exits(75);
    assert_eq!(status(&world)["due"], true);
    world.collector.up();
    schedule(&world, NEVER);
    timer(&world, false);
    schedule(&world, DAILY);
    timer(&world, true);
    timer(&world, false);
    // A knock that a timer's run comes after.
    let listener = Node::listen();
    world.collector.down();
    let peer = knock(&listener);
    world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(75);
    drop(peer);
    schedule(&world, "*");
    world.run().exits(75);
    world.collector.up();
    schedule(&world, NEVER);
    timer(&world, true);
    timer(&world, false);
    world.check();
}

both!(a_timers_turn_outlives_a_timer_that_dies_at_its_beginning);
fn a_timers_turn_outlives_a_timer_that_dies_at_its_beginning(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, "*");
    // The last run is in the state directory, and nothing was done yet.
    let words =
        ["-f", "-qq", "-e", "trace=utimensat", "-e", "inject=utimensat:signal=KILL:when=1", "-e", "signal=none", "-o"];
    world.node.handler().under("strace", &words, &world.node.path("trace")).run();
    assert!(world.node.path("var/actions/scheduled").exists());
    assert_eq!((fetches(&world), &status(&world)["due"]), (0, &true.into()));
    timer(&world, true);
    timer(&world, false);
    world.check();
}

both!(an_entry_that_cannot_be_read_is_said_and_the_others_hold);
fn an_entry_that_cannot_be_read_is_said_and_the_others_hold(dialect: Dialect) {
    let world = World::new(dialect);
    schedule(&world, r#"["@1 mon:foo", "", "! 25:00", "@1d"]"#);
    let ended = timer(&world, true);
    for words in
        ["etc/node.conf:5: dequeue_actions.schedule: left out: \"@1 mon:foo\": \"foo\"", "\"! 25:00\"", "blank"]
    {
        assert_eq!(ended.says(words).stderr.matches(words).count(), 1, "{}", ended.stderr);
    }
    timer(&world, false);
    let left_out = &status(&world)["left_out"];
    let entries: Vec<_> = left_out.as_array().unwrap().iter().map(|entry| entry["entry"].as_str().unwrap()).collect();
    assert_eq!(entries, ["@1 mon:foo", "", "! 25:00"]);
    assert!(left_out[1]["reason"].as_str().unwrap().contains("blank"));
    let screen = ask(&world.node, "status").exits(0).stdout.clone();
    assert_eq!(screen.matches("left out: ").count(), 3, "{screen}");
    let shown = ask(&world.node, "show-config");
    assert!(shown.exits(0).stdout.contains("(left out: \"@1 mon:foo\": "), "{}", shown.stdout);
    shown.says("left out");
}

#[test]
fn the_status_says_always_and_never() {
    let world = World::new(Dialect::Oc3);
    world.run().exits(0);
    let always = status(&world);
    assert_eq!((&always["value"], &always["due"]), (&Value::Null, &true.into()));
    assert!(always["last_run"].is_string());
    assert!(ask(&world.node, "status").stdout.contains("always; last run "));
    for never in [NEVER, "", r#"["@1", "! @1"]"#, "@1 *:30 * feb", "nonsense"] {
        schedule(&world, never);
        let standing = status(&world);
        assert_eq!((&standing["next_run"], &standing["due"]), (&Value::Null, &false.into()), "{never}");
        assert!(ask(&world.node, "status").stdout.contains("never by its schedule"), "{never}");
    }
    world.node.configure("nonsense = 1\n");
    assert_eq!(status(&world), Value::Null);
}

/// Middle Europe, without a file.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// A world with one finished action, and the database to change when it was.
fn finished() -> (World, i64, Connection) {
    let world = World::new(Dialect::Oc3);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    let ledger = Connection::open(world.node.path("var/actions/ledger.sqlite")).unwrap();
    (world, id, ledger)
}

#[test]
fn people_read_local_times_and_programs_read_utc() {
    let (world, id, ledger) = finished();
    for (zone, millis, expected) in [
        (BERLIN, 1_795_251_603_123_i64, "2026-11-21 10:00:03+01:00"),
        (BERLIN, 1_792_886_400_000, "2026-10-25 02:00:00+02:00"),
        (BERLIN, 1_792_890_000_000, "2026-10-25 02:00:00+01:00"),
        (BERLIN, 1_774_745_999_000, "2026-03-29 01:59:59+01:00"),
        (BERLIN, 1_774_746_000_000, "2026-03-29 03:00:00+02:00"),
        ("IST-5:30", 1_795_251_603_000, "2026-11-21 14:30:03+05:30"),
        ("NST3:30", 1_795_251_603_000, "2026-11-21 05:30:03-03:30"),
        ("UTC", 1_795_251_603_000, "2026-11-21 09:00:03+00:00"),
        ("", 1_795_251_603_000, "2026-11-21 09:00:03+00:00"),
        (BERLIN, -1, "1970-01-01 00:59:59+01:00"),
    ] {
        ledger.execute("UPDATE action SET finished_at = ?1", [millis]).unwrap();
        for words in ["history", &format!("show {id}")] {
            let ended = world.node.handler().env("TZ", zone).args(words.split(' ')).run();
            assert!(ended.exits(0).stdout.contains(expected), "{zone} {expected} {words}:\n{}", ended.stdout);
        }
        let json = world.node.handler().env("TZ", zone).args(["history", "--json"]).run();
        let ended_at = serde_json::from_str::<Value>(&json.exits(0).stdout).unwrap()["ended_at"].take();
        assert!(ended_at.as_str().unwrap().ends_with('Z'), "{ended_at}");
    }
    for strange in ["nonsense", ":/no/such/file", "Mars/Olympus", "-", "A-25", "A-24:59:59", "CET-1CEST,M13.9.9"] {
        for words in ["history", "status"] {
            world.node.handler().env("TZ", strange).arg(words).run().exits(0);
        }
    }
    for millis in [i64::MIN, i64::MAX] {
        ledger.execute("UPDATE action SET finished_at = ?1", [millis]).unwrap();
        for words in ["history", &format!("show {id}")] {
            world.node.handler().env("TZ", BERLIN).args(words.split(' ')).run().exits(0);
        }
    }
}

#[test]
fn a_time_without_an_offset_is_local() {
    let (world, _, ledger) = finished();
    for (since, first_millis) in [
        ("2026-11-21T10:00:03", 1_795_251_603_000_i64),
        ("2026-11-21T10:00:03+01:00", 1_795_251_603_000),
        ("2026-11-21", 1_795_215_600_000),
        // It occurs twice: the first time counts.
        ("2026-10-25T02:30", 1_792_888_200_000),
        // It does not occur: as if the clock had not been set.
        ("2026-03-29T02:30", 1_774_747_800_000),
        ("2026-03-29T03:00", 1_774_746_000_000),
    ] {
        for (millis, count) in [(first_millis - 1, 0), (first_millis, 1)] {
            ledger.execute("UPDATE action SET finished_at = ?1", [millis]).unwrap();
            let ended = world.node.handler().env("TZ", BERLIN).args(["history", "--json", "--since", since]).run();
            assert_eq!(ended.exits(0).stdout.lines().count(), count, "{since} {millis}");
        }
    }
}
