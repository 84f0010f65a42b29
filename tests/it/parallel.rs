//! `max_parallel`: each service is a lane, a node action a barrier, and results keep flowing.

use std::collections::BTreeSet;

use rustix::process::{Signal, kill_process};

use crate::interruptions::supervisor_of;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::state::Event;
use crate::support::history::Allowed;
use crate::support::node::{Mark, Node, is_alive};
use crate::support::world::World;
use crate::support::{Dialect, both};

fn world(dialect: Dialect, max_parallel: u32) -> World {
    let world = World::new(dialect);
    world.node.configure(&format!("[execution]\nmax_parallel = {max_parallel}\n"));
    world
}

/// The start of a row's command and its end, as positions among all marks.
#[track_caller]
fn span(node: &Node, id: i64) -> (usize, usize) {
    let marks = node.marks();
    let start = marks.iter().find(|mark| mark.kind == "start" && mark.id() == Some(id)).unwrap();
    let is_end = |mark: &&Mark| mark.kind == "end" && mark.pid == start.pid && mark.position > start.position;
    (start.position, marks.iter().find(is_end).unwrap().position)
}

/// The most that ran at once.
fn most_at_once(node: &Node) -> usize {
    let mut running = BTreeSet::new();
    let counts = node.marks().into_iter().map(|mark| {
        match mark.kind.as_str() {
            "start" => running.insert(mark.pid),
            "end" => running.remove(&mark.pid),
            _ => false,
        };
        running.len()
    });
    counts.max().unwrap_or_default()
}

both!(two_services_run_side_by_side_and_one_service_in_order);
fn two_services_run_side_by_side_and_one_service_in_order(dialect: Dialect) {
    let world = world(dialect, 3);
    let (mut gate, mut other) = (world.node.gate("gate"), world.node.gate("other"));
    let web = world.enqueue_for("web", "wait gate echo web");
    // However it is written, it is the same service.
    let behind = world.enqueue_for("svc/web", "echo behind");
    let db = world.enqueue_for("db", "wait other echo db");
    let quick = world.enqueue_for("quick", "echo quick");
    let handler = world.node.handler().start();
    world.node.wait_for_start(web);
    world.node.wait_for_start(db);
    world.collector.wait_for_result(quick); // while others run
    assert_eq!(world.node.runs_of(behind), 0, "two commands of one service at once");
    other.open();
    world.collector.wait_for_result(db);
    assert_eq!(world.node.runs_of(behind), 0, "two commands of one service at once");
    gate.open();
    handler.wait().exits(0);
    assert!(span(&world.node, behind).0 > span(&world.node, web).1);
    for (id, stdout) in [(web, "web\n"), (behind, "behind\n"), (db, "db\n"), (quick, "quick\n")] {
        assert_eq!(world.result(id), (0, stdout.to_owned(), String::new()));
    }
    world.check();
}

both!(a_node_action_waits_for_all_before_it_and_all_behind_wait_for_it);
fn a_node_action_waits_for_all_before_it_and_all_behind_wait_for_it(dialect: Dialect) {
    let world = world(dialect, 8);
    let (mut gate, mut node_gate) = (world.node.gate("gate"), world.node.gate("node-gate"));
    let web = world.enqueue_for("web", "wait gate");
    let quick = world.enqueue_for("quick", "echo quick");
    let node = world.enqueue("wait node-gate");
    let db = world.enqueue_for("db", "echo db");
    let handler = world.node.handler().start();
    world.node.wait_for_start(web);
    world.collector.wait_for_result(quick);
    assert_eq!((world.node.runs_of(node), world.node.runs_of(db)), (0, 0));
    gate.open();
    world.node.wait_for_start(node);
    world.collector.wait_for_result(web);
    assert_eq!(world.node.runs_of(db), 0);
    node_gate.open();
    handler.wait().exits(0);
    let [web, quick, node, db] = [web, quick, node, db].map(|id| span(&world.node, id));
    assert!(node.0 > web.1.max(quick.1) && db.0 > node.1);
    world.check();
}

