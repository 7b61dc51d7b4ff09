//! The `tcp` probe: being connected is a success, or an answer that begins as expected.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::{Dialer, Names};
use super::failure::Failure;
use super::fill::Values;
use super::tls::Protocol;
use injector_core::config::{Exchange, TcpProbe};

/// How much of another answer a failure shows.
const SHOWN: usize = 80;

/// The TCP connections to an endpoint.
pub(super) struct Tcp {
    dialer: Dialer,
    exchange: Option<Exchange>,
}

impl Tcp {
    pub(super) fn new(probe: &TcpProbe, names: Names) -> Self {
        let dialer = Dialer::new(probe.target.clone(), None, names, probe.tls.as_ref(), Protocol::Other);
        Self { dialer, exchange: probe.exchange.clone() }
    }

    pub(super) async fn probe(&self, values: &Values<'_>) -> Result<(), Failure> {
        let dialer = &self.dialer;
        let mut stream = dialer.connect(&dialer.authority(values), values).await?;
        let Some(Exchange { send, expect }) = &self.exchange else { return Ok(()) };
        let request = send.fill(|part| values.fill(part));
        let wanted = expect.fill(|part| values.fill(part));
        let broke = |error: std::io::Error| Failure::exchange(&error);
        stream.write_all(request.as_bytes()).await.map_err(broke)?;
        stream.flush().await.map_err(broke)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
        loop {
            let read = stream.read(&mut piece).await.map_err(broke)?;
            answer.extend_from_slice(&piece[..read]);
            let common = answer.len().min(wanted.len());
            if answer[..common] == wanted.as_bytes()[..common] {
                if common == wanted.len() {
                    return Ok(());
                }
                if read > 0 {
                    continue;
                }
            }
            if answer.is_empty() {
                return Err(Failure::NoAnswer(expect.written().to_owned()));
            }
            // Servers repeat what they do not understand.
            let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let line = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned();
            let got = if send.has_secret() { None } else { Some(line) };
            return Err(Failure::Answer { got, expected: expect.written().to_owned() });
        }
    }
}
