//! Notifies the starter how far the daemon is: systemd's `sd_notify`, and the process behind `start --detach`.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use serde::{Deserialize, Serialize};

use injector_core::clock::MonoNs;

/// A line of JSON on the daemon's standard output, for the process behind `start --detach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartReport {
    /// The API answers.
    Ready,
    /// What whoever starts the daemon should know; it starts all the same.
    Note(String),
    /// Why the daemon does not start.
    Failed(String),
}

impl StartReport {
    /// Reads a line; `None` if it is none of a daemon's.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// Writes the line to standard output.
    pub fn write(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut stdout = io::stdout();
        stdout.write_all(&line)?;
        stdout.flush()
    }
}

/// The processes that are notified when the API answers.
#[derive(Debug)]
pub struct Ready {
    starter: Starter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starter {
    Gone,
    ReadsStdout,
}

impl Ready {
    /// Systemd, if it asked.
    pub fn to_systemd() -> Self {
        Self { starter: Starter::Gone }
    }

    /// Notifies the process that reads this one's standard output, too.
    pub fn to_stdout() -> Self {
        Self { starter: Starter::ReadsStdout }
    }

    /// Passes a note on to whoever starts the daemon; the log has it anyway.
    pub fn note(&self, text: &str) {
        if self.starter == Starter::ReadsStdout {
            // A starter that is gone has no use for it.
            let _ = StartReport::Note(text.to_owned()).write();
        }
    }

    /// Notifies, once; standard output is closed if a starter was waiting there.
    pub fn report(self) -> io::Result<()> {
        systemd(ServiceState::Ready)?;
        if self.starter == Starter::ReadsStdout {
            StartReport::Ready.write()?;
            let null = OpenOptions::new().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(&null)?;
        }
        Ok(())
    }
}

/// A state that systemd is notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The API answers.
    Ready,
    /// The config is read again; [`ServiceState::Ready`] follows.
    Reloading,
    /// The end has begun.
    Stopping,
}

/// Sends a state to the socket that `NOTIFY_SOCKET` names; without it nothing happens.
pub fn systemd(state: ServiceState) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) {
        Some(path) => send(&path, state),
        None => Ok(()),
    }
}

fn send(path: &OsStr, state: ServiceState) -> io::Result<()> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A reader with a full queue must not hold up the daemon's task.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message(state).as_bytes(), &address)?;
    Ok(())
}

fn message(state: ServiceState) -> String {
    match state {
        ServiceState::Ready => "READY=1\n".to_owned(),
        // Type=notify-reload needs both lines.
        ServiceState::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", MonoNs::now().0 / 1000),
        ServiceState::Stopping => "STOPPING=1\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("injector-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        send(path.as_os_str(), ServiceState::Ready).unwrap();
        send(OsStr::new(&format!("@{name}")), ServiceState::Reloading).unwrap();
        let mut buffer = [0; 128];
        let length = by_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\n");
        let length = by_name.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
    }
}
