//! `streamline dump-log`: prints and verifies segment files offline, without a server.
//!
//! It reads segments written by Streamline or Apache Kafka, and shares no code with the server's storage beyond the
//! record format, so that one can be checked against the other. It never writes to the files. In the directory of a
//! running server, the batch being appended may appear torn.

mod index;
mod report;
mod segment;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::error::CliError;
use super::output::{OutputFormat, print};
use crate::clock::SystemClock;
use crate::record::{DecompressLimit, RecordBatch};
use index::IndexCheck;
use report::{Detail, Report, Sink, Totals};
use segment::{Event, SegmentReader};

const LOG: &str = "log";
const INDEX: &str = "index";
const TIME_INDEX: &str = "timeindex";

/// Decompressed size up to which the records of a batch are printed, in bytes.
const SHOWN_BYTES_MAX: u64 = 2 << 30;

#[derive(Debug, clap::Args)]
pub struct DumpLog {
    /// Segment or index files, partition directories, or a data directory
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print every record in addition to the batches
    #[arg(long, visible_alias = "print-records", conflicts_with = "verify_only")]
    deep: bool,

    /// Print only damage and the summary
    #[arg(long)]
    verify_only: bool,

    #[arg(skip)]
    output: OutputFormat,
}

/// Dumps all paths in `args`, with JSON output as one object per line. Returns exit code 1 if damage was found, and an
/// error if a file could not be read at all.
pub fn run(args: DumpLog, output: OutputFormat) -> Result<ExitCode, CliError> {
    let args = DumpLog { output, ..args };
    let totals = dump(&args, &mut print)?;
    Ok(ExitCode::from(if totals.damages == 0 { 0 } else { 1 }))
}

fn dump(args: &DumpLog, sink: Sink<'_>) -> Result<Totals, CliError> {
    let detail = match (args.deep, args.verify_only) {
        (true, _) => Detail::Records,
        (_, true) => Detail::Damage,
        _ => Detail::Batches,
    };
    let partitions = find_segments(&args.paths)?;
    let mut report = Report::new(args.output, detail, SystemClock::new(), sink);
    for segments in partitions {
        let mut carried = Carried::default();
        for path in segments {
            dump_segment(&path, &mut carried, &mut report)?;
        }
    }
    report.finish()
}

/// State carried from one segment of a partition to the next.
#[derive(Debug, Default)]
struct Carried {
    next_offset: Option<i64>,
    leader_epoch: Option<i32>,
}

/// Finds the segments in `paths`, grouped by directory and sorted by base offset.
fn find_segments(paths: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(cannot_read(path))?;
        if metadata.is_file() {
            found.push(vec![log_of(path)?]);
            continue;
        }
        // A directory may be a partition, a data directory with partitions, or both.
        let before = found.len();
        let entries = entries_of(path)?;
        let own: Vec<_> = entries
            .iter()
            .filter(|it| is_segment(it))
            .cloned()
            .collect();
        if !own.is_empty() {
            found.push(own);
        }
        for child in entries.iter().filter(|it| it.is_dir()) {
            let segments: Vec<_> = entries_of(child)?
                .into_iter()
                .filter(|it| is_segment(it))
                .collect();
            if !segments.is_empty() {
                found.push(segments);
            }
        }
        if found.len() == before {
            return Err(CliError::Usage(format!(
                "{}: no segment (.log) in this directory or its subdirectories",
                path.display()
            )));
        }
    }
    Ok(found)
}

/// Returns the log file that a path from the command line belongs to.
fn log_of(path: &Path) -> Result<PathBuf, CliError> {
    let log = path.with_extension(LOG);
    match path.extension().and_then(|it| it.to_str()) {
        Some(LOG | INDEX | TIME_INDEX) if base_offset(path).is_none() => {
            Err(CliError::Usage(format!(
                "{}: not a segment; its name must be the base offset in 20 digits",
                path.display()
            )))
        }
        Some(LOG) => Ok(log),
        Some(INDEX | TIME_INDEX) if log.is_file() => Ok(log),
        Some(INDEX | TIME_INDEX) => Err(CliError::Usage(format!(
            "{}: its log file {} does not exist",
            path.display(),
            log.display()
        ))),
        _ => Err(CliError::Usage(format!(
            "{}: not a segment (.log) or index (.index, .timeindex)",
            path.display()
        ))),
    }
}

