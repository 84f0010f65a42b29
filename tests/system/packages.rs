//! The packages that `packaging/build` makes: installed, used, upgraded, downgraded, removed and purged, mostly while an
//! action runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Collector, Machine, Output, Queue, Tree, write};

const SERVICE: &str = "opensvc-actions.service";
const SOCKET: &str = "opensvc-actions.socket";
const TIMER: &str = "opensvc-actions.timer";
const REARM: &str = "opensvc-actions-rearm.timer";

/// In front of the suite's `om`: an action that installs what its word names.
const OM: &str =
    "#!/bin/sh\nif [ \"$2\" = install ]; then exec dpkg --install \"$3\"; fi\nexec /usr/bin/om.suite \"$@\"\n";

/// The packages of this build, in two revisions of the same version; made once.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&out);
        let built = Path::new(env!("CARGO_BIN_EXE_opensvc-actions")).parent().unwrap();
        for revision in ["1", "2"] {
            let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build"))
                .arg("--built")
                .arg(built)
                .args(["--revision", revision, "--fast", "--out"])
                .arg(&out)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "packaging/build: {}\n{said}", output.status);
        }
        out
    })
}

fn deb_of(program: &str, revision: u32) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!("{program}_{version}-{revision}_{architecture}.deb")
}

fn rpm_of(program: &str, revision: u32) -> String {
    format!("{program}-{}-{revision}.{}.rpm", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}

/// Where a package of the handler lies in a machine.
fn deb(revision: u32) -> String {
    format!("/srv/{}", deb_of("opensvc-actions", revision))
}

/// A Debian with neither program, but with an `om` and the packages to install.
fn clean(name: &str, tree: Tree) -> Machine {
    let packages = packages();
    Machine::boot(name, tree, |root| {
        let bin = root.join("usr/bin");
        for (name, text) in
            [("om", OM), ("om.suite", include_str!("harness/om.sh")), ("peer.pl", include_str!("harness/peer.pl"))]
        {
            write(&bin.join(name), text);
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir_all(root.join("srv")).unwrap();
        for program in ["opensvc-actions", "opensvc-actions-collector"] {
            for name in [1, 2].into_iter().flat_map(|revision| [deb_of(program, revision), rpm_of(program, revision)]) {
                // Both lie below the target directory.
                fs::hard_link(packages.join(&name), root.join("srv").join(&name)).unwrap();
            }
        }
    })
}

fn install(machine: &Machine, revision: u32) -> String {
    machine.ok(&["dpkg", "--install", &deb(revision)])
}

fn install_collector(machine: &Machine) {
    machine.ok(&["dpkg", "--install", &format!("/srv/{}", deb_of("opensvc-actions-collector", 1))]);
}

fn is_enabled(machine: &Machine, unit: &str) -> String {
    machine.run(&["systemctl", "is-enabled", unit]).stdout
}

fn enabled(machine: &Machine) -> [String; 3] {
    [SOCKET, TIMER, REARM].map(|unit| is_enabled(machine, unit))
}

fn listens(machine: &Machine) -> bool {
    !machine.sh("ss -Hltn sport = :1214").is_empty()
}

/// Queues a command that waits for `file`, and waits until it runs.
fn in_flight(machine: &Machine, collector: &Collector<'_>, file: &str) -> u64 {
    let id = collector.enqueue(&format!("await {file} 3 'all of it'"));
    machine.wait_for("the command", || machine.is_running(&format!("node await {file} 3 all of it")));
    id
}

fn ends_well(machine: &Machine, collector: &Collector<'_>, id: u64, file: &str) {
    machine.sh(&format!("touch {file}"));
    let result = collector.result(id);
    assert_eq!((&result["ret"], &result["stderr"]), (&3.into(), &"all of it\n".into()), "{result}");
    machine.wait_until_idle();
}

/// What may not change under an action that runs: the handler, and since when the socket has been open.
fn life(machine: &Machine) -> [String; 4] {
    [
        machine.property(SERVICE, "MainPID"),
        machine.property(SERVICE, "ActiveState"),
        machine.property(SOCKET, "ActiveEnterTimestampMonotonic"),
        machine.property(SOCKET, "Result"),
    ]
}

/// Changes the installed version under a running action.
fn replaced_in_flight(machine: &Machine, collector: &Collector<'_>, file: &str, replace: impl FnOnce()) {
    let id = in_flight(machine, collector, file);
    let (life_before, enabled_before) = (life(machine), enabled(machine));
    let program = format!("/proc/{}/exe", life_before[0]);
    replace();
    assert_eq!(life(machine), life_before);
    assert_eq!(enabled(machine), enabled_before);
    let running = machine.ok(&["readlink", &program]);
    assert!(running.ends_with(" (deleted)"), "the program was not replaced: {running}");
    // The next one begins under the old handler, whose program is gone.
    let next = collector.enqueue("echo next");
    assert_eq!(machine.peer(20, 5, "notify").refused, 0);
    ends_well(machine, collector, id, file);
    assert_eq!(collector.result(next)["stdout"], "next\n");
    machine.wait_until_inactive();
    // And this one is the business of the new one.
    let next = collector.enqueue("echo after");
    assert_eq!(collector.result(next)["stdout"], "after\n");
    machine.wait_until_idle();
    assert_eq!(machine.counts(), [0, 0, 0]);
}

#[test]
fn a_deb_enables_nothing_and_is_used_upgraded_and_downgraded_in_mid_action() {
    let machine = clean("deb", Tree::Base);
    install(&machine, 1);
    install_collector(&machine);
    assert_eq!(enabled(&machine), ["disabled", "disabled", "disabled"]);
    assert!(!listens(&machine), "installing has opened the port");
    machine.ok(&["systemd-analyze", "verify", "--man=no", SOCKET, SERVICE, TIMER, REARM]);

    let collector = machine.collector(Queue::Rpc);
    machine.ok(&["systemctl", "--quiet", "enable", "--now", SOCKET, REARM]);
    let id = collector.enqueue("echo used");
    assert_eq!(collector.result(id)["stdout"], "used\n");
    machine.wait_until_idle();

    let version = || machine.ok(&["dpkg-query", "--show", "--showformat=${Version}", "opensvc-actions"]);
    for (revision, file) in [(2, "/run/go-on-up"), (1, "/run/go-on-down")] {
        replaced_in_flight(&machine, &collector, file, || drop(install(&machine, revision)));
        assert!(version().ends_with(&format!("-{revision}")), "{}", version());
        assert_eq!(enabled(&machine), ["enabled", "disabled", "enabled"]);
    }
    // What the admin has disabled since stays so.
    machine.ok(&["systemctl", "--quiet", "disable", "--now", REARM]);
    install(&machine, 2);
    assert_eq!(enabled(&machine), ["enabled", "disabled", "disabled"]);
}

#[test]
fn lintian_and_rpmlint_have_nothing_to_say_that_is_not_answered() {
    let both = |name: fn(&str, u32) -> String| {
        ["opensvc-actions", "opensvc-actions-collector"].map(|program| packages().join(name(program, 1)))
    };
    // Packages for tests are not compressed.
    let tags = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";
    let said = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", "--suppress-tags", tags])
        .args(both(deb_of))
        .output()
        .expect("lintian is missing (apt-get install lintian)");
    assert!(said.status.success() && said.stdout.is_empty(), "{}", String::from_utf8_lossy(&said.stdout));
    let said = Command::new("rpmlint")
        .arg("--config")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rpmlint.toml"))
        .args(both(rpm_of))
        .output()
        .expect("rpmlint is missing (apt-get install rpmlint)");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("2 packages") && text.contains(" 0 warnings"), "{text}");
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let found = Command::new("find").arg(directory).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_installed_by_hand_is_complete_below_its_prefix_and_goes_without_a_trace() {
    let built = Path::new(env!("CARGO_BIN_EXE_opensvc-actions")).parent().unwrap();
    let into = tempfile::tempdir().unwrap();
    write(&into.path().join("usr/local/share/doc/other/README"), "not ours");
    let before = files(into.path());
    let install = |more: &[&str]| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install"));
        command.arg("--destdir").arg(into.path()).arg("--built").arg(built).args(more).args(["handler", "collector"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    install(&[]);
    let installed = files(into.path());
    let service = fs::read_to_string(into.path().join("usr/local/lib/systemd/system/opensvc-actions.service")).unwrap();
    assert!(service.contains("ExecStart=/usr/local/bin/opensvc-actions\n"), "{service}");
    for name in ["bin/opensvc-actions", "bin/opensvc-actions-collector", "share/man/man8/opensvc-actions.8.gz"] {
        assert!(installed.contains(&format!("usr/local/{name}")), "{name} is missing");
    }
    // Every unit and example of the repository is there in one place or the other.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["units", "examples"].into_iter().flat_map(|directory| files(&root.join(directory))) {
        let name = path.rsplit('/').next().unwrap().to_owned();
        assert!(installed.iter().any(|path| path.ends_with(&format!("/{name}"))), "{name} is missing");
    }
    install(&["--remove"]);
    assert_eq!(files(into.path()), before);
    assert!(!into.path().join("usr/local/share/doc/opensvc-actions").exists());
    assert!(!into.path().join("usr/local/lib/systemd/system/opensvc-actions.service.d").exists());
}

#[test]
fn an_upgrade_by_deb_is_an_action_like_any_other() {
    let machine = clean("deb-action", Tree::Base);
    install(&machine, 1);
    install_collector(&machine);
    let collector = machine.collector(Queue::Rpc);
    let ids = [format!("install {}", deb(2)), "echo second".to_owned()].map(|words| collector.enqueue(&words));
    machine.enable_socket();
    machine.peer(1, 1, "notify");
    let upgrade = collector.result(ids[0]);
    assert_eq!(upgrade["ret"], 0, "{upgrade}");
    assert!(upgrade["stdout"].as_str().unwrap().contains("Setting up opensvc-actions"), "{upgrade}");
    assert_eq!(collector.result(ids[1])["stdout"], "second\n");
    machine.wait_until_idle();
    assert_eq!(machine.property(SERVICE, "Result"), "success");
    assert_eq!(machine.counts(), [0, 0, 0]);
}

/// Every path of the machine's disk but what a log or dpkg itself keeps.
fn disk(machine: &Machine) -> BTreeSet<String> {
    let list = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log \
                -o -path /var/lib/dpkg -o -path /var/tmp \\) -prune -o -print";
    machine.sh(list).lines().map(str::to_owned).collect()
}

#[test]
fn a_deb_that_is_removed_reports_what_it_can_names_what_is_left_and_leaves_nothing_once_purged() {
    let machine = clean("deb-removed", Tree::Base);
    let before = disk(&machine);
    install(&machine, 1);
    install_collector(&machine);
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let left = ["/run/go-on-1", "/run/go-on-2"];

    // An end that no handler saw goes out with the removal, and nothing is left to warn of.
    let first = in_flight(&machine, &collector, left[0]);
    machine.ok(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", SERVICE]);
    machine.wait_until_inactive();
    machine.sh(&format!("touch {}", left[0]));
    machine.wait_for("the command's own end", || machine.ended() == 1);
    let removed = machine.run(&["dpkg", "--remove", "opensvc-actions"]);
    assert_eq!(removed.status, 0, "{removed:?}");
    assert!(!removed.stderr.contains("leaves actions behind"), "{removed:?}");
    assert_eq!((&collector.show(first)["status"], &collector.show(first)["ret"]), (&"T".into(), &3.into()));
    assert!(!listens(&machine), "the port of a removed program is open");
    assert!(!machine.path("/usr/bin/opensvc-actions").exists());

    // It comes back as it was enabled. What runs when it goes is named, goes on, and is reported by who comes after.
    install(&machine, 2);
    assert_eq!(is_enabled(&machine, SOCKET), "enabled");
    assert!(!listens(&machine), "installing has opened the port");
    machine.ok(&["systemctl", "start", SOCKET]);
    let second = in_flight(&machine, &collector, left[1]);
    let removed = machine.run(&["dpkg", "--remove", "opensvc-actions"]);
    assert_eq!(removed.status, 0, "{removed:?}");
    for said in ["leaves actions behind", &format!("rpc:{second}"), "/var/lib/opensvc-actions"] {
        assert!(removed.stderr.contains(said), "{said}: {}", removed.stderr);
    }
    assert_eq!(machine.ended(), 1, "the removal has ended a command");
    machine.sh(&format!("touch {}", left[1]));
    machine.wait_for("the command's own end", || machine.ended() == 2);
    install(&machine, 1);
    machine.ok(&["systemctl", "start", SERVICE]);
    assert_eq!(collector.result(second)["ret"], 3);
    machine.wait_until_inactive();
    assert_eq!(machine.counts(), [0, 0, 0]);

    // Purged in mid-action: the command goes on, and nobody ever knows how it ended.
    machine.ok(&["systemctl", "start", SOCKET]);
    in_flight(&machine, &collector, "/run/go-on-3");
    let purged = machine.run(&["dpkg", "--purge", "opensvc-actions"]);
    assert_eq!(purged.status, 0, "{purged:?}");
    assert!(purged.stderr.contains("leaves actions behind"), "{purged:?}");
    machine.sh("touch /run/go-on-3");
    machine.wait_for("the command's own end", || machine.ended() == 3);
    machine.wait_for("its unit to go", || {
        machine.ok(&["systemctl", "list-units", "--all", "--no-legend", "opensvc-action*"]).is_empty()
    });
    machine.sh("systemctl stop collector.service");
    machine.ok(&["dpkg", "--purge", "opensvc-actions-collector"]);
    let after: Vec<_> = disk(&machine).difference(&before).cloned().collect();
    let expected = |path: &str| path.starts_with("/etc/opensvc") || path.starts_with("/var/lib/collector");
    let more: Vec<_> = after.iter().filter(|path| !expected(path)).collect();
    assert!(more.is_empty(), "left behind: {more:?}");
    // The agent's and the admin's own stay.
    for file in ["/etc/opensvc/node.conf", "/etc/opensvc/actions.toml"] {
        assert!(after.iter().any(|path| path == file), "{file} is gone");
    }
    assert_eq!(machine.run(&["systemctl", "list-unit-files", "--no-legend", "opensvc*"]).stdout, "");
}

#[test]
fn the_socket_of_an_agent_1_x_outlives_a_package_that_was_not_used() {
    let machine = clean("deb-agent", Tree::Base);
    let socket = "[Socket]\nListenStream=1214\nAccept=yes\n[Install]\nWantedBy=sockets.target\n";
    machine.write("/etc/systemd/system/opensvc-actions.socket", socket);
    machine.write("/etc/systemd/system/opensvc-actions@.service", "[Service]\nExecStart=/bin/true dequeue actions\n");
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.enable_socket();
    let since = machine.property(SOCKET, "ActiveEnterTimestampMonotonic");
    install(&machine, 1);
    install(&machine, 2);
    machine.ok(&["dpkg", "--purge", "opensvc-actions"]);
    assert_eq!(machine.property(SOCKET, "ActiveEnterTimestampMonotonic"), since);
    assert_eq!((is_enabled(&machine, SOCKET), listens(&machine)), ("enabled".to_owned(), true));
    assert_eq!(machine.sh("find /var/lib/systemd -name '*opensvc-actions*'"), "");
}

#[test]
fn a_removal_works_where_nothing_was_ever_configured_and_where_systemd_does_not_run() {
    let machine = clean("deb-bare", Tree::Base);
    install(&machine, 1);
    let purged = machine.run(&["dpkg", "--purge", "opensvc-actions"]);
    assert_eq!((purged.status, &*purged.stderr), (0, ""), "{purged:?}");

    // As in an image that is being made: the directory that tells of a running systemd is hidden.
    let script = format!("mount -t tmpfs tmpfs /run && dpkg --install {} && dpkg --purge opensvc-actions", deb(1));
    let said = machine.run(&["unshare", "--mount", "/bin/sh", "-ec", &script]);
    assert_eq!((said.status, &*said.stderr), (0, ""), "{said:?}");
}

fn rpm(machine: &Machine, words: &[&str], package: &str) -> Output {
    // Debian's rpm wants to be sure, and knows nothing of what Debian's libc provides.
    machine.run(&[&["rpm", "--force-debian", "--nodeps"], words, &[package]].concat())
}

#[test]
fn an_rpm_is_installed_upgraded_downgraded_and_erased_in_mid_action() {
    let machine = clean("rpm", Tree::Rpm);
    let rpm_ok = |words: &[&str], package: &str| {
        let output = rpm(&machine, words, &format!("/srv/{package}"));
        assert_eq!(output.status, 0, "rpm {words:?}: {output:?}");
    };
    rpm_ok(&["--install"], &rpm_of("opensvc-actions", 1));
    rpm_ok(&["--install"], &rpm_of("opensvc-actions-collector", 1));
    assert_eq!(enabled(&machine), ["disabled", "disabled", "disabled"]);
    assert!(!listens(&machine), "installing has opened the port");
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();

    for (revision, words, file) in
        [(2, &["--upgrade"][..], "/run/go-on-up"), (1, &["--upgrade", "--oldpackage"], "/run/go-on-down")]
    {
        replaced_in_flight(&machine, &collector, file, || rpm_ok(words, &rpm_of("opensvc-actions", revision)));
    }

    let last = in_flight(&machine, &collector, "/run/go-on-3");
    let erased = rpm(&machine, &["--erase"], "opensvc-actions");
    assert_eq!(erased.status, 0, "{erased:?}");
    for said in ["leaves actions behind", &format!("rpc:{last}")] {
        assert!(erased.stderr.contains(said), "{said}: {erased:?}");
    }
    assert!(!listens(&machine), "the port of a removed program is open");
    for path in ["/usr/bin/opensvc-actions", "/usr/lib/systemd/system/opensvc-actions.service.d"] {
        assert!(!machine.path(path).exists(), "{path} is left");
    }
    assert_eq!(machine.sh("find /etc/systemd -name 'opensvc-actions*'"), "");
    let ended = machine.ended();
    machine.sh("touch /run/go-on-3");
    machine.wait_for("the command's own end", || machine.ended() == ended + 1);

    // There is no purge here: who comes back finds the result and reports it.
    rpm_ok(&["--install"], &rpm_of("opensvc-actions", 2));
    machine.ok(&["systemctl", "start", SERVICE]);
    assert_eq!(collector.result(last)["ret"], 3);
}
