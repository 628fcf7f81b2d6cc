//! Produce and fetch through librdkafka, against peers.

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::loads::{Moved, Turn, librdkafka};
use crate::outcome::{Comparison, Findings, MovingTargets, Side, Target};
use crate::peers::nisshi::{self, Engine};
use crate::peers::{Server, kafka, own, streamline};
use crate::process;
use crate::quantity::Unit;

pub const PRODUCE_KAFKA: Row = Row {
    name: "produce-kafka",
    part: Part::Speed,
    about: "librdkafka produces 1 KiB and 100 B records to the page cache, against Apache Kafka",
    quick: false,
    run: |context| {
        let mut findings = Findings::default();
        let targets = MovingTargets {
            speed: Target::AtLeast(2.0),
            cpu: Target::AtMost(1.0 / 3.0),
        };
        produce(context, &mut findings, &against_kafka(context)?, targets)?;
        Ok(findings)
    },
};

pub const FETCH_KAFKA: Row = Row {
    name: "fetch-kafka",
    part: Part::Speed,
    about: "librdkafka consumes 1 KiB and 100 B records from the page cache, against Apache Kafka",
    quick: false,
    run: |context| {
        let mut findings = Findings::default();
        let targets = speed(1.5);
        fetch(context, &mut findings, &against_kafka(context)?, targets)?;
        Ok(findings)
    },
};

pub const PRODUCE_NISSHI: Row = Row {
    name: "produce-nisshi",
    part: Part::Speed,
    about: "librdkafka produces 1 KiB and 100 B records to the page cache, against Nisshi in memory and on SQLite",
    quick: false,
    run: |context| {
        let mut findings = Findings::default();
        for (engine, times) in [(Engine::Memory, 1.2), (Engine::Sqlite, 10.0)] {
            let peer = against_nisshi(context, engine)?;
            produce(context, &mut findings, &peer, speed(times))?;
        }
        Ok(findings)
    },
};

pub const FETCH_NISSHI: Row = Row {
    name: "fetch-nisshi",
    part: Part::Speed,
    about: "librdkafka consumes 1 KiB and 100 B records from the page cache, against Nisshi in memory and on SQLite",
    quick: false,
    run: |context| {
        let mut findings = Findings::default();
        for (engine, times) in [(Engine::Memory, 1.0), (Engine::Sqlite, 50.0)] {
            let peer = against_nisshi(context, engine)?;
            fetch(context, &mut findings, &peer, speed(times))?;
        }
        Ok(findings)
    },
};

/// Names, sizes, and number of records in a turn of about a second.
const SIZES: &[(&str, usize, u64)] = &[("1 KiB", 1024, 500_000), ("100 B", 100, 2_000_000)];

fn speed(times: f64) -> MovingTargets {
    MovingTargets {
        speed: Target::AtLeast(times),
        cpu: Target::None,
    }
}

/// The other side.
struct Peer {
    server: Server,
    /// It gets one in this many of Streamline's records, so that its turn does not take minutes.
    one_in: u64,
}

fn against_kafka(context: &Context) -> Result<Peer> {
    Ok(Peer {
        server: kafka::start(context, &[])?,
        one_in: 1,
    })
}

fn against_nisshi(context: &Context, engine: Engine) -> Result<Peer> {
    Ok(Peer {
        server: nisshi::start(context, engine)?,
        one_in: match engine {
            Engine::Memory => 1,
            Engine::Sqlite => 20,
        },
    })
}

/// One side's turn.
struct Measured {
    turn: Turn,
    /// Processors that the client kept busy.
    client_busy: f64,
}

fn measured(server: &Server, work: impl FnOnce() -> Result<Moved>) -> Result<Measured> {
    let own = process::own_cpu()?;
    let before = server.process.cpu()?;
    let moved = work()?;
    let spent = server.process.cpu()? - before;
    let own = process::own_cpu()? - own;
    Ok(Measured {
        turn: (moved, spent),
        client_busy: own.as_secs_f64() / moved.elapsed.as_secs_f64(),
    })
}

