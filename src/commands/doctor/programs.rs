//! What runs actions, and who else would.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::finding::Finding;
use super::unit_file::{self, UnitFile};
use super::{NO_SETTINGS, Node};
use crate::action::argv::Agent;
use crate::action::policy::Rule;
use crate::config::Launcher as Wanted;
use crate::error::{Exit, in_full};
use crate::executor::agent;
use crate::executor::launcher::{Launcher, manager};
use crate::wake::dequeuers;

/// Where dpkg keeps what it knows.
const DPKG: &str = "/var/lib/dpkg";

pub(super) fn check(node: &Node) -> Vec<Finding> {
    let mut findings = dequeuers(node);
    findings.push(agent(node));
    findings.push(launcher(node));
    findings
}

fn dequeuers(node: &Node) -> Vec<Finding> {
    const CHECK: &str = "dequeuers";
    let Some(settings) = node.settings() else { return vec![Finding::skip(CHECK, NO_SETTINGS)] };
    let found = dequeuers::find(&node.paths, &settings.queues, settings.listener_port, &[]);
    if found.is_empty() {
        let asserted: Vec<_> =
            settings.queues.iter().filter(|queue| queue.exclusive).map(|queue| queue.queue.as_str()).collect();
        let text = match asserted.join(", ") {
            all if all.is_empty() => "nobody else is seen to dequeue for this node".to_owned(),
            queues => format!("nobody else is seen; for {queues} the site asserts it (collector.exclusive)"),
        };
        return vec![Finding::ok(CHECK, text)];
    }
    let fix = |recipe: &str| {
        format!("{recipe}; or, if it does not take this node's actions, [collector] exclusive = true in actions.toml")
    };
    found.iter().map(|other| Finding::fail(CHECK, Exit::Unavailable, other.to_string(), fix(other.recipe()))).collect()
}

fn agent(node: &Node) -> Finding {
    const CHECK: &str = "agent";
    const INSTALL: &str = "install the OpenSVC agent, or name its program with [execution] om";
    let om = node.settings().map_or("om", |settings| &settings.execution.om);
    let path = std::env::var_os("PATH");
    let agent = match agent::find(om, path.as_deref()) {
        Ok(agent) => agent,
        // It may well have another name there.
        Err(_) if node.settings().is_none() => return Finding::skip(CHECK, NO_SETTINGS),
        Err(err) => return Finding::fail(CHECK, Exit::Unavailable, err.to_string(), INSTALL),
    };
    let (program, more) = match &agent {
        Agent::Om(om) => (om, ""),
        Agent::Legacy { nodemgr, .. } => (nodemgr, " and svcmgr (agent 1.x)"),
    };
    let shown = program.display();
    // A person's PATH is not that of the units.
    if manager::is_booted() && agent::find(om, Some(OsStr::new(agent::DEFAULT_PATH))).is_err() {
        let fix = format!("[execution] om = \"{shown}\" in actions.toml");
        return Finding::warn(CHECK, format!("{shown} is in your PATH, and not in that of the units"), fix);
    }
    let version = version_of(Path::new(DPKG), program).map_or_else(
        || "its version is in no package's records that could be read".to_owned(),
        |(package, version)| format!("from {package} {version}"),
    );
    Finding::ok(CHECK, format!("{shown}{more}, {version}"))
}

/// The package that a program belongs to, and its version, as dpkg has them. (Whether the program itself would tell its
/// version without doing anything else, only who knows the program can say.)
fn version_of(dpkg: &Path, program: &Path) -> Option<(String, String)> {
    let real = fs::canonicalize(program).ok()?;
    let holds = |list: &Path| {
        let files = fs::read_to_string(list).unwrap_or_default();
        files.lines().any(|line| Path::new(line) == program || Path::new(line) == real)
    };
    let package = fs::read_dir(dpkg.join("info")).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let package = name.strip_suffix(".list").filter(|package| package.starts_with("opensvc"))?.to_owned();
        holds(&entry.path()).then_some(package)
    })?;
    let package = package.split(':').next().unwrap_or_default().to_owned();
    let status = fs::read_to_string(dpkg.join("status")).ok()?;
    let header = format!("Package: {package}");
    let paragraph = status.split("\n\n").find(|paragraph| paragraph.lines().any(|line| line == header))?;
    let version = paragraph.lines().find_map(|line| line.strip_prefix("Version: "))?.to_owned();
    Some((package, version))
}

fn launcher(node: &Node) -> Finding {
    const CHECK: &str = "launcher";
    const UNCONFINED: &str = "install units/unconfined.conf as a drop-in of opensvc-actions.service, or let [execution] \
                              launcher be \"auto\"";
    let Some(settings) = node.settings() else { return Finding::skip(CHECK, NO_SETTINGS) };
    let wanted = settings.execution.launcher;
    let launcher = match Launcher::choose(wanted) {
        Ok(launcher) => launcher,
        Err(err) => return Finding::fail(CHECK, Exit::Unavailable, in_full(&err), UNCONFINED),
    };
    // Here nothing may confine this process, and in its unit it is.
    let service = unit_file::load(&unit_file::places(), "opensvc-actions.service");
    let is_confined = |unit: &UnitFile| unit.flag("Service", "NoNewPrivileges");
    if wanted == Wanted::Direct && manager::is_booted() && service.as_ref().is_some_and(is_confined) {
        let text =
            "[execution] launcher is \"direct\", and opensvc-actions.service is confined, as its commands would be";
        return Finding::fail(CHECK, Exit::Unavailable, text, UNCONFINED);
    }
    let cannot = |rule: &Rule| Some((rule.name(), launcher.can_limit(rule.group).err()?));
    match settings.policy.rules.iter().find_map(cannot) {
        Some((rule, err)) => Finding::warn(CHECK, format!("{rule}: {err}"), "take the limits out of the rule"),
        None => Finding::ok(CHECK, format!("{wanted}: {}", launcher.in_words())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package_that_the_program_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let (om, dpkg) = (dir.path().join("om"), dir.path().join("dpkg"));
        fs::write(&om, "").unwrap();
        fs::create_dir_all(dpkg.join("info")).unwrap();
        assert_eq!(version_of(&dpkg, &om), None);
        fs::write(dpkg.join("info/opensvc-doc.list"), "/usr/share/doc\n").unwrap();
        fs::write(dpkg.join("info/opensvc-server:amd64.list"), format!("/.\n{}\n", om.display())).unwrap();
        let other = "Package: opensvc-doc\nVersion: 9\n";
        fs::write(dpkg.join("status"), format!("{other}\nPackage: opensvc-server\nStatus: x\nVersion: 3.0.1-2\n"))
            .unwrap();
        assert_eq!(version_of(&dpkg, &om), Some(("opensvc-server".to_owned(), "3.0.1-2".to_owned())));
    }
}
