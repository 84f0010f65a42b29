//! A day of a node in minutes of ours: a run each minute as the timer starts them, notifications, actions over every wire,
//! redos, faults, killed handlers, a full disk. What a run takes, and what it leaves, is the same at the end as at the
//! beginning.
//!
//! `SOAK_HOURS=24` makes the whole day; by itself it is a part of it. `SOAK_SEED` makes the same choices again.
//!
//! The day is compressed: nothing waits between two runs, and the clock is the machine's. So the history is kept for two
//! seconds, to reach its bound before anything is measured, and the ledger begins with as many tombstones as it may hold.
//! What goes by real hours is not shown here: results given up after `unreported`, pauses that end, schedules, certificates
//! that expire; each has tests of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::ledger::Mount;
use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::collector::state::Row;
use crate::support::history::{self, Allowed};
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::{DEADLINE, Dialect, Wire};

/// As many as the ledger keeps.
const TOMBSTONES: i64 = 100_000;

/// What an action prints: nothing, little, much, and more than a report takes and so is kept on the node.
const COMMANDS: [&str; 9] = [
    "",
    "echo done",
    "err oh exit 3",
    "cat small",
    "cat small cat-err small exit 1",
    "cat medium",
    "cat medium cat-err small",
    "cat large",
    "cat large cat-err large",
];

fn hours() -> f64 {
    std::env::var("SOAK_HOURS").map_or(0.3, |hours| hours.parse().unwrap())
}

/// A number of steps for so many an hour.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours are few and positive")]
fn steps(an_hour: f64) -> usize {
    (hours() * an_hour).ceil() as usize
}

/// Numbers without a pattern (splitmix64), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    std::env::var("SOAK_SEED").map_or_else(|_| RandomState::new().hash_one("seed"), |seed| seed.parse().unwrap())
}

/// What a process has, in KiB and in number.
#[derive(Clone, Copy, Debug)]
struct Taken {
    rss: u64,
    peak_rss: u64,
    descriptors: usize,
}

impl Taken {
    fn by(handler: &Process) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", handler.pid())).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{}/fd", handler.pid())).unwrap().count();
        Self { rss: value("VmRSS:"), peak_rss: value("VmHWM:"), descriptors }
    }
}

/// What there is at one moment of the day.
#[derive(Clone, Copy, Debug)]
struct Sample {
    minute: usize,
    /// Of a handler at the end of always the same work.
    taken: Taken,
    /// Below the state directory, but for outputs that are kept.
    files: u64,
    bytes: u64,
    /// Of outputs that are kept.
    kept: u64,
    ledger: u64,
    log: u64,
    actions: i64,
    tombstones: i64,
    attempts: i64,
}

/// Insists that the most of the last quarter is not more than that of the first, but for so many per cent and so much.
#[track_caller]
fn assert_flat<T>(what: &str, samples: &[T], of: impl Fn(&T) -> u64, percent: u64, room: u64) {
    let quarter = samples.len() / 4;
    assert!(quarter >= 2, "{what}: {} samples are too few", samples.len());
    let most = |samples: &[T]| samples.iter().map(&of).max().unwrap();
    let (first, last) = (most(&samples[..quarter]), most(&samples[samples.len() - quarter..]));
    println!("soak: {what}: {first} in the first quarter, {last} in the last");
    assert!(last <= first + first * percent / 100 + room, "{what} grows: {first} at first, {last} at last");
}

struct Day {
    // Goes before the directory that it is mounted on.
    disk: Mount,
    node: Node,
    collector: Collector,
    random: Random,
    /// The rows that have their results.
    done: Vec<i64>,
    /// How often what happened, by name.
    happened: BTreeMap<&'static str, usize>,
}

impl Day {
    fn begin(rpc: Wire, seed: u64) -> Self {
        let collector = Collector::start();
        let node = Node::over(&collector, &[Wire::Oc3, rpc]);
        node.make_dir("textfile");
        node.configure(&format!(
            "[retention]\nhistory = \"2s\"\nkept_output = \"1MiB\"\n[metrics]\ntextfile = \"{}\"\n",
            node.path("textfile/n1.prom").display()
        ));
        for (name, size) in [("small", 300), ("medium", 20_000), ("large", 150_000)] {
            node.write(name, "0123456789abcde\n".repeat(size / 16));
        }
        let disk = Mount::at(node.path("var/actions"), "96m");
        let (random, done, happened) = (Random(seed), Vec::new(), BTreeMap::new());
        let day = Self { disk, node, collector, random, done, happened };
        day.node.run().exits(0);
        day.fill_tombstones();
        // Until the ledger has all the pages that it needs for the history that it keeps.
        for _ in 0..4 {
            for _ in 0..10 {
                day.collector.enqueue(Dialect::Oc3, "cat large cat-err large");
            }
            day.node.run().exits(0);
        }
        day
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.node.path(&format!("var/actions/{name}"))
    }

