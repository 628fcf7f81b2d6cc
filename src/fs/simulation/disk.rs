//! A simulated disk with power failures.
//!
//! It tracks a directory of the real file system, which acts as the page cache: programs read and write there, and the
//! disk records what was flushed. A power failure leaves a new directory that holds everything flushed, and a random
//! part of the rest:
//!
//! * Each sector of a file may be as any of the writes since the last flush left it, and so may the size, whether or not
//!   the data arrived. Bytes within the size that were never written are zeros.
//! * Of the changes to a directory since it was last synced, a prefix arrives. A file whose name did not arrive is lost,
//!   however often its data was flushed.
//!
//! The first is what POSIX allows, the second what journaling file systems do. They keep one journal for all
//! directories; this disk keeps one for each, which allows the same outcomes and more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::Op;

/// The unit that a disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// A file or directory, independent of its current name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(usize);

const ROOT: Node = Node(0);

#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    boot: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Content>,
    /// Changes left until the power fails; 0 once it has.
    changes_left: Option<u64>,
}

#[derive(Debug)]
enum Content {
    File(FileContent),
    Directory(DirectoryContent),
}

#[derive(Debug, Default)]
struct FileContent {
    synced: Vec<u8>,
    /// Changes since then, in order.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Resize(usize),
}

type Names = BTreeMap<OsString, Node>;

#[derive(Debug, Default)]
struct DirectoryContent {
    synced: Names,
    /// Its versions after each change since then.
    changes: Vec<Names>,
}

impl DirectoryContent {
    fn now(&self) -> &Names {
        self.changes.last().unwrap_or(&self.synced)
    }

    fn change(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.now().clone();
        change(&mut names);
        self.changes.push(names);
    }
}

impl Disk {
    /// Creates an empty disk with its files in `root`.
    pub fn new(root: &Path) -> Arc<Self> {
        Arc::new(Self::holding(
            root,
            0,
            vec![Content::Directory(DirectoryContent::default())],
        ))
    }

    fn holding(root: &Path, boot: u64, nodes: Vec<Content>) -> Self {
        Self {
            root: root.to_path_buf(),
            boot,
            state: Mutex::new(State {
                nodes,
                changes_left: None,
            }),
        }
    }

    /// Plans a power failure at the change of a file, a name or the disk that follows `changes` more. Every call fails
    /// from then on.
    pub fn fail_power_after(&self, changes: u64) {
        self.state.lock().changes_left = Some(changes + 1);
    }

    /// Returns true if the power has failed.
    pub fn is_off(&self) -> bool {
        self.state.lock().changes_left == Some(0)
    }

