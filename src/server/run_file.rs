//! `run.json` in the data directory: the addresses of the running server, for tools and tests.
//!
//! It exists from the moment clients can connect until a clean shutdown, and is written atomically. A crash leaves a stale
//! one behind; the next start removes it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::Fs;

const NAME: &str = "run.json";

/// Contents of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Address on which Kafka clients connect.
    pub listen_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub pid: u32,
    pub version: String,
    pub cluster_id: String,
    /// Unix time in milliseconds.
    pub started_at_ms: i64,
    pub data_dir: PathBuf,
}

impl RunFile {
    /// Writes the file to the directory. Does not flush it, since it is worthless after a power failure.
    pub fn write(&self, fs: &Fs, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let staging = dir.join(format!("{NAME}.tmp"));
        fs.create(&staging)?.write_all_at(text.as_bytes(), 0)?;
        fs.rename(&staging, &dir.join(NAME))
    }

    /// Reads the file from the directory. Errors name the path.
    pub fn read(fs: &Fs, dir: &Path) -> io::Result<RunFile> {
        let path = dir.join(NAME);
        let name = |error: io::Error| {
            let text = format!(
                "no running server found: cannot read {}: {error}",
                path.display()
            );
            io::Error::new(error.kind(), text)
        };
        let text = fs.read(&path).map_err(name)?;
        serde_json::from_slice(&text).map_err(|error| name(error.into()))
    }

    /// Removes the file, if there is one.
    pub fn remove(fs: &Fs, dir: &Path) -> io::Result<()> {
        fs.remove_file(&dir.join(NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fault, Faults, Op};

    #[test]
    fn the_file_is_read_as_written_and_can_be_removed_twice() {
        let fs = Fs::new();
        let dir = tempfile::tempdir().unwrap();
        let written = RunFile {
            listen_addr: "127.0.0.1:9092".parse().unwrap(),
            http_addr: "[::1]:9094".parse().unwrap(),
            pid: 7,
            version: "1.2.3".to_string(),
            cluster_id: "abc".to_string(),
            started_at_ms: 1,
            data_dir: dir.path().to_path_buf(),
        };
        let missing = RunFile::read(&fs, dir.path()).unwrap_err();
        assert!(missing.to_string().contains("run.json"), "{missing}");
        written.write(&fs, dir.path()).unwrap();
        assert_eq!(RunFile::read(&fs, dir.path()).unwrap(), written);
        RunFile::remove(&fs, dir.path()).unwrap();
        RunFile::remove(&fs, dir.path()).unwrap();
        assert!(RunFile::read(&fs, dir.path()).is_err());
    }

    #[test]
    fn a_failing_disk_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        faults.plan(Op::Open, NAME, Fault::Error(io::ErrorKind::Other), 1);
        let fs = Fs::with_faults(faults);
        std::fs::write(dir.path().join(NAME), "{}").unwrap();
        let error = RunFile::read(&fs, dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
    }
}
