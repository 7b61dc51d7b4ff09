//! The `http` probe: one HTTP/1.1 exchange, in cleartext or TLS; a success has the status, and a body that is complete.

use std::cell::RefCell;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection as Connection1, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;

use super::dial::{Dialer, Names, Stream};
use super::failure::Failure;
use super::fill::Values;
use super::io::Pieces;
use super::tls::Protocol;
use injector_core::config::{HttpExpect, HttpProbe, HttpRequest, Target};
use injector_core::model::Connection;

/// Probes of one endpoint rarely overlap; more idle connections than this are closed.
const IDLE_CONNECTIONS: usize = 4;
/// The longest body of an answer.
const BODY_MIB: usize = 16;
/// The most bytes of the head of an answer. A body is read in smaller pieces ([`Pieces`]): as many connections as a server keeps
/// waiting are open at once.
const HEAD: usize = 32 * 1024;

/// The most bytes of an answer that is read as JSON.
const JSON_BYTES: usize = 64 * 1024;

/// The HTTP client of an endpoint.
pub(super) struct Http {
    request: HttpRequest,
    expect: HttpExpect,
    dialer: Dialer,
    /// Idle connections, the last used one on top; `None` keeps none.
    idle: Option<RefCell<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Http {
    pub(super) fn new(
        request: HttpRequest,
        expect: HttpExpect,
        names: Names,
        connection: Connection,
    ) -> Self {
        let target = match &request.unix {
            Some(path) => Target::Unix(path.clone()),
            None => Target::Host(request.authority().to_owned()),
        };
        let port = if request.tls.is_some() { 443 } else { 80 };
        let dialer = Dialer::new(target, Some(port), names, request.tls.as_ref(), Protocol::Http1);
        Self { request, expect, dialer, idle: (connection == Connection::Pooled).then(RefCell::default) }
    }

    pub(super) fn of_probe(probe: &HttpProbe, names: Names, connection: Connection) -> Self {
        Self::new(probe.request.clone(), probe.expect.clone(), names, connection)
    }

    pub(super) async fn probe(&self, values: &Values<'_>) -> Result<(), Failure> {
        let (authority, request) = self.request(values)?;
        match &self.idle {
            None => {
                let stream = self.dialer.connect(&authority, values).await?;
                exchange_fresh(stream, request, |response| self.judge(response)).await
            }
            Some(idle) => self.exchange_pooled(idle, &authority, values, request).await,
        }
    }

    /// Sends the request on a connection of its own, and answers the body of a 2xx.
    pub(super) async fn fetch(&self, values: &Values<'_>, most: usize) -> Result<Vec<u8>, Failure> {
        let (authority, request) = self.request(values)?;
        let stream = self.dialer.connect(&authority, values).await?;
        exchange_fresh(stream, request, |response| body_of(response, most)).await
    }

    async fn exchange_pooled(
        &self,
        idle: &RefCell<Vec<SendRequest<Full<Bytes>>>>,
        authority: &str,
        values: &Values<'_>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(), Failure> {
        loop {
            let kept = idle.borrow_mut().pop();
            let is_kept = kept.is_some();
            let mut sender = if let Some(mut kept) = kept {
                if kept.ready().await.is_err() {
                    // The server closed it while it was idle.
                    continue;
                }
                kept
            } else {
                let stream = self.dialer.connect(authority, values).await?;
                let (sender, connection) =
                    handshake(stream).await.map_err(|error| Failure::exchange(&error))?;
                tokio::task::spawn_local(connection);
                sender
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.judge(response).await?;
                    let mut idle = idle.borrow_mut();
                    if idle.len() < IDLE_CONNECTIONS {
                        idle.push(sender);
                    }
                    return Ok(());
                }
                Err(mut error) => match error.take_message() {
                    // Never sent, because an idle connection closed just now: no failure of the endpoint.
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(Failure::exchange(error.error())),
                },
            }
        }
    }

