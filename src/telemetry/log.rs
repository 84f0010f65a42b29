//! Where log lines go, chosen once: the journal under systemd, standard error elsewhere, the system log where standard
//! error is the peer's socket (inetd). Never to a peer.
//!
//! `info` is for what happened to an action and is priority *notice* in the journal; a run that finds nothing says
//! nothing above `debug` (*info*).

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::screen::Above;

/// Identifies "an action was received" in the journal.
pub const RECEIVED: &str = "c9414a66b1994d9dad91bb489796653b";
/// Identifies "an action's command starts" in the journal.
pub const STARTED: &str = "108ff4e3a93e47cf88115ce3157f8653";
/// Identifies "an action's command ended" in the journal.
pub const FINISHED: &str = "11b79abdcbe34f6eae50117f60d2f183";
/// Identifies "the collector accepted an action's result" in the journal.
pub const REPORTED: &str = "078c9be32f0a4bca98ec93383cebe607";
/// Identifies "an action was interrupted and its end was not seen" in the journal.
pub const INTERRUPTED: &str = "31db65c809b24d7f8f159fc7ea75fada";

/// What decides about the log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many times `-v` was given.
    pub verbose: u8,
    /// `-q`: warnings and errors only.
    pub quiet: bool,
    /// Standard error was the peer's socket.
    pub stderr_was_peer: bool,
}

/// Sets the log up for the rest of the process's life.
pub fn init(options: Options) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::WARN,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let ours = tracing_subscriber::filter::Targets::new().with_target("opensvc_actions", level);
    if options.stderr_was_peer || is_journal_stream() {
        if let Ok(journal) = tracing_journald::layer() {
            let journal =
                journal.with_field_prefix(None).with_syslog_identifier("opensvc-actions".to_owned()).with_filter(ours);
            tracing_subscriber::registry().with(journal).init();
            return;
        }
    }
    let lines = tracing_subscriber::fmt::layer();
    if options.stderr_was_peer {
        let syslog = lines.event_format(Lines::Syslog).with_writer(Syslog).with_ansi(false).with_filter(ours);
        tracing_subscriber::registry().with(syslog).init();
    } else {
        let format = if io::stderr().is_terminal() { Lines::Person } else { Lines::Plain };
        let stderr = lines.event_format(format).with_writer(Above).with_ansi(false).with_filter(ours);
        tracing_subscriber::registry().with(stderr).init();
    }
}

/// Whether standard error is the journal's own stream, as `JOURNAL_STREAM` says; a unit may set the variable and send
/// standard error elsewhere.
fn is_journal_stream() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// One line per event. Fields are for the journal; the message alone says what a person needs.
enum Lines {
    /// On a terminal.
    Person,
    /// In a file or a pipe: with a program name, as the system's other programs do.
    Plain,
    /// For `/dev/log`: with a priority and an identifier.
    Syslog,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = *event.metadata().level();
        match self {
            Self::Person => {}
            Self::Plain => write!(writer, "opensvc-actions: ")?,
            // Facility "daemon" (3), as inetd itself uses.
            Self::Syslog => write!(writer, "<{}>opensvc-actions[{}]: ", 3 * 8 + priority(level), std::process::id())?,
        }
        match level {
            Level::ERROR => write!(writer, "error: ")?,
            Level::WARN => write!(writer, "warning: ")?,
            _ => {}
        }
        writeln!(writer, "{}", message.0)
    }
}

const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").replace('\n', " ");
        }
    }
}

/// Writes each line to the system log as one datagram. Failing to log fails nothing else.
struct Syslog;

impl MakeWriter<'_> for Syslog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?; // a system log that nobody reads must not hold us
        socket.send_to(line.strip_suffix(b"\n").unwrap_or(line), "/dev/log")?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
