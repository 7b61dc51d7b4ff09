//! Why a probe failed, in the few words that a record has room for.

use std::error::Error;
use std::time::Duration;

use super::starter::StartDelay;
use super::tls_fault;
use injector_core::clock::Span;
use injector_core::config::{JsonError, without_secrets};
use injector_core::sample::FailureCode;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("timeout after {0}")]
    Timeout(Span),
    #[error("connect: {0}")]
    Connect(String),
    #[error("no socket: {0}: not sent")]
    NoSocket(String),
    #[error("{0}")]
    Exchange(String),
    #[error("status {got}, expected {expected}")]
    Status { got: u16, expected: String },
    #[error("body without \"{0}\"")]
    Body(String),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("{}, expected {expected:?}", got.as_ref().map_or_else(|| "another answer".to_owned(), |got| format!("answer {got:?}")))]
    Answer { got: Option<String>, expected: String },
    #[error("connection closed without an answer, expected {0:?}")]
    NoAnswer(String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("answer over {0} MiB")]
    TooLong(usize),
    #[error("answer over {0} KiB")]
    TooMuch(usize),
    #[error("grpc-status {code}{}", suffix(message))]
    GrpcStatus { code: String, message: String },
    #[error("no grpc-status: the answer is not gRPC or was cut short")]
    NoGrpcStatus,
    #[error("grpc answer without a complete message")]
    GrpcMessage,
    #[error("health is {0}, expected SERVING")]
    Health(String),
    #[error("exit code {0}")]
    Exit(i32),
    #[error("killed by signal {0}")]
    Signal(i32),
    #[error("no user \"{0}\" on this host")]
    NoUser(String),
    #[error("run {program}: {reason}")]
    Run { program: String, reason: String },
    #[error("{program} was not started within {within}: {why}")]
    Unstarted { program: String, within: Span, why: StartDelay },
    #[error("this host held the daemon up for {} ms: the probe says nothing", .0.as_millis())]
    HeldUp(Duration),
    #[error("\"{0}\" is not an address and port; write {{address}}:PORT or 10.0.0.1:PORT")]
    Target(String),
    #[error("the probe's {what} is wrong: {reason}")]
    Request { what: &'static str, reason: String },
}

/// The longest account of a failure: a record keeps one for every failed probe, and parts of it are the peer's words.
const LONGEST: usize = 200;

fn suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Failure {
    pub(super) fn code(&self) -> FailureCode {
        match self {
            Self::Timeout(_) => FailureCode::Timeout,
            Self::Connect(_) | Self::Tls(_) => FailureCode::Connect,
            Self::Exchange(_)
            | Self::TooLong(_)
            | Self::TooMuch(_)
            | Self::NoAnswer(_)
            | Self::NoGrpcStatus
            | Self::GrpcMessage => FailureCode::Exchange,
            Self::Status { .. }
            | Self::Body(_)
            | Self::Json(_)
            | Self::Answer { .. }
            | Self::GrpcStatus { .. }
            | Self::Health(_)
            | Self::Exit(_)
            | Self::Signal(_) => FailureCode::Answer,
            Self::NoUser(_) | Self::Run { .. } => FailureCode::Command,
            Self::Unstarted { .. } | Self::NoSocket(_) | Self::HeldUp(_) => FailureCode::Unsent,
            Self::Target(_) | Self::Request { .. } => FailureCode::Settings,
        }
    }

    /// The failure as a record keeps it: short, and without characters that would act on whatever shows it.
    pub(super) fn words(&self) -> String {
        let text = without_secrets(&self.to_string());
        let mut words = String::new();
        for c in text.chars() {
            if words.len() >= LONGEST {
                words.push('…');
                break;
            }
            if c.is_control() {
                words.extend(c.escape_unicode());
            } else {
                words.push(c);
            }
        }
        words.shrink_to_fit();
        words
    }

    pub(super) fn exchange(error: &(dyn Error + 'static)) -> Self {
        of_tls(error).unwrap_or_else(|| Self::Exchange(root_cause(error)))
    }

    pub(super) fn connect(error: &(dyn Error + 'static)) -> Self {
        of_tls(error).unwrap_or_else(|| Self::Connect(root_cause(error)))
    }

    /// The failure to make a socket or to connect it. Without descriptors or memory for it nothing was sent.
    pub(super) fn dial(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                Self::NoSocket(root_cause(error))
            }
            _ => Self::connect(error),
        }
    }
}

/// The failure of TLS that is behind an error. With TLS 1.3 a server refuses a client after the handshake is over, while
/// the first answer is read.
fn of_tls(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner.or_else(|| error.downcast_ref()) {
            return Some(Failure::Tls(tls_fault::words(error)));
        }
        cause = error.source();
    }
    None
}

/// The innermost error's text, without the number that the standard library adds to errors of the system.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        // Only sentences are lowered: "HTTP/2 …" stays.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_kept_short_and_harmless() {
        let failure =
            |message: &str| Failure::GrpcStatus { code: "13".to_owned(), message: message.to_owned() };
        assert_eq!(failure("out\u{1b}[2J").words(), "grpc-status 13: out\\u{1b}[2J");
        let long = failure(&"é\r".repeat(20_000)).words();
        assert!(long.len() < LONGEST + 16 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn a_probe_without_a_descriptor_was_never_sent() {
        let failure = |number| Failure::dial(&std::io::Error::from_raw_os_error(number));
        let full = failure(libc::EMFILE);
        assert_eq!(full.code(), FailureCode::Unsent);
        assert_eq!(full.words(), "no socket: too many open files: not sent");
        assert_eq!(failure(libc::ECONNREFUSED).code(), FailureCode::Connect);
    }
}
