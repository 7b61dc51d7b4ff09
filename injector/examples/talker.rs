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
//! | `listen-lite ADDRESS` | as `listen`, over UDP-Lite alone; `none` if this kernel has no UDP-Lite |
//! | `ask-lite ADDRESS` | as `ask`, over UDP-Lite |
//! | `hold ADDRESS` | `ok`; it has a UDP socket there, and answers nothing |
//! | `send ADDRESS TO` | `ok`; it has sent a datagram from such a socket |
//! | `call ADDRESS` | the same, whichever address the answer comes from |
//! | `start ADDRESS` | what a process that it starts answers to `dial` and `say` |
//! | `start-as PID ADDRESS` | the same of a process that gets this id; `taken` if another one has it |
//! | `share ADDRESS` | as `listen`, over TCP alone, on a port that others may have too (`SO_REUSEPORT`) |
//! | `try ADDRESS` | `ok`; it has bound the TCP port, and closed it |
//! | `try-listen ADDRESS`, `try-udp ADDRESS` | the same, and it listened there; the same over UDP |
//! | `end main` | `ok`; its main thread has ended, and another one continues |
//! | `listen-multipath ADDRESS` | as `listen`, over multipath TCP alone |
//! | `dial-multipath ADDRESS` | as `dial`, over multipath TCP |
//! | `pour N` | the bytes that come back, within 0.4 s, of a megabyte that is sent as large as the kernel takes it |
//! | `hear GROUP` | `ok`; it counts what arrives at a group and port of IPv4 multicast on `lo` |
//! | `cast GROUP` | `ok`; it has sent one datagram there |
//! | `heard GROUP` | how many have come |
//! | `take PATH` | `ok`; it waits at a Unix socket for sockets that are handed over |
//! | `hand PATH ADDRESS` | `ok`; it has handed over a socket that listens there, and has none of it itself |
//! | `hand-copy PATH ADDRESS` | the same, and it accepts too |
//! | `hand-connection PATH N` | `ok`; it has handed over a connection |
//! | `taken PATH` | `listener`, where connections are echoed from then on, or `up N` |
//! | `patient COMMAND` | what the command answers, with 20 s instead of 0.4 s: for an answer that must come |

#[path = "talker/sockets.rs"]
mod sockets;

use std::collections::HashMap;
use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Whether half-closed connections are answered.
static ANSWERS_LATE: AtomicBool = AtomicBool::new(false);
/// How long an answer is waited for that must not come.
const DOUBT: Duration = Duration::from_millis(400);
/// How long one is waited for that must come: on a busy machine, whoever echoes may be late.
const PATIENCE: Duration = Duration::from_secs(20);
/// The prefix of a command that waits for so long.
const PATIENT: &str = "patient ";

fn main() -> Result<()> {
    let mut talker = Talker::default();
    for line in std::io::stdin().lines() {
        let line = line?;
        if line == "end main" {
            thread::spawn(move || serve(talker));
            end_this_thread();
        }
        let answer = talker.answer(&line)?;
        println!("{answer}");
    }
    Ok(())
}

/// Goes on once the main thread has ended, to the end of the process.
fn serve(mut talker: Talker) {
    println!("ok");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match talker.answer(&line) {
            Ok(answer) => println!("{answer}"),
            Err(_) => break,
        }
    }
    std::process::exit(0);
}

/// Ends the calling thread alone, also if it is the main one.
fn end_this_thread() -> ! {
    // SAFETY: nothing of this thread is used by others.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("it has ended")
}

#[derive(Default)]
struct Talker {
    /// How long the command at hand waits.
    patience: Duration,
    connections: HashMap<u32, TcpStream>,
    next: u32,
    takers: HashMap<String, UnixListener>,
    groups: HashMap<String, Arc<AtomicU32>>,
    held: HashMap<String, UdpSocket>,
}

impl Talker {
    fn answer(&mut self, line: &str) -> Result<String> {
        let patient = line.strip_prefix(PATIENT);
        self.patience = if patient.is_some() { PATIENCE } else { DOUBT };
        self.done(patient.unwrap_or(line))
    }

