//! The server's binary as a child process, with ephemeral ports and a temporary directory.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use streamline::fs::Fs;
use streamline::server::RunFile;
use tempfile::TempDir;

use super::{Client, Exposition, PATIENCE, pause, until};

/// A running or stopped server.
pub struct Server {
    dir: TempDir,
    flags: Vec<String>,
    /// A program with its arguments that executes the server in its own process.
    wrapper: Vec<String>,
    child: Option<Child>,
    run_file: Option<RunFile>,
    /// Length of the log when the server was launched.
    launched_at: usize,
}

impl Server {
    /// Starts a server with default settings.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// Starts a server with additional flags.
    pub fn with(flags: &[&str]) -> Server {
        let mut server = Server::stopped(flags);
        server.restart();
        server
    }

    /// Starts a server through a program that executes it in its own process, such as `prlimit`.
    pub fn through(wrapper: &[&str], flags: &[&str]) -> Server {
        let mut server = Server::stopped(flags);
        server.set_wrapper(wrapper);
        server.restart();
        server
    }

    /// Creates a server without starting it, so that the test can prepare its data directory. [`Server::restart`] starts it.
    pub fn stopped(flags: &[&str]) -> Server {
        Server {
            dir: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            wrapper: Vec::new(),
            child: None,
            run_file: None,
            launched_at: 0,
        }
    }

    /// Starts the server on the same data, after it was stopped or killed. Returns once it accepts work.
    pub fn restart(&mut self) {
        self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.has_started() {
            assert!(
                Instant::now() < deadline,
                "the server did not start\n{}",
                self.log()
            );
            pause();
        }
    }

    /// Starts the process without waiting until it accepts work.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the server is still running");
        self.launched_at = self.log().len();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = match &self.wrapper[..] {
            [] => binary(),
            [program, arguments @ ..] => {
                let mut command = without_settings(program);
                command
                    .args(arguments)
                    .arg(env!("CARGO_BIN_EXE_streamline"));
                command
            }
        };
        let child = command
            .args(["--listen-addr", "127.0.0.1:0"])
            .args(["--http-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Returns whether a launched server accepts work. Panics if it has exited.
    pub fn has_started(&mut self) -> bool {
        let child = self.child.as_mut().expect("the server was launched");
        let pid = child.id();
        let ended = child.try_wait().unwrap();
        // The file of an earlier run exists until the new server removes it.
        self.run_file = RunFile::read(&Fs::new(), &self.data_dir())
            .ok()
            .filter(|run_file| run_file.pid == pid)
            .or_else(|| self.announced(pid));
        if let Some(status) = ended {
            panic!("the server exited at once: {status}\n{}", self.log());
        }
        self.run_file.is_some()
    }

    /// Returns what the log says of a server that has no directory for `run.json`, once it accepts work.
    fn announced(&self, pid: u32) -> Option<RunFile> {
        let log = self.log();
        let (_, log) = log[self.launched_at..].split_once("storage=\"memory\"")?;
        let field = |name: &str| {
            let (_, value) = log.split_once(name)?;
            value.split_whitespace().next()?.parse().ok()
        };
        Some(RunFile {
            listen_addr: field(" listen_addr=")?,
            http_addr: field(" http_addr=")?,
            pid,
            version: String::new(),
            cluster_id: String::new(),
            started_at_ms: 0,
            data_dir: self.data_dir(),
        })
    }

    /// Sets a program with its arguments that executes the server at later starts.
    pub fn set_wrapper(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| word.to_string()).collect();
    }

    /// Replaces the flags for later starts.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| flag.to_string()).collect();
    }

    fn run_file(&self) -> &RunFile {
        self.run_file.as_ref().expect("the server was started")
    }

    pub fn kafka_addr(&self) -> SocketAddr {
        self.run_file().listen_addr
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.run_file().http_addr
    }

    pub fn pid(&self) -> u32 {
        self.run_file().pid
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Returns a directory for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the server's log output.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Connects to the Kafka port.
    pub fn connect(&self) -> Client {
        Client::connect(self.kafka_addr())
    }

    /// Connects to the Kafka port with a very small receive buffer.
    pub fn connect_narrow(&self) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.kafka_addr().into()).unwrap();
        Client::over(socket.into())
    }

    /// Sends a GET request and returns status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.try_get(self.http_addr(), path);
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Sends a GET request to a server that may not be listening yet, and returns status and body.
    pub fn try_get(&self, addr: SocketAddr, path: &str) -> Result<(u16, String), ureq::Error> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let mut response = agent.get(format!("http://{addr}{path}")).call()?;
        let mut body = String::new();
        response.body_mut().as_reader().read_to_string(&mut body)?;
        Ok((response.status().as_u16(), body))
    }

    /// Scrapes `/metrics`.
    pub fn metrics(&self) -> Exposition {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        Exposition::new(body)
    }

    /// Waits until a metric has the expected value, or is absent if that is `None`.
    #[track_caller]
    pub fn until_metric(&self, name: &str, labels: &[(&str, &str)], expected: Option<f64>) {
        until(&format!("{name}{labels:?} is {expected:?}"), || {
            self.metrics().value(name, labels) == expected
        });
    }

    /// Returns a field of `/proc/<pid>/status` in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap()
    }

    /// Returns the user and system time used so far, with a resolution of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may contain spaces; utime and stime are the 12th and 13th fields after it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// Kills the server with SIGKILL.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the server is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGTERM and waits until the server has exited.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends a signal to the server.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("the server is running").id();
        let status = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until the server has exited.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server is running");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the server did not stop\n{}", self.log());
            }
            pause();
        }
    }

    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("the server was not stopped");
        child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

/// Returns a command for the server's binary, without settings from the environment.
pub fn binary() -> Command {
    without_settings(env!("CARGO_BIN_EXE_streamline"))
}

fn without_settings(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if name.starts_with("STREAMLINE_") {
            command.env_remove(name);
        }
    }
    command
}
