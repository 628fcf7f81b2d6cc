//! `streamline health`: asks a server how it is over HTTP, for container checks that have no curl.

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
use crate::server::{DataDir, RunFile};

/// Nothing that an endpoint of health answers is longer.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  streamline health --live                      in a Dockerfile's HEALTHCHECK
  streamline health --ready --url http://streamline.example:9094
  streamline health --data-dir /var/lib/streamline --output json

Without --url the server asked is the one of the data directory, or the one that http_addr names. With --data-dir, no
other than the one of that directory is believed.")]
pub struct Health {
    /// Ask whether the process should be left alone
    #[arg(long, conflicts_with = "ready")]
    live: bool,

    /// Ask whether it takes work
    #[arg(long)]
    ready: bool,

    /// Where the server's HTTP is, such as http://127.0.0.1:9094
    #[arg(long)]
    url: Option<String>,

    /// The server's data directory, whose run.json says where it listens
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,

    /// The server's settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How long to wait for the answer
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
    let patience = Duration::from_millis(args.timeout_ms);
    let asked = match &owner_of {
        Some(dir) => check_owner(&authority, dir, patience),
        None => Ok(()),
    };
    let asked = asked.and_then(|()| ask(&authority, path, patience));
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
            // What the server said, or why nothing was heard.
            "detail": serde_json::from_str(&body).unwrap_or(Value::String(body)),
        }))?,
        OutputFormat::Text => {
            let verdict = if healthy { "healthy" } else { "unhealthy" };
            print(&format!("{verdict}: {url}: {}\n", body.trim()))?;
        }
    }
    Ok(ExitCode::from(u8::from(!healthy)))
}

/// Whom to ask.
struct Target {
    /// Host and port.
    authority: String,
    /// The data directory whose server has to be the one that answers.
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
        .map_err(serve::refused)?;
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

/// Refuses the word of a server that is not the one of this data directory. A server that still recovers has no run.json
/// yet, but has taken its directory.
fn check_owner(authority: &str, data_dir: &Path, patience: Duration) -> io::Result<()> {
    let (_, info) = ask(authority, "/info", patience)?;
    let info: Value = serde_json::from_str(&info).unwrap_or_default();
    let holder = DataDir::last_holder(data_dir);
    if holder.is_none() || info["pid"].as_u64() != holder.map(u64::from) {
        let dir = data_dir.display();
        return Err(io::Error::other(format!(
            "no server runs on {dir}; the one at {authority} has another data directory"
        )));
    }
    Ok(())
}

/// An address to connect to for one that is listened on.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()))
    } else {
        addr
    }
}

/// One GET, within `patience` from beginning to end.
fn ask(authority: &str, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    let deadline = Instant::now() + patience;
    let mut last = io::Error::other("the address resolves to nothing");
    for addr in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, left(deadline)?) {
            Ok(stream) => return get(stream, authority, path, deadline),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn get(
    mut stream: TcpStream,
    authority: &str,
    path: &str,
    deadline: Instant,
) -> io::Result<(u16, String)> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: streamline-health\r\nConnection: close\r\n\r\n"
    );
    // All of it at once: what does not speak HTTP closes the connection at the first bytes.
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
                "the answer is too long to be one of health",
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
    io::Error::other("what is there does not speak HTTP; it should be the address of http_addr")
}

/// Time left, as a time-out: never zero, which sockets refuse.
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
            // To the end: closing with something unread would reset the connection, and the answer with it.
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
    fn the_status_and_the_body_are_read() {
        let authority = answering(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n{\"a\":1}");
        let (status, body) = ask(&authority, "/health", Duration::from_secs(5)).unwrap();
        assert_eq!((status, body.as_str()), (503, "{\"a\":1}"));
    }

    #[test]
    fn what_is_not_http_is_said_so() {
        let authority = answering(b"\x00\x00\x00\x04nope");
        let error = ask(&authority, "/health", Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("does not speak HTTP"), "{error}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let started = Instant::now();
        let error = ask(&authority, "/health", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