    fn done(&mut self, line: &str) -> Result<String> {
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
            "ask" => said(ask(what.parse()?, UdpSocket::bind, self.patience)),
            "listen-lite" => match sockets::lite(what.parse()?) {
                Ok(socket) => {
                    answer_on(socket);
                    "ok".to_owned()
                }
                Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => "none".to_owned(),
                Err(error) => return Err(error.into()),
            },
            "ask-lite" => said(ask(what.parse()?, sockets::lite, self.patience)),
            "hold" => {
                self.held.insert(what.to_owned(), UdpSocket::bind(what)?);
                "ok".to_owned()
            }
            "send" => {
                let (at, to) = what.split_once(' ').context("send ADDRESS TO")?;
                self.held.get(at).context("no socket is held there")?.send_to(b"hello", to)?;
                "ok".to_owned()
            }
            "call" => said(call(what.parse()?, self.patience)),
            "start" => start(what, self.patience)?,
            "start-as" => {
                let (id, to) = what.split_once(' ').context("start-as PID ADDRESS")?;
                start_as(id.parse()?, to.parse()?, self.patience)?
            }
            "share" => {
                accept_on(sockets::listen(what.parse()?, sockets::Kind::Shared)?);
                "ok".to_owned()
            }
            "try" => {
                sockets::try_port(what.parse()?)?;
                "ok".to_owned()
            }
            "try-listen" => {
                drop(TcpListener::bind(what.parse::<SocketAddr>()?)?);
                "ok".to_owned()
            }
            "try-udp" => {
                drop(UdpSocket::bind(what.parse::<SocketAddr>()?)?);
                "ok".to_owned()
            }
            "listen-multipath" => {
                accept_on(sockets::listen(what.parse()?, sockets::Kind::Multipath)?);
                "ok".to_owned()
            }
            "dial-multipath" => {
                let dialled = sockets::dial_multipath(what.parse()?, self.patience);
                self.dialled(dialled)
            }
            "pour" => self.pour(what.parse()?)?,
            "hear" => {
                self.receive_from(what)?;
                "ok".to_owned()
            }
            "cast" => {
                sockets::cast(what.parse()?)?;
                "ok".to_owned()
            }
            "heard" => {
                let count = self.groups.get(what).context("nobody hears there")?;
                count.load(Ordering::SeqCst).to_string()
            }
            "take" => {
                self.takers.insert(what.to_owned(), UnixListener::bind(what)?);
                "ok".to_owned()
            }
            "taken" => self.taken(what)?,
            "hand" | "hand-copy" | "hand-connection" => {
                let (path, what) = what.split_once(' ').context("a path and what is handed over")?;
                if command == "hand-connection" {
                    sockets::hand(path, self.connection(what.parse()?)?.as_fd())?;
                } else {
                    let listener = TcpListener::bind(what.parse::<SocketAddr>()?)?;
                    sockets::hand(path, listener.as_fd())?;
                    if command == "hand-copy" {
                        accept_on(listener);
                    }
                }
                "ok".to_owned()
            }
            _ => anyhow::bail!("unknown command {command}"),
        })
    }

    fn connection(&self, number: u32) -> Result<&TcpStream> {
        self.connections.get(&number).context("there is no such connection")
    }

    fn dial(&mut self, to: SocketAddr) -> String {
        self.dialled(TcpStream::connect_timeout(&to, self.patience))
    }

    fn dialled(&mut self, dialled: std::io::Result<TcpStream>) -> String {
        match dialled {
            Ok(stream) => {
                self.next += 1;
                self.connections.insert(self.next, stream);
                format!("up {}", self.next)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => "silent".to_owned(),
            Err(error) => format!("error {}", error.kind()),
        }
    }

    /// Sends much at once: on loopback, frames of many segments.
    fn pour(&self, number: u32) -> Result<String> {
        const MUCH: usize = 1 << 20;
        let mut stream = self.connection(number)?;
        let mut sender = stream.try_clone()?;
        sender.set_write_timeout(Some(self.patience))?;
        let sent = thread::spawn(move || sender.write_all(&vec![0; MUCH]));
        let (mut back, end) = (0, Instant::now() + self.patience);
        stream.set_read_timeout(Some(self.patience))?;
        while back < MUCH && Instant::now() < end {
            match stream.read(&mut [0; 1 << 13]) {
                Ok(length) if length > 0 => back += length,
                _ => break,
            }
        }
        // One that times out is an answer too.
        let _ = sent.join();
        Ok(back.to_string())
    }

    fn receive_from(&mut self, group: &str) -> Result<()> {
        let at: SocketAddr = group.parse()?;
        let SocketAddr::V4(v4) = at else { anyhow::bail!("{at} is no group of IPv4") };
        let socket = sockets::group(v4)?;
        socket.join_multicast_v4(v4.ip(), &Ipv4Addr::LOCALHOST)?;
        let count = Arc::new(AtomicU32::new(0));
        self.groups.insert(group.to_owned(), Arc::clone(&count));
        thread::spawn(move || {
            while socket.recv(&mut [0; 64]).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(())
    }

    fn taken(&mut self, path: &str) -> Result<String> {
        let taker = self.takers.get(path).context("nobody takes there")?;
        let socket = sockets::take(&taker.accept()?.0)?;
        if sockets::listens(&socket)? {
            accept_on(TcpListener::from(socket));
            return Ok("listener".to_owned());
        }
        Ok(self.dialled(Ok(TcpStream::from(socket))))
    }

    fn say(&self, number: u32) -> Result<std::io::Result<bool>> {
        let mut stream = self.connection(number)?;
        stream.set_read_timeout(Some(self.patience))?;
        let mut say = || {
            stream.write_all(b"hello")?;
            stream.read(&mut [0; 64])
        };
        Ok(say().map(|length| length > 0))
    }
}

fn ask(
    to: SocketAddr,
    bind: fn(SocketAddr) -> std::io::Result<UdpSocket>,
    patience: Duration,
) -> std::io::Result<bool> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(b"hello")?;
    socket.recv(&mut [0; 64]).map(|length| length > 0)
}

fn call(to: SocketAddr, patience: Duration) -> std::io::Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(patience))?;
    socket.send_to(b"hello", to)?;
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
    accept_on(listener);
    answer_on(socket);
    Ok(())
}

