//! The node's uuid handed over by the service manager.

use std::fs;
use std::path::Path;

use crate::harness::{Machine, Queue};

/// The drop-in that the manual gives.
fn drop_in() -> String {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/opensvc-actions.8.sections");
    let manual = fs::read_to_string(manual).unwrap().replace("\\-", "-");
    let example = manual.split(".nf\n").find(|example| example.contains("LoadCredential=")).unwrap();
    example.split(".fi\n").next().unwrap().to_owned()
}

#[test]
fn with_the_drop_in_of_the_manual_the_uuid_need_not_be_in_node_conf() {
    let machine = Machine::with_product("credential");
    let collector = machine.collector(Queue::Rpc);
    let conf = machine.read("/etc/opensvc/node.conf");
    let (uuid, rest): (Vec<&str>, Vec<&str>) = conf.lines().partition(|line| line.starts_with("uuid = "));
    machine.write("/etc/opensvc/uuid", format!("{}\n", uuid[0].trim_start_matches("uuid = ")));
    machine.write("/etc/opensvc/node.conf", format!("{}\n", rest.join("\n")));
    machine.enable_socket();
    let id = collector.enqueue("echo done");
    machine.wait_for("the service to fail", || machine.property("opensvc-actions.service", "ExecMainStatus") == "78");

    machine.write("/etc/systemd/system/opensvc-actions.service.d/uuid.conf", drop_in());
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "opensvc-actions.service"]);
    assert_eq!(collector.result(id)["stdout"], "done\n");
    machine.wait_until_idle();
    assert_eq!(machine.property("opensvc-actions.service", "Result"), "success");
}
