//! An external action, and a crash at every step of its life: started once, its end reported once and as it was.

use std::fs;
use std::path::PathBuf;

use crate::points::executable;
use crate::story::for_each;
use crate::support::Dialect;
use crate::support::collector::Collector;
use crate::support::history::Allowed;
use crate::support::process::Ended;
use crate::support::world::World;

/// Where a handler or a supervisor can die, and whether the start may be lost by it.
const POINTS: [(&str, bool); 34] = [
    ("claimed", false),
    ("started", false),
    ("launched", false),
    ("supervisor-begun", false),
    ("supervisor-unmarked", false),
    ("supervisor-marked", true),
    ("supervisor-spawned", true),
    ("supervisor-noted", true),
    ("supervisor-ended", true),
    ("supervisor-offered", false),
    ("supervisor-told", false),
    ("record-read", false),
    ("record-read,supervisor-recorded", false),
    ("outside-drafted", false),
    ("outside-noted", false),
    ("outside", false),
    ("check-prepared", false),
    ("check-launched", false),
    // the supervisor of the first check
    ("supervisor-begun:2", false),
    ("supervisor-unmarked:2", false),
    ("supervisor-marked:2", false),
    ("supervisor-noted:2", false),
    ("supervisor-ended:2", false),
    ("supervisor-offered:2", false),
    ("supervisor-told:2", false),
    ("check-launched,supervisor-recorded", false),
    ("checked", false),
    ("checked,supervisor-recorded", false),
    ("outside-drafted:2", false),
    ("outside-noted:2", false),
    ("asked", false),
    ("checked:2", false),
    ("finished", false),
    ("reported", false),
];

/// The start notes itself; the third check says that it has finished.
fn story() -> (World, i64) {
    let world = World::at(Collector::plain(), Dialect::Rpc);
    world.node.make_dir("counts");
    let root = world.node.root().display().to_string();
    world.node.install_script("start-it", &format!("#!/bin/sh\necho start >>{root}/starts\necho begun\n"));
    let check = format!(
        "#!/bin/sh\necho check >>{root}/checks\n[ $(wc -l <{root}/checks) -lt 3 ] && s=running || s=finished\n\
         echo '{{\"status\":\"'$s'\"}}'\n"
    );
    world.node.install_script("check-it", &check);
    let bin = world.node.path("bin").display().to_string();
    world.node.configure(&format!(
        "[external_actions.x]\naction = [\"{bin}/start-it\"]\ncheck = [\"{bin}/check-it\"]\ninterval = \"100ms\"\n"
    ));
    let id = world.collector.add(world.row("external x").untagged().old());
    (world, id)
}

fn crash(world: &World, list: &str) -> Ended {
    let doomed: PathBuf = world.node.path("bin/opensvc-actions-doomed");
    fs::hard_link(executable(), &doomed).unwrap();
    let launch = world.node.program(doomed).arg("--root").arg(world.node.root());
    launch.env("OPENSVC_ACTIONS_CRASH", list).env("OPENSVC_ACTIONS_CRASH_COUNTS", world.node.path("counts")).run()
}

#[test]
fn an_external_action_survives_a_crash_at_every_step_of_its_life() {
    for_each(&POINTS, |(point, lost)| {
        let (world, id) = story();
        let crashed = crash(&world, point);
        assert!(crashed.code() == 137 || point.starts_with("supervisor"), "{point}: it did not crash: {crashed:?}");
        let first = point.split([',', ':']).next().unwrap();
        assert!(world.node.path("counts").join(first).exists(), "{point} was not passed");
        world.node.wait_until_alone(&[]);
        for _ in 0..20 {
            world.run().exits(0);
            if world.collector.row(id).status == 'T' {
                break;
            }
        }
        let (ret, stdout, _) = world.result(id);
        let starts = fs::read_to_string(world.node.path("starts")).unwrap_or_default();
        if *lost {
            assert_eq!(ret, 254, "{point}");
            assert!(starts.lines().count() <= 1, "{point}: {starts}");
        } else {
            assert_eq!((ret, starts.as_str()), (0, "start\n"), "{point}");
            assert_eq!(stdout, "begun\n{\"status\":\"finished\"}\n", "{point}");
        }
        world.check_but(&Allowed { crashes: 1, ..Allowed::default() });
    });
}
