//! `external`: what is defined here, and a start or a check by hand, for whoever writes one. Nothing of it is recorded.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::action::ActionKey;
use crate::action::argv::Argv;
use crate::action::external::{Definition, Order, Outside, Report, WORD, is_plain_id};
use crate::cli::{self, Global};
use crate::commands::text::{printable, table};
use crate::commands::{load, print, require_root};
use crate::config::Settings;
use crate::error::{Error, Exit};
use crate::executor::environment;
use crate::executor::external::{by_hand, random_uuid};
use crate::executor::run::RunDir;

/// Does what was asked for.
///
/// # Errors
/// The settings are not valid, there is no such external action, or it cannot be started.
pub async fn run(global: &Global, what: &cli::External) -> Result<Exit, Error> {
    let (_, settings) = load(global)?;
    match what {
        cli::External::List => list(global, &settings),
        cli::External::Start { name, args, id } => {
            require_root()?;
            let id = match id {
                Some(id) => plain(id)?,
                None => random_uuid().map_err(Error::Start)?,
            };
            let (order, definition) = find(&settings, name, args.as_deref())?;
            let start = definition.start(order.record(&id, &BTreeMap::new()));
            let code = call(&settings, &start, definition.user.as_deref(), definition.start_timeout, false).await?;
            match code {
                (0, _) => {
                    print(
                        |out| {
                            if global.json { writeln!(out, "{}", json!({ "id": id })) } else { writeln!(out, "{id}") }
                        },
                    )
                }
                (code, _) => Err(Error::External(format!("the start command of {name} ended with {code}"))),
            }
        }
        cli::External::Check { name, id, args } => {
            require_root()?;
            let (order, definition) = find(&settings, name, args.as_deref())?;
            let record = order.record(&plain(id)?, &BTreeMap::new());
            let check = Definition { action: definition.check.clone(), ..definition.clone() }.start(record);
            let (code, printed) =
                call(&settings, &check, definition.user.as_deref(), definition.check_timeout, true).await?;
            let printed = String::from_utf8_lossy(&printed).into_owned();
            print(|out| out.write_all(printed.as_bytes()))?;
            let read = if code == 0 { Report::read(&printed).map(drop) } else { Err(format!("it ended with {code}")) };
            read.map(|()| Exit::Ok).map_err(|why| Error::External(format!("the check of {name} says nothing: {why}")))
        }
    }
}

fn plain(id: &str) -> Result<String, Error> {
    if is_plain_id(id) { Ok(id.to_owned()) } else { Err(Error::External(format!("{id:?} is no id"))) }
}

fn find<'a>(settings: &'a Settings, name: &str, args: Option<&str>) -> Result<(Order, &'a Definition), Error> {
    let order = Order::read(&format!("{WORD} {name} {}", args.unwrap_or_default()));
    let order = order.unwrap_or_else(|| Err("it cannot be read".to_owned())).map_err(Error::External)?;
    let definition = order.definition(&settings.external_actions).map_err(Error::External)?;
    Ok((order, definition))
}

/// Runs a command and waits for its end: its exit status, 124 after its time, and what it printed.
async fn call(
    settings: &Settings,
    argv: &Argv,
    user: Option<&str>,
    limit: Duration,
    captured: bool,
) -> Result<(i32, Vec<u8>), Error> {
    let environment = environment::for_command(std::env::vars_os(), &settings.execution.environment);
    let ended = by_hand(argv, &environment, user, limit, captured).await.map_err(Error::Spawn)?;
    Ok(ended.map_or((124, Vec::new()), |(status, printed)| {
        use std::os::unix::process::ExitStatusExt as _;
        (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()), printed)
    }))
}

fn list(global: &Global, settings: &Settings) -> Result<Exit, Error> {
    print(|out| {
        if global.json {
            let all: Vec<_> =
                settings.external_actions.iter().map(|(name, definition)| document(name, definition)).collect();
            return writeln!(out, "{}", json!({ "external_actions": all }));
        }
        let rows: Vec<_> = settings
            .external_actions
            .iter()
            .map(|(name, definition)| [name.clone(), printable(&definition.description)])
            .collect();
        table(out, "", &rows)
    })
}

fn document(name: &str, definition: &Definition) -> serde_json::Value {
    json!({
        "name": name,
        "kind": format!("{}{name}", crate::action::external::KIND),
        "description": definition.description,
        "action": definition.action,
        "check": definition.check,
        "required": definition.required,
        "user": definition.user,
    })
}

/// What is known of the actions among these that go on outside.
pub(super) fn outside(state: &Path, keys: impl IntoIterator<Item = ActionKey>) -> BTreeMap<ActionKey, Outside> {
    let known = |key| Some((key, RunDir::of(state, key).outside().ok().flatten()?));
    keys.into_iter().filter_map(known).collect()
}

/// How far one is, behind other words.
pub(super) fn in_words(outside: &Outside) -> String {
    let mut text = match &outside.progress {
        Some(serde_json::Value::String(progress)) => format!(", progress {progress}"),
        Some(progress) => format!(", progress {progress}"),
        None => String::new(),
    };
    if let Some(why) = &outside.failure {
        text = format!("{text}, {why}");
    }
    text.chars().take(200).collect()
}
