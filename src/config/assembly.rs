//! From what the files say to [`Settings`]: choices between them, defaults, and the rules that span several values.

use std::sync::Arc;
use std::time::Duration;

use super::credential;
use super::endpoint::{self, Endpoint};
use super::fragments::{Fragments, wrong_node_name};
use super::keywords::{Document, Keywords, Located};
use super::overrides::{Notes, Overrides};
use super::references::References;
use super::url::shown;
use super::{
    Ack, ConfigError, Execution, Format, Launcher, Log, Metrics, Origin, Paths, Proxy, QueueSettings, Retention,
    Secret, Settings, TimerSchedule, Tls, Wake,
};
use crate::action::Queue;
use crate::action::schedule::Schedule;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const KILL_GRACE: Duration = Duration::from_secs(10);
const WARN_AFTER: Duration = Duration::from_secs(3600);
const UNREPORTED: Duration = Duration::from_secs(7 * 24 * 3600);
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);
const KEPT_OUTPUT: u64 = 16 << 20;
const KEPT_IN_ALL: u64 = 256 << 20;

/// Everything that the settings are made from.
pub(super) struct Sources<'a> {
    pub(super) paths: &'a Paths,
    pub(super) keywords: Keywords,
    pub(super) fragments: Fragments,
    pub(super) hostname: &'a str,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The node may be without a uuid: it is about to get one.
    pub(super) registering: bool,
}

