//! Answers that get lost, collectors that are half well, rows that are sent again: everything runs once and arrives.

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::state::{Event, Reported};
use crate::support::history::{self, Allowed};
use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// The results that were accepted for a row.
fn reports(world: &World, id: i64) -> Vec<Reported> {
    let is_it = |event| match event {
        Event::Reported(reported) if reported.id == id => Some(reported),
        _ => None,
    };
    world.collector.events().into_iter().filter_map(is_it).collect()
}

fn refused_credentials(dialect: Dialect) -> Fault {
    match dialect {
        Dialect::Oc3 => {
            let body = "{\"text\":\"strategies/union: [not public url, invalid credentials]\"}\n";
            Fault::Answer(Answer::new(401, "application/json", body))
        }
        Dialect::Rpc => Fault::Refusal("agent authentication error".to_owned()),
    }
}

const EXCHANGES: [Call; 3] = [Call::Fetch, Call::Ack, Call::Report];

both!(a_request_that_is_reset_before_it_is_handled_is_made_again);
fn a_request_that_is_reset_before_it_is_handled_is_made_again(dialect: Dialect) {
    for call in EXCHANGES {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        world.collector.fail(call, When::First(1), Fault::ResetBefore);
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n", "{call:?}");
        world.check();
    }
}

both!(a_connection_that_is_reset_at_once_is_made_again);
fn a_connection_that_is_reset_at_once_is_made_again(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Connection, When::First(1), Fault::ResetBefore);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_fetched_row_whose_answer_is_lost_is_run_once_when_it_is_sent_again);
fn a_fetched_row_whose_answer_is_lost_is_run_once_when_it_is_sent_again(dialect: Dialect) {
    for lost in [Fault::ResetAfter, Fault::HalfBody] {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Fetch, When::First(1), lost);
        world.run().exits(0); // the collector does not send it again so soon
        assert_eq!(world.node.starts(), []);
        world.collector.age(id);
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(a_lost_answer_to_the_acknowledgement_changes_nothing);
fn a_lost_answer_to_the_acknowledgement_changes_nothing(dialect: Dialect) {
    for lost in [Fault::ResetAfter, Fault::HalfBody, Fault::status(502), Fault::status(503)] {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Ack, When::First(1), lost);
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(an_acknowledgement_that_never_succeeds_does_not_stop_the_work);
fn an_acknowledgement_that_never_succeeds_does_not_stop_the_work(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.collector.add(world.row("echo done").old());
    world.collector.fail(Call::Ack, When::Always, Fault::status(500));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_result_whose_answer_is_lost_is_posted_again_as_it_is);
fn a_result_whose_answer_is_lost_is_posted_again_as_it_is(dialect: Dialect) {
    for lost in [Fault::ResetAfter, Fault::HalfBody] {
        let world = World::new(dialect);
        let id = world.enqueue("echo done exit 4");
        world.collector.fail(Call::Report, When::First(1), lost);
        world.run().exits(0);
        let reports = reports(&world, id);
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[0], Reported { answered: false, ..reports[1].clone() });
        world.check();
    }
}

both!(a_result_that_is_not_accepted_in_this_run_is_posted_by_the_next);
fn a_result_that_is_not_accepted_in_this_run_is_posted_by_the_next(dialect: Dialect) {
    let world = World::new(dialect);
    let ids = [world.enqueue("echo a"), world.enqueue("echo b")];
    world.collector.fail(Call::Report, When::Always, Fault::status(502));
    world.run().exits(75);
    world.collector.heal();
    world.run().exits(0);
    assert_eq!(ids.map(|id| world.result(id).1), ["a\n", "b\n"]);
    world.check();
}

both!(credentials_that_are_refused_once_are_tried_again);
fn credentials_that_are_refused_once_are_tried_again(dialect: Dialect) {
    for call in EXCHANGES {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        world.collector.fail(call, When::First(1), refused_credentials(dialect));
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n", "{call:?}");
        world.check();
    }
}

both!(a_busy_collector_is_asked_again_after_the_time_that_it_names);
fn a_busy_collector_is_asked_again_after_the_time_that_it_names(dialect: Dialect) {
    for call in EXCHANGES {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        let busy = Answer::new(503, "text/html", "busy").header("Retry-After", "1");
        world.collector.fail(call, When::First(1), Fault::Answer(busy));
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n", "{call:?}");
        world.check();
    }
}

both!(a_redirect_is_not_followed);
fn a_redirect_is_not_followed(dialect: Dialect) {
    let world = World::new(dialect);
    let elsewhere = Collector::start();
    let id = world.enqueue("echo done");
    for status in [301, 302, 303, 307, 308] {
        let moved = Answer::new(status, "text/html", "moved").header("Location", format!("{}/x", elsewhere.url()));
        world.collector.fail(Call::Fetch, When::Always, Fault::Answer(moved));
        world.run().exits(75).says(&status.to_string());
        world.collector.heal();
    }
    assert_eq!(elsewhere.count(Call::Connection), 0);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(other_statuses_of_the_fetch_are_75_and_lose_nothing);
fn other_statuses_of_the_fetch_are_75_and_lose_nothing(dialect: Dialect) {
    for status in [404, 500] {
        let world = World::new(dialect);
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Fetch, When::First(10), Fault::status(status));
        world.run().exits(75).says(&status.to_string());
        world.collector.heal();
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(a_result_that_is_too_large_for_a_proxy_is_posted_without_its_output);
fn a_result_that_is_too_large_for_a_proxy_is_posted_without_its_output(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("much", "x".repeat(20_000));
    let before = world.enqueue("echo before");
    let large = world.enqueue("cat much exit 9");
    let after = world.enqueue("echo after");
    world.collector.fail(Call::Report, When::Larger(10_000), Fault::status(413));
    world.run().exits(0);
    let (ret, stdout, _) = world.result(large);
    assert_eq!((ret, stdout.as_str()), (9, ""));
    assert!(world.reason(large, 9).contains("413"));
    assert_eq!([before, after].map(|id| world.result(id).1), ["before\n", "after\n"]);
    world.check();
}

both!(a_result_that_the_database_refuses_is_posted_without_its_output);
fn a_result_that_the_database_refuses_is_posted_without_its_output(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("much", "x".repeat(20_000));
    let before = world.enqueue("echo before");
    let large = world.enqueue("cat much exit 9");
    let after = world.enqueue("echo after");
    world.collector.fail(
        Call::Report,
        When::Larger(10_000),
        Fault::Refusal("Data too long for column 'stdout'".to_owned()),
    );
    world.run().exits(0);
    assert_eq!(world.result(large).0, 9);
    assert!(world.reason(large, 9).contains("Data too long"));
    assert_eq!([before, after].map(|id| world.result(id).1), ["before\n", "after\n"]);
    world.check();
}

both!(one_result_that_is_never_accepted_does_not_hold_back_the_others);
fn one_result_that_is_never_accepted_does_not_hold_back_the_others(dialect: Dialect) {
    let world = World::new(dialect);
    let stuck = world.enqueue("echo stuck");
    let good = world.enqueue("echo good");
    world.collector.fail(Call::Report, When::Row(stuck), Fault::Refusal("table is full".to_owned()));
    world.run().exits(75).says("table is full");
    assert_eq!(world.result(good).1, "good\n");
    world.collector.heal();
    world.run().exits(0);
    assert_eq!(world.result(stuck).1, "stuck\n");
    world.check();
}

both!(a_row_that_is_in_every_answer_is_run_once_and_the_loop_ends);
fn a_row_that_is_in_every_answer_is_run_once_and_the_loop_ends(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.collector.add(world.row("echo done").status('S').old().stuck());
    let good = world.enqueue("echo good");
    world.run().exits(0);
    world.run().exits(0);
    assert_eq!(world.node.runs_of(id), 1);
    assert!(!reports(&world, id).is_empty());
    assert_eq!(world.result(good).1, "good\n");
    world.check();
}

both!(a_row_with_an_unknown_letter_is_like_one_that_was_sent_before);
fn a_row_with_an_unknown_letter_is_like_one_that_was_sent_before(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    for letter in ['S', 'R', 'Q', 'C', 'T', '?'] {
        world.collector.set_status(id, letter);
        world.collector.send_once_more(id);
        world.run().exits(0);
    }
    assert_eq!(world.node.runs_of(id), 1);
    world.check();
}

both!(a_redo_runs_again_as_a_generation_of_its_own);
fn a_redo_runs_again_as_a_generation_of_its_own(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done exit 2");
    for runs in 1..=3 {
        world.run().exits(0);
        assert_eq!(world.node.runs_of(id), runs);
        assert_eq!(reports(&world, id).len(), runs);
        world.collector.redo(id);
    }
    world.run().exits(0);
    world.check();
}

both!(a_redo_of_a_result_that_was_not_accepted_posts_that_first);
fn a_redo_of_a_result_that_was_not_accepted_posts_that_first(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::status(502));
    world.run().exits(75);
    world.collector.heal();
    world.collector.cancel(id);
    world.collector.redo(id);
    world.run().exits(0);
    assert_eq!(world.node.runs_of(id), 2);
    assert_eq!(reports(&world, id).len(), 2);
    let events = world.collector.events();
    let last_ack = events.iter().rposition(|event| matches!(event, Event::Acked { .. })).unwrap();
    let first_report = events.iter().position(|event| matches!(event, Event::Reported(_))).unwrap();
    assert!(first_report < last_ack, "the old result came after the acknowledgement of its redo");
}

both!(an_id_that_was_given_to_another_action_runs_that_one);
fn an_id_that_was_given_to_another_action_runs_that_one(dialect: Dialect) {
    let world = World::new(dialect);
    let mut row = world.row("echo one").untagged();
    row.id = 900;
    world.collector.add(row.clone());
    world.run().exits(0);
    "echo two".clone_into(&mut row.command);
    world.collector.add(row);
    world.run().exits(0);
    assert_eq!(world.result(900).1, "two\n");
}

both!(a_collector_that_says_nothing_is_left_after_the_request_timeout);
fn a_collector_that_says_nothing_is_left_after_the_request_timeout(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[collector]\nrequest_timeout = \"200ms\"\n");
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Fetch, When::Always, Fault::StallBefore);
    world.run().exits(75).says("in time");
    world.collector.heal();
    world.collector.age(id); // what stalled may have handed it out to nobody
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert_eq!(world.node.runs_of(id), 1);
}

