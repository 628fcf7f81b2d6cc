//! Arbitrary bytes as a response of any API and version, as received by the command line: no panic, and a decoded
//! response round-trips.
//!
//! The first byte selects the API, the second the version. The correlation id and the header's tags are prepended.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use streamline::protocol::kafka::{
    ApiKey, LENGTH_BYTES, Request, decode_response, encode_response,
};
use streamline::protocol::messages::{ForApi, for_api};

struct Decode<'a> {
    version: u8,
    body: &'a [u8],
}

impl ForApi for Decode<'_> {
    type Output = ();

    fn run<R: Request>(self) {
        let versions = R::VERSIONS;
        let version = versions.start() + i16::from(self.version) % versions.clone().count() as i16;
        let tags = version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions;
        let header = if tags { &[0; 5][..] } else { &[0; 4] };
        let frame = Bytes::from([header, self.body].concat());
        let Ok((_, response)) = decode_response::<R>(frame, version) else {
            return;
        };
        let encoded =
            encode_response::<R>(0, version, &response).expect("a decoded response can be encoded");
        let chunks = encoded
            .chunks
            .iter()
            .map(|chunk| chunk.to_bytes().expect("in memory"));
        let bytes: Vec<u8> = chunks.flatten().collect();
        let frame = Bytes::from(bytes).slice(LENGTH_BYTES..);
        let (_, again) =
            decode_response::<R>(frame, version).expect("an encoded response can be decoded");
        assert_eq!(again, response);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let [api, version, body @ ..] = bytes {
        let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
        let version = *version;
        for_api(key, Decode { version, body });
    }
});
