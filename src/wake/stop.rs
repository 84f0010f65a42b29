//! Being told to stop.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long the exchange in hand may still take when the process has to go: it promised to be gone within 5 seconds.
const GRACE: Duration = Duration::from_secs(4);

/// How urgent it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Nobody wants us to stop.
    #[default]
    None,
    /// Start nothing new, and see what runs to its end: SIGINT.
    AfterThis,
    /// Leave now what runs: SIGTERM, SIGHUP, a second SIGINT.
    Now,
}

/// Whether this process was told to stop, shared between the one who hears signals and the one who works.
#[derive(Debug, Default)]
pub struct Stop {
    urgency: Cell<Urgency>,
    raised: Notify,
    waits: Cell<bool>,
}

impl Stop {
    /// Hears signals for ever.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub async fn hear_signals(&self) -> io::Result<Infallible> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => self.raise(Urgency::Now),
                _ = hang_up.recv() => self.raise(Urgency::Now),
                _ = interrupt.recv() => match self.urgency.get() {
                    Urgency::None => {
                        if self.waits.get() {
                            tracing::info!("not waiting any longer; the other handler goes on");
                        } else {
                            tracing::info!(
                                "finishing what runs and starting nothing more; interrupt again to leave it running"
                            );
                        }
                        self.raise(Urgency::AfterThis);
                    }
                    _ => self.raise(Urgency::Now),
                },
            }
        }
    }

    /// From now on this process only waits for another one, or does so no more: what an interrupt does is said so.
    pub fn set_waits(&self, waits: bool) {
        self.waits.set(waits);
    }

    fn raise(&self, urgency: Urgency) {
        self.urgency.set(self.urgency.get().max(urgency));
        self.raised.notify_waiters();
    }

    /// Whether nothing new may be started.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.urgency.get() > Urgency::None
    }

    /// Whether what runs has to be left.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.urgency.get() >= Urgency::Now
    }

    /// Waits until nothing new may be started.
    pub async fn asked(&self) {
        self.at_least(Urgency::AfterThis).await;
    }

    /// Waits until what runs has to be left.
    pub async fn now(&self) {
        self.at_least(Urgency::Now).await;
    }

    /// Waits until the process has to be gone, whatever it still does.
    pub async fn too_late(&self) {
        self.now().await;
        sleep(GRACE).await;
    }

    async fn at_least(&self, urgency: Urgency) {
        loop {
            let raised = self.raised.notified();
            if self.urgency.get() >= urgency {
                return;
            }
            raised.await;
        }
    }
}
