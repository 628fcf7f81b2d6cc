//! Lengths that lie, at every place of every message: no panic, and no more memory than the budget says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::protocol::Request as WitnessRequest;
use streamline::protocol::kafka::{Request, decode_request, decode_response, memory_budget};

use crate::generate::{Generate, Random};
use crate::{ForApi, for_every_api, random_message, seed};

/// Counts what the current thread has allocated, and the most it had at once.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counters left; nothing is measured there.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
// SAFETY: every call goes on to the system's allocator as it came; counting touches plain cells and never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most memory held at once while `work` runs, over what was held before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).max(0) as usize
}

/// Lengths, counts, tags and sizes as an attacker would claim them, fixed and compact.
const LIES: [&[u8]; 9] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0x7f, 0xff],
    &[0xff],
    &[0x00],
];

struct Lie {
    random: Random,
    decoded: usize,
}

impl Lie {
    fn try_all(&mut self, valid: &Bytes, what: &str, decode: impl Fn(Bytes)) {
        let mut attempt = |bytes: Vec<u8>, lie: &[u8], at: usize| {
            let bytes = Bytes::from(bytes);
            let bound = memory_budget(bytes.len());
            let peak = peak_of(|| decode(bytes));
            assert!(
                peak <= bound,
                "{what}: {peak} bytes taken where {bound} are allowed, for {lie:02x?} at {at}"
            );
            self.decoded += 1;
        };
        for at in 0..valid.len() {
            attempt(valid[..at].to_vec(), &[], at);
            for lie in LIES {
                // The lie in place of what was there, and with everything after it still there.
                let mut bytes = valid.to_vec();
                let end = (at + lie.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&lie[..end - at]);
                attempt(bytes, lie, at);
                let mut bytes = valid.to_vec();
                bytes.splice(at..at + 1, lie.iter().copied());
                attempt(bytes, lie, at);
            }
        }
    }
}

impl ForApi for Lie {
    fn run<R, Q, S, W>(&mut self)
    where
        R: Request,
        Q: Generate,
        S: Generate,
        W: WitnessRequest<Response: Debug> + Debug,
    {
        for version in R::VERSIONS {
            let what = format!("{} version {version}", R::NAME);
            let request = random_message::<R, Q>(&mut self.random, version, false);
            self.try_all(&request, &what, |bytes| {
                let _ = decode_request::<R>(bytes, version);
            });
            let what = format!("response to {what}");
            let response = random_message::<R, S>(&mut self.random, version, false);
            let header = if version >= R::FLEXIBLE_FROM { 5 } else { 4 };
            let frame = Bytes::from([&vec![0; header][..], &response[..]].concat());
            self.try_all(&frame, &what, |bytes| {
                let _ = decode_response::<R>(bytes, version);
            });
        }
    }
}

#[test]
fn lying_lengths_cost_no_memory_and_no_panic() {
    let mut lie = Lie {
        random: Random::new(seed()),
        decoded: 0,
    };
    for_every_api(&mut lie);
    println!("{} lies told", lie.decoded);
}

#[test]
fn four_bytes_cannot_ask_for_gigabytes() {
    use streamline::protocol::kafka::Problem;
    use streamline::protocol::messages::metadata::MetadataRequest;

    let peak = peak_of(|| {
        let refused =
            decode_request::<MetadataRequest>(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), 0);
        assert_eq!(
            refused.map_err(|error| error.problem),
            Err(Problem::CountExceedsBytes {
                count: 0x7fff_ffff,
                left: 0
            })
        );
    });
    assert_eq!(peak, 0);
}

#[test]
fn a_large_frame_of_nothing_but_empty_elements_is_refused_before_it_grows() {
    use streamline::protocol::kafka::Problem;
    use streamline::protocol::messages::describe_groups::DescribeGroupsRequest;

    // Eight million empty group names: 8 MiB as they came, 192 MiB as strings.
    let count = 8 << 20;
    let mut bytes = vec![0x81, 0x80, 0x80, 0x04];
    bytes.resize(bytes.len() + count, 1);
    bytes.extend([0, 0]);
    let bytes = Bytes::from(bytes);
    let peak = peak_of(|| {
        let refused = decode_request::<DescribeGroupsRequest>(bytes.clone(), 5);
        assert_eq!(
            refused.map_err(|error| error.problem),
            Err(Problem::OverBudget)
        );
    });
    assert!(peak <= memory_budget(bytes.len()));
}
