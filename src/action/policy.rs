//! The local policy: which actions may run on this node, and within which bounds.
//!
//! Rules are looked at in their order; the first that fits decides, and where none does, the default. A rule looks at
//! the words as they are executed, one by one, never at the text that the collector sent: there is nothing that quotes
//! or blanks could hide.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::QueuedAction;
use super::argv::{Command, Refusal, cut};
use super::glob::{Glob, GlobError};
use super::lanes::Lane;
use super::limits::GroupLimits;

/// How an argument list ends that takes the rest of the words, whatever they are.
const REST: &str = "**";

/// What a rule or the default says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// The actions of a rule, by what they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Actions of the node.
    Node,
    /// Actions of services whose names fit. Never those of the node, which have no service: not even `*` fits them.
    Services(Glob),
}

/// A list of globs, one for each word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandGlobs {
    words: Vec<Glob>,
    /// More words may follow.
    rest: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number among the rules of its file, from 1.
    pub number: usize,
    /// Where it begins.
    pub place: Place,
    /// What it says.
    pub verdict: Verdict,
    /// `None`: node and services alike.
    pub about: Option<About>,
    /// `None`: any words.
    pub command: Option<CommandGlobs>,
    /// Of an allow rule: the timeout instead of the one for all actions; `Some(None)`: none.
    pub timeout: Option<Option<Duration>>,
    /// Of an allow rule: bounds that a control group holds.
    pub group: GroupLimits,
    /// Of an allow rule: the user that the command runs as; `None`: root.
    pub user: Option<String>,
    /// Of an allow rule: words that choose another target may stand.
    pub retarget: bool,
    /// Of an allow rule: whether the end of this boot is what the action is for, other than what is built in.
    pub ends_boot: Option<bool>,
}

/// All rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What counts where no rule fits.
    pub default: Verdict,
    /// Where that is written; `None`: nowhere.
    pub default_place: Option<Place>,
    /// The rules, in the order in which they count.
    pub rules: Vec<Rule>,
}

/// What becomes of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit<'a> {
    /// The rule that decided, if one did.
    pub rule: Option<&'a Rule>,
    /// What is executed, or why nothing is.
    pub command: Result<Command, Refusal>,
}

impl Policy {
    /// Decides about a row.
    #[must_use]
    pub fn judge(&self, row: &QueuedAction) -> Permit<'_> {
        let command = match Command::read(row) {
            Ok(command) => command,
            Err(refusal) => return Permit { rule: None, command: Err(refusal) },
        };
        let rule = self.rules.iter().find(|rule| rule.fits(&command));
        let retarget = rule.is_some_and(|rule| rule.retarget);
        let refused = match rule.map_or(self.default, |rule| rule.verdict) {
            Verdict::Deny => Some(Refusal::Policy(self.denial(rule))),
            Verdict::Allow if retarget => None,
            Verdict::Allow => command.retargeting_word().map(|word| Refusal::Retarget(cut(word))),
        };
        Permit { rule, command: refused.map_or(Ok(command), Err) }
    }

    fn denial(&self, rule: Option<&Rule>) -> String {
        match (rule, &self.default_place) {
            (Some(rule), _) => format!("by {}: {rule}", rule.name()),
            (None, Some(Place { file, line })) => {
                format!("no rule of the policy allows it, and its default is \"deny\" ({}:{line})", file.display())
            }
            (None, None) => "no rule of the policy allows it, and its default is \"deny\"".to_owned(),
        }
    }
}

impl Permit<'_> {
    /// Whether the end of this boot is what the action is for: as its rule says, else what is built in.
    #[must_use]
    pub fn ends_boot(&self, row: &QueuedAction) -> bool {
        self.rule.and_then(|rule| rule.ends_boot).unwrap_or_else(|| row.ends_boot())
    }

    /// What it takes for itself while it runs. What ends the boot, and what may reach beyond its own service, takes the
    /// whole node; what is refused touches nothing, and only keeps its place among those of its service.
    #[must_use]
    pub fn lane(&self, row: &QueuedAction) -> Lane {
        match &self.command {
            Ok(command) if command.retargeting_word().is_none() && !self.ends_boot(row) => {
                match (command.service(), command.external()) {
                    (Some(service), _) => Lane::of_service(service),
                    (None, Some(order)) => Lane::External(order.name.clone()),
                    (None, None) => Lane::Node,
                }
            }
            Ok(_) => Lane::Node,
            Err(_) => Lane::of_service(&row.svcname),
        }
    }

    /// The same for one that runs already, though the policy may refuse it by now.
    #[must_use]
    pub fn lane_of_running(&self, row: &QueuedAction) -> Lane {
        match &self.command {
            Err(_) if row.svcname.is_empty() => Lane::Node,
            _ => self.lane(row),
        }
    }
}

impl Rule {
    fn fits(&self, command: &Command) -> bool {
        let about = match (&self.about, command.service()) {
            (None, _) | (Some(About::Node), None) => true,
            (Some(About::Services(glob)), Some(name)) => glob.matches(name),
            (Some(About::Node), Some(_)) | (Some(About::Services(_)), None) => false,
        };
        about && self.command.as_ref().is_none_or(|globs| globs.fit(command.words()))
    }

    /// Which rule it is: `rule 2 of /etc/opensvc/actions.d/50.toml (line 7)`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("rule {} of {} (line {})", self.number, self.place.file.display(), self.place.line)
    }
}

impl CommandGlobs {
    /// Reads a list: globs, of which the last may be `**`.
    ///
    /// # Errors
    /// Which word is wrong, from 0, and why.
    pub fn read(list: &[String]) -> Result<Self, (usize, String)> {
        let rest = list.last().is_some_and(|last| last == REST);
        let words = &list[..list.len() - usize::from(rest)];
        if list.is_empty() {
            return Err((0, "an empty list fits no action; leave the key out to mean any words".to_owned()));
        }
        let glob = |(index, word): (usize, &String)| {
            if word.contains(REST) {
                return Err((
                    index,
                    format!("{word:?}: \"**\" takes the rest of the words: by itself, and as the last"),
                ));
            }
            word.parse().map_err(|err: GlobError| (index, err.to_string()))
        };
        Ok(Self { words: words.iter().enumerate().map(glob).collect::<Result<_, _>>()?, rest })
    }

    fn fit(&self, words: &[String]) -> bool {
        let enough = if self.rest { words.len() >= self.words.len() } else { words.len() == self.words.len() };
        enough && self.words.iter().zip(words).all(|(glob, word)| glob.matches(word))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// As a settings file has it: `["start", "**"]`.
impl fmt::Display for CommandGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().map(|glob| format!("{:?}", glob.to_string()));
        let words: Vec<_> = words.chain(self.rest.then(|| format!("{REST:?}"))).collect();
        write!(f, "[{}]", words.join(", "))
    }
}

/// What it says, and of which actions: `deny service="web*" command=["stop", "**"]`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        match &self.about {
            None => {}
            Some(About::Node) => f.write_str(" service=\"\"")?,
            Some(About::Services(glob)) => write!(f, " service={:?}", glob.to_string())?,
        }
        match &self.command {
            None => Ok(()),
            Some(command) => write!(f, " command={command}"),
        }
    }
}

#[cfg(test)]
mod tests;
