//! The results of test programs, and the tests that skipped themselves.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::command::words;

/// The output of a test program.
pub struct TestOutput {
    /// Its standard output.
    pub text: String,
    /// Whether it ended with success.
    pub succeeded: bool,
    /// How it ended.
    pub status: String,
}

/// The results of many test programs.
#[derive(Default)]
pub struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
    skips: Vec<String>,
    failures: Vec<String>,
}

impl Count {
    /// Adds up the results of one test program.
    pub fn take(&mut self, said: &TestOutput, command: &Command) {
        let failed: usize = said.text.lines().map(|line| self.line(line)).sum();
        // A program that died has not reported which of its tests failed.
        if !said.succeeded && failed == 0 {
            self.fail(format!("`{}` ({})", words(command), said.status));
        }
    }

    /// Takes in a line of libtest's output; answers the failures that it adds.
    pub fn line(&mut self, line: &str) -> usize {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| -> usize {
                let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
                part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
            };
            let failed = number("failed");
            self.passed += number("passed");
            self.failed += failed;
            self.skipped += number("ignored");
            return failed;
        }
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
            match outcome.split_once(", ").map_or((outcome, "ignored"), |(outcome, reason)| (outcome, reason))
            {
                ("ignored", reason) => self.skips.push(format!("{name}: {reason}")),
                ("FAILED", _) => self.failures.push(name.to_owned()),
                _ => {}
            }
        }
        0
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        let Self { passed, failed, skipped, skips, failures } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.skips.extend(skips);
        self.failures.extend(failures);
    }

    /// Whether something has failed.
    pub fn has_failures(&self) -> bool {
        self.failed > 0
    }

    /// Counts what libtest has not counted.
    pub fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }

    /// A test that skipped itself has passed by libtest's count, but not by ours.
    pub fn skip(&mut self, line: &str) {
        self.skip_uncounted(line);
        self.passed = self.passed.saturating_sub(1);
    }

    /// A test that libtest has not counted.
    pub fn skip_uncounted(&mut self, line: &str) {
        self.skips.push(line.strip_prefix("SKIP ").unwrap_or(line).to_owned());
        self.skipped += 1;
    }

    /// How many passed, failed and were skipped.
    #[cfg(test)]
    pub fn numbers(&self) -> (usize, usize, usize) {
        (self.passed, self.failed, self.skipped)
    }

    /// Whether no test has run.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Names what was skipped and what failed, then the numbers; the exit code is theirs.
    pub fn report(&self) -> ExitCode {
        println!();
        for line in &self.skips {
            println!("SKIP {line}");
        }
        for name in &self.failures {
            println!("FAILED {name}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Adds the tests that skipped themselves.
    pub fn take_skips(&mut self, log: &SkipLog) -> Result<()> {
        let text =
            std::fs::read_to_string(&log.path).with_context(|| format!("reading {}", log.path.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.skip(line);
        }
        Ok(())
    }
}

/// The file that tests append to; removed at the end.
pub struct SkipLog {
    /// Where it is.
    pub path: PathBuf,
}

impl SkipLog {
    /// Makes an empty one.
    pub fn create() -> Result<Self> {
        let folder = crate::command::workspace().join("target");
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(format!("skipped-tests-{}.log", std::process::id()));
        std::fs::write(&path, "").with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        // Nobody reads a log that stays behind.
        let _ = std::fs::remove_file(Path::new(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test b ... FAILED",
            "test c ... ignored, needs a kernel module",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.10s",
        ] {
            count.line(line);
        }
        assert_eq!((count.passed, count.failed, count.skipped), (13, 1, 1));
        assert_eq!(count.skips, ["c: needs a kernel module"]);
        assert_eq!(count.failures, ["b"]);
    }

    #[test]
    fn a_logged_skip_is_no_pass() {
        let log = SkipLog::create().unwrap();
        std::fs::write(&log.path, "SKIP vlan: no 802.1Q devices\n").unwrap();
        let mut count = Count { passed: 5, ..Count::default() };
        count.take_skips(&log).unwrap();
        assert_eq!((count.passed, count.skipped), (4, 1));
        assert_eq!(count.skips, ["vlan: no 802.1Q devices"]);
    }
}
