//! A Clojure process with the library, driven form by form.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// Where Debian's packages have Clojure and what the library needs.
const JARS: [&str; 5] = ["clojure", "spec.alpha", "core.specs.alpha", "data.json", "tools.logging"];

/// The library's folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/jepsen")
}

fn jar(name: &str) -> PathBuf {
    Path::new("/usr/share/java").join(format!("{name}.jar"))
}

/// Why there can be no suite here, if so.
pub fn why_not() -> Option<String> {
    let absent = JARS.iter().map(|name| jar(name)).find(|jar| !jar.exists());
    if let Some(jar) = absent {
        return Some(format!("there is no {}; `cargo xtask setup clients` installs it", jar.display()));
    }
    let java = Command::new("java").arg("-version").output();
    java.err()
        .map(|error| format!("java can't be started ({error}); `cargo xtask setup clients` installs it"))
}

/// Clojure with the library, Jepsen's protocols and the tests on its class path.
pub fn clojure(main: &str) -> Command {
    let sources = ["src", "test/stand_ins", "test"].map(|part| folder().join(part));
    let path: Vec<_> = JARS.iter().map(|name| jar(name)).chain(sources).collect();
    let mut command = Command::new("java");
    // Small and quick to start: these processes evaluate a few forms.
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.arg("-cp").arg(std::env::join_paths(path).unwrap()).args(["clojure.main", "-m", main]);
    command.env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST").current_dir(folder());
    command
}

/// What an exception of the suite says, and its data.
#[derive(Debug)]
pub struct Thrown {
    pub message: String,
    pub data: Value,
}

/// A running suite; killed when dropped.
pub struct Suite {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Suite {
    /// Starts one whose test has these nodes. `net` are the options of `injector.jepsen/net`, `sessions` the commands
    /// that run a shell command on each node, `run` is the start time that distinguishes its runs.
    pub fn start(nodes: &[String], run: &str, net: &str, sessions: &[(String, Vec<String>)]) -> Self {
        let mut child =
            clojure("driver").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starting java");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut suite = Self { child, input, output };
        assert_eq!(suite.answer().unwrap(), "ready");
        let nodes: Vec<String> = nodes.iter().map(|node| format!("{node:?}")).collect();
        let mut commands = String::new();
        for (node, words) in sessions {
            write!(commands, "{node:?} {{:command {words:?}}} ").unwrap();
        }
        let commands = commands.replace(", ", " ");
        suite.eval(&format!(
            "(def t {{:name \"netns jepsen\" :start-time {run:?} :nodes [{}] :concurrency {} :net (injector/net {net}) \
             :sessions {{{commands}}}}})",
            nodes.join(" "),
            nodes.len(),
        ));
        suite.eval("(def n (:net t))");
        suite
    }

    /// The value of a form.
    pub fn eval(&mut self, form: &str) -> Value {
        self.try_eval(form).unwrap_or_else(|thrown| panic!("{form}: {thrown:#?}"))
    }

    /// What a form throws.
    pub fn thrown(&mut self, form: &str) -> Thrown {
        match self.try_eval(form) {
            Ok(value) => panic!("{form} gave {value}"),
            Err(thrown) => thrown,
        }
    }

    fn try_eval(&mut self, form: &str) -> Result<Value, Thrown> {
        assert!(!form.contains('\n'), "a form is one line: {form}");
        writeln!(self.input.as_mut().unwrap(), "{form}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Result<Value, Thrown> {
        loop {
            let line = self.output.next().expect("the suite has ended").unwrap();
            if let Some(value) = line.strip_prefix("= ") {
                return Ok(serde_json::from_str(value).unwrap());
            }
            if let Some(thrown) = line.strip_prefix("! ") {
                let mut thrown: Value = serde_json::from_str(thrown).unwrap();
                let message = thrown["message"].as_str().unwrap_or_default().to_owned();
                return Err(Thrown { message, data: thrown["data"].take() });
            }
            eprintln!("{line}");
        }
    }

    /// Kills it, as a suite dies.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
