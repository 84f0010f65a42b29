//! Choosing between the tables that may set a value, and noting which did.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::fragments::{CollectorFragment, Fragments};
use super::keywords::Located;
use super::{ConfigError, Origins};
use crate::action::Queue;

/// What is learnt on the way.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) origins: Origins,
    pub(super) warnings: Vec<String>,
}

impl Notes {
    /// The value if it is set, else the default; the origin is noted.
    pub(super) fn value<T: Clone>(&mut self, key: &str, located: Option<&Located<T>>, default: T) -> T {
        match located {
            None => default,
            Some(located) => {
                self.origin(key, located);
                located.value.clone()
            }
        }
    }

    pub(super) fn origin<T>(&mut self, key: &str, located: &Located<T>) {
        self.origins.insert(key.to_owned(), located.origin());
    }

    pub(super) fn warn<T>(&mut self, at: &Located<T>, text: &str) {
        let warning = format!("{}:{}: {text}", at.path.display(), at.line);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// `[collector]` with the table of one dialect laid over it.
pub(super) struct Overrides<'a> {
    pub(super) queue: Queue,
    pub(super) fragments: &'a Fragments,
}

impl<'a> Overrides<'a> {
    /// The value that counts, with the key that sets it.
    pub(super) fn pick<T>(
        &self,
        key: &str,
        field: impl Fn(&CollectorFragment) -> &Option<Located<T>>,
    ) -> Option<(String, &'a Located<T>)> {
        let special = match self.queue {
            Queue::Oc3 => &self.fragments.oc3,
            Queue::Rpc => &self.fragments.rpc,
        };
        let special = field(special).as_ref().map(|value| (format!("collector.{}.{key}", self.queue), value));
        special.or_else(|| field(&self.fragments.collector).as_ref().map(|value| (format!("collector.{key}"), value)))
    }

    pub(super) fn value<T: Clone>(
        &self,
        key: &str,
        field: impl Fn(&CollectorFragment) -> &Option<Located<T>>,
        default: T,
        notes: &mut Notes,
    ) -> T {
        let picked = self.pick(key, field).map(|(_, value)| value);
        notes.value(&format!("collector.{}.{key}", self.queue), picked, default)
    }

    /// A file that must be readable, if one is named.
    pub(super) fn file(
        &self,
        key: &str,
        field: impl Fn(&CollectorFragment) -> &Option<Located<PathBuf>>,
        notes: &mut Notes,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let Some((set_by, file)) = self.pick(key, field) else {
            return Ok(None);
        };
        readable(&file.value).map_err(|source| ConfigError::Unusable {
            path: file.path.to_path_buf(),
            line: file.line,
            key: set_by,
            file: file.value.clone(),
            source,
        })?;
        notes.origin(&format!("collector.{}.{key}", self.queue), file);
        Ok(Some(file.value.clone()))
    }

    pub(super) fn client_identity(&self, notes: &mut Notes) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        let picked = (self.pick("client_cert", |f| &f.client_cert), self.pick("client_key", |f| &f.client_key));
        match picked {
            (Some((key, cert)), None) => Err(cert.error(key, "client_key is missing beside it")),
            (None, Some((key, located))) => Err(located.error(key, "client_cert is missing beside it")),
            _ => {
                let cert = self.file("client_cert", |f| &f.client_cert, notes)?;
                Ok(cert.zip(self.file("client_key", |f| &f.client_key, notes)?))
            }
        }
    }
}

fn readable(path: &Path) -> io::Result<()> {
    // looked at before it is opened: opening a pipe would wait for a writer
    if std::fs::metadata(path)?.is_file() {
        File::open(path).map(drop)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}
