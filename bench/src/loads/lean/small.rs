//! Small requests: produce or fetch of one record of 100 bytes.

use anyhow::Result;

use super::Connection;
use super::frames::{Fetch, FetchLimits, Produce, batch};
use crate::context::Context;

pub struct SmallRequests {
    topic: String,
    produce: Produce,
    fetch: Vec<u8>,
}

impl SmallRequests {
    pub fn new(context: &Context) -> Result<SmallRequests> {
        let topic = context.topic();
        let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
        let limits = FetchLimits {
            max_wait_ms: 1_000,
            max_bytes: 1,
        };
        let fetch = Fetch::new(&topic, 0, limits)?.at(0).to_vec();
        Ok(SmallRequests {
            topic,
            produce,
            fetch,
        })
    }

    /// Returns a Produce with acks=1.
    pub fn produce(&self) -> &[u8] {
        &self.produce.frame
    }

    /// Returns a Fetch of the batch of [`SmallRequests::prepare`].
    pub fn fetch(&self) -> &[u8] {
        &self.fetch
    }

    /// Prepares a server for both.
    pub fn prepare(&self, connection: &mut Connection) -> Result<()> {
        connection.create_topic(&self.topic, 1, &[])?;
        connection.send(&self.produce.frame)?;
        self.produce.check(connection.receive()?)?;
        Ok(())
    }
}

/// Sends a request repeatedly, each after the response to the last.
pub fn repeat(connection: &mut Connection, frame: &[u8], times: u64) -> Result<()> {
    for _ in 0..times {
        connection.send(frame)?;
        connection.receive()?;
    }
    Ok(())
}
