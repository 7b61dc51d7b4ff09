//! A page in a real headless browser.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A script appended to a copy of the page: it notes facts that only a browser knows in the document's data
/// attributes.
const WITNESS: &str = "<script>
const d = document.documentElement.dataset;
d.background = getComputedStyle(document.body).backgroundColor;
d.width = window.innerWidth;
d.overflow = document.documentElement.scrollWidth - window.innerWidth;
d.fetched = performance.getEntriesByType('resource').length;
d.drawn = document.querySelectorAll('[data-drawn]').length;
d.log = document.getElementById('log')?.checked;
// Marks that no legend of their section explains; lines of the grid and what takes clicks are none.
const silent = ['gridline', 'axis', 'trial', 'hit'];
const unexplained = new Set();
for (const mark of document.querySelectorAll('.plot svg :is(path, circle, rect, line)')) {
  const name = mark.dataset.mark ?? mark.getAttribute('class') ?? '(no class)';
  if (silent.includes(name)) continue;
  const known = [...mark.closest('section').querySelectorAll('.legend [data-mark]')].map((item) => item.dataset.mark);
  if (!known.includes(name)) unexplained.add(name);
}
if (unexplained.size) d.unexplained = [...unexplained].join(', ');
if (parent !== window) parent.postMessage({ ...d }, '*');
</script>";

/// The browser's own window is never narrower than 500 pixels: a phone is a frame in a page that keeps what the
/// witness reports it.
const PHONE: &str = "<!doctype html><html><body><script>
addEventListener('message', (e) => Object.assign(document.documentElement.dataset, e.data));
</script><iframe src=\"page.html\" width=\"390\" height=\"844\" style=\"border:0\"></iframe></body></html>";

/// A page as the browser had it after its scripts.
pub struct Seen {
    /// The document.
    pub dom: String,
    /// What the browser wrote, the page's messages among it.
    pub console: String,
}

impl Seen {
    /// A datum that the page or the witness left on the root element.
    pub fn datum(&self, name: &str) -> Option<&str> {
        let root = self.dom.split("<html").nth(1)?.split('>').next()?;
        root.split(&format!("data-{name}=\"")).nth(1)?.split('"').next()
    }

    /// How often this is in the document.
    pub fn count(&self, markup: &str) -> usize {
        self.dom.matches(markup).count()
    }

    /// The page was drawn without errors, fetched nothing and explains its marks.
    pub fn assert_sound(&self) {
        assert_eq!(self.datum("ready"), Some("1"), "the script did not come to its end: {}", self.console);
        assert_eq!(self.datum("errors"), None);
        assert_eq!(self.datum("unexplained"), None, "marks that no legend explains");
        assert_eq!(self.datum("fetched"), Some("0"), "the page fetched something");
        assert!(!self.console.contains("CONSOLE"), "{}", self.console);
    }
}

/// The browser with a window of this size, and with nothing of its user's.
pub fn browser(profile: &Path, dark: bool, (width, height): (u32, u32)) -> Command {
    let mut browser = Command::new("chromium");
    browser
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
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("--window-size={width},{height}"))
        .arg("--virtual-time-budget=5000");
    browser
}

/// Opens a copy of a page.
pub fn open(page: &Path, dark: bool, width: u32) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("page.html");
    let text = fs::read_to_string(page).unwrap();
    fs::write(&copy, text.replace("</body>", &format!("{WITNESS}</body>"))).unwrap();
    fs::write(folder.path().join("phone.html"), PHONE).unwrap();
    let shown = if width < 500 { "phone.html" } else { "page.html" };
    let output = browser(&folder.path().join("profile"), dark, (width.max(500), 900))
        .arg("--dump-dom")
        .arg(format!("file://{}", folder.path().join(shown).display()))
        .output()
        .unwrap();
    Seen {
        dom: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
