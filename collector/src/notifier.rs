//! Tells nodes over TCP that pull rows wait for them, as the real runner does.
//!
//! One connection per row, 15 bytes, nothing read. A row is tried after a delay of one second and then every second,
//! until five seconds have passed; then it ends as *unreachable*, even if the node fetched it meanwhile by itself. A row
//! that was notified is never notified again, unless it is redone; one still waiting when the server stops is tried again
//! when it starts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::http::Collector;
use crate::store::{StoreError, Waiting};

/// What a node is sent.
pub const PAYLOAD: &[u8; 15] = b"dequeue_actions";

const WORKERS: u8 = 5;
const POLL: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(1);
const STEP_TIMEOUT: Duration = Duration::from_secs(1);
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Notifies until it is dropped. Rows in hand then stay as they are.
pub async fn run(collector: Arc<Collector>, first_delay: Duration) {
    let mut in_hand = HashSet::new();
    let mut workers = JoinSet::new();
    loop {
        // Whatever is in hand, as many of the oldest rows as there are workers are enough to keep them all busy.
        let waiting = collector.store().waiting(WORKERS).unwrap_or_else(|error| {
            tracing::error!("cannot look for actions to notify: {error}");
            Vec::new()
        });
        for row in waiting {
            if workers.len() < usize::from(WORKERS) && in_hand.insert(row.id) {
                let collector = collector.clone();
                workers.spawn(async move {
                    if let Err(error) = serve_row(&collector, &row, first_delay).await {
                        tracing::error!("cannot record the notification of action {}: {error}", row.id);
                        // The row still waits: not so fast.
                        sleep(RETRY).await;
                    }
                    row.id
                });
            }
        }
        tokio::select! {
            Some(Ok(id)) = workers.join_next() => {
                in_hand.remove(&id);
            }
            () = collector.waiting.notified() => {}
            () = sleep(POLL) => {}
        }
    }
}

async fn serve_row(collector: &Collector, row: &Waiting, first_delay: Duration) -> Result<(), StoreError> {
    if row.command.trim().is_empty() || row.command.contains("opensvc@localhost") {
        return collector.store().give_up(row.id, "invalid", clock::now());
    }
    let host = row.connect_to.as_deref().unwrap_or("(nowhere)");
    let start = Instant::now();
    sleep(first_delay).await;
    while start.elapsed() < GIVE_UP_AFTER {
        let attempt = Instant::now();
        match deliver(row).await {
            Ok(()) => {
                tracing::debug!("notified action {}", row.id);
                return collector.store().notified(row.id, clock::now());
            }
            Err(error) => {
                tracing::debug!("cannot notify {host} port {} of action {}: {error}", row.port, row.id);
            }
        }
        sleep_until(attempt + RETRY).await;
    }
    tracing::warn!("{host} port {} is unreachable: action {} ends", row.port, row.id);
    collector.store().give_up(row.id, "unreachable", clock::now())
}

async fn deliver(row: &Waiting) -> std::io::Result<()> {
    let host = row.connect_to.as_deref().ok_or_else(|| std::io::Error::other("it has no address"))?;
    let mut stream = timeout(STEP_TIMEOUT, TcpStream::connect((host, row.port))).await??;
    timeout(STEP_TIMEOUT, stream.write_all(PAYLOAD)).await??;
    // What counts is that the bytes were written.
    let _ = stream.shutdown().await;
    Ok(())
}
