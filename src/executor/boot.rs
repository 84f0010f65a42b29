//! Which boot of this machine it is. What a crash of a process leaves in the page cache is intact in the same boot, and
//! proves nothing in another.

use std::fs;
use std::io;

/// Reads the kernel's id of this boot.
///
/// # Errors
/// When `/proc` is not there.
pub fn id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
