//! The executables that are measured: those of the profile that this one was built in.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

/// Where they are.
pub(crate) struct Programs {
    pub(crate) handler: PathBuf,
    pub(crate) collector: PathBuf,
    /// Where plots go.
    pub(crate) target: PathBuf,
}

impl Programs {
    /// Those in a directory.
    pub(crate) fn given(directory: &Path) -> Result<Self, Failure> {
        let (_, target) = places()?;
        let directory = directory.canonicalize()?;
        Ok(Self {
            handler: directory.join("opensvc-actions"),
            collector: directory.join("opensvc-actions-collector"),
            target,
        })
    }

    /// Builds them: cargo does not build the executables of another package for a bench.
    pub(crate) fn build() -> Result<Self, Failure> {
        let (profile, target) = places()?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([
            "build",
            "--quiet",
            "--locked",
            "--bins",
            "-p",
            "opensvc-actions",
            "-p",
            "opensvc-actions-collector",
        ]);
        cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        cargo.arg("--target-dir").arg(&target);
        if profile.ends_with("release") {
            cargo.arg("--release");
        } else {
            println!("Not a release build: its figures say nothing.");
        }
        if !cargo.status()?.success() {
            return Err("the executables could not be built".into());
        }
        Ok(Self {
            handler: profile.join("opensvc-actions"),
            collector: profile.join("opensvc-actions-collector"),
            target,
        })
    }
}

/// Cargo's directory of the profile that this executable was built in, and the one above.
fn places() -> Result<(PathBuf, PathBuf), Failure> {
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::parent).ok_or("this executable is in no directory of cargo's")?;
    let target = profile.parent().ok_or("the root is no directory of cargo's")?;
    Ok((profile.to_owned(), target.to_owned()))
}
