//! What an idle run, an action and its supervisor take of system calls, and a run of the collector.

use std::collections::BTreeMap;

use crate::support::Wire;
use crate::support::collector::fault::Call;
use crate::support::world::World;
use crate::table::{Count, check};
use crate::trace::{Calls, Run, each};
use crate::{all_is_done, trace, world};

/// Two numbers of actions. What the second has more is so many times what one takes.
const FEW: u32 = 4;
const MANY: u32 = 12;

const WIRES: [Wire; 3] = [Wire::Oc3, Wire::RpcXml, Wire::RpcJson];

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// What the collector has seen of one run of so many actions.
struct Seen {
    run: Run,
    requests: BTreeMap<String, Count>,
}

fn run_of(wire: Wire, actions: u32) -> Seen {
    let world = world(wire);
    for _ in 0..actions {
        world.enqueue("noop");
    }
    let asked = |world: &World| {
        [
            ("connections", Call::Connection),
            ("fetches", Call::Fetch),
            ("acknowledgements", Call::Ack),
            ("reports", Call::Report),
            ("other requests", Call::Methods),
        ]
        .map(|(name, call)| (name, count(world.collector.count(call))))
    };
    let before = asked(&world);
    let run = trace::run(&world);
    all_is_done(&world);
    assert_eq!(run.supervisors.len(), usize::from(actions > 0), "one supervisor sees to all of them");
    let requests = asked(&world).into_iter().zip(before).map(|((name, after), (_, before))| {
        // Over rpc, results that are there together are posted together.
        let varies = name == "reports" && wire != Wire::Oc3 && actions > 0;
        let asked = after - before;
        (name.to_owned(), if varies { Count::About(asked) } else { Count::Exactly(asked) })
    });
    Seen { run, requests: requests.collect() }
}

#[test]
fn an_idle_run_takes_what_is_written() {
    for wire in WIRES {
        let Seen { run, requests } = run_of(wire, 0);
        assert_eq!(run.manager, 0, "nobody needs the service manager");
        check(&format!("{} idle, handler", wire.name()), &each(&run.handler, &Calls::new(), 1));
        check(&format!("{} idle, collector", wire.name()), &requests);
    }
}

#[test]
fn an_action_takes_what_is_written() {
    for wire in WIRES {
        let [few, many] = [FEW, MANY].map(|actions| run_of(wire, actions));
        assert_eq!(few.run.manager + many.run.manager, 0, "the direct launcher asks nobody");
        check(&format!("{} action, handler", wire.name()), &each(&many.run.handler, &few.run.handler, MANY - FEW));
        check(&format!("{} {MANY} actions, collector", wire.name()), &many.requests);
        let syncs = f64::from(many.run.handler["sync"]);
        check(
            &format!("{} {MANY} actions, handler", wire.name()),
            &BTreeMap::from([("sync".to_owned(), Count::Exactly(syncs))]),
        );
    }
}

#[test]
fn a_supervisor_takes_what_is_written_for_each_action() {
    let [few, many] = [FEW, MANY].map(|actions| run_of(Wire::Oc3, actions).run.supervisors.remove(0));
    check(&format!("{FEW} actions, supervisor"), &each(&few, &Calls::new(), 1));
    check("action, supervisor", &each(&many, &few, MANY - FEW));
}

// With "auto" the manager may be asked to start a command; where there is none to start, it is not even looked for.
#[test]
fn whatever_the_launcher_an_idle_run_leaves_the_service_manager_alone() {
    let world = world(Wire::Oc3);
    world.node.write("etc/actions.d/60-launcher.toml", "[execution]\nlauncher = \"auto\"\n");
    assert_eq!(trace::run(&world).manager, 0);
}
