//! System calls of a running server that fail or take long, by `strace`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Server, until};

/// Calls are tampered with for as long as this lives.
pub struct Tampering {
    strace: Child,
    /// What strace says, a line for each call among it.
    said: PathBuf,
}

impl Tampering {
    /// Has every `fdatasync` of the file treated as `inject` says, in the words of strace's option of that name.
    #[track_caller]
    pub fn with_fdatasync(server: &Server, file: &Path, inject: &str) -> Tampering {
        let said = server.scratch().join("strace");
        let strace = Command::new("strace")
            .args(["-f", "-p", &server.pid().to_string()])
            .arg("-P")
            .arg(file)
            .args(["-e", "trace=fdatasync"])
            .args(["-e", &format!("inject=fdatasync:{inject}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .expect("there is `strace`: apt-get install strace");
        let mut tampering = Tampering { strace, said };
        until("strace, run as root, is attached", || {
            let said = tampering.said();
            let ended = tampering.strace.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {said}");
            said.contains("attached")
        });
        tampering
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// How often the file was synchronised, or tried to be, so far.
    pub fn calls(&self) -> usize {
        // A call that others interrupt has a second line, which names it without its arguments.
        self.said().matches("fdatasync(").count()
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // Asked to end, it lets go of the server, which goes on; killed, it would as well, but maybe within a call.
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
