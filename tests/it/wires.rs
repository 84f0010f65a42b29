//! What the wires have in common and what they do not: the formats and versions of the `rpc` queue, results in batches, peers
//! that are slow or not there.

mod names;
mod python;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::state::Event;
use crate::support::history::Allowed;
use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{NODE, UUID, Wire, over_each_wire};

const EXCHANGES: [Call; 3] = [Call::Fetch, Call::Ack, Call::Report];

/// The wires that take several results in one call.
const BATCHES: [Wire; 3] = [Wire::RpcXml, Wire::RpcXmlV1, Wire::RpcJson];

over_each_wire!(what_the_reference_gives_up_on_is_tried_again);
fn what_the_reference_gives_up_on_is_tried_again(wire: Wire) {
    for call in EXCHANGES {
        for fault in [Fault::ResetBefore, Fault::status(500), Fault::status(503), Fault::status(504)] {
            let world = World::over(wire);
            let id = world.enqueue("echo done");
            world.collector.fail(call, When::First(1), fault);
            world.run().exits(0);
            assert_eq!(world.result(id).1, "done\n", "{call:?}");
            world.check();
        }
    }
}

over_each_wire!(a_result_whose_post_times_out_is_posted_by_the_next_run);
fn a_result_whose_post_times_out_is_posted_by_the_next_run(wire: Wire) {
    for fault in [Fault::StallBefore, Fault::StallAfter] {
        let world = World::over(wire);
        // The fetch must be in time: a row that is young is not sent again.
        world.node.configure("[collector]\nrequest_timeout = \"600ms\"\n");
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Report, When::Always, fault);
        world.run().exits(75).says("in time");
        world.collector.heal();
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        assert_eq!(world.node.runs_of(id), 1);
    }
}

over_each_wire!(a_node_that_is_not_registered_is_77_and_takes_nothing);
fn a_node_that_is_not_registered_is_77_and_takes_nothing(wire: Wire) {
    let world = World::over(wire);
    let id = world.enqueue("echo done");
    world.collector.unregister(NODE);
    let words = if wire == Wire::Oc3 { "invalid credentials" } else { "not registered" };
    world.run().exits(77).says(words);
    world.collector.register(NODE, UUID);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check_but(&Allowed { unauthorized: true, ..Allowed::default() });
}

over_each_wire!(an_answer_above_64_mib_is_refused);
fn an_answer_above_64_mib_is_refused(wire: Wire) {
    let world = World::over(wire);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Fetch, When::First(1), Fault::Huge((64 << 20) + 1));
    world.run().exits(65).says("64 MiB");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

/// How many exchanges there were of any kind.
fn requests(collector: &Collector) -> usize {
    collector.events().iter().filter(|event| matches!(event, Event::Asked { .. })).count()
}

over_each_wire!(an_action_costs_one_request_and_a_run_three_or_four);
fn an_action_costs_one_request_and_a_run_three_or_four(wire: Wire) {
    let world = World::over(wire);
    let count = 30;
    for _ in 0..count {
        world.enqueue("exit 0");
    }
    world.run().exits(0);
    world.check();
    // Two fetches and an acknowledgement of all; to an old collector two more: that it does not know what it is asked, and
    // what it does know.
    let around = if wire == Wire::RpcXmlV1 { 4 } else { 3 };
    let asked = requests(&world.collector);
    assert!(asked <= count + around, "{asked} requests for {count} actions");
    // The call that the collector does not know is of this kind as well.
    assert_eq!(world.collector.count(Call::Methods), if wire == Wire::RpcXmlV1 { 2 } else { 0 });
    assert_eq!(world.collector.count(Call::Ack), usize::from(wire != Wire::RpcXmlV1));
}

#[test]
fn an_old_collector_is_asked_what_it_knows_once_a_run_and_never_told_what_it_does_not() {
    let world = World::over(Wire::RpcXmlV1);
    for ack in ["received", "started"] {
        world.node.configure(&format!("[collector]\nack = \"{ack}\"\n"));
        let id = world.enqueue("echo done");
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        let methods = world.collector.count(Call::Methods);
        assert_eq!((methods, world.collector.count(Call::Ack)), if ack == "received" { (2, 0) } else { (4, 0) });
    }
    let unsupported = |event: &Event| matches!(event, Event::Unsupported(_));
    assert_eq!(world.collector.events().iter().filter(|event| unsupported(event)).count(), 2);
    world.check();
}

