//! `register`: a uuid from the collector into `node.conf`, and nothing else changed there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::register::{APPS, LONER, USER};
use crate::support::collector::state::Event;
use crate::support::node::Node;
use crate::support::process::{Ended, Launch, wait_until_holds};
use crate::support::{Dialect, NODE, UUID, base64, both};

/// A node without a uuid, unknown to its collector.
struct Fresh {
    node: Node,
    collector: Collector,
}

impl Fresh {
    fn new(dialects: &[Dialect]) -> Self {
        let collector = Collector::start();
        collector.unregister(NODE);
        let fresh = Self { node: Node::of(&collector, dialects), collector };
        fresh.write_conf(&fresh.conf().replace(&format!("uuid = {UUID}\n"), ""));
        fresh.node.write("password", format!("{}\n", USER.1));
        fresh
    }

    fn conf_path(&self) -> PathBuf {
        self.node.path("etc/node.conf")
    }

    fn conf(&self) -> String {
        fs::read_to_string(self.conf_path()).unwrap()
    }

    fn write_conf(&self, text: &str) {
        self.node.write("etc/node.conf", text);
    }

    fn register(&self) -> Launch {
        self.node.handler().arg("register")
    }

    fn as_user(&self) -> Launch {
        self.register().args(["--user", USER.0, "--password-file"]).arg(self.node.path("password"))
    }

    /// Runs it: whatever happens, nothing secret is said, and no temporary file is left.
    #[track_caller]
    fn run(&self, launch: Launch) -> Ended {
        let ended = launch.run();
        let uuids: Vec<_> = self.collector.registered(NODE).into_iter().map(|node| node.uuid).collect();
        for secret in
            uuids.iter().map(String::as_str).chain([USER.1, &base64(format!("{}:{}", USER.0, USER.1).as_bytes())])
        {
            assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "a secret was said: {ended:?}");
        }
        let files: Vec<_> =
            fs::read_dir(self.node.path("etc")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!files.iter().any(|name| name.to_string_lossy().starts_with('.')), "{files:?}");
        ended
    }

    #[track_caller]
    fn uuid(&self) -> String {
        let nodes = self.collector.registered(NODE);
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        nodes[0].uuid.clone()
    }
}

both!(a_user_registers_the_node_and_it_can_work_at_once);
fn a_user_registers_the_node_and_it_can_work_at_once(dialect: Dialect) {
    let fresh = Fresh::new(&[dialect]);
    let id = fresh.collector.enqueue(dialect, "echo done");
    let before = fresh.conf();
    fresh.node.run().exits(78).says("opensvc-actions register");
    fresh.run(fresh.as_user().args(["--app", APPS[1], "-vv"])).exits(0).says("(not shown: credentials)");
    assert_eq!(fresh.collector.registered(NODE)[0].app.as_deref(), Some(APPS[1]));
    assert_eq!(fresh.conf(), format!("{before}uuid = {}\n", fresh.uuid()));
    fresh.node.run().exits(0);
    assert_eq!(fresh.collector.row(id).stdout.as_deref(), Some("done\n"));
}

both!(again_writes_nothing_and_says_so);
fn again_writes_nothing_and_says_so(dialect: Dialect) {
    let fresh = Fresh::new(&[dialect]);
    let first = fresh.run(fresh.as_user());
    assert!(first.exits(0).stdout.contains("has been written to"), "{first:?}");
    let inode = fs::metadata(fresh.conf_path()).unwrap().ino();
    let again = fresh.run(fresh.as_user());
    assert!(again.exits(0).stdout.contains("nothing was written"), "{again:?}");
    assert_eq!(fs::metadata(fresh.conf_path()).unwrap().ino(), inode);
    let json = fresh.run(fresh.as_user().arg("--json"));
    let json: Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    assert_eq!((&json["known_before"], &json["written"], &json["node"]), (&true.into(), &Value::Null, &NODE.into()));
    assert_eq!(json["queue"], dialect.name());
}

both!(another_uuid_is_replaced_by_force_only);
fn another_uuid_is_replaced_by_force_only(dialect: Dialect) {
    let fresh = Fresh::new(&[dialect]);
    let with_old = format!("{}uuid = 11111111-2222-3333-4444-555555555555\n", fresh.conf());
    fresh.write_conf(&with_old);
    fresh.run(fresh.as_user()).exits(78).says("another uuid").says("--force").says("node.conf");
    assert_eq!(fresh.conf(), with_old);
    fresh.run(fresh.as_user().arg("--force")).exits(0);
    assert_eq!(fresh.conf(), with_old.replace("11111111-2222-3333-4444-555555555555", &fresh.uuid()));
}

