//! Everything that a command has started: told to end, killed, or left in peace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::interruptions::supervisor_of;
use crate::support::history::Allowed;
use crate::support::node::{is_alive, wait_for_exit};
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, both};

/// For whatever must be gone, and is not awaited by the handler.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn ours() -> Allowed {
    Allowed { interrupted: true, ..Allowed::default() }
}

/// Runs until its gate is opened, heeds no SIGTERM, and has left its parent, its group and its session: by two forks, the
/// first of which has ended.
pub(crate) const FAR: &str = r#"#!/bin/sh
D=${0%/bin/*}
setsid sh -c 'setsid sh -c '\''
    trap "" TERM
    printf "child %s\n" $$ >>"$1/marks"
    read -r _ <"$1/$2"
'\'' sh "$1" "$2" & exit 0' sh "$D" "$1" &
wait $!
"#;

pub(crate) fn cancel(world: &World, id: i64) {
    world.node.handler().args(["cancel", &id.to_string()]).run().exits(0);
}

both!(what_has_left_its_parent_its_group_and_its_session_goes_with_a_timed_out_action);
fn what_has_left_its_parent_its_group_and_its_session_goes_with_a_timed_out_action(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"700ms\"\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    world.node.install_script("far", FAR);
    let id = world.enqueue("run far closed wait closed");
    world.run().exits(0);
    world.reason(id, 124);
    let far = world.node.wait_for_mark("child").pid;
    assert!(!is_alive(far), "it survives the timeout of its action");
    world.check_but(&ours());
}

both!(what_has_left_everything_goes_with_a_cancelled_action_of_a_handler_that_was_killed);
fn what_has_left_everything_goes_with_a_cancelled_action_of_a_handler_that_was_killed(dialect: Dialect) {
    for attached in [false, true] {
        let world = World::new(dialect);
        world.node.configure("[execution]\nkill_grace = \"100ms\"\n");
        let _closed = world.node.gate("closed");
        world.node.install_script("far", FAR);
        let id = world.enqueue("run far closed wait closed");
        let handler = world.node.handler().start();
        let far = world.node.wait_for_mark("child").pid;
        handler.signal(Signal::KILL);
        handler.wait().exits(137);
        if attached {
            let attached = world.node.handler().start();
            attached.wait_until_says("runs already");
            cancel(&world, id);
            attached.wait().exits(0);
        } else {
            cancel(&world, id);
            assert!(wait_for_exit(far, GONE_WITHIN), "it survives the end of its action");
            world.run().exits(0);
        }
        world.reason(id, 130);
        assert!(!is_alive(far));
        world.check_but(&ours());
    }
}

both!(a_timeout_passes_while_no_handler_is_there);
fn a_timeout_passes_while_no_handler_is_there(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"1s\"\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    let id = world.enqueue("ignore-term wait closed");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    assert!(wait_for_exit(command, GONE_WITHIN), "its timeout went with its handler");
    world.run().exits(0);
    world.reason(id, 124);
    world.check_but(&ours());
}

both!(a_cancellation_in_the_grace_of_a_timeout_changes_nothing);
fn a_cancellation_in_the_grace_of_a_timeout_changes_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"500ms\"\nkill_grace = \"2s\"\n");
    let _closed = world.node.gate("closed");
    world.node.install_script("stubborn", "#!/bin/sh\ntrap 'echo \"term $$\" >>\"${0%/bin/*}/marks\"' TERM\nwhile :; do read -r _ <\"${0%/bin/*}/closed\"; done\n");
    let id = world.enqueue("run stubborn x");
    let handler = world.node.handler().start();
    world.node.wait_for_mark("term");
    cancel(&world, id);
    handler.wait().exits(0);
    assert!(world.reason(id, 124).contains("timeout"));
    world.check_but(&ours());
}

both!(what_ends_in_its_grace_is_given_the_time_for_it);
fn what_ends_in_its_grace_is_given_the_time_for_it(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nkill_grace = \"40s\"\n");
    let mut gate = world.node.gate("gate");
    // The command itself goes at once; what it has started puts its things in order first.
    world.node.install_script(
        "orderly",
        r#"#!/bin/sh
D=${0%/bin/*}
sh -c 'trap "echo \"term $$\" >>\"$0/marks\"; read -r _ <\"$0/gate\"; echo \"child-end $$\" >>\"$0/marks\"; exit" TERM
    printf "child %s\n" $$ >>"$0/marks"; while :; do sleep 1000 & wait $!; done' "$D" &
wait
"#,
    );
    let id = world.enqueue("run orderly x");
    let handler = world.node.handler().start();
    world.node.wait_for_mark("child");
    cancel(&world, id);
    world.node.wait_for_mark("term");
    gate.open();
    world.node.wait_for_mark("child-end");
    handler.wait().exits(0);
    world.reason(id, 130);
    world.check_but(&ours());
}

/// A process that makes another one and ends, for ever, four times at once: whoever kills what a list shows comes too
/// late.
const RUNAWAY: &str = r#"#!/bin/sh
trap '' TERM
case $1 in
start) D=${0%/bin/*}
    for _ in 1 2 3 4; do setsid "$0" x & done
    printf 'child %s\n' $$ >>"$D/marks"
    exec cat "$D/closed" ;;
*)  "$0" x & exit 0 ;;
esac
"#;

both!(processes_that_outrun_every_list_are_caught);
fn processes_that_outrun_every_list_are_caught(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    world.node.install_script("runaway", RUNAWAY);
    let id = world.enqueue("run runaway start");
    let handler = world.node.handler().start();
    world.node.wait_for_mark("child");
    cancel(&world, id);
    handler.wait().exits(0);
    world.reason(id, 130);
    world.check_but(&ours()); // nobody is left
}

/// Whether a process can see to it that only its own namespace has few numbers: from Linux 6.14 on.
fn bombs_can_be_contained() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next()) >= Some((6, 14))
}

both!(a_fork_bomb_that_has_filled_the_table_of_processes_ends_with_its_action);
fn a_fork_bomb_that_has_filled_the_table_of_processes_ends_with_its_action(dialect: Dialect) {
    if !bombs_can_be_contained() {
        eprintln!("SKIPPED: this kernel has one limit of process numbers for the whole machine");
        return;
    }
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"1s\"\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    // A shell that cannot fork gives up, and leaves its place to another one's child.
    let bomb = "#!/bin/sh\ntrap '' TERM\nexec 2>/dev/null\nb() { while :; do b & done; }\nb &\nexec cat \"${0%/bin/*}/closed\"\n";
    world.node.install_script("bomb", bomb);
    let id = world.enqueue("become bomb x");
    let contain = "echo 400 >/proc/sys/kernel/pid_max && exec \"$@\"";
    let within = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", contain, "sh"];
    world.node.handler().within(within.map(Into::into)).run().exits(0);
    world.reason(id, 124);
    world.check_but(&ours()); // nobody is left
}

both!(a_machine_that_goes_down_gets_the_result_of_the_command_and_no_process_stays);
fn a_machine_that_goes_down_gets_the_result_of_the_command_and_no_process_stays(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nkill_grace = \"40s\"\n");
    let _closed = world.node.gate("closed");
    world.node.install_script("far", FAR);
    world.node.install_script("polite", "#!/bin/sh\ntrap 'exit 7' TERM\n\"${0%/bin/*}/bin/far\" closed\necho \"ready $$\" >>\"${0%/bin/*}/marks\"\nwhile :; do sleep 1000 & wait $!; done\n");
    let id = world.enqueue("become polite x");
    let handler = world.node.handler().start();
    let far = world.node.wait_for_mark("child").pid;
    let command = world.node.wait_for_mark("ready").pid;
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    let supervisor = supervisor_of(command);
    kill_process(supervisor, Signal::TERM).unwrap();
    assert!(
        wait_for_exit(supervisor.as_raw_nonzero().get(), GONE_WITHIN),
        "it waits for what does not heed the signal"
    );
    assert!(!is_alive(far));
    let record = world.node.path(&format!("var/actions/runs/{}-{id}-1/record", dialect.name()));
    assert!(record.exists(), "the machine goes down without a record");
    world.run().exits(0);
    assert_eq!(world.result(id).0, 7);
    world.check();
}

/// The children of a process that have ended and that it has not waited for.
fn zombies_of(parent: i32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_it = |stat: &String| {
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[0] == "Z" && fields[1] == parent.to_string()
    };
    stats.filter(is_it).collect()
}

pub(crate) fn parent_of(pid: i32) -> i32 {
    supervisor_of(pid).as_raw_nonzero().get()
}

/// A daemon that holds the action's output, in which at the gate `end` a process ends whose parent has ended before.
const DAEMON: &str = r#"#!/bin/sh
D=${0%/bin/*}
setsid sh -c '
    sh -c "sh -c \"printf \\\"orphan %s\\n\\\" \\\$\\\$ >>$0/marks; read -r _ <$0/end\" & exit 0" &
    wait $!
    printf "daemon %s\n" $$ >>"$0/marks"
    read -r _ <"$0/gate"
' "$D" &
"#;

both!(an_orphan_of_a_daemon_that_lives_on_is_buried);
fn an_orphan_of_a_daemon_that_lives_on_is_buried(dialect: Dialect) {
    let world = World::new(dialect);
    let (mut gate, mut end) = (world.node.gate("gate"), world.node.gate("end"));
    world.node.install_script("leave", DAEMON);
    let id = world.enqueue("run leave x echo done");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    let (daemon, orphan) = (world.node.wait_for_mark("daemon").pid, world.node.wait_for_mark("orphan").pid);
    assert!(is_alive(daemon) && is_alive(orphan));
    let drain = parent_of(orphan);
    let command = fs::read(format!("/proc/{drain}/cmdline")).unwrap();
    assert_eq!(command, b"opensvc-actions\0drain\0", "nobody has adopted it");
    assert_eq!(parent_of(daemon), drain);
    end.open();
    assert!(wait_for_exit(orphan, DEADLINE));
    let stat = format!("/proc/{orphan}/stat");
    let begun = std::time::Instant::now();
    while Path::new(&stat).exists() {
        assert!(begun.elapsed() < GONE_WITHIN, "it is a zombie: {:?}", zombies_of(drain));
        std::thread::yield_now();
    }
    assert_eq!(zombies_of(drain), [""; 0]);
    assert!(is_alive(daemon) && is_alive(drain));
    gate.open();
    assert!(wait_for_exit(drain, GONE_WITHIN), "it drains nothing any more, and stays");
    world.check();
}

both!(what_a_killed_supervisor_leaves_is_ended_wherever_it_is_while_its_parent_lives);
fn what_a_killed_supervisor_leaves_is_ended_wherever_it_is_while_its_parent_lives(dialect: Dialect) {
    let world = World::new(dialect);
    let _closed = world.node.gate("closed");
    let id = world.enqueue("ignore-term escapee closed wait closed");
    let handler = world.node.handler().start();
    let escapee = world.node.wait_for_mark("child").pid;
    let command = world.node.wait_for_start(id).pid;
    kill_process(supervisor_of(command), Signal::KILL).unwrap();
    handler.wait().exits(0);
    world.reason(id, 254);
    assert!(!is_alive(command) && !is_alive(escapee), "what is left of it was not ended");
    world.check_but(&ours());
}

both!(a_long_run_is_said_once);
fn a_long_run_is_said_once(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nwarn_after = \"100ms\"\n");
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    handler.wait_until_says("runs longer than 100ms");
    gate.open();
    let ended = handler.wait();
    assert_eq!(ended.exits(0).stderr.matches("runs longer than").count(), 1, "{}", ended.stderr);
    assert_eq!(world.result(id).0, 0);
    world.check();
}
