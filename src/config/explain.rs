//! The effective settings, for people.

use std::fmt::Display;

use super::duration::show;
use super::secret::REDACTED;
use super::{Ack, Explained, Format, Launcher, Proxy, Settings, TimerSchedule, external, policy, size};
use crate::action::Queue;

/// Parts of a variable's name that make its value a secret.
const SECRET_NAMES: [&str; 6] = ["pass", "secret", "token", "key", "uuid", "credential"];

impl Settings {
    /// Every effective setting with its origin, in a stable order, secrets redacted.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let mut rows = Vec::new();
        let mut add = |key: String, value: String| {
            let origin = self.origins.get(&key).cloned().unwrap_or_default();
            rows.push(Explained { key, value, origin });
        };
        add("queues".to_owned(), list(self.queues.iter().map(|settings| settings.queue)));
        for settings in &self.queues {
            let identity = settings.tls.client_identity.as_ref();
            let (cert, key) = (identity.map(|(cert, _)| cert), identity.map(|(_, key)| key));
            let or_none =
                |path: Option<&std::path::PathBuf>| path.map_or("none".into(), |path| path.display().to_string());
            for (name, value) in [
                ("base_url", settings.base_url.clone()),
                ("node", settings.node.clone()),
                ("uuid", settings.uuid.to_string()),
                ("verify", settings.tls.verify.to_string()),
                ("ca_file", or_none(settings.tls.ca_file.as_ref())),
                ("client_cert", or_none(cert)),
                ("client_key", or_none(key)),
                ("proxy", settings.proxy.to_string()),
                ("connect_timeout", show(settings.connect_timeout)),
                ("request_timeout", show(settings.request_timeout)),
                ("ack", settings.ack.to_string()),
                ("exclusive", settings.exclusive.to_string()),
            ] {
                add(format!("collector.{}.{name}", settings.queue), value);
            }
            if settings.queue == Queue::Rpc {
                add("collector.rpc.format".to_owned(), settings.format.to_string());
            }
        }
        add("dequeue_actions.schedule".to_owned(), self.schedule.as_ref().map_or("always".to_owned(), schedule));
        let allow = if self.wake.allow.is_empty() { "all".to_owned() } else { list(&self.wake.allow) };
        add("wake.allow".to_owned(), allow);
        add("wake.min_interval".to_owned(), show(self.wake.min_interval));
        add("execution.om".to_owned(), self.execution.om.clone());
        add("execution.timeout".to_owned(), self.execution.timeout.map_or("none".to_owned(), show));
        add("execution.kill_grace".to_owned(), show(self.execution.kill_grace));
        add("execution.warn_after".to_owned(), show(self.execution.warn_after));
        add("execution.max_parallel".to_owned(), self.execution.max_parallel.to_string());
        add("execution.launcher".to_owned(), self.execution.launcher.to_string());
        add("execution.kept_output".to_owned(), size::show(self.execution.kept_output));
        for (name, value) in &self.execution.environment {
            let value = if is_secret(name) { REDACTED } else { value };
            add(format!("execution.environment.{name}"), value.to_owned());
        }
        add("policy.default".to_owned(), self.policy.default.to_string());
        for (index, rule) in self.policy.rules.iter().enumerate() {
            add(format!("policy.rule.{}", index + 1), policy::show(rule));
        }
        for (name, definition) in &self.external_actions {
            for (key, value) in external::show(definition) {
                add(format!("external_actions.{name}.{key}"), value);
            }
        }
        add("retention.unreported".to_owned(), show(self.retention.unreported));
        add("retention.history".to_owned(), show(self.retention.history));
        add("retention.kept_output".to_owned(), size::show(self.retention.kept_output));
        add("log.redact".to_owned(), list(&self.log.redact));
        let textfile = self.metrics.textfile.as_ref();
        add("metrics.textfile".to_owned(), textfile.map_or("none".to_owned(), |path| path.display().to_string()));
        rows
    }
}

/// The schedule as it is written, and what of it does not count.
fn schedule(schedule: &TimerSchedule) -> String {
    let text = if schedule.text.is_empty() { "never" } else { &schedule.text };
    let left_out = schedule.left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if left_out.is_empty() { text.to_owned() } else { format!("{text} (left out: {left_out})") }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

impl Display for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Received => "received",
            Self::Started => "started",
        })
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Xml => "xml",
            Self::Json => "json",
        })
    }
}

impl Display for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Systemd => "systemd",
            Self::Direct => "direct",
        })
    }
}

impl Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::Never => f.write_str("none"),
            Self::Url(url) => match url.split_once("://").zip(url.rsplit_once('@')) {
                Some(((scheme, _), (_, host))) => write!(f, "{scheme}://{REDACTED}@{host}"),
                None => f.write_str(url),
            },
        }
    }
}
