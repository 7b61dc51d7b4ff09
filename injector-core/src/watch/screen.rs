//! The screen: lines of text for a terminal of any size. It says everything without colour. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::{LinkCut, Live, Recovery, Served, Watch};
use crate::api::{Outcome, PartitionState};
use crate::clock::MonoNs;
use crate::shown::reorders;

/// How a part of a line is highlighted, where the terminal can show that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    #[default]
    Plain,
    /// The head of a section.
    Head,
    /// Something serves, or recovered.
    Good,
    /// Something is cut, or does not serve.
    Bad,
    /// Less important.
    Faint,
    /// The selected line.
    Selected,
}

/// A line: its parts, from left to right.
pub type Line = Vec<(Style, String)>;

/// The keys, for the last line.
const KEYS: &str = "↑↓ select  h heal it  H heal all  q quit";
/// The width of a link's cell in the matrix.
const CELL: usize = 6;
/// The width of a name.
const NAME: usize = 14;

/// The screen of a size. `selected` is the position of a partition, `note` a message for the user.
pub fn screen(watch: &Watch, now: MonoNs, selected: usize, note: &str, size: (usize, usize)) -> Vec<Line> {
    let (width, height) = size;
    let sections = [
        partitions(watch, now, selected),
        matrix(watch, width),
        strips(watch, now, width),
        recoveries(watch),
    ];
    let mut room: Vec<usize> = sections.iter().map(Vec::len).collect();
    // The first and the two last lines are taken.
    let most = height.saturating_sub(3);
    while room.iter().sum::<usize>() > most {
        // The longest section gives up lines; a section keeps its head and two lines as long as it can.
        let Some((largest, _)) = room.iter().enumerate().max_by_key(|(_, lines)| **lines) else { break };
        if room[largest] == 0 {
            break;
        }
        room[largest] -= 1;
    }
    let mut lines = vec![title(watch, width)];
    for (section, room) in sections.into_iter().zip(room) {
        lines.extend(shortened(section, room));
    }
    lines.truncate(height.saturating_sub(2));
    lines.resize(height.saturating_sub(2), Line::new());
    let last = if note.is_empty() { watch.last.as_deref().unwrap_or_default() } else { note };
    lines.push(vec![(Style::Plain, last.to_owned())]);
    lines.push(vec![(Style::Faint, KEYS.to_owned())]);
    lines.truncate(height);
    lines.into_iter().map(|line| fit(line, width)).collect()
}

/// A screen for a terminal that shows ASCII alone. Nothing changes its place.
pub fn in_ascii(lines: Vec<Line>) -> Vec<Line> {
    let part = |(style, text): (Style, String)| (style, text.chars().map(ascii).collect());
    lines.into_iter().map(|line| line.into_iter().map(part).collect()).collect()
}

/// The ASCII character to draw in place of another one.
fn ascii(sign: char) -> char {
    match sign {
        '\0'..='\u{7f}' => sign,
        '✓' => '+',
        '✗' => 'x',
        '✂' => '!',
        '·' => '.',
        '–' => '-',
        '…' => '~',
        '→' => '>',
        '↑' => '^',
        '↓' => 'v',
        _ => '?',
    }
}

/// A section in so many lines; the last one says what is left out.
fn shortened(mut section: Vec<Line>, room: usize) -> Vec<Line> {
    if section.len() > room && room > 1 {
        let left_out = section.len() - room + 1;
        section.truncate(room - 1);
        section.push(vec![(Style::Faint, format!("  … {left_out} more"))]);
    }
    section.truncate(room);
    section
}

/// A line without what would act on a terminal, in at most so many columns.
fn fit(line: Line, width: usize) -> Line {
    let mut left = width;
    let mut fitted = Line::new();
    for (style, text) in line {
        let text: String =
            text.chars().map(|c| if c.is_control() || is_unruly(c) { '?' } else { c }).take(left).collect();
        left -= text.chars().count();
        fitted.push((style, text));
    }
    fitted
}

