//! `[policy]`: from text to rules.

use std::path::Path;
use std::time::Duration;

use super::fragments::{optional_time, set};
use super::keywords::Located;
use super::overrides::Notes;
use super::toml_table::{Item, Table};
use super::{ConfigError, Launcher, Origin, duration, size};
use crate::action::limits::GroupLimits;
use crate::action::policy::{About, CommandGlobs, Place, Policy, Rule, Verdict};

const LEAST_MEMORY: u64 = 1 << 20;
const MOST_MEMORY: u64 = 1 << 50;
/// In percent of one processor.
const MOST_CPU: u32 = 1_000_000;
/// What the kernel has numbers for.
const MOST_TASKS: u32 = 1 << 22;

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct PolicyFragment {
    pub(super) default: Option<Located<Verdict>>,
    /// In reading order; with each the key of its first bound that needs a control group.
    rules: Vec<(Rule, Option<Located<&'static str>>)>,
}

impl PolicyFragment {
    /// Lays the `[policy]` of one more file behind what is there.
    pub(super) fn read(&mut self, path: &Path, mut table: Table) -> Result<(), ConfigError> {
        set(&mut self.default, table.take("default").map(|item| item.read(verdict)))?;
        let rules = table.take("rule").map(Item::into_tables).transpose()?.unwrap_or_default();
        for (index, (line, rule)) in rules.into_iter().enumerate() {
            self.rules.push(read_rule(index + 1, Place { file: path.to_owned(), line }, rule)?);
        }
        table.finish()
    }

    /// The policy.
    ///
    /// # Errors
    /// A rule wants what the launcher cannot do.
    pub(super) fn policy(&self, launcher: Launcher, notes: &mut Notes) -> Result<Policy, ConfigError> {
        let needs_group = self.rules.iter().find_map(|(_, needs_group)| needs_group.as_ref());
        if let Some(key) = needs_group.filter(|_| launcher == Launcher::Direct) {
            return Err(key.error(
                format!("policy.rule.{}", key.value),
                "only the service manager can hold an action to it, and execution.launcher is \"direct\"",
            ));
        }
        for (index, (rule, _)) in self.rules.iter().enumerate() {
            let origin = Origin::File { path: rule.place.file.clone(), line: rule.place.line };
            notes.origins.insert(format!("policy.rule.{}", index + 1), origin);
        }
        Ok(Policy {
            default: notes.value("policy.default", self.default.as_ref(), Verdict::default()),
            default_place: self.default.as_ref().map(|at| Place { file: at.path.to_path_buf(), line: at.line }),
            rules: self.rules.iter().map(|(rule, _)| rule.clone()).collect(),
        })
    }
}

/// A rule, and the key of its first bound that needs a control group.
fn read_rule(
    number: usize,
    place: Place,
    mut table: Table,
) -> Result<(Rule, Option<Located<&'static str>>), ConfigError> {
    let Some(verdict) = table.take("verdict").map(|item| item.read(verdict)).transpose()? else {
        let reason = format!("rule {number} of this file has no verdict; write \"allow\" or \"deny\"");
        let Place { file: path, line } = place;
        return Err(ConfigError::Value { path, line, key: "policy.rule.verdict".to_owned(), reason });
    };
    let only_allowed = |item: &Item| match verdict.value {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err(item.error("only a rule whose verdict is \"allow\" can set this")),
    };
    let about = table.take("service").map(|item| item.read(about)).transpose()?;
    let command = table.take("command").map(|item| item.read_list(CommandGlobs::read)).transpose()?;
    let mut rule = Rule {
        number,
        place,
        verdict: verdict.value,
        about: about.map(|about| about.value),
        command: command.map(|command| command.value),
        timeout: None,
        group: GroupLimits::default(),
        user: None,
        retarget: false,
        ends_boot: None,
    };
    let mut take = |key| table.take(key).map(|item| only_allowed(&item).map(|()| item)).transpose();
    rule.timeout = take("timeout")?.map(optional_time).transpose()?.map(|timeout| timeout.value);
    rule.retarget = take("retarget")?.map(Item::boolean).transpose()?.is_some_and(|retarget| retarget.value);
    rule.ends_boot = take("ends_boot")?.map(Item::boolean).transpose()?.map(|ends_boot| ends_boot.value);
    rule.user = take("user")?.map(|item| item.read(user)).transpose()?.map(|user| user.value);
    let memory = take("memory_max")?
        .map(|item| item.read(|text| size::parse(text, &(LEAST_MEMORY..=MOST_MEMORY))))
        .transpose()?;
    let cpu = take("cpu_quota")?.map(|item| item.read(percent)).transpose()?;
    let tasks = take("tasks_max")?.map(|item| item.number(&(1..=MOST_TASKS))).transpose()?;
    let places = [
        memory.as_ref().map(|at| at.with("memory_max")),
        cpu.as_ref().map(|at| at.with("cpu_quota")),
        tasks.as_ref().map(|at| at.with("tasks_max")),
    ];
    rule.group = GroupLimits {
        memory_max: memory.map(|memory| memory.value),
        cpu_quota: cpu.map(|cpu| cpu.value),
        tasks_max: tasks.map(|tasks| tasks.value.into()),
    };
    table.finish()?;
    Ok((rule, places.into_iter().flatten().min_by_key(|place| place.line)))
}

/// A rule on one line, with all that it sets.
pub(super) fn show(rule: &Rule) -> String {
    let GroupLimits { memory_max, cpu_quota, tasks_max } = rule.group;
    let timeout = |timeout: Option<Duration>| timeout.map_or("none".to_owned(), duration::show);
    let set = [
        rule.timeout.map(|limit| format!("timeout=\"{}\"", timeout(limit))),
        memory_max.map(|bytes| format!("memory_max=\"{}\"", size::show(bytes))),
        cpu_quota.map(|percent| format!("cpu_quota=\"{percent}%\"")),
        tasks_max.map(|tasks| format!("tasks_max={tasks}")),
        rule.user.as_ref().map(|user| format!("user=\"{user}\"")),
        rule.retarget.then(|| "retarget=true".to_owned()),
        rule.ends_boot.map(|ends_boot| format!("ends_boot={ends_boot}")),
    ];
    set.into_iter().flatten().fold(rule.to_string(), |line, one| line + " " + &one)
}

fn verdict(text: &str) -> Result<Verdict, String> {
    match text {
        "allow" => Ok(Verdict::Allow),
        "deny" => Ok(Verdict::Deny),
        other => Err(format!("{other:?} is neither \"allow\" nor \"deny\"")),
    }
}

/// A name, not a number. Who that is, is looked up when a command starts: a user may be known only while a directory
/// elsewhere answers.
pub(super) fn user(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_alphanumeric() || "._-@\\$+".contains(c);
    let plain = !text.is_empty() && text.len() <= 256 && text.chars().all(is_name) && !text.starts_with('-');
    if plain && !text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of a user"))
    }
}

fn about(text: &str) -> Result<About, String> {
    if text.is_empty() {
        return Ok(About::Node);
    }
    text.parse().map(About::Services).map_err(|err| format!("{err}"))
}

/// `"150%"`: of one processor.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    match number.map(str::parse::<u32>) {
        Some(Ok(percent)) if (1..=MOST_CPU).contains(&percent) => Ok(percent),
        Some(_) if number != Some("") => Err(format!("{text:?} is out of range; it must be from 1% to {MOST_CPU}%")),
        _ => Err(format!("{text:?} is no share of a processor; write a whole number with % behind it, like \"150%\"")),
    }
}
