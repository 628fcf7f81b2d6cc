//! Logging to standard error, as text or JSON, filtered by `log_level`. Panics are logged too.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Config, LogFormat};

/// The levels at which this process logs.
pub struct LogFilter(reload::Handle<Targets, Registry>);

impl LogFilter {
    /// Replaces the levels.
    pub fn set(&self, levels: Targets) {
        if let Err(error) = self.0.reload(levels) {
            tracing::error!(%error, "log levels not changed");
        }
    }
}

/// Starts logging for the rest of the process, and returns its levels. Only the first call has an effect.
pub fn init(config: &Config) -> LogFilter {
    let filter: Targets = config
        .log_level
        .parse()
        .unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(
                thread = thread.name().unwrap_or("unnamed"),
                location = panic.location().map(tracing::field::display),
                backtrace = %std::backtrace::Backtrace::capture(),
                "panic: {}",
                panic.payload_as_str().unwrap_or("payload is not text")
            );
        }));
    }
    LogFilter(handle)
}