/// Parses the base offset in a segment's file name.
fn base_offset(path: &Path) -> Option<i64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.len() == 20 && stem.bytes().all(|it| it.is_ascii_digit());
    digits.then(|| stem.parse().ok()).flatten()
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == LOG) && base_offset(path).is_some() && path.is_file()
}

fn entries_of(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut entries = fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|it| it.map(|it| it.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(cannot_read(directory))?;
    entries.sort();
    Ok(entries)
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    CliError::io(format!("cannot read {}", path.display()))
}

fn dump_segment(
    path: &Path,
    carried: &mut Carried,
    report: &mut Report<'_>,
) -> Result<(), CliError> {
    let base_offset = base_offset(path).unwrap_or(0);
    let mut reader = SegmentReader::open(path, base_offset).map_err(cannot_read(path))?;
    let mut offsets = IndexCheck::offsets(&path.with_extension(INDEX), base_offset)?;
    let mut times = IndexCheck::times(&path.with_extension(TIME_INDEX), base_offset)?;
    report.segment(path, reader.size_bytes())?;

    if carried.next_offset.is_some_and(|next| base_offset < next) {
        report.damage(0, 0, "the previous segment overlaps this one")?;
    }
    while let Some(event) = reader.next().map_err(cannot_read(path))? {
        match event {
            Event::Batch { position, batch } => {
                report.progress(position);
                report.batch(position, &batch)?;
                for reason in order_violations(&batch, reader.expected_offset(), carried) {
                    report.damage(position, batch.size_bytes() as u64, &reason)?;
                }
                dump_records(position, &batch, report)?;
                let header = batch.header();
                reader.advance(header.next_offset());
                carried.leader_epoch = Some(header.partition_leader_epoch);
                carried.next_offset = Some(header.next_offset());
                offsets.batch(position, header)?;
                times.batch(position, header)?;
            }
            Event::Damage {
                position,
                end,
                reason,
            } => {
                report.damage(position, end - position, &reason)?;
                offsets.damage();
                times.damage();
            }
        }
    }
    report.index(INDEX, offsets.finish()?)?;
    report.index(TIME_INDEX, times.finish()?)
}

/// Violations of the order of batches in the log. None of these fields is covered by the batch's CRC.
fn order_violations(batch: &RecordBatch, expected_offset: i64, carried: &Carried) -> Vec<String> {
    let header = batch.header();
    let mut violations = Vec::new();
    if header.base_offset < expected_offset {
        violations.push(format!(
            "base offset {} is below the expected {expected_offset}",
            header.base_offset
        ));
    }
    if let Some(before) = carried
        .leader_epoch
        .filter(|it| header.partition_leader_epoch < *it)
    {
        violations.push(format!(
            "leader epoch decreases from {before} to {}",
            header.partition_leader_epoch
        ));
    }
    violations
}

/// Validates the records of a batch and prints them if requested.
fn dump_records(
    position: u64,
    batch: &RecordBatch,
    report: &mut Report<'_>,
) -> Result<(), CliError> {
    let length = batch.size_bytes() as u64;
    // Validation streams, so it needs no limit: any batch that was once accepted can be checked.
    if let Err(error) = batch.validate_records(DecompressLimit::bytes(u64::MAX)) {
        return report.damage(position, length, &error.to_string());
    }
    if !report.shows_records() {
        return Ok(());
    }
    match batch.records(DecompressLimit::bytes(SHOWN_BYTES_MAX)) {
        Err(error) => report.damage(position, length, &error.to_string()),
        Ok(records) => records
            .flatten()
            .try_for_each(|record| report.record(&record, batch.header().attributes.is_control())),
    }
}

#[cfg(test)]
mod tests;
