//! `injector partition` on several hosts.

use std::fmt::{Display, Write as _};
use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{At, Common, Partition};
use crate::cli::failure::{Exit, Failure};
use crate::cli::human::{span, wall};
use crate::cli::output::show;
use crate::cli::partition::{Asked, counted_links, doubts};
use injector_client::hosts::{CutError, HostCut, HostFailure, Hosts, HostsCut, Start, Why};
use injector_core::api::{Owner, role_suffix};
use injector_core::clock::WallNs;
use injector_core::figures::counted;

pub(super) async fn run(common: &Common, args: Partition) -> Result<Exit, Failure> {
    let Asked { name, request, .. } = Asked::of(args.cut, None, Owner::None)?;
    let mut hosts = Hosts::new(common.addresses());
    if args.dry_run {
        let cut = hosts.dry_run(&name, request).await?;
        show(common, &cut, || would_cut(&cut))?;
        return Ok(Exit::OK);
    }
    let start = match args.at {
        None => Start::Soon,
        Some(At::In(span)) => Start::In(span),
        Some(At::Wall(wall)) => Start::At(wall),
    };
    let mut interrupted = Interrupted::catch()
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("signals can't be caught: {error}")))?;
    let caught = tokio::select! {
        cut = hosts.cut(&name, request, start) => Ok(cut),
        number = interrupted.next() => Err(number),
    };
    match caught {
        Ok(cut) => {
            let cut = cut?;
            show(common, &cut, || describe(&cut))?;
            Ok(Exit::OK)
        }
        Err(number) => Err(withdrawn(&mut hosts, &name, number).await),
    }
}

/// Takes back what is prepared or enabled.
async fn withdrawn(hosts: &mut Hosts, name: &str, signal: u8) -> Failure {
    let (_, left) = hosts.take_back(name).await;
    let mut message = format!("interrupted by signal {signal}");
    if left.is_empty() {
        message += ": nothing is cut on any host";
    }
    for HostFailure { host, why } in &left {
        let _ =
            write!(message, "; {host} may cut until its `--for` ends: it could not be healed there ({why})");
    }
    Failure::new(Exit(128 + signal), message)
}

/// The signals that ask us to end.
struct Interrupted {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Interrupted {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.hang_up.recv() => 1,
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

impl From<CutError> for Failure {
    fn from(error: CutError) -> Self {
        let message = error.to_string();
        let CutError { why, taken_back, left, begins } = error;
        let (mut exit, mut details) = (Exit::USAGE, Vec::new());
        match why {
            Why::Share(_) | Why::TooLate(_) => {}
            Why::Unconfirmed(_) => exit = Exit::UNREACHABLE,
            Why::Hosts(failures) => {
                exit = Exit::OK;
                for HostFailure { host, why } in failures {
                    let failure = of_host(&host, why.into());
                    exit = exit.worse(failure.exit);
                    let mut detail = serde_json::json!({ "host": host, "error": failure.message });
                    if let Some(more) = &failure.details {
                        detail["problem"] = more["problem"].clone();
                    }
                    details.push(detail);
                }
            }
        }
        let left: Vec<String> = left.into_iter().map(|failure| failure.host).collect();
        let details =
            serde_json::json!({ "hosts": details, "taken_back": taken_back, "left": left, "begins": begins });
        Self { exit, message, details: Some(details) }
    }
}

/// A failure with the host in front.
fn of_host(host: impl Display, failure: Failure) -> Failure {
    Failure { message: format!("{host}: {}", failure.message), ..failure }
}

fn would_cut(cut: &HostsCut) -> String {
    let mut text = format!("would cut on all hosts: {}{}\n", cut.resolved, role_suffix(&cut.roles));
    common_part(&mut text, cut);
    for host in &cut.hosts {
        one_host(&mut text, host);
    }
    text
}

/// The instant for all, then each host.
fn describe(cut: &HostsCut) -> String {
    let hosts = counted(cut.hosts.iter().filter(|host| host.partition.is_some()).count(), "host");
    let mut text = format!("{}: {}{} on {hosts}\n", cut.name, cut.resolved, role_suffix(&cut.roles));
    if let (Some(begins), Some(spread)) = (cut.begins, cut.spread_ns) {
        let _ = writeln!(
            text,
            "  cut    {} by this host's clock, on all hosts within {}",
            wall(begins),
            span(spread)
        );
        let view = cut.hosts.iter().find_map(|host| host.partition.as_ref());
        if let Some(lasts) = view.and_then(|view| view.request.for_) {
            let end = WallNs(begins.0.saturating_add_unsigned(lasts.as_nanos()));
            let _ = writeln!(text, "  until  {}, {} later", wall(end), span(lasts.as_nanos()));
        }
    }
    common_part(&mut text, cut);
    for host in &cut.hosts {
        one_host(&mut text, host);
    }
    text
}

fn common_part(text: &mut String, cut: &HostsCut) {
    let _ = writeln!(text, "  links  {}", cut.links);
    if let Some(view) = cut.hosts.iter().find_map(|host| host.partition.as_ref()) {
        let _ = writeln!(text, "  traffic {}", view.request.traffic.describe());
    }
    if let Some(seed) = cut.seed {
        let _ = writeln!(text, "  seed   {seed}");
    }
}

fn one_host(text: &mut String, HostCut { host, partition, begin }: &HostCut) {
    let Some(view) = partition else {
        let _ = writeln!(text, "{host}\n  cuts no link of this shape");
        return;
    };
    let _ = writeln!(text, "{host}\n  links  {}", counted_links(view));
    if let (Some(begin), Some(own)) = (begin, view.effective) {
        let ahead = if begin.wall_ahead_ns < 0 { "behind" } else { "ahead of" };
        let _ = writeln!(
            text,
            "  cut    {} by its clock, which is {} {ahead} this host's; here {} ± {}",
            wall(own.wall),
            span(begin.wall_ahead_ns.unsigned_abs()),
            wall(begin.begin),
            span(begin.bound_ns),
        );
    }
    doubts(text, view);
}
