//! The least inventory with which collector 3 makes a node a feed node, one whose actions its feeder hands out.

use serde_json::{Map, Value, json};

/// What collector 3 is told about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// The node's name at the collector.
    pub node: String,
    /// Of the cluster; empty: none. Never null there: a collector answers 401 to a node without one.
    pub cluster_id: String,
    /// Where notifications go, if not to the node's name.
    pub connect_to: Option<String>,
    /// The port of notifications. Never null: a single node without one keeps the notifier from notifying anybody.
    pub listener_port: u16,
    /// `node.env`.
    pub env: String,
    /// The kernel's release.
    pub os_kernel: String,
    /// The machine, `x86_64`.
    pub os_arch: String,
    /// When it booted, RFC 3339.
    pub last_boot: Option<String>,
}

impl System {
    /// The body of `POST {feeder}/api/node/system`: `properties` alone, each an object with a `value`. The collector's worker
    /// wants these 26 and drops them all when one is missing; `null` is nothing known. What an agent's own inventory holds
    /// beyond that (`hardware`, `lan`, `package`, …) is left out, and left alone there.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // The widths of the columns: a longer text is refused by a strict database.
        let cut = |text: &str, width: usize| text.chars().take(width).collect::<String>();
        let unknown = [
            "bios_version",
            "cpu_cores",
            "cpu_dies",
            "cpu_freq",
            "cpu_model",
            "cpu_threads",
            "enclosure",
            "fqdn",
            "manufacturer",
            "mem_banks",
            "mem_bytes",
            "mem_slots",
            "model",
            "os_vendor",
            "serial",
            "sp_version",
        ];
        let mut values: Map<String, Value> = unknown.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
        for (name, value) in [
            ("cluster_id", json!(self.cluster_id)),
            ("last_boot", json!(self.last_boot)),
            ("listener_port", json!(self.listener_port)),
            ("node_env", json!(self.env)),
            ("nodename", json!(self.node)),
            ("os_arch", json!(cut(&self.os_arch, 10))),
            ("os_kernel", json!(cut(&self.os_kernel, 32))),
            ("os_name", json!("Linux")),
            ("tz", json!("+00:00")),
            // Of the agent. From 1.9 on, the collector adds --local to the actions of a service's instance.
            ("version", json!("3")),
        ] {
            values.insert(name.to_owned(), value);
        }
        if let Some(connect_to) = &self.connect_to {
            values.insert("connect_to".to_owned(), json!(connect_to));
        }
        let properties: Map<_, _> = values.into_iter().map(|(name, value)| (name, json!({ "value": value }))).collect();
        json!({ "properties": properties }).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_document_has_every_property_that_the_worker_wants() {
        let system =
            System { node: "n1".to_owned(), listener_port: 1214, os_kernel: "k".repeat(99), ..System::default() };
        let body: Value = serde_json::from_slice(&system.encode()).unwrap();
        let properties = body["properties"].as_object().unwrap();
        assert_eq!(properties.len(), 26);
        assert!(properties.values().all(|property| property.as_object().unwrap().contains_key("value")));
        assert_eq!(properties["listener_port"]["value"], 1214);
        assert_eq!(properties["cluster_id"]["value"], "");
        assert_eq!(properties["os_kernel"]["value"].as_str().unwrap().len(), 32);
        assert!(properties["version"]["value"].is_string());
    }
}
