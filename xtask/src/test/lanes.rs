//! Running test programs side by side.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

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
            let said = run(&mut command)?;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            println!("\nTests of {name}\n{}", said.text);
            count.take(&said, &command);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })
}

fn run(command: &mut Command) -> Result<TestOutput> {
    // Tests print to standard error, beside libtest's own output: that belongs to no count.
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", words(command)))?;
    Ok(TestOutput {
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        succeeded: output.status.success(),
        status: output.status.to_string(),
    })
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
}
