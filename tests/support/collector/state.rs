//! What a collector knows: its rows, by the real ones' rules, and everything that happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;

use super::super::{Dialect, Wire};
use super::fault::{Call, Fault, Planned, When};
use super::register::Registry;

/// What a stream's column holds.
const COLUMN: usize = 65_535;

/// One row of the queue.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is something that a test can wish for")]
pub(crate) struct Row {
    pub(crate) dialect: Dialect,
    /// 0: not given yet.
    pub(crate) id: i64,
    pub(crate) status: char,
    pub(crate) command: String,
    /// Whether the command gets a tag.
    pub(crate) tagged: bool,
    pub(crate) svc_id: String,
    pub(crate) svcname: Option<String>,
    /// It was queued long ago: when sent, it is sent again.
    pub(crate) old: bool,
    /// Acknowledgements and results are accepted and change nothing (a row of another node in disguise).
    pub(crate) stuck: bool,
    /// The next answer has it whatever its letter.
    pub(super) send_once_more: bool,
    pub(crate) odd: Odd,
    pub(crate) ret: Option<i64>,
    pub(crate) stdout: Option<String>,
    pub(crate) stderr: Option<String>,
    /// 1, and one more for every redo.
    pub(crate) generation: u32,
    /// The newest generation that was acknowledged.
    acknowledged: u32,
    /// The newest generation that has a result.
    reported: u32,
    /// How often it was handed out.
    pub(crate) handed_out: u32,
}

/// How a row can be unlike others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Odd {
    #[default]
    No,
    /// Every member that may be null is.
    NullMembers,
    /// There are members that nobody knows.
    UnknownMembers,
    /// `command` is not there.
    NoCommand,
    /// `command` is null.
    NullCommand,
    /// `id` is the number in a string.
    IdInString,
    /// `id` is a word.
    IdIsWord,
    /// `id` is not there.
    NoId,
    /// The row is not a row but a number.
    NotARow,
}

impl Row {
    pub(crate) fn new(dialect: Dialect, command: &str) -> Self {
        Self {
            dialect,
            id: 0,
            status: if dialect == Dialect::Rpc { 'N' } else { 'W' },
            command: command.to_owned(),
            tagged: true,
            svc_id: String::new(),
            svcname: None,
            old: false,
            stuck: false,
            send_once_more: false,
            odd: Odd::No,
            ret: None,
            stdout: None,
            stderr: None,
            generation: 1,
            acknowledged: 0,
            reported: 0,
            handed_out: 0,
        }
    }

    pub(crate) fn service(mut self, name: &str) -> Self {
        self.svcname = Some(name.to_owned());
        self.svc_id = format!("{:08x}-0562-11e6-8c70-7e9e6cf13c8a", name.len());
        self
    }

    pub(crate) fn status(mut self, status: char) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn old(mut self) -> Self {
        self.old = true;
        self
    }

    pub(crate) fn stuck(mut self) -> Self {
        self.stuck = true;
        self
    }

    pub(crate) fn odd(mut self, odd: Odd) -> Self {
        self.odd = odd;
        self
    }

    /// Whether its id can be made sense of.
    pub(crate) fn has_id(&self) -> bool {
        !matches!(self.odd, Odd::IdIsWord | Odd::NoId | Odd::NotARow)
    }

    /// Without the tag by which the fake `om` is known to have run it.
    pub(crate) fn untagged(mut self) -> Self {
        self.tagged = false;
        self
    }

    /// The queue date as each dialect writes it: minute and second differ from row to row.
    pub(super) fn queued_at(&self) -> String {
        let (minute, second) = (self.id / 60 % 60, self.id % 60);
        match self.dialect {
            Dialect::Oc3 => format!("2026-11-21T08:{minute:02}:{second:02}Z"),
            Dialect::Rpc => format!("2026-11-21 08:{minute:02}:{second:02}"),
        }
    }
}

