//! The keywords of `node.conf` and `cluster.conf`, with where each was set.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::node_conf::{self, DEFAULT, Reading};
use super::{ConfigError, Origin, Paths, source};

/// The keywords that are read as 2.x reads them.
const OWNED_BY_V2: [(&str, &str); 2] = [("node", "dbopensvc"), ("dequeue_actions", "schedule")];

/// A value and the line that sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// The file.
    pub(super) path: Arc<Path>,
    /// The line, from 1.
    pub(super) line: usize,
}

/// Keys with their values, one file's or several merged.
#[derive(Clone, Debug)]
pub(super) struct Document {
    reading: Reading,
    keys: BTreeMap<(String, String), Located<String>>,
}

/// What OpenSVC's two files say, in each reading that a keyword may need.
#[derive(Debug)]
pub(super) struct Keywords {
    /// Both files as 2.x reads them.
    pub(super) merged_v2: Document,
    /// Both files as 3.x reads them.
    pub(super) merged_v3: Document,
    /// `node.conf` alone, as 3.x reads it.
    pub(super) node_v3: Document,
}

impl<T> Located<T> {
    /// An error about this value.
    pub(super) fn error(&self, key: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.to_path_buf(), line: self.line, key: key.into(), reason: reason.into() }
    }

    /// The line, for people.
    pub(super) fn origin(&self) -> Origin {
        Origin::File { path: self.path.to_path_buf(), line: self.line }
    }

    /// Another value from the same line.
    pub(super) fn with<U>(&self, value: U) -> Located<U> {
        Located { value, path: Arc::clone(&self.path), line: self.line }
    }
}

impl Document {
    /// Reads the text of one file.
    pub(super) fn parse(path: &Arc<Path>, text: &str, reading: Reading) -> Result<Self, ConfigError> {
        let entries = node_conf::parse(text, reading).map_err(|error| ConfigError::Syntax {
            path: path.to_path_buf(),
            line: error.line,
            reason: error.reason.to_string(),
        })?;
        let located = |value, line| Located { value, path: Arc::clone(path), line };
        let keys = entries.into_iter().map(|e| ((e.section, e.key), located(e.value, e.line))).collect();
        Ok(Self { reading, keys })
    }

    /// Lays `upper` over this document, key by key: an empty value up there hides the one below.
    fn merged_with(&self, upper: &Self) -> Self {
        let mut merged = self.clone();
        merged.keys.extend(upper.keys.iter().map(|(key, value)| (key.clone(), value.clone())));
        merged
    }

    /// A keyword, looked up the way the reading does it.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&Located<String>> {
        let in_section = |section: &str| self.keys.get(&(section.to_owned(), key.to_owned()));
        in_section(section).or_else(|| match self.reading {
            Reading::V2 => None,
            Reading::V3 => in_section(DEFAULT),
        })
    }
}

impl Keywords {
    /// Reads the two files; a missing one is an empty one.
    pub(super) fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let bytes = |path: &Path| Ok(source::bytes_if_exist(path)?.unwrap_or_default());
        let (node, cluster) = (bytes(&paths.node_conf)?, bytes(&paths.cluster_conf)?);
        Self::parse(paths, node, cluster)
    }

    /// The 3.x agent lives with texts over which the 2.x agent stumbles, like a comment in Latin-1. Where nothing stands
    /// that is the latter's, there is nothing to stumble over.
    fn parse(paths: &Paths, node: Vec<u8>, cluster: Vec<u8>) -> Result<Self, ConfigError> {
        let (node_path, cluster_path) = (Arc::from(&*paths.node_conf), Arc::from(&*paths.cluster_conf));
        let v3 = |path, bytes: &[u8]| Document::parse(path, &String::from_utf8_lossy(bytes), Reading::V3);
        let node_v3 = v3(&node_path, &node)?;
        let merged_v3 = v3(&cluster_path, &cluster)?.merged_with(&node_v3);
        let v2 = |path, bytes: Vec<u8>| Document::parse(path, &source::text(path, bytes)?, Reading::V2);
        let both_v2 = v2(&cluster_path, cluster).and_then(|cluster| Ok(cluster.merged_with(&v2(&node_path, node)?)));
        let merged_v2 = match both_v2 {
            Err(mistake) if OWNED_BY_V2.iter().any(|(section, key)| merged_v3.get(section, key).is_some()) => {
                return Err(mistake);
            }
            Err(_) => Document { reading: Reading::V2, keys: BTreeMap::new() },
            Ok(merged) => merged,
        };
        Ok(Self { merged_v2, merged_v3, node_v3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(node: &str, cluster: &str) -> Result<Keywords, ConfigError> {
        Keywords::parse(&Paths::resolve(Some(Path::new("/r")), &|_| None), node.into(), cluster.into())
    }

    fn value<'a>(document: &'a Document, key: &str) -> Option<&'a str> {
        document.get("node", key).map(|located| &*located.value)
    }

    #[test]
    fn node_conf_lies_over_cluster_conf_key_by_key() {
        let keywords = keywords(
            "[node]\na = node\nempty =\n",
            "[node]\na = cluster\nempty = x\nb = cluster\na@n1 = scoped\n[env]\nc = 1\n",
        )
        .unwrap();
        for merged in [&keywords.merged_v2, &keywords.merged_v3] {
            assert_eq!(value(merged, "a"), Some("node"));
            assert_eq!(value(merged, "empty"), Some(""));
            assert_eq!(value(merged, "b"), Some("cluster"));
            assert_eq!(value(merged, "c"), None);
        }
        assert_eq!(value(&keywords.node_v3, "b"), None);
        let a = keywords.merged_v3.get("node", "a").unwrap();
        assert_eq!((&*a.path, a.line), (Path::new("/r/etc/node.conf"), 2));
        let b = keywords.merged_v3.get("node", "b").unwrap();
        assert_eq!((&*b.path, b.line), (Path::new("/r/etc/cluster.conf"), 4));
    }

    #[test]
    fn only_3x_inherits_the_default_section() {
        let keywords =
            keywords("[DEFAULT]\nb = node\n[node]\na = 1\n", "[node]\nb = cluster\n[DEFAULT]\nc = d\n").unwrap();
        assert_eq!(value(&keywords.merged_v2, "b"), Some("cluster"));
        assert_eq!(value(&keywords.merged_v3, "b"), Some("cluster"));
        assert_eq!(value(&keywords.node_v3, "b"), Some("node"));
        assert_eq!(value(&keywords.merged_v2, "c"), None);
        assert_eq!(value(&keywords.merged_v3, "c"), Some("d"));
    }

    #[test]
    fn mistakes_name_their_file_and_line() {
        let error = keywords("[node]\n", "[node]\nx\n").unwrap_err().to_string();
        assert!(error.starts_with("/r/etc/cluster.conf:2: expected a section header"), "{error}");
    }
}
