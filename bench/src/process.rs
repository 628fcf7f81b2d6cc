//! Processes that the harness starts: what they use, and that none of them outlives it.
//!
//! Every process is ended by its own id: when its [`Process`] is dropped (so also on an error or a panic), and, through
//! [`end_all_on_signal`], when the harness is interrupted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How often a folder is tried to be removed.
const REMOVALS_MAX: usize = 10;

/// The processes that run now, and whether more may be started.
static RUNNING: Mutex<Running> = Mutex::new(Running {
    interrupted: false,
    names: BTreeMap::new(),
});

struct Running {
    interrupted: bool,
    names: BTreeMap<i32, String>,
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

/// CPU time of threads, in nanoseconds, by their ids.
#[derive(Debug, Clone)]
pub struct ThreadTimes(BTreeMap<OsString, u64>);

impl ThreadTimes {
    /// What the threads have spent since then. Those that have begun since count whole, those that have ended not at all.
    pub fn since(&self, before: &ThreadTimes) -> Duration {
        let spent = self.0.iter().map(|(thread, time)| {
            let earlier = before.0.get(thread).copied().unwrap_or(0);
            time.saturating_sub(earlier)
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Process {
    /// Starts the command. What it prints goes to `log`.
    pub fn start_logged(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let file = fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let mut process = Process::start(name, command)?;
        process.log = Some(log.to_owned());
        Ok(process)
    }

    /// Starts the command with its output wherever the command says.
    pub fn start(name: &str, command: &mut Command) -> Result<Process> {
        // The lock is held from before the start until it is noted, so that an interrupt misses nothing.
        let mut running = running();
        ensure!(!running.interrupted, "interrupted");
        // A group of its own, so that what it starts in turn can be ended with it.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.with_context(|| format!("{name} cannot be started: {command:?}"))?;
        running.names.insert(child.id() as i32, name.to_owned());
        Ok(Process {
            name: name.to_owned(),
            child,
            log: None,
        })
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// User and system time so far, of threads that have ended too. To 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string()).with_context(|| format!("{} is gone", self.name))
    }

    /// What each of its threads has spent so far. To the nanosecond, but of the threads that are there now alone: for
    /// servers whose threads stay.
    pub fn threads(&self) -> Result<ThreadTimes> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))?;
        let mut times = BTreeMap::new();
        for task in tasks {
            let task = task?;
            // One that ends meanwhile is left out.
            if let Ok(stat) = fs::read_to_string(task.path().join("schedstat"))
                && let Some(nanoseconds) = stat.split(' ').next()
            {
                times.insert(task.file_name(), nanoseconds.parse()?);
            }
        }
        Ok(ThreadTimes(times))
    }

    /// Resident memory in bytes, all of it.
    pub fn resident(&self) -> Result<u64> {
        self.status_bytes("VmRSS")
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).with_context(|| format!("{} is gone", self.name))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no {field}"))? * 1024)
    }

    /// Fails with the end of its log when the process has ended already.
    pub fn ensure_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}{}", self.name, self.log_end());
        }
        Ok(())
    }

    /// Waits until `found` gives something, and fails when the process ends or the time is over.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            self.ensure_alive()?;
            ensure!(
                Instant::now() < deadline,
                "{}: no {what} within {limit:?}{}",
                self.name,
                self.log_end()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn log_end(&self) -> String {
        let text = self
            .log
            .as_ref()
            .and_then(|log| fs::read_to_string(log).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n  ");
        if end.is_empty() {
            end
        } else {
            format!("; the end of its log:\n  {end}")
        }
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        if !status.success() {
            eprintln!("{}{}", self.name, self.log_end());
        }
        Ok(status)
    }

    /// Asks it to end, and waits. Killed when it does not.
    pub fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        report(
            &self.name,
            kill_process(Pid::from_child(&self.child), Signal::TERM),
        );
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("{} did not end within {limit:?}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not yet waited for, the id is still this child's.
        if matches!(self.child.try_wait(), Ok(None)) {
            report(
                &self.name,
                kill_process_group(Pid::from_child(&self.child), Signal::KILL),
            );
            if let Err(error) = self.child.wait() {
                eprintln!("{} cannot be awaited: {error}", self.name);
            }
        }
        running().names.remove(&(self.child.id() as i32));
    }
}

/// What this program itself has spent so far. To 10 ms.
pub fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The command's name, in parentheses, may hold spaces; utime and stime are the 12th and 13th fields behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Option<u64> = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().ok())
        .sum();
    // The kernel shows user space 100 ticks a second on every architecture.
    Ok(Duration::from_millis(
        ticks.context("stat has no times")? * 10,
    ))
}

fn report(name: &str, signalled: rustix::io::Result<()>) {
    if let Err(error) = signalled {
        eprintln!("{name} cannot be signalled: {error}");
    }
}

/// From now on, SIGINT and SIGTERM end every process that was started, remove `folders`, and end the harness.
pub fn end_all_on_signal(folders: Vec<PathBuf>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            runtime.block_on(async {
                let mut term =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                        .expect("SIGTERM can be handled");
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = term.recv() => {}
                }
            });
            let mut running = running();
            running.interrupted = true;
            for (&id, name) in &running.names {
                eprintln!("interrupted: ending {name} ({id})");
                if let Some(pid) = Pid::from_raw(id) {
                    report(name, kill_process_group(pid, Signal::KILL));
                }
            }
            for folder in &folders {
                // One that is being ended may still have made a file.
                let removed = (0..REMOVALS_MAX).any(|_| fs::remove_dir_all(folder).is_ok());
                if !removed {
                    eprintln!("{} could not be removed", folder.display());
                }
            }
            std::process::exit(130);
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(threads: &[(&str, u64)]) -> ThreadTimes {
        ThreadTimes(
            threads
                .iter()
                .map(|(id, time)| ((*id).into(), *time))
                .collect(),
        )
    }

    #[test]
    fn threads_that_end_or_begin_do_not_upset_the_sum() {
        let before = times(&[("1", 100), ("2", 5_000)]);
        let after = times(&[("1", 130), ("3", 7)]);
        assert_eq!(after.since(&before), Duration::from_nanos(37));
    }

    #[test]
    fn a_process_is_ended_when_it_is_dropped() {
        let process = Process::start("sleep", Command::new("sleep").arg("60")).unwrap();
        assert!(process.resident().unwrap() > 0);
        process.cpu().unwrap();
        process.threads().unwrap();
        let stat = format!("/proc/{}", process.child.id());
        assert!(Path::new(&stat).exists());
        drop(process);
        assert!(!Path::new(&stat).exists());
    }

    #[test]
    fn what_it_has_started_in_turn_is_ended_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let said = directory.path().join("said");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let mut process = Process::start_logged("parent", &mut command, &said).unwrap();
        let grandchild = process
            .wait_for("child of its own", Duration::from_secs(60), || {
                let text = fs::read_to_string(&said).ok()?;
                text.trim().parse::<u32>().ok()
            })
            .unwrap();
        let state = || fs::read_to_string(format!("/proc/{grandchild}/stat"));
        assert!(state().is_ok());
        drop(process);
        // Whoever adopts it may take a moment to bury it.
        let deadline = Instant::now() + Duration::from_secs(60);
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{grandchild} still runs");
        }
    }

    #[test]
    fn one_that_ends_early_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such setting; exit 3"]);
        let log = directory.path().join("log");
        let mut process = Process::start_logged("server", &mut command, &log).unwrap();
        let error = process
            .wait_for("answer", Duration::from_secs(60), || None::<()>)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("no such setting"),
            "{error}"
        );
    }
}
