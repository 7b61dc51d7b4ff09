//! `injector top`: what happens, on a terminal. What is shown is in `injector_core::watch`; here are the terminal, the keys
//! and the daemon's answers.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style as TextStyle};
use ratatui::text::{Line as Row, Span as Part, Text};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::args::Common;
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use injector_client::{Client, ClientError};
use injector_core::api::{Event, EventKind, MOST_LISTED, PartitionState, Status};
use injector_core::clock::MonoNs;
use injector_core::watch::Watch;
use injector_core::watch::screen::{Line, Style, in_ascii, screen};

/// How often counters are read.
const POLL: Duration = Duration::from_secs(1);
/// How often the screen is drawn while nothing happens: countdowns have tenths.
const DRAW: Duration = Duration::from_millis(200);
/// How long one poll reads counters of links. The rest is read by the next polls, so that a partition of very many links
/// keeps neither the daemon nor the keys busy.
const READ: Duration = Duration::from_millis(200);
/// How long a thread waits for a key before it looks whether it is still wanted.
const KEY: Duration = Duration::from_millis(200);
/// Records of so many of the latest partitions are fetched at the start.
const EARLIER: usize = 8;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyAction {
    Quit,
    Up,
    Down,
    Heal,
    HealAll,
    Draw,
}

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "top needs a terminal; `injector status` and `injector timeline --follow` work without one",
        ));
    }
    let mut client = connected(common).await?;
    let mut view = View {
        watch: Watch::default(),
        read: (MonoNs(0), Instant::now()),
        next_page: 0,
        selected: 0,
        note: String::new(),
    };
    view.poll(&mut client).await?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("the terminal: {error}")))?;
    let watched = watch(common, client, view, &mut terminal).await;
    ratatui::restore();
    watched
}

async fn watch(
    common: &Common,
    mut client: Client,
    mut view: View,
    terminal: &mut DefaultTerminal,
) -> Result<Exit, Failure> {
    let caught = |kind| {
        signal(kind)
            .map_err(|error| Failure::new(Exit::UNDECIDED, format!("signals can't be caught: {error}")))
    };
    let (mut terminate, mut hangup) = (caught(SignalKind::terminate())?, caught(SignalKind::hangup())?);
    let mut events = connected(common).await?.events(0, true).await?;
    let (sender, mut keys) = mpsc::channel(16);
    std::thread::spawn(move || read_keys(&sender));
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draws = interval(DRAW);
    draws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Events of the past come at once; their records are fetched together.
    let begun = view.now();
    let mut earlier: Vec<(String, u32)> = Vec::new();
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event.transpose()? else {
                    return Err(Failure::new(Exit::UNREACHABLE, "the daemon has ended; `injector top` shows the next one"));
                };
                view.watch.event(&event);
                if let Some((name, generation)) = recorded(&event) {
                    if event.at_ns < begun {
                        earlier.push((name, generation));
                    } else {
                        view.fetch(&mut client, &name, generation).await?;
                    }
                }
            }
            _ = polls.tick() => {
                let first = earlier.len().saturating_sub(EARLIER);
                for (name, generation) in earlier.split_off(first) {
                    view.fetch(&mut client, &name, generation).await?;
                }
                earlier.clear();
                view.poll(&mut client).await?;
            }
            _ = draws.tick() => view.draw(terminal)?,
            // The terminal is given back first.
            _ = terminate.recv() => return Ok(Exit::ended_by(Signal::TERM)),
            _ = hangup.recv() => return Ok(Exit::ended_by(Signal::HUP)),
            action = keys.recv() => {
                if !view.act(action.unwrap_or(KeyAction::Quit), &mut client).await? {
                    return Ok(Exit::OK);
                }
                view.draw(terminal)?;
            }
        }
    }
}

fn recorded(event: &Event) -> Option<(String, u32)> {
    match &event.kind {
        EventKind::Record { name, generation, .. } => Some((name.clone(), *generation)),
        _ => None,
    }
}

/// What is shown, and what the user chose.
struct View {
    watch: Watch,
    /// The daemon's clock when its status was last read.
    read: (MonoNs, Instant),
    /// Where in the pages of links the next poll begins.
    next_page: usize,
    selected: usize,
    note: String,
}

