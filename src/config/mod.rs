//! Where settings come from: OpenSVC's own files and `actions.toml`.
