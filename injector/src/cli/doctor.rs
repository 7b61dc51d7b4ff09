//! `injector doctor`: what keeps the daemon from its work on this host, and with this config. Needs no daemon.

use std::fmt::Write as _;

use super::args::{Common, Doctor as Args};
use super::failure::{Exit, Failure};
use super::human::{NONE, or_none};
use super::output::show;
use crate::datapath::Sweep;
use crate::doctor::{self, CheckResult, Findings, Network, Outside, RoleCheck};
use crate::engine;
use injector_core::api::CoverageState;
use injector_core::config::Config;
use injector_core::containers::ContainerStates;

pub(super) async fn run(common: &Common, args: Args) -> Result<Exit, Failure> {
    if !common.host.is_empty() {
        return Err(Failure::usage(
            "doctor looks at this host; run it there (`ssh HOST sudo injector doctor`)",
        ));
    }
    let mut config = args.config().map(|path| Config::load_with(path, &engine::select)).transpose()?;
    let secrets = config.as_mut().zip(args.config()).and_then(|(config, path)| {
        config.fetch_secrets(&path.display().to_string()).err().map(|errors| errors.to_string())
    });
    let (containers, refused) = match (&config, args.config()) {
        (Some(config), Some(path)) => {
            let file = path.display().to_string();
            match engine::inspect_all(config, &file).await {
                Ok(found) => {
                    let refused = found.states.admit(config, &file).err();
                    (Ok(found.states), refused.map(|errors| errors.to_string()))
                }
                Err(errors) => (Err(errors.to_string()), None),
            }
        }
        _ => (Ok(ContainerStates::default()), None),
    };
    let outside = Outside { secrets, containers, refused };
    let what = if args.clean { Sweep::Remove } else { Sweep::Report };
    let findings = doctor::examine(config.as_ref(), outside, what).await;
    show(common, &findings, || describe(&findings))?;
    Ok(if findings.prevents() { Exit::NOT_RECOVERED } else { Exit::OK })
}

const OK: &str = "ok      ";
const NOTE: &str = "note    ";
const PREVENTS: &str = "PREVENTS";

fn tail(remedy: Option<&str>) -> String {
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

fn describe(findings: &Findings) -> String {
    let mut text = String::new();
    for check in &findings.checks {
        let mark = match check.verdict {
            CheckResult::Fine => OK,
            CheckResult::Note => NOTE,
            CheckResult::Prevents => PREVENTS,
        };
        let _ = writeln!(text, "{mark}  {}: {}{}", check.what, check.found, tail(check.remedy));
    }
    for hooked in &findings.interfaces {
        let mark = if hooked.error.is_some() { PREVENTS } else { OK };
        let programs = if hooked.programs.is_empty() { NONE.to_owned() } else { hooked.programs.join(", ") };
        let found = hooked.error.clone().unwrap_or_else(|| {
            format!("on its TC hooks: {programs}; on XDP: {}", or_none(hooked.xdp.as_deref()))
        });
        let _ = writeln!(text, "{mark}  interface {}: {found}", hooked.interface);
    }
    if let Some(network) = &findings.network {
        describe_network(&mut text, network);
    }
    if let Some(secrets) = &findings.secrets {
        let _ = writeln!(text, "PREVENTS  secrets: {secrets}; no endpoint was asked");
    }
    for check in &findings.endpoints {
        let mark = match &check.error {
            None => OK,
            Some(_) if check.prevents() => PREVENTS,
            Some(_) => NOTE,
        };
        let found = check.error.as_deref().unwrap_or("answers");
        let _ = writeln!(
            text,
            "{mark}  endpoint {}, from {}: {found}{}",
            check.endpoint,
            check.from,
            tail(check.remedy.as_deref())
        );
    }
    for RoleCheck { role, error } in &findings.roles {
        let mark = if error.is_some() { PREVENTS } else { OK };
        let _ = writeln!(
            text,
            "{mark}  role @{role}: {}",
            error.as_deref().unwrap_or("can be asked for; it was not")
        );
    }
    for daemon in &findings.daemons {
        let _ = writeln!(text, "found     {daemon}");
    }
    if findings.leftovers.is_empty() {
        text.push_str("ok        no filters of other daemons\n");
    }
    for leftover in &findings.leftovers {
        let _ = writeln!(text, "found     {leftover}");
    }
    for unseen in &findings.unseen {
        let _ = writeln!(text, "unseen    {unseen}");
    }
    text
}

fn describe_network(text: &mut String, network: &Network) {
    if let Some(error) = &network.error {
        let _ = writeln!(text, "{PREVENTS}  start: {error}");
    }
    for target in &network.targets {
        let mark = if target.is_there { OK } else { PREVENTS };
        let whose = if target.peers.is_empty() {
            "on no peer's path that is known".to_owned()
        } else {
            format!("for {}", target.peers.join(", "))
        };
        let missing = if target.is_there { "" } else { "; it is not there: make it, or correct its name" };
        let why = target.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        let _ = writeln!(text, "{mark}  would attach to {}: {whose}{why}{missing}", target.shown());
    }
    for check in &network.local {
        let (mark, found) = match (&check.error, &check.processes[..]) {
            (Some(error), _) => (PREVENTS, error.clone()),
            (None, []) => (NOTE, "no process now".to_owned()),
            (None, [process]) => (OK, format!("process {process}")),
            (None, several) => (OK, format!("processes {}", several.join(", "))),
        };
        let remedy = tail(check.remedy.as_deref());
        let _ = writeln!(text, "{mark}  peer {}, by {}: {found}{remedy}", check.peer, check.by);
    }
    for doubt in &network.doubts {
        let _ = writeln!(text, "{NOTE}  {doubt}");
    }
    let Some(coverage) = &network.coverage else { return };
    for link in &coverage.links {
        let mark = match link.state {
            CoverageState::Partly | CoverageState::Not => PREVENTS,
            CoverageState::Covered | CoverageState::Unknown => NOTE,
        };
        let reason = link.reason.as_deref().unwrap_or("it is not known why");
        let _ = writeln!(
            text,
            "{mark}  link {}→{} would be {}: {reason}{}",
            link.src,
            link.dst,
            link.state,
            tail(link.remedy.as_deref())
        );
    }
    let all = coverage.covered + coverage.unknown + coverage.partly + coverage.not;
    let shown = coverage.covered + coverage.links.len();
    if shown < all {
        let _ = writeln!(text, "{NOTE}  {} more links are not known to be covered", all - shown);
    }
    let mark = if coverage.partly + coverage.not > 0 { PREVENTS } else { OK };
    let _ = writeln!(text, "{mark}  {} of {all} directed links would pass a hook for sure", coverage.covered);
}