/// A result as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) id: i64,
    /// The row's generation at that moment.
    pub(crate) generation: u32,
    pub(crate) ret: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Whether the agent could know that it was accepted.
    pub(crate) answered: bool,
    /// It came in a batch that was refused because of a later one.
    pub(crate) in_refused_batch: bool,
}

/// What happened at the collector, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected,
    /// An exchange began.
    Asked {
        call: Call,
        wire: Option<Wire>,
        bytes: usize,
    },
    /// It was made to fail.
    Failed {
        call: Call,
        how: String,
    },
    /// Rows were handed out.
    Fetched {
        ids: Vec<i64>,
        answered: bool,
    },
    /// Rows were acknowledged.
    Acked {
        ids: Vec<i64>,
        answered: bool,
    },
    /// A result was accepted.
    Reported(Reported),
    /// A result was refused because a real collector could not store it.
    Unfit {
        id: i64,
        why: String,
    },
    /// Credentials were refused.
    Unauthorized,
    /// A node was given its secret, or was refused it. By REST, the name is the body that has it.
    Registered {
        name: String,
        refusal: Option<String>,
        answered: bool,
    },
    /// A system document came; what it lacks, if anything.
    System {
        name: String,
        missing: Vec<String>,
    },
    /// A call was tried that this collector is too old for.
    Unsupported(String),
    /// A request is not in the protocol.
    Strange(String),
}

impl Event {
    /// The agent heard of it after all.
    pub(super) fn answer(&mut self) {
        match self {
            Self::Fetched { answered, .. } | Self::Acked { answered, .. } | Self::Registered { answered, .. } => {
                *answered = true;
            }
            Self::Reported(reported) => reported.answered = true,
            _ => {}
        }
    }
}

/// Which release lets a stalled exchange go on: the first after it began.
#[derive(Clone, Copy)]
pub(super) struct Ticket(pub(super) u64);

/// Everything a collector knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) rows: Vec<Row>,
    pub(super) events: Vec<Event>,
    /// How often each of them began.
    counts: BTreeMap<Call, usize>,
    pub(super) faults: Vec<Planned>,
    /// Raised to let everything go on that is stalled.
    pub(super) releases: u64,
    /// Raised to end the thread that accepts.
    pub(super) listening: u64,
    pub(super) accepting: bool,
    pub(super) gone: bool,
    pub(super) connections: usize,
    pub(super) sockets: Vec<(usize, TcpStream)>,
    pub(super) registry: Registry,
    /// It knows the first version of the fetch only, which hands rows out as if they had been acknowledged.
    pub(super) is_old: bool,
    /// What it says that its clock shows.
    pub(super) date: Option<String>,
    last_id: i64,
}

impl State {
    pub(super) fn add(&mut self, mut row: Row) -> i64 {
        if row.id == 0 {
            self.last_id = self.last_id.max(600) + 1;
            row.id = self.last_id;
        }
        self.last_id = self.last_id.max(row.id);
        if row.tagged {
            row.command = format!("%{}:{} {}", row.dialect.name(), row.id, row.command);
        }
        let id = row.id;
        self.rows.retain(|known| known.id != id);
        self.rows.push(row);
        id
    }

    pub(super) fn row_mut(&mut self, id: i64) -> &mut Row {
        self.rows.iter_mut().find(|row| row.id == id).unwrap_or_else(|| panic!("there is no row {id}"))
    }

    pub(super) fn count(&self, wanted: Call) -> usize {
        self.counts.get(&wanted).copied().unwrap_or_default()
    }

    /// Nothing has happened yet.
    pub(super) fn forget_events(&mut self) {
        self.events.clear();
        self.counts.clear();
    }