    fn size(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).map_or(0, |metadata| metadata.len())
    }

    /// Of actions that no collector here knows.
    fn fill_tombstones(&self) {
        let fill = "INSERT INTO tombstone (queue, id, generation, what, queued_at)
            WITH RECURSIVE nth(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM nth WHERE n < ?1)
            SELECT 'oc3', 1000000000 + n, 1, n * 7919, 1700000000 + n FROM nth";
        Connection::open(self.path("ledger.sqlite")).unwrap().execute(fill, [TOMBSTONES]).unwrap();
    }

    fn enqueue(&mut self) {
        for _ in 0..=self.random.below(3) {
            let dialect = Dialect::BOTH[self.random.below(2)];
            // Old: what was handed out and not acknowledged is handed out again at once.
            self.collector.add(Row::new(dialect, COMMANDS[self.random.below(COMMANDS.len())]).old());
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// Timer runs until everything is well.
    fn settle(&self) {
        self.collector.heal();
        let codes: Vec<_> = (0..10).map(|_| self.node.run().code()).take_while(|code| *code != 0).collect();
        assert!(codes.len() < 10, "it does not become well: {codes:?}");
    }

    /// One run with this going wrong at the collector.
    fn faulty(&mut self, what: &'static str, call: Call, fault: Fault) {
        self.enqueue();
        self.collector.fail(call, When::First(1), fault);
        let code = self.node.run().code();
        assert!(matches!(code, 0 | 75), "{what}: {code}");
        self.settle();
        self.note(what);
    }

    /// By chance; but at first each of what can go wrong, so that a short day has it, too.
    fn minute(&mut self, nth: usize) {
        let first = [93, 89, 98, 86, 87, 82, 88, 83, 84, 85, 76, 65, 99];
        let forced = if nth % 3 == 0 { None } else { first.get(nth - nth / 3 - 1) };
        match forced.copied().unwrap_or_else(|| self.random.below(100)) {
            0..42 => {
                self.node.run().exits(0);
                self.note("idle runs of the timer");
            }
            42..65 => {
                self.enqueue();
                self.node.run().exits(0);
                self.note("runs of the timer with actions");
            }
            65..76 => {
                self.enqueue();
                let listener = Node::listen();
                let _peer = knock(&listener);
                self.node.handler().inetd(listener.accept().unwrap().0).run().exits(0);
                self.note("notifications by inetd");
            }
            76..82 => {
                self.enqueue();
                let listener = Node::listen();
                let _peers: Vec<_> = (0..=self.random.below(5)).map(|_| knock(&listener)).collect();
                self.node.handler().systemd(listener).run().exits(0);
                self.note("notifications by a listening socket");
            }
            82..83 => {
                self.enqueue();
                self.collector.down();
                self.node.run().exits(75);
                self.collector.up();
                self.settle();
                self.note("times without a collector");
            }
            83..84 => self.faulty("refused fetches", Call::Fetch, Fault::status(500)),
            84..85 => self.faulty("half answers", Call::Fetch, Fault::HalfBody),
            85..86 => self.faulty("lost answers to a fetch", Call::Fetch, Fault::ResetAfter),
            86..87 => self.faulty("lost acknowledgements", Call::Ack, Fault::ResetAfter),
            87..88 => self.faulty("lost answers to a report", Call::Report, Fault::ResetAfter),
            88..89 => self.faulty("refused reports", Call::Report, Fault::status(500)),
            89..93 => self.redo(),
            93..98 => self.kill(),
            98..99 => self.fill_disk(),
            _ => {
                for command in ["status", "history"] {
                    self.node.handler().arg(command).run().exits(0);
                }
                self.note("questions");
            }
        }
    }

    fn redo(&mut self) {
        self.settle();
        self.done = self.collector.rows().iter().filter(|row| row.status == 'T').map(|row| row.id).collect();
        let id = self.done[self.random.below(self.done.len())];
        self.collector.redo(id);
        self.node.run().exits(0);
        assert_eq!(self.collector.row(id).status, 'T', "{id} was not run again");
        self.note("redos");
    }

    /// SIGKILL at some moment, to the handler or, now and then, to a supervisor.
    fn kill(&mut self) {
        self.enqueue();
        let handler = self.node.handler().start();
        // The moment of a fault, not a wait for anything.
        thread::sleep(Duration::from_millis(self.random.below(60) as u64));
        let wants_supervisor = self.random.below(4) == 0;
        for pid in self.node.processes() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_supervisor = command.ends_with(b"\0supervise\0");
            if if wants_supervisor { is_supervisor } else { pid == handler.pid() } {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
        let ended = handler.wait();
        match ended.code() {
            0 | 75 => {}
            137 if !wants_supervisor => {}
            // It had its order, and died before it could begin: the next run starts that command.
            69 if wants_supervisor && ended.stderr.contains("its supervisor could not start it: it was killed") => {
                self.note("supervisors killed with an order that they had not begun");
            }
            _ => panic!("killed a supervisor: {wants_supervisor}: {ended:?}"),
        }
        self.settle();
        self.note("killed");
    }

    fn fill_disk(&mut self) {
        self.settle();
        self.enqueue();
        let filler = self.disk.fill();
        let code = self.node.run().code();
        assert!(matches!(code, 0 | 69), "{code}");
        fs::remove_file(filler).unwrap();
        self.settle();
        self.note("full disks");
    }

    /// Has a handler do always the same, looks at it before its last fetch, and then at what is left.
    fn sample(&mut self, minute: usize) -> Sample {
        self.settle();
        let fetches = self.collector.count(Call::Fetch);
        for dialect in Dialect::BOTH {
            for command in ["echo done", "cat medium", "cat large cat-err large"] {
                self.collector.add(Row::new(dialect, command).old());
            }
        }
        // Each queue is asked twice.
        self.collector.fail(Call::Fetch, When::Nth(fetches + 4), Fault::StallBefore);
        let handler = self.node.handler().start();
        self.collector.wait_for_count(Call::Fetch, fetches + 4);
        let taken = Taken::by(&handler);
        self.collector.heal();
        handler.wait().exits(0);
        self.node.wait_until_alone(&[]);
        let (mut files, mut bytes, mut kept) = (0, 0, 0);
        for (path, size) in files_below(&self.path("")) {
            if path.starts_with(self.path("output")) {
                kept += size;
            } else {
                (files, bytes) = (files + 1, bytes + size);
            }
        }
        let readable = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let ledger = Connection::open_with_flags(self.path("ledger.sqlite"), readable).unwrap();
        let count = |table: &str| {
            ledger.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
        };
        Sample {
            minute,
            taken,
            files,
            bytes,
            kept,
            ledger: self.size("ledger.sqlite"),
            log: self.size("ledger.sqlite-wal"),
            actions: count("action"),
            tombstones: count("tombstone"),
            attempts: count("attempt"),
        }
    }

    fn end(self, name: &str, samples: &[Sample]) {
        self.settle();
        let kills = self.happened.get("killed").copied().unwrap_or_default();
        history::check(
            &self.node,
            &[&self.collector],
            &Allowed { interrupted: true, crashes: kills, ..Allowed::default() },
        );
        let rows = self.collector.rows();
        assert!(rows.iter().all(|row| row.status == 'T'), "not everything has its result");
        println!("soak: {name}: {} actions, {:?}", rows.len(), self.happened);
        for sample in samples.iter().step_by(samples.len().div_ceil(9)).chain(samples.last()) {
            println!("soak: {name}: minute {}: {sample:?}", sample.minute);
        }
        let flat = |what: &str, of: fn(&Sample) -> u64, percent, room| {
            assert_flat(&format!("{name}: {what}"), samples, of, percent, room);
        };
        flat("peak RSS of a handler, KiB", |sample| sample.taken.peak_rss, 5, 256);
        flat("descriptors of a handler", |sample| sample.taken.descriptors as u64, 0, 2);
        flat("files", |sample| sample.files, 0, 0);
        // A database has pages to spare, more or less, as outputs come and go.
        flat("bytes in files", |sample| sample.bytes, 5, 512 << 10);
        flat("bytes of the ledger", |sample| sample.ledger, 5, 512 << 10);
        flat("bytes of the ledger's log", |sample| sample.log, 5, 256 << 10);
        // What happened in two seconds of the machine's: more when it is less busy.
        flat("actions in the ledger", |sample| sample.actions.unsigned_abs(), 100, 50);
        flat("failed attempts in the ledger", |sample| sample.attempts.unsigned_abs(), 100, 50);
        for sample in samples {
            assert!(sample.tombstones <= TOMBSTONES, "{sample:?}");
            assert!(sample.kept <= 2 << 20, "{sample:?}");
        }
    }
}

fn files_below(directory: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() { files_below(&path) } else { vec![(path, metadata.len())] }
    });
    all.collect()
}

