//! Arbitrary bytes as a whole request frame, decoded as by a connection: header, then the body by API key and version.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use streamline::protocol::kafka::{ApiKey, Request, decode_request, decode_request_header};
use streamline::protocol::messages::{ForApi, for_api};

struct Decode {
    version: i16,
    body: Bytes,
}

impl ForApi for Decode {
    type Output = ();

    fn run<R: Request>(self) {
        let supported = R::VERSIONS.contains(&self.version);
        let decoded = decode_request::<R>(self.body, self.version);
        assert!(supported || decoded.is_err());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut body = Bytes::copy_from_slice(bytes);
    if let Ok(header) = decode_request_header(&mut body) {
        assert!(body.len() + 10 <= bytes.len() || ApiKey::try_from(header.api_key).is_err());
        if let Ok(key) = ApiKey::try_from(header.api_key) {
            let version = header.api_version;
            for_api(key, Decode { version, body });
        }
    }
});
