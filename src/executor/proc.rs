//! Small files of `/proc`, each in one go: the kernel gives as much as there is room for.

use std::fs::File;
use std::io::{self, Read as _};

/// The first `room` bytes of a file, as text; what is no text is replaced.
pub(super) fn read(path: &str, room: usize) -> io::Result<String> {
    let mut buffer = vec![0; room];
    let length = File::open(path)?.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