both!(never_more_run_than_the_settings_say);
fn never_more_run_than_the_settings_say(dialect: Dialect) {
    for limit in [1, 2] {
        let world = world(dialect, limit);
        let ids: Vec<_> = (0..8).map(|number| world.enqueue_for(&format!("s{number}"), "echo done")).collect();
        world.run().exits(0);
        assert!(most_at_once(&world.node) <= limit as usize);
        if limit == 1 {
            let starts: Vec<_> = world.node.starts().iter().filter_map(Mark::id).collect();
            assert_eq!(starts, ids, "alone, each has its turn");
        }
        world.check();
    }
    let world = world(dialect, 2);
    let (mut gate, mut other) = (world.node.gate("gate"), world.node.gate("other"));
    let (quick, one) = (world.enqueue_for("a", "echo done"), world.enqueue_for("b", "wait gate"));
    let (two, three) = (world.enqueue_for("c", "wait other"), world.enqueue_for("d", "echo done"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(one);
    world.node.wait_for_start(two);
    world.collector.wait_for_result(quick);
    assert_eq!(world.node.runs_of(three), 0);
    other.open();
    world.collector.wait_for_result(three); // the room of the second was enough
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(a_failure_in_one_lane_stops_no_other);
fn a_failure_in_one_lane_stops_no_other(dialect: Dialect) {
    let world = world(dialect, 4);
    let mut gate = world.node.gate("gate");
    let _closed = world.node.gate("closed");
    let (fails, after) = (world.enqueue_for("web", "exit 3"), world.enqueue_for("web", "echo after"));
    let (loses, next) = (world.enqueue_for("db", "wait closed"), world.enqueue_for("db", "echo next"));
    let refused = world.enqueue_for("mail", "it's");
    let other = world.enqueue_for("other", "wait gate echo other");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(loses).pid;
    world.node.wait_for_start(other);
    kill_process(supervisor_of(command), Signal::KILL).unwrap();
    for id in [fails, after, loses, next, refused] {
        world.collector.wait_for_result(id);
    }
    gate.open();
    handler.wait().exits(0);
    assert_eq!((world.result(fails).0, world.result(after).1), (3, "after\n".to_owned()));
    world.reason(loses, 254);
    world.reason(refused, 125);
    assert_eq!((world.result(next).1, world.result(other).1), ("next\n".to_owned(), "other\n".to_owned()));
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}

both!(sigterm_leaves_all_that_run_and_the_next_run_attaches_to_all_of_them);
fn sigterm_leaves_all_that_run_and_the_next_run_attaches_to_all_of_them(dialect: Dialect) {
    for signal in [Signal::TERM, Signal::KILL] {
        let world = world(dialect, 3);
        let mut gates = ["a", "b", "c"].map(|name| world.node.gate(name));
        let ids = ["a", "b", "c"].map(|name| world.enqueue_for(name, &format!("wait {name} echo {name}")));
        let waits = world.enqueue_for("d", "echo d");
        let handler = world.node.handler().start();
        let commands = ids.map(|id| world.node.wait_for_start(id).pid);
        handler.signal(signal);
        handler.wait().exits(if signal == Signal::TERM { 0 } else { 137 });
        assert!(commands.iter().all(|pid| is_alive(*pid)), "a command went with its handler");
        assert_eq!(world.node.runs_of(waits), 0);

        // A later handler with less room waits for them all the same.
        world.node.configure("[execution]\nmax_parallel = 2\n");
        let next = world.node.handler().start();
        for id in ids {
            next.wait_until_says(&format!("{}:{id}.1 runs already", dialect.name()));
        }
        gates[1].open();
        world.collector.wait_for_result(ids[1]); // while the others run
        assert_eq!(world.node.runs_of(waits), 0, "no room yet");
        gates[0].open();
        world.collector.wait_for_result(waits);
        gates[2].open();
        next.wait().exits(0);
        for (id, name) in ids.into_iter().zip(["a", "b", "c"]) {
            assert_eq!(world.result(id), (0, format!("{name}\n"), String::new()));
            assert_eq!(world.node.runs_of(id), 1);
        }
        world.check();
    }
}

both!(a_node_action_that_runs_already_is_a_barrier_though_it_would_be_refused_now);
fn a_node_action_that_runs_already_is_a_barrier_though_it_would_be_refused_now(dialect: Dialect) {
    let world = world(dialect, 4);
    let mut gate = world.node.gate("gate");
    let node = world.enqueue("wait gate echo node");
    let handler = world.node.handler().start();
    world.node.wait_for_start(node);
    world.collector.wait_for_status(node, 'R');
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    world.node.configure(
        "[execution]\nmax_parallel = 4\n[policy]\ndefault = \"deny\"\n\
         [[policy.rule]]\nverdict = \"allow\"\nservice = \"web\"\n",
    );
    let web = world.enqueue_for("web", "echo web");
    let next = world.node.handler().start();
    next.wait_until_says("runs already");
    world.collector.wait_for_count(Call::Ack, 2);
    gate.open();
    next.wait().exits(0);
    assert!(span(&world.node, web).0 > span(&world.node, node).1);
    assert_eq!((world.result(node).1, world.result(web).1), ("node\n".to_owned(), "web\n".to_owned()));
    world.check();
}

both!(sigint_once_finishes_what_runs_and_starts_nothing);
fn sigint_once_finishes_what_runs_and_starts_nothing(dialect: Dialect) {
    let world = world(dialect, 2);
    let mut gates = ["a", "b"].map(|name| world.node.gate(name));
    let ids = ["a", "b"].map(|name| world.enqueue_for(name, &format!("wait {name}")));
    let behind = world.enqueue_for("a", "echo behind");
    let handler = world.node.handler().start();
    for id in ids {
        world.node.wait_for_start(id);
    }
    handler.signal(Signal::INT);
    handler.wait_until_says("interrupt again");
    gates[0].open();
    world.collector.wait_for_result(ids[0]);
    gates[1].open();
    handler.wait().exits(0);
    assert_eq!(world.node.runs_of(behind), 0);
    assert_eq!(ids.map(|id| world.result(id).0), [0, 0]);
    world.run().exits(0);
    assert_eq!(world.result(behind).1, "behind\n");
    world.check();
}

both!(what_is_queued_meanwhile_runs_where_there_is_room);
fn what_is_queued_meanwhile_runs_where_there_is_room(dialect: Dialect) {
    let world = world(dialect, 2);
    let mut gate = world.node.gate("gate");
    let web = world.enqueue_for("web", "wait gate echo web");
    let handler = world.node.handler().start();
    world.node.wait_for_start(web);
    for round in ["one", "two"] {
        let (behind, db) = (world.enqueue_for("web", "echo behind"), world.enqueue_for("db", &format!("echo {round}")));
        world.run().exits(0); // leaves its mark
        assert_eq!(world.collector.wait_for_result(db).stdout.unwrap(), format!("{round}\n"));
        assert_eq!(world.node.runs_of(behind), 0, "two commands of one service at once");
    }
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.node.starts().len(), 5);
    assert!(world.collector.rows().iter().all(|row| row.status == 'T' && row.handed_out == 1));
    world.check();
}

// A lane that is free is not held up by a result that is slow to be taken, nor by a queue that is slow to be given.
both!(what_is_queued_meanwhile_runs_while_a_report_hangs_and_lanes_go_on_while_a_fetch_does);
fn what_is_queued_meanwhile_runs_while_a_report_hangs_and_lanes_go_on_while_a_fetch_does(dialect: Dialect) {
    let world = world(dialect, 2);
    let (mut gate, mut other) = (world.node.gate("gate"), world.node.gate("other"));
    world.collector.fail(Call::Report, When::Nth(1), Fault::StallBefore);
    let quick = world.enqueue_for("quick", "echo quick");
    let web = world.enqueue_for("web", "wait gate echo web");
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Report, 1); // it hangs
    world.node.wait_for_start(web);
    let (db, behind) = (world.enqueue_for("db", "wait other"), world.enqueue_for("db", "echo behind"));
    world.run().exits(0); // leaves its mark
    world.node.wait_for_start(db);
    assert_eq!(world.collector.count(Call::Report), 1, "the first one does not hang");
    world.collector.release();
    world.collector.wait_for_result(quick);

    world.collector.fail(Call::Fetch, When::Nth(3), Fault::StallBefore);
    gate.open();
    world.collector.wait_for_result(web); // there is room for more
    let late = world.enqueue_for("late", "echo late");
    world.run().exits(0);
    world.collector.wait_for_count(Call::Fetch, 3); // it hangs
    other.open();
    world.node.wait_for_start(behind);
    world.collector.wait_for_result(behind);
    assert_eq!(world.node.runs_of(late), 0, "the fetch does not hang");
    world.collector.release();
    handler.wait().exits(0);
    for (id, stdout) in [(quick, "quick\n"), (web, "web\n"), (db, ""), (behind, "behind\n"), (late, "late\n")] {
        assert_eq!(world.result(id), (0, stdout.to_owned(), String::new()));
        assert_eq!(world.node.runs_of(id), 1);
    }
    world.check();
}

// A result that hangs is not overtaken: its redo is acknowledged when it is through, and runs then.
both!(a_redo_of_an_action_whose_report_hangs_waits_for_that);
fn a_redo_of_an_action_whose_report_hangs_waits_for_that(dialect: Dialect) {
    let world = world(dialect, 2);
    let mut gate = world.node.gate("gate");
    world.collector.fail(Call::Report, When::Nth(1), Fault::StallAfter);
    let quick = world.enqueue_for("quick", "echo quick");
    let web = world.enqueue_for("web", "wait gate echo web");
    let handler = world.node.handler().start();
    world.collector.wait_for_result(quick); // the collector has it, and does not say so
    world.node.wait_for_start(web);
    world.collector.redo(quick);
    let db = world.enqueue_for("db", "echo db");
    world.run().exits(0); // leaves its mark
    world.collector.wait_for_count(Call::Fetch, 2);
    assert_eq!((world.collector.count(Call::Ack), world.collector.count(Call::Report)), (1, 1));
    world.collector.release();
    world.node.wait_for_start(db); // while the other one runs
    gate.open();
    handler.wait().exits(0);
    assert_eq!((world.node.runs_of(quick), world.node.runs_of(web), world.node.runs_of(db)), (2, 1, 1));
    assert_eq!(world.result(quick).1, "quick\n");
    world.check();
}

// An acknowledgement that comes behind a result would undo it: the row would be one that runs, for ever.
both!(a_fetch_beside_a_command_does_not_acknowledge_what_may_have_its_result_by_then);
fn a_fetch_beside_a_command_does_not_acknowledge_what_may_have_its_result_by_then(dialect: Dialect) {
    let world = world(dialect, 2);
    let mut gate = world.node.gate("gate");
    world.collector.fail(Call::Ack, When::Nth(1), Fault::Answer(Answer::new(404, "text/plain", "no")));
    world.collector.fail(Call::Ack, When::Nth(2), Fault::StallBefore);
    let web = world.enqueue_for("web", "wait gate echo web");
    let handler = world.node.handler().start();
    world.node.wait_for_start(web);
    world.collector.wait_for_count(Call::Ack, 1);
    world.collector.age(web); // so that it is handed out again
    let db = world.enqueue_for("db", "echo db");
    world.run().exits(0); // leaves its mark
    world.collector.wait_for_count(Call::Ack, 2); // it hangs
    gate.open();
    world.collector.wait_for_result(web);
    world.collector.release();
    world.collector.wait_for_result(db);
    handler.wait().exits(0);
    let events = world.collector.events();
    let acked: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Acked { ids, .. } => Some(ids.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(acked, [[db]], "{events:?}");
    assert!(world.collector.rows().iter().all(|row| row.status == 'T'));
    world.check();
}

// A barrier that waits, a full house: a fetch would bring nothing that could start.
both!(nothing_is_fetched_meanwhile_that_could_not_start);
fn nothing_is_fetched_meanwhile_that_could_not_start(dialect: Dialect) {
    for (limit, services) in [(1, &["web"][..]), (2, &["web", "db"]), (4, &["web", ""]), (4, &[""])] {
        let world = world(dialect, limit);
        let mut gate = world.node.gate("gate");
        let ids: Vec<_> = services
            .iter()
            .map(|service| match *service {
                "" => world.enqueue("wait gate"),
                service => world.enqueue_for(service, "wait gate"),
            })
            .collect();
        let handler = world.node.handler().start();
        world.node.wait_for_start(ids[0]);
        let later = world.enqueue_for("later", "echo later");
        world.run().exits(0); // leaves its mark
        assert_eq!(world.collector.count(Call::Fetch), 1);
        gate.open();
        handler.wait().exits(0);
        // As soon as one lane is free; behind a barrier, not before that has ended.
        let ends = || ids.iter().map(|id| span(&world.node, *id).1);
        let free = if services.contains(&"") { ends().max() } else { ends().min() };
        assert!(span(&world.node, later).0 > free.unwrap(), "{limit} {services:?}");
        assert_eq!(world.result(later).1, "later\n");
        world.check();
    }
}

both!(cancel_and_pause_hold_in_every_lane);
fn cancel_and_pause_hold_in_every_lane(dialect: Dialect) {
    let world = world(dialect, 2);
    let mut gate = world.node.gate("gate");
    let _closed = world.node.gate("closed");
    let (web, db) = (world.enqueue_for("web", "wait gate echo web"), world.enqueue_for("db", "wait closed"));
    let behind = world.enqueue_for("db", "echo behind");
    let skipped = world.enqueue_for("web", "echo skipped");
    let handler = world.node.handler().start();
    world.node.wait_for_start(web);
    world.node.wait_for_start(db);
    let order = |words: &[&str]| {
        world.node.handler().args(words).run().exits(0);
    };
    order(&["cancel", &skipped.to_string()]);
    order(&["pause"]);
    order(&["cancel", &db.to_string()]);
    world.collector.wait_for_result(db);
    gate.open();
    handler.wait().exits(0);
    world.reason(db, 130);
    assert_eq!(world.result(web).1, "web\n");
    assert_eq!((world.node.runs_of(behind), world.node.runs_of(skipped)), (0, 0));
    order(&["resume"]);
    world.run().exits(0);
    world.reason(skipped, 130);
    assert_eq!(world.result(behind).1, "behind\n");
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}

both!(nothing_starts_behind_an_action_that_ends_the_boot);
fn nothing_starts_behind_an_action_that_ends_the_boot(dialect: Dialect) {
    let world = world(dialect, 4);
    let before = world.enqueue_for("web", "echo before");
    let reboot = world.collector.add(world.row("reboot").untagged());
    let behind = world.enqueue_for("db", "echo behind");
    world.run().exits(0);
    assert_eq!((world.result(before).1, world.result(reboot).0), ("before\n".to_owned(), 0));
    assert_eq!(world.node.runs_of(behind), 0);
    world.run().exits(0);
    assert_eq!(world.result(behind).1, "behind\n");
    world.check();
}

// A rule that lets words choose another target, or that ends the boot, makes a service's action a barrier.
both!(what_may_reach_beyond_its_service_runs_alone);
fn what_may_reach_beyond_its_service_runs_alone(dialect: Dialect) {
    let world = world(dialect, 4);
    world.node.configure(
        "[execution]\nmax_parallel = 4\n[[policy.rule]]\nverdict = \"allow\"\nservice = \"web\"\nretarget = true\n",
    );
    let mut gate = world.node.gate("gate");
    let (db, quick) = (world.enqueue_for("db", "wait gate"), world.enqueue_for("quick", "echo quick"));
    let web = world.enqueue_for("web", "echo web -s db");
    let handler = world.node.handler().start();
    world.node.wait_for_start(db);
    world.collector.wait_for_result(quick);
    assert_eq!(world.node.runs_of(web), 0);
    gate.open();
    handler.wait().exits(0);
    assert!(span(&world.node, web).0 > span(&world.node, db).1);
    world.check();
}

both!(results_of_a_service_are_posted_in_the_order_of_its_actions);
fn results_of_a_service_are_posted_in_the_order_of_its_actions(dialect: Dialect) {
    let world = world(dialect, 4);
    let services = ["a", "b", "c", "d"];
    let ids: Vec<_> = (0..12).map(|number| world.enqueue_for(services[number % 4], "echo done")).collect();
    world.run().exits(0);
    let posted: Vec<_> = world
        .collector
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Reported(reported) => Some(reported.id),
            _ => None,
        })
        .collect();
    for lane in 0..4 {
        let of_lane = |id: &&i64| ids.iter().position(|known| known == *id).is_some_and(|index| index % 4 == lane);
        let posted: Vec<_> = posted.iter().filter(of_lane).collect();
        assert!(posted.is_sorted() && posted.len() == 3, "{posted:?}");
    }
    world.check();
}

both!(what_starts_together_becomes_durable_together);
fn what_starts_together_becomes_durable_together(dialect: Dialect) {
    let world = world(dialect, 8);
    world.enqueue("echo first"); // makes the ledger
    world.run().exits(0);
    let mut gate = world.node.gate("gate");
    let ids: Vec<_> = (0..8).map(|number| world.enqueue_for(&format!("s{number}"), "wait gate")).collect();
    let file = world.node.path("syncs");
    let words = ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o"];
    let handler = world.node.handler().under("strace", &words, &file).start();
    for id in &ids {
        world.node.wait_for_start(*id);
    }
    let syncs = || std::fs::read_to_string(&file).unwrap().lines().filter(|line| line.contains("sync(")).count();
    // The answer and all starts; and no more than one for each result after that.
    assert_eq!(syncs(), 1);
    gate.open();
    handler.wait().exits(0);
    assert!(syncs() <= 1 + ids.len(), "{} syncs", syncs());
    world.check();
}
