//! Commands that run as the user that a rule of the policy names, as they see it themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::groups::UnitGroup;
use crate::support::node::is_alive;
use crate::support::world::World;
use crate::support::{Dialect, both};
use crate::trees::{cancel, ours, parent_of};

/// Who somebody is and where, and whether the names of its own outputs can be opened.
const WHO: &str = "#!/bin/sh\nid -u; id -g; id -G; echo \"$HOME $USER $LOGNAME\"; umask; pwd\n\
    echo again >/dev/stdout; echo wrong >/dev/stderr; exit 3\n";

/// Every action runs as this user.
fn as_user(world: &World, user: &str) {
    world.node.configure(&format!(
        "[execution]\nkill_grace = \"100ms\"\n[[policy.rule]]\nverdict = \"allow\"\ncommand = [\"*\", \"plain\", \"**\"]\n\
         [[policy.rule]]\nverdict = \"allow\"\nuser = \"{user}\"\n"
    ));
    world.node.install_script("who", WHO);
    // The fake om says what it does there, whoever it is.
    fs::set_permissions(world.node.path("marks"), fs::Permissions::from_mode(0o666)).unwrap();
}

/// A shell in which this machine knows a user more, which becomes what follows. `None`, and said loudly, where no mounts
/// can be made.
fn with_users(world: &World) -> Option<Vec<PathBuf>> {
    let passwd =
        world.node.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nkeeper:x:4711:4712::/srv/keeper:/bin/sh\n");
    let group = "root:x:0:\nkeepers:x:4712:\nmore:x:4713:keeper\nother:x:4714:root\nmost:x:4715:root,keeper\n";
    let group = world.node.write("etc/group", group);
    let can = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        assert!(std::env::var_os("CI").is_none(), "no mounts can be made here");
        eprintln!("SKIPPED: no mounts can be made here");
        return None;
    }
    let mounts = format!(
        "mount --bind {} /etc/passwd && mount --bind {} /etc/group && exec \"$@\"",
        passwd.display(),
        group.display()
    );
    Some(["unshare", "-m", "sh", "-c", &mounts, "sh"].map(PathBuf::from).to_vec())
}

fn shown(world: &World, id: i64) -> Value {
    let ended = world.node.handler().args(["show", "--json", &id.to_string()]).run();
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

both!(a_command_is_its_user_in_all_its_groups_and_the_one_beside_it_is_root);
fn a_command_is_its_user_in_all_its_groups_and_the_one_beside_it_is_root(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "keeper");
    let Some(within) = with_users(&world) else { return };
    let (id, root) = (world.enqueue("run who x"), world.enqueue("plain run who x"));
    world.node.handler().within(within).run().exits(0);
    let seen = "4711\n4712\n4712 4713 4715\n/srv/keeper keeper keeper\n0022\n/\nagain\n";
    assert_eq!(world.result(id), (0, seen.to_owned(), "wrong\n".to_owned()));
    assert!(world.result(root).1.starts_with("0\n0\n"), "{}", world.result(root).1);
    let story = shown(&world, id);
    assert_eq!(story["user"], "keeper");
    assert!(story["rule"].as_str().unwrap().contains("rule 2 of "), "{story}");
    assert_eq!(shown(&world, root)["user"], Value::Null);
    world.check();
}

both!(a_user_gets_no_descriptor_that_root_would_not_get);
fn a_user_gets_no_descriptor_that_root_would_not_get(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "daemon");
    let (user, root) = (world.enqueue("fds status"), world.enqueue("plain fds status"));
    world.run().exits(0);
    let seen = |id: i64| {
        let output = world.result(id).1;
        let wanted = |line: &&str| {
            line.starts_with(|c: char| c.is_ascii_digit())
                || ["SigIgn", "SigBlk", "CapInh", "CapAmb", "NoNewPrivs", "oom_score", "tty"]
                    .iter()
                    .any(|name| line.starts_with(name))
        };
        // The numbers of pipes differ.
        let lines = output.lines().filter(wanted).map(|line| line.split("pipe:").next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert!(seen(user).len() > 6, "{:?}", seen(user));
    assert_eq!(seen(user), seen(root));
    let held = world.result(user).1;
    let effective = held.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert!(effective.trim_start_matches("CapEff:").trim().bytes().all(|digit| digit == b'0'), "{effective}");
    world.check();
}

both!(a_user_that_nobody_knows_is_125_and_stops_nobody_else);
fn a_user_that_nobody_knows_is_125_and_stops_nobody_else(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "no-such-user-here");
    let (id, root) = (world.enqueue("run who x"), world.enqueue("plain echo done"));
    world.run().exits(0);
    assert!(world.reason(id, 125).contains("\"no-such-user-here\", whom this machine does not know"));
    assert_eq!((world.node.runs_of(id), world.result(root).1.as_str()), (0, "done\n"));
    world.check_but(&ours());
}

