//! What the service manager says about units, for whoever examines the node. It is only asked.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::timeout;

use super::bus::{Bus, CallError, Connection};
use super::message::{Call, Writer};
use super::systemd;

/// All that is asked at once takes a few milliseconds.
const WITHIN: Duration = Duration::from_secs(10);

/// A unit, in the manager's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `LoadState`: loaded, not-found, masked, …
    pub load: String,
    /// `ActiveState`: active, inactive, failed, …
    pub active: String,
    /// `UnitFileState`: enabled, disabled, static, …
    pub file: String,
    /// How it ended last, `success` or another word; only of sockets and services.
    pub result: String,
    /// Its files have changed since the manager read them.
    pub needs_reload: bool,
}

/// Whether the machine was booted with systemd.
#[must_use]
pub fn is_booted() -> bool {
    systemd::is_booted()
}

/// Asks for the states of units, in their order.
///
/// # Errors
/// When the manager cannot be asked.
pub async fn states<const N: usize>(names: [&str; N]) -> io::Result<[UnitState; N]> {
    let ask = async {
        let mut connection = Bus::default().open().await?;
        let mut states = [const { None }; N];
        for (state, name) in states.iter_mut().zip(names) {
            *state = Some(state_of(&mut connection, name).await?);
        }
        Ok(states.map(Option::unwrap_or_default))
    };
    match timeout(WITHIN, ask).await {
        Ok(answer) => answer.map_err(|err: CallError| io::Error::other(err)),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

async fn state_of(connection: &mut Connection, name: &str) -> Result<UnitState, CallError> {
    const UNIT: &str = "org.freedesktop.systemd1.Unit";
    let path = path_of(name);
    let own = match name.rsplit('.').next() {
        Some("socket") => "org.freedesktop.systemd1.Socket",
        Some("service") => "org.freedesktop.systemd1.Service",
        _ => "",
    };
    let mut values = [const { String::new() }; 5];
    let properties = [
        (UNIT, "LoadState"),
        (UNIT, "ActiveState"),
        (UNIT, "UnitFileState"),
        (UNIT, "NeedDaemonReload"),
        (own, "Result"),
    ];
    for (value, (interface, property)) in values.iter_mut().zip(properties) {
        if !interface.is_empty() {
            *value = get(connection, &path, interface, property).await?;
        }
    }
    let [load, active, file, needs_reload, result] = values;
    Ok(UnitState { load, active, file, result, needs_reload: needs_reload == "1" })
}

async fn get(connection: &mut Connection, path: &str, interface: &str, property: &str) -> Result<String, CallError> {
    let get = Call {
        destination: "org.freedesktop.systemd1",
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        signature: "ss",
    };
    let mut arguments = Writer::default();
    arguments.text(interface);
    arguments.text(property);
    Ok(connection.call(&get, &arguments, None).await?.unwrap_or_default())
}

/// The object of a unit: in its name everything but letters and digits is written as hexadecimal digits.
fn path_of(name: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (position, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && position > 0) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}"); // a string takes everything
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_the_objects_name_that_systemd_gives_it() {
        let expected = "/org/freedesktop/systemd1/unit/opensvc_2dactions_40_2eservice";
        assert_eq!(path_of("opensvc-actions@.service"), expected);
        assert_eq!(path_of("1.mount"), "/org/freedesktop/systemd1/unit/_31_2emount");
    }
}
