//! Child processes of the harness: their resource usage and termination.
//!
//! Every process is killed by its id when its [`Process`] is dropped (so also on an error or a panic), and by
//! [`end_all_on_signal`] when the harness is interrupted.

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

/// Attempts to remove a folder.
const REMOVALS_MAX: usize = 10;

/// Running processes, and whether more may be started.
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
    /// Returns the time spent since `before`. New threads count completely, ended ones not at all.
    pub fn since(&self, before: &ThreadTimes) -> Duration {
        let spent = self.0.iter().map(|(thread, time)| {
            let earlier = before.0.get(thread).copied().unwrap_or(0);
            time.saturating_sub(earlier)
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Process {
    /// Starts the command with its output in `log`.
    pub fn start_logged(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let file = fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let mut process = Process::start(name, command)?;
        process.log = Some(log.to_owned());
        Ok(process)
    }

    /// Starts the command with its own output settings.
    pub fn start(name: &str, command: &mut Command) -> Result<Process> {
        // Holds the lock until the process is registered, so that an interrupt does not miss it.
        let mut running = running();
        ensure!(!running.interrupted, "interrupted");
        // A separate process group, so that its children are killed with it.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {name}: {command:?}"))?;
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

    /// Returns user and system time, including ended threads, in steps of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string()).with_context(|| format!("{} has exited", self.name))
    }

    /// Returns the CPU time of each running thread, in nanoseconds. Ended threads are missing, so this is for servers with a
    /// constant set of threads.
    pub fn threads(&self) -> Result<ThreadTimes> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .with_context(|| format!("{} has exited", self.name))?;
        let mut times = BTreeMap::new();
        for task in tasks {
            let task = task?;
            // A thread that ends meanwhile is left out.
            if let Ok(stat) = fs::read_to_string(task.path().join("schedstat"))
                && let Some(nanoseconds) = stat.split(' ').next()
            {
                times.insert(task.file_name(), nanoseconds.parse()?);
            }
        }
        Ok(ThreadTimes(times))
    }

    /// Returns all resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.status_bytes("VmRSS")
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status =
            fs::read_to_string(path).with_context(|| format!("{} has exited", self.name))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no {field}"))? * 1024)
    }

    /// Fails with the end of its log if the process has exited.
    pub fn ensure_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} exited with {status}{}", self.name, self.log_end());
        }
        Ok(())
    }

    /// Waits until `found` returns a value. Fails if the process exits or the time is up.
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
            format!("; end of its log:\n  {end}")
        }
    }

    /// Waits until it exits by itself.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        if !status.success() {
            eprintln!("{}{}", self.name, self.log_end());
        }
        Ok(status)
    }

    /// Terminates it and waits. Kills it if it does not exit in time.
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
        bail!("{} did not exit within {limit:?}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The id is still this child's, since it has not been waited for.
        if matches!(self.child.try_wait(), Ok(None)) {
            report(
                &self.name,
                kill_process_group(Pid::from_child(&self.child), Signal::KILL),
            );
            if let Err(error) = self.child.wait() {
                eprintln!("cannot wait for {}: {error}", self.name);
            }
        }
        running().names.remove(&(self.child.id() as i32));
    }
}

/// Returns the CPU time of this program, in steps of 10 ms.
pub fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The command's name, in parentheses, may contain spaces; utime and stime are the 12th and 13th fields after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Option<u64> = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().ok())
        .sum();
    // 100 ticks a second on every architecture.
    Ok(Duration::from_millis(
        ticks.context("stat has no times")? * 10,
    ))
}

fn report(name: &str, signalled: rustix::io::Result<()>) {
    if let Err(error) = signalled {
        eprintln!("cannot signal {name}: {error}");
    }
}

/// On SIGINT and SIGTERM, kills all processes, removes `folders`, and exits.
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
                eprintln!("interrupted: killing {name} ({id})");
                if let Some(pid) = Pid::from_raw(id) {
                    report(name, kill_process_group(pid, Signal::KILL));
                }
            }
            for folder in &folders {
                // A process that is being killed may still have created a file.
                let removed = (0..REMOVALS_MAX).any(|_| fs::remove_dir_all(folder).is_ok());
                if !removed {
                    eprintln!("cannot remove {}", folder.display());
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
        // Its new parent may take a moment to reap it.
        let deadline = Instant::now() + Duration::from_secs(60);
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{grandchild} is still running");
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