impl View {
    /// The daemon's clock now.
    fn now(&self) -> MonoNs {
        self.read.0 + self.read.1.elapsed()
    }

    /// Reads the status, and the counters of what cuts.
    async fn poll(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let status = client.status().await?;
        self.read = (status.now_ns, Instant::now());
        self.watch.status(&status);
        let pages = pages(&status);
        let begun = Instant::now();
        for _ in &pages {
            let (name, from) = pages[self.next_page % pages.len()];
            self.next_page = (self.next_page + 1) % pages.len();
            match client.partition_from(name, from).await {
                Ok(view) => self.watch.partition(self.now(), &view),
                // Forgotten since.
                Err(ClientError::Problem(_)) => {}
                Err(error) => return Err(error),
            }
            if begun.elapsed() >= READ {
                break;
            }
        }
        self.selected = self.selected.min(self.watch.partitions.len().saturating_sub(1));
        Ok(())
    }

    /// Reads a final record, if it is still kept.
    async fn fetch(&mut self, client: &mut Client, name: &str, generation: u32) -> Result<(), ClientError> {
        match client.recovery(name, Some(generation), Duration::ZERO).await {
            Ok(record) => self.watch.record(&record),
            Err(ClientError::Problem(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Does what a key asks for; whether to continue.
    async fn act(&mut self, action: KeyAction, client: &mut Client) -> Result<bool, ClientError> {
        let said = match action {
            KeyAction::Quit => return Ok(false),
            KeyAction::Draw => return Ok(true),
            KeyAction::Up => {
                self.selected = self.selected.saturating_sub(1);
                return Ok(true);
            }
            KeyAction::Down => {
                self.selected = (self.selected + 1).min(self.watch.partitions.len().saturating_sub(1));
                return Ok(true);
            }
            KeyAction::Heal => match self.watch.partitions.get(self.selected) {
                None => "nothing is cut".to_owned(),
                Some(live) => match client.heal(&live.name).await {
                    Ok(healed) => format!("healed {}", healed.name),
                    Err(error @ ClientError::Problem(_)) => error.to_string(),
                    Err(error) => return Err(error),
                },
            },
            KeyAction::HealAll => match client.heal_all().await {
                Ok(healed) if healed.is_empty() => "nothing is cut".to_owned(),
                Ok(healed) => {
                    let names: Vec<String> = healed.into_iter().map(|healed| healed.name).collect();
                    format!("healed {}", names.join(", "))
                }
                Err(error @ ClientError::Problem(_)) => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        self.note = said;
        self.poll(client).await?;
        Ok(true)
    }

    fn draw(&self, terminal: &mut DefaultTerminal) -> Result<(), Failure> {
        let has_colour = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let has_unicode = shows_unicode(|name| std::env::var(name).ok());
        let drawn = terminal.draw(|frame| {
            let area = frame.area();
            let size = (usize::from(area.width), usize::from(area.height));
            let mut lines = screen(&self.watch, self.now(), self.selected, &self.note, size);
            if !has_unicode {
                lines = in_ascii(lines);
            }
            let rows: Vec<Row<'_>> = lines.into_iter().map(|line| row(line, has_colour)).collect();
            frame.render_widget(Text::from(rows), area);
        });
        drawn.map(drop).map_err(|error| Failure::new(Exit::UNDECIDED, format!("the terminal: {error}")))
    }
}

/// What is to be read to know every link that is cut: the names of partitions, with the first link of each page.
fn pages(status: &Status) -> Vec<(&str, usize)> {
    let active = status.partitions.iter().filter(|live| live.state == PartitionState::Active);
    active
        .flat_map(|live| (0..live.totals.links).step_by(MOST_LISTED).map(|from| (live.name.as_str(), from)))
        .collect()
}

/// Whether the terminal shows more than ASCII: by the first variable of the locale that is set, as the C library has it. It
/// does where none is set, as in most containers.
fn shows_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn row(line: Line, has_colour: bool) -> Row<'static> {
    line.into_iter().map(|(style, text)| Part::styled(text, text_style(style, has_colour))).collect()
}

/// How a style looks: everything is said by words and signs too.
fn text_style(style: Style, has_colour: bool) -> TextStyle {
    let plain = TextStyle::new();
    let coloured = |colour| if has_colour { plain.fg(colour) } else { plain };
    match style {
        Style::Plain => plain,
        Style::Head => plain.add_modifier(Modifier::BOLD),
        Style::Good => coloured(Color::Green),
        Style::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        Style::Faint => plain.add_modifier(Modifier::DIM),
        Style::Selected => plain.add_modifier(Modifier::REVERSED),
    }
}

/// Reads keys until nobody wants them.
fn read_keys(sender: &mpsc::Sender<KeyAction>) {
    while !sender.is_closed() {
        match event::poll(KEY) {
            Ok(false) => continue,
            Ok(true) => {}
            // The terminal is gone: the receiver takes that for the end.
            Err(_) => return,
        }
        let Ok(input) = event::read() else { return };
        if let Some(action) = meant(&input)
            && sender.blocking_send(action).is_err()
        {
            return;
        }
    }
}

fn meant(input: &Input) -> Option<KeyAction> {
    match input {
        Input::Resize(..) => Some(KeyAction::Draw),
        Input::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(KeyAction::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(KeyAction::Quit),
            KeyCode::Up | KeyCode::Char('k') => Some(KeyAction::Up),
            KeyCode::Down | KeyCode::Char('j') => Some(KeyAction::Down),
            KeyCode::Char('h') => Some(KeyAction::Heal),
            KeyCode::Char('H') => Some(KeyAction::HealAll),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::buffer::Buffer;
    use ratatui::crossterm::event::KeyEvent;
    use ratatui::layout::Rect;
    use ratatui::widgets::Widget as _;

    #[test]
    fn a_buffer_of_80_by_24_holds_the_screen_with_and_without_colour() {
        let watch = Watch {
            peers: vec!["n1".to_owned(), "n2".to_owned()],
            last: Some("mark: ✓ ✗ ✂".to_owned()),
            ..Watch::default()
        };
        let area = Rect::new(0, 0, 80, 24);
        for has_colour in [true, false] {
            let rows: Vec<Row<'_>> = screen(&watch, MonoNs(0), 0, "", (80, 24))
                .into_iter()
                .map(|line| row(line, has_colour))
                .collect();
            let mut buffer = Buffer::empty(area);
            Text::from(rows).render(area, &mut buffer);
            let line = |y: u16| (0..80).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
            assert_eq!(line(22).trim_end(), "mark: ✓ ✗ ✂");
            assert!(line(23).starts_with("↑↓ select  h heal it"), "{}", line(23));
            assert!((0..24).any(|y| line(y).starts_with("LINKS, drops/s")));
            let colours = buffer.content().iter().filter(|cell| cell.fg != Color::Reset).count();
            assert_eq!(colours, 0, "nothing here is good or bad");
        }
        assert_eq!(text_style(Style::Bad, false).fg, None);
        assert_eq!(text_style(Style::Bad, true).fg, Some(Color::Red));
    }

    #[test]
    fn the_locale_says_what_the_terminal_shows() {
        let shows = |variables: &[(&str, &str)]| {
            shows_unicode(|name| {
                let found = variables.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(shows(&[]));
        assert!(shows(&[("LANG", "C.UTF-8")]) && shows(&[("LC_CTYPE", "de_DE.utf8"), ("LANG", "C")]));
        assert!(!shows(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!shows(&[("LC_ALL", ""), ("LANG", "POSIX")]) && !shows(&[("LANG", "en_US.ISO-8859-1")]));
    }

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let key = |code, modifiers| Input::Key(KeyEvent::new(code, modifiers));
        let plain = KeyModifiers::NONE;
        for (input, action) in [
            (key(KeyCode::Char('q'), plain), Some(KeyAction::Quit)),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(KeyAction::Quit)),
            (key(KeyCode::Char('c'), plain), None),
            (key(KeyCode::Down, plain), Some(KeyAction::Down)),
            (key(KeyCode::Char('h'), plain), Some(KeyAction::Heal)),
            (key(KeyCode::Char('H'), KeyModifiers::SHIFT), Some(KeyAction::HealAll)),
            (Input::Resize(80, 24), Some(KeyAction::Draw)),
        ] {
            assert_eq!(meant(&input), action, "{input:?}");
        }
    }
}
