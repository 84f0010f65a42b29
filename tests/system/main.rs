//! The handler on a real machine: a Debian booted under systemd-nspawn, with the real collector inside.
//!
//! Needs root, debootstrap and systemd-container. The trees are made once and kept in `target/system-test`.

mod harness;

use harness::Machine;

#[test]
fn boots() {
    let machine = Machine::boot("boots");
    assert_eq!(machine.ok(&["hostname"]), "n1.example.com");
    assert_eq!(machine.property("multi-user.target", "ActiveState"), "active");
}
