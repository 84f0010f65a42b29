//! An action → the words that are executed, or the reason why they are not.

use super::QueuedAction;
use super::external::Order;
use super::redact::quoted;
use super::words::{self, WordsError};
use std::fmt;
use std::path::{Path, PathBuf};

/// The programs that carry out actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// `om` of agents 2.x and 3.x.
    Om(PathBuf),
    /// Agent 1.x, which has a program for each kind of action.
    Legacy {
        /// For node actions.
        nodemgr: PathBuf,
        /// For service actions.
        svcmgr: PathBuf,
    },
}

/// A program and its arguments. There always is a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    program: PathBuf,
    args: Vec<String>,
    input: Option<String>,
}

impl Argv {
    /// A program with its arguments.
    #[must_use]
    pub fn new(program: PathBuf, args: Vec<String>) -> Self {
        Self { program, args, input: None }
    }

    /// The same, with something to read on its standard input.
    #[must_use]
    pub fn reading(self, input: String) -> Self {
        Self { input: Some(input), ..self }
    }

    /// What it is to read on its standard input; `None`: nothing.
    #[must_use]
    pub fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// The program, as the settings name it.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its arguments, without the program itself.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }
}

/// Shell-quoted in full, for people. For logs there is [`super::redact::command_line`].
impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.program.to_string_lossy()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// Why a row is not executed: it cannot be as it stands, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command cannot be split.
    #[error("the command cannot be split into words: {0}")]
    Quoting(#[from] WordsError),
    /// There is no word in it. (The reference agents would run a bare `om node`, which prints its help and succeeds.)
    #[error("the command is empty")]
    Empty,
    /// A word holds a NUL, which no argument of a program can carry.
    #[error("a word of the command holds a NUL character")]
    Nul,
    /// The row has a service id (cut to some length) and no service name. (The 2.x agent would run the words on the whole node.)
    #[error("the action is for service id {0:?}, whose name the collector does not know any more")]
    NoServiceName(String),
    /// The service name (cut to some length) is not a plain object path: a selector could stand for many services.
    #[error("the service name {0:?} is not a plain object path")]
    ServiceName(String),
    /// A word would choose another target than the row's.
    #[error("the word {0:?} would choose another target than the action's own")]
    Retarget(String),
    /// It is for an external action, and cannot be carried out as it stands: why.
    #[error("{0}")]
    External(String),
    /// The policy does not allow it: which rule, in words.
    #[error("{0}")]
    Policy(String),
}

/// As much of a text from the collector as fits into the words of a refusal.
pub(super) fn cut(text: &str) -> String {
    const LONGEST: usize = 255;
    let end = (0..=LONGEST.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

/// What a row asks for: words, and the service that they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    service: Option<String>,
    words: Vec<String>,
    external: Option<Order>,
}

impl Command {
    /// Reads a row. Whether it may be executed is for the policy to say.
    ///
    /// # Errors
    /// The row is not executable as it stands.
    pub fn read(action: &QueuedAction) -> Result<Self, Refusal> {
        // A row with a name and no id is a service action: its words were meant for one service, and `shutdown` or
        // `freeze` on the whole node would be the greater mistake. (The agents differ: 2.x runs it on the node, 3.x on
        // the service.)
        let service = match (action.svcname.as_str(), action.svc_id.as_str()) {
            ("", "") => None,
            ("", id) => return Err(Refusal::NoServiceName(cut(id))),
            (name, _) if is_object_path(name) => Some(name.to_owned()),
            (name, _) => return Err(Refusal::ServiceName(cut(name))),
        };
        let external = Order::read(&action.command).transpose().map_err(Refusal::External)?;
        let words = match &external {
            Some(order) => order.words(),
            None => words::split(&action.command)?,
        };
        if words.is_empty() {
            return Err(Refusal::Empty);
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Refusal::Nul);
        }
        Ok(Self { service, words, external })
    }

    /// The service that it is about, as the collector names it; `None`: the node.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The external action that it is for; `None`: it is a command of the agent.
    #[must_use]
    pub fn external(&self) -> Option<&Order> {
        self.external.as_ref()
    }

    /// The words behind `om node` or `om svc -s NAME`; at least one.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The first word that would choose another target than [`Self::service`].
    #[must_use]
    pub fn retargeting_word(&self) -> Option<&str> {
        if self.external.is_some() {
            return None; // no agent reads them
        }
        self.words.iter().map(String::as_str).find(|word| is_retargeting(word))
    }

    /// What is executed: `om node WORDS`, `om svc -s NAME WORDS`; with agent 1.x `nodemgr WORDS`, `svcmgr -s NAME WORDS`.
    #[must_use]
    pub fn argv(&self, agent: &Agent) -> Argv {
        let (program, before) = match (agent, self.service()) {
            (Agent::Om(om), None) => (om, vec!["node"]),
            (Agent::Om(om), Some(name)) => (om, vec!["svc", "-s", name]),
            (Agent::Legacy { nodemgr, .. }, None) => (nodemgr, vec![]),
            (Agent::Legacy { svcmgr, .. }, Some(name)) => (svcmgr, vec!["-s", name]),
        };
        let args = before.into_iter().map(str::to_owned).chain(self.words.iter().cloned()).collect();
        Argv::new(program.clone(), args)
    }
}

