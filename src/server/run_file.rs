//! `run.json` in the data directory: the addresses of the running server, for tools and tests.
//!
//! It exists from the moment clients can connect until a clean shutdown, and is written atomically. A crash leaves a stale
//! one behind; the next start removes it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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

#[expect(
    clippy::disallowed_methods,
    reason = "read by other processes, and worthless after a crash or power failure"
)]
impl RunFile {
    /// Writes the file to the directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let temporary = dir.join(format!("{NAME}.tmp"));
        fs::write(&temporary, text)?;
        fs::rename(&temporary, dir.join(NAME))
    }

    /// Reads the file from the directory. Errors name the path.
    pub fn read(dir: &Path) -> io::Result<RunFile> {
        let path = dir.join(NAME);
        let name = |error: io::Error| {
            let text = format!(
                "no running server found: cannot read {}: {error}",
                path.display()
            );
            io::Error::new(error.kind(), text)
        };
        let text = fs::read_to_string(&path).map_err(name)?;
        serde_json::from_str(&text).map_err(|error| name(error.into()))
    }

    /// Removes the file, if there is one.
    pub fn remove(dir: &Path) -> io::Result<()> {
        match fs::remove_file(dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_written_and_can_be_removed_twice() {
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
        let missing = RunFile::read(dir.path()).unwrap_err();
        assert!(missing.to_string().contains("run.json"), "{missing}");
        written.write(dir.path()).unwrap();
        assert_eq!(RunFile::read(dir.path()).unwrap(), written);
        RunFile::remove(dir.path()).unwrap();
        RunFile::remove(dir.path()).unwrap();
        assert!(RunFile::read(dir.path()).is_err());
    }
}