both!(refusals_are_said_in_words);
fn refusals_are_said_in_words(dialect: Dialect) {
    let fresh = Fresh::new(&[dialect]);
    let before = fresh.conf();
    fresh.run(fresh.register()).exits(77).says("give --user");
    fresh.run(fresh.as_user().args(["--app", "elsewhere"])).exits(77).says("esponsible for the 'elsewhere' app");
    fresh.node.write("password", "wrong\n");
    fresh.run(fresh.as_user()).exits(77).says(&format!("does not accept user \"{}\"", USER.0));
    fresh.node.write("password", "\n");
    fresh.run(fresh.as_user()).exits(64).says("the password is empty");
    fresh.node.remove("password");
    fresh.run(fresh.as_user()).exits(64).says("password: No such file");
    assert_eq!(fresh.conf(), before);
    assert_eq!(fresh.collector.registered(NODE).len(), 0);
}

#[test]
fn a_user_without_application_has_to_name_one() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    fresh.node.write("password", LONER.1);
    let launch = fresh.register().args(["--user", LONER.0, "--password-file"]).arg(fresh.node.path("password"));
    fresh.run(launch).exits(77).says("cannot verify app").says("--app");
}

#[test]
fn a_2x_collector_takes_an_anonymous_node_once() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    fresh.collector.allow_anonymous(true);
    fresh.run(fresh.register().args(["--app", "x"])).exits(64).says("--app needs --user");
    fresh.run(fresh.register()).exits(0);
    assert!(fresh.conf().ends_with(&format!("uuid = {}\n", fresh.uuid())));
    let registrations = fresh.collector.count(Call::Register);
    fresh.run(fresh.register()).exits(78).says("holds a uuid already");
    assert_eq!(fresh.collector.count(Call::Register), registrations, "the collector was asked");
    fresh.run(fresh.register().arg("--force")).exits(77).says("already registered").says("give --user");
    let fresh_conf = fresh.conf();
    assert!(fresh_conf.ends_with(&format!("uuid = {}\n", fresh.uuid())), "a refusal took the uuid away");
}

#[test]
fn collector_3_takes_an_anonymous_node_into_an_application() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    fresh.collector.allow_anonymous(true);
    fresh.run(fresh.register()).exits(64).says("missing app").says("--app");
    fresh.write_conf(&fresh.conf().replace("[node]\n", "[node]\napp = billing\n"));
    fresh.run(fresh.register()).exits(0);
    assert_eq!(fresh.collector.registered(NODE)[0].app.as_deref(), Some("billing"), "node.app was not sent");
}

both!(what_the_collector_cannot_say_is_75_or_78_or_65);
fn what_the_collector_cannot_say_is_75_or_78_or_65(dialect: Dialect) {
    let fresh = Fresh::new(&[dialect]);
    let before = fresh.conf();
    let echo = format!("{{\"uuid\": \"{UUID} and more\", \"data\": {{\"uuid\": \"{UUID} and more\"}}}}");
    for (fault, exit) in [
        (Fault::ResetBefore, 75),
        (Fault::ResetAfter, 75),
        (Fault::HalfBody, 75),
        (Fault::Status(503), 75),
        (Fault::Answer(Answer::new(404, "text/html", "<html>")), 78),
        (Fault::Answer(Answer::new(302, "text/html", "")), 78),
        (Fault::Answer(Answer::new(200, "text/html", "<html>hello</html>")), 65),
        (Fault::Answer(Answer::new(200, "application/json", echo)), 65),
    ] {
        fresh.collector.fail(Call::Register, When::Always, fault);
        fresh.run(fresh.as_user()).exits(exit).says(&fresh.collector.url());
        fresh.collector.heal();
    }
    assert_eq!(fresh.conf(), before);
    fresh.collector.down();
    fresh.run(fresh.as_user()).exits(75);
    fresh.collector.up();
    fresh.run(fresh.as_user()).exits(0);
}

#[test]
fn a_user_whose_name_would_be_taken_for_a_password_is_refused_before_anything_is_asked() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    fresh.run(fresh.register().args(["--user", "a:b"])).exits(64).says("no colon");
    assert_eq!(fresh.collector.count(Call::Connection), 0);
}

