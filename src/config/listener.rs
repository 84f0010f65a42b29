//! The port on which a collector notifies this node.

use super::assembly::Sources;
use super::overrides::Notes;

/// Where the agents of 1.x and 2.x listen unless `[listener] port` says otherwise, and what a collector assumes of a node
/// that never told it.
pub const PORT: u16 = 1214;

impl Sources<'_> {
    /// `listener.port`. It is looked at and not listened on: a value that is no port is worth a warning, and no more.
    pub(super) fn listener_port(&self, notes: &mut Notes) -> u16 {
        let Some(keyword) = self.keywords.merged_v3.get("listener", "port") else { return PORT };
        match keyword.value.trim().parse() {
            Ok(0) | Err(_) if keyword.value.trim().is_empty() => PORT,
            Ok(0) | Err(_) => {
                let text =
                    format!("listener.port: {:?} is not a number from 1 to 65535; {PORT} is assumed", keyword.value);
                notes.warn(keyword, &text);
                PORT
            }
            Ok(port) => port,
        }
    }
}
