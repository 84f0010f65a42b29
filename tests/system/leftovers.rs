//! What the suite itself leaves on the machine that runs it.

use std::fs;
use std::panic;
use std::process::Command;

use crate::harness::Machine;

#[test]
fn nothing_is_left_of_a_machine_whose_test_has_failed() {
    leaves_nothing("leftovers", false);
}

#[test]
fn nothing_is_left_of_a_machine_that_was_down_when_its_test_failed() {
    leaves_nothing("leftovers-down", true);
}

fn leaves_nothing(machine: &str, down: bool) {
    let name = format!("{machine}-{}", std::process::id());
    let outcome = panic::catch_unwind(|| {
        let machine = Machine::with_product(machine);
        assert!(machine.directory().to_string_lossy().ends_with(&name));
        machine.start(&["sleep", "1000"]);
        if down {
            machine.cut_power();
            machine.boot_again();
            machine.cut_power();
        }
        panic!("on purpose");
    });
    let reason = outcome.unwrap_err();
    assert_eq!(reason.downcast_ref::<&str>(), Some(&"on purpose"));

    let processes = Command::new("ps").args(["-e", "-ww", "-o", "args="]).output().unwrap().stdout;
    assert!(!String::from_utf8(processes).unwrap().contains(&name), "a process");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&name), "a mount");
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{name}*")]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(found).unwrap(), "", "a control group");
    assert!(!crate::harness::machines().join(name).exists(), "a directory");
}
