//! What `node.conf` and `cluster.conf` make of the settings.

use std::time::Duration;

use super::super::*;
use super::{Node, UUID, toml_error};
use crate::action::Queue;

#[test]
fn a_node_conf_alone_is_enough() {
    let settings = Node::new("collector = https://c").load();
    let [queue] = &settings.queues[..] else { panic!("{:?}", settings.queues) };
    assert_eq!(queue.queue, Queue::Oc3);
    assert_eq!(queue.base_url, "https://c/feeder");
    assert_eq!(queue.node, "n1.example.com");
    assert_eq!(queue.uuid.expose(), UUID);
    assert_eq!(queue.tls, Tls { verify: true, ca_file: None, client_identity: None });
    assert_eq!(queue.proxy, Proxy::Environment);
    assert_eq!((queue.connect_timeout, queue.request_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(queue.ack, Ack::Received);
    assert_eq!(settings.wake, Wake { allow: Vec::new(), min_interval: Duration::from_secs(1) });
    assert_eq!(settings.execution.om, "om");
    assert_eq!(settings.execution.timeout, None);
    assert_eq!(settings.execution.kill_grace, Duration::from_secs(10));
    assert_eq!(settings.execution.warn_after, Duration::from_secs(3600));
    assert_eq!(settings.retention.unreported, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(settings.retention.history, Duration::from_secs(30 * 24 * 3600));
    assert!(settings.execution.environment.is_empty());
    assert!(settings.warnings.is_empty());
}

#[test]
fn auto_takes_each_queue_that_is_configured() {
    let (oc3, rpc) = ("https://c/feeder", "https://d:443/feed/default/call/xmlrpc");
    for (lines, expected) in [
        ("collector = c", &[oc3][..]),
        ("dbopensvc = d", &[rpc]),
        ("collector = c\ndbopensvc = d", &[oc3, rpc]),
        ("collector_feeder = c/feeder", &[oc3]),
        ("collector_feeder = c/feeder\ncollector = other", &[oc3]),
        ("collector_feeder =\ncollector = c", &[oc3]),
        ("collector =\ndbopensvc = d", &[rpc]),
        ("collector = c\ndbopensvc = None", &[oc3]),
        ("collector = c\ndbopensvc =", &[oc3]),
        ("collector = \"https://c\" # quoted", &[oc3]),
        ("collector = c\ncollector@n1.example.com = x", &[oc3]),
    ] {
        let settings = Node::new(lines).load();
        let urls: Vec<_> = settings.queues.iter().map(|queue| &*queue.base_url).collect();
        assert_eq!(urls, expected, "{lines}");
    }
}

#[test]
fn without_any_collector_the_keywords_and_files_are_named() {
    for node in [Node::bare(), Node::new(""), Node::new("dbopensvc = None\ndbopensvc@n1.example.com = c")] {
        let error = node.error();
        for part in ["node.collector", "node.collector_feeder", "node.dbopensvc", "node.conf", "cluster.conf"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn a_list_of_queues_is_taken_literally() {
    let both = "collector = c\ndbopensvc = d";
    let queues = |toml: &str| -> Vec<_> {
        Node::new(both).toml(toml).load().queues.iter().map(|settings| settings.queue).collect()
    };
    assert_eq!(queues("queues = \"auto\""), [Queue::Oc3, Queue::Rpc]);
    assert_eq!(queues("queues = [\"rpc\"]"), [Queue::Rpc]);
    assert_eq!(queues("queues = [\"rpc\", \"oc3\"]"), [Queue::Rpc, Queue::Oc3]);
    let error = Node::new("collector = c").toml("\nqueues = [\"oc3\", \"rpc\"]").error();
    assert_eq!(error, "actions.toml:2: queues: \"rpc\" needs node.dbopensvc in node.conf or cluster.conf");
    assert!(toml_error("queues = []").contains("the list is empty"));
    assert!(toml_error("queues = [\"rpc\", \"rpc\"]").contains("listed twice"));
    assert!(
        toml_error("queues = [\"rpc\",\n\"minion\"]").starts_with("actions.toml:2: queues: unknown queue \"minion\"")
    );
}

#[test]
fn the_uuid_of_oc3_is_in_node_conf_and_that_of_rpc_in_either() {
    let cluster = format!("[node]\nuuid = '{UUID}' ; quoted\ndbopensvc = d\n");
    let node = Node::bare().file("etc/cluster.conf", &cluster);
    assert_eq!(node.load().queues[0].uuid.expose(), UUID);
    let node = node.file("etc/node.conf", "[node]\ncollector = c\n");
    assert!(
        node.error().ends_with("this node is not registered ('opensvc-actions register' does that, or put the uuid that its registration gave there)"),
        "{}",
        node.error()
    );
    let node = node.file("etc/node.conf", "[node]\nuuid =\n");
    assert!(node.error().contains("not registered"));
}

#[test]
fn a_bad_uuid_is_not_quoted() {
    let error = Node::bare().file("etc/node.conf", "[node]\ncollector = c\nuuid = s3cret\n  more\n").error();
    assert_eq!(error, "node.conf:3: node.uuid: it holds a blank or a control character");
}

#[test]
fn plain_http_leaves_the_machine_only_on_purpose() {
    assert!(Node::new("collector = http://127.0.0.1:8080").load().warnings.is_empty());
    for (key, line) in [("dbopensvc", "dbopensvc = http://c"), ("collector", "collector = http://c")] {
        let error = Node::new(line).error();
        assert!(error.starts_with(&format!("node.conf:3: node.{key}: ")), "{error}");
        assert!(error.contains("https://") && error.contains("dbinsecure = true"), "{error}");
        let node = Node::new(&format!("{line}\ndbinsecure = true"));
        let settings = node.load();
        assert!(!settings.queues[0].tls.verify);
        assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
        assert!(node.strip(&settings.warnings[1]).starts_with(&format!("node.conf:3: node.{key}: to \"http://c")));
    }
}

#[test]
fn dbinsecure_is_a_boolean_of_the_3x_agent() {
    let verify = |value: &str| {
        let settings = Node::new(&format!("collector = c\ndbopensvc = d\ndbinsecure = {value}")).load();
        assert_eq!(settings.warnings.len(), usize::from(!settings.queues[0].tls.verify), "once, not for each queue");
        settings.queues[0].tls.verify
    };
    for value in ["1", "t", "T", "true", "True", "TRUE", "\"true\"", "true # lab"] {
        assert!(!verify(value), "{value}");
    }
    for value in ["0", "f", "F", "false", "False", "FALSE", ""] {
        assert!(verify(value), "{value}");
    }
    let error = Node::new("collector = c\ndbinsecure = yes").error();
    assert_eq!(error, "node.conf:4: node.dbinsecure: \"yes\" is neither \"true\" nor \"false\"");
}

#[test]
fn keywords_name_file_line_and_value() {
    let error = Node::new("dbopensvc = \"https://c\"").error();
    assert!(error.starts_with("node.conf:3: node.dbopensvc: \"\\\"https://c\\\"\" is not usable: "), "{error}");
    let error = Node::new("").file("etc/cluster.conf", "[node]\ncollector = https://a:b:c\n").error();
    assert!(error.starts_with("cluster.conf:2: node.collector: \"https://a:b:c\" is not usable: "), "{error}");
    let error = Node::new("dbopensvc = https://user:s3cret@c").error();
    assert!(error.contains("<redacted>@c") && !error.contains("s3cret"), "{error}");
    let error = Node::new("collector = https://{clustername}").error();
    assert!(error.starts_with("node.conf:3: node.collector: the reference \"{clustername}\""), "{error}");
    assert_eq!(Node::new("x").error().split(": ").next(), Some("node.conf:3"));
}

#[test]
fn references_see_the_node_the_files_and_the_environment() {
    let mut node = Node::new("collector = https://{env.coll}/{short_nodename}\ndbopensvc = {node.host}")
        .file("etc/cluster.conf", "[env]\ncoll = a\ncoll@n1.example.com = b\n[node]\nhost = {nodename}\n");
    let urls = |node: &Node| -> Vec<_> { node.load().queues.into_iter().map(|queue| queue.base_url).collect() };
    assert_eq!(urls(&node), ["https://b/n1/feeder", "https://n1.example.com:443/feed/default/call/xmlrpc"]);
    node.env.push(("COLL", "c"));
    assert_eq!(urls(&node)[0], "https://c/n1/feeder");
}

#[test]
fn the_schedule_is_read_as_the_2x_agent_reads_it() {
    let with = |lines: &str| Node::new(&format!("collector = c\n{lines}"));
    let node = with("[dequeue_actions]\nschedule = {env.when} mon\n[env]\nwhen = 09:00-10:00@5")
        .file("etc/cluster.conf", "[dequeue_actions]\nschedule = @1\n");
    let settings = node.load();
    let schedule = settings.schedule.as_ref().unwrap();
    assert_eq!((schedule.text.as_str(), &schedule.left_out[..]), ("09:00-10:00@5 mon", &[][..]));
    let row = |settings: &Settings| {
        let row = settings.explain().into_iter().find(|row| row.key == "dequeue_actions.schedule").unwrap();
        (row.value, node.strip(&row.origin.to_string()))
    };
    assert_eq!(row(&settings), ("09:00-10:00@5 mon".to_owned(), "node.conf:5".to_owned()));
    // Not set: always. Set, and be it to nothing: as it says.
    assert_eq!(with("").load().schedule, None);
    assert_eq!(row(&with("").load()).0, "always");
    for never in ["", "@0", "null", "[]"] {
        let settings = with(&format!("[dequeue_actions]\nschedule = {never}")).load();
        assert!(settings.schedule.unwrap().schedule.is_never() && settings.warnings.is_empty(), "{never}");
    }
    // No comment behind a value, and values over several lines.
    assert_eq!(with("[dequeue_actions]\nschedule = @1 # often").load().schedule.unwrap().left_out.len(), 1);
    let settings = with("[dequeue_actions]\nschedule = [\"@1\",\n  \"! bad\",\n  \"*\"]").load();
    let [warning] = &settings.warnings[..] else { panic!("{:?}", settings.warnings) };
    let expected = ": left out: \"! bad\": \"bad\" is no time of day: it is written 09:00 or 09:00:30";
    assert!(node.strip(warning).ends_with(expected), "{warning}");
    assert!(row(&settings).0.starts_with("[\"@1\", \"! bad\", \"*\"] (left out: \"! bad\": "), "{:?}", row(&settings));
    let error = with("[dequeue_actions]\nschedule = {nothing.here}").error();
    assert!(error.starts_with("node.conf:5: dequeue_actions.schedule: "), "{error}");
}

/// A node whose `node.conf` is not text, or not one for 2.x.
fn odd(conf: &[u8]) -> Node {
    let node = Node::bare().file("etc/node.conf", "");
    std::fs::write(node.root.path().join("etc/node.conf"), conf).unwrap();
    node
}

#[test]
fn over_what_2x_stumbles_only_its_own_keywords_stumble() {
    for (conf, mistake) in [
        (&b"[node]\nuuid = x\n# r\xe9seau\n"[..], "3: not valid UTF-8"),
        (b"\xef\xbb\xbf[node]\nuuid = x\n", "1: the file begins with a byte order mark"),
        (b"other = 1\n[node]\nuuid = x\n", "1: there is no section header"),
    ] {
        let with = |line: &str| odd(&[conf, line.as_bytes(), b"\n"].concat());
        assert_eq!(with("collector = c").load().queues[0].base_url, "https://c/feeder");
        for lines in ["dbopensvc = c", "collector = c\n[dequeue_actions]\nschedule = @1"] {
            let error = with(lines).error();
            assert!(error.starts_with(&format!("node.conf:{mistake}")), "{error}");
        }
    }
    let node = Node::new("dbopensvc = c").file("etc/cluster.conf", "\u{feff}[node]\n");
    assert!(node.error().starts_with("cluster.conf:1: the file begins with a byte order mark"), "{}", node.error());
}

#[test]
fn a_value_that_is_not_text_is_refused_and_a_key_on_top_is_a_default_for_3x() {
    let error = odd(b"[node]\ncollector = c\nuuid = s3cret\xff\n").error();
    assert_eq!(error, "node.conf:3: node.uuid: it is not valid UTF-8");
    let settings = odd(b"uuid = x\n[node]\ncollector = c\n").load();
    assert_eq!(settings.queues[0].uuid.expose(), "x");
}

#[test]
fn an_endless_address_is_refused_and_cut_where_it_is_shown() {
    let error = Node::new(&format!("collector = https://c/{}", "x".repeat(4096))).error();
    assert!(error.ends_with("\" is not usable: it is longer than 2048 bytes") && error.len() < 500, "{error}");
}
