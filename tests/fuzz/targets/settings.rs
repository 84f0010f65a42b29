//! `actions.toml`: a mistake is one bounded line, and what is shown of what was read holds no secret.

#![no_main]

#[allow(dead_code, reason = "only its bound on lines")]
mod batch;

use std::cell::RefCell;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use opensvc_actions::config::{Paths, Settings};

const UUID: &str = "6f2d0c1e-5ec4-4e7a-8b1d-0123456789ab";

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// A directory that goes with the process.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place = Self(std::env::temp_dir().join(format!("opensvc-actions-fuzz-{}", std::process::id())));
        DirBuilder::new().mode(0o700).recursive(true).create(place.0.join("etc")).expect("a directory");
        let conf = format!("[node]\ncollector = https://c.example.com\nuuid = {UUID}\n");
        fs::write(place.0.join("etc/node.conf"), conf).expect("node.conf");
        // Without this nothing below could ever be read.
        place.load("[collector]\nconnect_timeout = \"7s\"\n").expect("good settings, owned by root");
        place
    }

    fn load(&self, text: &str) -> Result<Settings, opensvc_actions::config::ConfigError> {
        fs::write(self.0.join("etc/actions.toml"), text).expect("actions.toml");
        let paths = Paths::resolve(Some(&self.0), &|_| None);
        Settings::load(&paths, None, "n1.example.com", &|_| None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fuzz_target!(|text: &str| {
    PLACE.with_borrow_mut(|place| match place.get_or_insert_with(Place::new).load(text) {
        Err(error) => batch::line(&error.to_string()),
        Ok(settings) => {
            for line in settings.explain() {
                assert!(!line.value.contains(UUID), "{}: {:?}", line.key, line.value);
            }
        }
    });
});