both!(a_collector_that_accepts_and_never_speaks_is_left_as_well);
fn a_collector_that_accepts_and_never_speaks_is_left_as_well(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[collector]\nconnect_timeout = \"200ms\"\nrequest_timeout = \"200ms\"\n");
    world.enqueue("echo done");
    world.collector.fail(Call::Connection, When::Always, Fault::StallBefore);
    world.run().exits(75);
    assert_eq!(world.node.starts(), []);
}

both!(a_connection_that_the_collector_closed_meanwhile_is_made_anew);
fn a_connection_that_the_collector_closed_meanwhile_is_made_anew(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    world.collector.cut();
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(what_proxies_do_to_answers_does_not_matter);
fn what_proxies_do_to_answers_does_not_matter(dialect: Dialect) {
    for fault in [Fault::Close, Fault::Chunked] {
        let world = World::new(dialect);
        let ids = [world.enqueue("echo a"), world.enqueue("echo b")];
        for call in EXCHANGES {
            world.collector.fail(call, When::Always, fault.clone());
        }
        world.run().exits(0);
        assert_eq!(ids.map(|id| world.result(id).1), ["a\n", "b\n"]);
        world.check();
    }
}

#[test]
fn any_success_is_a_success_to_the_feeder_dialect() {
    for status in [200, 201, 204] {
        let world = World::new(Dialect::Oc3);
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Ack, When::Always, Fault::Status(status));
        world.collector.fail(Call::Report, When::Always, Fault::Status(status));
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(one_queue_that_is_down_does_not_stop_the_other);
fn one_queue_that_is_down_does_not_stop_the_other(dialect: Dialect) {
    let (up, down) = (Collector::start(), Collector::start());
    let other = if dialect == Dialect::Oc3 { Dialect::Rpc } else { Dialect::Oc3 };
    let node = Node::bare();
    node.register(&[(dialect, &up), (other, &down)]);
    let (here, there) = (up.enqueue(dialect, "echo here"), down.enqueue(other, "echo there"));
    down.down();
    node.run().exits(75).says(&down.url());
    assert_eq!(up.row(here).stdout.as_deref(), Some("here\n"));
    down.up();
    node.run().exits(0);
    assert_eq!(down.row(there).stdout.as_deref(), Some("there\n"));
    history::check(&node, &[&up, &down], &Allowed::default());
}

#[test]
fn both_queues_of_one_collector_are_worked_on_and_their_ids_do_not_meet() {
    let collector = Collector::start();
    let node = Node::of(&collector, &Dialect::BOTH);
    let ids = Dialect::BOTH.map(|dialect| collector.enqueue(dialect, &format!("echo {}", dialect.name())));
    node.run().exits(0);
    assert_eq!(ids.map(|id| collector.row(id).stdout.unwrap()), ["oc3\n", "rpc\n"]);
    history::check(&node, &[&collector], &Allowed::default());
}

#[test]
fn the_same_id_in_both_queues_is_two_actions() {
    let (feeder, legacy) = (Collector::start(), Collector::start());
    let node = Node::bare();
    node.register(&[(Dialect::Oc3, &feeder), (Dialect::Rpc, &legacy)]);
    let ids = [feeder.enqueue(Dialect::Oc3, "echo oc3"), legacy.enqueue(Dialect::Rpc, "echo rpc")];
    assert_eq!(ids[0], ids[1]);
    node.run().exits(0);
    assert_eq!(feeder.row(ids[0]).stdout.as_deref(), Some("oc3\n"));
    assert_eq!(legacy.row(ids[1]).stdout.as_deref(), Some("rpc\n"));
    history::check(&node, &[&feeder, &legacy], &Allowed::default());
}

#[test]
fn a_queue_that_is_not_asked_for_is_left_alone() {
    let collector = Collector::start();
    let node = Node::of(&collector, &Dialect::BOTH);
    node.configure("queues = [\"rpc\"]\n");
    let [oc3, rpc] = Dialect::BOTH.map(|dialect| collector.enqueue(dialect, "echo x"));
    node.run().exits(0);
    assert_eq!((collector.row(oc3).status, collector.row(rpc).status), ('W', 'T'));
}

#[test]
fn a_restored_database_of_a_legacy_collector_is_answered_and_not_run() {
    let world = World::new(Dialect::Rpc);
    let id = world.enqueue("echo done exit 3");
    world.run().exits(0);
    // A redo keeps the old result; here there was none yet.
    world.collector.restore(id);
    world.run().exits(0);
    assert_eq!(world.node.runs_of(id), 1);
    assert_eq!(world.result(id), (3, "done\n".to_owned(), String::new()));
}

#[test]
fn control_characters_that_a_row_still_carries_poison_nothing() {
    let world = World::new(Dialect::Rpc);
    let mut row = world.row("echo again");
    row.stdout = Some("a\u{1}b\u{0}\u{fffe}".to_owned());
    row.ret = Some(1);
    let id = world.collector.add(row);
    let good = world.enqueue("echo good");
    world.run().exits(0);
    assert_eq!([id, good].map(|id| world.result(id).1), ["again\n", "good\n"]);
    world.check();
}

both!(a_result_goes_to_the_collector_that_its_action_came_from_and_to_no_other);
fn a_result_goes_to_the_collector_that_its_action_came_from_and_to_no_other(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    world.collector.down();
    gate.open();
    handler.wait().exits(75);
    world.collector.up();
    let other = Collector::start();
    world.node.register(&[(dialect, &other)]);
    world.node.run().exits(75).says(&world.collector.url());
    assert_eq!((other.count(Call::Fetch), other.count(Call::Report)), (1, 0));
    world.node.register(&[(dialect, &world.collector)]);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}
