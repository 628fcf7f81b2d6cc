//! False lengths at every position of every message: they cause no panic and exceed no memory budget.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::protocol::Request as WitnessRequest;
use streamline::protocol::kafka::{Request, decode_request, decode_response, memory_budget};

use crate::generate::{Generate, Random};
use crate::{ForApi, for_every_api, random_message, seed};

/// Allocator that counts the current thread's allocated bytes and their peak.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // The counters of an ending thread are destroyed; nothing is measured there.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
// SAFETY: every call is forwarded unchanged to the system allocator; counting uses plain cells and never allocates.
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

/// Returns the peak of memory allocated by `work`, in bytes.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).max(0) as usize
}

/// False lengths, counts, tags and sizes, in fixed and compact form.
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
                "{what}: {peak} bytes allocated, {bound} allowed, for {lie:02x?} at {at}"
            );
            self.decoded += 1;
        };
        for at in 0..valid.len() {
            attempt(valid[..at].to_vec(), &[], at);
            for lie in LIES {
                // The false length in place of the original bytes, with all bytes after it unchanged.
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
fn false_lengths_cause_no_panic_and_no_excess_memory() {
    let mut lie = Lie {
        random: Random::new(seed()),
        decoded: 0,
    };
    for_every_api(&mut lie);
    println!("{} false lengths tried", lie.decoded);
}

#[test]
fn four_bytes_cannot_allocate_gigabytes() {
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
fn a_large_frame_of_empty_elements_is_rejected_before_allocation() {
    use streamline::protocol::kafka::Problem;
    use streamline::protocol::messages::describe_groups::DescribeGroupsRequest;

    // Eight million empty group names: 8 MiB on the wire, 192 MiB as strings.
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
