//! `streamline health`: queries the health endpoints over HTTP, for container images without curl.

use std::error::Error;
use std::io;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::body::{self, Body};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::CliError;
use super::output::{OutputFormat, print, print_json};
use super::serve;
use crate::config::{Layers, ListenAddr, Origin, load};
use crate::fs::Fs;
use crate::server::{DataDir, RunFile};

/// Upper bound on a health response, in bytes.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

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

pub async fn run(args: Health, format: OutputFormat) -> Result<ExitCode, CliError> {
    let path = match (args.live, args.ready) {
        (true, _) => "/health/live",
        (_, true) => "/health/ready",
        _ => "/health",
    };
    let target = args.target()?;
    let url = format!("http://{}{path}", target.authority);
    let limit = Duration::from_millis(args.timeout_ms);
    let (status, body) = match target.check(path, limit).await {
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

impl Target {
    /// Sends a GET request, if the server owns its directory, and returns status and body, all within `limit`.
    async fn check(&self, path: &str, limit: Duration) -> io::Result<(u16, String)> {
        let check = async {
            if let Some(dir) = &self.owner_of {
                check_owner(&self.authority, dir).await?;
            }
            get(&self.authority, path).await
        };
        let timed_out = |_| Err(io::ErrorKind::TimedOut.into());
        timeout(limit, check).await.unwrap_or_else(timed_out)
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
            match RunFile::read(&Fs::new(), &loaded.config.data_dir) {
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
async fn check_owner(authority: &str, data_dir: &Path) -> io::Result<()> {
    let (_, info) = get(authority, "/info").await?;
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

/// Sends a GET request and returns status and body.
async fn get(authority: &str, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect(authority).await?;
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, "streamline-health")
        .header(CONNECTION, "close")
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error))?;
    // The response reports its errors, too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    let content = body::to_bytes(Body::new(response.into_body()), RESPONSE_BYTES_MAX).await;
    let content = content.map_err(|error| failure(&error))?;
    Ok((status, String::from_utf8_lossy(&content).into_owned()))
}

/// Reduces an error of the HTTP client to its cause.
fn failure(error: &(dyn Error + 'static)) -> io::Error {
    let causes = || iter::successors(Some(error), |cause| (**cause).source());
    if let Some(cause) = causes().find_map(|cause| cause.downcast_ref::<io::Error>())
        // Servers of other protocols reset the connection when they receive HTTP.
        && cause.kind() != io::ErrorKind::ConnectionReset
    {
        return io::Error::new(cause.kind(), cause.to_string());
    }
    io::Error::other(if causes().any(|cause| cause.is::<hyper::Error>()) {
        "the server at this address does not speak HTTP; use the address of http_addr"
    } else {
        "the response is too long for a health endpoint"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    fn answering(response: impl Into<Vec<u8>>) -> String {
        let response = response.into();
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
            // The client may have closed the connection already.
            let _ = stream.write_all(&response);
        });
        authority
    }

    #[tokio::test]
    async fn status_and_body_are_parsed() {
        let authority = answering(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n{\"a\":1}");
        let (status, body) = get(&authority, "/health").await.unwrap();
        assert_eq!((status, body.as_str()), (503, "{\"a\":1}"));
    }

    #[tokio::test]
    async fn non_http_server_is_reported() {
        for response in ["", "\0\0\0\x04nope"] {
            let authority = answering(response);
            let answer = get(&authority, "/health").await;
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("does not speak HTTP"), "{error}");
        }
    }

    #[tokio::test]
    async fn overlong_response_is_rejected() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let authority = answering([head, vec![b' '; RESPONSE_BYTES_MAX + 1]].concat());
        let answer = get(&authority, "/health").await;
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }

    #[tokio::test]
    async fn unreachable_server_is_reported_with_the_systems_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        drop(listener);
        let answer = get(&authority, "/health").await;
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "Connection refused (os error 111)");
    }

    /// Answers each request with this body, after a delay.
    fn answering_slowly(body: String, delay: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::sleep(delay);
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes());
            }
        });
        authority
    }

    async fn assert_times_out(target: Target, limit: Duration) {
        let started = Instant::now();
        let error = target.check("/health", limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn unresponsive_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        assert_times_out(authority.into(), Duration::from_millis(200)).await;
    }

    #[tokio::test]
    async fn requests_of_one_check_share_its_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let _taken = DataDir::take(&Fs::new(), dir.path()).unwrap();
        let info = format!("{{\"pid\":{}}}", std::process::id());
        let delay = Duration::from_millis(600);
        let target = Target {
            authority: answering_slowly(info, delay),
            owner_of: Some(dir.path().to_path_buf()),
        };
        assert_times_out(target, delay * 3 / 2).await;
    }
}
