//! A minimal protocol client that sends and receives single frames.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use streamline::protocol::kafka::{Request, decode_response, encode_request};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;

use super::PATIENCE;

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    last_correlation_id: i32,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).unwrap())
    }

    /// Creates a client from an open connection.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            last_correlation_id: 0,
        }
    }

    /// Sends a request and returns its response.
    #[track_caller]
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (correlation_id, response) = self.receive::<R>(version);
        assert_eq!(correlation_id, sent);
        response
    }

    /// Sends a request and returns its correlation id.
    #[track_caller]
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.last_correlation_id += 1;
        let id = self.last_correlation_id;
        let frame = encode_request(id, version, Some("test"), request).unwrap();
        self.send_raw(&frame).unwrap();
        id
    }

    /// Receives the next response, decoded as the response to a request of this type and version.
    #[track_caller]
    pub fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.receive_frame().unwrap();
        decode_response::<R>(frame, version).unwrap()
    }

    /// Sends raw bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives the next response frame, without its length prefix.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Returns whether the server closes the connection without sending anything more.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => true,
                io::ErrorKind::WouldBlock => false,
                _ => panic!("{error}"),
            },
        }
    }

    /// Sends a request and returns whether the server closed the connection instead of answering.
    #[track_caller]
    pub fn is_refused(&mut self) -> bool {
        self.last_correlation_id += 1;
        let request = ApiVersionsRequest::default();
        let frame = encode_request(self.last_correlation_id, 0, Some("test"), &request).unwrap();
        self.send_raw(&frame).is_err() || self.receive_frame().is_err()
    }
}