    /// Notes that an exchange begins, and tells how it is to fail.
    pub(super) fn begin(
        &mut self,
        call: Call,
        wire: Option<Wire>,
        rows: &[i64],
        bytes: usize,
    ) -> Option<(Fault, When, Ticket)> {
        self.events.push(match call {
            Call::Connection => Event::Connected,
            _ => Event::Asked { call, wire, bytes },
        });
        *self.counts.entry(call).or_default() += 1;
        let nth = self.count(call);
        let planned = self
            .faults
            .iter_mut()
            .find_map(|planned| planned.applies(call, nth, rows, bytes).then(|| (planned.fault.clone(), planned.when)));
        if let Some((fault, _)) = &planned {
            let mut how = format!("{fault:?}");
            how.truncate(how.floor_char_boundary_of(100));
            self.events.push(Event::Failed { call, how });
        }
        planned.map(|(fault, when)| (fault, when, Ticket(self.releases)))
    }

    /// Hands out what waits.
    pub(super) fn fetch(&mut self, dialect: Dialect, answered: bool) -> Vec<Row> {
        let mut handed = Vec::new();
        for row in &mut self.rows {
            let waits = matches!(row.status, 'W' | 'N') || (row.status == 'S' && row.old && !self.is_old);
            if row.dialect == dialect && (waits || row.send_once_more) {
                row.send_once_more = false;
                row.handed_out += 1;
                handed.push(row.clone());
                if !row.stuck {
                    row.status = if self.is_old { 'R' } else { 'S' };
                }
            }
        }
        self.events.push(Event::Fetched { ids: handed.iter().map(|row| row.id).collect(), answered });
        handed
    }

    /// No status is checked: the real ones do not.
    pub(super) fn acknowledge(&mut self, ids: &[i64], answered: bool) {
        for row in self.rows.iter_mut().filter(|row| ids.contains(&row.id) && !row.stuck) {
            row.status = 'R';
            row.acknowledged = row.generation;
        }
        self.events.push(Event::Acked { ids: ids.to_vec(), answered });
    }

    /// Accepts a result if a real collector's column can hold it.
    pub(super) fn report(&mut self, mut reported: Reported) -> Result<(), String> {
        for text in [&reported.stdout, &reported.stderr] {
            let unfit = if text.len() > COLUMN {
                Some(format!("Error 1406 (22001): Data too long for column 'stdout': {} bytes", text.len()))
            } else {
                let astral = text.chars().find(|c| u32::from(*c) > 0xffff);
                astral.map(|c| format!("Error 1366 (22007): Incorrect string value: {c:?}"))
            };
            let unfit = unfit.or_else(|| {
                i32::try_from(reported.ret).is_err().then(|| "Error 1264: Out of range value for 'ret'".to_owned())
            });
            if let Some(why) = unfit {
                self.events.push(Event::Unfit { id: reported.id, why: why.clone() });
                return Err(why);
            }
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == reported.id) {
            // The result of the generation before may come between the fetch of a redo and its acknowledgement.
            let is_late = row.acknowledged < row.generation && row.reported + 1 < row.generation;
            reported.generation = row.generation - u32::from(is_late);
            row.reported = reported.generation;
            if !row.stuck {
                row.status = 'T';
                row.ret = Some(reported.ret);
                row.stdout = Some(reported.stdout.clone());
                row.stderr = Some(reported.stderr.clone());
            }
        } else {
            self.events.push(Event::Strange(format!("a result for the unknown row {}", reported.id)));
        }
        self.events.push(Event::Reported(reported));
        Ok(())
    }

    /// Everything that happened, a line each.
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            let mut line = format!("{event:?}");
            line.truncate(line.floor_char_boundary_of(400));
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// `str::floor_char_boundary`, which is younger than the compiler that we promise.
trait Boundary {
    fn floor_char_boundary_of(&self, index: usize) -> usize;
}

impl Boundary for String {
    fn floor_char_boundary_of(&self, index: usize) -> usize {
        (0..=index.min(self.len())).rev().find(|index| self.is_char_boundary(*index)).unwrap_or(0)
    }
}
