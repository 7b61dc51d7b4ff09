//! A process that echoes what it is sent and talks to others as it is asked on its standard input: for tests of peers that
//! are processes of one machine.
//!
//! Each line of its input is a command, and gets one line of answer:
//!
//! | command | answer |
//! |---|---|
//! | `listen ADDRESS` | `ok`; it echoes there over TCP and UDP from then on |
//! | `dial ADDRESS` | `up N`, a connection's number; `silent N` if it is not up after 0.4 s, or `error KIND` |
//! | `say N` | `echo`; `silent` if there is none within 0.4 s, or `error KIND` |
//! | `shut N` | `ok`; it sends no more |
//! | `answer late` | `ok`; those who have shut a connection to it get an answer, which they do not before |
//! | `ask ADDRESS` | the same by a datagram from a socket of its own |
//! | `start ADDRESS` | what a process that it starts answers to `dial` and `say` |

use std::collections::HashMap;
use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Whether half-closed connections are answered.
static ANSWERS_LATE: AtomicBool = AtomicBool::new(false);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

fn main() -> Result<()> {
    let mut talker = Talker::default();
    for line in std::io::stdin().lines() {
        let answer = talker.answer(&line?)?;
        println!("{answer}");
    }
    Ok(())
}

#[derive(Default)]
struct Talker {
    connections: HashMap<u32, TcpStream>,
    next: u32,
}

impl Talker {
    fn answer(&mut self, line: &str) -> Result<String> {
        let (command, what) = line.split_once(' ').context("a command has one word behind it")?;
        Ok(match command {
            "listen" => {
                listen(what.parse()?)?;
                "ok".to_owned()
            }
            "dial" => self.dial(what.parse()?),
            "say" => said(self.say(what.parse()?)?),
            "shut" => {
                self.connection(what.parse()?)?.shutdown(Shutdown::Write)?;
                "ok".to_owned()
            }
            "answer" => {
                ANSWERS_LATE.store(true, Ordering::SeqCst);
                "ok".to_owned()
            }
            "ask" => said(ask(what.parse()?)),
            "start" => start(what)?,
            _ => anyhow::bail!("unknown command {command}"),
        })
    }

    fn connection(&self, number: u32) -> Result<&TcpStream> {
        self.connections.get(&number).context("there is no such connection")
    }

    fn dial(&mut self, to: SocketAddr) -> String {
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(stream) => {
                self.next += 1;
                self.connections.insert(self.next, stream);
                format!("up {}", self.next)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => "silent".to_owned(),
            Err(error) => format!("error {}", error.kind()),
        }
    }

    fn say(&self, number: u32) -> Result<std::io::Result<bool>> {
        let mut stream = self.connection(number)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut say = || {
            stream.write_all(b"hello")?;
            stream.read(&mut [0; 64])
        };
        Ok(say().map(|length| length > 0))
    }
}

fn ask(to: SocketAddr) -> std::io::Result<bool> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"hello")?;
    socket.recv(&mut [0; 64]).map(|length| length > 0)
}

fn said(echo: std::io::Result<bool>) -> String {
    match echo {
        Ok(true) => "echo".to_owned(),
        Ok(false) => "closed".to_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            "silent".to_owned()
        }
        Err(error) => format!("error {}", error.kind()),
    }
}

fn listen(at: SocketAddr) -> Result<()> {
    let (listener, socket) = (TcpListener::bind(at)?, UdpSocket::bind(at)?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(length) = stream.read(&mut buffer) {
        // Half closed: what was heard so far is answered late, as a server does that works.
        if length == 0 {
            while !ANSWERS_LATE.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            let _ = stream.write_all(b"late");
            return;
        }
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Has another process dial and talk.
fn start(to: &str) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("it has an input")?;
    writeln!(input, "dial {to}")?;
    let output = std::io::BufReader::new(child.stdout.take().context("it has an output")?);
    let mut lines = output.lines();
    let mut answer = lines.next().context("it answers")??;
    if answer.starts_with("up") {
        writeln!(input, "say 1")?;
        answer = lines.next().context("it answers")??;
    }
    drop(input);
    child.kill()?;
    child.wait()?;
    Ok(answer)
}
