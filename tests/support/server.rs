//! The server's binary as a child process on ephemeral ports and a temporary directory.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use streamline::server::RunFile;
use tempfile::TempDir;

use super::{Client, Exposition, PATIENCE, pause, until};

/// A running, or stopped, server.
pub struct Server {
    dir: TempDir,
    flags: Vec<String>,
    /// A program, with its arguments, that becomes the server.
    wrapper: Vec<String>,
    child: Option<Child>,
    run_file: Option<RunFile>,
}

impl Server {
    /// Starts a server with default settings.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// Starts a server with further flags.
    pub fn with(flags: &[&str]) -> Server {
        let mut server = Server::stopped(flags);
        server.restart();
        server
    }

    /// Starts a server through a program that replaces itself with it, as `prlimit` does.
    pub fn through(wrapper: &[&str], flags: &[&str]) -> Server {
        let mut server = Server::stopped(flags);
        server.set_wrapper(wrapper);
        server.restart();
        server
    }

    /// A server that is yet to be started, by [`Server::restart`], once its data directory has been prepared.
    pub fn stopped(flags: &[&str]) -> Server {
        Server {
            dir: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            wrapper: Vec::new(),
            child: None,
            run_file: None,
        }
    }

    /// Starts it again on the same data, after it was stopped or killed. It takes work when this returns.
    pub fn restart(&mut self) {
        self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.has_started() {
            assert!(Instant::now() < deadline, "does not start\n{}", self.log());
            pause();
        }
    }

    /// Starts the process and does not wait until it takes work.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it is still running");
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

    /// Returns whether a launched server takes work by now; panics if it has ended.
    pub fn has_started(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was launched");
        let pid = child.id();
        let ended = child.try_wait().unwrap();
        // A file of an earlier run is there until the new server removes it.
        self.run_file = RunFile::read(&self.data_dir())
            .ok()
            .filter(|run_file| run_file.pid == pid);
        if let Some(status) = ended {
            panic!("the server ended at once: {status}\n{}", self.log());
        }
        self.run_file.is_some()
    }

    /// A program, with its arguments, that becomes the server at later starts.
    pub fn set_wrapper(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| word.to_string()).collect();
    }

    /// Flags for later starts, instead of those it was made with.
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

    /// A place for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A connection to the Kafka port.
    pub fn connect(&self) -> Client {
        Client::connect(self.kafka_addr())
    }

    /// One whose system takes next to nothing of what the client does not read.
    pub fn connect_narrow(&self) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.kafka_addr().into()).unwrap();
        Client::over(socket.into())
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.try_get(self.http_addr(), path);
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Status and body of a GET from a server that may not listen yet.
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

    /// What `/metrics` says now.
    pub fn metrics(&self) -> Exposition {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        Exposition::new(body)
    }

    /// Waits until a metric has a value; an absent series has none.
    #[track_caller]
    pub fn until_metric(&self, name: &str, labels: &[(&str, &str)], expected: Option<f64>) {
        until(&format!("{name}{labels:?} is {expected:?}"), || {
            self.metrics().value(name, labels) == expected
        });
    }

    /// A field of `/proc/<pid>/status` in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap()
    }

    /// User and system time so far, to 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th fields behind it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// Kills it without warning.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it is running").id();
        let status = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it is running");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("does not stop\n{}", self.log());
            }
            pause();
        }
    }

    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was not stopped");
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

/// The program, with an environment that sets nothing.
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
