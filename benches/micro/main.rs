//! What the pure parts cost: codecs, words, `node.conf`, admission, output.
//!
//! ```text
//! cargo bench -p opensvc-actions-benches --bench micro                          # time, items and bytes a second
//! cargo bench -p opensvc-actions-benches --bench micro -- instructions [PART]   # instructions of each unit, by callgrind
//! ```
//!
//! Times are worth something on a quiet machine only. Instructions are the same each time, whatever else the machine does:
//! they change with the code, the compiler, the C library and the kind of processor. Where they go, callgrind tells when
//! it is asked about a single work: `CARGO_PROFILE_BENCH_STRIP=none CARGO_PROFILE_BENCH_DEBUG=1 cargo bench … --no-run`,
//! then `valgrind --tool=callgrind target/release/deps/micro-… work PART NAME ROUNDS` and `callgrind_annotate`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on fails, and has no users")]

mod admission;
mod codecs;
mod instructions;
mod node_conf;
mod output;
mod recorded;
mod words;

use std::fmt;
use std::process::ExitCode;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

/// Something to be done again and again.
struct Work {
    name: String,
    /// What it is done to: `row`, `byte`.
    unit: &'static str,
    /// How many of them each time.
    units: usize,
    /// How many bytes go in or come out each time.
    bytes: usize,
    once: Box<dyn Fn() + Send + Sync>,
}

impl Work {
    /// What `once` returns is made, and thrown away.
    fn new<T>(
        name: impl Into<String>,
        (units, unit): (usize, &'static str),
        bytes: usize,
        once: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        let once = Box::new(move || drop(divan::black_box(once())));
        Self { name: name.into(), unit, units, bytes, once }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name of a part, and its works.
type Part = (&'static str, fn() -> Vec<Work>);

/// All works, by part.
const PARTS: [Part; 5] = [
    ("codecs", codecs::works),
    ("words", words::works),
    ("node_conf", node_conf::works),
    ("admission", admission::works),
    ("output", output::works),
];

fn time(bencher: Bencher<'_, '_>, work: &Work) {
    bencher.counter(ItemsCount::new(work.units)).counter(BytesCount::new(work.bytes)).bench(|| (work.once)());
}

#[divan::bench(name = "codecs", args = codecs::works())]
fn time_codecs(bencher: Bencher<'_, '_>, work: &Work) {
    time(bencher, work);
}

#[divan::bench(name = "words", args = words::works())]
fn time_words(bencher: Bencher<'_, '_>, work: &Work) {
    time(bencher, work);
}

#[divan::bench(name = "node_conf", args = node_conf::works())]
fn time_node_conf(bencher: Bencher<'_, '_>, work: &Work) {
    time(bencher, work);
}

#[divan::bench(name = "admission", args = admission::works())]
fn time_admission(bencher: Bencher<'_, '_>, work: &Work) {
    time(bencher, work);
}

#[divan::bench(name = "output", args = output::works())]
fn time_output(bencher: Bencher<'_, '_>, work: &Work) {
    time(bencher, work);
}

fn main() -> ExitCode {
    // Cargo adds a `--bench` of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["instructions"] => instructions::table(None),
        ["instructions", part] => instructions::table(Some(part)),
        ["work", part, name, rounds] => instructions::work(part, name, rounds.parse().unwrap()),
        _ => {
            divan::main();
            ExitCode::SUCCESS
        }
    }
}