/// Characters that reorder what is shown, or take no column.
fn is_unruly(c: char) -> bool {
    reorders(c) || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{feff}')
}

fn title(watch: &Watch, width: usize) -> Line {
    let cut = watch.partitions.iter().filter(|live| live.state == PartitionState::Active).count();
    let mut text = watch.title.clone();
    let state = match cut {
        0 => "nothing is cut".to_owned(),
        1 => "1 partition cuts".to_owned(),
        more => format!("{more} partitions cut"),
    };
    let lost = if watch.lost > 0 { format!(", {} events lost", watch.lost) } else { String::new() };
    let right = format!("{state}{lost}");
    let gap = width.saturating_sub(text.chars().count() + right.chars().count()).max(2);
    let _ = write!(text, "{:gap$}", "");
    vec![(Style::Head, text), (if cut > 0 { Style::Bad } else { Style::Plain }, right)]
}

fn head(text: impl Into<String>) -> Line {
    vec![(Style::Head, text.into())]
}

fn partitions(watch: &Watch, now: MonoNs, selected: usize) -> Vec<Line> {
    let mut lines = vec![head("PARTITIONS")];
    if watch.partitions.is_empty() {
        lines
            .push(vec![(Style::Faint, "  none; `injector partition isolate NAME --for 5s` cuts".to_owned())]);
    }
    for (at, live) in watch.partitions.iter().enumerate() {
        let mark = if at == selected { "> " } else { "  " };
        let dropped = live.dropped.map_or_else(|| "–".to_owned(), |dropped| count(dropped as f64));
        let style = if at == selected { Style::Selected } else { Style::Plain };
        lines.push(vec![(
            style,
            format!(
                "{mark}{}  {}  {}  {dropped} dropped",
                padded(&live.name, NAME),
                padded(&live.shape, 24),
                padded(&phase(live, now), 20)
            ),
        )]);
    }
    lines
}

/// Where a partition is in its life, with what remains or has passed.
fn phase(live: &Live, now: MonoNs) -> String {
    let left = live.ends_at.and_then(|end| end.since(now));
    match (live.state, left) {
        (PartitionState::Active, Some(left)) => format!("cuts, {} to go", seconds(left)),
        (PartitionState::Active, None) => "cuts".to_owned(),
        (PartitionState::Watched, _) => match live.healed_at.and_then(|healed| now.since(healed)) {
            Some(since) => format!("healed {} ago", seconds(since)),
            None => "healed".to_owned(),
        },
        (PartitionState::Scheduled, _) => "scheduled".to_owned(),
        (PartitionState::Prepared, _) => "prepared".to_owned(),
        (PartitionState::Closed, _) => "closed".to_owned(),
    }
}

/// Senders down, receivers across. Peers of links that are cut come first where not all have room. `?` is a link that may be
/// cut: the links of a partition are not all read.
fn matrix(watch: &Watch, width: usize) -> Vec<Line> {
    let room = width.saturating_sub(NAME + 2) / CELL;
    let mut peers: Vec<&str> = watch.peers.iter().map(String::as_str).collect();
    if peers.len() > room {
        let cut = watch.cut_peers();
        peers.sort_by_key(|peer| !cut.contains(peer));
        peers.truncate(room);
    }
    let label = if peers.len() < watch.peers.len() {
        format!("LINKS, {} of {}", peers.len(), watch.peers.len())
    } else {
        "LINKS, drops/s".to_owned()
    };
    let mut text = padded(&label, NAME + 2);
    for peer in &peers {
        let _ = write!(text, "{:>CELL$}", short(peer, CELL - 1));
    }
    let mut lines = vec![head(text)];
    for src in &peers {
        let mut line = vec![(Style::Plain, format!("  {}", padded(src, NAME)))];
        for dst in &peers {
            let (style, cell) = match watch.cut(src, dst) {
                _ if src == dst => (Style::Faint, String::new()),
                LinkCut::No => (Style::Faint, "·".to_owned()),
                LinkCut::Unknown => (Style::Plain, "?".to_owned()),
                LinkCut::Yes { rate: None } => (Style::Bad, "cut".to_owned()),
                LinkCut::Yes { rate: Some(rate) } => (Style::Bad, format!("✂{}", count(rate))),
            };
            line.push((style, format!("{cell:>CELL$}")));
        }
        lines.push(line);
    }
    lines
}

