//! A GET on a new connection, like Prometheus without keep-alive.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(120);

/// A response, and the time from connecting to its last byte.
#[derive(Debug)]
pub struct Got {
    pub text: String,
    pub elapsed: Duration,
}

impl Got {
    /// Returns the series of partitions.
    pub fn partition_series(&self) -> usize {
        self.text
            .lines()
            .filter(|line| line.contains("partition=\""))
            .count()
    }

    /// Returns the value of a counter without labels.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let value = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("no {name}"))
    }
}

pub fn get(address: SocketAddr, path: &str) -> Result<Got> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("GET {path}"))?;
    let elapsed = began.elapsed();
    let text = String::from_utf8(answer)?;
    let status = text.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "GET {path}: {status}");
    Ok(Got { text, elapsed })
}
