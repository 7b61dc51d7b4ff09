//! The command line: a thin shell over the API's client. One file a command.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::args::{Command, CommandLine, Common};
use self::failure::{Exit, Failure};
use self::runtime::block_on;

pub mod args;
mod check;
mod compare;
mod dial_stdio;
mod doctor;
pub mod failure;
mod heal;
mod hosts;
pub mod human;
mod init;
mod mark;
mod measure;
mod output;
mod partition;
mod peers;
mod probe;
mod progress;
mod render_record;
mod report;
mod runtime;
mod start;
mod status;
mod stop;
mod timeline;
mod top;
mod wait;
mod with;

/// Reads the command line, runs it, and gives the exit code.
pub fn main() -> ExitCode {
    heed_size_limits();
    drop_empty_variables();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let error = if error.kind() == ErrorKind::InvalidUtf8 { not_utf8() } else { error };
            return print(&error);
        }
    };
    let common = line.common;
    match run(&common, line.command) {
        Ok(exit) => ExitCode::from(exit.0),
        Err(failure) => {
            failure::report(&common, &failure);
            ExitCode::from(failure.exit.0)
        }
    }
}

/// Prints help, a version, or what is wrong with the command line: as JSON, if that is asked for, since it could not be parsed.
fn print(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        if std::io::stdout().is_terminal() {
            let _ = error.print();
        } else {
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(error.render().to_string().as_bytes()).and_then(|()| stdout.flush());
        }
        return ExitCode::from(Exit::OK.0);
    }
    let mut own = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if own.any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let failure = Failure::usage(text.trim().trim_start_matches("error: "));
        let _ = std::io::stderr().write_all(failure::json_line(&failure, None).as_bytes());
    } else if std::io::stderr().is_terminal() {
        let _ = error.print();
    } else {
        // Also where a variable forces colours: a program that reads this wants none.
        let _ = std::io::stderr().write_all(error.render().to_string().as_bytes());
    }
    ExitCode::from(Exit::USAGE.0)
}

/// Which arguments are no text: the parser does not say.
#[expect(clippy::unnecessary_debug_formatting, reason = "it shows which bytes are no text")]
fn not_utf8() -> clap::Error {
    let arguments = std::env::args_os().enumerate().skip(1);
    let odd = arguments.filter(|(_, argument)| argument.to_str().is_none());
    let odd: Vec<String> = odd.map(|(at, argument)| format!("argument {at}, {argument:?},")).collect();
    let what = format!("{} is not UTF-8, as names and texts must be", odd.join(" or "));
    CommandLine::command().error(ErrorKind::InvalidUtf8, what)
}

/// Takes variables that are empty for unset ones: a CI job has such where a setting of its own has no value.
fn drop_empty_variables() {
    for name in [args::SOCKET_VARIABLE, args::HOST_VARIABLE, start::LOG_VARIABLE] {
        if std::env::var_os(name).is_some_and(|value| value.is_empty()) {
            // SAFETY: no other thread runs yet, so that none reads the environment now.
            unsafe { std::env::remove_var(name) };
        }
    }
}

/// Makes a write beyond the limit of a file's size fail with an error that is reported. By default, SIGXFSZ ends the process
/// without a word. A handler, since programs that are started from here would inherit that a signal is ignored.
fn heed_size_limits() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: a handler that does nothing is safe at any moment, and no other thread sets one yet.
    unsafe { libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) };
}

fn run(common: &Common, command: Command) -> Result<Exit, Failure> {
    hosts::all_are_read(common)?;
    if common.host.len() > 1 {
        return hosts::run(common, command);
    }
    match command {
        Command::Start(args) => start::run(common, &args),
        Command::Stop(args) => block_on(stop::run(common, &args)),
        Command::Init(args) => block_on(init::run(common, &args)),
        Command::Check(args) => check::run(common, &args),
        Command::DialStdio => dial_stdio::run(common),
        Command::Doctor(args) => block_on(doctor::run(common, args)),
        Command::Partition(args) => block_on(partition::run(common, args)),
        Command::Heal(args) => block_on(heal::run(common, args)),
        Command::Status(args) => block_on(status::run(common, args)),
        Command::Top => block_on(top::run(common)),
        Command::Peers => block_on(peers::run(common)),
        Command::Timeline(args) => block_on(timeline::run(common, args)),
        Command::Mark(args) => block_on(mark::run(common, args)),
        Command::Wait(args) => block_on(wait::run(common, args)),
        Command::With(args) => block_on(with::run(common, args)),
        Command::Probe => block_on(probe::run(common)),
        Command::Measure(args) => block_on(measure::run(common, *args)),
        Command::Report(args) => report::run(common, args),
        Command::Compare(args) => compare::run(common, args),
    }
}