/// `name`, `kind/name` or `namespace/kind/name`, in letters, digits, `.`, `_` and `-`: nothing that an agent could read
/// as an option, a pattern or a list.
fn is_object_path(name: &str) -> bool {
    let is_plain = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphanumeric())
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !segment.contains("..")
    };
    name.split('/').count() <= 3 && name.split('/').all(is_plain)
}

/// Does an agent read the word as an option that chooses its target? The 2.x agent takes any abbreviation of a long
/// option, so every non-empty beginning counts. Looks at each word by itself: one that is only the value of another
/// option is refused too, and so is one behind `--`; a policy rule can allow both.
fn is_retargeting(word: &str) -> bool {
    // The last one of 2.x only: with `--namespace b`, `-s a` is b/svc/a.
    const LONG: [&str; 6] = ["service", "selector", "node", "cluster", "server", "namespace"];
    if steers(word) {
        true
    } else if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default();
        !name.is_empty() && LONG.iter().any(|option| option.starts_with(name))
    } else if let Some(cluster) = word.strip_prefix('-') {
        // `-s`, `-sNAME`, `-s=NAME`, `-qs`: the letters up to what can only be a value.
        cluster.chars().take_while(char::is_ascii_alphanumeric).any(|c| c == 's')
    } else {
        false
    }
}