impl Sources<'_> {
    /// Puts the settings together.
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        let mut notes = Notes::default();
        let queues = self.queues(&mut notes)?;
        let schedule = self.schedule(&queues[0].node, &mut notes)?;
        let from = &self.fragments;
        let environment = from.environment.iter().map(|(name, value)| {
            (name.clone(), notes.value(&format!("execution.environment.{name}"), Some(value), String::new()))
        });
        let environment = environment.collect();
        let launcher = notes.value("execution.launcher", from.launcher.as_ref(), Launcher::default());
        Ok(Settings {
            queues,
            policy: from.policy.policy(launcher, &mut notes)?,
            external_actions: super::external::definitions(&from.external_actions, &mut notes),
            schedule,
            wake: Wake {
                allow: notes.value("wake.allow", from.allow.as_ref(), Vec::new()),
                min_interval: notes.value("wake.min_interval", from.min_interval.as_ref(), MIN_INTERVAL),
            },
            execution: Execution {
                om: notes.value("execution.om", from.om.as_ref(), "om".to_owned()),
                timeout: notes.value("execution.timeout", from.timeout.as_ref(), None),
                kill_grace: notes.value("execution.kill_grace", from.kill_grace.as_ref(), KILL_GRACE),
                warn_after: notes.value("execution.warn_after", from.warn_after.as_ref(), WARN_AFTER),
                max_parallel: notes.value("execution.max_parallel", from.max_parallel.as_ref(), 1),
                launcher,
                kept_output: notes.value("execution.kept_output", from.kept_output.as_ref(), KEPT_OUTPUT),
                environment,
            },
            retention: Retention {
                unreported: notes.value("retention.unreported", from.unreported.as_ref(), UNREPORTED),
                history: notes.value("retention.history", from.history.as_ref(), HISTORY),
                kept_output: notes.value("retention.kept_output", from.kept_in_all.as_ref(), KEPT_IN_ALL),
            },
            log: Log { redact: notes.value("log.redact", from.redact.as_ref(), Vec::new()) },
            metrics: Metrics { textfile: notes.value("metrics.textfile", from.textfile.as_ref(), None) },
            listener_port: self.listener_port(&mut notes),
            warnings: notes.warnings,
            origins: notes.origins,
        })
    }

    pub(super) fn queues(&self, notes: &mut Notes) -> Result<Vec<QueueSettings>, ConfigError> {
        let wanted = self.fragments.queues.as_ref();
        let list = notes.value("queues", wanted, None);
        let mut queues = Vec::new();
        for queue in list.clone().unwrap_or_else(|| Queue::ALL.to_vec()) {
            match (self.queue(queue, notes)?, wanted.filter(|_| list.is_some())) {
                (Some(settings), _) => queues.push(settings),
                (None, None) => {}
                (None, Some(list)) => {
                    return Err(ConfigError::NoUrl {
                        path: list.path.to_path_buf(),
                        line: list.line,
                        queue,
                        keywords: match queue {
                            Queue::Oc3 => "node.collector or node.collector_feeder",
                            Queue::Rpc => "node.dbopensvc",
                        },
                        node_conf: self.paths.node_conf.clone(),
                        cluster_conf: self.paths.cluster_conf.clone(),
                    });
                }
            }
        }
        if queues.is_empty() {
            let (node_conf, cluster_conf) = (self.paths.node_conf.clone(), self.paths.cluster_conf.clone());
            return Err(ConfigError::NoQueue { node_conf, cluster_conf });
        }
        Ok(queues)
    }

    /// One queue, or `None` if no keyword says where its collector is.
    fn queue(&self, queue: Queue, notes: &mut Notes) -> Result<Option<QueueSettings>, ConfigError> {
        let overrides = Overrides { queue, fragments: &self.fragments };
        let (node, node_origin) = self.node(&overrides)?;
        let Some((key, endpoint)) = self.endpoint(queue, &node)? else {
            return Ok(None);
        };
        let insecure = self.dbinsecure(&node)?;
        if let Some(at) = &insecure {
            notes.warn(at, "node.dbinsecure: the certificate of a collector is not verified");
        }
        if endpoint.value.exposed {
            let url = shown(&endpoint.value.url);
            if insecure.is_none() {
                return Err(endpoint.error(
                    format!("node.{key}"),
                    format!(
                        "to {url} the node's secret would travel unencrypted; write https:// instead, or accept it \
                         with \"dbinsecure = true\" in [node]"
                    ),
                ));
            }
            notes.warn(&endpoint, &format!("node.{key}: to {url} the node's secret travels unencrypted"));
        }
        let (exposed, plain) = (endpoint.value.exposed, endpoint.value.url.starts_with("http://"));
        let name = |key: &str| format!("collector.{queue}.{key}");
        notes.origins.insert(name("node"), node_origin);
        notes.origin(&name("base_url"), &endpoint);
        let uuid = self.uuid(queue, &node)?;
        notes.origin(&name("uuid"), &uuid);
        Ok(Some(QueueSettings {
            queue,
            base_url: endpoint.value.url,
            node,
            uuid: uuid.value,
            tls: Tls {
                verify: notes.value(&name("verify"), insecure.map(|at| at.with(false)).as_ref(), true),
                ca_file: overrides.file("ca_file", |f| &f.ca_file, notes)?,
                client_identity: overrides.client_identity(notes)?,
            },
            proxy: match overrides.value("proxy", |f| &f.proxy, Proxy::Environment, notes) {
                // HTTPS_PROXY is not about plain http, and a proxy elsewhere cannot reach a collector on this machine:
                // it would only be told the node's secret.
                Proxy::Environment if plain => Proxy::Never,
                Proxy::Url(_) if plain && !exposed => Proxy::Never,
                proxy => proxy,
            },
            connect_timeout: overrides.value("connect_timeout", |f| &f.connect_timeout, CONNECT_TIMEOUT, notes),
            request_timeout: overrides.value("request_timeout", |f| &f.request_timeout, REQUEST_TIMEOUT, notes),
            ack: overrides.value("ack", |f| &f.ack, Ack::default(), notes),
            exclusive: overrides.value("exclusive", |f| &f.exclusive, false, notes),
            format: overrides.value("format", |f| &f.format, Format::default(), notes),
        }))
    }

    /// The node's name at the collector, and where it comes from.
    fn node(&self, overrides: &Overrides) -> Result<(String, Origin), ConfigError> {
        if let Some((_, node)) = overrides.pick("node", |f| &f.node) {
            return Ok((node.value.clone(), node.origin()));
        }
        let name = self.hostname.to_lowercase();
        match wrong_node_name(&name) {
            None => Ok((name, Origin::HostName)),
            Some(reason) => Err(ConfigError::NodeName { name, reason }),
        }
    }

    /// The address of the queue's collector, with the keyword that gives it.
    fn endpoint(&self, queue: Queue, node: &str) -> Result<Option<(&'static str, Located<Endpoint>)>, ConfigError> {
        type Rule = fn(&str) -> Result<Endpoint, String>;
        let candidates: &[(&'static str, &Document, Rule)] = match queue {
            Queue::Oc3 => &[
                ("collector_feeder", &self.keywords.merged_v3, |url| endpoint::oc3(url, "")),
                ("collector", &self.keywords.merged_v3, |url| endpoint::oc3(url, "/feeder")),
            ],
            Queue::Rpc => &[("dbopensvc", &self.keywords.merged_v2, endpoint::rpc)],
        };
        for (key, document, rule) in candidates {
            let Some(keyword) = self.keyword(document, key, node)? else { continue };
            // the word by which the 2.x agent once suggested to say "no collector"
            if queue == Queue::Rpc && keyword.value == "None" {
                continue;
            }
            let endpoint = rule(&keyword.value).map_err(|reason| {
                keyword.error(format!("node.{key}"), format!("{} is not usable: {reason}", shown(&keyword.value)))
            })?;
            return Ok(Some((key, keyword.with(endpoint))));
        }
        Ok(None)
    }

    /// `dequeue_actions.schedule`, as the 2.x agent reads it. Set and empty is never; not set is always.
    fn schedule(&self, node: &str, notes: &mut Notes) -> Result<Option<TimerSchedule>, ConfigError> {
        const KEY: &str = "dequeue_actions.schedule";
        let document = &self.keywords.merged_v2;
        let Some(keyword) = document.get("dequeue_actions", "schedule") else { return Ok(None) };
        let references = References { document, node, env: self.env };
        let value = references.expand(&keyword.value).map_err(|reason| keyword.error(KEY, reason))?;
        let (schedule, left_out) = Schedule::parse(&value);
        for invalid in &left_out {
            notes.warn(keyword, &format!("{KEY}: left out: {invalid}"));
        }
        notes.origin(KEY, keyword);
        let text = value.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Some(TimerSchedule { text, schedule, left_out }))
    }

    /// A keyword of `[node]` with its references replaced; `None` if it is not set or empty.
    pub(super) fn keyword(
        &self,
        document: &Document,
        key: &str,
        node: &str,
    ) -> Result<Option<Located<String>>, ConfigError> {
        let Some(keyword) = document.get("node", key) else {
            return Ok(None);
        };
        if keyword.value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(keyword.error(format!("node.{key}"), "it is not valid UTF-8"));
        }
        let references = References { document, node, env: self.env };
        let value = references.expand(&keyword.value).map_err(|reason| keyword.error(format!("node.{key}"), reason))?;
        Ok(Some(keyword.with(value)).filter(|keyword| !keyword.value.is_empty()))
    }

    /// Where `dbinsecure` is set to true, if it is.
    pub(super) fn dbinsecure(&self, node: &str) -> Result<Option<Located<()>>, ConfigError> {
        let Some(keyword) = self.keyword(&self.keywords.merged_v3, "dbinsecure", node)? else {
            return Ok(None);
        };
        match keyword.value.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Some(keyword.with(()))),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(None),
            other => Err(keyword.error("node.dbinsecure", format!("{other:?} is neither \"true\" nor \"false\""))),
        }
    }

    fn uuid(&self, queue: Queue, node: &str) -> Result<Located<Secret>, ConfigError> {
        if let Some(uuid) = credential::uuid(self.env)? {
            return Ok(uuid);
        }
        let document = match queue {
            Queue::Oc3 => &self.keywords.node_v3,
            Queue::Rpc => &self.keywords.merged_v3,
        };
        let Some(keyword) = self.keyword(document, "uuid", node)? else {
            if self.registering {
                return Ok(Located { value: Secret::new(""), path: Arc::from(&*self.paths.node_conf), line: 1 });
            }
            return Err(ConfigError::NotRegistered { node_conf: self.paths.node_conf.clone() });
        };
        let place = keyword.with(());
        credential::checked(place.with(Secret::from(keyword.value)), "node.uuid")
    }
}
