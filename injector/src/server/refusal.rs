//! Requests that the HTTP library refuses by itself, because it can't read their head: its bare status becomes a
//! problem document.

use axum::http::{HeaderName, HeaderValue, Request};
use injector_core::api::{Code, Problem};

use super::problem::{Document, PROBLEM_JSON};

/// The largest head of a request.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;

/// The answer to send in place of the library's, or `None` if these bytes are none of its refusals: a head alone,
/// without a content type. Each answer of ours has one.
pub(super) fn instead_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let (status_line, headers) = head.split_once("\r\n")?;
    let status = status_line.strip_prefix("HTTP/1.1 4").or(status_line.strip_prefix("HTTP/1.0 4"))?;
    let is =
        |header: &str, name: &str| header.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
    if headers.split("\r\n").any(|header| is(header, "content-type") || header.is_empty()) {
        return None;
    }
    let problem = match status.get(..2)? {
        "00" => Problem::new(Code::BadHead, "the request's head is not HTTP/1.1")
            .remedy("send a request line, header lines and an empty line, each ended by CR LF"),
        "14" => Problem::new(Code::UriTooLong, "the request's target is too long")
            .remedy("put what is long into the body"),
        "31" => too_large(),
        _ => return None,
    };
    let body = serde_json::to_vec(&Document::of(&problem)).ok()?;
    let mut answer = format!(
        "{status_line}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for header in headers.split("\r\n").filter(|header| is(header, "date")) {
        answer.push_str(header);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    Some([answer.into_bytes(), body].concat())
}

/// Whether a request's head is larger than the limit: the library reads past it where more has come already.
pub(super) fn is_too_large<B>(request: &Request<B>) -> bool {
    // Between the words and at the ends of the lines.
    let line =
        request.method().as_str().len() + request.uri().to_string().len() + " ".len() + " HTTP/1.1\r\n".len();
    let header =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    line + request.headers().iter().map(header).sum::<usize>() + "\r\n".len() > HEAD_LIMIT
}

/// The problem of such a head.
pub(super) fn too_large() -> Problem {
    let what = format!("the request's head has more than {} KiB or too many headers", HEAD_LIMIT / 1024);
    Problem::new(Code::HeadTooLarge, what).remedy("leave headers out; put what is long into the body")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_librarys_own_refusals_are_replaced() {
        let refusal = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
            content-length: 0\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        let answer = String::from_utf8(instead_of(refusal).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())) && head.contains("date: "),
            "{head}"
        );
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], "head-too-large");
        for ours in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
            b"7\r\nHTTP/1.1 4\r\n\r\n",
        ] {
            assert_eq!(instead_of(ours), None);
        }
    }
}
