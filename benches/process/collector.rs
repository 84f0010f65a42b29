//! Who answers: the collector with the answers made beforehand, or the small one of this repository.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;
use serde_json::Value;
use tempfile::TempDir;

use crate::contender::{Dialect, NODE, UUID};
use crate::server::{Seen, Server};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Answers made beforehand, all that comes in counted and timed
    Fixed,
    /// `opensvc-actions-collector`, which really keeps a queue, and counts nothing
    Real,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Real => "real",
        }
    }
}

/// A collector that answers.
pub(crate) enum Collector {
    Fixed(Server),
    Real(Real),
}

/// A process of the small collector, and its directory.
pub(crate) struct Real {
    program: PathBuf,
    server: Child,
    address: SocketAddr,
    ca: String,
    directory: TempDir,
}

impl Collector {
    /// Starts one; of the small one, this program.
    pub(crate) fn start(
        kind: Kind,
        program: impl FnOnce() -> Result<PathBuf, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        Ok(match kind {
            Kind::Fixed => Self::Fixed(Server::start()?),
            Kind::Real => Self::Real(Real::start(program()?)?),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Fixed(server) => server.address,
            Self::Real(real) => real.address,
        }
    }

    /// The certificate of the authority that signed its own.
    pub(crate) fn ca(&self) -> &str {
        match self {
            Self::Fixed(server) => &server.ca,
            Self::Real(real) => &real.ca,
        }
    }

    /// Queues these rows, id and command. The small collector has its own ids.
    pub(crate) fn expect(&self, dialect: Dialect, rows: &[(u64, String)]) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Fixed(server) => server.expect(dialect, rows),
            Self::Real(real) => {
                let kind = match dialect {
                    Dialect::Oc3 => "feed",
                    Dialect::Rpc => "pull",
                };
                real.administer(&["node", "add", NODE, "--type", kind, "--uuid", UUID])?;
                for (_, command) in rows {
                    real.administer(&["enqueue", NODE, command])?;
                }
            }
        }
        Ok(())
    }

    /// What came in for these rows; `None` where all of them are done, and more is not known.
    pub(crate) fn seen(&self) -> Result<Option<Seen>, Box<dyn Error>> {
        match self {
            Self::Fixed(server) => Ok(Some(server.seen())),
            Self::Real(real) => {
                let list: Value = serde_json::from_str(&real.administer(&["list", "--node", NODE, "--json"])?)?;
                let actions = list["actions"].as_array().ok_or("no actions in the list")?;
                match actions.iter().find(|action| action["status"] != "T") {
                    Some(action) => Err(format!("not done: {action}").into()),
                    None => Ok(None),
                }
            }
        }
    }

    /// As [`Server::watch`].
    pub(crate) fn watch(&self, parent: u32) {
        if let Self::Fixed(server) = self {
            server.watch(parent);
        }
    }
}

impl Real {
    fn start(program: PathBuf) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::Builder::new().prefix("collector-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut server = Command::new(&program);
        server.arg("--state").arg(directory.path()).args(["serve", "--listen", "127.0.0.1:0", "--no-notify"]);
        let mut server = server.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let said = server.stdout.take().ok_or("it says nothing")?;
        BufReader::new(said).read_line(&mut line)?;
        // From here on it is ended whatever happens.
        let mut real = Self { program, server, address: ([127, 0, 0, 1], 0).into(), ca: String::new(), directory };
        let address = line.trim().rsplit("https://").next().unwrap_or_default();
        real.address = address.parse().map_err(|_| format!("the collector says {line:?}"))?;
        real.ca = fs::read_to_string(real.directory.path().join("ca.pem"))?;
        Ok(real)
    }

    /// Runs one of its commands, and gives what that says.
    fn administer(&self, words: &[&str]) -> Result<String, Box<dyn Error>> {
        let output = Command::new(&self.program).arg("--state").arg(self.directory.path()).args(words).output()?;
        if !output.status.success() {
            return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
