//! The machine goes down with an action in flight and others that wait, and boots again.

use crate::harness::{Collector, Down, Machine, Queue};

const SERVICE: &str = "opensvc-actions.service";

/// A machine that goes down, and what it was about to do.
struct Case<'a> {
    machine: &'a Machine,
    collector: Collector<'a>,
    first: u64,
    waiting: [u64; 3],
    boot: String,
}

const WAITING: [&str; 3] = ["node echo second", "svc -s svc1 echo third", "node fail 3 fourth"];

impl<'a> Case<'a> {
    /// Queues `first` and three others, which are then in the ledger, all of them.
    fn queued(machine: &'a Machine, first: &str) -> Self {
        let collector = machine.collector(Queue::Rpc);
        let first = collector.enqueue(first);
        let waiting = [
            collector.enqueue("echo second"),
            collector.enqueue_for("svc1", "echo third"),
            collector.enqueue("fail 3 fourth"),
        ];
        Self { machine, collector, first, waiting, boot: machine.boot_id() }
    }

    /// The same, the first one in flight under the units.
    fn in_flight(machine: &'a Machine, first: &str) -> Self {
        let case = Self::queued(machine, first);
        machine.enable_socket();
        machine.peer(1, 1, "notify");
        machine.wait_for("the first command", || !machine.begun().is_empty());
        assert_eq!(machine.counts(), [1, 3, 0]);
        case
    }

    /// Boots again, and expects another boot in which nothing was run yet.
    fn boot_again(&self) {
        self.machine.boot_again();
        assert_ne!(self.machine.boot_id(), self.boot, "no boot id of its own: this proves nothing");
        assert_eq!(self.machine.property("opensvc-actions.socket", "ActiveState"), "active");
        self.expect_one_start();
    }

    /// Nothing but the first action was ever started.
    fn expect_one_start(&self) {
        let begun = self.machine.begun();
        assert!(begun.len() == 1 && begun[0].0 == self.boot, "started while the machine went down: {begun:?}");
    }

    /// The three ran once, in this boot, in their order, and the first one did not.
    fn expect_the_others_once(&self) {
        let boot = self.machine.boot_id();
        let begun = self.machine.begun();
        let expected: Vec<_> = WAITING.iter().map(|words| (boot.clone(), (*words).to_owned())).collect();
        assert_eq!(begun[1..], expected, "after the boot");
        assert_eq!(begun[0].0, self.boot, "the first one ran again");
    }

    /// Everything is reported, the first one with this result; gives its standard error.
    fn expect_results(&self, ret: i32) -> String {
        for (id, ret) in self.waiting.into_iter().zip([0, 0, 3]) {
            let result = self.collector.result(id);
            assert_eq!(result["ret"], ret, "{result}");
        }
        let result = self.collector.result(self.first);
        assert_eq!(result["ret"], ret, "{result}");
        self.machine.wait_until_idle();
        self.expect_the_others_once();
        assert_eq!(self.machine.counts(), [0, 0, 0]);
        result["stderr"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_reboot_ends_the_action_in_flight_with_143_and_what_waits_runs_once_after_it() {
    let machine = Machine::with_product("reboot");
    let case = Case::in_flight(&machine, "await /run/go-on");
    machine.run(&["systemctl", "reboot"]); // the end of this command goes down with the machine
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    case.boot_again();
    case.collector.start();
    machine.peer(1, 1, "notify");
    // The supervisor has seen the end and recorded it.
    case.expect_results(143);
}

#[test]
fn what_waits_runs_after_boot_while_the_collector_is_away_and_is_reported_once_it_is_back() {
    let machine = Machine::with_product("power-off");
    let case = Case::in_flight(&machine, "await /run/go-on");
    let haste = "[Timer]\nOnBootSec=\nOnCalendar=\nOnBootSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms\n";
    machine.write("/etc/systemd/system/opensvc-actions.timer.d/haste.conf", haste);
    machine.ok(&["systemctl", "--quiet", "enable", "opensvc-actions.timer"]);
    machine.run(&["systemctl", "poweroff"]);
    assert_eq!(machine.wait_until_down(), Down::PowerOff);
    machine.boot_again();
    assert_ne!(machine.boot_id(), case.boot);
    // Nobody pokes: it is the boot that starts the handler.
    machine.wait_for("the run after boot", || machine.property(SERVICE, "ExecMainStatus") == "75");
    machine.wait_until_inactive();
    assert_eq!(machine.counts(), [0, 0, 4]);
    case.expect_the_others_once();

    case.collector.start();
    machine.peer(1, 1, "notify");
    case.expect_results(143);
}

#[test]
fn a_power_cut_leaves_the_action_in_flight_with_254_and_what_waits_runs_once_after_it() {
    let machine = Machine::with_product("power-cut");
    let case = Case::in_flight(&machine, "await /run/go-on");
    machine.cut_power();
    case.boot_again();
    case.collector.start();
    machine.peer(1, 1, "notify");
    let stderr = case.expect_results(254);
    assert!(stderr.lines().last().unwrap_or_default().starts_with("opensvc-actions: interrupted: "), "{stderr}");
}

#[test]
fn a_person_whose_handler_goes_down_with_the_machine_starts_nothing_more() {
    let machine = Machine::with_product("person-reboot");
    let case = Case::queued(&machine, "await /run/go-on");
    // In no unit: it hears of the end with everybody else, in the moment in which its command is ended.
    machine.sh("setsid --fork opensvc-actions dequeue </dev/null >/var/log/person 2>&1");
    machine.wait_for("the first command", || !machine.begun().is_empty());
    assert_eq!(machine.counts(), [1, 3, 0]);
    machine.ok(&["systemctl", "--quiet", "enable", "opensvc-actions.socket"]);
    machine.run(&["systemctl", "reboot"]);
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    case.boot_again();
    // It heard of it itself, or the manager would start nothing more.
    let said = machine.read("/var/log/person");
    assert!(said.contains("told to stop") || said.contains("the machine goes down"), "{said}");
    case.collector.start();
    machine.peer(1, 1, "notify");
    case.expect_results(143);
}

#[test]
fn an_action_that_reboots_the_machine_is_reported_with_0_after_the_boot_and_not_run_again() {
    let machine = Machine::with_product("reboots");
    let case = Case::queued(&machine, "reboot");
    machine.enable_socket();
    machine.peer_without_answer();
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    case.boot_again();
    case.collector.start();
    machine.peer(1, 1, "notify");
    let stderr = case.expect_results(0);
    assert_eq!(stderr, "opensvc-actions: the machine has booted since, which is what this action was for\n");
}

#[test]
fn an_action_that_reboots_the_machine_in_no_good_order_is_reported_with_0_as_well() {
    let machine = Machine::with_product("reboots-hard");
    let case = Case::in_flight(&machine, "reboot unseen");
    machine.cut_power();
    case.boot_again();
    case.collector.start();
    machine.peer(1, 1, "notify");
    case.expect_results(0);
}

#[test]
fn nothing_is_started_behind_a_reboot_that_returns_before_the_machine_goes_down() {
    let machine = Machine::with_product("reboot-returns");
    let case = Case::queued(&machine, "reboot soon");
    machine.enable_socket();
    machine.peer_without_answer();
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    case.boot_again();
    case.collector.start();
    machine.peer(1, 1, "notify");
    case.expect_results(0);
}
