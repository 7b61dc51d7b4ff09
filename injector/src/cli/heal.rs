//! `injector heal`.

use super::args::{Common, Heal};
use super::failure::report;
use super::failure::{Exit, Failure};
use super::human::{healer, wall};
use super::output::show;
use crate::datapath::loaded;
use injector_client::{Address, Client, ClientError};
use injector_core::api::Healed;
use injector_core::clock::MonoNs;

/// How long a daemon may take to heal everything: longer than its lease.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) async fn run(common: &Common, args: Heal) -> Result<Exit, Failure> {
    if args.all {
        let asked = async { Client::open(&common.address()).await?.heal_all().await };
        let Ok(healed) = tokio::time::timeout(PATIENCE, asked).await else { return unanswered(common).await };
        let healed = healed?;
        show(common, &healed, || {
            if healed.is_empty() { "nothing was cut\n".to_owned() } else { healed.iter().map(line).collect() }
        })?;
        return Ok(Exit::OK);
    }
    let mut client = Client::open(&common.address()).await?.give_up_after(PATIENCE);
    let mut healed = Vec::new();
    let mut exit = Exit::OK;
    for name in &args.names {
        match client.heal(name).await {
            Ok(one) => healed.push(one),
            Err(ClientError::NoAnswer { .. }) => return unanswered(common).await,
            // One that can't be healed must not keep the others cut.
            Err(error) => {
                let failure = Failure::from(error);
                report(common, &failure);
                if exit == Exit::OK {
                    exit = failure.exit;
                }
            }
        }
    }
    show(common, &healed, || healed.iter().map(line).collect())?;
    Ok(exit)
}

/// A daemon that does not answer ends its cuts all the same, by its lease: whether it has, the kernel says.
async fn unanswered(common: &Common) -> Result<Exit, Failure> {
    let failed = |what: String| {
        Failure::new(Exit::UNDECIDED, format!("no answer within {} s{what}", PATIENCE.as_secs()))
    };
    let Some(pid) = daemon_at(common) else { return Err(failed(String::new())) };
    if !is_daemon(common, pid).await {
        return Err(no_daemon(common, pid));
    }
    let now = MonoNs::now();
    let Some(daemon) = loaded().into_iter().find(|daemon| daemon.owner.pid == pid) else {
        return Err(failed(format!(
            " from the daemon with pid {pid}; run as root to see whether its lease has ended its cuts"
        )));
    };
    if daemon.until > now {
        return Err(failed(format!(
            " from the daemon with pid {pid}, whose lease is in force; `kill -KILL {pid}` ends its cuts"
        )));
    }
    let ended = now.saturating_since(daemon.until);
    show(common, &serde_json::json!({ "pid": pid, "lease_ended_ns": daemon.until }), || {
        format!(
            "the daemon with pid {pid} does not answer; its lease ended {:.1} s ago, and with it every cut\n",
            ended.as_secs_f64()
        )
    })?;
    Ok(Exit::OK)
}

/// The process that listens on the socket of this host.
pub(super) fn daemon_at(common: &Common) -> Option<u32> {
    let Address::Socket(path) = common.address() else { return None };
    let stream = std::os::unix::net::UnixStream::connect(path).ok()?;
    let caller = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(caller.pid.as_raw_nonzero().get()).ok()
}

/// Whether a process that listens on the socket is a daemon: by the name that its program has, by what the kernel has of it, or
/// by what it answers. A wrong socket may be that of any service.
pub(super) async fn is_daemon(common: &Common, pid: u32) -> bool {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if comm.trim_end() == "injector" || loaded().iter().any(|daemon| daemon.owner.pid == pid) {
        return true;
    }
    let asked = async { Client::open(&common.address()).await?.status().await };
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)))
}

/// That it is none, and what to do.
pub(super) fn no_daemon(common: &Common, pid: u32) -> Failure {
    Failure::new(
        Exit::UNREACHABLE,
        format!(
            "the process with pid {pid}, which listens on {}, is no injector daemon; name the socket of one with --socket or \
             INJECTOR_SOCKET",
            common.address()
        ),
    )
}

/// When and by what, in one line.
pub(super) fn line(healed: &Healed) -> String {
    format!("{}: healed {}, {}\n", healed.name, wall(healed.at.wall), healer(healed.healed_by))
}
