//! Load that exceeds the memory.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use streamline::protocol::kafka::{ErrorCode, encode_request};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::produce::ProduceRequest;

use crate::kafka::{PRODUCE, Topic, batch, create, only_partition, produce_request};
use crate::numbers::{numbered, read_numbers};
use crate::support::{Client, Server, pause};

const PRODUCERS: usize = 200;
const REQUESTS: usize = 2;
const VALUE_BYTES: usize = 800_000;
const PARTITIONS: usize = 4;
/// Memory budget of all requests in flight.
const BUDGET_BYTES: usize = 16 << 20;
/// Limit of the address space: much less than one request of each producer. Allocations beyond it fail.
const LIMIT_BYTES: usize = 96 << 20;
/// Time without progress after which none is expected.
const CALM: Duration = Duration::from_millis(200);

/// Acknowledged records of one producer: their partition, and their numbers with the offset if the response had one.
struct Acknowledged {
    partition: usize,
    numbers: Vec<(Option<i64>, usize)>,
    pushed_back: usize,
}

/// Barrier at which producers wait for the others once the server has read nearly all of their first request.
struct Crowd {
    last_arrival: Mutex<Instant>,
    is_released: AtomicBool,
}

impl Crowd {
    /// Returns once all producers have arrived, or as many as the server admits at a time.
    fn wait(&self) {
        *self.last_arrival.lock().unwrap() = Instant::now();
        while !self.is_released.load(Ordering::Relaxed) {
            pause();
            let calm = self.last_arrival.lock().unwrap().elapsed() >= CALM;
            self.is_released.fetch_or(calm, Ordering::Relaxed);
        }
    }
}

/// Sends as fast as the server reads, except for the end of the first request, and reads no response before all is sent.
fn produce_fast(server: &Server, topic: &Topic, producer: usize, crowd: &Crowd) -> Acknowledged {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(64 << 10).unwrap();
    socket.connect(&server.kafka_addr().into()).unwrap();
    let mut client = Client::over(socket.into());
    let acks = (producer % 2) as i16;
    let partition = producer % PARTITIONS;
    let mut numbers = Vec::new();
    let mut pushed_back = 0;
    for request in 0..REQUESTS {
        let is_first = request == 0;
        let number = producer * REQUESTS + request;
        let records = batch(&[&numbered(number, VALUE_BYTES)]);
        let request = produce_request(topic, acks, &[(partition as i32, records.bytes().clone())]);
        let frame = encode_request(0, PRODUCE, None, &request).unwrap();
        let (most, end) = frame.split_at(frame.len() - 1);
        pushed_back += usize::from(send(&mut client.stream, most));
        if is_first {
            crowd.wait();
        }
        send(&mut client.stream, end);
        numbers.push((None, number));
    }
    if acks == 0 {
        // Responses are in order, so all requests before this one have been processed.
        let response = client.call(0, &ApiVersionsRequest::default());
        assert!(!response.api_keys.is_empty());
    } else {
        for (offset, _) in &mut numbers {
            let (_, response) = client.receive::<ProduceRequest>(PRODUCE);
            let response = only_partition(response);
            assert_eq!(response.error_code, ErrorCode::NONE, "{response:?}");
            *offset = Some(response.base_offset);
        }
    }
    Acknowledged {
        partition,
        numbers,
        pushed_back,
    }
}

/// Sends all bytes. Returns true if that had to wait.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&bytes[sent..]).unwrap();
    sent < bytes.len()
}

#[test]
fn two_hundred_fast_producers_are_slowed_and_memory_stays_bounded() {
    let budget = BUDGET_BYTES.to_string();
    let mut server = Server::through(
        &["prlimit", &format!("--data={LIMIT_BYTES}")],
        &["--queued-max-request-bytes", &budget],
    );
    let mut client = server.connect();
    let topic = create(&mut client, "t", PARTITIONS as i32);
    let crowd = Crowd {
        last_arrival: Mutex::new(Instant::now()),
        is_released: AtomicBool::new(false),
    };
    let acknowledged: Vec<Acknowledged> = thread::scope(|scope| {
        let (server, topic, crowd) = (&server, &topic, &crowd);
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| scope.spawn(move || produce_fast(server, topic, producer, crowd)))
            .collect();
        let producers = producers.into_iter();
        producers.map(|producer| producer.join().unwrap()).collect()
    });
    assert!(server.is_running());
    let peak_kib = server.status_kib("VmHWM");
    let bound_kib = (LIMIT_BYTES >> 10) as u64;
    assert!(peak_kib < bound_kib, "peak of {peak_kib} KiB");
    let pushed_back: usize = acknowledged.iter().map(|each| each.pushed_back).sum();
    assert!(pushed_back >= PRODUCERS, "only {pushed_back} sends waited");

    let logs: Vec<_> = (0..PARTITIONS)
        .map(|partition| read_numbers(&mut client, &topic, partition as i32))
        .collect();
    let count: usize = logs.iter().map(Vec::len).sum();
    assert_eq!(count, PRODUCERS * REQUESTS, "each record occurs once");
    for each in &acknowledged {
        let log = &logs[each.partition];
        for (offset, number) in &each.numbers {
            match offset {
                Some(offset) => assert_eq!(log.get(*offset as usize), Some(number)),
                None => assert!(log.contains(number), "{number}"),
            }
        }
    }
    let errors = [("api_key", "produce"), ("error", "true")];
    assert_eq!(
        server.metrics().sum("streamline_requests_total", &errors),
        0.0
    );
    assert_eq!(server.get("/health").0, 200);
    println!(
        "figures: {PRODUCERS} producers sent {} MiB against a limit of {} MiB: peak of {} MiB resident, {pushed_back} of \
         {count} sends waited, each of {count} acknowledged records found",
        (count * VALUE_BYTES) >> 20,
        LIMIT_BYTES >> 20,
        peak_kib >> 10,
    );
}
