//! What is left for Prometheus: each number against what really happened, over runs, crashes and a pruned history; and
//! the format, by a reader that knows its grammar and takes nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::node::Node;
use crate::support::process::Ended;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// The samples of a file, by name and labels as they are written; anything that is not in the format's grammar fails.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'), "no end of line: {text:?}");
        let (mut samples, mut kinds) = (BTreeMap::new(), BTreeMap::<String, String>::new());
        let (mut helped, mut family) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !words.is_empty() && !kinds.contains_key(name), "{line}");
                name.clone_into(&mut helped);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(name == helped && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                kinds.insert(name.to_owned(), kind.to_owned());
                name.clone_into(&mut family);
            } else {
                let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
                let name = name_and_labels.split('{').next().unwrap();
                let base = match &*kinds[&family] {
                    "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)),
                    _ => Some(name),
                };
                assert_eq!(base, Some(&*family), "out of its family: {line}");
                assert_labels(&name_and_labels[name.len()..]);
                let value: f64 = value.parse().unwrap();
                assert!(samples.insert(name_and_labels.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        Self::assert_histograms(&samples);
        Self(samples)
    }

    /// Classes that do not become less, the last of which is everything.
    fn assert_histograms(samples: &BTreeMap<String, f64>) {
        for (name, count) in samples.iter().filter(|(name, _)| name.contains("_count{")) {
            let labels = name.split_once('{').unwrap().1.trim_end_matches('}');
            let prefix = format!("opensvc_actions_duration_seconds_bucket{{{labels},le=\"");
            let bound = |name: &str| {
                name.strip_prefix(&prefix)?.strip_suffix("\"}")?.replace("+Inf", "inf").parse::<f64>().ok()
            };
            let mut classes: Vec<_> = samples.iter().filter_map(|(name, value)| Some((bound(name)?, *value))).collect();
            classes.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(classes.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{classes:?}");
            assert_eq!(classes.last(), Some(&(f64::INFINITY, *count)));
        }
    }

    fn of(&self, name: &str) -> Option<f64> {
        self.0.get(&format!("opensvc_actions_{name}")).copied()
    }

    #[track_caller]
    fn is(&self, name: &str, value: f64) {
        assert_eq!(self.of(name), Some(value), "{name} in {:#?}", self.0);
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn assert_labels(labels: &str) {
    let Some(labels) = labels.strip_prefix('{') else { return assert_eq!(labels, "") };
    for label in labels.strip_suffix('}').unwrap().split(',') {
        let (name, value) = label.split_once('=').unwrap();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(is_name(name) && !value.is_empty() && !value.contains(['"', '\\', ' ']), "{label}");
    }
}

/// A node that writes metrics, and where.
fn measured(dialect: Dialect) -> (World, PathBuf) {
    let world = World::new(dialect);
    world.node.make_dir("textfile");
    let file = world.node.path("textfile/n1.prom");
    world.node.configure(&format!("[metrics]\ntextfile = \"{}\"\n", file.display()));
    (world, file)
}

both!(every_number_is_what_happened);
fn every_number_is_what_happened(dialect: Dialect) {
    let (world, file) = measured(dialect);
    let queue = dialect.name();
    for command in ["echo a", "echo b", "exit 3", "'"] {
        world.enqueue(command);
    }
    world.run().exits(0);
    let samples = Samples::read(&file);
    samples.is(&format!("ended_total{{queue=\"{queue}\",ret=\"0\"}}"), 2.0);
    samples.is(&format!("ended_total{{queue=\"{queue}\",ret=\"3\"}}"), 1.0);
    samples.is(&format!("ended_total{{queue=\"{queue}\",ret=\"125\"}}"), 1.0);
    // what never started took no time
    samples.is(&format!("duration_seconds_count{{queue=\"{queue}\"}}"), 3.0);
    samples.is(&format!("unreported{{queue=\"{queue}\"}}"), 0.0);
    assert_eq!(samples.of(&format!("unreported_oldest_timestamp_seconds{{queue=\"{queue}\"}}")), None);
    samples.is("paused", 0.0);
    samples.is("last_run_exit_status", 0.0);
    samples.is("notifications_total", 0.0);
    let contact = samples.of(&format!("last_contact_timestamp_seconds{{queue=\"{queue}\"}}")).unwrap();
    let (run, fetches) = (samples.of("last_run_timestamp_seconds").unwrap(), fetches(&samples, queue));
    assert!(run >= contact && contact > 1.7e9, "{contact} {run}");
    assert_eq!(fetches, (seen_fetches(&world), 0.0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "something else is left there");

    // A result that is not accepted, and a node that is paused.
    world.collector.fail(Call::Report, When::Always, Fault::ResetBefore);
    world.enqueue("echo c");
    world.run().exits(75);
    world.collector.heal();
    let samples = Samples::read(&file);
    samples.is(&format!("unreported{{queue=\"{queue}\"}}"), 1.0);
    let oldest = samples.of(&format!("unreported_oldest_timestamp_seconds{{queue=\"{queue}\"}}")).unwrap();
    assert!(oldest >= contact && oldest <= samples.of("last_run_timestamp_seconds").unwrap());
    samples.is("last_run_exit_status", 75.0);
    world.node.handler().arg("pause").run().exits(0);
    world.node.handler().arg("report").run().exits(0);
    let samples = Samples::read(&file);
    samples.is(&format!("unreported{{queue=\"{queue}\"}}"), 0.0);
    samples.is(&format!("ended_total{{queue=\"{queue}\",ret=\"0\"}}"), 3.0);
    samples.is("paused", 1.0);
    samples.is("last_run_exit_status", 0.0);
    world.check();
}

/// The fetches that the collector has seen.
fn seen_fetches(world: &World) -> f64 {
    u32::try_from(world.collector.count(Call::Fetch)).unwrap().into()
}

fn fetches(samples: &Samples, queue: &str) -> (f64, f64) {
    let of = |outcome: &str| samples.of(&format!("fetches_total{{queue=\"{queue}\",outcome=\"{outcome}\"}}")).unwrap();
    (of("answered"), of("failed"))
}

both!(counters_begin_with_the_history_and_never_go_back);
fn counters_begin_with_the_history_and_never_go_back(dialect: Dialect) {
    let world = World::new(dialect);
    let ok = format!("ended_total{{queue=\"{}\",ret=\"0\"}}", dialect.name());
    let cancelled = format!("ended_total{{queue=\"{}\",ret=\"130\"}}", dialect.name());
    world.enqueue("echo before");
    world.run().exits(0);
    world.node.make_dir("textfile");
    let file = world.node.path("textfile/n1.prom");
    let wanted = format!("[metrics]\ntextfile = \"{}\"\n", file.display());
    world.node.configure(&wanted);
    world.enqueue("echo after");
    world.run().exits(0);
    Samples::read(&file).is(&ok, 2.0);
    // What another process ends counts, and so does what a handler ends that is killed before it can tell.
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("echo killed"), world.enqueue("wait gate"));
    let third = world.enqueue("echo never");
    let handler = world.node.handler().start();
    world.node.wait_for_start(second);
    world.node.handler().args(["cancel", &third.to_string()]).run().exits(0);
    handler.signal(Signal::KILL);
    handler.wait();
    gate.open();
    world.run().exits(0);
    assert_eq!((world.result(first).0, world.result(third).0), (0, 130));
    let samples = Samples::read(&file);
    samples.is(&ok, 4.0);
    samples.is(&cancelled, 1.0);
    // The history goes: all that is in it is older than this.
    world.node.configure(&format!("{wanted}[retention]\nhistory = \"1s\"\n"));
    make_old(&world);
    world.run().exits(0);
    world.run().exits(0);
    assert_eq!(world.node.handler().arg("history").run().stdout.lines().count(), 1, "the history is still there");
    let samples = Samples::read(&file);
    samples.is(&ok, 4.0);
    samples.is(&cancelled, 1.0);
    // Without the setting nothing is written.
    world.node.configure("");
    fs::remove_file(&file).unwrap();
    world.run().exits(0);
    assert!(!file.exists());
}

/// A day passes for what is in the ledger.
fn make_old(world: &World) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.execute('UPDATE action SET reported_at = reported_at - 86400000'); c.commit()";
    let ledger = world.node.path("var/actions/ledger.sqlite");
    let done = std::process::Command::new("python3").args(["-c", script]).arg(ledger).status().unwrap();
    assert!(done.success());
}

both!(notifications_are_counted_whoever_hears_them);
fn notifications_are_counted_whoever_hears_them(dialect: Dialect) {
    let (world, file) = measured(dialect);
    let listener = Node::listen();
    let address = listener.local_addr().unwrap();
    for _ in 0..5 {
        TcpStream::connect(address).unwrap().write_all(b"dequeue_actions").unwrap();
    }
    world.node.handler().systemd(listener).run().exits(0);
    let samples = Samples::read(&file);
    samples.is("notifications_total", 5.0);
    let coalesced = samples.of("notifications_coalesced_total").unwrap();
    assert!(coalesced + seen_fetches(&world) >= 5.0, "{:#?}", samples.0);
    // With a process for each connection, those that find another handler at work only leave their mark.
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    for _ in 0..3 {
        let (_sender, connection) = pair();
        world.node.handler().inetd(connection).run().exits(0);
    }
    gate.open();
    handler.wait().exits(0);
    let after = Samples::read(&file);
    after.is("notifications_total", 8.0);
    after.is("notifications_coalesced_total", coalesced + 2.0);
    world.check();
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = Node::listen();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (sender, listener.accept().unwrap().0)
}

both!(metrics_that_cannot_be_written_are_a_warning_and_cost_no_result);
fn metrics_that_cannot_be_written_are_a_warning_and_cost_no_result(dialect: Dialect) {
    let (world, file) = measured(dialect);
    let id = world.enqueue("echo done");
    let said = |ended: &Ended| ended.says("warning: cannot write the metrics").exits(0).code();
    fs::create_dir(&file).unwrap();
    said(&world.run());
    assert_eq!(world.result(id).1, "done\n");
    fs::remove_dir(&file).unwrap();
    fs::remove_dir(file.parent().unwrap()).unwrap();
    said(&world.run());
    world.node.make_dir("textfile");
    // A directory in the place of the counters: they stay behind, and the rest is written.
    let counters = world.node.path("var/actions/metrics");
    fs::remove_file(&counters).unwrap();
    fs::create_dir(&counters).unwrap();
    world.run().says("warning: the counters for metrics stay behind").exits(0);
    Samples::read(&file).is(&format!("ended_total{{queue=\"{}\",ret=\"0\"}}", dialect.name()), 1.0);
    world.check();
}

both!(promtool_takes_the_file_where_it_is_installed);
fn promtool_takes_the_file_where_it_is_installed(dialect: Dialect) {
    let (world, file) = measured(dialect);
    world.enqueue("exit 1");
    world.run().exits(0);
    let promtool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let text = fs::File::open(&file).unwrap();
    match std::process::Command::new(promtool).args(["check", "metrics"]).stdin(text).output() {
        Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
        Err(err) => eprintln!("NOT TESTED: promtool is not installed here ({err})"),
    }
}
