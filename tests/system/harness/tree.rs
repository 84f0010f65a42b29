//! Debian trees, made once with debootstrap and kept under the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Raise it when what a tree holds changes.
const EDITION: u32 = 1;
const PACKAGES: &str = "systemd,systemd-sysv,dbus,libpam-systemd,procps,iproute2";

/// The release of Debian: this or the one in `SYSTEM_TEST_SUITE`.
fn suite() -> String {
    std::env::var("SYSTEM_TEST_SUITE").unwrap_or_else(|_| "bookworm".to_owned())
}

/// What is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// systemd and little else.
    Base,
    /// With openbsd-inetd from the archive.
    Inetd,
    /// With rpm from the archive.
    Rpm,
}

impl Tree {
    /// The directory of the tree, made if it is not there yet.
    pub(crate) fn directory(self) -> PathBuf {
        require_tools();
        let cache = cache();
        fs::create_dir_all(&cache).unwrap();
        let (kind, more) = match self {
            Tree::Base => ("base", None),
            Tree::Inetd => ("inetd", Some("openbsd-inetd")),
            Tree::Rpm => ("rpm", Some("rpm")),
        };
        let directory = cache.join(format!("{kind}-{}-{EDITION}", suite()));
        let parent = more.map(|package| (Tree::Base.directory(), package));
        // One maker at a time, over all test processes; the lock goes with the descriptor.
        let lock = File::create(directory.with_extension("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        if !directory.exists() {
            let unfinished = directory.with_extension("unfinished");
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished).unwrap();
            }
            match parent {
                None => make_base(&unfinished),
                Some((base, package)) => make_with(package, &base, &unfinished),
            }
            fs::rename(&unfinished, &directory).unwrap();
        }
        directory
    }
}

/// Where trees and running machines lie.
pub(super) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("system-test")
}

fn make_base(into: &Path) {
    command(
        Command::new("debootstrap").args(["--variant=minbase", &format!("--include={PACKAGES}"), &suite()]).arg(into),
    );
    // Not a first boot: no presets, no setup questions.
    fs::write(into.join("etc/machine-id"), "5b1f0c6a8e0d4d1c9f6e2a7b3c4d5e6f\n").unwrap();
    fs::write(into.join("etc/hostname"), "n1.example.com\n").unwrap();
    fs::write(into.join("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 n1.example.com n1\n::1 localhost\n").unwrap();
    // Nothing of the distribution's own runs by the clock.
    let wants = into.join("etc/systemd/system/timers.target.wants");
    if wants.exists() {
        fs::remove_dir_all(wants).unwrap();
    }
    fs::remove_dir_all(into.join("var/cache/apt/archives")).unwrap();
}

fn make_with(package: &str, base: &Path, into: &Path) {
    command(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(into));
    // Its maintainer scripts must not start it on this machine.
    let policy = into.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
    command(Command::new("chmod").arg("755").arg(&policy));
    fs::create_dir_all(into.join("var/cache/apt/archives/partial")).unwrap();
    fs::copy("/etc/resolv.conf", into.join("etc/resolv.conf")).unwrap();
    let script = format!("apt-get -qq update && apt-get -qq install --no-install-recommends -y {package}");
    command(
        Command::new("chroot").arg(into).args(["/bin/sh", "-ec", &script]).env("DEBIAN_FRONTEND", "noninteractive"),
    );
    fs::remove_file(policy).unwrap();
}

/// Runs it and fails with all that it said.
fn command(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said));
}

/// Fails with everything that is missing on this machine, at once.
fn require_tools() {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("to be root (sudo -E cargo test)".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = [
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("timeout", "coreutils"),
    ];
    for (tool, package) in tools {
        if !std::env::split_paths(&path).any(|directory| directory.join(tool).exists()) {
            missing.push(format!("{tool} (apt-get install {package})"));
        }
    }
    assert!(missing.is_empty(), "the system suite cannot run here, it needs: {}", missing.join(", "));
}
