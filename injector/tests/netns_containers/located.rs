//! What the engines' containers have in common: the server that they run, and who reaches whom.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use injector_lab::until;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port that each container serves.
const PORT: u16 = 8080;
/// How long a connection may take that is to be made.
const CONNECT: Duration = Duration::from_millis(700);

/// Makes the files of an image with a web server alone, in a folder.
pub fn web_server(folder: &Path) -> PathBuf {
    let root = folder.join("image");
    std::fs::create_dir_all(root.join("www")).unwrap();
    std::fs::write(root.join("www/index.html"), "ok\n").unwrap();
    std::fs::copy(injector_lab::program("busybox").unwrap(), root.join("busybox")).unwrap();
    root
}

/// Packs a folder.
#[track_caller]
pub fn archive(tree: &Path) -> PathBuf {
    let archive = tree.with_extension("tar");
    let made = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&archive).arg(".").status();
    assert!(made.unwrap().success());
    archive
}

/// The first process and the address of each container, by its name.
pub struct Located(pub BTreeMap<String, (u32, IpAddr)>);

impl Located {
    /// Whether a container gets an answer from another one.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        let at = SocketAddr::new(self.0[to].1, PORT);
        within(self.0[from].0, || fetch(at).is_ok_and(|answer| answer.contains("ok")))
    }

    /// Asserts which containers reach each other: those on the same side, both ways.
    #[track_caller]
    pub fn assert_sides(&self, sides: &[&[&str]]) {
        for side in sides {
            for other in sides {
                for (from, to) in side.iter().flat_map(|from| other.iter().map(move |to| (from, to))) {
                    if from == to {
                        continue;
                    }
                    if side == other {
                        // On a busy machine an answer may take longer than one attempt waits.
                        until(&format!("{from} reaches {to}"), || self.reaches(from, to).then_some(()));
                    } else {
                        assert!(!self.reaches(from, to), "{from} reaches {to}, sides {sides:?}");
                    }
                }
            }
        }
    }
}

/// Runs something on a thread inside the network of a container's process.
fn within<T: Send>(pid: u32, job: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            job()
        });
        inside.join().unwrap()
    })
}

fn fetch(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, CONNECT)?;
    stream.set_read_timeout(Some(CONNECT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
