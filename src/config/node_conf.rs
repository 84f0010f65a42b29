//! OpenSVC's INI files: `node.conf` and `cluster.conf`.