#[test]
fn a_collector_that_denies_a_call_which_it_lists_is_not_taken_for_an_old_one() {
    let world = World::over(Wire::RpcXml);
    let id = world.enqueue("echo done");
    let words = "method \"collector_get_action_queue_v2\" is not supported";
    world.collector.fail(Call::Fetch, When::First(1), Fault::Refusal(words.to_owned()));
    world.run().exits(75).says(words);
    assert_eq!((world.collector.count(Call::Fetch), world.collector.count(Call::Methods)), (1, 1));
    assert_eq!(world.collector.count(Call::Other), 0);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

#[test]
fn an_old_collector_that_does_not_tell_what_it_knows_is_left_for_later() {
    for fault in [Fault::ResetBefore, Fault::status(404), Fault::garbage(), Fault::Refusal("no".to_owned())] {
        let world = World::over(Wire::RpcXmlV1);
        let id = world.enqueue("echo done");
        // The call that it does not know is of this kind as well, and comes before each question.
        for nth in [2, 4, 6, 8] {
            world.collector.fail(Call::Methods, When::Nth(nth), fault.clone());
        }
        assert!([65, 75].contains(&world.run().code()));
        assert_eq!(world.collector.row(id).status, 'N');
        world.collector.heal();
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

#[test]
fn in_json_the_code_of_an_unknown_method_leads_to_the_older_one() {
    let world = World::over(Wire::RpcJson);
    let id = world.enqueue("echo done");
    let answer = |body: String| Fault::Answer(Answer::new(200, "application/json", body));
    let unknown = "{\"jsonrpc\": \"2.0\", \"id\": 1, \"error\": {\"code\": -32601, \"message\": \"Method not found\"}}";
    world.collector.fail(Call::Fetch, When::Nth(1), answer(unknown.to_owned()));
    // The tests' collector, as real ones, has none of this format that is so old.
    let row = world.collector.row(id).command;
    let row = format!("{{\"id\": 2, \"result\": [{{\"id\": {id}, \"status\": \"W\", \"command\": {row:?}}}]}}");
    world.collector.fail(Call::Other, When::Nth(1), answer(row));
    world.collector.fail(Call::Other, When::Nth(2), answer("{\"id\": 4, \"result\": []}".to_owned()));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    let count = |call| world.collector.count(call);
    assert_eq!([Call::Fetch, Call::Other, Call::Ack, Call::Methods].map(count), [1, 2, 0, 0]);
}

#[test]
fn an_acknowledgement_that_the_collector_does_not_know_is_tried_once() {
    let world = World::over(Wire::RpcXml);
    let ids = [world.enqueue("echo a"), world.enqueue("echo b")];
    world.node.configure("[collector]\nack = \"started\"\n");
    let words = "method \"collector_update_action_queue_received\" is not supported";
    world.collector.fail(Call::Ack, When::Always, Fault::Refusal(words.to_owned()));
    world.run().exits(0);
    assert_eq!(ids.map(|id| world.result(id).1), ["a\n", "b\n"]);
    assert_eq!(world.collector.count(Call::Ack), 1);
    world.check();
}

#[test]
fn a_site_that_changes_the_format_strands_no_result() {
    for (before, after) in [(Wire::RpcXml, Wire::RpcJson), (Wire::RpcJson, Wire::RpcXml)] {
        let world = World::over(before);
        let id = world.enqueue("echo done");
        world.collector.fail(Call::Report, When::Always, Fault::status(502));
        world.run().exits(75);
        world.collector.heal();
        world.node.wire(&[(after, &world.collector)]);
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        assert_eq!(world.collector.wires().into_iter().collect::<Vec<_>>(), [Wire::RpcXml, Wire::RpcJson]);
        world.check();
    }
}

#[test]
fn a_row_that_comes_again_in_the_other_format_is_known() {
    for (before, after) in [(Wire::RpcXml, Wire::RpcJson), (Wire::RpcJson, Wire::RpcXml)] {
        let world = World::over(before);
        let id = world.enqueue("echo done exit 3");
        world.run().exits(0);
        world.node.wire(&[(after, &world.collector)]);
        world.collector.set_status(id, 'S');
        world.collector.age(id);
        world.run().exits(0);
        assert_eq!(world.node.runs_of(id), 1);
        assert_eq!(world.result(id), (3, "done\n".to_owned(), String::new()));
        // A redo is one in either.
        world.collector.redo(id);
        world.run().exits(0);
        assert_eq!(world.node.runs_of(id), 2);
        world.check();
    }
}

#[test]
fn a_restored_database_is_recognised_in_either_format() {
    for wire in [Wire::RpcXml, Wire::RpcJson] {
        let world = World::over(wire);
        let id = world.enqueue("echo done exit 3");
        world.run().exits(0);
        // A redo keeps the old result; here there was none yet.
        world.collector.restore(id);
        world.run().exits(0);
        assert_eq!(world.node.runs_of(id), 1);
        assert_eq!(world.result(id), (3, "done\n".to_owned(), String::new()));
    }
}

/// Queues actions that are refused here without running anything, so that their results are there at once.
fn enqueue_refused(world: &World, count: usize) -> Vec<i64> {
    (0..count).map(|_| world.enqueue("echo \"")).collect()
}

/// Runs actions while results are not accepted, so that the next run has them all to post.
fn leave_unreported(world: &World) {
    world.collector.fail(Call::Report, When::Always, Fault::status(404)); // which nobody repeats
    world.run().exits(75);
    world.collector.heal();
}

/// How many bytes each call with results had, from the `first`.
fn sizes(collector: &Collector, first: usize) -> Vec<usize> {
    let size = |event| match event {
        Event::Asked { call: Call::Report, bytes, .. } => Some(bytes),
        _ => None,
    };
    collector.events().into_iter().filter_map(size).skip(first).collect()
}

over_each_wire!(many_results_go_in_few_calls_where_the_queue_takes_them);
fn many_results_go_in_few_calls_where_the_queue_takes_them(wire: Wire) {
    let world = World::over(wire);
    let ids = enqueue_refused(&world, 250);
    world.run().exits(0);
    assert!(ids.iter().all(|id| world.result(*id).0 == 125));
    let calls = if wire == Wire::Oc3 { 250 } else { 3 };
    assert_eq!(world.collector.count(Call::Report), calls);
    world.check();
}

#[test]
fn a_call_stays_below_what_servers_take() {
    for wire in BATCHES {
        let world = World::over(wire);
        // Each of these characters takes five bytes in XML.
        world.node.write("much", "&".repeat(60_000));
        let ids: Vec<_> = (0..9).map(|_| world.enqueue("cat much")).collect();
        leave_unreported(&world);
        let before = world.collector.count(Call::Report);
        world.run().exits(0);
        let sizes = sizes(&world.collector, before);
        assert!(sizes.len() == 3 && sizes.iter().all(|size| *size < 1 << 20), "{sizes:?}");
        assert!(ids.iter().all(|id| world.result(*id).1.len() == 60_000));
        world.check();
    }
}

#[test]
fn a_batch_that_is_too_large_for_a_proxy_is_posted_in_parts_that_lose_nothing() {
    for wire in BATCHES {
        for status in [400, 413, 500] {
            let world = World::over(wire);
            world.node.write("some", "x".repeat(1_000));
            let ids: Vec<_> = (0..12).map(|_| world.enqueue("cat some")).collect();
            leave_unreported(&world);
            world.collector.fail(Call::Report, When::Larger(5_000), Fault::status(status));
            world.run().exits(0);
            assert!(ids.iter().all(|id| world.result(*id).1.len() == 1_000), "{status}");
            world.check();
        }
    }
}

#[test]
fn the_one_result_of_a_batch_that_is_refused_is_found_and_alone_goes_without_its_output() {
    for wire in BATCHES {
        let world = World::over(wire);
        let ids: Vec<_> = (0..24).map(|number| world.enqueue(&format!("echo {number}"))).collect();
        leave_unreported(&world);
        let before = world.collector.count(Call::Report);
        let words = "Data too long for column 'stdout' at row 1";
        world.collector.fail(Call::Report, When::Row(ids[17]), Fault::Refusal(words.to_owned()));
        // Even without its output the collector does not take it.
        world.run().exits(75).says(words);
        let calls = world.collector.count(Call::Report) - before;
        assert!(calls <= 2 * 5 + 2, "{calls} calls");
        for (number, id) in ids.iter().enumerate().filter(|(number, _)| *number != 17) {
            assert_eq!(world.result(*id).1, format!("{number}\n"));
        }
        world.collector.heal();
        world.run().exits(0);
        assert_eq!(world.result(ids[17]).1, "17\n");
        world.check();
    }
}

#[test]
fn two_results_that_are_refused_for_no_known_reason_hold_back_none_of_the_others() {
    for wire in BATCHES {
        let world = World::over(wire);
        let ids: Vec<_> = (0..24).map(|number| world.enqueue(&format!("echo {number}"))).collect();
        leave_unreported(&world);
        for culprit in [3, 20] {
            world.collector.fail(Call::Report, When::Row(ids[culprit]), Fault::Refusal("something".to_owned()));
        }
        world.run().exits(75).says("something");
        let without = (0..24).filter(|number| world.collector.row(ids[*number]).status != 'T').collect::<Vec<_>>();
        assert_eq!(without, [3, 20]);
        world.collector.heal();
        world.run().exits(0);
        world.check();
    }
}

#[test]
fn a_collector_in_trouble_is_left_alone_and_gets_everything_whole_later() {
    for wire in BATCHES {
        let world = World::over(wire);
        let ids = enqueue_refused(&world, 250);
        let words = "(2006, 'MySQL server has gone away')";
        world.collector.fail(Call::Report, When::Always, Fault::Refusal(words.to_owned()));
        world.run().exits(75).says(words);
        let calls = world.collector.count(Call::Report);
        assert!(calls <= 6, "{calls} calls");
        world.collector.heal();
        world.run().exits(0);
        assert!(ids.iter().all(|id| world.reason(*id, 125).contains("no closing quotation")));
        world.check();
    }
}

#[test]
fn one_result_that_puts_the_collector_in_trouble_does_not_hold_back_the_others() {
    for wire in BATCHES {
        let world = World::over(wire);
        let ids = enqueue_refused(&world, 10);
        let words = "MySQL server has gone away";
        world.collector.fail(Call::Report, When::Row(ids[2]), Fault::Refusal(words.to_owned()));
        world.run().exits(75).says(words);
        let without = (0..10).filter(|number| world.collector.row(ids[*number]).status != 'T').collect::<Vec<_>>();
        assert_eq!(without, [2]);
        world.collector.heal();
        world.run().exits(0);
        world.check();
    }
}

#[test]
fn a_batch_whose_answer_is_lost_is_posted_again_as_it_is() {
    for wire in BATCHES {
        let world = World::over(wire);
        let ids = enqueue_refused(&world, 20);
        world.collector.fail(Call::Report, When::First(1), Fault::ResetAfter);
        world.run().exits(0);
        assert!(ids.iter().all(|id| world.result(*id).0 == 125));
        assert_eq!(world.collector.count(Call::Report), 2);
        world.check();
    }
}

/// A peer that answers each request with a beginning, and then with a byte now and then for as long as somebody reads.
fn trickle() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 1000000\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
                // Waits for the peer to go, and is impatient.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                while !matches!(stream.read(&mut request), Ok(0)) && stream.write_all(b" ").is_ok() {}
            });
        }
    });
    port
}

#[test]
fn a_collector_that_sends_a_byte_now_and_then_is_left_in_the_end() {
    let is_left = |(keyword, format): (&str, &str)| {
        let node = Node::bare();
        let port = trickle();
        node.write("etc/node.conf", format!("[node]\n{keyword} = http://127.0.0.1:{port}\nuuid = {UUID}\n"));
        // The peer may be slow now and then, and must not be so for as long as this.
        let toml = format!(
            "[collector]\nnode = {NODE:?}\nrequest_timeout = \"700ms\"\n[collector.rpc]\nformat = {format:?}\n"
        );
        node.write("etc/actions.toml", toml);
        node.run().exits(75).says("no end of the answer within 7s");
    };
    thread::scope(|scope| {
        for wire in [("collector", "xml"), ("dbopensvc", "xml"), ("dbopensvc", "json")] {
            scope.spawn(move || is_left(wire));
        }
    });
}