    /// Returns the disk after the power failure, with its files in the directory `root`. `choose(n)` picks one of `n`
    /// possibilities, counted from 0.
    pub fn after_power_loss(
        &self,
        root: &Path,
        choose: &mut dyn FnMut(u64) -> u64,
    ) -> io::Result<Arc<Self>> {
        let state = self.state.lock();
        let luck = match choose(8) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            _ => Luck::Chance,
        };
        let mut survivors = Survivors {
            before: &state.nodes,
            nodes: Vec::new(),
            luck,
            choose,
        };
        survivors.directory(ROOT, root)?;
        let nodes = survivors.nodes;
        Ok(Arc::new(Self::holding(root, self.boot + 1, nodes)))
    }

    pub(super) fn boot_id(&self) -> Vec<u8> {
        format!("boot {}", self.boot).into_bytes()
    }

    /// Returns an error if the power is off, or fails now.
    pub(super) fn check(&self, op: Op) -> io::Result<()> {
        let mut state = self.state.lock();
        match op {
            // The change during which the power fails may arrive, too, so it is recorded first.
            Op::Open | Op::List | Op::Stat | Op::Read | Op::Write => state.check(),
            _ => state.count(),
        }
    }

    pub(super) fn opened(&self, path: &Path) -> Node {
        self.find(&self.state.lock(), path)
            .expect("files on this disk are made through it")
    }

    /// Records that a file was created, or emptied.
    pub(super) fn created(&self, path: &Path) -> Node {
        let mut state = self.state.lock();
        if let Some(node) = self.find(&state, path) {
            state.file(node).changes.push(Change::Resize(0));
            return node;
        }
        self.link(&mut state, path, Content::File(FileContent::default()))
    }

    /// Records that a file was opened, and created if it did not exist.
    pub(super) fn opened_or_created(&self, path: &Path) -> Node {
        let mut state = self.state.lock();
        match self.find(&state, path) {
            Some(node) => node,
            None => self.link(&mut state, path, Content::File(FileContent::default())),
        }
    }

    pub(super) fn created_dirs(&self, path: &Path) {
        let mut state = self.state.lock();
        let mut missing: Vec<_> = path
            .ancestors()
            .take_while(|dir| self.find(&state, dir).is_none())
            .collect();
        while let Some(dir) = missing.pop() {
            let content = Content::Directory(DirectoryContent::default());
            self.link(&mut state, dir, content);
        }
    }

    pub(super) fn renamed(&self, from: &Path, to: &Path) {
        let mut state = self.state.lock();
        let parent = self.parent(&state, from);
        assert_eq!(parent, self.parent(&state, to), "renamed where it lies");
        state.directory(parent).change(|names| {
            let node = names.remove(name(from)).expect("it was renamed");
            names.insert(name(to).to_owned(), node);
        });
    }

    /// Records that a file, or a directory with its content, was removed, if it existed.
    pub(super) fn removed(&self, path: &Path) {
        let mut state = self.state.lock();
        if let Some(node) = self.find(&state, path) {
            state.empty(node);
            let parent = self.parent(&state, path);
            state.directory(parent).change(|names| {
                names.remove(name(path));
            });
        }
    }

    pub(super) fn synced_dir(&self, path: &Path) {
        if !path.starts_with(&self.root) {
            return;
        }
        let mut state = self.state.lock();
        let node = self.find(&state, path).expect("it was flushed");
        let directory = state.directory(node);
        if let Some(names) = directory.changes.pop() {
            directory.synced = names;
            directory.changes.clear();
        }
    }

    /// Records a write; returns an error if the power fails during it.
    pub(super) fn wrote(&self, node: Node, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file(node).changes.push(Change::Write {
            position: position as usize,
            bytes: bytes.to_vec(),
        });
        state.count()
    }

    pub(super) fn resized(&self, node: Node, size: u64) {
        let change = Change::Resize(size as usize);
        self.state.lock().file(node).changes.push(change);
    }

    pub(super) fn synced(&self, node: Node) {
        let mut state = self.state.lock();
        let file = state.file(node);
        for change in file.changes.drain(..) {
            change.apply(&mut file.synced);
        }
    }

    fn find(&self, state: &State, path: &Path) -> Option<Node> {
        let path = path.strip_prefix(&self.root).expect("it lies on this disk");
        path.iter()
            .try_fold(ROOT, |node, name| match &state.nodes[node.0] {
                Content::Directory(directory) => directory.now().get(name).copied(),
                Content::File(_) => None,
            })
    }

    fn parent(&self, state: &State, path: &Path) -> Node {
        path.parent()
            .and_then(|parent| self.find(state, parent))
            .expect("it lies in a directory of this disk")
    }

    fn link(&self, state: &mut State, path: &Path, content: Content) -> Node {
        let parent = self.parent(state, path);
        let node = Node(state.nodes.len());
        state.nodes.push(content);
        state.directory(parent).change(|names| {
            names.insert(name(path).to_owned(), node);
        });
        node
    }
}

fn name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().expect("it has a name")
}

impl State {
    fn check(&self) -> io::Result<()> {
        match self.changes_left {
            Some(0) => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    fn count(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.changes_left {
            *left = left.saturating_sub(1);
        }
        self.check()
    }

    fn file(&mut self, node: Node) -> &mut FileContent {
        match &mut self.nodes[node.0] {
            Content::File(file) => file,
            Content::Directory(_) => panic!("a directory was used as a file"),
        }
    }

    fn directory(&mut self, node: Node) -> &mut DirectoryContent {
        match &mut self.nodes[node.0] {
            Content::Directory(directory) => directory,
            Content::File(_) => panic!("a file was used as a directory"),
        }
    }

    /// Removes everything from a directory, name by name.
    fn empty(&mut self, node: Node) {
        let Content::Directory(directory) = &mut self.nodes[node.0] else {
            return;
        };
        let names = directory.now().clone();
        for (name, child) in names {
            self.empty(child);
            self.directory(node).change(|names| {
                names.remove(&name);
            });
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Resize(size) => content.resize(*size, 0),
            Change::Write { position, bytes } => {
                let end = position + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*position..end].copy_from_slice(bytes);
            }
        }
    }
}

/// Number of unflushed changes that arrive.
#[derive(Clone, Copy, PartialEq)]
enum Luck {
    Nothing,
    Everything,
    Chance,
}

/// The disk after a power failure, while it is being built.
struct Survivors<'a> {
    before: &'a [Content],
    nodes: Vec<Content>,
    luck: Luck,
    choose: &'a mut dyn FnMut(u64) -> u64,
}

