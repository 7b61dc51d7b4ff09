//! The HTML pages in a real headless browser: drawn without errors, in light and dark, wide and on a phone.

#[path = "support/restate.rs"]
mod restate;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use injector_core::api::Outcome;
use injector_core::report::{CompareOptions, ReportOptions, compare, report};
use injector_lab::needs;
use synthetic::{Plant, campaign, plants, write};

const BROWSER: &str = "chromium";

/// Appended to a copy of the page: tells what only a browser knows.
const WITNESS: &str = "<script>
const d = document.documentElement.dataset;
d.background = getComputedStyle(document.body).backgroundColor;
d.width = window.innerWidth;
d.overflow = document.documentElement.scrollWidth - window.innerWidth;
d.fetched = performance.getEntriesByType('resource').length;
d.drawn = document.querySelectorAll('[data-drawn]').length;
if (parent !== window) parent.postMessage({ ...d }, '*');
</script>";

/// The browser's own window is never narrower than 500 pixels: a phone is a frame in a page that keeps what the
/// witness tells it.
const PHONE: &str = "<!doctype html><html><body><script>
addEventListener('message', (e) => Object.assign(document.documentElement.dataset, e.data));
</script><iframe src=\"page.html\" width=\"390\" height=\"844\" style=\"border:0\"></iframe></body></html>";

struct Seen {
    dom: String,
    console: String,
}

impl Seen {
    /// A datum that the page or the witness left on the root element.
    fn datum(&self, name: &str) -> Option<&str> {
        let root = self.dom.split("<html").nth(1)?.split('>').next()?;
        root.split(&format!("data-{name}=\"")).nth(1)?.split('"').next()
    }

    fn count(&self, markup: &str) -> usize {
        self.dom.matches(markup).count()
    }

    fn assert_sound(&self) {
        assert_eq!(self.datum("ready"), Some("1"), "the script did not come to its end: {}", self.console);
        assert_eq!(self.datum("errors"), None);
        assert_eq!(self.datum("fetched"), Some("0"), "the page fetched something");
        assert!(!self.console.contains("CONSOLE"), "{}", self.console);
    }
}

fn open(page: &Path, dark: bool, width: u32) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("page.html");
    let text = fs::read_to_string(page).unwrap();
    fs::write(&copy, text.replace("</body>", &format!("{WITNESS}</body>"))).unwrap();
    fs::write(folder.path().join("phone.html"), PHONE).unwrap();
    let shown = if width < 500 { "phone.html" } else { "page.html" };
    let output = Command::new(BROWSER)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("--window-size={},900", width.max(500)))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", folder.path().join(shown).display()))
        .output()
        .unwrap();
    Seen {
        dom: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Kept after the test, to be looked at.
fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The picture of the outages of a real run.
#[test]
#[needs(program = "chromium")]
fn outages_are_drawn_by_cut() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let page = folder.path().join("page.html");
    report(folder.path(), &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let seen = open(&page, false, 1100);
    seen.assert_sound();
    assert_eq!(seen.count("class=\"plot outages\""), 3);
    assert_eq!(seen.count("class=\"trial\""), 60, "a row for each trial");
    // All three endpoints are out where n1 is isolated, one each elsewhere but for one trial of n3.
    assert_eq!(seen.count("class=\"out\""), 6);
    assert_eq!(seen.count("class=\"carries\""), 3);
    assert!(seen.count("class=\"late\"") >= 3, "{}", seen.count("class=\"late\""));
    assert!(seen.dom.contains("isolate n1, 21 trials") && seen.dom.contains("id=\"headline\""));
}

#[test]
#[needs(program = "chromium")]
fn a_campaign_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run <i>1");
    let mut planted = plants(120, 1, 0.05);
    planted[17] = Plant::undecided(Outcome::Censored);
    planted[40] = Plant::undecided(Outcome::HarnessFailed);
    let mut settings = campaign(120);
    settings.command.push("</script><script>throw 1</script>".to_owned());
    write(&run, &settings, &planted, true);
    let html = page("report.html");
    report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
    for (dark, width) in [(false, 1100), (true, 1100), (false, 390), (true, 390)] {
        let seen = open(&html, dark, width);
        seen.assert_sound();
        assert_eq!(seen.datum("drawn"), Some("4"), "curve, strip, timeline and phases");
        assert_eq!(seen.datum("width"), Some(&*width.to_string()));
        assert_eq!(seen.datum("overflow"), Some("0"), "it scrolls sideways at {width}");
        let background = seen.datum("background").unwrap();
        assert_eq!(background, if dark { "rgb(16, 21, 27)" } else { "rgb(246, 247, 249)" });
        if width < 500 {
            continue;
        }
        for (what, least) in [
            ("class=\"curve\"", 1),
            ("class=\"deadline\"", 2),
            ("data-outcome=\"recovered\"", 1),
            ("data-outcome=\"not recovered\"", 1),
            ("data-outcome=\"harness failed\"", 1),
            ("class=\"bin\"", 5),
            ("class=\"probe-failed\"", 1),
            ("class=\"phase\"", 50),
            // What the slowest trial waited for.
            ("class=\"unsettled\"", 1),
            ("5122 established, RTO 13.1 s, backoff 6, 7 retransmits", 1),
            ("class=\"tile\"", 6),
        ] {
            assert!(seen.count(what) >= least, "{what} at {width}: {}", seen.count(what));
        }
        assert!(!seen.dom.contains("<i>1"), "a name became markup");
    }
}

