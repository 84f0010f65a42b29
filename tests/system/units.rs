//! The units by themselves: what systemd makes of them, whatever the handler does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::Machine;

#[test]
fn systemd_analyze_verify_has_nothing_to_say() {
    let machine = Machine::with_product("verify");
    let verify = |units: &[&str]| {
        // The manual pages are checked where they are made; this tree has no man.
        let output = machine.run(&[&["systemd-analyze", "verify", "--man=no"], units].concat());
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    };
    let common = [
        "opensvc-actions.service",
        "opensvc-actions.timer",
        "opensvc-actions-rearm.timer",
        "opensvc-actions-rearm.service",
    ];
    verify(&[&["opensvc-actions.socket"], &common[..]].concat());
    machine.install_accept_yes();
    verify(&[&["opensvc-actions.socket", "opensvc-actions@.service"], &common[..]].concat());
}

#[test]
fn outside_the_drop_ins_every_directive_is_in_the_manual_of_systemd_239() {
    // Look a new one up before it goes in here.
    const KNOWN: &str = "
        After Before CollectMode Conflicts DefaultDependencies Description Documentation PartOf Requires StartLimitIntervalSec
        Wants WantedBy
        Accept Backlog ListenStream MaxConnections TriggerLimitBurst TriggerLimitIntervalSec
        AccuracySec OnActiveSec OnBootSec OnCalendar OnUnitInactiveSec RandomizedDelaySec Unit
        CapabilityBoundingSet DevicePolicy LockPersonality MemoryDenyWriteExecute NoNewPrivileges PrivateDevices PrivateMounts
        PrivateTmp ProtectControlGroups ProtectHome ProtectKernelModules ProtectKernelTunables ProtectSystem
        RestrictAddressFamilies RestrictNamespaces RestrictRealtime SystemCallArchitectures SystemCallErrorNumber
        SystemCallFilter UMask
        Environment ExecStart KillMode LogLevelMax NotifyAccess StandardError StandardInput StandardOutput StateDirectory
        StateDirectoryMode SuccessExitStatus TasksMax TimeoutStopSec Type";
    let mut seen = 0;
    for directory in ["units", "units/accept-yes"] {
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
            let path = file.unwrap().path();
            if !path.extension().is_some_and(|is| is == "service" || is == "socket" || is == "timer") {
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with(['#', '['])) {
                let directive = line.split_once('=').map_or(line, |(directive, _)| directive);
                let known = line.is_empty() || KNOWN.split_whitespace().any(|known| known == directive);
                assert!(known, "{}: {line}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "where are the units?");
}

#[test]
fn the_timer_starts_the_same_service_as_the_socket() {
    let machine = Machine::with_product("timer-unit");
    machine.ok(&["systemctl", "enable", "--now", "opensvc-actions.socket", "opensvc-actions.timer"]);
    assert_eq!(machine.property("opensvc-actions.timer", "Unit"), "opensvc-actions.service");
    assert_eq!(machine.property("opensvc-actions.socket", "Triggers"), "opensvc-actions.service");
    assert_eq!(machine.property("opensvc-actions.timer", "ActiveState"), "active");
    // A time server that does not answer must not keep it from starting.
    assert!(!machine.property("opensvc-actions.timer", "After").contains("time-sync.target"));
}

#[test]
fn enabled_units_come_up_with_the_machine_and_the_timer_runs_once_after_boot() {
    let haste = ("/etc/systemd/system/opensvc-actions.timer.d/haste.conf", AFTER_BOOT_IN_HASTE);
    // Nothing listens there.
    let node = ("/etc/opensvc/node.conf", "[node]\ndbopensvc = https://127.0.0.1:9\nuuid = u\n");
    // The tree has no certificate authorities of its own.
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let authority = ("/etc/opensvc/ca.pem", &*authority);
    let settings = ("/etc/opensvc/actions.toml", "[collector]\nca_file = \"/etc/opensvc/ca.pem\"\n");
    let machine = Machine::with_product_enabled("boot", &[haste, node, authority, settings]);
    // "listening", or "running" when the run after boot has already begun.
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
    assert_eq!(machine.property("opensvc-actions.timer", "ActiveState"), "active");
    assert_eq!(machine.property("opensvc-actions-rearm.timer", "ActiveState"), "active");
    let moment = |unit: &str| {
        machine.property(unit, "ActiveEnterTimestampMonotonic").parse::<u64>().unwrap_or_else(|_| panic!("{unit}"))
    };
    assert!(moment("opensvc-actions.socket") <= moment("sockets.target"), "the port opened late");
    machine.wait_for("the run after boot", || machine.property("opensvc-actions.service", "ExecMainStatus") == "75");
    // 75, try again later, is no failure.
    machine.wait_until_inactive();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
    let journal = machine.sh("journalctl --boot --no-pager");
    assert!(!journal.contains("ordering cycle"), "{journal}");
}

const AFTER_BOOT_IN_HASTE: &str = "[Timer]\nOnBootSec=\nOnCalendar=\nOnBootSec=1s\nRandomizedDelaySec=0\n";

#[test]
fn a_broken_installation_stops_at_the_trigger_limit_and_is_re_armed_once_it_is_whole() {
    let machine = Machine::with_product("broken-installation");
    machine.log_everything();
    machine.enable_socket();
    machine.sh("mv /usr/bin/opensvc-actions /usr/bin/elsewhere");
    machine.peer_without_answer();
    machine.wait_for("the socket to give up", || {
        machine.property("opensvc-actions.socket", "Result") == "trigger-limit-hit"
    });
    let starts = machine.starts("opensvc-actions.service");
    // A machine that is slow takes some intervals until one of them is full.
    assert!((20..=700).contains(&starts), "{starts} starts");

    machine.sh("mv /usr/bin/elsewhere /usr/bin/opensvc-actions");
    machine.ok(&["systemctl", "start", "opensvc-actions-rearm.service"]);
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
    let seen = machine.peer(1, 1, "notify");
    assert_eq!((seen.connected, seen.refused, seen.received_bytes), (1, 0, 0));
}

#[test]
fn the_timer_re_arms_a_socket_that_has_failed() {
    let machine = Machine::with_product("re-arm");
    machine.enable_socket();
    // Its period, in haste.
    let haste =
        "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=200ms\nOnUnitInactiveSec=200ms\nAccuracySec=1ms\n";
    machine.write("/etc/systemd/system/opensvc-actions-rearm.timer.d/haste.conf", haste);
    machine.ok(&["systemctl", "daemon-reload"]);
    // The port is held by another program when the socket is started: it fails.
    machine.ok(&["systemctl", "stop", "opensvc-actions.socket"]);
    let mut other = machine.start(&["perl", "-MIO::Socket::INET", "-e", HOLD_THE_PORT]);
    machine.wait_for("the port to be held", || machine.sh("ss -Hltn sport = :1214").contains("1214"));
    assert_ne!(machine.run(&["systemctl", "start", "opensvc-actions.socket"]).status, 0);
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "failed");
    machine.ok(&["systemctl", "enable", "--now", "opensvc-actions-rearm.timer"]);
    assert!(!other.ended());
    machine.sh("touch /run/let-go");
    machine.wait_for("the socket to listen again", || {
        machine.property("opensvc-actions.socket", "SubState") == "listening"
    });
    other.finish();
}

const HOLD_THE_PORT: &str = r#"
    my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 1214, Listen => 5, ReuseAddr => 1) or die "$@";
    select undef, undef, undef, 0.05 until -e "/run/let-go";
"#;

#[test]
fn re_arming_leaves_alone_a_socket_that_was_stopped_disabled_or_masked() {
    let machine = Machine::with_product("re-arm-not");
    let rearm = || machine.ok(&["systemctl", "start", "opensvc-actions-rearm.service"]);
    let state = || machine.property("opensvc-actions.socket", "ActiveState");

    machine.enable_socket();
    machine.ok(&["systemctl", "stop", "opensvc-actions.socket"]);
    rearm();
    assert_eq!(state(), "inactive", "stopped");

    fail(&machine);
    machine.ok(&["systemctl", "disable", "--quiet", "opensvc-actions.socket"]);
    rearm();
    assert_eq!(state(), "failed", "failed, then disabled");

    machine.ok(&["systemctl", "enable", "--quiet", "opensvc-actions.socket"]);
    machine.ok(&["systemctl", "mask", "--quiet", "opensvc-actions.socket"]);
    rearm();
    assert_ne!(state(), "active", "failed, then masked");

    machine.ok(&["systemctl", "unmask", "--quiet", "opensvc-actions.socket"]);
    rearm();
    assert_eq!(state(), "active", "failed and enabled");
}

/// Brings the socket unit into its failed state and frees the port again.
fn fail(machine: &Machine) {
    let other = machine.start(&["perl", "-MIO::Socket::INET", "-e", HOLD_THE_PORT]);
    machine.wait_for("the port to be held", || machine.sh("ss -Hltn sport = :1214").contains("1214"));
    assert_ne!(machine.run(&["systemctl", "start", "opensvc-actions.socket"]).status, 0);
    machine.sh("touch /run/let-go");
    other.finish();
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "failed");
}

#[test]
fn notifications_one_by_one_and_without_a_pause_stay_far_from_the_limits() {
    let machine = Machine::with_product("steady");
    machine.log_everything();
    machine.enable_socket();
    let notify = |count, window| {
        let seen = machine.peer(count, window, "notify");
        assert_eq!((seen.refused, seen.received_bytes, seen.unanswered), (0, 0, 0));
    };
    // Each starts a handler of its own, more than systemd's default allows; the node is not even configured.
    let started = Instant::now();
    for _ in 0..12 {
        notify(1, 1);
        machine.wait_until_inactive();
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}: no test of the limit", started.elapsed());
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
    assert_eq!(machine.starts("opensvc-actions.service"), 12);
    // Now without a pause: the handler lingers, so that few starts serve them all.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) {
        notify(200, 50);
    }
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
    let starts = machine.starts("opensvc-actions.service");
    assert!(starts <= 12 + 30, "{starts} starts");
}
