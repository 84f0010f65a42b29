//! What a killed supervisor leaves of its command is ended, and nobody else.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::story::Story;
use crate::support::history::Allowed;
use crate::support::node::wait_for_exit;
use crate::support::process::Ended;
use crate::support::{Dialect, both};

const GONE_WITHIN: Duration = Duration::from_secs(10);

both!(a_command_whose_supervisor_dies_before_it_has_noted_it_is_ended);
fn a_command_whose_supervisor_dies_before_it_has_noted_it_is_ended(dialect: Dialect) {
    // One that runs, and one that has ended but for a process that nobody waits for.
    for (command, left) in [("wait gate", "start"), ("child gate", "child")] {
        for attended in [true, false] {
            let story = Story::new(dialect);
            let _closed = story.world.node.gate("gate");
            let id = story.world.enqueue(command);
            let mut handler = Some(story.doomed("stop@supervisor-spawned:4").start());
            let leader = story.world.node.wait_for_start(id).pid;
            let left = if left == "start" { leader } else { story.world.node.wait_for_mark(left).pid };
            let supervisor = story.sleeper();
            if !attended {
                handler.take().into_iter().for_each(|handler| {
                    handler.signal(Signal::KILL);
                    handler.wait().exits(137);
                });
            }
            kill_process(supervisor, Signal::KILL).unwrap();
            if let Some(handler) = handler {
                handler.wait().exits(0);
            }
            story.recover();
            assert!(wait_for_exit(left, GONE_WITHIN), "{command}: what is left of it was not ended");
            story.world.reason(id, 254);
            story.check(&Allowed { interrupted: true, crashes: 1, ..Allowed::default() }, &[]);
        }
    }
}

/// Within a namespace of its own, starts a stranger with the number `$1`, the leader of a session and a group; `$2`, if it
/// is not empty, is the claim that is told the stranger's start time. Then recovers, and tells how the stranger ended.
const STRANGER: &str = r#"
cd "$OSVC_TEST_NODE" || exit 99
number=$1 claim=$2
shift 2
echo $((number - 1)) >/proc/sys/kernel/ns_last_pid || exit 98
setsid sh -c 'echo >ready; read -r _ <gate' &
[ $! = "$number" ] || exit 97
read -r _ <ready
if [ -n "$claim" ]; then
    set -- $(cut -d' ' -f22 /proc/$number/stat) "$@"
    sed -i "s/^$number [0-9]*\$/$number $1/" "$claim"
    shift
fi
"$@" || exit 96
echo >gate
wait "$number"
echo "the stranger ended with $?"
"#;

/// What the claim of the action in the middle names, whose supervisor and command are gone: its path, and the numbers of
/// the supervisor and the leader.
fn claim(story: &Story) -> (String, i32, i32) {
    let run = format!("var/actions/runs/{}-{}-1/claim", story.world.dialect.name(), story.ids[1]);
    let path = story.world.node.path(&run);
    let text = fs::read_to_string(&path).unwrap();
    let mut numbers = text.lines().skip(1).map(|line| line.trim_start_matches("X ").split(' ').next().unwrap().parse());
    let (supervisor, leader) = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
    (path.to_str().unwrap().to_owned(), supervisor, leader)
}

/// Recovers where a stranger has got a number that the claim names.
fn recover_beside_a_stranger(story: &Story, number: i32, claim: &str) -> Ended {
    let (mut gates, node) = (Vec::new(), &story.world.node);
    gates.extend(["gate", "ready"].map(|name| node.gate(name)));
    let handler = node.path("bin/opensvc-actions");
    let launch = node.program("unshare".into()).args(["--pid", "--fork", "--mount-proc", "sh", "-c", STRANGER, "sh"]);
    let ended = launch.arg(number.to_string()).arg(claim).arg(handler).arg("--root").arg(node.root()).run();
    ended.exits(0);
    ended
}

fn crashed(dialect: Dialect) -> Story {
    let story = Story::new(dialect);
    story.crash("launched:2,supervisor-noted:2");
    story.world.node.wait_until_alone(&[]);
    story
}

fn check(story: &Story) {
    let allowed = Allowed { interrupted: true, crashes: 1, ..Allowed::default() };
    story.check(&allowed, &story.ids[1..2]);
}

both!(a_stranger_with_the_number_of_the_command_is_not_signalled);
fn a_stranger_with_the_number_of_the_command_is_not_signalled(dialect: Dialect) {
    for is_the_command in [false, true] {
        let story = crashed(dialect);
        let (path, _, leader) = claim(&story);
        let told = if is_the_command { path.as_str() } else { "" };
        let ended = recover_beside_a_stranger(&story, leader, told);
        // With the command's start time it is the command, or this test would prove nothing.
        let expected = if is_the_command { 137 } else { 0 };
        assert_eq!(ended.stdout, format!("the stranger ended with {expected}\n"), "{}", ended.stderr);
        check(&story);
    }
}

both!(a_stranger_with_the_number_of_the_supervisor_is_not_signalled);
fn a_stranger_with_the_number_of_the_supervisor_is_not_signalled(dialect: Dialect) {
    let story = crashed(dialect);
    let (_, supervisor, _) = claim(&story);
    let ended = recover_beside_a_stranger(&story, supervisor, "");
    assert_eq!(ended.stdout, "the stranger ended with 0\n", "{}", ended.stderr);
    check(&story);
}

both!(a_session_that_may_be_a_strangers_by_now_is_left_alone);
fn a_session_that_may_be_a_strangers_by_now_is_left_alone(dialect: Dialect) {
    let story = Story::new(dialect);
    let mut gate = story.world.node.gate("gate");
    let id = story.world.enqueue("wait gate");
    let handler = story.doomed("stop@supervisor-spawned:4").start();
    let left = story.world.node.wait_for_start(id).pid;
    let supervisor = story.sleeper();
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    kill_process(supervisor, Signal::KILL).unwrap();
    // As if the kernel had given every number since.
    let path = story.world.node.path(&format!("var/actions/runs/{}-{id}-1/claim", dialect.name()));
    let text = fs::read_to_string(&path).unwrap();
    let (told, _) = text.trim_end().rsplit_once(' ').unwrap();
    fs::write(&path, format!("{told} 18446744073709551615\n")).unwrap();
    story.recover();
    story.world.reason(id, 254);
    assert!(crate::support::node::is_alive(left), "it was ended, and might have been a stranger");
    gate.open();
    story.check(&Allowed { interrupted: true, crashes: 1, ..Allowed::default() }, &[]);
}
