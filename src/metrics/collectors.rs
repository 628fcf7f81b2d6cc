//! Metrics read at scrape time instead of being recorded.
//!
//! Areas with state to expose implement [`Collector`] themselves. This file has the trait and the collectors that belong
//! to no area: the build, and the process as the kernel reports it.

use std::sync::Weak;

use super::catalog;
use super::exposition::Samples;

/// A source of samples at scrape time.
///
/// `collect` runs concurrently with the work it describes. It must not hold a lock that appends or group operations need
/// for longer than it takes to copy a few numbers.
pub trait Collector: Send + Sync {
    fn collect(&self, out: &mut Samples);
}

/// A collector that disappears with its owner. For owners that themselves hold the metrics, so that neither keeps the
/// other alive: `metrics.register(Arc::new(Arc::downgrade(&owner)))`.
impl<C: Collector> Collector for Weak<C> {
    fn collect(&self, out: &mut Samples) {
        if let Some(collector) = self.upgrade() {
            collector.collect(out);
        }
    }
}

/// `streamline_build_info`.
pub(super) struct BuildInfo;

impl Collector for BuildInfo {
    fn collect(&self, out: &mut Samples) {
        let version = env!("CARGO_PKG_VERSION");
        let commit = env!("BUILT_COMMIT");
        out.family(&catalog::BUILD_INFO)
            .sample(&[("version", &version), ("commit", &commit)], 1_u64);
    }
}

/// `process_*`, from `/proc`. Values that cannot be read are left out, so that scrapes still work on other kernels.
pub(super) struct Process;

impl Collector for Process {
    fn collect(&self, out: &mut Samples) {
        if let Some(times) = Times::read() {
            out.family(&catalog::PROCESS_CPU_SECONDS_TOTAL)
                .sample(&[], times.cpu_seconds);
            out.family(&catalog::PROCESS_START_TIME_SECONDS)
                .sample(&[], times.start_seconds);
        }
        let status = read_proc("/proc/self/status").unwrap_or_default();
        if let Some(kib) = status_field(&status, "VmRSS:") {
            out.family(&catalog::PROCESS_RESIDENT_MEMORY_BYTES)
                .sample(&[], kib * 1024);
        }
        if let Some(kib) = status_field(&status, "VmSize:") {
            out.family(&catalog::PROCESS_VIRTUAL_MEMORY_BYTES)
                .sample(&[], kib * 1024);
        }
        if let Some(threads) = status_field(&status, "Threads:") {
            out.family(&catalog::PROCESS_THREADS).sample(&[], threads);
        }
        if let Some(open) = open_fds() {
            out.family(&catalog::PROCESS_OPEN_FDS).sample(&[], open);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let Some(max) = limit.current {
            out.family(&catalog::PROCESS_MAX_FDS).sample(&[], max);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "/proc is not on a disk")]
fn read_proc(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Returns the number in a line like `VmRSS:     1234 kB`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Returns the number of open file descriptors. Newer kernels report it as the size of the directory. Older kernels report
/// 0, and the entries are counted, which takes milliseconds with ten thousand of them.
#[expect(clippy::disallowed_methods, reason = "/proc is not on a disk")]
fn open_fds() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The listing itself holds one descriptor open.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(entries.saturating_sub(1))
}

struct Times {
    /// User and system time together.
    cpu_seconds: f64,
    /// Since the Unix epoch.
    start_seconds: f64,
}

impl Times {
    fn read() -> Option<Times> {
        let stat = read_proc("/proc/self/stat")?;
        // The second field is the program's name in parentheses and may contain any byte; after it comes field 3.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let seconds = |field: usize| {
            let ticks: u64 = fields.get(field - 3)?.parse().ok()?;
            Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        let (utime, stime, start_after_boot) = (seconds(14)?, seconds(15)?, seconds(22)?);
        let machine = read_proc("/proc/stat")?;
        let boot = status_field(&machine, "btime ")?;
        Some(Times {
            cpu_seconds: utime + stime,
            start_seconds: boot as f64 + start_after_boot,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::Format;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn render(collector: &dyn Collector) -> String {
        let mut samples = Samples::new(Format::Text);
        collector.collect(&mut samples);
        samples.finish().concat()
    }

    fn value(text: &str, name: &str) -> f64 {
        let prefix = format!("{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("{name} in\n{text}"))
            .parse()
            .unwrap()
    }

    #[test]
    fn process_metrics_have_plausible_values() {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut text = render(&Process);
        // The kernel counts CPU time in hundredths of a second.
        while value(&text, "process_cpu_seconds_total") == 0.0 {
            assert!(Instant::now() < deadline, "no CPU time was counted");
            text = render(&Process);
        }
        assert!(value(&text, "process_resident_memory_bytes") > 100_000.0);
        assert!(value(&text, "process_virtual_memory_bytes") > 100_000.0);
        assert!(value(&text, "process_threads") >= 1.0);
        assert!(value(&text, "process_open_fds") >= 3.0);
        assert!(value(&text, "process_max_fds") >= value(&text, "process_open_fds"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - value(&text, "process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_weak_collector_disappears_with_its_owner() {
        let owner = Arc::new(BuildInfo);
        let weak = Arc::downgrade(&owner);
        assert_eq!(render(&weak), render(&BuildInfo));
        drop(owner);
        assert_eq!(render(&weak), "");
    }

    #[test]
    fn build_info_has_version_and_commit() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(render(&BuildInfo).contains(&format!("version=\"{version}\",commit=\"")));
    }
}
