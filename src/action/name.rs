//! How people name an action: `628`, `rpc:628`, `rpc:628.2`. A short form is good as long as it fits one action.

use std::fmt;
use std::str::FromStr;

use super::{ActionId, ActionKey, Queue};

/// A name as it was typed: queue and generation may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionName {
    /// The queue, if it was given.
    pub queue: Option<Queue>,
    /// The id at the collector.
    pub id: ActionId,
    /// The generation, if it was given.
    pub generation: Option<u32>,
}

/// Why a name does not lead to one action.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is no name.
    #[error("{0:?} is no name of an action; write 628, rpc:628 or rpc:628.2 (queue, id, generation)")]
    Invalid(String),
    /// No action is called so.
    #[error("this node knows no action {0}")]
    Unknown(ActionName),
    /// More than one action is called so.
    #[error("{name} can be any of {}; say which", list(candidates))]
    Ambiguous {
        /// What was typed.
        name: ActionName,
        /// What it can mean.
        candidates: Vec<ActionKey>,
    },
}

impl ActionName {
    /// The queues that it can be in.
    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        self.queue.map_or_else(|| Queue::ALL.to_vec(), |queue| vec![queue])
    }

    /// Whether it can mean this action.
    #[must_use]
    pub fn fits(&self, key: ActionKey) -> bool {
        self.id == key.id
            && self.queue.is_none_or(|queue| queue == key.queue)
            && self.generation.is_none_or(|generation| generation == key.generation)
    }

    /// The one among `known` that it means.
    ///
    /// # Errors
    /// When it fits none or several of them.
    pub fn only_one_of(self, known: impl IntoIterator<Item = ActionKey>) -> Result<ActionKey, NameError> {
        let candidates: Vec<_> = known.into_iter().filter(|key| self.fits(*key)).collect();
        match candidates[..] {
            [] => Err(NameError::Unknown(self)),
            [only] => Ok(only),
            _ => Err(NameError::Ambiguous { name: self, candidates }),
        }
    }
}

impl FromStr for ActionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text).ok_or_else(|| NameError::Invalid(text.to_owned()))
    }
}

/// As it was typed.
impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(queue) = self.queue {
            write!(f, "{queue}:")?;
        }
        write!(f, "{}", self.id)?;
        if let Some(generation) = self.generation {
            write!(f, ".{generation}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<ActionName> {
    let (queue, rest) = match text.split_once(':') {
        Some((queue, rest)) => (Some(queue.parse().ok()?), rest),
        None => (None, text),
    };
    let (id, generation) = match rest.split_once('.') {
        Some((id, generation)) => (id, Some(number(generation)?)),
        None => (rest, None),
    };
    let digits = id.strip_prefix('-').unwrap_or(id);
    number::<u64>(digits)?;
    Some(ActionName { queue, id: ActionId(id.parse().ok()?), generation })
}

/// Digits and nothing else: no sign, no space.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn list(keys: &[ActionKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(queue: Option<Queue>, id: i64, generation: Option<u32>) -> ActionName {
        ActionName { queue, id: ActionId(id), generation }
    }

    fn key(queue: Queue, id: i64, generation: u32) -> ActionKey {
        ActionKey { queue, id: ActionId(id), generation }
    }

    #[test]
    fn every_form_is_read_and_written_back() {
        for (text, expected) in [
            ("628", name(None, 628, None)),
            ("rpc:628", name(Some(Queue::Rpc), 628, None)),
            ("rpc:628.2", name(Some(Queue::Rpc), 628, Some(2))),
            ("628.2", name(None, 628, Some(2))),
            ("oc3:-5.1", name(Some(Queue::Oc3), -5, Some(1))),
            ("-9223372036854775808", name(None, i64::MIN, None)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "x",
            "rpc",
            "rpc:",
            ":628",
            "xml:628",
            "628.",
            ".2",
            "628.x",
            "628.-1",
            "+628",
            " 628",
            "628.2.1",
            "rpc:rpc:628",
            "9223372036854775808",
            "628.4294967296",
            "--5",
            "-",
            "٣",
        ] {
            assert_eq!(text.parse::<ActionName>(), Err(NameError::Invalid(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_short_form_is_good_as_long_as_it_fits_one_action() {
        let known = [key(Queue::Oc3, 1, 1), key(Queue::Rpc, 1, 1), key(Queue::Rpc, 1, 2), key(Queue::Rpc, 7, 1)];
        let only = |text: &str| text.parse::<ActionName>()?.only_one_of(known);
        assert_eq!(only("7"), Ok(known[3]));
        assert_eq!(only("oc3:1"), Ok(known[0]));
        assert_eq!(only("1.2"), Ok(known[2]));
        assert_eq!(only("rpc:1.1"), Ok(known[1]));
        assert_eq!(only("8").unwrap_err().to_string(), "this node knows no action 8");
        assert_eq!(only("rpc:1").unwrap_err().to_string(), "rpc:1 can be any of rpc:1.1, rpc:1.2; say which");
        assert_eq!(only("1").unwrap_err().to_string(), "1 can be any of oc3:1.1, rpc:1.1, rpc:1.2; say which");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".*", like in "(rpc:)?-?[0-9.:]{0,25}") {
            let _ = text.parse::<ActionName>();
            if let Ok(name) = like.parse::<ActionName>() {
                assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}
