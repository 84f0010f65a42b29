//! Settings that change how the collector is talked to.

use std::fs::Permissions;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::node::Node;
use crate::support::pki::Flaw;
use crate::support::process::Launch;
use crate::support::world::World;
use crate::support::{Dialect, NODE, UUID, both};

fn keyword(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Oc3 => "collector",
        Dialect::Rpc => "dbopensvc",
    }
}

both!(dbinsecure_accepts_any_certificate_and_warns);
fn dbinsecure_accepts_any_certificate_and_warns(dialect: Dialect) {
    for flaw in [Flaw::Expired, Flaw::OtherName, Flaw::OtherAuthority] {
        let world = World::with_flaw(dialect, flaw);
        let id = world.enqueue("echo done");
        let url = world.collector.url();
        let conf = format!("[node]\n{} = {url}\nuuid = {UUID}\ndbinsecure = true\n", keyword(dialect));
        world.node.write("etc/node.conf", conf);
        world.run().exits(0).says("dbinsecure");
        assert_eq!(world.result(id).1, "done\n", "{flaw:?}");
    }
}

both!(http_to_loopback_is_accepted);
fn http_to_loopback_is_accepted(dialect: Dialect) {
    let world = World::at(Collector::plain(), dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(http_to_anywhere_else_is_78_with_both_ways_out);
fn http_to_anywhere_else_is_78_with_both_ways_out(dialect: Dialect) {
    let node = Node::bare();
    node.write("etc/node.conf", format!("[node]\n{} = http://192.0.2.1\nuuid = {UUID}\n", keyword(dialect)));
    node.run().exits(78).says("https").says("dbinsecure").says("etc/node.conf:2");
}

both!(cluster_conf_lies_under_node_conf);
fn cluster_conf_lies_under_node_conf(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let url = format!("[node]\n{} = {}\n", keyword(dialect), world.collector.url());
    world.node.write("etc/cluster.conf", &url);
    world.node.write("etc/node.conf", format!("[node]\nuuid = {UUID}\n"));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(the_root_can_come_from_the_environment);
fn the_root_can_come_from_the_environment(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.handler_without_root().env("OSVC_ROOT_PATH", world.node.root()).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(config_replaces_actions_toml_and_its_drop_ins);
fn config_replaces_actions_toml_and_its_drop_ins(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let good = std::fs::read_to_string(world.node.path("etc/actions.toml")).unwrap();
    let file = world.node.write("etc/other.toml", good);
    world.node.write("etc/actions.toml", "nonsense");
    world.node.configure("nonsense");
    world.run().exits(78);
    world.node.handler().arg("--config").arg(file).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(show_config_talks_to_nobody_and_shows_no_secret);
fn show_config_talks_to_nobody_and_shows_no_secret(dialect: Dialect) {
    let world = World::new(dialect);
    for args in [&["show-config"][..], &["show-config", "--json"]] {
        let ended = world.node.handler().args(args).run();
        let shown = &ended.exits(0).stdout;
        assert!(shown.contains("<redacted>") && shown.contains(NODE) && shown.contains(&world.collector.url()));
    }
    let shown = world.node.handler().args(["show-config", "--json"]).run().stdout;
    serde_json::from_str::<serde_json::Value>(&shown).unwrap();
    world.node.configure("[execution]\ntimeout = \"soon\"\n");
    world.node.handler().args(["show-config"]).run().exits(78).says("actions.d/50-test.toml:2");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

both!(without_a_uuid_it_is_78_and_says_how_to_register);
fn without_a_uuid_it_is_78_and_says_how_to_register(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("etc/node.conf", format!("[node]\n{} = {}\n", keyword(dialect), world.collector.url()));
    world.run().exits(78).says("register");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

#[test]
fn without_any_collector_it_is_78_and_says_what_to_set() {
    let node = Node::bare();
    node.write("etc/node.conf", format!("[node]\nuuid = {UUID}\n"));
    node.run().exits(78).says("dbopensvc").says("collector_feeder");
    let node = Node::bare();
    node.run().exits(78).says("etc/node.conf");
}

#[test]
fn collector_feeder_is_the_base_itself() {
    let world = World::new(Dialect::Oc3);
    let id = world.enqueue("echo done");
    let url = world.collector.url();
    let conf = format!("[node]\ncollector = https://192.0.2.1\ncollector_feeder = {url}/feeder/\nuuid = {UUID}\n");
    world.node.write("etc/node.conf", conf);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

both!(an_address_can_be_written_in_many_ways);
fn an_address_can_be_written_in_many_ways(dialect: Dialect) {
    let world = World::new(dialect);
    let host = format!("127.0.0.1:{}", world.collector.port());
    let common = [format!("https://{host}/"), format!("HTTPS://{host}"), host.clone(), format!("{host}//")];
    let special = match dialect {
        Dialect::Oc3 => vec![format!("https://u:p@{host}/?x#y"), format!("'https://{host}' # quoted")],
        Dialect::Rpc => vec![format!("{host}/feed"), format!("https://{host}/feed/default/call/xmlrpc")],
    };
    for value in common.into_iter().chain(special) {
        let id = world.enqueue("echo done");
        world.node.write("etc/node.conf", format!("[node]\n{} = {value}\nuuid = {UUID}\n", keyword(dialect)));
        world.run().exits(0);
        assert_eq!(world.result(id).1, "done\n", "{value}");
    }
    world.check();
}

both!(references_are_replaced_and_the_environment_counts_first);
fn references_are_replaced_and_the_environment_counts_first(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let (key, port) = (keyword(dialect), world.collector.port());
    let conf =
        format!("{key} = https://{{env.coll_host}}:{{coll.port}}\nuuid = {{env.secret}}\n[env]\nsecret = {UUID}\n");
    world.node.write("etc/node.conf", format!("[node]\n{conf}"));
    world.node.write("etc/cluster.conf", format!("[coll]\nport = {port}\n[env]\ncoll_host = 192.0.2.1\n"));
    world.node.handler().env("COLL_HOST", "127.0.0.1").run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.node.write("etc/node.conf", format!("[node]\n{key} = https://{{clustername}}\nuuid = {UUID}\n"));
    world.run().exits(78).says("etc/node.conf:2").says("{clustername}");
    world.check();
}

/// The handler in a mount namespace with an empty `/etc`, prepared by these lines of shell, and not told its root.
fn with_own_etc(node: &Node, prepare: &str) -> Launch {
    let script = node.root().join("own-etc");
    let text = format!("set -e\nmount -t tmpfs none /etc\n{prepare}\nexec \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    let words = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh"];
    node.handler_without_root().within(words.into_iter().map(PathBuf::from).chain([script]))
}

both!(the_root_can_come_from_the_first_defaults_file_that_exists);
fn the_root_can_come_from_the_first_defaults_file_that_exists(dialect: Dialect) {
    let world = World::new(dialect);
    let root = world.node.root().display().to_string();
    let files = ["/etc/sysconfig/opensvc", "/etc/default/opensvc", "/etc/defaults/opensvc"];
    let file = |path: &str, root: &str| {
        format!("mkdir -p $(dirname {path}); printf '# x\\nOSVC_ROOT_PATH=\"{root}\"\\n' >{path}\n")
    };
    for first in 0..files.len() {
        let id = world.enqueue("echo done");
        let lines: String = files[first..].iter().map(|path| file(path, "/nowhere")).collect();
        with_own_etc(&world.node, &(lines + &file(files[first], &root))).run().exits(0);
        assert_eq!(world.result(id).1, "done\n", "{}", files[first]);
    }
    let lines = file(files[0], &root) + &file(files[1], "/nowhere");
    let ended = with_own_etc(&world.node, &lines).env("OSVC_ROOT_PATH", "/elsewhere").arg("show-config").run();
    ended.exits(78).says("/elsewhere/etc/node.conf");
    let ended = with_own_etc(&world.node, &file(files[0], "")).arg("show-config").run();
    ended.exits(78).says("/etc/opensvc/node.conf");
    world.check();
}

both!(without_any_root_the_places_are_those_of_a_package);
fn without_any_root_the_places_are_those_of_a_package(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let root = world.node.root().display().to_string();
    let state = world.node.path("var/actions").display().to_string();
    world.node.make_dir("var");
    world.node.make_dir("var/actions");
    let copy = format!("mkdir /etc/opensvc; cp -r {root}/etc/. /etc/opensvc; chmod 755 /etc/opensvc");
    with_own_etc(&world.node, &copy).env("STATE_DIRECTORY", format!("{state}:/nowhere")).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert!(world.node.path("var/actions/ledger.sqlite").is_file());
    world.check();
}

both!(the_uuid_can_come_from_a_credential_and_no_command_sees_it);
fn the_uuid_can_come_from_a_credential_and_no_command_sees_it(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("env");
    world.node.make_dir("cred");
    world.node.write("cred/opensvc-uuid", format!("{UUID}\n"));
    let directory = world.node.path("cred").display().to_string();
    let with_credential = || world.node.handler().env("CREDENTIALS_DIRECTORY", &directory);
    let url = world.collector.url();
    // without any uuid in it, and with one that is refused
    for uuid in ["", "uuid = 11111111-2222-3333-4444-555555555555\n"] {
        world.node.write("etc/node.conf", format!("[node]\n{} = {url}\n{uuid}", keyword(dialect)));
        let shown = with_credential().arg("show-config").run();
        let line = format!("= <redacted>  # {directory}/opensvc-uuid:1");
        assert!(shown.exits(0).stdout.contains(&line), "{}", shown.stdout);
        with_credential().arg("-vv").run().exits(0);
    }
    let environment = world.result(id).1;
    assert!(environment.contains("PATH=") && !environment.contains("CREDENTIALS") && !environment.contains(UUID));
    world.run().exits(77);
    world.node.write("cred/opensvc-uuid", "");
    with_credential().run().exits(78).says("cred/opensvc-uuid:1: opensvc-uuid: it is empty");
    world.check_but(&Allowed { unauthorized: true, ..Allowed::default() });
}

/// A listening socket for IPv4 and IPv6, and a connection to it that comes from this address.
fn dual_stack(from: &str) -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = TcpStream::connect((from.parse::<IpAddr>().unwrap(), port)).unwrap();
    (listener, peer)
}

both!(allowed_senders_are_known_by_ipv4_and_ipv6_on_one_socket);
fn allowed_senders_are_known_by_ipv4_and_ipv6_on_one_socket(dialect: Dialect) {
    let world = World::new(dialect);
    for (allow, from, counts) in [
        ("127.0.0.0/8", "127.0.0.1", true),
        ("127.0.0.0/8", "::1", false),
        ("::1", "::1", true),
        ("::1/128", "127.0.0.1", false),
        ("::ffff:127.0.0.0/104", "127.0.0.1", true),
        ("::/0", "127.0.0.1", false),
        ("::/0", "::1", true),
        ("0.0.0.0/0", "::1", false),
    ] {
        world.node.configure(&format!("[wake]\nallow = [{allow:?}]\n"));
        let before = world.collector.count(Call::Fetch);
        let (listener, peer) = dual_stack(from);
        world.node.handler().systemd(listener).run().exits(0);
        drop(peer);
        assert_eq!(world.collector.count(Call::Fetch) > before, counts, "{from} where {allow} may");
    }
    world.check();
}

both!(under_ack_started_an_action_is_acknowledged_when_its_turn_comes);
fn under_ack_started_an_action_is_acknowledged_when_its_turn_comes(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("wait gate"), world.enqueue("echo done"));
    world.node.configure(&format!("[collector.{}]\nack = \"started\"\n", dialect.name()));
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    assert_eq!((world.collector.row(first).status, world.collector.row(second).status), ('R', 'S'));
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(second).1, "done\n");
    world.check();
}

both!(an_exchange_that_stands_still_is_given_up_after_request_timeout);
fn an_exchange_that_stands_still_is_given_up_after_request_timeout(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[collector]\nrequest_timeout = \"100ms\"\n");
    world.collector.fail(Call::Fetch, When::Always, Fault::StallBefore);
    world.run().exits(75).says("no answer in time").says(&world.collector.url());
}

both!(a_connection_that_is_not_made_is_given_up_after_connect_timeout);
fn a_connection_that_is_not_made_is_given_up_after_connect_timeout(dialect: Dialect) {
    // it is made with the kernel, but nobody there speaks TLS
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::bare();
    let url = format!("https://{}", silent.local_addr().unwrap());
    node.write("etc/node.conf", format!("[node]\n{} = {url}\nuuid = {UUID}\n", keyword(dialect)));
    let ca = World::new(dialect).collector.ca_pem().unwrap().to_owned();
    let ca = node.write("etc/ca.pem", ca);
    node.configure(&format!(
        "[collector]\nca_file = \"{}\"\nconnect_timeout = \"50ms\"\nrequest_timeout = \"1h\"\n",
        ca.display()
    ));
    node.run().exits(75).says("cannot connect").says(&url);
}

both!(the_program_and_what_is_hidden_and_mentioned_are_settings);
fn the_program_and_what_is_hidden_and_mentioned_are_settings(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let agent = world.node.path("bin/other").display().to_string();
    std::fs::rename(world.node.path("bin/om"), &agent).unwrap();
    world
        .node
        .configure(&format!("[execution]\nom = {agent:?}\nwarn_after = \"1ms\"\n[log]\nredact = [\"*phrase\"]\n"));
    let id = world.enqueue("wait gate echo done --magic-phrase abracadabra");
    let handler = world.node.handler().start();
    handler.wait_until_says("runs longer than 1ms");
    gate.open();
    let ended = handler.wait();
    assert!(ended.exits(0).stderr.contains("--magic-phrase <redacted>"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("abracadabra"));
    assert_eq!(world.result(id).1.lines().next(), Some("done"));
}

both!(a_candidate_is_checked_alone_and_without_a_word_to_anybody);
fn a_candidate_is_checked_alone_and_without_a_word_to_anybody(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.make_dir("candidates");
    let candidate = world.node.path("candidates/actions.toml");
    let check = |text: &str| {
        world.node.write("candidates/actions.toml", text);
        world.node.handler().arg("show-config").arg("--config").arg(&candidate).run()
    };
    // what is in force is broken, and does not matter
    world.node.configure("nonsense");
    let shown = check("[execution]\ntimeout = \"90m\"\n");
    assert!(shown.exits(0).stdout.contains(&format!("= 90m  # {}:2", candidate.display())), "{}", shown.stdout);
    check("[execution]\ntimeuot = \"90m\"\n").exits(78).says("candidates/actions.toml:2: unknown key \"timeuot\"");
    check("[external_actions.x]\ntimeout = \"1h\"\n").exits(78).says("candidates/actions.toml:1: external_actions.x: ");
    world.node.remove("candidates/actions.toml");
    let missing = world.node.handler().arg("show-config").arg("--config").arg(&candidate).run();
    missing.exits(78).says("cannot read").says("candidates/actions.toml");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

both!(settings_behind_links_are_as_safe_as_every_directory_on_the_way);
fn settings_behind_links_are_as_safe_as_every_directory_on_the_way(dialect: Dialect) {
    let world = World::new(dialect);
    for directory in ["real", "between"] {
        world.node.make_dir(directory);
    }
    let settings = std::fs::read_to_string(world.node.path("etc/actions.toml")).unwrap();
    world.node.write("real/actions.toml", settings);
    world.node.remove("etc/actions.toml");
    symlink("../real/actions.toml", world.node.path("between/link")).unwrap();
    symlink("../between/link", world.node.path("etc/actions.toml")).unwrap();
    world.run().exits(0);
    let fetches = world.collector.count(Call::Fetch);
    for directory in ["real", "between", "etc", "etc/actions.d"] {
        world.node.configure("");
        let path = world.node.path(directory);
        for mode in [0o775, 0o757, 0o1777] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            world.run().exits(78).says(&format!("others than root can write {}", path.display()));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(world.collector.count(Call::Fetch), fetches);
    world.run().exits(0);
}
