//! Where the files are.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files that may set `OSVC_ROOT_PATH`; the first that exists counts and the others are not read.
const ROOT_FILES: [&str; 3] = ["/etc/sysconfig/opensvc", "/etc/default/opensvc", "/etc/defaults/opensvc"];

/// The files and directories that the program works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// OpenSVC's settings of this node.
    pub node_conf: PathBuf,
    /// OpenSVC's settings of the cluster, which lie under those of the node.
    pub cluster_conf: PathBuf,
    /// Own settings.
    pub actions_toml: PathBuf,
    /// The directory of their drop-ins.
    pub actions_d: PathBuf,
    /// The directory of the ledger, the lock and the runs.
    pub state: PathBuf,
    /// What the agents' daemons keep, their sockets among it.
    pub agent_var: PathBuf,
}

impl Paths {
    /// Decides where everything is: under `root`, else under `OSVC_ROOT_PATH` of the environment, else under the one
    /// that OpenSVC's defaults file sets, else in the places that the FHS names.
    ///
    /// `STATE_DIRECTORY` (systemd's, a list separated by colons) counts only without a root.
    #[must_use]
    pub fn resolve(root: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        Self::resolve_with(root, env, &ROOT_FILES.map(Path::new))
    }

    fn resolve_with(root: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>, root_files: &[&Path]) -> Self {
        let not_empty = |name: &str| env(name).filter(|value| !value.is_empty());
        let root = root
            .map(Path::to_path_buf)
            .or_else(|| not_empty("OSVC_ROOT_PATH").map(PathBuf::from))
            .or_else(|| root_of_first(root_files));
        if let Some(root) = root {
            // children run in "/": a relative root must not change its meaning there
            let root = std::path::absolute(&root).unwrap_or(root);
            Self::in_etc(&root.join("etc"), root.join("var/actions"), root.join("var"))
        } else {
            let state = not_empty("STATE_DIRECTORY")
                .and_then(|list| first_entry(&list))
                .unwrap_or_else(|| PathBuf::from("/var/lib/opensvc-actions"));
            let agent_var = PathBuf::from("/var/lib/opensvc");
            Self::in_etc(Path::new("/etc/opensvc"), state, agent_var)
        }
    }

    fn in_etc(etc: &Path, state: PathBuf, agent_var: PathBuf) -> Self {
        Self {
            node_conf: etc.join("node.conf"),
            cluster_conf: etc.join("cluster.conf"),
            actions_toml: etc.join("actions.toml"),
            actions_d: etc.join("actions.d"),
            state,
            agent_var,
        }
    }
}

fn first_entry(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_bytes().split(|byte| *byte == b':').find(|entry| !entry.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(first)))
}

fn root_of_first(files: &[&Path]) -> Option<PathBuf> {
    let text = files.iter().find_map(|file| beginning(file).ok())?;
    root_of(&String::from_utf8_lossy(&text)).map(PathBuf::from)
}

/// As much of a file as anybody writes into such a one.
fn beginning(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(64 * 1024).read_to_end(&mut text)?;
    Ok(text)
}

/// `OSVC_ROOT_PATH` as shell-like text sets it; the last line wins.
fn root_of(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| without_export(key.trim()) == "OSVC_ROOT_PATH")
        .map(|(_, value)| shell_value(value.trim()).to_owned())
        .next_back()
        .filter(|value| !value.is_empty())
}

/// The agents' wrapper lets a shell read the file, so that this word may stand there, too.
fn without_export(key: &str) -> &str {
    key.strip_prefix("export").filter(|key| key.starts_with([' ', '\t'])).map_or(key, str::trim_start)
}

