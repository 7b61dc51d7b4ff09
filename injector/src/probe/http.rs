//! The `http` probe: one HTTP/1.1 exchange; a success has the status, and a body that is complete.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;

use super::failure::Failure;
use super::fill::Values;
use super::tcp;
use injector_core::model::Connection;

/// Probes of one endpoint seldom overlap; more idle connections than this are closed.
const IDLE_CONNECTIONS: usize = 4;
/// The longest body that is kept to be searched.
const SEARCHED_MIB: usize = 4;

/// The settings of [`injector_core::config::ProbeKind::Http`].
pub(super) struct Template {
    pub url: String,
    pub method: String,
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    pub status: Option<u16>,
    pub body_contains: Option<String>,
}

/// One endpoint's HTTP client.
pub(super) struct Http {
    template: Template,
    /// Idle connections, the last used one on top; `None` keeps none.
    idle: Option<RefCell<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Http {
    pub(super) fn new(template: Template, connection: Connection) -> Self {
        Self { template, idle: (connection == Connection::Pooled).then(RefCell::default) }
    }

    pub(super) async fn probe(&self, values: &Values<'_>) -> Result<(), Failure> {
        let (authority, request) = self.request(values)?;
        match &self.idle {
            None => self.exchange_fresh(&authority, request).await,
            Some(idle) => self.exchange_pooled(idle, &authority, request).await,
        }
    }

    async fn exchange_fresh(&self, authority: &str, request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let stream = tcp::connect(authority, Some(80)).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| Failure::exchange(&error))?;
        let exchange = pin!(async {
            let response = sender.send_request(request).await.map_err(|error| Failure::exchange(&error))?;
            self.judge(response).await
        });
        // The connection may end before its last frames were taken: only the exchange tells the result.
        match select(exchange, pin!(connection)).await {
            Either::Left((result, _)) => result,
            Either::Right((_, exchange)) => exchange.await,
        }
    }

    async fn exchange_pooled(
        &self,
        idle: &RefCell<Vec<SendRequest<Full<Bytes>>>>,
        authority: &str,
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
                let stream = tcp::connect(authority, Some(80)).await?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| Failure::exchange(&error))?;
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
        let template = &self.template;
        let url = template.url.strip_prefix("http://").ok_or_else(|| Failure::Request {
            what: "url",
            reason: format!("\"{}\" does not begin with http://", template.url),
        })?;
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        let authority = values.fill_authority(authority);
        let path = values.fill(path.split('#').next().unwrap_or_default());
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let mut request = Request::builder().method(template.method.as_str()).uri(path);
        for (name, value) in &template.headers {
            request = request.header(name, values.fill(value));
        }
        if !template.headers.keys().any(|name| name.eq_ignore_ascii_case(header::HOST.as_str())) {
            request = request.header(header::HOST, &authority);
        }
        let body = template.body.as_deref().map(|body| values.fill(body)).unwrap_or_default();
        // Some servers refuse such a request without a length (411), and hyper tells none for an empty body.
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
        let template = &self.template;
        let status = response.status();
        if !template.status.map_or(status.is_success(), |expected| status.as_u16() == expected) {
            let expected = template.status.map_or_else(|| "2xx".to_owned(), |status| status.to_string());
            return Err(Failure::Status { got: status.as_u16(), expected });
        }
        let mut body = response.into_body();
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::exchange(&error))?;
            if let (Some(data), true) = (frame.data_ref(), template.body_contains.is_some()) {
                if kept.len() + data.len() > SEARCHED_MIB << 20 {
                    return Err(Failure::TooLong(SEARCHED_MIB));
                }
                kept.extend_from_slice(data);
            }
        }
        match &template.body_contains {
            Some(text) if !contains(&kept, text.as_bytes()) => Err(Failure::Body(text.clone())),
            _ => Ok(()),
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}
