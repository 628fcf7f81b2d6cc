//! The HTTP port: metrics, health and server information, for Prometheus, probes and operators.
//!
//! It runs on a thread and a runtime of its own ([`listener`]), because it must be able to report that the main runtime
//! is stuck, and because rendering a hundred thousand series must not delay a produce. It starts before recovery, so that
//! a server that is still recovering its logs reports so. It knows the rest of the server only through [`HttpState`].

mod connection;
mod expositions;
pub mod health;
pub mod info;
mod listener;
mod metrics;
mod socket;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;

use super::refusals::Refusals;
use crate::metrics::{HttpRejection, PrometheusHandle};
use connection::Peer;
use expositions::Expositions;

pub use health::Health;
pub use info::Facts;
pub use listener::{HttpServer, Limits};

/// Sources of what the endpoints show.
#[derive(Clone)]
pub struct HttpState {
    pub handle: PrometheusHandle,
    pub health: Arc<Health>,
    /// Called for every `/info`; must not block.
    pub facts: Arc<dyn Fn() -> Facts + Send + Sync>,
}

/// Path and description of every endpoint, as the index shows them.
const ENDPOINTS: &[(&str, &str)] = &[
    ("/metrics", "metrics in Prometheus or OpenMetrics text"),
    (
        "/health",
        "checks of storage and listener: 200, or 503 with the reasons",
    ),
    (
        "/health/live",
        "liveness: 200, or 503 if the process is stuck and must be restarted",
    ),
    (
        "/health/ready",
        "readiness: 200, or 503 while the server recovers, shuts down or cannot write",
    ),
    ("/info", "version, build, addresses, counts"),
];

fn router(state: HttpState, limits: Limits, refusals: Arc<Refusals>) -> Router {
    let guard = Guard { limits, refusals };
    let expositions = Expositions::new(limits.expositions_bytes_max);
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics::get))
        .route("/health", get(health::get_health))
        .route("/health/live", get(health::get_live))
        .route("/health/ready", get(health::get_ready))
        .route("/info", get(info::get))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(guard, guarded))
        .layer(Extension(expositions))
        .with_state(state)
}

async fn index() -> Response {
    let mut text = format!("streamline {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, description) in ENDPOINTS {
        text.push_str(&format!("{path:<16}{description}\n"));
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn not_found(uri: Uri) -> Response {
    let known: Vec<_> = ENDPOINTS.iter().map(|(path, _)| *path).collect();
    let error = format!(
        "no such path: {}; known paths: {}",
        uri.path(),
        known.join(", ")
    );
    json_error(StatusCode::NOT_FOUND, error)
}

/// The router adds the `allow` header itself.
async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let error = format!("{} does not accept {method}, only GET and HEAD", uri.path());
    json_error(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(mut text) => {
            text.push('\n');
            (status, [(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json_error(status: StatusCode, error: String) -> Response {
    #[derive(Serialize)]
    struct Body {
        status: u16,
        error: String,
    }
    json(
        status,
        &Body {
            status: status.as_u16(),
            error,
        },
    )
}

#[derive(Clone)]
struct Guard {
    limits: Limits,
    refusals: Arc<Refusals>,
}

/// Applies the rules for every request: no large body, a response in bounded time, no caching.
async fn guarded(
    State(guard): State<Guard>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let body_bytes = content_length(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let refused = |reason, status, why: String| {
        guard
            .refusals
            .http(reason, peer, &format_args!("{method} {path}: {why}"));
        json_error(status, why)
    };
    let Limits {
        body_bytes_max,
        request_timeout,
        ..
    } = guard.limits;
    let mut response = if body_bytes > body_bytes_max {
        refused(
            HttpRejection::BodyTooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body of {body_bytes} bytes exceeds the limit of {body_bytes_max}"),
        )
    } else {
        match tokio::time::timeout(request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => refused(
                HttpRejection::RequestTimeout,
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no answer within {request_timeout:?}"),
            ),
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    tracing::debug!(%method, path, status = response.status().as_u16(), "HTTP request");
    response
}

/// Returns the announced length of the body. A chunked body counts as empty: no endpoint reads one, so nothing of it is
/// kept, and its connection closes after the response.
fn content_length(request: &Request) -> u64 {
    request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
