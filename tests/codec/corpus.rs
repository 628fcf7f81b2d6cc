//! Generator of the fuzz targets' seed corpora: valid messages from a fixed seed.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use kafka_protocol::protocol::Request as WitnessRequest;
use streamline::protocol::kafka::{ApiKey, LENGTH_BYTES, Request, decode_request, encode_request};

use crate::generate::{Generate, Random};
use crate::{ForApi, for_every_api, random_message};

struct Corpus {
    random: Random,
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).expect("the corpus has a folder");
    fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

impl ForApi for Corpus {
    fn run<R, Q, S, W>(&mut self)
    where
        R: Request,
        Q: Generate,
        S: Generate,
        W: WitnessRequest<Response: Debug> + Debug,
    {
        let index = ApiKey::ALL
            .iter()
            .position(|key| *key == R::KEY)
            .expect("every key is listed");
        let (lowest, highest) = (*R::VERSIONS.start(), *R::VERSIONS.end());
        // The targets encode API and version in two bytes.
        let prefix = |version: i16| [index as u8, (version - lowest) as u8];
        for version in [lowest, highest] {
            let name = format!("{}_v{version}", R::KEY.metric_name());
            // The longest of a few messages, so that the arrays are not empty.
            let request = (0..8)
                .map(|_| random_message::<R, Q>(&mut self.random, version, false))
                .max_by_key(Bytes::len)
                .expect("eight messages");
            let response = (0..8)
                .map(|_| random_message::<R, S>(&mut self.random, version, false))
                .max_by_key(Bytes::len)
                .expect("eight messages");
            write(
                "decode_requests",
                &name,
                &[&prefix(version)[..], &request].concat(),
            );
            write(
                "decode_responses",
                &name,
                &[&prefix(version)[..], &response].concat(),
            );
            let request = decode_request::<R>(request, version).expect("a valid message");
            let frame = encode_request(1, version, Some("fuzz"), &request).expect("it encodes");
            write("frame_header", &name, &frame[LENGTH_BYTES..]);
        }
    }
}

/// Run `cargo test --test codec -- --ignored write_the_fuzz_corpora` after adding or changing messages.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_fuzz_corpora() {
    let random = Random::new(1);
    for_every_api(&mut Corpus { random });
}