/// Does what the real notifier does, up to its end of the connection.
fn knock(listener: &TcpListener) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"dequeue_actions").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

/// One node a wire: queues of both kinds, the second of them in XML or in JSON.
fn live(rpc: Wire) {
    let (seed, minutes, begun) = (seed(), steps(60.0), Instant::now());
    let name = format!("oc3 and {}", rpc.name());
    println!("soak: {name}: SOAK_SEED={seed}, {minutes} minutes of a day");
    let mut day = Day::begin(rpc, seed);
    let mut samples = Vec::new();
    for minute in 0..minutes {
        if minute % minutes.div_ceil(48).max(2) == 0 {
            samples.push(day.sample(minute));
        }
        day.minute(minute);
    }
    samples.push(day.sample(minutes));
    day.end(&name, &samples);
    println!("soak: {name}: took {:.0} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_day_of_oc3_and_xml_leaves_everything_as_flat_as_it_was() {
    live(Wire::RpcXml);
}

#[test]
fn a_day_of_oc3_and_json_leaves_everything_as_flat_as_it_was() {
    live(Wire::RpcJson);
}

/// One a second of the day and as many as two others make beside it, and an action now and then, which is carried out
/// although they never cease. A handler that hears nothing for a quarter of a second goes; where that happens all the same,
/// because the machine has other things to do, it begins anew.
#[test]
fn a_handler_that_notifications_keep_alive_for_a_day_stays_as_small_as_it_was() {
    let collector = Collector::start();
    let node = Node::over(&collector, &[Wire::Oc3, Wire::RpcXml]);
    // A ledger that grows takes memory for its pages, up to SQLite's bound, which a day's actions do not come to.
    node.configure("[retention]\nhistory = \"2s\"\n");
    let listener = Node::listen();
    for life in 1..=5 {
        let (whole, samples) = keep_alive(&node, &collector, &listener, steps(3600.0));
        node.run().exits(0);
        if !whole {
            println!("soak: life {life} of the handler ended after {} samples", samples.len());
            continue;
        }
        history::check(&node, &[&collector], &Allowed::default());
        println!("soak: {} rows, {} fetches, life {life}", collector.rows().len(), collector.count(Call::Fetch));
        for sample in samples.iter().step_by(samples.len().div_ceil(9)).chain(samples.last()) {
            println!("soak: kept alive: {sample:?}");
        }
        assert_flat("RSS of a handler kept alive, KiB", &samples, |taken| taken.rss, 0, 256);
        assert_flat("its peak RSS, KiB", &samples, |taken| taken.peak_rss, 0, 256);
        // A connection more or less may be under way.
        assert_flat("its descriptors", &samples, |taken| taken.descriptors as u64, 0, 6);
        return;
    }
    panic!("no handler was kept alive");
}

/// What one handler has, from the tenth part of its notifications on; and whether it lived until the last.
fn keep_alive(node: &Node, collector: &Collector, listener: &TcpListener, notifications: usize) -> (bool, Vec<Taken>) {
    let mut handler = node.handler().systemd(listener.try_clone().unwrap()).start();
    let (mut samples, mut ids, mut nth, done) = (Vec::new(), Vec::new(), 0, AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    wait_until_over(knock(listener), || !done.load(Ordering::SeqCst));
                }
            });
        }
        while nth < notifications && handler.is_running() {
            // After the one before.
            if nth % 50 == 0 && ids.last().is_none_or(|id| collector.row(*id).status == 'T') {
                let command = ["echo done", "err oh exit 3", "env"][ids.len() % 3];
                ids.push(collector.enqueue(Dialect::BOTH[ids.len() % 2], command));
            }
            wait_until_over(knock(listener), || handler.is_running());
            if nth >= notifications / 10 && nth % notifications.div_ceil(100) == 0 && handler.is_running() {
                samples.push(Taken::by(&handler));
            }
            nth += 1;
        }
        done.store(true, Ordering::SeqCst);
    });
    handler.wait().exits(0);
    let whole = nth == notifications;
    assert!(!whole || ids.len() * 1000 > notifications, "only {} actions meanwhile", ids.len());
    (whole, samples)
}

/// Waits for the handler to hear a notification, which it shows by ending the connection, as long as it makes sense.
fn wait_until_over(mut peer: TcpStream, mut makes_sense: impl FnMut() -> bool) {
    peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while makes_sense() {
        match peer.read(&mut [0]) {
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            _ => return,
        }
    }
}
