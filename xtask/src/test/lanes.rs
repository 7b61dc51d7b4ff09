//! Running test programs side by side.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::count::{Count, TestOutput};
use crate::command::{check_interrupt, words};

/// Runs programs in so many lanes. What one says is shown when it has ended, in one piece.
pub fn run_all(programs: VecDeque<(String, Command)>, lanes: usize, count: &mut Count) -> Result<()> {
    let programs = Mutex::new(programs);
    let count = Mutex::new(count);
    // A lane that panicked left whole values behind.
    let next = || programs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let lane = || {
        while let Some((name, mut command)) = next() {
            check_interrupt()?;
            println!("Tests of {name} begin");
            let (said, cost) = run(&mut command)?;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            println!("\nTests of {name}: {cost}\n{}", said.text);
            count.take(&said, &command);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })
}

fn run(command: &mut Command) -> Result<(TestOutput, Cost)> {
    let begin = Instant::now();
    // Tests print to standard error, beside libtest's own output: that belongs to no count.
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("starting `{}`", words(command)))?;
    let mut text = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut text).with_context(|| format!("reading from `{}`", words(command)))?;
    }
    let (status, processor) = wait(&child).with_context(|| format!("waiting for `{}`", words(command)))?;
    let output = TestOutput {
        text: String::from_utf8_lossy(&text).into_owned(),
        succeeded: status.success(),
        status: status.to_string(),
    };
    Ok((output, Cost { wall: begin.elapsed(), processor }))
}

/// Waits for a child; answers how it ended, and the processor time that it and all children that it waited for used.
fn wait(child: &Child) -> std::io::Result<(ExitStatus, Duration)> {
    let pid = i32::try_from(child.id()).expect("the kernel's process ids are positive `i32`s");
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to values that live longer than the call, and the child is not waited for elsewhere.
        if unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) } == pid {
            break;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: all of its fields are numbers, for which zeroes are valid; and the kernel has written it.
    let usage = unsafe { usage.assume_init() };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    Ok((ExitStatus::from_raw(status), time(usage.ru_utime) + time(usage.ru_stime)))
}

/// What running a program took.
struct Cost {
    wall: Duration,
    /// Processor time of the program and of the children that it waited for. The kernel's work on no process's behalf, such as
    /// removing a namespace, is not in it.
    processor: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [wall, processor] = [self.wall, self.processor].map(|time| time.as_secs_f64());
        write!(f, "{wall:.1} s, {processor:.1} s of processor time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let mut count = Count::default();
        let program = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            (script.to_owned(), command)
        };
        let programs = [program("echo 'running 1 test'; kill -9 $$"), program("exit 0")];
        run_all(programs.into(), 2, &mut count).unwrap();
        assert_eq!(count.numbers(), (0, 1, 0));
    }

    #[test]
    fn the_cost_of_a_program_has_that_of_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; sleep 0.1"]);
        let (said, cost) = run(&mut command).unwrap();
        assert!(said.succeeded);
        assert!(cost.processor >= Duration::from_millis(5), "{cost}");
        assert!(cost.wall >= Duration::from_millis(100), "{cost}");
    }
}
