//! Command strings into words, and back into what people read.

use opensvc_actions::action::{redact, words};

use super::Work;

/// Commands as collectors queue them: the recorded ones, and one of the longest kind.
const COMMANDS: [(&str, &str); 4] = [
    ("plain", "start --local"),
    ("node", "compliance check --module opensvc.base --force"),
    ("quoted", r#"create --provision --template=12 --disable-rollback --env=foo="b r" --env=acc="é €""#),
    ("escaped", r"print\ config 'single quoted words' --kw\ a=\'b\'"),
];

pub(crate) fn works() -> Vec<Work> {
    let keywords: Vec<_> = (0..500).map(|number| format!("\"env.k{number}=v {number}\"")).collect();
    let long = format!("set --kw {}", keywords.join(" --kw "));
    let commands = COMMANDS.into_iter().map(|(name, command)| (name, command.to_owned())).chain([("long", long)]);
    let mut works = Vec::new();
    for (name, command) in commands {
        let bytes = command.len();
        let split = words::split(&command).unwrap();
        let units = |name| if name == "long" { (bytes, "byte") } else { (1, "command") };
        works.push(Work::new(format!("split, {name}"), units(name), bytes, move || words::split(&command)));
        let patterns = vec!["*passphrase*".to_owned()];
        works.push(Work::new(format!("redact, {name}"), units(name), bytes, move || {
            redact::command_line(&split, &patterns)
        }));
    }
    works
}
