//! What a run may cost, counted and not timed: system calls, syncs, requests, connections, bytes and memory of the
//! executable that is shipped. The counts are in `counts.txt`, which says how it is brought up to date.
//!
//! * `table`: that file;
//! * `trace`: the system calls of a run, by kind;
//! * `calls`: what an idle run, an action and its supervisor take of them, and of the collector;
//! * `size`: the executable, and the memory of what it becomes.
//!
//! Everything is counted in the release build, which is made on first use.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with tests/it")]
mod support;

mod calls;
mod size;
mod table;
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::Wire;
use support::world::World;

/// The executable that is shipped.
fn executable() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if !cfg!(debug_assertions) {
            return env!("CARGO_BIN_EXE_opensvc-actions").into();
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--quiet", "--locked", "--package", "opensvc-actions", "--bins"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the release build fails");
        target.join("release/opensvc-actions")
    })
}

/// A node with the executable that is shipped, which has run an action before: whose commands do nothing and print
/// nothing.
fn world(wire: Wire) -> World {
    let world = World::over(wire);
    world.node.remove("bin/opensvc-actions");
    fs::hard_link(executable(), world.node.path("bin/opensvc-actions")).unwrap();
    world.node.configure("[execution]\nom = \"/bin/true\"\n");
    world.enqueue("noop");
    run(&world);
    world
}

/// A run that does all there is to do.
fn run(world: &World) {
    world.run().exits(0);
    all_is_done(world);
}

fn all_is_done(world: &World) {
    assert!(world.collector.rows().iter().all(|row| (row.status, row.ret) == ('T', Some(0))));
}
