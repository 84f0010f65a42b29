//! The uuid as the service manager hands it over.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::*;
use super::{Node, UUID};

const OTHER: &str = "0a0b0c0d-0000-4000-8000-000000000002";

/// A node for which `LoadCredential=opensvc-uuid` holds this text.
fn node(lines: &str, credential: &str) -> Node {
    let mut node =
        Node::bare().file("etc/node.conf", &format!("[node]\n{lines}\n")).file("cred/opensvc-uuid", credential);
    // leaked: the environment of this helper is one of constants
    let directory = node.root.path().join("cred").display().to_string().leak();
    node.env.push(("CREDENTIALS_DIRECTORY", directory));
    node
}

fn uuids(settings: &Settings) -> Vec<&str> {
    settings.queues.iter().map(|queue| queue.uuid.expose()).collect()
}

#[test]
fn it_counts_before_node_conf_and_instead_of_it_for_every_queue() {
    for lines in ["collector = c\ndbopensvc = d".to_owned(), format!("collector = c\ndbopensvc = d\nuuid = {UUID}")] {
        assert_eq!(uuids(&node(&lines, OTHER).load()), [OTHER, OTHER]);
    }
}

#[test]
fn without_it_node_conf_counts() {
    let mut node = Node::new("collector = c");
    for directory in ["", "/no/such/directory"] {
        node.env = vec![("CREDENTIALS_DIRECTORY", directory)];
        assert_eq!(uuids(&node.load()), [UUID], "{directory:?}");
    }
}

#[test]
fn one_line_end_is_trimmed_and_no_more() {
    for end in ["\n", "\r\n", ""] {
        assert_eq!(uuids(&node("collector = c", &format!("{OTHER}{end}")).load()), [OTHER]);
    }
    for text in [format!("{OTHER}\n\n"), format!(" {OTHER}"), format!("{OTHER}\nmore\n"), format!("{OTHER}\0")] {
        let error = node("collector = c", &text).error();
        assert!(error.ends_with("opensvc-uuid:1: opensvc-uuid: it holds a blank or a control character"), "{error}");
        assert!(!error.contains(OTHER));
    }
}

#[test]
fn what_cannot_be_a_uuid_is_an_error_and_never_a_reason_to_look_elsewhere() {
    let lines = format!("collector = c\nuuid = {UUID}");
    let long = "s3cret".repeat(200);
    for (text, reason) in [("", "it is empty"), ("\n", "it is empty"), (&long, "it is longer than 1024 bytes")] {
        let error = node(&lines, text).error();
        assert!(error.ends_with(&format!("/cred/opensvc-uuid:1: opensvc-uuid: {reason}")), "{error}");
    }
    let broken = node(&lines, "");
    fs::write(broken.root.path().join("cred/opensvc-uuid"), b"s3cret\xff").unwrap();
    assert!(broken.error().ends_with("/cred/opensvc-uuid:1: not valid UTF-8"), "{}", broken.error());
    let exposed = node(&lines, OTHER);
    let file = exposed.root.path().join("cred/opensvc-uuid");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(exposed.load_with(None), Err(ConfigError::Untrusted { .. })));
}

#[test]
fn the_uuid_of_node_conf_is_bounded_as_well() {
    let error =
        Node::bare().file("etc/node.conf", &format!("[node]\ncollector = c\nuuid = {}\n", "x".repeat(1025))).error();
    assert_eq!(error, "node.conf:3: node.uuid: it is longer than 1024 bytes");
}

#[test]
fn it_is_shown_with_its_origin_and_not_with_its_value() {
    let node = node("collector = c", OTHER);
    let settings = node.load();
    let rows = settings.explain();
    let row = rows.iter().find(|row| row.key == "collector.oc3.uuid").unwrap();
    let origin = format!("{}/cred/opensvc-uuid:1", node.root.path().display());
    assert_eq!((&*row.value, row.origin.to_string()), ("<redacted>", origin));
    assert!(!format!("{rows:?} {settings:?}").contains(OTHER));
}
