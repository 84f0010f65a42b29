//! What both dialects make of a decoded row: an action, a malformed row, or words about one that is of no use.
//!
//! One odd row must not stand in the way of the rows behind it: what is missing or null is empty, what nobody needs may
//! be of any type, and what is needed and wrong is said about this row only.

use crate::action::{ActionId, Batch, MalformedRow, QueuedAction, RowStatus};

/// The rows of one answer. (A real queue holds hundreds at most; no reader goes on for ever.)
const LIMIT: usize = 1_000_000;

/// The rows without an id that are described one by one.
const DESCRIBED: usize = 100;

/// A value of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Value {
    /// Null, nil, or not there.
    #[default]
    Null,
    /// Text; of a date, what it was written as.
    Text(String),
    /// An integer.
    Integer(i64),
    /// Anything else: its kind, with an article.
    Other(&'static str),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Other(kind) => kind,
        }
    }

    /// Text, empty when there is none; else the kind that it is instead.
    fn into_text(self) -> Result<String, &'static str> {
        match self {
            Self::Null => Ok(String::new()),
            Self::Text(text) => Ok(text),
            other => Err(other.kind()),
        }
    }
}

/// The values of a row that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) id: Value,
    pub(super) status: Value,
    pub(super) command: Value,
    pub(super) svc_id: Value,
    pub(super) svcname: Value,
    pub(super) queued_at: Value,
    pub(super) ret: Value,
}

impl Row {
    fn id(&self) -> Option<ActionId> {
        match self.id {
            Value::Integer(id) if id > 0 => Some(ActionId(id)),
            _ => None,
        }
    }

    fn into_action(self, id: ActionId) -> Result<QueuedAction, MalformedRow> {
        let wrong = |name| move |kind| MalformedRow { id, reason: format!("{name} is {kind}, not text") };
        Ok(QueuedAction {
            id,
            status: match &self.status {
                Value::Text(letter) => RowStatus::from_letter(letter),
                _ => RowStatus::Other,
            },
            command: self.command.into_text().map_err(wrong("command"))?,
            svc_id: self.svc_id.into_text().map_err(wrong("svc_id"))?,
            svcname: self.svcname.into_text().map_err(wrong("svcname"))?,
            queued_at: self.queued_at.into_text().ok().filter(|date| !is_zero(date)),
            earlier_ret: match self.ret {
                Value::Integer(ret) => Some(ret),
                _ => None,
            },
        })
    }
}

/// The dates that databases and Go write when there is none.
fn is_zero(date: &str) -> bool {
    ["0001-01-01", "0000-00-00", "00010101", "00000000"].iter().any(|zero| date.starts_with(zero))
        || date.trim().is_empty()
}

/// The rows of an answer, as they come.
#[derive(Debug, Default)]
pub(super) struct Rows {
    batch: Batch,
    count: usize,
    undescribed: usize,
}

impl Rows {
    /// The next element of the answer: a row, or else its kind.
    ///
    /// # Errors
    /// There are too many, in words.
    pub(super) fn add(&mut self, row: Result<Row, &'static str>) -> Result<(), String> {
        self.count += 1;
        if self.count > LIMIT {
            return Err(format!("more than {LIMIT} rows"));
        }
        match row {
            Ok(row) => match row.id() {
                Some(id) => match row.into_action(id) {
                    Ok(action) => self.batch.actions.push(action),
                    Err(malformed) => self.batch.malformed.push(malformed),
                },
                None => self.unusable(match row.id {
                    Value::Integer(id) => format!("its id is {id}"),
                    id => format!("its id is {}, not an integer", id.kind()),
                }),
            },
            Err(kind) => self.unusable(format!("it is {kind}, not a row")),
        }
        Ok(())
    }

    fn unusable(&mut self, why: impl std::fmt::Display) {
        if self.batch.unusable.len() < DESCRIBED {
            self.batch.unusable.push(format!("row {} of the answer: {why}", self.count));
        } else {
            self.undescribed += 1;
        }
    }

    /// The rows of the whole answer.
    pub(super) fn finish(mut self) -> Batch {
        if self.undescribed > 0 {
            self.batch.unusable.push(format!("{} more rows without a usable id", self.undescribed));
        }
        self.batch
    }
}

/// Words of a peer, fit for one line of a log: without control characters, at most `limit` bytes, `…` when cut.
pub(super) fn bounded(text: &str, limit: usize) -> String {
    let text = text.trim();
    let end = (0..=limit.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let mut line = text[..end].replace(char::is_control, " ");
    if end < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_useless_rows_is_counted_and_bounded() {
        let mut rows = Rows::default();
        for _ in 0..LIMIT {
            rows.add(Err("null")).unwrap();
        }
        assert_eq!(rows.add(Err("null")).unwrap_err(), "more than 1000000 rows");
        let unusable = rows.finish().unusable;
        assert_eq!(unusable.len(), DESCRIBED + 1);
        assert_eq!(unusable[0], "row 1 of the answer: it is null, not a row");
        assert_eq!(unusable[DESCRIBED], "999900 more rows without a usable id");
    }

    #[test]
    fn a_peer_s_words_are_one_bounded_line() {
        assert_eq!(bounded(" a\nb\x1b[0m ", 99), "a b [0m");
        assert_eq!(bounded("ééé", 3), "é…");
    }
}