#[test]
fn of_two_collectors_one_is_named() {
    let fresh = Fresh::new(&Dialect::BOTH);
    fresh.run(fresh.as_user()).exits(64).says("--queue oc3 or --queue rpc");
    assert_eq!(fresh.collector.count(Call::Register), 0);
    fresh.run(fresh.as_user().args(["--queue", "rpc"])).exits(0);
    // The test's collector has one database for both: so it is the same uuid.
    let ended = fresh.run(fresh.as_user().args(["--queue", "oc3", "--app", APPS[0]]));
    assert!(ended.exits(0).stdout.contains("nothing was written"), "{ended:?}");
    let alone = Fresh::new(&[Dialect::Rpc]);
    alone.run(alone.as_user().args(["--queue", "oc3"])).exits(78).says("no collector for queue oc3");
    alone.run(alone.as_user().args(["--queue", "nats"])).exits(64);
}

#[test]
fn where_users_are_is_read_from_the_settings() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    let url = fresh.collector.url();
    fresh.write_conf(&format!("[node]\ncollector_feeder = {url}/feeder\n"));
    fresh.run(fresh.as_user()).exits(78).says("node.collector_server");
    fresh.write_conf(&format!("[node]\ncollector_feeder = {url}/feeder\ncollector_server = {url}/server/\n"));
    fresh.run(fresh.as_user()).exits(0);
    fresh.write_conf(&format!("[node]\ncollector_feeder = {url}/feeder\ncollector_server = http://c.example.com\n"));
    fresh.run(fresh.as_user()).exits(78).says("passwords would travel unencrypted");
    let plain = Collector::plain();
    let node = Node::of(&plain, &[Dialect::Rpc]);
    node.write("password", USER.1);
    let launch = node.handler().args(["register", "--user", USER.0, "--password-file"]).arg(node.path("password"));
    launch.run().exits(78).says("over https only");
    assert_eq!(plain.count(Call::Register), 0);
}

#[test]
fn a_new_node_of_collector_3_is_offered_rows_after_its_inventory() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    let ended = fresh.run(fresh.as_user());
    assert!(ended.exits(0).stdout.contains("does NOT offer this node any action yet"), "{ended:?}");
    let lost = fresh.collector.enqueue_for_node(NODE, "echo pull");
    // On a registered node nobody has to vouch for anything.
    let ended = fresh.run(fresh.register().arg("--asset"));
    assert!(ended.exits(0).stdout.contains("inventory"), "{ended:?}");
    let missing = fresh.collector.events().into_iter().find_map(|event| match event {
        Event::System { missing, .. } => Some(missing),
        _ => None,
    });
    assert_eq!(missing, Some(Vec::new()));
    let node = fresh.collector.registered(NODE).remove(0);
    let value = |name: &str| node.system.as_ref().unwrap()["properties"][name]["value"].clone();
    assert_eq!((value("nodename"), value("listener_port"), value("cluster_id")), (NODE.into(), 1214.into(), "".into()));
    let found = fresh.collector.enqueue_for_node(NODE, "echo feed");
    fresh.node.run().exits(0);
    assert_eq!(fresh.collector.row(found).stdout.as_deref(), Some("feed\n"));
    assert!(fresh.collector.row(lost).stdout.is_none());
}

#[test]
fn of_two_collectors_the_one_that_takes_inventories_gets_it() {
    let fresh = Fresh::new(&[Dialect::Oc3, Dialect::Rpc]);
    fresh.run(fresh.as_user()).exits(64).says("--queue oc3 or --queue rpc");
    fresh.run(fresh.as_user().arg("--asset")).exits(0);
    fresh.run(fresh.register().arg("--asset")).exits(0);
    assert_eq!(fresh.collector.registered(NODE).len(), 1);
    fresh.run(fresh.register().args(["--asset", "--queue", "rpc"])).exits(64).says("--asset is for collector 3");
}

