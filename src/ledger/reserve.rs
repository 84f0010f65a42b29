//! The reserve: a file that holds some room on the disk. It is given up when there is no other room left, so that what
//! was fetched can be recorded, and an action that frees the disk can run. Without it nothing is fetched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

/// Enough for a hundred results of usual size, or eight of the largest.
const SIZE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn of(state: &Path) -> Self {
        Self { path: state.join("reserve") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sees to it that it is there, if there is room for it and as much again.
    pub(super) fn hold(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == SIZE) {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        fill(&file).inspect_err(|_| drop(fs::remove_file(&self.path)))
    }

    /// Makes its room available. Tells whether it was there.
    pub(super) fn give_up(&self) -> bool {
        let given_up = fs::remove_file(&self.path).is_ok();
        if given_up {
            tracing::warn!("the disk is full: {} is given up", self.path.display());
        }
        given_up
    }
}

fn fill(file: &File) -> io::Result<()> {
    let volume = fstatvfs(file)?;
    if volume.f_bfree.saturating_mul(volume.f_frsize) < 2 * SIZE {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match fallocate(file, FallocateFlags::empty(), 0, SIZE) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::Read::take(io::repeat(1), SIZE), &mut &*file).map(drop)
        }
        Err(errno) => Err(errno.into()),
    }
}
