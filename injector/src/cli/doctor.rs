//! `injector doctor`: what keeps the daemon from its work on this host, and with this config. Needs no daemon.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

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
use injector_core::figures::counted;

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
    show(common, &findings, || describe(&findings, args.config().map(PathBuf::as_path)))?;
    Ok(if findings.prevents() { Exit::NOT_RECOVERED } else { Exit::OK })
}

/// The word that a line begins with; the help explains them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Ok,
    Note,
    Prevents,
    Found,
    Unseen,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Prevents => "PREVENTS",
            Self::Found => "found",
            Self::Unseen => "unseen",
        }
    }
}

/// The lines for people, counted by their marks.
#[derive(Default)]
struct Lines {
    text: String,
    counts: BTreeMap<Mark, usize>,
}

impl Lines {
    fn add(&mut self, mark: Mark, what: impl Display) {
        let _ = writeln!(self.text, "{:<8}  {what}", mark.word());
        *self.counts.entry(mark).or_default() += 1;
    }

    /// Sums the lines up, and names the next step.
    fn end(mut self, config: Option<&Path>) -> String {
        let count = |mark| self.counts.get(&mark).copied().unwrap_or_default();
        let notes = match count(Mark::Note) {
            0 => String::new(),
            notes => format!(", {}", counted(notes, "note")),
        };
        let summary = match (count(Mark::Prevents), config) {
            (0, Some(config)) => format!(
                "nothing prevents the daemon's work{notes}; next: sudo injector start --config {}",
                config.display()
            ),
            (0, None) => format!(
                "nothing on this host prevents the daemon's work{notes}; next, with a config: sudo injector doctor --config FILE"
            ),
            (1, _) => format!("1 line says PREVENTS{notes}: do what it says, then run doctor again"),
            (several, _) => {
                format!(
                    "{several} lines say PREVENTS{notes}: do what they say, the first one first, then run doctor again"
                )
            }
        };
        let _ = writeln!(self.text, "summary   {summary}");
        self.text
    }
}

