//! A simulated disk, with which tests make calls fail ([`Faults`]) and cut the power ([`Disk`]).
//!
//! Files lie on the machine's own file system. Compiled only with the feature `simulation`.

mod disk;
mod faults;

use std::fs;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use self::disk::Disk;
use self::disk::Node;
pub use self::faults::{Fault, Faults};
use super::hooks::{FileHooks, Hooks, NoHooks};
use super::{Fs, Op};

impl Fs {
    /// Creates access to the machine's file system, with the faults that `faults` plans.
    pub fn with_faults(faults: Arc<Faults>) -> Self {
        Self::simulated(Simulation { faults, disk: None })
    }

    /// Creates the same access on a disk with simulated power failures.
    pub fn on_disk(disk: Arc<Disk>, faults: Arc<Faults>) -> Self {
        Self::simulated(Simulation {
            faults,
            disk: Some(disk),
        })
    }

    fn simulated(simulation: Simulation) -> Self {
        Self {
            hooks: SimulationHooks(Some(simulation)),
        }
    }
}

#[derive(Clone, Debug)]
struct Simulation {
    faults: Arc<Faults>,
    disk: Option<Arc<Disk>>,
}

impl Simulation {
    fn before(&self, op: Op, path: &Path) -> io::Result<()> {
        if let Some(disk) = &self.disk {
            disk.check(op)?;
        }
        self.faults.check(op, path)
    }
}

/// Hooks of an [`Fs`], which has no simulation unless it was created with one.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulationHooks(Option<Simulation>);

impl SimulationHooks {
    fn disk(&self) -> Option<&Disk> {
        self.0.as_ref()?.disk.as_deref()
    }

    fn file(&self, path: &Path, node: fn(&Disk, &Path) -> Node) -> SimulationFileHooks {
        SimulationFileHooks(self.0.as_ref().map(|simulation| {
            Arc::new(SimulatedFile {
                node: simulation.disk.as_ref().map(|disk| node(disk, path)),
                simulation: simulation.clone(),
                path: path.into(),
            })
        }))
    }

    fn give_back(&self, bytes: u64) {
        if let Some(simulation) = &self.0 {
            simulation.faults.give_back(bytes);
        }
    }
}

impl Hooks for SimulationHooks {
    type File = SimulationFileHooks;

    fn opened(&self, path: &Path) -> SimulationFileHooks {
        self.file(path, Disk::opened)
    }

    fn created(&self, path: &Path) -> SimulationFileHooks {
        self.file(path, Disk::created)
    }

    fn opened_or_created(&self, path: &Path) -> SimulationFileHooks {
        self.file(path, Disk::opened_or_created)
    }

    fn before(&self, op: Op, path: &Path) -> io::Result<()> {
        match &self.0 {
            Some(simulation) => simulation.before(op, path),
            None => Ok(()),
        }
    }

    fn bytes_to_free(&self, path: &Path) -> u64 {
        match &self.0 {
            Some(simulation) if simulation.faults.gives_back() => bytes_below(path),
            _ => 0,
        }
    }

    fn created_dirs(&self, path: &Path) {
        if let Some(disk) = self.disk() {
            disk.created_dirs(path);
        }
    }

    fn renamed(&self, from: &Path, to: &Path, freed_bytes: u64) {
        self.give_back(freed_bytes);
        if let Some(disk) = self.disk() {
            disk.renamed(from, to);
        }
    }

    fn removed(&self, path: &Path, freed_bytes: u64) {
        self.give_back(freed_bytes);
        if let Some(disk) = self.disk() {
            disk.removed(path);
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.disk() {
            Some(disk) => {
                disk.synced_dir(path);
                Ok(())
            }
            None => NoHooks.sync_dir(path),
        }
    }

    fn boot_id(&self) -> Vec<u8> {
        match self.disk() {
            Some(disk) => disk.boot_id(),
            None => NoHooks.boot_id(),
        }
    }

    fn available_bytes(&self, reported: u64) -> u64 {
        let limit = self.0.as_ref().and_then(|each| each.faults.space_left());
        limit.unwrap_or(reported)
    }
}

/// Returns the length of a file, or of all files in a directory; 0 if there is neither.
fn bytes_below(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| bytes_below(&entry.path()))
            .sum(),
        Err(_) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

#[derive(Clone)]
pub(super) struct SimulationFileHooks(Option<Arc<SimulatedFile>>);

struct SimulatedFile {
    simulation: Simulation,
    path: Box<Path>,
    /// Its node on the simulated disk, if there is one.
    node: Option<Node>,
}

impl SimulatedFile {
    fn node(&self) -> Option<(&Disk, Node)> {
        Some((self.simulation.disk.as_deref()?, self.node?))
    }

    /// Writes as much as the plan allows.
    fn write(&self, file: &fs::File, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        if let Some(disk) = &self.simulation.disk {
            disk.check(Op::Write)?;
        }
        let bytes = self.simulation.faults.clip_write(&self.path, slices)?;
        let count = rustix::io::pwrite(file, &bytes, position)?;
        if let Some((disk, node)) = self.node() {
            disk.wrote(node, position, &bytes[..count])?;
        }
        Ok(count)
    }
}

impl SimulationFileHooks {
    fn node(&self) -> Option<(&Disk, Node)> {
        self.0.as_ref()?.node()
    }

    fn before(&self, op: Op) -> io::Result<()> {
        match &self.0 {
            Some(file) => file.simulation.before(op, &file.path),
            None => Ok(()),
        }
    }
}

impl FileHooks for SimulationFileHooks {
    fn before_read(&self) -> io::Result<()> {
        self.before(Op::Read)
    }

    fn write(&self, file: &fs::File, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match &self.0 {
            Some(simulated) => simulated.write(file, slices, position),
            None => NoHooks.write(file, slices, position),
        }
    }

    fn before_allocation(&self, file: &fs::File, size: u64) -> io::Result<()> {
        self.before(Op::Allocate)?;
        match &self.0 {
            Some(simulated) => {
                let more = size.saturating_sub(file.metadata()?.len());
                simulated.simulation.faults.take_space(more)
            }
            None => Ok(()),
        }
    }

    fn before_resize(&self, file: &fs::File, size: u64) -> io::Result<()> {
        self.before(Op::SetSize)?;
        if let Some(simulated) = &self.0 {
            let cut = file.metadata()?.len().saturating_sub(size);
            simulated.simulation.faults.give_back(cut);
        }
        Ok(())
    }

    fn resized(&self, size: u64) {
        if let Some((disk, node)) = self.node() {
            disk.resized(node, size);
        }
    }

    fn sync_data(&self, file: &fs::File) -> io::Result<()> {
        self.before(Op::SyncData)?;
        match self.node() {
            Some((disk, node)) => {
                disk.synced(node);
                Ok(())
            }
            None => NoHooks.sync_data(file),
        }
    }
}
