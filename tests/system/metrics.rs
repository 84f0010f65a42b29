//! Metrics out of the sandbox.

use std::fs;
use std::path::Path;

use crate::harness::{Machine, Queue};

const DIRECTORY: &str = "/var/lib/prometheus/node-exporter";

#[test]
fn with_the_shipped_drop_in_the_confined_handler_writes_its_metrics_and_without_it_warns() {
    let machine = Machine::with_product("metrics");
    let collector = machine.collector(Queue::Rpc);
    // As Debian's package has it.
    machine.sh(&format!("mkdir -p {DIRECTORY}"));
    let file = format!("{DIRECTORY}/opensvc-actions.prom");
    let settings = machine.read("/etc/opensvc/actions.toml");
    machine.write("/etc/opensvc/actions.toml", format!("{settings}[metrics]\ntextfile = \"{file}\"\n"));
    machine.enable_socket();
    let id = collector.enqueue("echo done");
    assert_eq!(collector.result(id)["stdout"], "done\n");
    machine.wait_until_idle();
    let journal = machine.sh("journalctl --no-pager -t opensvc-actions -p warning");
    assert!(journal.contains(&format!("cannot write the metrics {file}")), "{journal}");
    assert_eq!(machine.sh(&format!("ls -A {DIRECTORY}")).trim(), "");

    let drop_in = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("units/metrics.conf")).unwrap();
    machine.write("/etc/systemd/system/opensvc-actions.service.d/metrics.conf", drop_in);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "opensvc-actions.service"]);
    machine.wait_until_idle();
    let text = machine.read(&file);
    assert!(text.contains("opensvc_actions_ended_total{queue=\"rpc\",ret=\"0\"} 1\n"), "{text}");
    assert_eq!(machine.sh(&format!("stat -c %a {file}")).trim(), "644");
}
