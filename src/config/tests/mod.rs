//! [`Settings::load`] from files in a directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{ConfigError, Paths, Settings};

mod credential;
mod every_key;
mod keywords;
mod own_settings;
mod policy;

const UUID: &str = "f0e1d2c3-0000-4000-8000-000000000001";

/// The configuration files of a node.
struct Node {
    root: tempfile::TempDir,
    env: Vec<(&'static str, &'static str)>,
}

impl Node {
    /// A registered node with these lines in `[node]` of its `node.conf`.
    fn new(lines: &str) -> Self {
        Self::bare().file("etc/node.conf", &format!("[node]\nuuid = {UUID}\n{lines}\n"))
    }

    fn bare() -> Self {
        Self { root: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.root.path().join(name);
        for directory in path.parent().unwrap().ancestors().take_while(|dir| *dir != self.root.path()) {
            fs::create_dir_all(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    fn toml(self, text: &str) -> Self {
        self.file("etc/actions.toml", text)
    }

    fn load_with(&self, config: Option<&Path>) -> Result<Settings, ConfigError> {
        let env = |name: &str| self.env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let paths = Paths::resolve(Some(self.root.path()), &|_| None);
        Settings::load(&paths, config, "N1.Example.COM", &env)
    }

    #[track_caller]
    fn load(&self) -> Settings {
        self.load_with(None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error's text without the directory.
    #[track_caller]
    fn error(&self) -> String {
        self.strip(&self.load_with(None).expect_err("loads").to_string())
    }

    fn strip(&self, text: &str) -> String {
        text.replace(&format!("{}/etc/", self.root.path().display()), "")
    }
}

/// The error of a node that would be fine without this `actions.toml`.
#[track_caller]
fn toml_error(text: &str) -> String {
    Node::new("dbopensvc = c\ncollector = c").toml(text).error()
}
