//! Connects a probe: TCP or a Unix socket, and TLS over either. Host names were resolved at the start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use super::fill::Values;
use super::io::Io;
use super::tls::{Client, Protocol};
use injector_core::config::{Family, Hosts, Target, Tls, host_of};

/// A connection of whatever kind.
pub(super) type Stream = Box<dyn Io>;

/// The config's answers for where names and families lead.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub hosts: Hosts,
    pub family: Option<Family>,
}

/// Makes the connections of one endpoint, on the calling thread.
pub(super) struct Dialer {
    target: Target,
    names: Names,
    default_port: Option<u16>,
    /// The failure of every probe, if TLS can't be set up: the start has refused that already.
    tls: Option<Result<Client, String>>,
}

impl Dialer {
    /// Connects to a target; a host without a port takes the default.
    pub(super) fn new(
        target: Target,
        default_port: Option<u16>,
        names: Names,
        tls: Option<&Tls>,
        protocol: Protocol,
    ) -> Self {
        let tls = tls.map(|tls| Client::new(tls, protocol).map_err(|fault| fault.what));
        Self { target, names, default_port, tls }
    }

    /// The `host:port` that the server is called by.
    pub(super) fn authority(&self, values: &Values<'_>) -> String {
        match &self.target {
            Target::Host(host) => values.fill_authority(host),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects; TLS is set up for the host of `authority` unless the config names another.
    pub(super) async fn connect(&self, authority: &str, values: &Values<'_>) -> Result<Stream, Failure> {
        match &self.target {
            Target::Host(host) => {
                let address = self.address(&values.fill_authority(host))?;
                let stream = TcpStream::connect(address).await.map_err(|error| Failure::dial(&error))?;
                // A request in two writes must not wait for the peer's delayed ACK.
                stream.set_nodelay(true).map_err(|error| Failure::connect(&error))?;
                self.over(stream, authority).await
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(values.fill(path)).await;
                self.over(stream.map_err(|error| Failure::dial(&error))?, authority).await
            }
        }
    }

    async fn over<S: Io + 'static>(&self, stream: S, authority: &str) -> Result<Stream, Failure> {
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(Ok(client)) => Ok(Box::new(client.handshake(stream, host_of(authority)).await?)),
            Some(Err(reason)) => Err(Failure::Request { what: "tls", reason: reason.clone() }),
        }
    }

    /// The socket address of a filled `host:port`. A name has the address that it had at the start: a resolver's time and
    /// failures are not the endpoint's, and it would block the thread that keeps the schedule.
    fn address(&self, authority: &str) -> Result<SocketAddr, Failure> {
        if let Ok(address) = authority.parse() {
            return Ok(address);
        }
        let bad = || Failure::Target(authority.to_owned());
        let host = host_of(authority);
        let port = match authority.rsplit_once(':') {
            Some((before, port)) if before.ends_with(host) || before.ends_with(']') => {
                port.parse().map_err(|_| bad())?
            }
            _ => self.default_port.ok_or_else(bad)?,
        };
        let address = match host {
            "localhost" if self.names.family == Some(Family::Ipv6) => Ipv6Addr::LOCALHOST.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            name => match self.names.hosts.get(name) {
                Some(address) => *address,
                None => name.parse::<IpAddr>().map_err(|_| bad())?,
            },
        };
        Ok(SocketAddr::new(address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_and_names_that_were_resolved() {
        let dialer = |default_port, family| {
            let hosts = Hosts::from([("db.example".to_owned(), "10.0.0.7".parse().unwrap())]);
            let target = Target::Host(String::new());
            Dialer::new(target, default_port, Names { hosts, family }, None, Protocol::Other)
        };
        for (text, port, expected) in [
            ("10.0.0.1:80", None, Some("10.0.0.1:80")),
            ("[fd00::1]:80", None, Some("[fd00::1]:80")),
            ("[fd00::1]", Some(80), Some("[fd00::1]:80")),
            ("10.0.0.1", Some(80), Some("10.0.0.1:80")),
            ("localhost:81", None, Some("127.0.0.1:81")),
            ("localhost", Some(80), Some("127.0.0.1:80")),
            ("db.example:81", Some(80), Some("10.0.0.7:81")),
            ("db.example", Some(80), Some("10.0.0.7:80")),
            ("10.0.0.1", None, None),
            ("example.org:80", Some(80), None),
            (":80", Some(80), None),
            ("10.0.0.1:x", Some(80), None),
        ] {
            let found = dialer(port, None).address(text).ok();
            assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{text}");
        }
        let found = dialer(Some(80), Some(Family::Ipv6)).address("localhost").unwrap();
        assert_eq!(found, "[::1]:80".parse().unwrap());
    }
}
