//! Arbitrary bytes as a request of any API and version: no panic, and a decoded request round-trips.
//!
//! The first byte selects the API, the second the version.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use streamline::protocol::kafka::{
    ApiKey, LENGTH_BYTES, Request, decode_request, decode_request_header, encode_request,
};
use streamline::protocol::messages::{ForApi, for_api};

struct Decode {
    version: u8,
    body: Bytes,
}

impl ForApi for Decode {
    type Output = ();

    fn run<R: Request>(self) {
        let versions = R::VERSIONS;
        let version = versions.start() + i16::from(self.version) % versions.clone().count() as i16;
        let Ok(request) = decode_request::<R>(self.body, version) else {
            return;
        };
        let frame =
            encode_request(0, version, None, &request).expect("a decoded request can be encoded");
        let mut frame = frame.slice(LENGTH_BYTES..);
        decode_request_header(&mut frame).expect("our own header");
        let again = decode_request::<R>(frame, version).expect("an encoded request can be decoded");
        assert_eq!(again, request);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let [api, version, body @ ..] = bytes {
        let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
        let body = Bytes::copy_from_slice(body);
        let version = *version;
        for_api(key, Decode { version, body });
    }
});
