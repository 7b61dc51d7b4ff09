//! `injector start`: the daemon, in the foreground or detached.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use tracing_subscriber::EnvFilter;

use super::args::{Common, LogFormat, Start};
use super::failure::failure_line;
use super::failure::{Exit, Failure};
use super::output::{show, tell};
use super::runtime::block_on;
use crate::daemon::config_file::{Prepared, Source};
use crate::daemon::log::Log;
use crate::daemon::ready::{Ready, StartReport};
use crate::daemon::{self, StartOptions};
use crate::engine;
use crate::memory;
use crate::rights;
use crate::server::{make_directory, make_safe_directory};
use injector_core::config::Config;

/// Sets what the log says, as in `debug` or `injector=debug`.
pub(super) const LOG_VARIABLE: &str = "INJECTOR_LOG";

/// What a panic ends a program of Rust's with.
const PANICKED: Exit = Exit(101);

pub(super) fn run(common: &Common, args: &Start) -> Result<Exit, Failure> {
    start(common, args).inspect_err(|failure| tell_starter(args, failure))
}

/// Tells the process behind `start --detach` why the daemon does not start. Once that process knows that it serves, nobody reads it.
fn tell_starter(args: &Start, failure: &Failure) {
    if args.ready_on_stdout {
        let _ = StartReport::Failed(failure.message.clone()).write();
    }
}

fn start(common: &Common, args: &Start) -> Result<Exit, Failure> {
    if !common.host.is_empty() {
        return Err(Failure::usage("start runs the daemon on this host; leave out --host"));
    }
    let lacking = rights::lacking_for_a_start();
    if !lacking.is_empty() {
        return Err(Failure::new(
            Exit::NOT_PERMITTED,
            format!(
                "start needs root, or at least {}, to attach to interfaces; run it with sudo (`injector check` needs no privileges)",
                lacking.join(", ")
            ),
        ));
    }
    let config = Config::load_with(args.config(), &engine::select)?;
    let mut prepared = Prepared::fetch(config, &args.config().display().to_string())?;
    if let Some(socket) = &common.socket {
        prepared.config.socket.path.clone_from(socket);
    }
    if args.detach {
        return detach(common, args, &prepared.config.socket.path);
    }
    let ready = if args.ready_on_stdout {
        // Away from the terminal that started us, so that its end is not ours.
        let _ = rustix::process::setsid();
        Ready::to_stdout()
    } else {
        Ready::to_systemd()
    };
    memory::give_back_soon();
    let log = log_to_stderr(args.log_format)
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("start: the log's thread: {error}")))?;
    if crate::doctor::is_realtime() {
        tracing::warn!(
            "this kernel has PREEMPT_RT: programs of one CPU can interrupt each other, so verdicts and stamps are not reliable; see `injector doctor`"
        );
    }
    let source = Source::new(args.config(), common.socket.clone()).map_err(|error| {
        Failure::new(Exit::UNDECIDED, format!("start: the path of the config can't be resolved: {error}"))
    })?;
    let options = StartOptions { ready, source, log: log.clone() };
    let serve = || {
        block_on(async {
            Box::pin(daemon::run(prepared, options))
                .await
                .map(|()| Exit::OK)
                .map_err(|error| Failure::new(Exit::UNDECIDED, error.to_string()))
        })
    };
    // A panic has detached everything by the time it is caught here, and was logged.
    let ended = catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Ok(PANICKED));
    // What it ended with goes by the log, too: a standard error that blocks must not keep the process.
    let exit = ended.unwrap_or_else(|failure| {
        tell_starter(args, &failure);
        let line = match args.log_format {
            LogFormat::Text => failure_line(common, &failure),
            LogFormat::Json => failure_event(&failure),
        };
        log.line(line.as_bytes());
        failure.exit
    });
    log.flush();
    Ok(exit)
}

