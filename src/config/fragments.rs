//! The own settings as the files give them: each value valid in itself, and still optional.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use super::keywords::Located;
use super::policy::PolicyFragment;
use super::settings::{Ack, Format, Launcher, Proxy};
use super::toml_table::{Item, Table};
use super::url::shown;
use super::{ConfigError, Network, Paths, duration, endpoint, external, size, source};
use crate::action::Queue;
use crate::action::external::Definition;

/// What `kept_output` can be: of a stream, and in all.
const SMALLEST_KEPT: u64 = 64 << 10;
const LARGEST_KEPT: u64 = 1 << 30;
const LARGEST_IN_ALL: u64 = 1 << 40;

/// What `max_parallel` can be at most.
const MOST_PARALLEL: u32 = 64;

/// What `environment` can hold: with it, a command line still fits into what the kernel takes.
const MOST_VARIABLES: usize = 64;
const LONGEST_VARIABLE: usize = 16 << 10;

/// What the files say; of several files the last that sets a key wins.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// `None` within: `"auto"`.
    pub(super) queues: Option<Located<Option<Vec<Queue>>>>,
    pub(super) collector: CollectorFragment,
    pub(super) oc3: CollectorFragment,
    pub(super) rpc: CollectorFragment,
    pub(super) allow: Option<Located<Vec<Network>>>,
    pub(super) min_interval: Option<Located<Duration>>,
    pub(super) om: Option<Located<String>>,
    pub(super) timeout: Option<Located<Option<Duration>>>,
    pub(super) kill_grace: Option<Located<Duration>>,
    pub(super) warn_after: Option<Located<Duration>>,
    pub(super) max_parallel: Option<Located<u32>>,
    pub(super) launcher: Option<Located<Launcher>>,
    pub(super) kept_output: Option<Located<u64>>,
    pub(super) environment: BTreeMap<String, Located<String>>,
    pub(super) unreported: Option<Located<Duration>>,
    pub(super) history: Option<Located<Duration>>,
    /// `retention.kept_output`
    pub(super) kept_in_all: Option<Located<u64>>,
    pub(super) redact: Option<Located<Vec<String>>>,
    pub(super) textfile: Option<Located<Option<PathBuf>>>,
    pub(super) policy: PolicyFragment,
    pub(super) external_actions: BTreeMap<String, Located<Definition>>,
}

/// `[collector]`, or the table of one dialect that overrides it key by key.
#[derive(Debug, Default)]
pub(super) struct CollectorFragment {
    pub(super) node: Option<Located<String>>,
    pub(super) ca_file: Option<Located<PathBuf>>,
    pub(super) client_cert: Option<Located<PathBuf>>,
    pub(super) client_key: Option<Located<PathBuf>>,
    pub(super) proxy: Option<Located<Proxy>>,
    pub(super) connect_timeout: Option<Located<Duration>>,
    pub(super) request_timeout: Option<Located<Duration>>,
    pub(super) ack: Option<Located<Ack>>,
    pub(super) exclusive: Option<Located<bool>>,
    /// Of the table of `rpc` alone.
    pub(super) format: Option<Located<Format>>,
}

impl Fragments {
    /// Reads `config`, or in its absence `actions.toml` and its drop-ins, as far as they exist.
    pub(super) fn load(paths: &Paths, config: Option<&Path>) -> Result<Self, ConfigError> {
        let mut fragments = Self::default();
        if let Some(config) = config {
            fragments.read(config, &source::read(config)?)?;
            return Ok(fragments);
        }
        if let Some(text) = source::read_if_exists(&paths.actions_toml)? {
            fragments.read(&paths.actions_toml, &text)?;
        }
        for path in drop_ins(&paths.actions_d)? {
            fragments.read(&path, &source::read(&path)?)?;
        }
        Ok(fragments)
    }

    /// Lays one more file over what is there.
    pub(super) fn read(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let path: Arc<Path> = Arc::from(path);
        self.read_table(&path, Table::parse(&path, text)?)
    }