#[test]
fn an_inventory_says_what_the_configuration_says() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    let conf = fresh.conf().replace("[node]\n", "[node]\nenv = PRD\nconnect_to = 10.0.0.5\n");
    fresh.write_conf(&format!("{conf}[listener]\nport = 1300\n"));
    fresh.node.write("etc/cluster.conf", "[cluster]\nid = 4711\n");
    fresh.run(fresh.as_user().arg("--asset")).exits(0);
    let node = fresh.collector.registered(NODE).remove(0);
    for (name, expected) in [
        ("node_env", "PRD".into()),
        ("connect_to", "10.0.0.5".into()),
        ("cluster_id", "4711".into()),
        ("listener_port", Value::from(1300)),
    ] {
        assert_eq!(node.system.as_ref().unwrap()["properties"][name]["value"], expected, "{name}");
    }
    fresh.collector.fail(Call::System, When::Always, Fault::Status(503));
    fresh.run(fresh.register().arg("--asset")).exits(75).says("503");
    let rpc = Fresh::new(&[Dialect::Rpc]);
    rpc.run(rpc.as_user().arg("--asset")).exits(64).says("--asset is for collector 3");
}

#[test]
fn owner_mode_and_attributes_stay() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    let path = fresh.conf_path();
    chown(&path, Some(0), Some(12)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut attributes = vec![("trusted.opensvc", b"kept".to_vec())];
    // A context can be set where SELinux is off, too.
    attributes.push(("security.selinux", b"system_u:object_r:etc_t:s0\0".to_vec()));
    attributes.retain(|(name, value)| setxattr(&path, *name, value, XattrFlags::empty()).is_ok());
    assert!(!attributes.is_empty(), "this file system keeps no extended attributes: nothing would be proved");
    fresh.run(fresh.as_user()).exits(0);
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777), (0, 12, 0o640));
    for (name, value) in attributes {
        let mut kept = [0; 64];
        let length = getxattr(&path, name, &mut kept[..]).unwrap();
        assert_eq!(&kept[..length], value, "{name}");
    }
}

#[test]
fn a_file_that_is_not_there_is_made_for_root_alone_and_a_link_stays_one() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    fresh.node.write("etc/cluster.conf", fresh.conf());
    fresh.node.remove("etc/node.conf");
    fresh.run(fresh.as_user()).exits(0);
    assert_eq!(fresh.conf(), format!("[node]\nuuid = {}\n", fresh.uuid()));
    let made = fs::metadata(fresh.conf_path()).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (0, 0o600));

    fresh.node.make_dir("site");
    let real = fresh.node.write("site/opensvc.conf", "[node]\r\nenv = TST\r\n");
    fresh.node.remove("etc/node.conf");
    symlink("../site/opensvc.conf", fresh.conf_path()).unwrap();
    fresh.run(fresh.as_user()).exits(0);
    assert!(fs::symlink_metadata(fresh.conf_path()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(real).unwrap(), format!("[node]\r\nenv = TST\r\nuuid = {}\r\n", fresh.uuid()));
}

#[test]
fn what_cannot_be_written_is_found_out_before_the_collector_is_asked() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    fresh.collector.allow_anonymous(true);
    // A directory in the place of the temporary file: nothing can be made there, not even by root.
    fresh.node.make_dir("etc/.node.conf.opensvc-actions");
    fresh.register().run().exits(69).says("cannot make").says(".node.conf.opensvc-actions");
    assert_eq!(fresh.collector.count(Call::Register), 0);
    fs::remove_dir(fresh.node.path("etc/.node.conf.opensvc-actions")).unwrap();
    // What a power cut left behind is in nobody's way.
    fresh.node.write("etc/.node.conf.opensvc-actions", "half a fi");
    fresh.run(fresh.register()).exits(0);
    assert!(fresh.conf().ends_with(&format!("uuid = {}\n", fresh.uuid())));
}

#[test]
fn two_registrations_do_not_mix_and_an_edit_meanwhile_is_not_lost() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    fresh.collector.fail(Call::Register, When::First(1), Fault::StallAfter);
    let first = fresh.as_user().start();
    fresh.collector.wait_for_count(Call::Register, 1);
    fresh.as_user().run().exits(69).says("another registration");
    let edited = format!("{}# somebody's\n", fresh.conf());
    fresh.write_conf(&edited);
    fresh.collector.release();
    first.wait().exits(69).says("was changed by somebody else");
    assert_eq!(fresh.conf(), edited);
    fresh.run(fresh.as_user()).exits(0);
    assert!(fresh.conf().starts_with(&edited.replace("# somebody's\n", "")) && fresh.conf().contains("# somebody's\n"));
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    let before = fresh.conf();
    fresh.collector.fail(Call::Register, When::First(1), Fault::StallAfter);
    let handler = fresh.as_user().start();
    fresh.collector.wait_for_count(Call::Register, 1);
    handler.signal(Signal::TERM);
    handler.wait().exits(75).says("interrupted");
    fresh.collector.release();
    assert_eq!(fresh.conf(), before);
    fresh.run(fresh.as_user()).exits(0);
}

