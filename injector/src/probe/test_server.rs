//! Real servers on loopback for the probes' tests, with faults that a test can plant.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::io::Io;
use super::{EndpointId, Rate, Sample, run};
use injector_core::clock::Span;
use injector_core::config::{Endpoint, Hosts, HttpExpect, HttpRequest, Probe, ProbeKind, Role, Target};
use injector_core::config::{GrpcProbe, HttpProbe};
use injector_core::model::{Connection, ProbeOptions};

/// Runs a test as the daemon runs probes: on one thread, with a `LocalSet`.
pub(super) fn on_one_thread<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// An endpoint at a loopback address, probed every 10 ms.
pub(super) fn endpoint(address: SocketAddr, kind: ProbeKind) -> Endpoint {
    Endpoint {
        name: "ingress@n1".to_owned(),
        base: "ingress".to_owned(),
        peer: None,
        address: Some(address.ip()),
        role: Role::Required,
        probe: Probe {
            kind,
            options: ProbeOptions {
                interval: Span::millis(10),
                // Who wants a timeout has a shorter one.
                timeout: Span::secs(60),
                connection: Connection::Fresh,
            },
        },
        wire: None,
        netns: None,
        family: None,
        hosts: Hosts::new(),
    }
}

/// `GET /` with any 2xx as a success.
pub(super) fn get(address: SocketAddr) -> ProbeKind {
    ProbeKind::Http(HttpProbe {
        request: HttpRequest {
            url: format!("http://{{address}}:{}/{{peer}}/{{seq}}", address.port()).as_str().into(),
            method: "GET".to_owned(),
            headers: std::collections::BTreeMap::new(),
            body: None,
            unix: None,
            tls: None,
        },
        expect: HttpExpect::default(),
    })
}

/// A gRPC call with an empty message.
pub(super) fn call(address: SocketAddr, method: &str) -> ProbeKind {
    ProbeKind::Grpc(GrpcProbe {
        target: Target::Host(format!("{{address}}:{}", address.port())),
        tls: None,
        method: method.to_owned(),
        message: Vec::new(),
    })
}

/// A listener whose connections are each handled by `handle`, and their count.
pub(super) async fn serve<F, R>(handle: F) -> (SocketAddr, Rc<Cell<usize>>)
where
    F: Fn(TcpStream) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Rc::new(Cell::new(0));
    let count = Rc::clone(&accepted);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.set(count.get() + 1);
            tokio::task::spawn_local(handle(stream));
        }
    });
    (address, accepted)
}

/// Reads one request up to its blank line.
pub(super) async fn read_head(stream: &mut impl Io) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers every request of a connection with these bytes, each piece after its delay.
pub(super) async fn answer(mut stream: impl Io, pieces: Vec<(Duration, &'static str)>) {
    while !read_head(&mut stream).await.is_empty() {
        for (delay, piece) in &pieces {
            tokio::time::sleep(*delay).await;
            if stream.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The gRPC server's answer.
#[derive(Clone, Copy)]
pub(super) struct GrpcAnswer {
    pub body: &'static [u8],
    pub status: Option<&'static str>,
    pub delay: Duration,
}

#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// Handles a single HTTP/2 connection; the request must have the form of a unary gRPC call.
pub(super) async fn grpc(stream: impl Io + 'static, answer: GrpcAnswer) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        tokio::time::sleep(answer.delay).await;
        let mut frames = vec![Ok::<_, Infallible>(Frame::data(Bytes::from_static(answer.body)))];
        if let Some(status) = answer.status {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            trailers.insert("grpc-message", "planted".parse().unwrap());
            frames.push(Ok(Frame::trailers(trailers)));
        }
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Ok::<_, Infallible>(Response::new(body))
    });
    let connection = hyper::server::conn::http2::Builder::new(OnThisThread);
    // Clients that leave early are none of the test's concern.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

/// Probes at the full rate for `span`, waits for the probes under way, and gives all samples by schedule.
pub(super) async fn run_for(endpoint: Endpoint, span: Duration) -> Vec<Sample> {
    let (rate, rates) = watch::channel(Rate::Full);
    let (sink, mut samples) = mpsc::unbounded_channel();
    let task = tokio::task::spawn_local(run(EndpointId(0), endpoint, Some("n1".to_owned()), rates, sink));
    tokio::time::sleep(span).await;
    drop(rate);
    task.await.unwrap();
    reported(&mut samples)
}

/// What was reported so far, in scheduled order.
pub(super) fn reported(samples: &mut mpsc::UnboundedReceiver<Sample>) -> Vec<Sample> {
    let mut all: Vec<Sample> = std::iter::from_fn(|| samples.try_recv().ok()).collect();
    all.sort_by_key(|sample| sample.scheduled);
    all
}