    /// The same from the top table of the file.
    pub(super) fn read_table(&mut self, path: &Arc<Path>, mut top: Table) -> Result<(), ConfigError> {
        external::read(&mut self.external_actions, top.table("external_actions")?)?;
        set(&mut self.queues, top.take("queues").map(queues))?;
        self.read_collector(top.table("collector")?)?;
        self.read_execution(top.table("execution")?)?;
        self.policy.read(path, top.table("policy")?)?;

        let mut wake = top.table("wake")?;
        let network = |text: &str| text.parse::<Network>().map_err(|error| error.to_string());
        set(&mut self.allow, wake.take("allow").map(|item| item.read_each(network)))?;
        set(&mut self.min_interval, wake.take("min_interval").map(|item| time(item, 0, duration::LONGEST)))?;
        wake.finish()?;

        let mut retention = top.table("retention")?;
        set(&mut self.unreported, retention.take("unreported").map(|item| time(item, 1000, duration::LONGEST)))?;
        set(&mut self.history, retention.take("history").map(|item| time(item, 1000, duration::LONGEST)))?;
        set(&mut self.kept_in_all, retention.take("kept_output").map(|item| bytes(item, LARGEST_IN_ALL)))?;
        retention.finish()?;

        let mut log = top.table("log")?;
        set(&mut self.redact, log.take("redact").map(|item| item.read_each(not_empty)))?;
        log.finish()?;

        let mut metrics = top.table("metrics")?;
        set(&mut self.textfile, metrics.take("textfile").map(|item| item.read(|text| file_name(text).map(Some))))?;
        metrics.finish()?;
        top.finish()
    }

    fn read_collector(&mut self, mut table: Table) -> Result<(), ConfigError> {
        let oc3 = table.table("oc3")?;
        let mut rpc = table.table("rpc")?;
        set(&mut self.rpc.format, rpc.take("format").map(|item| item.read(format)))?;
        self.collector.read(table)?;
        self.oc3.read(oc3)?;
        self.rpc.read(rpc)
    }

    fn read_execution(&mut self, mut table: Table) -> Result<(), ConfigError> {
        set(&mut self.om, table.take("om").map(|item| item.read(program)))?;
        set(&mut self.timeout, table.take("timeout").map(optional_time))?;
        set(&mut self.kill_grace, table.take("kill_grace").map(|item| time(item, 0, duration::LONGEST)))?;
        set(&mut self.warn_after, table.take("warn_after").map(|item| time(item, 1, duration::LONGEST)))?;
        set(&mut self.max_parallel, table.take("max_parallel").map(|item| item.number(&(1..=MOST_PARALLEL))))?;
        set(&mut self.launcher, table.take("launcher").map(|item| item.read(launcher)))?;
        set(&mut self.kept_output, table.take("kept_output").map(|item| bytes(item, LARGEST_KEPT)))?;
        for (name, item) in table.table("environment")?.into_items() {
            if let Some(reason) = forbidden_name(&name) {
                return Err(item.error(reason));
            }
            let value = item.read(variable)?;
            if self.environment.len() >= MOST_VARIABLES && !self.environment.contains_key(&name) {
                let reason = format!("there are more than {MOST_VARIABLES} variables");
                return Err(value.error("execution.environment", reason));
            }
            self.environment.insert(name, value);
        }
        table.finish()
    }
}

impl CollectorFragment {
    fn read(&mut self, mut table: Table) -> Result<(), ConfigError> {
        let an_hour = Duration::from_secs(3600);
        set(&mut self.node, table.take("node").map(|item| item.read(node_name)))?;
        set(&mut self.ca_file, table.take("ca_file").map(|item| item.read(absolute)))?;
        set(&mut self.client_cert, table.take("client_cert").map(|item| item.read(absolute)))?;
        set(&mut self.client_key, table.take("client_key").map(|item| item.read(absolute)))?;
        set(&mut self.proxy, table.take("proxy").map(|item| item.read(proxy)))?;
        set(&mut self.connect_timeout, table.take("connect_timeout").map(|item| time(item, 10, an_hour)))?;
        set(&mut self.request_timeout, table.take("request_timeout").map(|item| time(item, 10, an_hour)))?;
        set(&mut self.ack, table.take("ack").map(|item| item.read(ack)))?;
        set(&mut self.exclusive, table.take("exclusive").map(Item::boolean))?;
        table.finish()
    }
}

/// The drop-ins in the order in which they are read; others than `*.toml`, and hidden files, are none.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let cannot_read = |source| ConfigError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot_read)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(cannot_read)?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// Overrides a value if the file has one.
pub(super) fn set<T>(
    slot: &mut Option<Located<T>>,
    value: Option<Result<Located<T>, ConfigError>>,
) -> Result<(), ConfigError> {
    if let Some(value) = value {
        *slot = Some(value?);
    }
    Ok(())
}

