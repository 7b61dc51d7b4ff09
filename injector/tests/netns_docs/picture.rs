//! Pictures of a terminal, as SVG: what a program showed in a run of a test.

use std::fmt::Write as _;
use std::path::Path;

use vt100::{Cell, Color, Screen};

/// The environment variable by which pictures are rewritten.
const WRITE: &str = "INJECTOR_PICTURES";
/// The size of a character, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
/// The space around the screen.
const MARGIN: f64 = 14.0;
const BACKGROUND: &str = "#16191f";
const FOREGROUND: &str = "#d7dae0";
/// The first 16 colours of a terminal.
const PALETTE: [&str; 16] = [
    "#3b4048", "#ef6b73", "#8ccf7e", "#e5c76b", "#67b0e8", "#c47fd5", "#6cbfbf", "#b3b9b8", "#7d848f",
    "#f47b83", "#9bdc8d", "#f0d27c", "#78bdf0", "#d08fe0", "#7ccfcf", "#eef0f2",
];

/// Writes a picture to docs/pictures if that was asked for; else there must be one that was made in this way, of a screen with
/// the same heads and the same keys.
pub fn keep(name: &str, title: &str, screen: &Screen) {
    let command = format!("{WRITE}=1 cargo test --package injector --test netns_docs the_picture_of_{name}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/pictures/{name}.svg"));
    let now = svg(screen, title, &command);
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let again = format!("{} is not a picture of this; generate it again, as root: {command}", path.display());
    // Its title, and how it was made.
    let begin = |svg: &str| svg.split("<rect").next().unwrap_or_default().to_owned();
    assert_eq!(begin(&stored), begin(&now), "{again}");
    let fixed_now = fixed(&now);
    assert!(fixed_now.len() >= 5, "heads and keys: {fixed_now:?}");
    assert_eq!(fixed(&stored), fixed_now, "{again}");
}

/// The rows of a picture that are the same in each run, without their numbers: those that begin with a word in capitals, and the
/// last one.
fn fixed(svg: &str) -> Vec<String> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for element in svg.split("<text ").skip(1) {
        let row = element.split("y=\"").nth(1).unwrap().split('"').next().unwrap();
        let word = element.split_once('>').unwrap().1.split("</text>").next().unwrap();
        match rows.last_mut() {
            Some((last, text)) if last == row => {
                text.push(' ');
                text.push_str(word);
            }
            _ => rows.push((row.to_owned(), word.to_owned())),
        }
    }
    let is_head = |text: &str| {
        let first = text.split(' ').next().unwrap_or_default().trim_end_matches(',');
        first.len() > 3 && first.chars().all(|c| c.is_ascii_uppercase())
    };
    let last = rows.len().saturating_sub(1);
    let kept = rows.iter().enumerate().filter(|(at, (_, text))| *at == last || is_head(text));
    let without_numbers = |text: &str| {
        text.split(' ').filter(|word| !word.contains(char::is_numeric)).collect::<Vec<_>>().join(" ")
    };
    kept.map(|(_, (_, text))| without_numbers(text)).collect()
}

/// The screen as it is, with its colours.
fn svg(screen: &Screen, title: &str, command: &str) -> String {
    let (rows, columns) = screen.size();
    let (width, height) =
        (f64::from(columns) * CELL.0 + 2.0 * MARGIN, f64::from(rows) * CELL.1 + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\">\n<title>{title}</title>\n<desc>From a run. To generate it again, as root: {command}</desc>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n"
    );
    for row in 0..rows {
        for (column, text, style) in parts(screen, row, columns) {
            let (x, y) = (MARGIN + f64::from(column) * CELL.0, MARGIN + f64::from(row) * CELL.1);
            let length = text.chars().count() as f64 * CELL.0;
            if let Some(background) = style.background {
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{background}\"/>",
                    CELL.1
                );
            }
            let weight = if style.is_bold { " font-weight=\"bold\"" } else { "" };
            let opacity = if style.is_dim { " opacity=\"0.6\"" } else { "" };
            // Word by word, at its place: readers of SVG take several blanks for one.
            for (at, word) in words(&text) {
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
                     fill=\"{}\"{weight}{opacity}>{}</text>",
                    x + at as f64 * CELL.0,
                    y + 13.5,
                    word.chars().count() as f64 * CELL.0,
                    style.colour,
                    escaped(word)
                );
            }
        }
    }
    svg + "</g>\n</svg>\n"
}

/// How a part of a row looks.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Style {
    colour: &'static str,
    background: Option<&'static str>,
    is_bold: bool,
    is_dim: bool,
}

impl Style {
    fn of(cell: &Cell) -> Self {
        let colour = named(cell.fgcolor()).unwrap_or(FOREGROUND);
        let background = named(cell.bgcolor());
        let (colour, background) = if cell.inverse() {
            (background.unwrap_or(BACKGROUND), Some(colour))
        } else {
            (colour, background)
        };
        Self { colour, background, is_bold: cell.bold(), is_dim: cell.dim() }
    }
}

fn named(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Idx(index) => PALETTE.get(usize::from(index)).copied(),
        Color::Default | Color::Rgb(..) => None,
    }
}

/// Words of a row that look alike, each with the column that it begins at.
fn parts(screen: &Screen, row: u16, columns: u16) -> Vec<(u16, String, Style)> {
    let mut parts: Vec<(u16, String, Style)> = Vec::new();
    let mut goes_on = false;
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let (text, style) = (cell.contents(), Style::of(cell));
        if text.trim().is_empty() && style.background.is_none() {
            goes_on = false;
            continue;
        }
        let text = if text.is_empty() { " " } else { text };
        match parts.last_mut() {
            Some((_, part, last)) if goes_on && *last == style => part.push_str(text),
            _ => parts.push((column, text.to_owned(), style)),
        }
        goes_on = true;
    }
    parts
}

/// The words of a text, each with the number of characters before it.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    let placed = text.split(' ').map(move |word| {
        let begin = at;
        at += word.chars().count() + 1;
        (begin, word)
    });
    placed.filter(|(_, word)| !word.is_empty())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
