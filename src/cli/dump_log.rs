//! `streamline dump-log`: reads segments where they lie, without a server, and says what is in them and what is wrong.
//!
//! It reads what Streamline and Apache Kafka write, and shares no code with the server's own storage beyond the record
//! format, so that one can be held against the other. Files are only read. In the directory of a running server the
//! batch that is being written may look torn.

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

/// Records are shown up to this much of them in one batch, decompressed.
const SHOWN_BYTES_MAX: u64 = 2 << 30;

#[derive(Debug, clap::Args)]
pub struct DumpLog {
    /// Segments (.log, or an index beside one), partition directories, or a data directory
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print every record, not only the batches
    #[arg(long, visible_alias = "print-records", conflicts_with = "verify_only")]
    deep: bool,

    /// Print damage and the summary only
    #[arg(long)]
    verify_only: bool,

    #[arg(skip)]
    output: OutputFormat,
}

/// Reads all that `args` name; as JSON it is one object a line. The exit code is 1 when damage was found; an error means
/// that something could not be read at all.
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

/// What one segment tells the next of its partition.
#[derive(Debug, Default)]
struct Carried {
    next_offset: Option<i64>,
    leader_epoch: Option<i32>,
}

/// The segments named by `paths`, those of one directory together and in order.
fn find_segments(paths: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(cannot_read(path))?;
        if metadata.is_file() {
            found.push(vec![log_of(path)?]);
            continue;
        }
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
                "{}: no segment (.log) in it, nor in the directories in it",
                path.display()
            )));
        }
    }
    Ok(found)
}

/// The log that a file named on the command line belongs to.
fn log_of(path: &Path) -> Result<PathBuf, CliError> {
    let log = path.with_extension(LOG);
    match path.extension().and_then(|it| it.to_str()) {
        Some(LOG | INDEX | TIME_INDEX) if base_offset(path).is_none() => {
            Err(CliError::Usage(format!(
                "{}: a segment is named by its base offset in 20 digits",
                path.display()
            )))
        }
        Some(LOG) => Ok(log),
        Some(INDEX | TIME_INDEX) if log.is_file() => Ok(log),
        Some(INDEX | TIME_INDEX) => Err(CliError::Usage(format!(
            "{}: the log it belongs to, {}, is not there",
            path.display(),
            log.display()
        ))),
        _ => Err(CliError::Usage(format!(
            "{}: neither a segment (.log) nor one of its indexes (.index, .timeindex)",
            path.display()
        ))),
    }
}

/// The base offset in a segment's name.
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
        report.damage(0, 0, "the segment before it goes on into this one")?;
    }
    while let Some(event) = reader.next().map_err(cannot_read(path))? {
        match event {
            Event::Batch { position, batch } => {
                report.progress(position);
                report.batch(position, &batch)?;
                for reason in complaints(&batch, reader.expected_offset(), carried) {
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

/// What is wrong with a batch, given those before it. None of these fields is covered by its CRC.
fn complaints(batch: &RecordBatch, expected_offset: i64, carried: &Carried) -> Vec<String> {
    let header = batch.header();
    let mut complaints = Vec::new();
    if header.base_offset < expected_offset {
        complaints.push(format!(
            "offsets go back: {} where at least {expected_offset} is due",
            header.base_offset
        ));
    }
    if let Some(before) = carried
        .leader_epoch
        .filter(|it| header.partition_leader_epoch < *it)
    {
        complaints.push(format!(
            "leader epoch goes back from {before} to {}",
            header.partition_leader_epoch
        ));
    }
    complaints
}

/// Checks the records of a batch and prints them if asked to.
fn dump_records(
    position: u64,
    batch: &RecordBatch,
    report: &mut Report<'_>,
) -> Result<(), CliError> {
    let length = batch.size_bytes() as u64;
    // Checking takes no memory, so that whatever was once accepted into a log can be checked.
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
