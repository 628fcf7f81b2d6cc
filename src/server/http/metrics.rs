//! `GET /metrics`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};

use super::expositions::{CutOff, Exposition, Expositions};
use super::{HttpState, json_error};
use crate::metrics::Format;

pub(super) async fn get(
    State(state): State<HttpState>,
    Extension(expositions): Extension<Arc<Expositions>>,
    Extension(cut_off): Extension<CutOff>,
    headers: HeaderMap,
) -> Response {
    let format = if state.handle.metrics().enabled() {
        Format::negotiate(accept(&headers).as_deref())
    } else {
        // Only the text format allows a comment that says why there is nothing.
        Format::Text
    };
    // Brings `streamline_ready` up to date.
    state.health.probe().await;
    // Collecting takes milliseconds when there are many partitions; probes must not wait for it.
    let handle = state.handle.clone();
    match tokio::task::spawn_blocking(move || handle.render_chunks(format)).await {
        Ok(chunks) => {
            let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
            let bytes: usize = chunks.iter().map(String::len).sum();
            let held = expositions.begin(bytes, cut_off);
            (headers, Body::new(Chunks::new(chunks, bytes, held))).into_response()
        }
        Err(error) => {
            let error = format!("cannot collect metrics: {error}");
            json_error(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

/// Returns the Accept header, which may be sent in several lines that together are one list.
fn accept(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Body of an exposition: chunks with a known total length.
struct Chunks {
    chunks: vec::IntoIter<String>,
    bytes_left: u64,
    _held: Exposition,
}

impl Chunks {
    fn new(chunks: Vec<String>, bytes: usize, held: Exposition) -> Self {
        Self {
            bytes_left: bytes as u64,
            chunks: chunks.into_iter(),
            _held: held,
        }
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.next().map(Bytes::from);
        self.bytes_left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}
