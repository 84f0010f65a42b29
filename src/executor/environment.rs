//! The environment that a command gets: little of ours, nothing of systemd's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Variables that would send a command elsewhere: to another cluster, another object, another directory.
const STEERING: [&str; 6] =
    ["OSVC_CONTEXT", "OSVC_CLUSTER", "OSVC_NAMESPACE", "OSVC_KIND", "OSVC_CWD", "OSVC_DETACHED"];

/// Chooses from `ours` what passes through (PATH, HOME, LANG, and `OSVC_*` but what steers), and adds `extra`.
///
/// Everything else stays out by not being chosen: `LISTEN_FDS`, `NOTIFY_SOCKET`, `JOURNAL_STREAM`, credentials.
#[must_use]
pub fn for_command(
    ours: impl IntoIterator<Item = (OsString, OsString)>,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = ours.into_iter().filter(|(name, _)| passes(name)).collect();
    environment.entry("PATH".into()).or_insert_with(|| super::agent::DEFAULT_PATH.into());
    environment.extend(extra.iter().map(|(name, value)| (name.into(), value.into())));
    environment
}

fn passes(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    matches!(name, "PATH" | "HOME" | "LANG") || (name.starts_with("OSVC_") && !STEERING.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_command_needs_passes() {
        let ours = [
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("OSVC_ROOT_PATH", "/r"),
            ("OSVC_CONTEXT", "x"),
            ("OSVC_NAMESPACE", "x"),
            ("LISTEN_FDS", "1"),
            ("NOTIFY_SOCKET", "x"),
            ("JOURNAL_STREAM", "8:1"),
            ("CREDENTIALS_DIRECTORY", "x"),
            ("SECRET", "x"),
        ]
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let extra = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
        let names: Vec<_> = for_command(ours, &extra).into_iter().collect();
        let expected = [("HOME", "/root"), ("LANG", "C"), ("OSVC_ROOT_PATH", "/r"), ("PATH", "/bin")]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(names, expected);
    }
}
