//! Failing or slow system calls of a running server, injected by `strace`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Server, until};

/// Faults injected until this is dropped.
pub struct Tampering {
    strace: Child,
    /// Output of strace, with a line for each call.
    log: PathBuf,
}

impl Tampering {
    /// Injects a fault into every `fdatasync` of the file; `inject` is an argument of strace's option `inject`.
    #[track_caller]
    pub fn with_fdatasync(server: &Server, file: &Path, inject: &str) -> Tampering {
        let log = server.scratch().join("strace");
        let strace = Command::new("strace")
            .args(["-f", "-p", &server.pid().to_string()])
            .arg("-P")
            .arg(file)
            .args(["-e", "trace=fdatasync"])
            .args(["-e", &format!("inject=fdatasync:{inject}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("strace is installed: apt-get install strace");
        let mut tampering = Tampering { strace, log };
        until("strace, run as root, is attached", || {
            let log = tampering.log();
            let ended = tampering.strace.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {log}");
            log.contains("attached")
        });
        tampering
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the number of `fdatasync` calls so far, including failed ones.
    pub fn calls(&self) -> usize {
        // The second line of an interrupted call lacks the arguments.
        self.log().matches("fdatasync(").count()
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // On a termination request strace detaches between two calls; when killed, possibly within one.
        let asked = Command::new("kill")
            .arg(self.strace.id().to_string())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.strace.kill();
        }
        let _ = self.strace.wait();
    }
}

/// The first segment of a partition.
pub fn segment(server: &Server, partition: &str) -> PathBuf {
    let name = format!("{:020}.log", 0);
    server.data_dir().join(partition).join(name)
}
