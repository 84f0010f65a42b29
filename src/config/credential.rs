//! The node's uuid: what it must be, and where systemd puts it.
//!
//! With `LoadCredential=opensvc-uuid:FILE` in its unit, the service manager copies the file into a directory that only
//! this service sees, and names the directory in `CREDENTIALS_DIRECTORY` (systemd.exec(5)). Then `node.conf` need not
//! hold the secret.

use std::path::Path;
use std::sync::Arc;

use super::keywords::Located;
use super::{ConfigError, Secret, source};

/// The credential's name.
const NAME: &str = "opensvc-uuid";

/// Collectors make uuids of 36 characters. What is much longer is another file.
const LONGEST: usize = 1024;

/// The uuid that the service manager handed over, if it did.
///
/// The file is one line, perhaps with its end. It counts before `node.conf`, and one that is there and of no use is an
/// error: whoever set it up means it.
pub(super) fn uuid(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Located<Secret>>, ConfigError> {
    let Some(directory) = env("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(&directory).join(NAME);
    let Some(text) = source::read_if_exists(&path)? else {
        return Ok(None);
    };
    let text = Secret::from(text);
    let line = text.expose();
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    let place = Located { value: Secret::new(line), path: Arc::from(path), line: 1 };
    checked(place, NAME).map(Some)
}

/// The uuid if it can be one. An error does not quote it.
pub(super) fn checked(uuid: Located<Secret>, key: &str) -> Result<Located<Secret>, ConfigError> {
    let text = uuid.value.expose();
    if text.is_empty() {
        Err(uuid.error(key, "it is empty"))
    } else if text.len() > LONGEST {
        Err(uuid.error(key, format!("it is longer than {LONGEST} bytes")))
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err(uuid.error(key, "it holds a blank or a control character"))
    } else {
        Ok(uuid)
    }
}
