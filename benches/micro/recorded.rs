//! Answers of real collectors, from the recordings of the conformance tests, made as long as a bench wants them.

use std::fs;

/// An answer to a fetch: what is before its rows, the rows as they stand, and what is behind them.
struct Answer {
    head: String,
    rows: Vec<String>,
    between: &'static str,
    tail: String,
    /// What is around an id.
    id: (&'static str, &'static str),
}

/// The text behind the blank line of the nth message of a recording.
fn body(name: &str, nth: usize) -> String {
    let path = format!("{}/../tests/conformance/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}")).replace("\r\n", "\n");
    let (length, rest) = text.split("Content-Length: ").nth(nth + 1).unwrap().split_once('\n').unwrap();
    // More of the header may follow.
    let body = rest.strip_prefix('\n').unwrap_or_else(|| rest.split_once("\n\n").unwrap().1);
    body[..length.parse().unwrap()].to_owned()
}

impl Answer {
    fn of(body: &str, (begin, end): (&str, &str), between: &'static str, id: (&'static str, &'static str)) -> Self {
        let first = body.find(begin).unwrap();
        // In JSON, the list has an end of its own.
        let array = &body[..body.rfind(']').unwrap_or(body.len())];
        let last = array.rfind(end).unwrap() + end.len();
        let border = format!("{end}{between}{begin}");
        let inner = &body[first + begin.len()..last - end.len()];
        let rows: Vec<_> = inner.split(&border).map(|row| format!("{begin}{row}{end}")).collect();
        assert!(rows.len() >= 3, "{body}");
        Self { head: body[..first].to_owned(), rows, between, tail: body[last..].to_owned(), id }
    }

    /// With so many rows: the recorded ones in turn, each with an id of its own.
    fn with(&self, rows: usize) -> Vec<u8> {
        let (before, behind) = self.id;
        let row = |number: usize| {
            let row = &self.rows[number % self.rows.len()];
            let at = row.find(before).unwrap() + before.len();
            let end = at + row[at..].find(behind).unwrap();
            format!("{}{}{}", &row[..at], 100_000 + number, &row[end..])
        };
        let rows: Vec<_> = (0..rows).map(row).collect();
        format!("{}{}{}", self.head, rows.join(self.between), self.tail).into_bytes()
    }
}

/// What collector 3 answers.
pub(crate) fn oc3(rows: usize) -> Vec<u8> {
    let recorded = body("oc3/02-get-rows.response", 0);
    Answer::of(&recorded, ("{\"command\"", "}"), ",", ("\"id\":", ",")).with(rows)
}

/// What a 2.x collector answers in XML-RPC.
pub(crate) fn xml(rows: usize) -> Vec<u8> {
    let recorded = body("rpc/02-v2-fetch-ack-update-01.txt", 1);
    let id = ("<name>id</name>\n<value><int>", "<");
    Answer::of(&recorded, ("<value><struct>", "</struct></value>"), "\n", id).with(rows)
}

/// The same in JSON-RPC 2, to call 1.
pub(crate) fn json(rows: usize) -> Vec<u8> {
    let recorded = body("rpc/07-jsonrpc2-01.txt", 1);
    Answer::of(&recorded, ("{\"status\"", "}"), ", ", ("\"id\": ", "}")).with(rows)
}
