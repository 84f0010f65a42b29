//! What the black-box tests stand on: a collector that fails on request, a throw-away node with an `om` that does what
//! its words say, and a checker of the promises that hold whatever happens.
//!
//! Nothing here waits for time to pass. It waits for events, with [`DEADLINE`] only to fail.

pub(crate) mod collector;
pub(crate) mod history;
pub(crate) mod node;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod world;

use std::time::Duration;

/// A test that waits this long for an event has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);

/// The name under which the node is registered.
pub(crate) const NODE: &str = "n1.example.com";

/// The node's shared secret. It must never be seen anywhere but at the collector.
pub(crate) const UUID: &str = "6f2d0c1e-5ec4-4e7a-8b1d-0123456789ab";

/// The two ways to talk to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    /// REST to collector 3.
    Oc3,
    /// XML-RPC to 1.x/2.x collectors.
    Rpc,
}

impl Dialect {
    pub(crate) const BOTH: [Self; 2] = [Self::Oc3, Self::Rpc];

    /// Its name in settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oc3 => "oc3",
            Self::Rpc => "rpc",
        }
    }
}

/// The ways in which a node and a collector may talk. A queue is of a [`Dialect`]; the dialect of 1.x/2.x collectors is
/// spoken in several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// REST to collector 3.
    Oc3,
    /// XML-RPC, with rows that are sent, then acknowledged.
    RpcXml,
    /// XML-RPC to a collector of before 2021: what is sent counts as acknowledged.
    RpcXmlV1,
    /// JSON-RPC 2.
    RpcJson,
}

impl Wire {
    #[allow(dead_code, reason = "not every test binary speaks them all")]
    pub(crate) const ALL: [Self; 4] = [Self::Oc3, Self::RpcXml, Self::RpcXmlV1, Self::RpcJson];

    /// Its name in scenarios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oc3 => "oc3",
            Self::RpcXml => "xml",
            Self::RpcXmlV1 => "v1",
            Self::RpcJson => "json",
        }
    }

    /// Whose queue it serves.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Oc3 => Dialect::Oc3,
            Self::RpcXml | Self::RpcXmlV1 | Self::RpcJson => Dialect::Rpc,
        }
    }
}

impl From<Dialect> for Wire {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Oc3 => Self::Oc3,
            Dialect::Rpc => Self::RpcXml,
        }
    }
}

/// Base64, as HTTP Basic wants it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        for position in 0..4 {
            let sextet = (group >> (18 - 6 * position) & 0x3f) as usize;
            text.push(if position <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// Makes two tests of a function, one for each dialect: `both!(name);` before `fn name(dialect: Dialect)`.
macro_rules! both {
    ($(#[$meta:meta])? $name:ident) => {
        mod $name {
            $(#[$meta])?
            #[test]
            fn oc3() {
                super::$name($crate::support::Dialect::Oc3);
            }

            $(#[$meta])?
            #[test]
            fn rpc() {
                super::$name($crate::support::Dialect::Rpc);
            }
        }
    };
}
pub(crate) use both;

/// Makes four tests of a function, one for each wire: `over_each_wire!(name);` before `fn name(wire: Wire)`.
#[allow(unused_macros, reason = "not every test binary speaks them all")]
macro_rules! over_each_wire {
    ($(#[$meta:meta])? $name:ident) => {
        mod $name {
            $(#[$meta])?
            #[test]
            fn oc3() {
                super::$name($crate::support::Wire::Oc3);
            }

            $(#[$meta])?
            #[test]
            fn xml() {
                super::$name($crate::support::Wire::RpcXml);
            }

            $(#[$meta])?
            #[test]
            fn v1() {
                super::$name($crate::support::Wire::RpcXmlV1);
            }

            $(#[$meta])?
            #[test]
            fn json() {
                super::$name($crate::support::Wire::RpcJson);
            }
        }
    };
}
#[allow(unused_imports, reason = "not every test binary speaks them all")]
pub(crate) use over_each_wire;