/// What the daemon ended with, as a line of its log in JSON.
fn failure_event(failure: &Failure) -> String {
    let line = serde_json::json!({
        "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        "level": "ERROR",
        "message": failure.message,
        "exit": failure.exit.0,
        "target": "injector",
    });
    format!("{line}\n")
}

fn log_to_stderr(format: LogFormat) -> io::Result<Log> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = Log::start(io::stderr())?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone());
    match format {
        LogFormat::Text => subscriber.with_ansi(colour).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).init(),
    }
    // The default one writes to standard error itself.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!("a bug in the daemon: {panic}\n{backtrace}");
    }));
    Ok(log)
}

/// Starts this program again in the background and waits until it says that it serves.
fn detach(common: &Common, args: &Start, socket: &Path) -> Result<Exit, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(Exit::UNDECIDED, format!("start --detach: {what}: {error}"))
    };
    let log_path = args.log.clone().unwrap_or_else(|| socket.with_file_name("injector.log"));
    if args.log.is_none()
        && let Some(directory) = log_path.parent().filter(|directory| !directory.as_os_str().is_empty())
    {
        // Nobody else may lead the log elsewhere.
        make_safe_directory(directory).map_err(|error| failed("the log", &error))?;
    }
    let (mut log, log_begin) = open_log(&log_path).map_err(|error| failed("the log", &error))?;
    let config = std::path::absolute(args.config()).map_err(|error| failed("the config", &error))?;
    let program = std::env::current_exe().map_err(|error| failed("our own program", &error))?;
    let (reader, writer) = io::pipe().map_err(|error| failed("a pipe", &error))?;
    let stderr = log.try_clone().map_err(|error| failed("the log", &error))?;

    let mut command = Command::new(program);
    command.args(["start", "--ready-on-stdout", "--config"]).arg(config);
    if let Some(socket) = &common.socket {
        command.arg("--socket").arg(std::path::absolute(socket).unwrap_or_else(|_| socket.clone()));
    }
    command.stdin(Stdio::null()).stdout(writer).stderr(stderr);
    if args.log_format == LogFormat::Json {
        command.args(["--log-format", "json"]);
    }
    let mut child = command.spawn().map_err(|error| failed("the daemon", &error))?;
    // The command holds the pipe's writing end: without it the daemon's end is the end of the pipe.
    drop(command);

    let (mut notes, mut cause) = (Vec::new(), None);
    let mut is_ready = false;
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        match StartReport::read(&line) {
            Some(StartReport::Ready) => is_ready = true,
            Some(StartReport::Note(note)) => notes.push(note),
            Some(StartReport::Failed(why)) => cause = Some(why),
            None => {}
        }
        if is_ready {
            break;
        }
    }
    if is_ready {
        let pid = child.id();
        if !common.json {
            for note in &notes {
                tell(&format!("injector: note: {note}\n"));
            }
        }
        let report = serde_json::json!({ "pid": pid, "socket": socket, "log": log_path, "notes": notes });
        show(common, &report, || {
            format!("running: pid {pid}, socket {}, log {}\n", socket.display(), log_path.display())
        })?;
        return Ok(Exit::OK);
    }
    let status = child.wait().map_err(|error| failed("the daemon", &error))?;
    let exit = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    let message = if let Some(cause) = cause {
        // The log's lines before the cause would hide it.
        format!("the daemon did not start: {cause}\nits log is {}", log_path.display())
    } else {
        let mut said = String::new();
        if log.seek(SeekFrom::Start(log_begin)).is_ok() {
            let _ = log.read_to_string(&mut said);
        }
        format!("the daemon did not start ({status}); it said:\n{}", said.trim_end())
    };
    Err(Failure::new(exit.map_or(Exit::UNDECIDED, Exit), message))
}

fn open_log(path: &PathBuf) -> io::Result<(File, u64)> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        make_directory(directory).map_err(io::Error::other)?;
    }
    let mut log = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let begin = log.seek(SeekFrom::End(0))?;
    Ok((log, begin))
}