/// Compares throughput and CPU of the servers, and with a no-op server: a client that is hardly faster with it is the
/// bottleneck.
fn compare(
    findings: &mut Findings,
    what: &str,
    peer: &Peer,
    pairs: &[(Measured, Measured)],
    nothing: &[Moved],
    targets: MovingTargets,
) {
    let turns: Vec<(Turn, Turn)> = pairs
        .iter()
        .map(|(ours, theirs)| (ours.turn, theirs.turn))
        .collect();
    findings.compare_moving(what, &peer.server.name, &turns, targets);
    let speeds = pairs.iter().map(|(ours, _)| ours.turn.0.bytes_per_second());
    findings.compare(Comparison::ratio(
        format!("share of the client's limit, {what}"),
        Unit::BytesPerSecond,
        Side::new("Streamline", speeds),
        Side::new(
            "a server that does nothing",
            nothing.iter().map(Moved::bytes_per_second),
        ),
        Target::None,
    ));
    findings.compare(Comparison::absolute(
        format!("processors kept busy by the client, {what}"),
        Unit::Share,
        Side::new("Streamline", pairs.iter().map(|(ours, _)| ours.client_busy)),
        Target::None,
    ));
}

fn produce(
    context: &Context,
    findings: &mut Findings,
    peer: &Peer,
    targets: MovingTargets,
) -> Result<()> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    for &(size, record_bytes, records) in SIZES {
        let records = context.effort.count(records);
        let turn = |server: &Server, records| {
            let topic = context.topic();
            let mut admin = Connection::open(server.address)?;
            admin.create_topic(&topic, 1, &[])?;
            let turn = measured(server, || {
                librdkafka::produce(server.address, &topic, record_bytes, records)
            })?;
            admin.delete_topic(&topic)?;
            Ok(turn)
        };
        let what = format!("produce, librdkafka, {size}, against {}", peer.server.name);
        let pairs = context.pairs(
            &what,
            || turn(&ours, records),
            || turn(&peer.server, records / peer.one_in),
        )?;
        let sink = own::sink(context, record_bytes)?;
        let topic = context.topic();
        let nothing = context.turns(&format!("{what}: the client alone"), || {
            librdkafka::produce(sink.address, &topic, record_bytes, records)
        })?;
        compare(findings, &what, peer, &pairs, &nothing, targets);
    }
    findings.remark(format!(
        "Against {}: librdkafka with default settings, acks=1, one partition. A turn ends when every record is acknowledged. \
         Bytes are those of the values.",
        peer.server.name
    ));
    Ok(())
}

fn fetch(
    context: &Context,
    findings: &mut Findings,
    peer: &Peer,
    targets: MovingTargets,
) -> Result<()> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    for &(size, record_bytes, records) in SIZES {
        let records = context.effort.count(records);
        let topic = context.topic();
        let sides = [(&ours, records), (&peer.server, records / peer.one_in)];
        for (server, records) in sides {
            Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
            librdkafka::produce(server.address, &topic, record_bytes, records)?;
        }
        let turn = |(server, records): (&Server, u64)| {
            measured(server, || {
                librdkafka::consume(server.address, &topic, records)
            })
        };
        let what = format!("fetch, librdkafka, {size}, against {}", peer.server.name);
        let pairs = context.pairs(&what, || turn(sides[0]), || turn(sides[1]))?;
        let sink = own::sink(context, record_bytes)?;
        let nothing = context.turns(&format!("{what}: the client alone"), || {
            librdkafka::consume(sink.address, &topic, records)
        })?;
        compare(findings, &what, peer, &pairs, &nothing, targets);
        for (server, _) in sides {
            Connection::open(server.address)?.delete_topic(&topic)?;
        }
    }
    findings.remark(format!(
        "Against {}: librdkafka reads one partition, produced by librdkafka, from its start. Default settings, except for a \
         queue that never fills, since it would then pause for half a second. Streamline's log is in the page cache.",
        peer.server.name
    ));
    Ok(())
}
