//! A small disk.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use streamline::fs::Fs;
use tempfile::TempDir;

/// A file system in memory, of limited size, for as long as this lives.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    #[track_caller]
    pub fn mount(mib: u32) -> SmallDisk {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output()
            .expect("there is `mount`, of Debian's package mount");
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(
            mounted.status.success(),
            "no file system can be mounted, run this as root: {said}"
        );
        SmallDisk { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes away so much room; it is given back by [`SmallDisk::clean_up`].
    pub fn occupy(&self, bytes: usize) {
        std::fs::write(self.ballast(), vec![0; bytes]).unwrap();
    }

    /// Takes away what room there is.
    pub fn occupy_the_rest(&self) {
        let mut options = File::options();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        loop {
            match file.write(&[0; 512]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What room there is.
    pub fn available_bytes(&self) -> u64 {
        let space = Fs::new().space(self.path()).unwrap();
        space.available_bytes
    }

    /// Removes what takes the room away.
    pub fn clean_up(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since whoever still has a file open on it is about to end.
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.dir.path())
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.path().display());
        }
    }
}
