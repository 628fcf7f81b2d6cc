//! `streamline health`: queries the health endpoints over HTTP, for container images without curl.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::CliError;
use super::output::{OutputFormat, print, print_json};
use super::serve;
use crate::config::{Layers, ListenAddr, Origin, load};
use crate::fs::Fs;
use crate::server::{DataDir, RunFile};

/// Upper bound on a health response, in bytes.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  streamline health --live                      for a Dockerfile's HEALTHCHECK
  streamline health --ready --url http://streamline.example:9094
  streamline health --data-dir /var/lib/streamline --output json

Without --url, the server's address is read from the data directory's run.json or from http_addr. With --data-dir, the
check fails unless the server that answers owns that directory.")]
pub struct Health {
    /// Check liveness (a failure means: restart the process)
    #[arg(long, conflicts_with = "ready")]
    live: bool,

    /// Check readiness to accept requests
    #[arg(long)]
    ready: bool,

    /// HTTP address of the server, such as http://127.0.0.1:9094
    #[arg(long)]
    url: Option<String>,

    /// Data directory of the server; its run.json has the HTTP address
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,

    /// Settings file of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Timeout of the whole check, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    timeout_ms: u64,
}

pub fn run(args: Health, format: OutputFormat) -> Result<ExitCode, CliError> {
    let path = match (args.live, args.ready) {
        (true, _) => "/health/live",
        (_, true) => "/health/ready",
        _ => "/health",
    };
    let Target {
        authority,
        owner_of,
    } = args.target()?;
    let url = format!("http://{authority}{path}");
    let timeout = Duration::from_millis(args.timeout_ms);
    let asked = match &owner_of {
        Some(dir) => check_owner(&authority, dir, timeout),
        None => Ok(()),
    };
    let asked = asked.and_then(|()| get(&authority, path, timeout));
    let (status, body) = match asked {
        Ok((status, body)) => (Some(status), body),
        Err(error) => (None, error.to_string()),
    };
    let healthy = status == Some(200);
    match format {
        OutputFormat::Json => print_json(&json!({
            "healthy": healthy,
            "url": url,
            "status": status,
            // The response body, or the reason why there is none.
            "detail": serde_json::from_str(&body).unwrap_or(Value::String(body)),
        }))?,
        OutputFormat::Text => {
            let verdict = if healthy { "healthy" } else { "unhealthy" };
            print(&format!("{verdict}: {url}: {}\n", body.trim()))?;
        }
    }
    Ok(ExitCode::from(u8::from(!healthy)))
}

/// Server to query.
struct Target {
    /// Host and port.
    authority: String,
    /// Data directory that the answering server must own.
    owner_of: Option<PathBuf>,
}

impl From<String> for Target {
    fn from(authority: String) -> Self {
        Target {
            authority,
            owner_of: None,
        }
    }
}

impl Health {
    fn target(&self) -> Result<Target, CliError> {
        if let Some(url) = &self.url {
            let rest = url.strip_prefix("http://").unwrap_or(url);
            let authority = rest.trim_end_matches('/');
            if authority.is_empty() || authority.contains('/') {
                return Err(CliError::Usage(format!(
                    "--url {url:?} is not allowed; allowed: http://host:port"
                )));
            }
            return Ok(authority.to_string().into());
        }
        let mut flags = Vec::new();
        if let Some(dir) = &self.data_dir {
            flags.push(("data_dir".to_string(), dir.display().to_string()));
        }
        let loaded = load(Layers {
            file: serve::file(&self.config),
            environment: serve::environment(),
            flags,
        })
        .map_err(serve::rejected)?;
        let http_addr = &loaded.config.http_addr;
        let is_default = loaded
            .effective
            .iter()
            .any(|each| each.setting.name == "http_addr" && each.origin == Origin::Default);
        if is_default || http_addr.port == 0 {
            match RunFile::read(&loaded.config.data_dir) {
                Ok(run_file) => return Ok(reachable(run_file.http_addr).to_string().into()),
                Err(error) if http_addr.port == 0 => {
                    return Err(CliError::Usage(error.to_string()));
                }
                Err(_) => {}
            }
        }
        Ok(Target {
            authority: match http_addr {
                ListenAddr { host: None, port } => format!("127.0.0.1:{port}"),
                named => named.to_string(),
            },
            owner_of: self.data_dir.clone(),
        })
    }
}

/// Fails unless the server at `authority` owns this data directory. Compares with the pid in the lock file, since a server
/// that is still recovering has locked the directory but not written run.json yet.
fn check_owner(authority: &str, data_dir: &Path, timeout: Duration) -> io::Result<()> {
    let (_, info) = get(authority, "/info", timeout)?;
    let info: Value = serde_json::from_str(&info).unwrap_or_default();
    let holder = DataDir::last_holder(&Fs::new(), data_dir);
    if holder.is_none() || info["pid"].as_u64() != holder.map(u64::from) {
        let dir = data_dir.display();
        return Err(io::Error::other(format!(
            "no server is running on {dir}; the one at {authority} uses another data directory"
        )));
    }
    Ok(())
}

/// Turns a listen address into one to connect to: the unspecified address becomes loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()))
    } else {
        addr
    }
}

/// Sends a GET request and returns status and body, all within `timeout`.
fn get(authority: &str, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::other("the host name does not resolve to any address");
    for addr in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, left(deadline)?) {
            Ok(stream) => return get_over(stream, authority, path, deadline),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn get_over(
    mut stream: TcpStream,
    authority: &str,
    path: &str,
    deadline: Instant,
) -> io::Result<(u16, String)> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: streamline-health\r\nConnection: close\r\n\r\n"
    );
    // In one write: a server that does not speak HTTP closes the connection at the first bytes.
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => response.extend_from_slice(&chunk[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(not_http()),
            Err(error) => return Err(error),
        }
        if response.len() as u64 > RESPONSE_BYTES_MAX {
            return Err(io::Error::other(
                "the response is too long for a health endpoint",
            ));
        }
    }
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| head.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(not_http)?;
    Ok((status, body.to_string()))
}

fn not_http() -> io::Error {
    io::Error::other("the server at this address does not speak HTTP; use the address of http_addr")
}

/// Time left until `deadline`; an error instead of zero, which sockets reject as a timeout.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(response: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Read the whole request: closing with unread bytes would reset the connection and lose the response.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(response).unwrap();
        });
        authority
    }

    #[test]
    fn status_and_body_are_parsed() {
        let authority = answering(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n{\"a\":1}");
        let (status, body) = get(&authority, "/health", Duration::from_secs(5)).unwrap();
        assert_eq!((status, body.as_str()), (503, "{\"a\":1}"));
    }

    #[test]
    fn non_http_server_is_reported() {
        let authority = answering(b"\x00\x00\x00\x04nope");
        let error = get(&authority, "/health", Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("does not speak HTTP"), "{error}");
    }

    #[test]
    fn unresponsive_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let started = Instant::now();
        let error = get(&authority, "/health", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
