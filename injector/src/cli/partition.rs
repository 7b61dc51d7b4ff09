//! `injector partition`: from words to a request, and the answer in words.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use super::args::{At, Common, Cut, Partition};
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::human::{span, wall};
use super::output::show;
use injector_client::Client;
use injector_core::api::{Owner, PartitionRequest, PartitionView, StartAt, role_suffix};
use injector_core::clock::WallNs;
use injector_core::config::text;
use injector_core::figures::counted;
use injector_core::model::Shape;
use injector_core::topology::words::{AMONG, parse_words};

pub(super) async fn run(common: &Common, args: Partition) -> Result<Exit, Failure> {
    let asked = Asked::of(args.cut, args.at, Owner::None)?;
    let mut client = connected(common).await?;
    let (name, request) = asked.into_request(&mut client).await?;
    let view = if args.dry_run {
        client.dry_run(&name, &request).await?
    } else {
        client.apply(&name, &request).await?
    };
    show(common, &view, || if args.dry_run { would_cut(&view) } else { describe(&view) })?;
    Ok(Exit::OK)
}

/// A request that lacks only the daemon's clock.
pub(super) struct Asked {
    pub name: String,
    pub request: PartitionRequest,
    at: Option<At>,
}

impl Asked {
    /// From the command line; errors are usage errors, found before any daemon is asked.
    pub fn of(cut: Cut, at: Option<At>, owner: Owner) -> Result<Self, Failure> {
        let shape = shape(&cut.shape, &cut.among)?;
        let name = cut.name.unwrap_or_else(|| unique_name(&cut.shape[0]));
        let request = PartitionRequest {
            for_: cut.for_,
            deadline: cut.deadline,
            traffic: cut.traffic.into(),
            seed: cut.seed,
            allow_ssh: cut.allow_ssh,
            verdict: cut.verdict.into(),
            owner,
            ..PartitionRequest::new(shape)
        };
        Ok(Self { name, request, at })
    }

    /// Fixes a start that is relative to now, by the daemon's clock.
    pub async fn into_request(mut self, client: &mut Client) -> Result<(String, PartitionRequest), Failure> {
        self.request.at = match self.at {
            None => None,
            Some(At::Wall(wall)) => Some(StartAt::WallNs(wall)),
            Some(At::In(span)) => Some(StartAt::MonoNs(client.status().await?.now_ns + span)),
        };
        Ok((self.name, self.request))
    }
}

/// The shape that words name, drawn among some peers if there are any; a grudge may be in a file (`@FILE`) or come from
/// standard input (`-`).
pub(super) fn shape(words: &[String], among: &[String]) -> Result<Shape, Failure> {
    let text = match words {
        [grudge, from] if grudge == "grudge" && from == "-" => Some(text::from_stdin()),
        [grudge, from] if grudge == "grudge" => {
            from.strip_prefix('@').map(|path| text::read(Path::new(path)))
        }
        _ => None,
    };
    let mut words = match text.transpose() {
        Ok(None) => words.to_vec(),
        Ok(Some(text)) => vec![words[0].clone(), text],
        Err(error) => {
            let place = if words[1] == "-" { "standard input" } else { &words[1][1..] };
            return Err(Failure::usage(format!("grudge: {place} {error}; {}", error.remedy())));
        }
    };
    if !among.is_empty() {
        words.extend([AMONG.to_owned(), among.join(",")]);
    }
    parse_words(&words).map_err(|error| Failure::usage(error.to_string()))
}

fn unique_name(shape: &str) -> String {
    // The standard library seeds each hasher state from the system's randomness.
    let random = std::hash::RandomState::new().build_hasher().finish() as u32;
    format!("{shape}-{random:08x}")
}

fn would_cut(view: &PartitionView) -> String {
    let mut text = format!("would cut: {}{}\n", view.resolved, role_suffix(&view.roles));
    links(&mut text, view);
    text
}

/// Name, links and effective interval.
pub(super) fn describe(view: &PartitionView) -> String {
    let roles = role_suffix(&view.roles);
    let mut text = format!("{}: {}{roles} (generation {})\n", view.name, view.resolved, view.generation);
    if let Some(cut) = view.effective {
        let width = cut.end_ns.saturating_since(cut.begin_ns).as_nanos() as u64;
        let width = if width == 0 { String::new() } else { format!(", within {}", span(width)) };
        let _ = writeln!(text, "  cut    {}{width}", wall(cut.wall));
        if let Some(ends) = view.ends_at_ns {
            let lasts = ends.saturating_since(cut.end_ns).as_nanos() as u64;
            let at = WallNs(cut.wall.0.saturating_add_unsigned(lasts));
            let _ = writeln!(text, "  until  {}, {} later", wall(at), span(lasts));
        }
    }
    links(&mut text, view);
    text
}

/// How many links of each kind are named.
const SHOWN: usize = 12;

fn links(text: &mut String, view: &PartitionView) {
    let _ = writeln!(text, "  links  {}", counted_links(view));
    let _ = writeln!(text, "  traffic {}", view.request.traffic.describe());
    let not_here = list(view.not_here.as_ref());
    if let Some(seed) = view.seed {
        let _ = writeln!(text, "  seed   {seed}");
    }
    if !not_here.is_empty() {
        let names: Vec<String> = not_here.iter().take(SHOWN).map(ToString::to_string).collect();
        let _ = writeln!(text, "  not here {}: {}", not_here.len(), names.join(" "));
    } else if view.totals.not_here > 0 {
        let _ = writeln!(text, "  not here {}", view.totals.not_here);
    }
    doubts(text, view);
}

/// How many links it has, and which.
pub(super) fn counted_links(view: &PartitionView) -> String {
    let links = list(view.links.as_ref());
    let names: Vec<String> =
        links.iter().take(SHOWN).map(|link| format!("{}→{}", link.src, link.dst)).collect();
    let (count, names) = (view.totals.links, names.join(" "));
    match (&view.links, count.saturating_sub(SHOWN)) {
        (None, _) => format!("{count}, too many to be listed"),
        (Some(_), 0) => format!("{count}: {names}"),
        (Some(_), more) => format!("{count}: {names} and {more} more (--json lists them)"),
    }
}

/// The links that are not known to be covered, and the warnings.
pub(super) fn doubts(text: &mut String, view: &PartitionView) {
    let coverage = list(view.coverage.as_ref());
    if view.coverage.is_none() {
        let _ = writeln!(text, "  more links than can be listed are not covered or unknown");
    }
    for link in coverage.iter().take(SHOWN) {
        let reason = link.reason.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {}→{} is {}: {reason}", link.src, link.dst, link.state);
    }
    if coverage.len() > SHOWN {
        let _ = writeln!(text, "  and {} more (--json lists them)", counted(coverage.len() - SHOWN, "link"));
    }
    if let Some(warning) = not_healthy(view) {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for warning in &view.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
}

/// Why no recovery can be measured, where required endpoints were not healthy.
fn not_healthy(view: &PartitionView) -> Option<String> {
    let sick = list(view.not_healthy.as_ref());
    if sick.is_empty() {
        return None;
    }
    let names = sick.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match sick.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let verb = if sick.len() == 1 { "is" } else { "are" };
    Some(format!(
        "{} {verb} not healthy: {names}{more}; the outcome will be unknown: cut again once `injector wait --healthy` says that \
         all are",
        counted(sick.len(), "required endpoint")
    ))
}

/// A list that the API may leave out.
fn list<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map_or(&[], Vec::as_slice)
}
