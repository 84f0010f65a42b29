//! Against python3's own libraries, which the 2.x agent is built on.

mod node_conf;
