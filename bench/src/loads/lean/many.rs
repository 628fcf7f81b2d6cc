//! Many connections, each with one request in flight: the next is sent after the response to the last.
//!
//! One thread drives all of them, which leaves the other processors to the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::Produce;
use super::latency::{new_histogram, record};

/// Result of a run.
#[derive(Debug, Clone)]
pub struct Answered {
    pub requests: u64,
    pub elapsed: Duration,
    /// Latency of each request, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Answered {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends `produce` on many connections for some time. `checked` is false for an echo, whose responses have no error code.
pub fn closed_loop(
    address: SocketAddr,
    produce: &Produce,
    connections: usize,
    time: Duration,
    checked: bool,
) -> Result<Answered> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await.context("connect")?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let began = Instant::now();
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let produce = produce.clone();
                tokio::task::spawn_local(one(stream, produce, began + time, checked))
            })
            .collect();
        let mut latency = new_histogram();
        for task in tasks {
            latency.add(task.await.context("a connection's task")??)?;
        }
        Ok(Answered {
            requests: latency.len(),
            elapsed: began.elapsed(),
            latency,
        })
    }))
}

async fn one(
    mut stream: TcpStream,
    produce: Produce,
    until: Instant,
    checked: bool,
) -> Result<Histogram<u64>> {
    let mut latency = new_histogram();
    let mut answer = vec![0; 4096];
    let mut now = Instant::now();
    while now < until {
        stream.write_all(&produce.frame).await?;
        let length = read_answer(&mut stream, &mut answer).await?;
        if checked {
            produce.check(&answer[4..length])?;
        }
        let then = Instant::now();
        record(&mut latency, then - now);
        now = then;
    }
    Ok(latency)
}

/// Reads a response with its length prefix, and returns its length. At most one is in flight.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<usize> {
    let mut held = 0;
    loop {
        let read = stream.read(&mut answer[held..]).await?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        held += read;
        if let Some(prefix) = answer[..held].first_chunk::<4>() {
            let length = 4 + u32::from_be_bytes(*prefix) as usize;
            if held == length {
                return Ok(length);
            }
            if answer.len() < length {
                answer.resize(length, 0);
            }
        }
    }
}