fn strips(watch: &Watch, now: MonoNs, width: usize) -> Vec<Line> {
    let room = width.saturating_sub(NAME + 4);
    let mut lines = vec![head(format!("{}  the last {room} s, now at the right", padded("ENDPOINTS", NAME)))];
    if watch.endpoints.is_empty() {
        lines.push(vec![(Style::Faint, "  none in the config".to_owned())]);
    }
    let mut names: Vec<&String> = watch.endpoints.keys().collect();
    names.sort_by(|a, b| crate::model::natural(a, b));
    for name in names {
        let strip = &watch.endpoints[name];
        let mut line = vec![(Style::Plain, format!("  {}  ", padded(name, NAME)))];
        for served in strip.seconds(now, room) {
            let (style, mark) = match served {
                Served::Yes => (Style::Good, '✓'),
                Served::No => (Style::Bad, '✗'),
                Served::Unknown => (Style::Faint, '·'),
            };
            match line.last_mut() {
                Some((last, text)) if *last == style => text.push(mark),
                _ => line.push((style, mark.to_string())),
            }
        }
        lines.push(line);
    }
    lines
}

fn recoveries(watch: &Watch) -> Vec<Line> {
    let mut lines = vec![head(format!(
        "{}{:<13} {:>7} {:>8} silence+reconnect+return+relapse",
        padded("RECOVERIES", NAME + 2),
        "",
        "ready",
        "settled"
    ))];
    if watch.recoveries.is_empty() {
        lines.push(vec![(Style::Faint, "  none yet".to_owned())]);
    }
    lines.extend(watch.recoveries.iter().map(recovery));
    lines
}

fn recovery(recovery: &Recovery) -> Line {
    let (style, outcome) = match recovery.outcome {
        Some(Outcome::Recovered) => (Style::Good, "recovered"),
        Some(Outcome::NotRecovered) => (Style::Bad, "NOT recovered"),
        Some(Outcome::Censored) => (Style::Plain, "censored"),
        Some(Outcome::Unknown) => (Style::Plain, "unknown"),
        Some(Outcome::HarnessFailed) => (Style::Bad, "harness fault"),
        None => (Style::Plain, "not decided"),
    };
    let time = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), seconds);
    let phases: Vec<String> = recovery.phases.iter().map(|phase| time(*phase)).collect();
    vec![
        (Style::Plain, format!("  {}", padded(&recovery.name, NAME))),
        (style, padded(outcome, 13)),
        (
            Style::Plain,
            format!(
                " {:>7} {:>8} {}",
                time(recovery.ready_ns),
                time(recovery.settled_ns),
                phases.join(" + ")
            ),
        ),
    ]
}

/// A length of time in at most seven characters: `0.2 s`, `12.3 s`, `5m 07s`.
fn seconds(ns: u64) -> String {
    let span = Duration::from_nanos(ns);
    match span.as_secs() {
        0..100 => format!("{:.1} s", span.as_secs_f64()),
        whole => format!("{}m {:02}s", whole / 60, whole % 60),
    }
}

/// A number in at most five characters: `7`, `850`, `1.2k`, `34k`, `5.6M`.
fn count(number: f64) -> String {
    match number {
        _ if number < 999.5 => format!("{number:.0}"),
        _ if number < 9_950.0 => format!("{:.1}k", number / 1e3),
        _ if number < 999_500.0 => format!("{:.0}k", number / 1e3),
        _ if number < 9_950_000.0 => format!("{:.1}M", number / 1e6),
        _ => format!("{:.0}M", number / 1e6),
    }
}

/// The beginning of a text, with a sign where something is missing.
fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn padded(text: &str, width: usize) -> String {
    format!("{:width$}", short(text, width))
}
