//! The daemon's log: what is logged is queued, and a thread of its own writes it.
//!
//! A log that blocks (a pipe that nobody reads, a stopped terminal) holds up that thread alone. One that can't be
//! written (a full disk, a closed pipe, a terminal that is gone) loses lines, and so does a full queue; lost lines are
//! counted. `tracing-appender` does the same, but does not count the lines whose write fails, bounds lines and not
//! bytes, and its thread would keep root's rights.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tracing_subscriber::fmt::MakeWriter;

use crate::rights;
use crate::terminal::clean_coloured;

/// How much may wait to be written.
const QUEUE_BYTES: usize = 1024 * 1024;
/// How long the end waits for what is queued.
const FLUSH: Duration = Duration::from_secs(1);

/// The queue, and how much never came out of it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl Log {
    /// Starts the thread, which keeps no rights. It ends with the process.
    ///
    /// # Errors
    /// If there can't be one more thread.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self(Arc::default());
        let of_thread = log.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || of_thread.keep_writing(output))?;
        Ok(log)
    }

    fn keep_writing(&self, mut output: impl Write) {
        // A write from the background to a terminal with `tostop` would stop the whole process.
        let mut stops = SigSet::empty();
        stops.add(Signal::SIGTTOU);
        let blocked = stops.thread_block();
        if let Err(error) = rights::take_none_for_good() {
            tracing::error!(%error, "the log's thread keeps rights that it does not need");
        }
        if let Err(error) = blocked {
            tracing::warn!(%error, "a terminal with tostop may stop the daemon");
        }
        loop {
            let mut queue = self.lock();
            queue.is_writing = false;
            self.0.emptied.notify_all();
            let mut queue = self
                .0
                .filled
                .wait_while(queue, |queue| queue.lines.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let Some(line) = queue.lines.pop_front() else { continue };
            queue.bytes -= line.len();
            queue.is_writing = true;
            drop(queue);
            if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues one line, or counts it as lost. Never waits for the output.
    pub fn line(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes + line.len() > QUEUE_BYTES {
            drop(queue);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        drop(queue);
        self.0.filled.notify_one();
    }

    /// How many lines were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for a second at most.
    pub fn flush(&self) {
        let end = Instant::now() + FLUSH;
        let mut queue = self.lock();
        while queue.is_writing || !queue.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let (woken, _) = self.0.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
        }
    }
}

/// Each write is one event of `tracing`, in which its formatter has escaped the escape characters of others.
impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(clean_coloured(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line whenever it is allowed to.
    struct Gated {
        allowed: mpsc::Receiver<io::Result<()>>,
        wrote: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)??;
            self.wrote.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_blocks_costs_lines_and_no_time() {
        let (allow, allowed) = mpsc::channel();
        let (wrote, written) = mpsc::channel();
        let log = Log::start(Gated { allowed, wrote }).unwrap();
        let line = vec![b'x'; QUEUE_BYTES / 8];
        for _ in 0..20 {
            log.line(&line);
        }
        // 8 are queued; one more if the thread had already taken one.
        let lost = log.lost();
        assert!((11..=12).contains(&lost), "{lost}");
        let asked = Instant::now();
        log.flush();
        assert!(asked.elapsed() >= FLUSH, "nothing was written");
        for _ in 0..20 - lost {
            allow.send(Ok(())).unwrap();
            assert_eq!(written.recv().unwrap().len(), line.len());
        }
        log.flush();
        assert_eq!(log.lost(), lost, "what was queued is written");
    }

    #[test]
    fn a_line_that_can_not_be_written_is_lost_and_the_next_one_is_tried() {
        let (allow, allowed) = mpsc::channel();
        let (wrote, written) = mpsc::channel();
        let log = Log::start(Gated { allowed, wrote }).unwrap();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        allow.send(Ok(())).unwrap();
        log.line(b"a");
        log.line(b"b");
        assert_eq!(written.recv().unwrap(), b"b");
        assert_eq!(log.lost(), 1);
    }
}
