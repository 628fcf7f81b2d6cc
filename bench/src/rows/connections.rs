//! Cost of an idle connection.

use std::thread;
use std::time::Duration;

use ::streamline::protocol::messages::api_versions::ApiVersionsRequest;
use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "connections",
    part: Part::Speed,
    about: "10,000 idle connections: resident memory of each, and CPU",
    quick: true,
    run,
};

const CONNECTIONS: u64 = 10_000;
/// Descriptors that this program needs for other purposes.
const OTHER_DESCRIPTORS: u64 = 200;
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);

fn run(context: &Context) -> Result<Findings> {
    raise_descriptor_limit()?;
    let mut findings = Findings::default();
    let figures = context.turns("connections", || {
        let server = streamline::start(context, &[])?;
        let before = server.process.resident()?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(server.address)?;
            // Each is used once, like a client's.
            connection.call(0, &ApiVersionsRequest::default())?;
            connections.push(connection);
        }
        let resident = server.process.resident()?.saturating_sub(before);
        // Waits for work left over from opening them.
        thread::sleep(context.effort.time(SETTLE));
        let before = server.process.threads()?;
        thread::sleep(context.effort.time(IDLE));
        let idle = server.process.threads()?.since(&before);
        Ok((
            resident as f64 / CONNECTIONS as f64,
            idle.as_secs_f64() / context.effort.time(IDLE).as_secs_f64(),
        ))
    })?;
    findings.compare(Comparison::absolute(
        "resident memory of an idle connection",
        Unit::Bytes,
        Side::new("Streamline", figures.iter().map(|(bytes, _)| *bytes)),
        Target::AtMost(8.0 * 1024.0),
    ));
    findings.compare(Comparison::absolute(
        "CPU with 10,000 idle connections",
        Unit::Share,
        Side::new("Streamline", figures.iter().map(|(_, share)| *share)),
        Target::AtMost(0.005),
    ));
    findings.remark(
        "Each connection has served one request. CPU is a share of one processor; up to 0.5 % counts as none.",
    );
    Ok(findings)
}

fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = CONNECTIONS + OTHER_DESCRIPTORS;
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "needs {needed} file descriptors; the limit is {:?}",
        limit.maximum
    );
    let current = limit.current.map(|current| current.max(needed));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current,
            maximum: limit.maximum,
        },
    )?;
    Ok(())
}
