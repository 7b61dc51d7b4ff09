//! `injector dial-stdio`: the far end of `--host ssh://…`, bytes between standard input and output and the socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};

use super::args::Common;
use super::failure::{Exit, Failure};
use injector_client::ClientError;

pub(super) fn run(common: &Common) -> Result<Exit, Failure> {
    let path = common.socket_path();
    let at = path.display().to_string();
    let socket = UnixStream::connect(&path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted { at: at.clone() },
        _ => ClientError::Unreachable { at: at.clone(), source },
    })?;
    let broken =
        |error: io::Error| Failure::from(ClientError::Broken { at: at.clone(), why: error.to_string() });
    // Unbuffered: a line of an event stream must not wait for the next one.
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(broken)?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(broken)?);
    let towards = socket.try_clone().map_err(broken)?;
    // The thread may sit in a read of standard input forever; it ends with the process.
    let reader = stdout.try_clone().map_err(broken)?;
    std::thread::spawn(move || {
        let _ = carry(stdin, &towards);
        // A client that has nothing more to send may still read.
        let _ = towards.shutdown(Shutdown::Write);
        until_unread(&reader);
        let _ = towards.shutdown(Shutdown::Both);
    });
    carry(socket, &stdout).map_err(broken)?;
    Ok(Exit::OK)
}

/// Waits until nobody reads what is written to this file any more.
fn until_unread(file: &File) {
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    loop {
        let mut files = [PollFd::new(file, PollFlags::empty())];
        match rustix::event::poll(&mut files, None) {
            Ok(_) if files[0].revents().intersects(gone) => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn carry(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
