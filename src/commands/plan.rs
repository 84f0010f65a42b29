//! `plan`: what this node would make of actions, without doing anything: the policy's verdict, and the words that would
//! be executed. For whoever writes rules.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::action::argv::{Agent, Argv};
use crate::action::limits::GroupLimits;
use crate::action::policy::{Permit, Rule};
use crate::action::{ActionId, Batch, QueuedAction};
use crate::cli::Global;
use crate::collector::oc3;
use crate::commands::text::{none_if_empty, printable};
use crate::commands::{load, print};
use crate::config::Settings;
use crate::error::{Error, Exit};
use crate::executor::agent;

/// More than any collector sends.
const LARGEST: u64 = 64 << 20;

/// What would become of one action.
struct Planned<'a> {
    id: ActionId,
    service: Option<String>,
    command: Option<String>,
    rule: Option<&'a Rule>,
    /// What would be executed, or why nothing would be.
    argv: Result<Argv, String>,
    timeout: Option<Duration>,
    group: GroupLimits,
    ends_boot: bool,
}

/// Reads actions, as collector 3 sends them, and prints what would become of each. Nothing runs and nothing is recorded.
///
/// # Errors
/// The settings are not valid, or the actions cannot be read.
pub fn run(global: &Global, file: Option<&Path>) -> Result<Exit, Error> {
    let (_, settings) = load(global)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let batch = read(file)?;
    let agent = agent::find(&settings.execution.om, std::env::var_os("PATH").as_deref());
    if let Err(err) = &agent {
        tracing::warn!("{err}: nothing would be fetched; this is what it would be with {:?}", settings.execution.om);
    }
    for unusable in &batch.unusable {
        tracing::error!("a row cannot be handled: {unusable}");
    }
    let has_agent = agent.is_ok();
    let agent = agent.unwrap_or_else(|_| Agent::Om(PathBuf::from(&settings.execution.om)));
    let actions = batch.actions.iter().map(|row| planned(row, &settings, &agent));
    let malformed = batch.malformed.iter().map(|row| Planned {
        id: row.id,
        service: None,
        command: None,
        rule: None,
        argv: Err(row.reason.clone()),
        timeout: None,
        group: GroupLimits::default(),
        ends_boot: false,
    });
    let planned: Vec<_> = actions.chain(malformed).collect();
    print(|out| if global.json { document(out, &planned, has_agent) } else { list(out, &planned) })?;
    Ok(if batch.unusable.is_empty() { Exit::Ok } else { Exit::Data })
}

fn read(file: Option<&Path>) -> Result<Batch, Error> {
    let name = file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let unreadable = |source| Error::Input { name: name.clone(), source };
    let input: Box<dyn Read> = match file {
        Some(path) => Box::new(File::open(path).map_err(unreadable)?),
        None => Box::new(io::stdin().lock()),
    };
    let mut bytes = Vec::new();
    input.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(unreadable(io::Error::other(format!("more than {} MiB", LARGEST >> 20))));
    }
    oc3::decode_actions(&bytes).map_err(|source| Error::NoActions { name, source })
}

fn planned<'a>(row: &QueuedAction, settings: &'a Settings, agent: &Agent) -> Planned<'a> {
    let permit = settings.policy.judge(row);
    let ends_boot = permit.ends_boot(row);
    let Permit { rule, command } = permit;
    let order = command.as_ref().ok().and_then(|command| command.external());
    let definition = order.map(|order| order.definition(&settings.external_actions).cloned());
    let timeout = match &definition {
        Some(Ok(definition)) => definition.timeout,
        _ => settings.execution.timeout,
    };
    let timeout = rule.and_then(|rule| rule.timeout).unwrap_or(timeout);
    Planned {
        id: row.id,
        service: none_if_empty(&row.svcname).map(str::to_owned),
        command: Some(row.command.clone()),
        rule,
        argv: match definition {
            Some(definition) => definition.map(|definition| definition.start(String::new())),
            None => command.map(|command| command.argv(agent)).map_err(|refusal| refusal.to_string()),
        },
        timeout,
        group: rule.map(|rule| rule.group).unwrap_or_default(),
        ends_boot,
    }
}

impl Planned<'_> {
    fn verdict(&self) -> &'static str {
        if self.argv.is_ok() { "allow" } else { "deny" }
    }

    fn as_json(&self) -> Value {
        let runs = self.argv.is_ok();
        let words = |argv: &Argv| {
            let program = argv.program().to_string_lossy().into_owned();
            std::iter::once(program).chain(argv.args().iter().cloned()).collect::<Vec<_>>()
        };
        json!({
            "id": self.id.0,
            "service": self.service,
            "command": self.command,
            "verdict": self.verdict(),
            "reason": self.argv.as_ref().err(),
            "rule": self.rule.map(|rule| json!({
                "file": rule.place.file,
                "number": rule.number,
                "line": rule.place.line,
                "text": rule.to_string(),
            })),
            "argv": self.argv.as_ref().ok().map(words),
            "timeout_seconds": self.timeout.filter(|_| runs).map(|timeout| timeout.as_secs_f64()),
            "memory_max": self.group.memory_max,
            "cpu_quota_percent": self.group.cpu_quota,
            "tasks_max": self.group.tasks_max,
            "user": self.rule.filter(|_| runs).and_then(|rule| rule.user.as_ref()),
            "ends_boot": runs && self.ends_boot,
        })
    }
}

fn document(out: &mut impl Write, planned: &[Planned<'_>], has_agent: bool) -> io::Result<()> {
    let actions: Vec<_> = planned.iter().map(Planned::as_json).collect();
    writeln!(out, "{}", json!({ "agent": has_agent, "actions": actions }))
}

/// Two lines for each: the verdict and the words, and below them what decided.
fn list(out: &mut impl Write, planned: &[Planned<'_>]) -> io::Result<()> {
    let width = planned.iter().map(|one| one.id.to_string().len()).max().unwrap_or_default();
    for one in planned {
        let (id, verdict) = (one.id, one.verdict());
        match (&one.argv, one.rule) {
            (Ok(argv), rule) => {
                let by = rule.map_or_else(|| "the default".to_owned(), |rule| format!("{}: {rule}", rule.name()));
                writeln!(out, "{id:width$}  {verdict:5}  {argv}")?;
                let user = rule.and_then(|rule| rule.user.as_ref()).map(|user| format!(", as {user}"));
                writeln!(out, "{:width$}         by {}{}", "", printable(&by), user.unwrap_or_default())?;
            }
            (Err(why), _) => {
                let service = one.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
                let command = one.command.as_deref().unwrap_or_default();
                writeln!(out, "{id:width$}  {verdict:5}  {}", printable(&format!("{service}{command}")))?;
                writeln!(out, "{:width$}         {}", "", printable(why))?;
            }
        }
    }
    Ok(())
}
