//! One HTTP connection, from accept to close.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Limits;
use super::expositions::CutOff;
use super::socket::TimedSocket;
use crate::metrics::HttpRejection;
use crate::server::refusals::Refusals;

/// Address of the client, an extension of each request.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// Serves a client until it disconnects, is refused, or `stop` becomes true; then the response in flight is finished.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    refusals: Arc<Refusals>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "HTTP connection closed before it was served");
        return;
    }
    let (socket, mid_request) = TimedSocket::new(stream, limits.response_timeout);
    let router = TowerToHyperService::new(router);
    let cut_off = CutOff::default();
    let for_requests = cut_off.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(for_requests.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = stopping(&mut stop) => None,
        () = cut_off.wanted() => {
            let why = "unread metrics responses exceed queued_max_response_bytes, and this one is the oldest";
            refusals.http(HttpRejection::ResponseMemory, peer, &why);
            return;
        }
    };
    let outcome = match served {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let Err(error) = outcome else { return };
    let rejection = if error.is_timeout() {
        // A time-out between two requests is no error: scrapers keep their connections open.
        mid_request
            .load(Ordering::Relaxed)
            .then_some(HttpRejection::HeaderTimeout)
    } else if is_io_timeout(&error) {
        Some(HttpRejection::ResponseNotTaken)
    } else {
        error.is_parse().then_some(HttpRejection::Malformed)
    };
    match rejection {
        Some(reason) => refusals.http(reason, peer, &error),
        None => tracing::debug!(%peer, %error, "HTTP connection failed"),
    }
}

/// Returns whether the error is the time-out of [`TimedSocket`] for reading a response.
fn is_io_timeout(error: &hyper::Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

/// Returns once `stop` is true or its sender is gone.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
