//! A server of HTTP/1.1 and gRPC: over TLS by rustls, where the client chooses (ALPN), or in cleartext.

#[path = "accepting.rs"]
mod accepting;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::accepting::Accepting;
use super::authority::Signed;

/// Serves until it is dropped.
pub struct WebServer {
    _accepting: Accepting,
}

impl WebServer {
    /// Serves what connects to a listener, which may be of another namespace, over TLS.
    pub fn start(listener: TcpListener, signed: &Signed) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let chain = vec![CertificateDer::from_pem_file(&signed.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
        let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serve(listener, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                // Clients that leave early, or that a cut keeps away, are none of the server's concern.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                answer(stream, is_http2).await;
            }
        })
    }

    /// The same in cleartext: HTTP/1.1, or gRPC.
    pub fn in_cleartext(listener: TcpListener, is_http2: bool) -> Self {
        Self::serve(listener, move |stream| answer(stream, is_http2))
    }

    fn serve<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        connection: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let accepting = Accepting::start(listener, move |stream| {
            let _ = stream.set_nodelay(true);
            connection(stream)
        });
        Self { _accepting: accepting }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, is_http2: bool) {
    let service = service_fn(move |_: Request<Incoming>| async move {
        let answer: &[u8] = if is_http2 { &[0, 0, 0, 0, 2, 8, 1] } else { b"{\"status\":\"ok\"}" };
        let mut frames = vec![Ok::<_, Infallible>(Frame::data(Bytes::from_static(answer)))];
        if is_http2 {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            frames.push(Ok(Frame::trailers(trailers)));
        }
        Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}
