//! The smallest requests that do something: one record of 100 bytes there, or back.

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

    /// With acks=1.
    pub fn produce(&self) -> &[u8] {
        &self.produce.frame
    }

    /// Answered with the one batch of [`SmallRequests::prepare`].
    pub fn fetch(&self) -> &[u8] {
        &self.fetch
    }

    /// Makes a server ready for both.
    pub fn prepare(&self, connection: &mut Connection) -> Result<()> {
        connection.create_topic(&self.topic, 1, &[])?;
        connection.send(&self.produce.frame)?;
        self.produce.check(connection.receive()?)?;
        Ok(())
    }
}

/// Sends one of them so many times, each after the answer to the last.
pub fn repeat(connection: &mut Connection, frame: &[u8], times: u64) -> Result<()> {
    for _ in 0..times {
        connection.send(frame)?;
        connection.receive()?;
    }
    Ok(())
}
