//! `GET /metrics`.

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{HttpState, json_error};
use crate::metrics::Format;

pub(super) async fn get(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let format = if state.handle.metrics().enabled() {
        Format::negotiate(accept(&headers).as_deref())
    } else {
        // Only the plain format has a way to say why there is nothing.
        Format::Text
    };
    // `streamline_ready` says what the probes last said.
    state.health.probe().await;
    // Collecting takes milliseconds when there are many partitions; probes must not wait for it.
    let handle = state.handle.clone();
    match tokio::task::spawn_blocking(move || handle.render(format)).await {
        Ok(text) => {
            let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
            (headers, text).into_response()
        }
        Err(error) => {
            let error = format!("collecting the metrics failed: {error}");
            json_error(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

/// The header may be sent in several lines, which together are one list.
fn accept(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(","))
}
