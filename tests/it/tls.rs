//! A collector that asks nodes for a certificate.
//!
//! In front of a collector without TLS stands what many sites have there: a reverse proxy that ends TLS, and lets nobody
//! through who has no certificate of the site's own authority.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, UUID, both};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A certificate and its key.
struct Signed {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// Who signs certificates.
struct Authority {
    der: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { der, pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, usage: ExtendedKeyUsagePurpose, last_year: i32) -> Signed {
        let mut params = CertificateParams::new(vec!["n1.example.com".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    fn for_client(&self) -> Signed {
        self.sign(ExtendedKeyUsagePurpose::ClientAuth, 2100)
    }
}

/// The reverse proxy.
struct Front {
    address: SocketAddr,
    authority: Authority,
    /// Why somebody was not let through.
    turned_away: Receiver<String>,
}

impl Front {
    fn before(collector: &Collector, ip: IpAddr, version: &'static SupportedProtocolVersion) -> Self {
        let authority = Authority::new("the site");
        let own = authority.sign(ExtendedKeyUsagePurpose::ServerAuth, 2100);
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.der], key)
            .unwrap();
        let (tls, listener) = (Arc::new(tls), TcpListener::bind((ip, 0)).unwrap());
        let (address, backend) = (listener.local_addr().unwrap(), collector.port());
        let (sender, turned_away) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (tls, sender) = (Arc::clone(&tls), sender.clone());
                thread::spawn(move || {
                    if let Err(why) = pass(stream, tls, backend) {
                        let _ = sender.send(why.to_string());
                    }
                });
            }
        });
        Self { address, authority, turned_away }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    #[track_caller]
    fn turned_somebody_away(&self) -> String {
        self.turned_away.recv_timeout(DEADLINE).unwrap()
    }
}

/// Serves one connection. An error: who is there was not let through.
fn pass(mut stream: TcpStream, tls: Arc<ServerConfig>, backend: u16) -> io::Result<()> {
    let mut session = ServerConnection::new(tls).unwrap();
    while session.is_handshaking() {
        if let Err(why) = session.complete_io(&mut stream) {
            // The alert goes out, and what the other side has sent meanwhile is read: else the kernel resets the
            // connection, and the alert may be lost.
            let _ = session.write_tls(&mut stream);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = io::copy(&mut stream, &mut io::sink());
            return Err(why);
        }
    }
    let mut client = BufReader::new(StreamOwned::new(session, stream));
    let mut server = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, backend))?);
    while let Ok(request @ [_, ..]) = message(&mut client).as_deref() {
        server.get_mut().write_all(request)?;
        let answer = message(&mut server)?;
        client.get_mut().write_all(&answer)?;
        client.get_mut().flush()?;
    }
    Ok(())
}

/// A request or an answer, head and body; empty at the end of the connection.
fn message(from: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    let (mut message, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(message);
        }
        message.extend_from_slice(line.as_bytes());
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let head = message.len();
    message.resize(head + length, 0);
    from.read_exact(&mut message[head..])?;
    Ok(message)
}

/// A node whose collector stands behind this proxy.
fn node_behind(front: &Front, world: &World) {
    let keyword = match world.dialect {
        Dialect::Oc3 => "collector",
        Dialect::Rpc => "dbopensvc",
    };
    world.node.write("etc/node.conf", format!("[node]\n{keyword} = {}\nuuid = {UUID}\n", front.url()));
    world.node.write("etc/ca.pem", &front.authority.pem);
}

/// Gives the node a certificate and a key.
fn equip(world: &World, certificate: &str, key: &str) {
    let path = |name: &str, pem: &str| world.node.write(name, pem).display().to_string();
    let (certificate, key) = (path("etc/node.pem", certificate), path("etc/node.key", key));
    let ca = world.node.path("etc/ca.pem").display().to_string();
    world
        .node
        .configure(&format!("[collector]\nca_file = {ca:?}\nclient_cert = {certificate:?}\nclient_key = {key:?}\n"));
}

