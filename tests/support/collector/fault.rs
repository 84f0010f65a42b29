//! What can go wrong, and when.

/// Kinds of things that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// A connection, before anything is read from it.
    Connection,
    /// Asking for the queue.
    Fetch,
    /// Saying that rows are held.
    Ack,
    /// Posting results.
    Report,
    /// Asking which calls there are, in whatever way.
    Methods,
    /// Asking for a secret.
    Register,
    /// Posting the system document.
    System,
    /// What is not in the protocol.
    Other,
}

/// Which ones fail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// The nth of its kind from the collector's start, from 1.
    Nth(usize),
    /// The next `n` of its kind.
    First(usize),
    /// All.
    Always,
    /// All that concern this row.
    Row(i64),
    /// All whose body has more bytes.
    Larger(usize),
}

/// How it fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset and nothing was done.
    ResetBefore,
    /// It was done, and the connection is reset: the answer is lost.
    ResetAfter,
    /// Nothing happens until [`super::Collector::release`]; then all is well.
    StallBefore,
    /// It was done, and the answer comes only after [`super::Collector::release`].
    StallAfter,
    /// It was done; half the answer comes, and the connection ends.
    HalfBody,
    /// It was done, and the server ends the connection behind the answer.
    Close,
    /// It was done, and a proxy answers in chunks.
    Chunked,
    /// It was done, and a proxy answers with another status and no body.
    Status(u16),
    /// Something else is answered, and nothing was done.
    Answer(Answer),
    /// The dialect's own error with this text. Of a batch, what comes before the row that [`When::Row`] names, or before
    /// the first that is [`When::Larger`], was done; else nothing was.
    Refusal(String),
    /// The right status and a body of so many bytes without meaning.
    Huge(usize),
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Fault {
    /// An HTTP status with the page of a proxy.
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(Answer::new(status, "text/html", format!("<html><h1>{status}</h1></html>\n")))
    }

    /// The right status and a body that means nothing.
    pub(crate) fn garbage() -> Self {
        Self::Answer(Answer::new(200, "text/plain", "\u{0}\u{1}what?\n<<{{"))
    }
}

/// A failure to come.
pub(super) struct Planned {
    pub(super) call: Call,
    pub(super) when: When,
    pub(super) fault: Fault,
}

impl Planned {
    /// Whether it is this one; counts down.
    pub(super) fn applies(&mut self, call: Call, nth: usize, rows: &[i64], bytes: usize) -> bool {
        if call != self.call {
            return false;
        }
        match &mut self.when {
            When::Nth(n) => *n == nth,
            When::First(0) => false,
            When::First(left) => {
                *left -= 1;
                true
            }
            When::Always => true,
            When::Row(id) => rows.contains(id),
            When::Larger(limit) => bytes > *limit,
        }
    }
}