    fn request(&self, values: &Values<'_>) -> Result<(String, Request<Full<Bytes>>), Failure> {
        let template = &self.request;
        // Secrets are behind the host.
        let filled = template.url.fill(|part| values.fill(part));
        let Some((_, rest)) = filled.split_once("://") else {
            return Err(Failure::Request { what: "url", reason: "it has no scheme".to_owned() });
        };
        let path = &rest[rest.find(['/', '?', '#']).unwrap_or(rest.len())..];
        let path = path.split('#').next().unwrap_or_default();
        let authority = values.fill_authority(template.authority());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let mut request = Request::builder().method(template.method.as_str()).uri(path);
        for (name, value) in &template.headers {
            request = request.header(name, value.fill(|part| values.fill(part)));
        }
        if !template.headers.keys().any(|name| name.eq_ignore_ascii_case(header::HOST.as_str())) {
            request = request.header(header::HOST, &authority);
        }
        let body = template.body.as_ref().map(|body| body.fill(|part| values.fill(part))).unwrap_or_default();
        // Some servers refuse such a request without a length (411), and hyper sends none for an empty body.
        let has = |wanted: header::HeaderName| {
            template.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted.as_str()))
        };
        let wants_length = ["POST", "PUT", "PATCH"].contains(&template.method.as_str());
        if body.is_empty() && wants_length && !has(header::CONTENT_LENGTH) {
            request = request.header(header::CONTENT_LENGTH, "0");
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Request { what: "request", reason: error.to_string() })?;
        Ok((authority, request))
    }

    /// Reads the answer to its end.
    async fn judge(&self, response: Response<Incoming>) -> Result<(), Failure> {
        let expect = &self.expect;
        let status = response.status().as_u16();
        if !expect.status.accept(status) {
            return Err(Failure::Status { got: status, expected: expect.status.to_string() });
        }
        let mut body = response.into_body();
        let wanted = expect.body_contains.as_ref().map(|text| text.fill(str::to_owned));
        let mut search = wanted.as_ref().map(|text| Search::for_text(text.as_bytes()));
        let (mut length, mut kept) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::exchange(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if length > BODY_MIB << 20 {
                return Err(Failure::TooLong(BODY_MIB));
            }
            if let Some(search) = &mut search {
                search.take(data);
            }
            if expect.json.is_some() {
                if length > JSON_BYTES {
                    return Err(Failure::TooMuch(JSON_BYTES / 1024));
                }
                kept.extend_from_slice(data);
            }
        }
        if let Some(text) = &expect.body_contains
            && !search.is_some_and(|search| search.found)
        {
            return Err(Failure::Body(text.written().to_owned()));
        }
        if let Some(json) = &expect.json {
            json.check(&kept)?;
        }
        Ok(())
    }
}

async fn exchange_fresh<T, F: Future<Output = Result<T, Failure>>>(
    stream: Stream,
    request: Request<Full<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, Failure> {
    let (mut sender, connection) = handshake(stream).await.map_err(|error| Failure::exchange(&error))?;
    let exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| Failure::exchange(&error))?;
        read(response).await
    });
    // The connection may end before its last frames were taken: only the exchange decides the result.
    match select(exchange, pin!(connection)).await {
        Either::Left((result, _)) => result,
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn body_of(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    if !status.is_success() {
        return Err(Failure::Status { got: status.as_u16(), expected: "2xx".to_owned() });
    }
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::exchange(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Failure::TooMuch(most / 1024));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

async fn handshake(
    stream: Stream,
) -> hyper::Result<(SendRequest<Full<Bytes>>, Connection1<TokioIo<Pieces<Stream>>, Full<Bytes>>)> {
    http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(Pieces(stream))).await
}

/// Searches for a text in a body that comes in pieces; it keeps no more of them than the text is long.
struct Search<'a> {
    text: &'a [u8],
    /// The end of what came before: the text may begin there.
    tail: Vec<u8>,
    found: bool,
}

impl<'a> Search<'a> {
    fn for_text(text: &'a [u8]) -> Self {
        Self { text, tail: Vec::new(), found: text.is_empty() }
    }

    fn take(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        let overlap = self.text.len() - 1;
        self.tail.extend_from_slice(&piece[..piece.len().min(overlap)]);
        let is_in = |bytes: &[u8]| bytes.windows(self.text.len()).any(|window| window == self.text);
        self.found = is_in(&self.tail) || is_in(piece);
        if piece.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - overlap..]);
        } else {
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_the_body_is_cut() {
        let body = b"aaab aabaaac";
        for text in ["aab", "aaac", "b a", "c", "aaab aabaaac"] {
            for piece in 1..=body.len() {
                let mut search = Search::for_text(text.as_bytes());
                for piece in body.chunks(piece) {
                    search.take(piece);
                    assert!(search.tail.len() < text.len(), "{text} in pieces of {piece:?}");
                }
                assert!(search.found, "{text} in pieces of {piece}");
            }
        }
        for text in ["aaaa", "ba ", "aaab aabaaacd"] {
            for piece in 1..=body.len() {
                let mut search = Search::for_text(text.as_bytes());
                body.chunks(piece).for_each(|piece| search.take(piece));
                assert!(!search.found, "{text} in pieces of {piece}");
            }
        }
    }
}