/// Is it a value of `--env` that steers the agent itself? 2.x makes upper case of the name (of `ſ` too) and sets it for
/// itself, where `OSVC_NAMESPACE` and `OSVC_KIND` turn `-s a` into another object, `OSVC_CONTEXT` into one of another
/// cluster.
fn steers(word: &str) -> bool {
    word.contains('=') && word.to_uppercase().contains("OSVC_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{ActionId, RowStatus};
    use proptest::prelude::*;

    fn action(command: &str, svc_id: &str, svcname: &str) -> QueuedAction {
        QueuedAction {
            id: ActionId(1),
            status: RowStatus::Waiting,
            command: command.to_owned(),
            svc_id: svc_id.to_owned(),
            svcname: svcname.to_owned(),
            queued_at: None,
            earlier_ret: None,
        }
    }

    fn om() -> Agent {
        Agent::Om(PathBuf::from("/usr/bin/om"))
    }

    fn legacy() -> Agent {
        Agent::Legacy { nodemgr: PathBuf::from("nodemgr"), svcmgr: PathBuf::from("svcmgr") }
    }

    fn run(command: &str, svc_id: &str, svcname: &str, agent: &Agent) -> Result<String, Refusal> {
        Command::read(&action(command, svc_id, svcname)).map(|command| command.argv(agent).to_string())
    }

    fn retargeting_word(command: &str) -> Option<String> {
        let command = Command::read(&action(command, "", "a")).unwrap();
        command.retargeting_word().map(str::to_owned)
    }

    #[test]
    fn the_words_of_a_refusal_are_bounded() {
        let endless = "é*".repeat(40_000);
        for (command, id, name) in [("start", "id", endless.as_str()), ("start", &endless, "")] {
            let words = run(command, id, name, &om()).unwrap_err().to_string();
            assert!(words.len() < 1000 && words.contains('…'), "{words}");
        }
    }

    #[test]
    fn each_agent_gets_its_own_words() {
        assert_eq!(run("pushasset", "", "", &om()).unwrap(), "/usr/bin/om node pushasset");
        assert_eq!(
            run("start --rid 'fs#1'", "id", "ns/svc/a", &om()).unwrap(),
            "/usr/bin/om svc -s ns/svc/a start --rid 'fs#1'"
        );
        assert_eq!(run("start", "", "a", &om()).unwrap(), "/usr/bin/om svc -s a start");
        assert_eq!(run("checks", "", "", &legacy()).unwrap(), "nodemgr checks");
        assert_eq!(run("start ''", "id", "a", &legacy()).unwrap(), "svcmgr -s a start ''");
    }

    #[test]
    fn rows_that_are_not_executable_are_refused() {
        assert_eq!(run("stop", "id", "", &om()), Err(Refusal::NoServiceName("id".to_owned())));
        assert_eq!(run(" ", "", "", &om()), Err(Refusal::Empty));
        assert_eq!(run("it's", "", "", &om()), Err(Refusal::Quoting(WordsError::NoClosingQuotation)));
        assert_eq!(run("a\0", "", "", &om()), Err(Refusal::Nul));
        assert_eq!(
            run("it's", "", "", &om()).unwrap_err().to_string(),
            "the command cannot be split into words: no closing quotation"
        );
    }

    #[test]
    fn service_names_are_plain_object_paths() {
        for name in ["a", "A-1_b.c", "svc/a", "ns/svc/a", "0"] {
            assert!(run("start", "id", name, &om()).is_ok(), "{name}");
        }
        for name in
            ["*", "a,b", "-a", "a b", "..", "a/../b", "a..b", "/a", "a/", "a//b", "a/b/c/d", "a+b", "a?", "é", "a\n"]
        {
            assert_eq!(run("start", "id", name, &om()), Err(Refusal::ServiceName(name.to_owned())));
        }
    }

    #[test]
    fn words_that_choose_another_target_are_found_in_every_spelling() {
        for word in
            ["-s", "-sNAME", "-s=NAME", "-qs", "-qsNAME", "-fqs=x", "-1s", "'-s x'", "\"-\"s", "-\\s", "'-'\"\"s"]
        {
            let expected = words::split(word).unwrap().remove(0);
            assert_eq!(retargeting_word(&format!("start {word} x")), Some(expected));
        }
        for option in ["--service", "--selector", "--node", "--cluster", "--server", "--namespace"] {
            for end in 3..=option.len() {
                for word in [option[..end].to_owned(), format!("{}=x", &option[..end])] {
                    assert_eq!(retargeting_word(&word), Some(word.clone()));
                    assert_eq!(retargeting_word(&format!("start -- {word}")), Some(word), "behind --");
                }
            }
        }
        for command in
            ["--env OSVC_NAMESPACE=b", "--en=osvc_kind=vol", "--env o\u{17f}vc_context=c", "--env a=1,osvc_kind=x"]
        {
            assert!(retargeting_word(command).is_some(), "{command}");
        }
        for word in [
            "--",
            "-",
            "--local",
            "--nodes",
            "--services=x",
            "--rid=s",
            "-q",
            "-c/etc/s",
            "-q=s",
            "s",
            "node",
            "-S",
            "--NODE",
            "--env=k=v",
            "osvc_x",
            "\u{2010}s",
            "\u{2014}service",
        ] {
            assert_eq!(retargeting_word(word), None, "{word}");
        }
    }

    proptest! {
        #[test]
        fn what_people_read_splits_into_what_is_executed(words in prop::collection::vec("[ -~é€]{0,8}", 0..6)) {
            let argv = Argv::new(PathBuf::from("/a b/om"), words.clone());
            let expected: Vec<_> = std::iter::once("/a b/om".to_owned()).chain(words).collect();
            prop_assert_eq!(words::split(&argv.to_string()).unwrap(), expected);
        }
    }
}
