//! Handler for OpenSVC *pull mode*.
//!
//! A collector queues actions for a node; this short-lived program is started by a TCP notification (systemd socket,
//! inetd), a timer or a person, fetches the queued actions over HTTPS, runs them as external commands, posts each
//! result back, and exits.
//!
//! # The way of one action
//!
//! ```text
//! connection ─► mark ─► lock ─► ledger::open ─► recover ─┐
//!                                                        ▼
//!    ┌───────────── collector.fetch ─► Batch { actions, malformed, unusable }
//!    │                  │ admission, the whole answer: received, durable with the first start
//!    │                  │ per action ── durable: finished(k) + started(k+1)         (1 sync an action)
//!    │              executor::launch ─► supervisor ─► command
//!    │              collector.acknowledge ── beside the first command, before any result
//!    │                  │ end record ── into the ledger with the next commit
//!    │              collector.report ── beside other commands; reported(k) rides on a later commit
//!    └── until a fetch brings nothing new, nothing is left to run and nobody has knocked ─► exit
//! ```
//!
//! Bytes become a [`QueuedAction`](action::QueuedAction), that a [`Permit`](action::policy::Permit) with an
//! [`Argv`](action::argv::Argv), that an [`Outcome`](action::outcome::Outcome), and that bytes again.
//!
//! # The house
//!
//! | module | subject |
//! | --- | --- |
//! | [`action`] | pure: what an action is, and everything that is decided about it |
//! | [`config`] | from text to validated, immutable settings |
//! | [`wake`] | who started us, notifications, signals, one handler at a time |
//! | [`collector`] | one codec per dialect, over one HTTP client |
//! | [`executor`] | commands, each under a supervisor that outlives the handler |
//! | [`ledger`] | what this node knows about its actions, durable |
//! | [`zone`] | the local time zone, for people and for schedules |
//! | [`telemetry`] | the log, and what systemd is told |
//! | [`handler`] | the loop that sequences them |
//! | [`commands`] | one file per command of the command line |
//! | [`cli`], [`error`] | the command line's definition; what can go wrong, and the exit status that tells it |
//! | `crash` | points at which `tests/crash` makes the program die; nothing in a build for use |
//!
//! Imports go one way: `main → commands → handler → {wake, collector, executor, ledger, telemetry} → {action, config}`.
//! The five in the middle, the effects, never know each other. `reqwest` and `rustls` are named in `collector/http.rs`
//! only, `rusqlite` in `ledger/` only, `chrono` in `zone.rs` only; processes are started in `executor/` only; the clock is read in `handler`,
//! `commands` and `executor/supervisor.rs` only and passed down as a value. `tests/docs/layers.rs` reads the sources and checks this.
//!
//! # The room for a change
//!
//! | what is to change | where |
//! | --- | --- |
//! | what a row means when it comes again | [`action::admission`]: the table, a test for each cell; [`action::evidence`]: whether it is the same row |
//! | how a command string becomes words and a command line | [`action::words`], [`action::argv`] |
//! | what may run, as whom, how long, with how much | [`action::policy`], [`action::limits`], [`action::glob`]; [`config`] reads the rules |
//! | what runs side by side | [`action::lanes`] |
//! | what a result looks like | [`action::outcome`]: which `ret`; [`action::output`]: the two streams |
//! | when a timer's run may fetch | [`action::schedule`]; a delay between tries is [`action::retry`] |
//! | a setting | [`config`]: its field with its bounds, its name among the known ones, its line in `examples/actions.toml` and in the manual; `tests/docs` says what is missing |
//! | a keyword of `node.conf` | [`config`]: `node_conf.rs` reads the file, `keywords.rs` and `references.rs` say what a line means |
//! | an exchange with a collector | [`collector`]: a codec for each dialect, `dialect.rs` for what they have in common, [`collector::http`] for the wire, `gate.rs` for connecting before there is anything to say |
//! | who else dequeues for this node | `wake/dequeuers.rs` |
//! | registration, and the inventory that goes with it | `collector/registration.rs`, `collector/system.rs`; [`config`]: `edit.rs` writes `node.conf` |
//! | external actions | [`action::external`]; `external.rs` of `executor/` and `handler/`; `commands/systemd_start.rs` and its sister for work in units |
//! | what is hidden where people look | [`action::redact`] |
//! | pausing, cancelling, forgetting | `pause.rs`, `orders.rs` and `retention.rs` of [`ledger`] |
//! | a check of `doctor` | `commands/doctor/` |
//! | a metric | `telemetry/metrics.rs`, `handler/metrics.rs` |
//! | a new dialect | a codec in `collector/`, an implementation of `Dialect`, a [`Queue`](action::Queue); `CONTRIBUTING.md` has the steps |
//! | how a command's process is started | [`executor::launcher`]: a module for each way |
//! | what happens around a command | [`executor::supervisor`]: it watches and ends it; [`executor::tree`]: what belongs to it; [`executor::record`]: how it is written down |
//! | what a command finds around it | [`executor::environment`], and `executor/inherited.rs` for what it must not inherit |
//! | how we are woken, and that no wake-up is lost | [`wake::activation`], [`wake::notification`]; the protocol between starters is `wake/protocol.rs`, explored state by state |
//! | what is durable, and when | [`ledger`]: one statement for each step of an action; `ledger/schema.rs` has the versions |
//! | the order of it all, recovery included | [`handler`]; no decision is made there that [`action`] could make |
//! | a line of the log, a field of the journal | [`telemetry`], and the words where it happens, in [`handler`] |
//! | a command of the command line | [`cli`] defines it, [`commands`] has a file for it; the manual is made of both and of `man/*.sections` |
//! | an exit status | [`error`] |
//! | units, packages, their scripts | `units/`, `packaging/`; shown by `tests/system` |
//! | the collector of demonstrations and tests | `collector/`, a package of its own that shares no code with this one |
//!
//! # Invariants
//!
//! What can be seen of them from outside has a number in the tests:
//!
//! * I1: an action's generation starts at most once.
//! * I2: once it is recorded, exactly one result of it is accepted by the collector, and if nobody can know its end, that result
//!   says so.
//! * I3: nothing is acknowledged that is not durable here.
//! * I4: the result is that of the process.
//! * I5: no process of an action survives its timeout or its cancellation.
//! * I6: no process, descriptor, unit, lock or file is left behind.
//!
//! How they are kept:
//!
//! * Nothing is acknowledged to a collector that is not durable in the [`ledger`].
//! * A command starts only after its start is durable. So after any crash it is known that it may have run, and it is
//!   never run again by itself.
//! * A command runs under a supervisor that has no other at that time, and that lives on when the handler is killed, stopped or replaced, and
//!   leaves a record of how the command ended. Recovery looks, in this order, at the record, at the claim that the
//!   supervisor holds (see [`executor::run`]), and at the boot: only what nobody can know is reported as 254.
//! * A result is durable before it is posted, and posted until the collector accepts it, to the collector that the
//!   action came from and no other.
//! * What a row means is a table, [`action::admission`]: a row that is sent again is answered from the ledger; a redo
//!   is a new generation. Every generation ends reported, superseded by a newer one, or expired, and an older result
//!   never follows a newer one. What is forgotten leaves a tombstone, so that it is answered and not run.
//! * Nothing is fetched that there is no room to record, and a full disk holds no result back. A ledger that is damaged
//!   is replaced by one that begins with the run directories, and until it is certain that no collector sends earlier
//!   rows again, such rows are answered and not run.
//! * What people want to know beside what has to be known is noted and rides on the next commit, [`ledger::story`]: it
//!   costs no sync, nothing is decided by it, and what a crash takes of it is missed by nobody.
//! * An answer costs one sync, an action one more; that a result was accepted costs none: if a power cut takes it back,
//!   it is posted again.
//! * What may run is [`action::policy`]'s to say, about the words that are executed and not about the text that was
//!   sent; what may run side by side is [`action::lanes`]'s.
//! * A cancellation and a start are each one conditional statement on the ledger, [`ledger::orders`] and
//!   [`Ledger::commit`](ledger::Ledger::commit): whoever is second finds nothing to change. What is cancelled after its
//!   start was recorded is cancelled in its run directory, where its supervisor looks before it begins.
//! * An external action is started as any command is, once. When its start has ended well, a note in its run directory says
//!   so, durable before the supervisor is let go, and from then on only that note counts: later handlers ask after it, and
//!   none of them stays for it ([`action::external`]).
//! * Commands that only look open the ledger read-only ([`ledger::view`]) and take no lock that a handler wants.
//! * Whoever examines the node ([`commands::doctor`]) changes nothing, here or at a collector: [`collector::probe`],
//!   [`ledger::inspect`].
//! * What is too long for a report stays on the node as far as the settings and the disk allow, [`executor::kept`]; no
//!   result and no command depends on it.
//! * A command runs as root, or as the user that a rule of the policy names and as nobody else, [`executor::run_as`].
//! * Only what a supervisor has started is ever killed in its name, and of an action that must end, all of it:
//!   [`executor::tree`], [`executor::remains`].
//! * A queue that something else on this node dequeues is not fetched, as far as that can be seen: [`wake::dequeuers`].
//! * One handler works at a time, and after the last notification at least one fetch begins: [`wake::lock`] says why.
//! * Nothing is ever written to a notifier's connection.

pub mod action;
pub mod cli;
pub mod collector;
pub mod commands;
pub mod config;
mod crash;
pub mod error;
pub mod executor;
pub mod handler;
pub mod ledger;
pub mod telemetry;
pub mod wake;
pub mod zone;
