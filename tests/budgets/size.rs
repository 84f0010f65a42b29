//! The executable, and the memory of what it becomes.

use std::fs;

use crate::support::Wire;
use crate::support::collector::fault::{Call, Fault, When};
use crate::{all_is_done, executable, world};

/// The most that the executable may have, in bytes.
const EXECUTABLE: u64 = 5_242_880;

/// The most memory that the handler may ever have, in KiB, for 1,000 actions whatever they print.
const HANDLER: u64 = 8192;

/// The memory that a supervisor may have for itself, in KiB. What it shares with the handler and the C library's other
/// users, which is the more, costs nothing.
const SUPERVISOR: u64 = 1024;

/// The sum of the lines with these names, in KiB.
fn kib(path: &str, names: &[&str]) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|err| panic!("{path}: {err}"));
    let of = |name: &&str| {
        let line = text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{path} has no {name}")).trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    names.iter().map(of).sum()
}

#[test]
fn the_executable_is_small() {
    let bytes = fs::metadata(executable()).unwrap().len();
    eprintln!("the executable has {bytes} bytes");
    assert!(bytes <= EXECUTABLE, "{bytes} bytes");
}

#[test]
fn a_handler_is_small_after_1000_actions() {
    let world = world(Wire::Oc3);
    // One prints more than fits a report, one as much as fits, the others nothing.
    world.node.install_script("om", "#!/bin/sh\n[ \"$2\" = noop ] || head -c \"$2\" /dev/zero\n");
    world.node.configure(&format!("[execution]\nom = {:?}\n", world.node.path("bin/om")));
    let commands = ["10000000", "60000"].into_iter().chain((0..998).map(|_| "noop"));
    let ids: Vec<_> = commands.map(|command| world.collector.add(world.row(command).untagged())).collect();
    let fetches = world.collector.count(Call::Fetch);
    // The last look finds nothing new, and while it waits for its answer everything else is behind it.
    world.collector.fail(Call::Fetch, When::Nth(fetches + 2), Fault::StallBefore);
    let handler = world.node.handler().start();
    for id in ids.iter().step_by(50) {
        world.collector.wait_for_result(*id);
    }
    world.collector.wait_for_count(Call::Fetch, fetches + 2);
    let peak = kib(&format!("/proc/{}/status", handler.pid()), &["VmHWM"]);
    world.collector.heal();
    handler.wait().exits(0);
    all_is_done(&world);
    eprintln!("a handler of 1,000 actions has had {peak} KiB");
    assert!(peak <= HANDLER, "{peak} KiB");
}

#[test]
fn a_supervisor_is_small_while_its_command_prints() {
    let world = world(Wire::Oc3);
    world.node.remove("etc/actions.d/50-test.toml"); // the `om` that does what its words say
    let mut gate = world.node.gate("gate");
    fs::write(world.node.path("much"), vec![b'x'; 5_000_000]).unwrap();
    let id = world.enqueue("cat much kill 0 wait gate");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    let stat = fs::read_to_string(format!("/proc/{command}/stat")).unwrap();
    let supervisor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    world.node.wait_for_mark("kill"); // which says that everything before it is printed, and nothing else
    let rollup = format!("/proc/{supervisor}/smaps_rollup");
    let (private, rss) = (kib(&rollup, &["Private_Clean", "Private_Dirty"]), kib(&rollup, &["Rss"]));
    gate.open();
    handler.wait().exits(0);
    all_is_done(&world);
    eprintln!("a supervisor has {private} KiB for itself and {rss} KiB in all");
    assert!(private <= SUPERVISOR, "{private} KiB");
}
