//! Output of `dump-log`: text lines for people, or one JSON object per line.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::index::IndexResult;
use crate::cli::error::CliError;
use crate::cli::output::{OutputFormat, counted};
use crate::cli::record_view;
use crate::clock::Clock;
use crate::record::{ControlRecord, ControlType, Record, RecordBatch, TimestampType};

/// Level of detail. Damage and the summary are always printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Detail {
    Damage,
    Batches,
    Records,
}

/// Totals of everything read, and the number of damaged places.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    pub damages: u64,
}

/// Receives the report piece by piece.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&str) -> Result<(), CliError>;

pub(super) struct Report<'a> {
    sink: Sink<'a>,
    output: OutputFormat,
    detail: Detail,
    /// Output not yet passed to the sink.
    pending: String,
    totals: Totals,
    file: String,
    file_bytes: u64,
    /// The segment's name has been printed.
    named: bool,
    progress: Option<Progress>,
}

/// Progress line on the terminal, overwritten in place.
struct Progress {
    clock: Arc<dyn Clock>,
    shown_at: Duration,
    shown: bool,
}

const PROGRESS_EVERY: Duration = Duration::from_millis(200);
const PENDING_BYTES_MAX: usize = 64 * 1024;

impl<'a> Report<'a> {
    pub(super) fn new(
        output: OutputFormat,
        detail: Detail,
        clock: Arc<dyn Clock>,
        sink: Sink<'a>,
    ) -> Report<'a> {
        // Batches printed to the same terminal already show progress.
        let visible = std::io::stderr().is_terminal()
            && (detail == Detail::Damage || !std::io::stdout().is_terminal());
        Report {
            sink,
            output,
            detail,
            pending: String::new(),
            totals: Totals::default(),
            file: String::new(),
            file_bytes: 0,
            named: false,
            progress: visible.then(|| Progress {
                shown_at: clock.monotonic(),
                clock,
                shown: false,
            }),
        }
    }

    pub(super) fn shows_records(&self) -> bool {
        self.detail >= Detail::Records
    }

    pub(super) fn segment(&mut self, path: &Path, size_bytes: u64) -> Result<(), CliError> {
        self.totals.segments += 1;
        self.totals.bytes += size_bytes;
        self.file = path.display().to_string();
        self.file_bytes = size_bytes;
        self.named = false;
        if self.detail >= Detail::Batches && self.output == OutputFormat::Text {
            self.name_segment()?;
        }
        Ok(())
    }

    pub(super) fn batch(&mut self, position: u64, batch: &RecordBatch) -> Result<(), CliError> {
        let header = batch.header();
        self.totals.batches += 1;
        self.totals.records += header.record_count as u64;
        if self.detail < Detail::Batches {
            return Ok(());
        }
        let attributes = header.attributes;
        let log_append = attributes.timestamp_type() == TimestampType::LogAppendTime;
        // Not damage, since all records are intact, but reported because consumers stop here.
        let unreadable = batch.check_readable_by_kafka().err();
        if self.output == OutputFormat::Json {
            return self.object(json!({
                "type": "batch",
                "file": self.file,
                "position": position,
                "size_bytes": batch.size_bytes(),
                "base_offset": header.base_offset,
                "last_offset": header.last_offset(),
                "records": header.record_count,
                "compression": attributes.compression().name(),
                "crc": header.crc,
                "leader_epoch": header.partition_leader_epoch,
                "base_timestamp": header.base_timestamp,
                "max_timestamp": header.max_timestamp,
                "timestamp_type": if log_append { "LogAppendTime" } else { "CreateTime" },
                "producer_id": header.producer_id,
                "producer_epoch": header.producer_epoch,
                "base_sequence": header.base_sequence,
                "last_sequence": header.last_sequence(),
                "transactional": attributes.is_transactional(),
                "control": attributes.is_control(),
                "delete_horizon": attributes.has_delete_horizon(),
                "not_for_kafka_clients": unreadable.map(|error| error.to_string()),
            }));
        }
        let mut line = format!(
            "  batch at {position}: offsets {}..{}, {} records, {} bytes, {}, crc {:#010x}, epoch {}, {} {}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            batch.size_bytes(),
            attributes.compression(),
            header.crc,
            header.partition_leader_epoch,
            if log_append { "appended" } else { "created" },
            time(header.max_timestamp),
        );
        if header.is_idempotent() {
            line.push_str(&format!(
                ", producer {} epoch {} sequences {}..{}",
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.last_sequence()
            ));
        }
        for (set, word) in [
            (attributes.is_transactional(), ", transactional"),
            (attributes.is_control(), ", control"),
            (attributes.has_delete_horizon(), ", delete horizon"),
        ] {
            line.push_str(if set { word } else { "" });
        }
        if let Some(error) = unreadable {
            line.push_str(&format!(", not for Kafka clients: {error}"));
        }
        self.line(&line)
    }

    pub(super) fn record(&mut self, record: &Record, control: bool) -> Result<(), CliError> {
        let marker = control.then(|| ControlRecord::of(record)).flatten();
        let coordinator_epoch = marker.and_then(|it| it.coordinator_epoch);
        let marker = marker.map(|it| match it.control_type {
            ControlType::Abort => "abort".to_owned(),
            ControlType::Commit => "commit".to_owned(),
            ControlType::Other(number) => format!("type {number}"),
        });
        if self.output == OutputFormat::Json {
            let mut object = Map::new();
            object.insert("type".into(), "record".into());
            object.extend(record_view::json(record));
            if let Some(marker) = marker {
                object.insert("control".into(), marker.into());
                object.insert("coordinator_epoch".into(), coordinator_epoch.into());
            }
            return self.object(Value::Object(object));
        }
        let mut line = format!("    {} {}", record.offset, time(record.timestamp_ms));
        match marker {
            Some(marker) => {
                line.push_str(&format!(" marker: {marker}"));
                if let Some(epoch) = coordinator_epoch {
                    line.push_str(&format!(", coordinator epoch {epoch}"));
                }
            }
            None => {
                // Quoted, so that record content cannot be mistaken for a line of the report.
                let quoted = |bytes: Option<&bytes::Bytes>| match bytes {
                    Some(bytes) => format!("{:?}", record_view::lossy(bytes)),
                    None => "null".to_owned(),
                };
                line.push_str(&format!(
                    " key={} value={}",
                    quoted(record.key.as_ref()),
                    quoted(record.value.as_ref())
                ));
                for header in &record.headers {
                    line.push_str(&format!(
                        " {:?}={}",
                        record_view::lossy(&header.key),
                        quoted(header.value.as_ref())
                    ));
                }
            }
        }
        self.line(&line)
    }

    pub(super) fn damage(
        &mut self,
        position: u64,
        length: u64,
        reason: &str,
    ) -> Result<(), CliError> {
        self.totals.damages += 1;
        if self.output == OutputFormat::Json {
            return self.object(json!({
                "type": "damage",
                "file": self.file,
                "position": position,
                "length": length,
                "reason": reason,
            }));
        }
        self.name_segment()?;
        self.line(&format!(
            "  DAMAGE at {position} ({length} bytes): {reason}"
        ))
    }

    pub(super) fn index(&mut self, kind: &str, result: IndexResult) -> Result<(), CliError> {
        self.totals.damages += result.mismatch_count;
        if !result.present || (self.detail < Detail::Batches && result.mismatch_count == 0) {
            return Ok(());
        }
        if self.output == OutputFormat::Json {
            return self.object(json!({
                "type": kind,
                "file": self.file,
                "entries": result.entries,
                "mismatches": result.mismatch_count,
                "reasons": result.mismatches,
            }));
        }
        self.name_segment()?;
        if result.mismatch_count == 0 {
            return self.line(&format!(
                "  {kind}: {} entries match the log",
                result.entries
            ));
        }
        self.line(&format!(
            "  DAMAGE in {kind}: {} of {} entries do not match the log",
            result.mismatch_count, result.entries
        ))?;
        for reason in &result.mismatches {
            self.line(&format!("    {reason}"))?;
        }
        Ok(())
    }

    /// Prints the summary.
    pub(super) fn finish(mut self) -> Result<Totals, CliError> {
        let Totals {
            segments,
            batches,
            records,
            bytes,
            damages,
        } = self.totals;
        match self.output {
            OutputFormat::Json => self.object(json!({
                "type": "summary",
                "segments": segments,
                "batches": batches,
                "records": records,
                "bytes": bytes,
                "damages": damages,
            }))?,
            OutputFormat::Text => self.line(&format!(
                "{}, {}, {}, {bytes} bytes: {}",
                counted(segments, "segment", "segments"),
                counted(batches, "batch", "batches"),
                counted(records, "record", "records"),
                match damages {
                    0 => "no damage found".to_owned(),
                    1 => "DAMAGED in 1 place".to_owned(),
                    more => format!("DAMAGED in {more} places"),
                }
            ))?,
        }
        self.flush()?;
        Ok(self.totals)
    }

    /// Updates the progress line, at most once per `PROGRESS_EVERY`.
    pub(super) fn progress(&mut self, position: u64) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        let now = progress.clock.monotonic();
        if now.saturating_sub(progress.shown_at) < PROGRESS_EVERY {
            return;
        }
        progress.shown_at = now;
        progress.shown = true;
        let percent = position * 100 / self.file_bytes.max(1);
        // Failing to show progress must not stop the dump.
        let _ = write!(std::io::stderr(), "\r\x1b[K{} {percent} %", self.file);
    }

    fn name_segment(&mut self) -> Result<(), CliError> {
        if self.named {
            return Ok(());
        }
        self.named = true;
        let line = format!("{} ({} bytes)", self.file, self.file_bytes);
        self.line(&line)
    }

    fn object(&mut self, object: Value) -> Result<(), CliError> {
        self.line(&object.to_string())
    }

    fn line(&mut self, line: &str) -> Result<(), CliError> {
        self.pending.push_str(line);
        self.pending.push('\n');
        if self.pending.len() > PENDING_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CliError> {
        if let Some(progress) = self.progress.as_mut().filter(|it| it.shown) {
            progress.shown = false;
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        (self.sink)(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

/// Formats a timestamp as RFC 3339, or as a plain number outside the years 1970 to 9999.
fn time(timestamp_ms: i64) -> String {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    match u64::try_from(timestamp_ms) {
        Ok(ms) if ms < YEAR_10000_MS => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => timestamp_ms.to_string(),
    }
}
