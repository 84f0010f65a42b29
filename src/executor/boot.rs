//! Which boot of this machine it is. What a crash of a process leaves in the page cache is intact in the same boot, and
//! proves nothing in another.

use std::env;
use std::fs;
use std::io;

/// The service manager tells it so (`%b` in the unit). In a container of systemd-nspawn the kernel's own file is hidden
/// behind one of the container's, and a unit with `ProtectKernelTunables=` would see through to the host's: the handler and
/// a person would disagree about the boot.
const VARIABLE: &str = "OPENSVC_ACTIONS_BOOT_ID";

/// Reads the id of this boot.
///
/// # Errors
/// When `/proc` is not there.
pub fn id() -> io::Result<String> {
    if let Some(id) = env::var(VARIABLE).ok().and_then(|text| with_dashes(&text)) {
        return Ok(id);
    }
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The manager writes 32 hexadecimal digits, the kernel puts dashes between them.
fn with_dashes(text: &str) -> Option<String> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managers_form_becomes_the_kernels() {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(with_dashes(&id.trim().replace('-', "")).as_deref(), Some(id.trim()));
        for other in ["", "%b", "6eea8d270479421c845546d2c043b91", "6eea8d270479421c845546d2c043b91é"] {
            assert_eq!(with_dashes(other), None);
        }
    }
}
