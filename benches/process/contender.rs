//! Who is measured, and the node that each finds itself on.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// The node's name and uuid, and both as HTTP wants them.
pub(crate) const NODE: &str = "n1";
pub(crate) const UUID: &str = "a1111111-0000-4000-8000-000000000001";
const BASIC: &str = "bjE6YTExMTExMTEtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAx";

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Collector 3, REST.
    Oc3,
    /// Collectors 1.x and 2.x, XML-RPC.
    Rpc,
}

impl Dialect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oc3 => "oc3",
            Self::Rpc => "rpc",
        }
    }
}

/// A program that dequeues.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// How it is called in tables.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Told everything in its arguments; all others find a node under their root.
    pub(crate) is_floor: bool,
}

/// A directory with all that a node has.
pub(crate) struct Node {
    root: PathBuf,
    dialect: Dialect,
    collector: SocketAddr,
}

impl Node {
    /// Makes one that dequeues over this dialect from the collector there. Its actions run `command`.
    pub(crate) fn new(
        root: PathBuf,
        dialect: Dialect,
        (collector, ca): (SocketAddr, &str),
        (command, launcher): (&Path, &str),
    ) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o755).create(root.join("etc"))?;
        let keyword = match dialect {
            Dialect::Oc3 => "collector",
            Dialect::Rpc => "dbopensvc",
        };
        let ca_file = root.join("etc/ca.pem");
        write(&ca_file, ca)?;
        write(&root.join("etc/node.conf"), &format!("[node]\n{keyword} = https://{collector}\nuuid = {UUID}\n"))?;
        let (ca_file, command) = (ca_file.display(), command.display());
        // The runs follow each other, and each has ended with an empty fetch.
        let settings = format!(
            "[collector]\nnode = {NODE:?}\nca_file = \"{ca_file}\"\n[wake]\nmin_interval = \"0s\"\n\
             [execution]\nom = \"{command}\"\nlauncher = \"{launcher}\"\n"
        );
        write(&root.join("etc/actions.toml"), &settings)?;
        Ok(Self { root, dialect, collector })
    }

    /// The words that start this contender here, to which what starts them is put in front.
    pub(crate) fn arguments(&self, contender: &Contender, command: &Path) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        let mut words = vec![path(contender.program.clone())];
        if contender.is_floor {
            let credentials = match self.dialect {
                Dialect::Oc3 => BASIC,
                Dialect::Rpc => UUID,
            };
            words.extend([self.collector.to_string(), path(self.root.join("etc/ca.pem"))]);
            words.extend([self.dialect.name(), NODE, credentials].map(str::to_owned));
            words.extend([path(self.root.join("floor.state")), path(command.to_owned())]);
        } else {
            words.extend(["--root".to_owned(), path(self.root.clone())]);
        }
        words
    }

    /// What every contender finds in its environment.
    pub(crate) fn equip(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/root").env("LANG", "C.UTF-8");
        command.env("OSVC_ROOT_PATH", &self.root);
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