fn queues(item: Item) -> Result<Located<Option<Vec<Queue>>>, ConfigError> {
    if !item.is_array() {
        return item.read(|text| match text {
            "auto" => Ok(None),
            other => Err(format!("{other:?} is neither \"auto\" nor a list like [\"oc3\", \"rpc\"]")),
        });
    }
    let list = item.read_each(|text| text.parse::<Queue>().map_err(|error| error.to_string()))?;
    if list.value.is_empty() {
        return Err(list.error("queues", "the list is empty, so nothing would ever be fetched"));
    }
    for (index, queue) in list.value.iter().enumerate() {
        if list.value[..index].contains(queue) {
            return Err(list.error("queues", format!("{:?} is listed twice", queue.as_str())));
        }
    }
    let queues = list.value.clone();
    Ok(list.with(Some(queues)))
}

pub(super) fn time(item: Item, min_millis: u64, max: Duration) -> Result<Located<Duration>, ConfigError> {
    item.read(|text| duration::parse(text, &(Duration::from_millis(min_millis)..=max)))
}

fn bytes(item: Item, max: u64) -> Result<Located<u64>, ConfigError> {
    item.read(|text| size::parse(text, &(SMALLEST_KEPT..=max)))
}

pub(super) fn optional_time(item: Item) -> Result<Located<Option<Duration>>, ConfigError> {
    let range = Duration::from_millis(1)..=duration::LONGEST;
    item.read(|text| if text == "none" { Ok(None) } else { duration::parse(text, &range).map(Some) })
}

fn ack(text: &str) -> Result<Ack, String> {
    match text {
        "received" => Ok(Ack::Received),
        "started" => Ok(Ack::Started),
        other => Err(format!("{other:?} is neither \"received\" nor \"started\"")),
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "xml" => Ok(Format::Xml),
        "json" => Ok(Format::Json),
        other => Err(format!("{other:?} is neither \"xml\" nor \"json\"")),
    }
}

fn launcher(text: &str) -> Result<Launcher, String> {
    match text {
        "auto" => Ok(Launcher::Auto),
        "systemd" => Ok(Launcher::Systemd),
        "direct" => Ok(Launcher::Direct),
        other => Err(format!("{other:?} is none of \"auto\", \"systemd\" and \"direct\"")),
    }
}

fn proxy(text: &str) -> Result<Proxy, String> {
    match text {
        "none" => Ok(Proxy::Never),
        url => endpoint::proxy(url)
            .map(Proxy::Url)
            .map_err(|reason| format!("{} is neither \"none\" nor the URL of a proxy: {reason}", shown(url))),
    }
}

pub(super) fn without_nul(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("a value cannot hold a NUL".to_owned()) } else { Ok(text.to_owned()) }
}

fn variable(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_VARIABLE {
        return Err(format!("a value cannot be longer than {} KiB", LONGEST_VARIABLE >> 10));
    }
    without_nul(text)
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("an empty text matches nothing".to_owned()) } else { Ok(text.to_owned()) }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(without_nul(text)?);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not an absolute path")) }
}

fn file_name(text: &str) -> Result<PathBuf, String> {
    let path = absolute(text)?;
    match path.file_name() {
        Some(_) if !text.ends_with('/') => Ok(path),
        _ => Err(format!("{text:?} is not the name of a file")),
    }
}

fn program(text: &str) -> Result<String, String> {
    if text.is_empty() || (text.contains('/') && !text.starts_with('/')) {
        return Err(format!("{text:?} is neither a name to look up in PATH nor an absolute path"));
    }
    without_nul(text)
}

fn node_name(text: &str) -> Result<String, String> {
    match wrong_node_name(text) {
        None => Ok(text.to_owned()),
        Some(reason) => Err(format!("{text:?} cannot be used as node name: {reason}")),
    }
}

/// What makes a name unusable as the user of HTTP's basic authentication, or as a name at all.
pub(super) fn wrong_node_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 255 {
        Some("it is longer than 255 bytes")
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ':' | '{' | '}')) {
        Some("it holds a blank, a control character, a colon or a brace")
    } else {
        None
    }
}

/// Why a variable cannot be given to commands.
fn forbidden_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 255 || name.contains(['=', '\0']) {
        Some("this is not the name of a variable")
    } else if name.starts_with("LISTEN_")
        || matches!(name, "NOTIFY_SOCKET" | "JOURNAL_STREAM" | "CREDENTIALS_DIRECTORY")
    {
        Some("this variable belongs to the service manager and is never given to commands")
    } else {
        None
    }
}
