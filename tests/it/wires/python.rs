//! The handler against a collector made of python's own libraries, over TLS.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::{NODE, UUID};

/// `peer.py`, running.
struct Peer {
    process: Child,
    told: Lines<BufReader<ChildStdout>>,
    port: u64,
}

impl Peer {
    fn start(node: &Node, command: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        node.write("etc/ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let (params, key) =
            (CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap(), KeyPair::generate().unwrap());
        let certificate = node.write("certificate.pem", params.signed_by(&key, &issuer).unwrap().pem());
        let key = node.write("key.pem", key.serialize_pem());
        let script = node.write("peer.py", include_str!("peer.py"));
        let mut process = Command::new("python3")
            .args(["-I".as_ref(), script.as_os_str(), certificate.as_os_str(), key.as_os_str()])
            .args([UUID, NODE, command])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: the peer of this test is made of its libraries; install it");
        let told = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut peer = Self { process, told, port: 0 };
        peer.port = peer.next()["port"].as_u64().unwrap();
        peer
    }

    /// What it tells next.
    fn next(&mut self) -> Value {
        serde_json::from_str(&self.told.next().expect("the peer lives").unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn python_understands_us_and_we_understand_python() {
    for format in ["xml", "json"] {
        let node = Node::bare();
        node.write("odd", "<&>\"' ]]> \u{e9}\u{20ac} \u{1f600} \u{7}\ttab\nline\n");
        let mut peer = Peer::start(&node, "start --env=é=\"<&> ]]>\" cat odd exit 3");
        node.write("etc/node.conf", format!("[node]\ndbopensvc = https://127.0.0.1:{}\nuuid = {UUID}\n", peer.port));
        let ca = node.path("etc/ca.pem").display().to_string();
        let toml = format!("[collector]\nnode = {NODE:?}\nca_file = {ca:?}\n[collector.rpc]\nformat = {format:?}\n");
        node.write("etc/actions.toml", toml);
        node.run().exits(0);
        let expected = ["svc", "-s", "svc1", "start", "--env=é=<&> ]]>", "cat", "odd", "exit", "3"];
        assert_eq!(node.starts()[0].argv(), expected);
        assert_eq!(peer.next(), json!({"received": [628]}));
        let stdout = "<&>\"' ]]> \u{e9}\u{20ac} \u{fffd} \u{fffd}\ttab\nline\n";
        assert_eq!(peer.next(), json!({"results": [[628, 3, stdout, ""]]}));

        node.write("etc/node.conf", format!("[node]\ndbopensvc = https://127.0.0.1:{}\nuuid = wrong\n", peer.port));
        node.run().exits(77).says("agent authentication error");
    }
}
