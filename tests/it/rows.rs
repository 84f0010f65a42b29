//! Rows that cannot be executed as they stand, or are not what a row should be: they block nobody.

use crate::support::collector::state::Odd;
use crate::support::world::World;
use crate::support::{Dialect, both};

both!(what_cannot_be_executed_is_refused_with_the_reason_and_the_rest_runs);
fn what_cannot_be_executed_is_refused_with_the_reason_and_the_rest_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let first = world.enqueue("echo first");
    let refused = [
        ("quot", world.enqueue("create --env=k=\"v")),
        ("quot", world.enqueue("it's")),
        ("empty", world.collector.add(world.row("").untagged())),
        ("empty", world.collector.add(world.row("   ").untagged())),
        ("service name", world.enqueue_for("*", "stop")),
        ("service name", world.enqueue_for("a,b", "stop")),
        ("service name", world.enqueue_for("-a", "stop")),
        ("service name", world.enqueue_for("ns/svc/*", "stop")),
        ("target", world.enqueue_for("svc1", "stop -s other")),
        ("target", world.enqueue_for("svc1", "stop --service=other")),
        ("target", world.enqueue_for("svc1", "stop --node n2")),
        ("target", world.enqueue("--selector other stop")),
        ("target", world.enqueue("pushasset --server https://elsewhere")),
        ("target", world.enqueue("pushasset --cluster other")),
    ];
    let last = world.enqueue("echo last");
    world.run().exits(0);
    for (word, id) in refused {
        let reason = world.reason(id, 125);
        assert!(reason.contains(word), "{id}: {reason}");
        assert_eq!(world.node.runs_of(id), 0);
    }
    assert_eq!((world.result(first).1, world.result(last).1), ("first\n".to_owned(), "last\n".to_owned()));
    assert_eq!(world.node.starts().len(), 2);
    world.check();
}

both!(a_service_id_without_a_name_never_runs_on_the_node);
fn a_service_id_without_a_name_never_runs_on_the_node(dialect: Dialect) {
    let world = World::new(dialect);
    let mut row = world.row("shutdown");
    "ffffffff-0562-11e6-8c70-7e9e6cf13c8a".clone_into(&mut row.svc_id);
    let id = world.collector.add(row);
    world.run().exits(0);
    world.reason(id, 125);
    assert_eq!(world.node.starts(), []);
    world.check();
}

both!(a_namespaced_service_is_named_by_its_path);
fn a_namespaced_service_is_named_by_its_path(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue_for("ns1/svc/db-1.prod", "start");
    world.run().exits(0);
    assert_eq!(world.node.starts()[0].argv(), ["svc", "-s", "ns1/svc/db-1.prod", "start"]);
    world.check();
}

both!(nulls_and_unknown_members_do_not_matter);
fn nulls_and_unknown_members_do_not_matter(dialect: Dialect) {
    let world = World::new(dialect);
    let nulls = world.collector.add(world.row("echo nulls").odd(Odd::NullMembers));
    let unknown = world.collector.add(world.row("echo unknown").odd(Odd::UnknownMembers));
    world.run().exits(0);
    assert_eq!(world.result(nulls).1, "nulls\n");
    assert_eq!(world.result(unknown).1, "unknown\n");
    world.check();
}

both!(a_row_without_a_command_is_refused_and_blocks_nobody);
fn a_row_without_a_command_is_refused_and_blocks_nobody(dialect: Dialect) {
    let world = World::new(dialect);
    let missing = world.collector.add(world.row("x").odd(Odd::NoCommand));
    let null = world.collector.add(world.row("x").odd(Odd::NullCommand));
    let good = world.enqueue("echo good");
    world.run().exits(0);
    world.reason(missing, 125);
    world.reason(null, 125);
    assert_eq!(world.result(good).1, "good\n");
    world.check();
}

both!(a_row_without_a_usable_id_is_65_and_blocks_nobody);
fn a_row_without_a_usable_id_is_65_and_blocks_nobody(dialect: Dialect) {
    for odd in [Odd::IdIsWord, Odd::NoId, Odd::NotARow] {
        let world = World::new(dialect);
        world.collector.add(world.row("echo bad").odd(odd).old().stuck());
        let good = world.enqueue("echo good");
        world.run().exits(65);
        assert_eq!(world.result(good).1, "good\n", "{odd:?}");
        assert_eq!(world.node.starts().len(), 1);
    }
}

both!(an_id_that_is_a_number_in_a_string_is_the_number_or_nothing);
fn an_id_that_is_a_number_in_a_string_is_the_number_or_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let odd = world.collector.add(world.row("echo odd").odd(Odd::IdInString));
    let good = world.enqueue("echo good");
    let ended = world.run();
    assert_eq!(world.result(good).1, "good\n");
    match ended.code() {
        0 => assert_eq!(world.result(odd).1, "odd\n"),
        _ => drop(ended.exits(65)),
    }
}

both!(ids_are_not_small_numbers);
fn ids_are_not_small_numbers(dialect: Dialect) {
    let world = World::new(dialect);
    let mut row = world.row("echo big");
    row.id = i64::from(i32::MAX);
    let id = world.collector.add(row);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "big\n");
    world.check();
}
