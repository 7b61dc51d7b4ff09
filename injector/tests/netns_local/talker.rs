//! Processes that talk to each other on command.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use injector_lab::Lab;

/// One process, killed with this value.
pub struct Talker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn program() -> PathBuf {
    // target/debug/deps/test-0123 → target/debug/examples/…
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/talker")
}

impl Talker {
    /// Starts one in a namespace, listening at these addresses.
    pub fn start(lab: &Lab, netns: &str, listens: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = lab.within(netns, || command.spawn().unwrap());
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut talker = Self { child, input, output };
        for at in listens {
            talker.report("listen", at);
        }
        talker
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it answers, where an echo must come: one that a busy machine delays is waited for.
    pub fn ask_patiently(&mut self, command: &str, what: &str) -> String {
        self.ask(&format!("patient {command}"), what)
    }

    /// What it answers; to what must stay silent, soon.
    pub fn ask(&mut self, command: &str, what: &str) -> String {
        writeln!(self.input, "{command} {what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the talker ended");
        line.trim_end().to_owned()
    }

    /// Has it listen at one more address.
    pub fn listen(&mut self, at: &str) {
        self.report("listen", at);
    }

    /// Has it do what it answers with "ok".
    pub fn report(&mut self, command: &str, what: &str) {
        assert_eq!(self.ask(command, what), "ok", "{command} {what}");
    }

    /// Opens a connection; its number.
    pub fn dial(&mut self, to: &str) -> String {
        let answer = self.ask_patiently("dial", to);
        answer.strip_prefix("up ").unwrap_or_else(|| panic!("dial {to}: {answer}")).to_owned()
    }

    pub fn shut(&mut self, connection: &str) {
        self.report("shut", connection);
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.end();
    }
}