impl Survivors<'_> {
    /// Picks how many of the given number of changes arrived.
    fn arrived(&mut self, changes: usize) -> usize {
        match self.luck {
            Luck::Nothing => 0,
            Luck::Everything => changes,
            Luck::Chance => (self.choose)(changes as u64 + 1) as usize,
        }
    }

    fn directory(&mut self, node: Node, path: &Path) -> io::Result<Node> {
        let Content::Directory(before) = &self.before[node.0] else {
            unreachable!("called for directories only");
        };
        let names = match self.arrived(before.changes.len()) {
            0 => &before.synced,
            arrived => &before.changes[arrived - 1],
        };
        let place = self.nodes.len();
        self.nodes
            .push(Content::Directory(DirectoryContent::default()));
        fs::create_dir_all(path)?;
        let mut synced = Names::new();
        for (name, child) in names {
            let path = path.join(name);
            let survivor = match &self.before[child.0] {
                Content::Directory(_) => self.directory(*child, &path)?,
                Content::File(file) => self.file(file, &path)?,
            };
            synced.insert(name.clone(), survivor);
        }
        self.nodes[place] = Content::Directory(DirectoryContent {
            synced,
            changes: Vec::new(),
        });
        Ok(Node(place))
    }

    fn file(&mut self, before: &FileContent, path: &Path) -> io::Result<Node> {
        let synced = self.content(before);
        fs::write(path, &synced)?;
        self.nodes.push(Content::File(FileContent {
            synced,
            changes: Vec::new(),
        }));
        Ok(Node(self.nodes.len() - 1))
    }

    fn content(&mut self, before: &FileContent) -> Vec<u8> {
        let mut versions = vec![before.synced.clone()];
        for change in &before.changes {
            let mut content = versions[versions.len() - 1].clone();
            change.apply(&mut content);
            versions.push(content);
        }
        let changes = before.changes.len();
        let whole = self.arrived(changes);
        if changes == 0 || self.luck != Luck::Chance || (self.choose)(3) == 0 {
            return versions.swap_remove(whole);
        }
        let mut content = vec![0; versions[whole].len()];
        for (number, sector) in content.chunks_mut(SECTOR_BYTES).enumerate() {
            let start = number * SECTOR_BYTES;
            let arrived = self.arrived(changes);
            // A version that ends before the sector leaves it unchanged.
            let bytes = [arrived, 0]
                .into_iter()
                .find_map(|version| versions[version].get(start..).filter(|it| !it.is_empty()))
                .unwrap_or_default();
            let len = bytes.len().min(sector.len());
            sector[..len].copy_from_slice(&bytes[..len]);
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Faults, Fs};
    use super::*;

    struct Machine {
        root: tempfile::TempDir,
        disk: Arc<Disk>,
        fs: Fs,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let disk = Disk::new(root.path());
            Self {
                fs: Fs::on_disk(disk.clone(), Faults::new()),
                root,
                disk,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// Returns the disk if every choice takes the possibility with this number, or the last one.
        fn left(&self, possibility: u64) -> (tempfile::TempDir, Arc<Disk>) {
            let root = tempfile::tempdir().unwrap();
            let mut choose = |count: u64| possibility.min(count - 1);
            let disk = self.disk.after_power_loss(root.path(), &mut choose);
            (root, disk.unwrap())
        }

        /// Returns the file `a` if the choices take these possibilities, in order.
        fn left_of_a(&self, choices: [u64; 6]) -> Vec<u8> {
            let root = tempfile::tempdir().unwrap();
            let mut choices = choices.into_iter();
            self.disk
                .after_power_loss(root.path(), &mut |_| choices.next().unwrap())
                .unwrap();
            fs::read(root.path().join("a")).unwrap()
        }
    }

    const NOTHING: u64 = 0;
    const EVERYTHING: u64 = 1;
    const LAST: u64 = 7;

    #[test]
    fn a_file_that_is_opened_or_created_keeps_its_content() {
        let machine = Machine::new();
        let path = machine.path("a");
        let file = machine.fs.open_or_create(&path).unwrap();
        file.write_all_at(b"1", 0).unwrap();
        file.sync_data().unwrap();
        machine.fs.sync_dir(machine.root.path()).unwrap();
        assert_eq!(machine.fs.open_or_create(&path).unwrap().size().unwrap(), 1);
        let (root, _) = machine.left(0);
        assert_eq!(fs::read(root.path().join("a")).unwrap(), b"1");
    }

    #[test]
    fn only_files_with_flushed_name_and_content_are_certain_to_survive() {
        let machine = Machine::new();
        let file = machine.fs.create(&machine.path("a")).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.sync_data().unwrap();
        assert!(!machine.left(NOTHING).0.path().join("a").exists());
        machine.fs.sync_dir(machine.root.path()).unwrap();
        file.write_all_at(b"later", 5).unwrap();
        let read = |possibility| fs::read(machine.left(possibility).0.path().join("a")).unwrap();
        assert_eq!(read(NOTHING), b"first");
        assert_eq!(read(EVERYTHING), b"firstlater");
        assert_eq!(read(LAST), b"firstlater");
    }

    #[test]
    fn names_change_in_order() {
        let machine = Machine::new();
        for name in ["a", "b", "c"] {
            machine.fs.create(&machine.path(name)).unwrap();
        }
        machine
            .fs
            .rename(&machine.path("a"), &machine.path("d"))
            .unwrap();
        machine.fs.remove_file(&machine.path("b")).unwrap();
        let seen: Vec<Vec<OsString>> = (0..=5)
            .map(|kept| {
                let root = tempfile::tempdir().unwrap();
                let mut choose = |count: u64| match count {
                    8 => LAST,
                    _ => kept.min(count - 1),
                };
                machine
                    .disk
                    .after_power_loss(root.path(), &mut choose)
                    .unwrap();
                let mut names: Vec<_> = fs::read_dir(root.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                names.sort();
                names
            })
            .collect();
        let expected: [&[&str]; 6] = [
            &[],
            &["a"],
            &["a", "b"],
            &["a", "b", "c"],
            &["b", "c", "d"],
            &["c", "d"],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_removed_directory_reappears_only_with_its_content() {
        let machine = Machine::new();
        let dir = machine.path("t-0");
        machine.fs.create_dir_all(&dir).unwrap();
        machine.fs.create(&dir.join("log")).unwrap();
        machine.fs.sync_dir(&dir).unwrap();
        machine.fs.sync_dir(machine.root.path()).unwrap();
        machine.fs.remove_dir_all(&dir).unwrap();
        assert!(machine.left(NOTHING).0.path().join("t-0/log").exists());
        assert!(!machine.left(EVERYTHING).0.path().join("t-0").exists());
    }

    #[test]
    fn a_size_may_arrive_without_the_data() {
        let machine = Machine::new();
        let file = machine.fs.create(&machine.path("a")).unwrap();
        machine.fs.sync_dir(machine.root.path()).unwrap();
        file.write_all_at(&[7; 2 * SECTOR_BYTES], 0).unwrap();
        // By chance; the size has changed, sectors are torn; the first has arrived, the second has not.
        let content = machine.left_of_a([2, 0, 1, 1, 1, 0]);
        assert_eq!(content[..SECTOR_BYTES], [7; SECTOR_BYTES]);
        assert_eq!(content[SECTOR_BYTES..], [0; SECTOR_BYTES]);
    }

    #[test]
    fn a_lost_truncation_restores_old_bytes_after_the_new_ones() {
        let machine = Machine::new();
        let file = machine.fs.create(&machine.path("a")).unwrap();
        machine.fs.sync_dir(machine.root.path()).unwrap();
        file.write_all_at(&[1; 2 * SECTOR_BYTES], 0).unwrap();
        file.sync_data().unwrap();
        file.set_size(0).unwrap();
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        // By chance; the size is the old one, sectors are torn; both as the last write left them.
        let content = machine.left_of_a([2, 0, 0, 1, 2, 2]);
        assert_eq!(content[..SECTOR_BYTES], [2; SECTOR_BYTES]);
        assert_eq!(content[SECTOR_BYTES..], [1; SECTOR_BYTES]);
    }

    #[test]
    fn every_call_fails_while_the_power_is_off_and_the_next_boot_id_differs() {
        let machine = Machine::new();
        machine.disk.fail_power_after(2);
        let file = machine.fs.create(&machine.path("a")).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap_err();
        assert!(machine.disk.is_off());
        file.write_all_at(b"y", 1).unwrap_err();
        machine.fs.read(&machine.path("a")).unwrap_err();
        let (_root, disk) = machine.left(EVERYTHING);
        assert!(!disk.is_off());
        assert_ne!(disk.boot_id(), machine.disk.boot_id());
    }
}
