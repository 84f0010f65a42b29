//! Telling systemd how this service is doing. Without systemd (no `NOTIFY_SOCKET`) nothing happens.

use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;

/// The service manager that `NOTIFY_SOCKET` names is not ours.
static MUTE: AtomicBool = AtomicBool::new(false);

/// Says nothing from here on: inetd may itself be a service of systemd, whose variables its children inherit.
pub fn mute() {
    MUTE.store(true, Ordering::Relaxed);
}

/// The service is up. A service of `Type=notify` that ends without having said so has failed, even with status 0:
/// this is the first thing after the arguments, on every path.
pub fn ready() {
    notify(&NotifyState::Ready);
}

/// What `systemctl status` shows beside "Status:".
pub fn status(text: &str) {
    notify(&NotifyState::Status(text));
}

/// The service is about to end.
pub fn stopping() {
    notify(&NotifyState::Stopping);
}

fn notify(state: &NotifyState<'_>) {
    if MUTE.load(Ordering::Relaxed) {
        return;
    }
    if let Err(err) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!("cannot notify the service manager: {err}");
    }
}