/// Sends each datagram back to where it comes from.
fn answer_on(socket: UdpSocket) {
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// Echoes what comes over each connection.
fn accept_on(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(length) = stream.read(&mut buffer) {
        // Half closed: bytes received so far are answered late, as a server does that works.
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
fn start(to: &str, patience: Duration) -> Result<String> {
    let word = if patience == PATIENCE { PATIENT } else { "" };
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("it has an input")?;
    writeln!(input, "{word}dial {to}")?;
    let output = std::io::BufReader::new(child.stdout.take().context("it has an output")?);
    let mut lines = output.lines();
    let mut answer = lines.next().context("it answers")??;
    if answer.starts_with("up") {
        writeln!(input, "{word}say 1")?;
        answer = lines.next().context("it answers")??;
    }
    drop(input);
    child.kill()?;
    child.wait()?;
    Ok(answer)
}

/// The same in a process whose id is chosen. It is a copy of this one, which must not have started a thread.
fn start_as(id: libc::pid_t, to: SocketAddr, patience: Duration) -> Result<String> {
    let (mut answers, writer) = std::io::pipe()?;
    let forked = sockets::fork_as(id, || {
        let mut talker = Talker { patience, ..Talker::default() };
        let mut answer = talker.dial(to);
        if answer.starts_with("up") {
            answer = talker.say(1).map_or_else(|error| error.to_string(), said);
        }
        let _ = (&writer).write_all(answer.as_bytes());
    });
    let child = match forked {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok("taken".to_owned()),
        Err(error) => return Err(error.into()),
    };
    drop(writer);
    let mut answer = String::new();
    answers.read_to_string(&mut answer)?;
    sockets::wait(child)?;
    Ok(answer)
}
