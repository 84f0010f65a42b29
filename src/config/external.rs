//! `[external_actions.NAME]`: from text to definitions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fragments::{optional_time, time, without_nul};
use super::keywords::Located;
use super::overrides::Notes;
use super::toml_table::{Item, Table};
use super::{ConfigError, duration, policy};
use crate::action::external::{Definition, Definitions, wrong_name};
use crate::action::redact::quoted;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
const START_TIMEOUT: Duration = Duration::from_secs(30);
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that a start or a check may take: a handler waits for it.
const LONGEST_RUN: Duration = Duration::from_secs(3600);
/// How many words a command can have, and how many bytes in all.
const MOST_WORDS: usize = 256;
const LONGEST_COMMAND: usize = 64 << 10;

/// Every key of a definition.
const KEYS: [&str; 9] =
    ["description", "action", "check", "interval", "timeout", "start_timeout", "check_timeout", "required", "user"];

/// Lays the definitions of one more file over what is there. One replaces an earlier one of its name whole.
pub(super) fn read(into: &mut BTreeMap<String, Located<Definition>>, table: Table) -> Result<(), ConfigError> {
    if let Some(mut example) = table.listening_to("NAME") {
        for key in KEYS {
            example.take(key);
        }
    }
    for (name, item) in table.into_items() {
        if let Some(reason) = wrong_name(&name) {
            return Err(item.error(reason));
        }
        let definition = definition(item)?;
        into.insert(name, definition);
    }
    Ok(())
}

fn definition(item: Item) -> Result<Located<Definition>, ConfigError> {
    let place = item.locate(());
    let missing = |key: &str| item.error(format!("{key} is missing"));
    let (no_action, no_check) = (missing("action"), missing("check"));
    let mut table = item.into_table()?;
    let text = |text: &str| without_nul(text);
    let description = table.take("description").map(|item| item.read(text)).transpose()?;
    let mut argv = |key, missing| match table.take(key) {
        Some(item) => item.read_list(argv).map(|argv| argv.value),
        None => Err(missing),
    };
    let (action, check) = (argv("action", no_action)?, argv("check", no_check)?);
    let mut run = |key, least, longest, default| match table.take(key) {
        Some(item) => time(item, least, longest).map(|time| time.value),
        None => Ok(default),
    };
    let interval = run("interval", 100, duration::LONGEST, INTERVAL)?;
    let start_timeout = run("start_timeout", 1, LONGEST_RUN, START_TIMEOUT)?;
    let check_timeout = run("check_timeout", 1, LONGEST_RUN, CHECK_TIMEOUT)?;
    let timeout = table.take("timeout").map(optional_time).transpose()?;
    let argument =
        |text: &str| if text.is_empty() { Err("an argument has a name".to_owned()) } else { Ok(text.to_owned()) };
    let required = table.take("required").map(|item| item.read_each(argument)).transpose()?;
    let user = table.take("user").map(|item| item.read(policy::user)).transpose()?;
    table.finish()?;
    Ok(place.with(Definition {
        description: description.map(|text| text.value).unwrap_or_default(),
        action,
        check,
        interval,
        timeout: timeout.map_or(Some(TIMEOUT), |timeout| timeout.value),
        start_timeout,
        check_timeout,
        required: required.map(|names| names.value).unwrap_or_default(),
        user: user.map(|user| user.value),
    }))
}

fn argv(words: &[String]) -> Result<Vec<String>, (usize, String)> {
    let Some(program) = words.first() else { return Err((0, "a command has at least one word".to_owned())) };
    if !program.starts_with('/') {
        return Err((0, format!("{program:?} is not an absolute path")));
    }
    if words.len() > MOST_WORDS || words.iter().map(String::len).sum::<usize>() > LONGEST_COMMAND {
        return Err((0, format!("a command has at most {MOST_WORDS} words and {} KiB", LONGEST_COMMAND >> 10)));
    }
    match words.iter().position(|word| word.contains('\0')) {
        Some(index) => Err((index, "a word cannot hold a NUL".to_owned())),
        None => Ok(words.to_vec()),
    }
}

pub(super) fn definitions(from: &BTreeMap<String, Located<Definition>>, notes: &mut Notes) -> Definitions {
    let definition = |(name, located): (&String, &Located<Definition>)| {
        for key in KEYS {
            notes.origins.insert(format!("external_actions.{name}.{key}"), located.origin());
        }
        (name.clone(), located.value.clone())
    };
    from.iter().map(definition).collect()
}

/// Its keys and values, for people.
pub(super) fn show(definition: &Definition) -> Vec<(&'static str, String)> {
    let words = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let values = [
        definition.description.clone(),
        words(&definition.action),
        words(&definition.check),
        duration::show(definition.interval),
        definition.timeout.map_or("none".to_owned(), duration::show),
        duration::show(definition.start_timeout),
        duration::show(definition.check_timeout),
        if definition.required.is_empty() { "none".to_owned() } else { definition.required.join(", ") },
        definition.user.clone().unwrap_or_else(|| "root".to_owned()),
    ];
    KEYS.into_iter().zip(values).collect()
}