fn tail(remedy: Option<&str>) -> String {
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

fn describe(findings: &Findings, config: Option<&Path>) -> String {
    let mut lines = Lines::default();
    for check in &findings.checks {
        let mark = match check.verdict {
            CheckResult::Fine => Mark::Ok,
            CheckResult::Note => Mark::Note,
            CheckResult::Prevents => Mark::Prevents,
        };
        lines.add(mark, format_args!("{}: {}{}", check.what, check.found, tail(check.remedy)));
    }
    for hooked in &findings.interfaces {
        let mark = if hooked.error.is_some() { Mark::Prevents } else { Mark::Ok };
        let programs = if hooked.programs.is_empty() { NONE.to_owned() } else { hooked.programs.join(", ") };
        let found = hooked.error.clone().unwrap_or_else(|| {
            format!("on its TC hooks: {programs}; on XDP: {}", or_none(hooked.xdp.as_deref()))
        });
        lines.add(mark, format_args!("interface {}: {found}{}", hooked.interface, tail(hooked.remedy)));
    }
    if let Some(network) = &findings.network {
        describe_network(&mut lines, network);
    }
    if let Some(secrets) = &findings.secrets {
        lines.add(Mark::Prevents, format_args!("secrets: {}{}", secrets.found, tail(secrets.remedy)));
    }
    for check in &findings.endpoints {
        let mark = match &check.error {
            None => Mark::Ok,
            Some(_) if check.prevents() => Mark::Prevents,
            Some(_) => Mark::Note,
        };
        let found = check.error.as_deref().unwrap_or("answers");
        let remedy = tail(check.remedy.as_deref());
        lines.add(mark, format_args!("endpoint {}, from {}: {found}{remedy}", check.endpoint, check.from));
        if let Some(note) = &check.note {
            lines.add(Mark::Note, format_args!("endpoint {}: {note}", check.endpoint));
        }
    }
    for RoleCheck { role, error, remedy } in &findings.roles {
        let mark = if error.is_some() { Mark::Prevents } else { Mark::Ok };
        let found = error.as_deref().unwrap_or("can be asked for; it was not");
        lines.add(mark, format_args!("role @{role}: {found}{}", tail(*remedy)));
    }
    for daemon in &findings.daemons {
        lines.add(Mark::Found, daemon);
    }
    if let Some(beside) = &findings.beside {
        lines.add(Mark::Note, beside);
    }
    if findings.leftovers.is_empty() {
        lines.add(Mark::Ok, "no filters of other daemons");
    }
    for leftover in &findings.leftovers {
        lines.add(Mark::Found, format_args!("{}{}", leftover.found, tail(leftover.remedy)));
    }
    for unseen in &findings.unseen {
        lines.add(Mark::Unseen, format_args!("{}{}", unseen.found, tail(unseen.remedy)));
    }
    lines.end(config)
}

fn describe_network(lines: &mut Lines, network: &Network) {
    if let Some(error) = &network.error {
        lines.add(Mark::Prevents, format_args!("start: {error}{}", tail(network.remedy)));
    }
    for target in &network.targets {
        let mark = if target.is_there { Mark::Ok } else { Mark::Prevents };
        let whose = if target.peers.is_empty() {
            "on no peer's path that is known".to_owned()
        } else {
            format!("for {}", target.peers.join(", "))
        };
        let missing = if target.is_there { "" } else { "; it is not there" };
        let remedy = tail(target.remedy);
        let why = target.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        lines.add(mark, format_args!("would attach to {}: {whose}{why}{missing}{remedy}", target.shown()));
    }
    for check in &network.local {
        let (mark, found) = match (&check.error, &check.processes[..]) {
            (Some(error), _) => (Mark::Prevents, error.clone()),
            (None, []) => (Mark::Note, "no process now".to_owned()),
            (None, [process]) => (Mark::Ok, format!("process {process}")),
            (None, several) => (Mark::Ok, format!("processes {}", several.join(", "))),
        };
        let remedy = tail(check.remedy.as_deref());
        lines.add(mark, format_args!("peer {}, by {}: {found}{remedy}", check.peer, check.by));
    }
    for doubt in &network.doubts {
        lines.add(Mark::Note, format_args!("{}{}", doubt.found, tail(doubt.remedy)));
    }
    let Some(coverage) = &network.coverage else { return };
    for link in &coverage.links {
        let mark = match link.state {
            CoverageState::Partly | CoverageState::Not => Mark::Prevents,
            CoverageState::Covered | CoverageState::Unknown => Mark::Note,
        };
        let reason = link.reason.as_deref().unwrap_or("it is not known why");
        let remedy = tail(link.remedy.as_deref());
        lines.add(
            mark,
            format_args!("link {}→{} would be {}: {reason}{remedy}", link.src, link.dst, link.state),
        );
    }
    let all = coverage.covered + coverage.unknown + coverage.partly + coverage.not;
    let shown = coverage.covered + coverage.links.len();
    if shown < all {
        lines.add(Mark::Note, format_args!("{} more links are not known to be covered", all - shown));
    }
    let (mark, remedy) = if coverage.partly + coverage.not > 0 {
        (Mark::Prevents, Some("do what the lines of the other links say"))
    } else {
        (Mark::Ok, None)
    };
    let covered = coverage.covered;
    lines.add(
        mark,
        format_args!("{covered} of {all} directed links would pass a hook for sure{}", tail(remedy)),
    );
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The last line for lines with these marks.
    fn last(marks: &[Mark], config: Option<&str>) -> String {
        let mut lines = Lines::default();
        for mark in marks {
            lines.add(*mark, "x");
        }
        lines.end(config.map(Path::new)).lines().last().unwrap().to_owned()
    }

    #[test]
    fn the_last_line_counts_what_prevents_and_names_the_next_step() {
        assert_eq!(
            last(&[Mark::Ok, Mark::Note, Mark::Found, Mark::Unseen], Some("lab.yaml")),
            "summary   nothing prevents the daemon's work, 1 note; next: sudo injector start --config lab.yaml"
        );
        assert!(last(&[Mark::Ok], None).contains("next, with a config: sudo injector doctor --config FILE"));
        assert_eq!(
            last(&[Mark::Prevents, Mark::Note, Mark::Note], Some("lab.yaml")),
            "summary   1 line says PREVENTS, 2 notes: do what it says, then run doctor again"
        );
        assert!(last(&[Mark::Prevents; 3], None).starts_with("summary   3 lines say PREVENTS: "));
    }

    #[test]
    fn the_help_explains_each_mark() {
        let line = super::super::args::CommandLine::command();
        let help = line.find_subcommand("doctor").unwrap().get_after_help().unwrap().to_string();
        for mark in [Mark::Ok, Mark::Note, Mark::Prevents, Mark::Found, Mark::Unseen] {
            let explained = help.lines().any(|line| line.starts_with(&format!("  {:<8}  ", mark.word())));
            assert!(explained, "{}: {help}", mark.word());
        }
    }
}
