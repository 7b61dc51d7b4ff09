//! The `grpc` probe: a unary call over HTTP/2, in cleartext or TLS; a success has a complete message and grpc-status 0.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, Connection as Connection2, SendRequest};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::dial::{Dialer, Names, Stream};
use super::failure::Failure;
use super::fill::Values;
use super::in_flight::ALL;
use super::tls::Protocol;
use injector_core::config::GrpcProbe;
use injector_core::model::Connection;

const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";
/// gRPC's own usual limit for a received message.
const MESSAGE_MIB: usize = 4;
/// How much of a message is kept to be read: a health check's has two bytes.
const KEPT: usize = 1024;
/// The most bytes that a call may hold of what came and was not yet taken: a health check is answered by a few bytes.
const WINDOW: u32 = 32 * 1024;
/// The same of all probes under way together, which are as many as servers keep waiting,
const WINDOWS: usize = 8 * 1024 * 1024;
/// and the least of one.
const SMALLEST_WINDOW: u32 = 4 * 1024;
/// The same of a connection that calls share.
const SHARED_WINDOW: u32 = 4 * WINDOW;

/// The gRPC client of an endpoint.
pub(super) struct Grpc {
    dialer: Dialer,
    method: String,
    /// The request message behind its five-byte prefix.
    body: Bytes,
    pool: Option<RefCell<Pool>>,
}

/// The one kept connection; calls share it.
#[derive(Default)]
struct Pool {
    sender: Option<SendRequest<Full<Bytes>>>,
    /// The connection's number, so that a late failure on an older connection does not close a newer one.
    number: u64,
}

/// Runs hyper's connection tasks on the calling thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Closes the pool's connection unless its call came to an answer, also when the call is dropped by its timeout.
struct CloseOnFailure<'a> {
    pool: &'a RefCell<Pool>,
    number: u64,
    answered: bool,
}

impl Drop for CloseOnFailure<'_> {
    fn drop(&mut self) {
        let mut pool = self.pool.borrow_mut();
        if !self.answered && pool.number == self.number {
            pool.sender = None;
        }
    }
}

impl Grpc {
    pub(super) fn new(probe: &GrpcProbe, names: Names, connection: Connection) -> Self {
        let GrpcProbe { target, tls, method, message } = probe;
        let dialer = Dialer::new(target.clone(), None, names, tls.as_ref(), Protocol::Http2);
        let length = u32::try_from(message.len()).expect("a message from a config file is under 4 GiB");
        let body = [&[0], &length.to_be_bytes()[..], message].concat().into();
        let method = method.trim_start_matches('/').to_owned();
        Self { dialer, method, body, pool: (connection == Connection::Pooled).then(RefCell::default) }
    }

    pub(super) async fn probe(&self, values: &Values<'_>) -> Result<(), Failure> {
        let authority = self.dialer.authority(values);
        let scheme = if self.dialer.is_tls() { "https" } else { "http" };
        let request = Request::post(format!("{scheme}://{authority}/{}", self.method))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(self.body.clone()))
            .map_err(|error| Failure::Request { what: "target or method", reason: error.to_string() })?;
        match &self.pool {
            None => self.call_fresh(&authority, values, request).await,
            Some(pool) => self.call_pooled(pool, &authority, values, request).await,
        }
    }

    async fn call_fresh(
        &self,
        authority: &str,
        values: &Values<'_>,
        request: Request<Full<Bytes>>,
    ) -> Result<(), Failure> {
        let stream = self.dialer.connect(authority, values).await?;
        let (mut sender, connection) =
            handshake(stream, WINDOW).await.map_err(|error| Failure::exchange(&error))?;
        let call = pin!(async {
            let response = sender.send_request(request).await.map_err(|error| Failure::exchange(&error))?;
            self.judge(&read(response).await?)
        });
        match select(call, pin!(connection)).await {
            Either::Left((result, _)) => result,
            Either::Right((_, call)) => call.await,
        }
    }

    async fn call_pooled(
        &self,
        pool: &RefCell<Pool>,
        authority: &str,
        values: &Values<'_>,
        request: Request<Full<Bytes>>,
    ) -> Result<(), Failure> {
        let kept = {
            let pool = pool.borrow();
            pool.sender.clone().filter(|sender| !sender.is_closed()).map(|sender| (sender, pool.number))
        };
        let (mut sender, number) = match kept {
            Some(kept) => kept,
            None => self.connect(pool, authority, values).await?,
        };
        let mut guard = CloseOnFailure { pool, number, answered: false };
        let response = sender.send_request(request).await.map_err(|error| Failure::exchange(&error))?;
        let answer = read(response).await?;
        guard.answered = true;
        self.judge(&answer)
    }

    async fn connect(
        &self,
        pool: &RefCell<Pool>,
        authority: &str,
        values: &Values<'_>,
    ) -> Result<(SendRequest<Full<Bytes>>, u64), Failure> {
        let stream = self.dialer.connect(authority, values).await?;
        let (sender, connection) =
            handshake(stream, SHARED_WINDOW).await.map_err(|error| Failure::exchange(&error))?;
        tokio::task::spawn_local(connection);
        let mut pool = pool.borrow_mut();
        pool.number += 1;
        pool.sender = Some(sender.clone());
        Ok((sender, pool.number))
    }

    fn judge(&self, answer: &CallResponse) -> Result<(), Failure> {
        let text = |name| answer.status.get(name).map(|value: &HeaderValue| lossy(value.as_bytes()));
        match text("grpc-status").as_deref() {
            Some("0") => {}
            Some(code) => {
                let message = text("grpc-message").unwrap_or_default();
                return Err(Failure::GrpcStatus { code: code.to_owned(), message });
            }
            None => return Err(Failure::NoGrpcStatus),
        }
        let message = message(&answer.body, answer.length).ok_or(Failure::GrpcMessage)?;
        if self.method == HEALTH_CHECK {
            let status = health_status(message).ok_or(Failure::GrpcMessage)?;
            if status != 1 {
                return Err(Failure::Health(health_name(status)));
            }
        }
        Ok(())
    }
}