#[test]
fn it_needs_root() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    fresh.register().user(65534).run().exits(77).says("root");
}

/// `script` and what runs on its terminal.
struct Terminal {
    child: Child,
    shown: PathBuf,
}

impl Terminal {
    /// Runs `register` on a terminal, then says how that terminal is set.
    fn register(fresh: &Fresh) -> Self {
        let shown = fresh.node.path("shown");
        fs::write(&shown, "").unwrap();
        let (program, root) = (fresh.node.path("bin/opensvc-actions"), fresh.node.root());
        let pid = fresh.node.path("pid");
        let run = format!(
            "sh -c 'echo $$ >{}; exec {} --root {} register --user {}'; echo \"status $?\"; stty -a",
            pid.display(),
            program.display(),
            root.display(),
            USER.0
        );
        let child = Command::new("script")
            .args(["--quiet", "--flush", "--command", &run, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(fs::File::create(&shown).unwrap())
            .spawn()
            .unwrap();
        wait_until_holds(&shown, "Password of operator@example.com at the collector: ");
        Self { child, shown }
    }

    fn types(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Everything that was to be seen.
    fn ends(mut self) -> String {
        wait_until_holds(&self.shown, "extproc"); // the last word of stty
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        let mut text = String::new();
        fs::File::open(&self.shown).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

fn echoes(shown: &str) -> bool {
    shown.split_whitespace().any(|word| word == "echo") && shown.split_whitespace().any(|word| word == "icanon")
}

#[test]
fn a_password_is_typed_unseen() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    let mut terminal = Terminal::register(&fresh);
    terminal.types("nonsense\u{15}x\u{7f}".as_bytes());
    terminal.types(format!("{}\r", USER.1).as_bytes());
    let shown = terminal.ends();
    assert!(shown.contains("status 0") && shown.contains("is registered at"), "{shown}");
    assert!(!shown.contains(USER.1) && !shown.contains("nonsense"), "{shown}");
    assert!(echoes(&shown), "{shown}");
    assert!(fresh.conf().contains(&fresh.uuid()));
}

#[test]
fn a_terminal_is_not_left_mute() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    let mut terminal = Terminal::register(&fresh);
    terminal.types(b"half\x03");
    let shown = terminal.ends();
    assert!(shown.contains("status 75") && shown.contains("interrupted") && echoes(&shown), "{shown}");

    let terminal = Terminal::register(&fresh);
    let pid: i32 = fs::read_to_string(fresh.node.path("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let shown = terminal.ends();
    assert!(shown.contains("status 75") && echoes(&shown), "{shown}");
    assert_eq!(fresh.collector.count(Call::Register), 0);
}

#[test]
fn a_password_comes_through_a_pipe() {
    let fresh = Fresh::new(&[Dialect::Oc3]);
    let input = fresh.node.path("password");
    let feed = format!("exec \"$@\" <{}", input.display());
    let shell = ["/bin/sh", "-c", &feed, "sh"].map(|word| Path::new(word).to_owned());
    fresh.run(fresh.register().args(["--user", USER.0]).within(shell)).exits(0);
    assert!(fresh.conf().contains(&fresh.uuid()));
    // Nothing to read: nobody to ask.
    fresh.register().args(["--user", USER.0, "--force"]).run().exits(64).says("the password is empty");
}

/// A container may have the one file mounted: nothing can take its place.
#[test]
fn a_file_that_cannot_be_replaced_is_found_out_before_a_uuid_is_spent() {
    let fresh = Fresh::new(&[Dialect::Rpc]);
    fresh.collector.allow_anonymous(true);
    let words = ["unshare", "--mount", "sh", "-c", "mount --bind $0 $0 && exec \"$@\""].map(PathBuf::from);
    let launch = fresh.register().within(words.into_iter().chain([fresh.conf_path()]));
    fresh.run(launch).exits(69).says("node.conf").says("mounted by itself");
    assert_eq!(fresh.collector.registered(NODE).len(), 0);
}