/// Drags over the first half of what follows the heal, then looks closer, then at all of it, and tells the first label of
/// the axis each time.
const LOOKING: &str = "<script>
const axis = () => [...document.querySelectorAll('#timeline svg text')].map((t) => t.textContent).filter((t) => / m?s$/.test(t)).join(',');
const told = [axis()];
const drag = (from, to) => {
  const svg = document.querySelector('#timeline svg');
  const box = svg.getBoundingClientRect();
  const at = (x) => ({ clientX: box.left + x * box.width, clientY: box.top + 60, bubbles: true });
  svg.dispatchEvent(new PointerEvent('pointerdown', at(from)));
  svg.dispatchEvent(new PointerEvent('pointermove', at(to)));
  svg.dispatchEvent(new PointerEvent('pointerup', at(to)));
};
drag(0.4, 0.6); told.push(axis());
document.getElementById('closer').click(); told.push(axis());
document.getElementById('whole').click(); told.push(axis());
document.documentElement.dataset.told = told.join('|');
</script>";

#[test]
#[needs(program = "chromium")]
fn a_trial_can_be_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("run"), &campaign(20), &plants(20, 1, 0.05), true);
    let html = folder.path().join("report.html");
    report(
        &folder.path().join("run"),
        &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() },
    )
    .unwrap();
    let text = fs::read_to_string(&html).unwrap();
    fs::write(&html, text.replace("</body>", &format!("{LOOKING}</body>"))).unwrap();
    let seen = open(&html, false, 1100);
    seen.assert_sound();
    let told: Vec<&str> = seen.datum("told").unwrap().split('|').collect();
    let [all, dragged, closer, whole] = told[..] else { panic!("{told:?}") };
    assert_eq!(all, whole);
    assert!(all != dragged && dragged != closer && closer != all, "{told:?}");
    assert!(told.iter().all(|axis| !axis.is_empty()), "{told:?}");
}

#[test]
#[needs(program = "chromium")]
fn an_empty_campaign_is_drawn_too() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("run"), &campaign(3), &[], false);
    let html = folder.path().join("report.html");
    report(
        &folder.path().join("run"),
        &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() },
    )
    .unwrap();
    let seen = open(&html, false, 1100);
    seen.assert_sound();
    assert!(seen.dom.contains("nothing can be said"));
}

#[test]
#[needs(program = "chromium")]
fn ten_thousand_trials_are_drawn_from_under_five_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    synthetic::write_unsynced(&run, &campaign(10_000), &plants(10_000, 3, 0.02));
    let html = page("large.html");
    report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
    let size = fs::metadata(&html).unwrap().len();
    assert!(size < 5_000_000, "{size} bytes");
    let seen = open(&html, false, 1100);
    seen.assert_sound();
    assert_eq!(seen.count("data-drawn=\"1\""), 4);
}

#[test]
#[needs(program = "chromium")]
fn a_comparison_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    write(&a, &campaign(100), &plants(100, 1, 0.0), false);
    write(&b, &campaign(100), &plants(100, 2, 0.12), false);
    let html = page("compare.html");
    let done =
        compare(&a, &b, &CompareOptions { html: Some(html.clone()), ..CompareOptions::default() }).unwrap();
    assert_eq!(done.exit_code, 1, "{}", done.text);
    for (dark, width) in [(false, 1100), (true, 390)] {
        let seen = open(&html, dark, width);
        seen.assert_sound();
        assert!(width < 500 || seen.count("class=\"curve\"") == 2, "both arms' curves");
        assert_eq!(seen.datum("overflow"), Some("0"));
    }
}