async fn handshake(
    stream: Stream,
    window: u32,
) -> hyper::Result<(SendRequest<Full<Bytes>>, Connection2<TokioIo<Stream>, Full<Bytes>, OnThisThread>)> {
    let share = u32::try_from(ALL.share_of(WINDOWS)).unwrap_or(WINDOW);
    http2::Builder::new(OnThisThread)
        .initial_stream_window_size(share.clamp(SMALLEST_WINDOW, WINDOW))
        .initial_connection_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
}

/// A call's whole answer.
struct CallResponse {
    /// The beginning of its body,
    body: Vec<u8>,
    /// and how long that is as a whole.
    length: usize,
    /// The trailers, or the headers where there is nothing else.
    status: HeaderMap,
}

async fn read(response: Response<Incoming>) -> Result<CallResponse, Failure> {
    if response.status() != hyper::StatusCode::OK {
        return Err(Failure::Status { got: response.status().as_u16(), expected: "200".to_owned() });
    }
    let (head, mut incoming) = response.into_parts();
    let mut answer = CallResponse { body: Vec::new(), length: 0, status: head.headers };
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Failure::exchange(&error))?;
        match frame.into_data() {
            Ok(data) => {
                answer.length += data.len();
                if answer.length > MESSAGE_MIB << 20 {
                    return Err(Failure::TooLong(MESSAGE_MIB));
                }
                let room = (KEPT - answer.body.len()).min(data.len());
                answer.body.extend_from_slice(&data[..room]);
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    answer.status = trailers;
                }
            }
        }
    }
    Ok(answer)
}

/// The part that is kept of the single message of a unary answer, whose body has so many bytes; `None` if it
/// is missing, cut short, compressed or followed by more.
fn message(body: &[u8], whole: usize) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *prefix;
    (compressed == 0 && u32::from_be_bytes(length) as usize == whole - prefix.len()).then_some(message)
}

/// Field 1 of a `HealthCheckResponse`, 0 if absent as protobuf has it; `None` if it is no protobuf.
fn health_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn health_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_or_nothing() {
        assert_eq!(message(&[0, 0, 0, 0, 2, 8, 1], 7), Some(&[8, 1][..]));
        assert_eq!(message(&[0, 0, 0, 0, 0], 5), Some(&[][..]));
        assert_eq!(
            message(&[0, 0, 1, 0, 0, 8, 1], 5 + (1 << 16)),
            Some(&[8, 1][..]),
            "the rest was not kept"
        );
        for bad in
            [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 3, 8, 1], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 8, 1]]
        {
            assert_eq!(message(bad, bad.len()), None, "{bad:?}");
        }
    }

    #[test]
    fn health_is_field_one() {
        assert_eq!(health_status(&[8, 1]), Some(1));
        assert_eq!(health_status(&[]), Some(0));
        // An unknown text field before, an unknown varint after.
        assert_eq!(health_status(&[0x12, 2, b'h', b'i', 8, 2, 0x18, 0x96, 1]), Some(2));
        assert_eq!(health_status(&[8]), None);
        assert_eq!(health_status(&[0x12, 9, 0]), None);
    }
}
