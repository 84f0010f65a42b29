//! The command in a control group of its own, as in a unit of its own.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::interruptions::supervisor_of;
use crate::support::node::{is_alive, wait_for_exit};
use crate::support::world::World;
use crate::support::{Dialect, both};
use crate::trees::{FAR, GONE_WITHIN, cancel, ours, parent_of};

/// A control group that only this test has, as a unit would have. Removed with its value.
pub(crate) struct UnitGroup(std::path::PathBuf);

impl UnitGroup {
    /// `None`, and said loudly, where this machine has no control groups of version 2 that may be written.
    pub(crate) fn new() -> Option<Self> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let mount = mounts
            .into_iter()
            .find(|mount| mount.join("cgroup.procs").exists() && mount.join("cgroup.subtree_control").exists());
        let mut unique = tempfile::Builder::new();
        unique.prefix("opensvc-action-test-");
        let made = mount.and_then(|mount| unique.tempdir_in(mount).ok());
        if made.is_none() {
            assert!(std::env::var_os("CI").is_none(), "no control groups of version 2 to be written here");
            eprintln!("SKIPPED: no control groups of version 2 to be written here");
        }
        made.map(|dir| Self(dir.keep()))
    }

    /// A shell that becomes what follows, in this group.
    pub(crate) fn within(&self) -> Vec<std::path::PathBuf> {
        let enter = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", self.0.display());
        ["sh", "-c", &enter, "sh"].map(Into::into).to_vec()
    }

    pub(crate) fn members(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name).join("cgroup.procs")).unwrap_or_default()
    }
}

impl Drop for UnitGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for name in ["command/below", "command", "supervisor", ""] {
            let begun = std::time::Instant::now();
            while begun.elapsed() < GONE_WITHIN
                && fs::remove_dir(self.0.join(name)).is_err()
                && self.0.join(name).exists()
            {}
        }
    }
}

both!(in_a_unit_of_its_own_the_command_lives_in_a_group_that_is_killed_as_a_whole);
fn in_a_unit_of_its_own_the_command_lives_in_a_group_that_is_killed_as_a_whole(dialect: Dialect) {
    let Some(unit) = UnitGroup::new() else { return };
    let world = World::new(dialect);
    world.node.configure("[execution]\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    world.node.install_script("far", FAR);
    let id = world.enqueue("ignore-term run far closed wait closed");
    let handler = world.node.handler().within(unit.within()).start();
    let far = world.node.wait_for_mark("child").pid;
    let command = world.node.wait_for_start(id).pid;
    let supervisor = parent_of(command);
    let inside = unit.members("command");
    assert!([command, far].iter().all(|pid| inside.lines().any(|line| *line == pid.to_string())), "{inside}");
    assert_eq!(unit.members("supervisor"), format!("{supervisor}\n"));
    cancel(&world, id);
    handler.wait().exits(0);
    world.reason(id, 130);
    assert!(!is_alive(far) && !is_alive(command));
    assert_eq!(unit.members("command"), "");
    world.check_but(&ours());
}

both!(what_a_killed_supervisor_leaves_in_its_group_is_ended_also_what_nobody_else_would_find);
fn what_a_killed_supervisor_leaves_in_its_group_is_ended_also_what_nobody_else_would_find(dialect: Dialect) {
    let Some(unit) = UnitGroup::new() else { return };
    let world = World::new(dialect);
    let _closed = world.node.gate("closed");
    world.node.install_script("far", FAR);
    let id = world.enqueue("run far closed wait closed");
    let handler = world.node.handler().within(unit.within()).start();
    let far = world.node.wait_for_mark("child").pid;
    let command = world.node.wait_for_start(id).pid;
    assert_ne!(parent_of(far), command);
    kill_process(Pid::from_raw(parent_of(command)).unwrap(), Signal::KILL).unwrap();
    handler.wait().exits(0);
    world.reason(id, 254);
    assert!(!is_alive(far) && !is_alive(command), "what is left in its group was not ended");
    world.check_but(&ours());
}

both!(a_daemon_in_a_unit_of_its_own_lives_on);
fn a_daemon_in_a_unit_of_its_own_lives_on(dialect: Dialect) {
    let Some(unit) = UnitGroup::new() else { return };
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("echo started daemon gate");
    world.node.handler().within(unit.within()).run().exits(0);
    assert_eq!(world.result(id).1, "started\n");
    let daemon = world.node.wait_for_mark("daemon").pid;
    assert!(is_alive(daemon) && unit.members("command").contains(&daemon.to_string()));
    gate.open();
    assert_eq!(world.node.wait_for_mark("daemon-end").words, ["0"]);
    world.check();
}

both!(the_record_of_the_end_tells_what_the_command_has_used);
fn the_record_of_the_end_tells_what_the_command_has_used(dialect: Dialect) {
    for unit in [None, UnitGroup::new()] {
        let of_group = unit.is_some();
        let world = World::new(dialect);
        let mut gate = world.node.gate("gate");
        // Half of it by a process that nobody but the supervisor waits for.
        let busy =
            "#!/bin/sh\ni=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; [ -z \"$1\" ] || (setsid \"$0\" '' &)\n";
        world.node.install_script("busy", busy);
        let id = world.enqueue("run busy x wait gate");
        let within = unit.as_ref().map_or_else(|| vec!["env".into()], UnitGroup::within);
        let handler = world.node.handler().within(within).start();
        let supervisor = supervisor_of(world.node.wait_for_start(id).pid).as_raw_nonzero().get();
        handler.signal(Signal::KILL);
        handler.wait().exits(137);
        gate.open();
        assert!(wait_for_exit(supervisor, GONE_WITHIN));
        let record = world.node.path(&format!("var/actions/runs/{}-{id}-1/record", dialect.name()));
        let text = fs::read_to_string(record).unwrap();
        let record: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        let usage = &record["usage"];
        assert_eq!(usage["of_group"], of_group, "{usage}");
        let number = |name: &str| usage[name].as_u64();
        assert!(number("user_usec") > Some(1000) && number("system_usec").is_some(), "{usage}");
        assert!(of_group || number("memory_peak") > Some(100_000), "{usage}");
        world.run().exits(0);
        assert_eq!(world.result(id).0, 0);
        world.check();
    }
}
