//! `injector top` on a terminal of 80 columns and 24 lines, beside a real daemon. Needs root.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "netns_jepsen/sshd.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod sshd;
#[path = "support/terminal.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod terminal;

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use injector_lab::{AttachPoint, Lab, needs, skip};
use live::daemon::{Daemon, isolate};
use live::traffic::{KINDS, Server, assert_cut, assert_flows};
use sshd::Sshd;
use terminal::Terminal;

fn top_of(daemon: &injector_lab::Daemon) -> Command {
    let mut command = daemon.cli().command();
    command.arg("top").env("LC_ALL", "C.UTF-8");
    command
}

fn line<'a>(shown: &'a str, begins: &str) -> &'a str {
    shown
        .lines()
        .find(|line| line.trim_start_matches("> ").trim_start().starts_with(begins))
        .unwrap_or_default()
}

#[test]
#[needs(root)]
fn top_shows_a_cut_heals_it_by_a_key_and_gives_the_terminal_back() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let config = format!(
        "{}endpoints:\n  - {{ name: ingress, peers: [n1], probe: {{ http: {{ url: \"http://{{address}}:{}/\" }} }}, netns: {} }}\nready: {{ consecutive: 2, observe: 500ms }}\n",
        lab.config(AttachPoint::OwnNic, "auto"),
        server.port(),
        lab.netns("client")
    );
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    let mut command = top_of(&daemon);
    let mut top = Terminal::start(command.env("TERM", "xterm-256color").env_remove("NO_COLOR"));
    let shown = top.wait_for("the first screen", |shown| shown.contains("ingress@n1") && shown.contains('✓'));
    assert!(
        shown.contains("nothing is cut") && shown.contains("LINKS, drops/s") && shown.contains("RECOVERIES"),
        "{shown}"
    );
    assert_eq!(shown.lines().last().unwrap().trim(), "↑↓ select  h heal it  H heal all  q quit");

    // Neighbours that know each other continue to send packets.
    assert_flows(&lab, &KINDS, "n1", "n2");
    daemon.apply("p", &isolate("n1", Duration::from_mins(10)));
    let shown = top.wait_for("the cut", |shown| line(shown, "p ").contains("cuts, ") && shown.contains('✂'));
    assert!(shown.contains("1 partition cuts") && line(&shown, "p ").contains("isolate n1"), "{shown}");
    assert!(line(&shown, "n1 ").contains('✂') && line(&shown, "n2 ").contains('✂'), "{shown}");

    // What is dropped proves the cut, and is counted.
    assert_cut(&lab, &KINDS, "n1", "n2");
    top.wait_for("drops", |shown| {
        line(shown, "p ").contains(" dropped") && !line(shown, "p ").contains(" 0 dropped")
    });
    top.press("h");
    top.wait_for("the heal", |shown| shown.contains("healed p") && shown.contains("nothing is cut"));
    assert!(daemon.partition("p").healed.is_some());
    let shown = top.wait_for("the record", |shown| line(shown, "p ").contains("recovered"));
    assert!(shown.contains("silence+reconnect+return+relapse"), "{shown}");

    top.press("q");
    assert!(top.end().success());
    // The last of it may still be on its way.
    top.wait_for("another screen, and back", |_| {
        let written = top.written();
        let all = ["\u{1b}[?1049h", "\u{1b}[?25l", "\u{1b}[?1049l", "\u{1b}[?25h"];
        all.iter().all(|sequence| written.contains(sequence))
    });

    // Without colour all of it is there, and without a terminal it says what to use.
    daemon.apply("q", &isolate("n1", Duration::from_mins(10)));
    let mut command = top_of(&daemon);
    let mut plain = Terminal::start(command.env("TERM", "xterm").env("NO_COLOR", "1"));
    plain.wait_for("the cut", |shown| {
        line(shown, "q ").contains("cuts, ") && shown.contains('✂') && shown.contains("recovered")
    });
    plain.press("\u{3}");
    assert!(plain.end().success());
    assert!(
        !plain.written().contains("\u{1b}[38;5;") && !plain.written().contains("\u{1b}[31m"),
        "no colours"
    );
    let mut command = top_of(&daemon);
    let mut ascii = Terminal::start(command.env("TERM", "xterm").env("LC_ALL", "C"));
    let shown = ascii.wait_for("the cut in ASCII", |shown| {
        line(shown, "q ").contains("cuts, ") && line(shown, "n1 ").contains('!')
    });
    assert!(shown.is_ascii() && shown.contains("^v select"), "{shown}");
    ascii.press("q");
    assert!(ascii.end().success());
    let mut command = top_of(&daemon);
    let mut ended = Terminal::start(command.env("TERM", "xterm"));
    ended.wait_for("the cut", |shown| line(shown, "q ").contains("cuts, "));
    ended.terminate();
    assert_eq!(ended.end().code(), Some(143));
    ended.wait_for("the terminal as it was", |_| ended.written().contains("\u{1b}[?1049l"));
    let output = daemon.cli(&["top"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("top needs a terminal"));
}

/// A partition of more than 1,000 links: the daemon lists them part by part.
#[test]
#[needs(root)]
fn top_shows_every_cut_of_a_partition_with_very_many_links() {
    const PEERS: usize = 600;
    let lab = Lab::new(1);
    let mut config = "peers:\n".to_owned();
    for peer in 1..=PEERS {
        let _ = writeln!(config, "  n{peer}: {{ addresses: [10.200.{}.{}] }}", peer / 250, peer % 250 + 1);
    }
    let _ = writeln!(config, "interfaces: [{{ name: eth0, netns: {} }}]", lab.netns("n1"));
    let daemon = Daemon::start(&config);
    let mut request = isolate("n1", Duration::from_mins(10));
    request.verdict.allow_uncovered = true;
    let cut = daemon.apply("p", &request);
    assert_eq!((cut.totals.links, cut.links), (2 * (PEERS - 1), None));
    let mut command = top_of(&daemon);
    let mut top = Terminal::start(command.env("TERM", "xterm"));
    let shown = top.wait_for("all links", |shown| shown.contains("LINKS, 10 of 600") && !shown.contains('?'));
    let cuts = |shown: &str, peer: &str| {
        line(shown, peer).split_whitespace().filter(|cell| *cell == "cut" || cell.starts_with('✂')).count()
    };
    assert_eq!((cuts(&shown, "n1 "), cuts(&shown, "n2 "), cuts(&shown, "n10 ")), (9, 1, 1), "{shown}");
    top.press("q");
    assert!(top.end().success());
}

/// Over ssh the terminal is one of sshd's, of the size and kind that the person's has.
#[test]
#[needs(root, program = "sshd")]
fn top_is_used_over_ssh() {
    if let Some(why) = sshd::why_not() {
        return skip("top_is_used_over_ssh", &why);
    }
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    let mut sshd = Sshd::new();
    sshd.start(&lab, "n1", daemon.socket());
    let session = sshd.session(&lab, "n1");
    daemon.apply("p", &isolate("n2", Duration::from_mins(10)));
    let (program, words) = session.split_first().unwrap();
    let mut ssh = Command::new(program);
    let mut top = Terminal::start(ssh.args(words).args(["-tt", "injector top"]).env("TERM", "xterm"));
    let shown = top.wait_for("the cut", |shown| line(shown, "p ").contains("cuts, "));
    assert!(shown.lines().count() <= 24 && shown.contains("q quit"), "{shown}");
    top.press("H");
    top.wait_for("the heal", |shown| shown.contains("nothing is cut"));
    assert!(daemon.partition("p").healed.is_some());
    top.press("q");
    assert!(top.end().success());
}
