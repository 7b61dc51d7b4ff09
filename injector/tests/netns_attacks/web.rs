//! A server of HTTP/1.1 and gRPC whose answers are too long.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::accepting::Accepting;
use crate::scene::Attackers;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// What every request is answered with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A message of 13 KB.
    Message,
    /// An error with a text of 12 KB.
    Error,
    /// Data without end.
    Endless,
}

const MESSAGE: usize = 13_000;

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

fn body(reply: Reply) -> Body {
    let trailers = |status: &'static str, message: String| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        trailers.insert("grpc-message", HeaderValue::from_str(&message).unwrap());
        Frame::trailers(trailers)
    };
    let frames = match reply {
        Reply::Message => {
            let length = (MESSAGE as u32).to_be_bytes();
            let message = [&[0], &length[..], &[7; MESSAGE]].concat();
            vec![Frame::data(message.into()), trailers("0", String::new())]
        }
        Reply::Error => vec![trailers("13", "e".repeat(12_000))],
        Reply::Endless => {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            return StreamBody::new(stream::repeat_with(move || Ok(Frame::data(piece.clone()))).boxed());
        }
    };
    StreamBody::new(stream::iter(frames.into_iter().map(Ok)).boxed())
}

/// Serves what connects to a listener, until the attack ends; each call counts.
pub fn serve(listener: TcpListener, is_http2: bool, reply: Reply, attackers: &mut Attackers) {
    let calls = attackers.tally();
    let accepting =
        Accepting::start(listener, move |stream| answer(stream, is_http2, reply, Arc::clone(&calls)));
    attackers.hold(accepting);
}

async fn answer(stream: tokio::net::TcpStream, is_http2: bool, reply: Reply, calls: Arc<AtomicU64>) {
    let service = service_fn(move |_: Request<Incoming>| {
        calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(Response::new(body(reply))) }
    });
    let io = TokioIo::new(stream);
    // Clients leave early.
    if is_http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}