both!(a_collector_that_asks_for_a_certificate_gets_this_nodes);
fn a_collector_that_asks_for_a_certificate_gets_this_nodes(dialect: Dialect) {
    for version in VERSIONS {
        let world = World::at(Collector::plain(), dialect);
        let front = Front::before(&world.collector, Ipv4Addr::LOCALHOST.into(), version);
        node_behind(&front, &world);
        let own = front.authority.for_client();
        equip(&world, &own.pem, &own.key.serialize_pem());
        let id = world.enqueue("echo done");
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(a_collector_at_an_ipv6_address_is_reached);
fn a_collector_at_an_ipv6_address_is_reached(dialect: Dialect) {
    let world = World::at(Collector::plain(), dialect);
    let front = Front::before(&world.collector, Ipv6Addr::LOCALHOST.into(), &TLS13);
    assert!(front.url().starts_with("https://[::1]:"));
    node_behind(&front, &world);
    let own = front.authority.for_client();
    equip(&world, &own.pem, &own.key.serialize_pem());
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(without_a_certificate_it_is_77_and_says_which_settings_are_missing);
fn without_a_certificate_it_is_77_and_says_which_settings_are_missing(dialect: Dialect) {
    for version in VERSIONS {
        let world = World::at(Collector::plain(), dialect);
        let front = Front::before(&world.collector, Ipv4Addr::LOCALHOST.into(), version);
        node_behind(&front, &world);
        let ca = world.node.path("etc/ca.pem").display().to_string();
        world.node.configure(&format!("[collector]\nca_file = {ca:?}\n"));
        let id = world.enqueue("echo done");
        world
            .run()
            .exits(77)
            .says("asks for a certificate of this node")
            .says("collector.client_cert")
            .says(&front.url());
        front.turned_somebody_away();
        assert!(matches!(world.collector.row(id).status, 'W' | 'N'));
        assert_eq!(world.node.starts(), []);

        let own = front.authority.for_client();
        equip(&world, &own.pem, &own.key.serialize_pem());
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
        world.check();
    }
}

both!(a_certificate_that_the_collector_refuses_is_77_in_words);
fn a_certificate_that_the_collector_refuses_is_77_in_words(dialect: Dialect) {
    for version in VERSIONS {
        let world = World::at(Collector::plain(), dialect);
        let front = Front::before(&world.collector, Ipv4Addr::LOCALHOST.into(), version);
        node_behind(&front, &world);
        let id = world.enqueue("echo done");
        let expired = front.authority.sign(ExtendedKeyUsagePurpose::ClientAuth, 2021);
        let foreign = Authority::new("somebody else").for_client();
        for (own, words) in [(expired, "it has expired"), (foreign, "does not trust the authority that signed it")] {
            equip(&world, &own.pem, &own.key.serialize_pem());
            world.run().exits(77).says("refused this node's certificate").says(words).says("collector.client_cert");
            front.turned_somebody_away();
        }
        assert!(matches!(world.collector.row(id).status, 'W' | 'N'));
        assert_eq!(world.node.starts(), []);
        world.check_but(&Allowed { missing: true, ..Allowed::default() });
    }
}

both!(what_nginx_says_of_certificates_is_understood);
fn what_nginx_says_of_certificates_is_understood(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    for (title, words) in [
        ("No required SSL certificate was sent", "asks for a certificate of this node"),
        ("The SSL certificate error", "refused this node's certificate"),
    ] {
        let page = format!("<html>\r\n<head><title>400 {title}</title></head>\r\n<body>…</body></html>\r\n");
        world.collector.fail(Call::Fetch, When::Always, Fault::Answer(Answer::new(400, "text/html", page)));
        world.run().exits(77).says(words).says("collector.client_cert");
        world.collector.heal();
    }
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_certificate_that_cannot_be_used_is_78_with_its_file);
fn a_certificate_that_cannot_be_used_is_78_with_its_file(dialect: Dialect) {
    let world = World::at(Collector::plain(), dialect);
    let front = Front::before(&world.collector, Ipv4Addr::LOCALHOST.into(), &TLS13);
    node_behind(&front, &world);
    let [own, other] = [front.authority.for_client(), front.authority.for_client()];
    let (certificate, key) = (own.pem.clone(), own.key.serialize_pem());
    let path = |name: &str| world.node.path(name).display().to_string();
    for (certificate, key, words) in [
        (&*certificate, &*other.key.serialize_pem(), "it is not the certificate of the key in"),
        (&*certificate, "", "no certificate and unencrypted key"),
        ("", &*key, "no certificate and unencrypted key"),
        ("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n", &*key, "no certificate and unencrypted key"),
    ] {
        equip(&world, certificate, key);
        let ended = world.run();
        ended.exits(78).says(&path("etc/node.pem")).says(&path("etc/node.key")).says(words);
        assert!(!ended.stderr.contains("PRIVATE KEY"), "{}", ended.stderr);
    }
    world.node.configure(&format!("[collector]\nclient_cert = {:?}\n", path("etc/node.pem")));
    world.run().exits(78).says("client_key is missing beside it");
    world.node.configure(&format!(
        "[collector]\nclient_cert = {:?}\nclient_key = {:?}\n",
        path("etc/node.pem"),
        path("etc/no.key")
    ));
    world.run().exits(78).says("50-test.toml:3: collector.client_key: cannot use").says("etc/no.key");
}
