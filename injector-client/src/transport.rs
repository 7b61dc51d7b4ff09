//! How the client reaches the daemon: the Unix socket, or ssh and `injector dial-stdio` on the daemon's host.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::str::FromStr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The socket of a daemon whose config names no other.
pub const DEFAULT_SOCKET: &str = "/run/injector/injector.sock";

/// Where the daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A daemon on this host.
    Socket(PathBuf),
    /// A daemon on another host, by ssh.
    Ssh {
        /// The host.
        host: SshHost,
        /// The socket there; `None` is the usual one.
        socket: Option<PathBuf>,
    },
}

/// Why the environment names no daemon.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It names something else.
    #[error("INJECTOR_HOST: {0}")]
    NotAHost(#[from] SshHostError),
    /// It names several, and one is wanted.
    #[error(
        "INJECTOR_HOST names {0} hosts, and this asks one daemon; name one, or use injector_client::hosts"
    )]
    Several(usize),
}

impl Address {
    /// The daemon that `INJECTOR_HOST` (by ssh) or `INJECTOR_SOCKET` names; without either the usual socket here.
    ///
    /// # Errors
    /// `INJECTOR_HOST` is not a host, or names several.
    pub fn from_environment() -> Result<Self, AddressError> {
        let mut all = Self::all_from_environment()?;
        match all.len() {
            1 => Ok(all.remove(0)),
            several => Err(AddressError::Several(several)),
        }
    }

    /// The daemons that `INJECTOR_HOST` names, separated by commas; without it the one of [`Address::from_environment`].
    ///
    /// # Errors
    /// `INJECTOR_HOST` has something that is not a host.
    pub fn all_from_environment() -> Result<Vec<Self>, AddressError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let socket = variable("INJECTOR_SOCKET").map(PathBuf::from);
        let Some(hosts) = variable("INJECTOR_HOST") else {
            return Ok(vec![Self::Socket(socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))]);
        };
        let hosts = hosts.to_string_lossy();
        let hosts =
            hosts.split(',').map(|host| Ok(Self::Ssh { host: host.parse()?, socket: socket.clone() }));
        hosts.collect()
    }

    /// The daemon with the usual socket on a host that ssh reaches.
    pub fn ssh(host: SshHost) -> Self {
        Self::Ssh { host, socket: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Ssh { host, .. } => host.fmt(f),
        }
    }
}

/// `ssh://user@host:port`; user and port may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    destination: String,
    port: Option<u16>,
}

/// Why a text is not an [`SshHost`].
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a host; write it as ssh://user@host or ssh://user@host:22")]
pub struct SshHostError(String);

impl FromStr for SshHost {
    type Err = SshHostError;
    fn from_str(text: &str) -> Result<Self, SshHostError> {
        let error = || SshHostError(text.to_owned());
        let rest = text.strip_prefix("ssh://").ok_or_else(error)?.trim_end_matches('/');
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        // An IPv6 address is in brackets, which ssh wants without.
        let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(error)?)),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().map_err(|_| error())?;
        let word = |word: &str| {
            // ssh would read a leading hyphen as an option.
            !word.is_empty() && !word.starts_with('-') && !word.contains(['/', ' ', '\'', '"'])
        };
        if !word(host) || user.is_some_and(|user| !word(user)) {
            return Err(error());
        }
        let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { destination, port })
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh://{}", self.destination)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A byte stream to the daemon.
pub(super) enum Stream {
    Socket(UnixStream),
    Process(ChildStdout, ChildStdin),
}

impl Stream {
    /// The process that listens on the socket; `None` elsewhere, and for one of another pid namespace.
    pub fn listener(&self) -> Option<u32> {
        let Self::Socket(stream) = self else { return None };
        let pid = stream.peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }
}

/// The ssh process behind a stream, ended when dropped.
pub(super) struct Carrier(pub Option<Child>);

impl Carrier {
    /// How ssh ended, if it did or does so shortly: the reason behind a broken stream.
    pub async fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let child = self.0.as_mut()?;
        tokio::time::timeout(std::time::Duration::from_secs(1), child.wait()).await.ok()?.ok()
    }
}

pub(super) async fn open(address: &Address) -> io::Result<(Stream, Carrier)> {
    match address {
        Address::Socket(path) => Ok((Stream::Socket(UnixStream::connect(path).await?), Carrier(None))),
        Address::Ssh { host, socket } => {
            let mut child = ssh(host, socket.as_deref()).spawn()?;
            let pipes = child.stdout.take().zip(child.stdin.take());
            let (stdout, stdin) = pipes.ok_or_else(|| io::Error::other("ssh has no pipes"))?;
            Ok((Stream::Process(stdout, stdin), Carrier(Some(child))))
        }
    }
}

fn ssh(host: &SshHost, socket: Option<&Path>) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-T", "-o", "ConnectTimeout=10"]);
    if let Some(port) = host.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg(&host.destination).args(["injector", "dial-stdio"]);
    if let Some(socket) = socket {
        // ssh joins its arguments and gives them to a shell.
        let quoted = socket.display().to_string().replace('\'', r"'\''");
        command.arg("--socket").arg(format!("'{quoted}'"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Process(stdout, _) => Pin::new(stdout).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Process(_, stdin) => Pin::new(stdin).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Self::Process(_, stdin) => Pin::new(stdin).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Process(_, stdin) => Pin::new(stdin).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_what_ssh_takes_and_never_options() {
        for text in ["ssh://vm", "ssh://user@vm", "ssh://user@vm:2222", "ssh://10.0.0.1"] {
            assert_eq!(text.parse::<SshHost>().unwrap().to_string(), text);
        }
        let v6: SshHost = "ssh://root@[fd00::1]:22".parse().unwrap();
        assert_eq!((v6.destination.as_str(), v6.port), ("root@fd00::1", Some(22)));
        for text in ["vm", "ssh://", "ssh://-oProxyCommand=x", "ssh://u@-x", "ssh://vm:port", "ssh://a b"] {
            assert!(text.parse::<SshHost>().is_err(), "{text}");
        }
    }
}
