//! Refused connections that are closed only after a pause, so that a client which connects again at once is held up.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Largest number of connections that are held open; further ones are closed at once, since each takes a descriptor.
const HELD_MAX: usize = 1000;

/// Connections that wait to be closed.
pub struct DelayedCloses {
    permits: Arc<Semaphore>,
}

impl Default for DelayedCloses {
    fn default() -> Self {
        DelayedCloses {
            permits: Arc::new(Semaphore::new(HELD_MAX)),
        }
    }
}

impl DelayedCloses {
    /// Closes a connection after a pause.
    pub fn close(&self, stream: TcpStream, pause: Duration) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop((stream, permit));
        });
    }
}