/// The value of an assignment: what is between its quotes, else everything before a comment.
fn shell_value(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner;
        }
    }
    if value.starts_with('#') {
        return "";
    }
    value.find([' ', '\t', ';']).map_or(value, |end| &value[..end])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resolve(root: Option<&str>, env: &[(&str, &str)], files: &[&Path]) -> Paths {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Paths::resolve_with(root.map(Path::new), &env, files)
    }

    #[test]
    fn defaults_without_any_root() {
        let paths = resolve(None, &[], &[]);
        assert_eq!(paths.node_conf, Path::new("/etc/opensvc/node.conf"));
        assert_eq!(paths.cluster_conf, Path::new("/etc/opensvc/cluster.conf"));
        assert_eq!(paths.actions_toml, Path::new("/etc/opensvc/actions.toml"));
        assert_eq!(paths.actions_d, Path::new("/etc/opensvc/actions.d"));
        assert_eq!(paths.state, Path::new("/var/lib/opensvc-actions"));
        assert_eq!(paths.agent_var, Path::new("/var/lib/opensvc"));
        assert_eq!(resolve(Some("/r"), &[], &[]).agent_var, Path::new("/r/var"));
    }

    #[test]
    fn the_state_directory_counts_only_without_a_root() {
        let env = [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")];
        assert_eq!(resolve(None, &env, &[]).state, Path::new("/var/lib/a"));
        assert_eq!(resolve(Some("/r"), &env, &[]).state, Path::new("/r/var/actions"));
        assert_eq!(resolve(None, &[("STATE_DIRECTORY", "")], &[]).state, Path::new("/var/lib/opensvc-actions"));
    }

    #[test]
    fn the_option_wins_over_the_environment_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("opensvc");
        fs::write(&file, "# OSVC_ROOT_PATH=/no\nOSVC_ROOT_PATH = \"/from file\" # yes\n").unwrap();
        let env = [("OSVC_ROOT_PATH", "/env")];
        assert_eq!(resolve(Some("/opt"), &env, &[&file]).node_conf, Path::new("/opt/etc/node.conf"));
        assert_eq!(resolve(None, &env, &[&file]).state, Path::new("/env/var/actions"));
        assert_eq!(resolve(None, &[], &[&file]).actions_d, Path::new("/from file/etc/actions.d"));
        assert_eq!(resolve(None, &[("OSVC_ROOT_PATH", "")], &[&file]).state, Path::new("/from file/var/actions"));
    }

    #[test]
    fn only_the_first_defaults_file_that_exists_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, first, second) = (dir.path().join("0"), dir.path().join("1"), dir.path().join("2"));
        fs::write(&first, "OSVC_PYTHON=python3\n").unwrap();
        fs::write(&second, "OSVC_ROOT_PATH=/second\n").unwrap();
        assert_eq!(resolve(None, &[], &[&missing, &first, &second]).node_conf, Path::new("/etc/opensvc/node.conf"));
    }

    #[test]
    fn a_relative_root_becomes_absolute() {
        let paths = resolve(Some("r"), &[], &[]);
        assert_eq!(paths.state, std::env::current_dir().unwrap().join("r/var/actions"));
    }

    #[test]
    fn assignments_are_read_as_a_shell_would() {
        for (text, expected) in [
            ("OSVC_ROOT_PATH=/a", Some("/a")),
            ("  OSVC_ROOT_PATH = /a  # why", Some("/a")),
            ("OSVC_ROOT_PATH='/a b'", Some("/a b")),
            ("OSVC_ROOT_PATH=/a\nOSVC_ROOT_PATH=/b", Some("/b")),
            ("OSVC_ROOT_PATH=", None),
            ("OSVC_ROOT_PATH= # none", None),
            ("export OSVC_ROOT_PATH=/a", Some("/a")),
            ("  export\tOSVC_ROOT_PATH=/a; export OSVC_PYTHON", Some("/a")),
            ("exportOSVC_ROOT_PATH=/a", None),
            ("XOSVC_ROOT_PATH=/a", None),
            ("", None),
        ] {
            assert_eq!(root_of(text).as_deref(), expected, "{text}");
        }
    }
}