both!(what_a_user_cannot_execute_is_126_and_what_is_not_there_is_127);
fn what_a_user_cannot_execute_is_126_and_what_is_not_there_is_127(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "daemon");
    fs::set_permissions(world.node.path("bin/om"), fs::Permissions::from_mode(0o700)).unwrap();
    let (id, root) = (world.enqueue("echo done"), world.enqueue("plain echo done"));
    world.run().exits(0);
    assert!(world.reason(id, 126).contains("Permission denied"), "{}", world.reason(id, 126));
    assert_eq!(world.result(root).1, "done\n");
    world.node.install_script("om", "#!/no/such/interpreter\n");
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert!(world.reason(id, 127).contains("/bin/om"), "{}", world.reason(id, 127));
    world.check_but(&ours());
}

both!(the_command_of_a_user_is_ended_like_any_other);
fn the_command_of_a_user_is_ended_like_any_other(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "daemon");
    let _closed = world.node.gate("closed");
    fs::set_permissions(world.node.path("closed"), fs::Permissions::from_mode(0o666)).unwrap();
    let id = world.enqueue("ignore-term escapee closed wait closed");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    let escapee = world.node.wait_for_mark("child").pid;
    let story = shown(&world, id);
    assert_eq!((&story["command_pid"], &story["supervisor_pid"]), (&command.into(), &parent_of(command).into()));
    cancel(&world, id);
    handler.wait().exits(0);
    world.reason(id, 130);
    assert!(!is_alive(command) && !is_alive(escapee));
    world.check_but(&ours());
}

both!(the_command_of_a_user_lives_in_the_group_of_its_unit);
fn the_command_of_a_user_lives_in_the_group_of_its_unit(dialect: Dialect) {
    let Some(unit) = UnitGroup::new() else { return };
    let world = World::new(dialect);
    as_user(&world, "daemon");
    let mut gate = world.node.gate("gate");
    fs::set_permissions(world.node.path("gate"), fs::Permissions::from_mode(0o666)).unwrap();
    let id = world.enqueue("wait gate exit 5");
    let handler = world.node.handler().within(unit.within()).start();
    let command = world.node.wait_for_start(id).pid;
    // Its supervisor may be about to leave.
    let members = unit.members("command");
    assert!(members.lines().any(|pid| *pid == command.to_string()), "{command} is not in {members:?}");
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(id).0, 5);
    world.check();
}

both!(a_start_that_the_machine_refuses_is_tried_again_and_its_story_tells_each_try);
fn a_start_that_the_machine_refuses_is_tried_again_and_its_story_tells_each_try(dialect: Dialect) {
    let world = World::new(dialect);
    as_user(&world, "daemon");
    let id = world.enqueue("echo done");
    // This user has a process, and may have none.
    let mut held = Command::new("cat").stdin(Stdio::piped()).uid(1).spawn().unwrap();
    let refused = || world.node.handler().within(["prlimit", "--nproc=0"].map(PathBuf::from)).run();
    for tries in 1..=2 {
        refused().exits(69).says("Resource temporarily unavailable");
        let story = shown(&world, id);
        assert_eq!((&story["state"], story["attempts"].as_array().unwrap().len()), (&"received".into(), tries));
        assert_eq!(story["attempts"][tries - 1]["step"], "start");
    }
    refused().exits(0);
    assert!(world.reason(id, 126).contains("Resource temporarily unavailable"));
    assert_eq!(shown(&world, id)["attempts"][2]["number"], 3);
    let text = world.node.handler().args(["show", &id.to_string()]).run();
    assert_eq!(text.exits(0).stdout.matches("not started").count(), 3, "{}", text.stdout);
    assert_eq!(world.node.runs_of(id), 0);
    drop(held.stdin.take()); // and with that it ends
    held.wait().unwrap();
    world.check_but(&ours());
}
