//! The HTML pages in a real headless browser: drawn without errors, in light and dark, wide and on a phone.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/restate.rs"]
mod restate;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};

use browser::{browser, open};
use injector_core::api::Outcome;
use injector_core::clock::WallNs;
use injector_core::model::Shape;
use injector_core::report::{CompareOptions, IndexOptions, ReportOptions, compare, index, report};
use injector_core::run::dir::NotMade;
use injector_lab::needs;
use synthetic::{Plant, SECOND, campaign, plants, write};

/// The path of a page, which is kept after the test so that people can open it.
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
    // All three endpoints are out where n1 is isolated, one each elsewhere except for one trial of n3.
    assert_eq!(seen.count("class=\"out\""), 6);
    assert_eq!(seen.count("class=\"carries\""), 3);
    assert!(seen.count("class=\"late\"") >= 3, "{}", seen.count("class=\"late\""));
    assert!(seen.dom.contains("isolate n1, 21 trials") && seen.dom.contains("id=\"headline\""));
    // The times go from some 10 ms to 13 s: on a linear axis most of them would be one line.
    assert_eq!(seen.datum("log"), Some("true"));
    assert!(seen.count(">1 s<") >= 6 && seen.count(">10 s<") >= 6, "the same axis in every plot");
}

/// The environment variable by which pictures are rewritten.
const WRITE: &str = "INJECTOR_PICTURES";
/// The width and height of the picture of the report.
const PICTURE: (u32, u32) = (1100, 1000);

/// The width and height of a picture, if it is one.
fn size_of_png(bytes: &[u8]) -> Option<(u32, u32)> {
    // The first block, whose length and name come first, begins with both.
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(8..16)?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    number(0).zip(number(4))
}

/// The words of the part of a page that is in the picture: up to the first plot. Numbers are left out, and so is what is
/// drawn.
fn words_of_the_top(dom: &str) -> String {
    let top = dom.split("<main").nth(1).unwrap().split("<svg").next().unwrap();
    let texts = top.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    let words = texts.flat_map(str::split_whitespace).filter(|word| word.chars().all(|c| !c.is_numeric()));
    // A line for about each sentence, so that a difference shows where it is.
    words
        .map(|word| word.to_owned() + if word.ends_with(['.', ':']) { "\n" } else { " " })
        .collect::<String>()
        + "\n"
}

/// The picture of README.md: the top of the page of a real run, 60 trials on three servers of Restate. The words that it shows
/// are kept beside it: who rewords the page finds here that the picture has the old words.
#[test]
#[needs(program = "chromium")]
fn the_picture_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    // The report's title is the name of the run's folder.
    let run = folder.path().join("restate-1.7.12");
    fs::create_dir(&run).unwrap();
    restate::expand(&run);
    // It was measured with the gate off. The picture shows what the gate says of these records, as a user's page does.
    let settings = run.join("campaign.json");
    let gated = fs::read_to_string(&settings).unwrap().replace("\"no_gate\": true", "\"no_gate\": false");
    assert!(gated.contains("\"no_gate\": false"));
    fs::write(&settings, gated).unwrap();
    let page = folder.path().join("page.html");
    report(&run, &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let seen = open(&page, false, PICTURE.0);
    seen.assert_sound();
    let words = words_of_the_top(&seen.dom);
    assert!(seen.dom.contains("restate-1.7.12: from heal to settled"), "{words}");
    assert!(words.contains("passes") && !words.contains("gate is off"), "{words}");
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
    let (picture, shown) = (pictures.join("report.png"), pictures.join("report.words.txt"));
    if std::env::var_os(WRITE).is_some() {
        let output = browser(&folder.path().join("profile"), false, PICTURE)
            .arg(format!("--screenshot={}", picture.display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&shown, &words).unwrap();
    }
    let again = format!(
        "{} is not a picture of this; generate it again: \
         {WRITE}=1 cargo test --package injector-core --test report_html the_picture_of_the_report",
        picture.display()
    );
    let found = size_of_png(&fs::read(&picture).unwrap_or_default());
    assert_eq!(found.map(|(width, _)| width), Some(PICTURE.0), "{again}");
    assert_eq!(fs::read_to_string(&shown).unwrap_or_default(), words, "{again}");
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
        assert_eq!(
            seen.datum("log"),
            Some("true"),
            "the deadline is 20 times as far as a quarter of the trials"
        );
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
            // The reason why the slowest trial did not settle.
            ("class=\"unsettled\"", 1),
            ("5122 established, RTO 13.1 s, backoff 6, 7 retransmits", 1),
            ("class=\"tile\"", 6),
        ] {
            assert!(seen.count(what) >= least, "{what} at {width}: {}", seen.count(what));
        }
        assert!(!seen.dom.contains("<i>1"), "a name became markup");
    }
}

/// A script that drags over the first half of the timeline after the heal, zooms in further, then shows all
/// of it, and notes the first label of the axis each time.
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
    let reported: Vec<&str> = seen.datum("told").unwrap().split('|').collect();
    let [all, dragged, closer, whole] = reported[..] else { panic!("{reported:?}") };
    assert_eq!(all, whole);
    assert!(all != dragged && dragged != closer && closer != all, "{reported:?}");
    assert!(reported.iter().all(|axis| !axis.is_empty()), "{reported:?}");
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

/// A reader who sees the verdict alone sees that five trials show little, also where the gate is off.
#[test]
#[needs(program = "chromium")]
fn a_pass_of_few_trials_says_what_it_leaves_open() {
    for no_gate in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let mut settings = campaign(5);
        settings.settings.gates.no_gate = no_gate;
        write(&run, &settings, &vec![Plant::recovered(SECOND); 5], false);
        let html = folder.path().join("report.html");
        report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
        let seen = open(&html, false, 1100);
        seen.assert_sound();
        let verdict = seen.dom.split("id=\"verdict\">").nth(1).unwrap().split("</div>").next().unwrap();
        let passes = if no_gate {
            "; the gate is off, so that this passes whatever it finds"
        } else {
            ": 0.0 %, within the 0.0 % allowed"
        };
        let sentence = format!(
            "0 of 5 decided trials did not settle by the deadline{passes}; but up to 52.2 % can't be excluded, and 59 \
             trials would show a fault of 5 %."
        );
        assert!(verdict.contains(&sentence), "{verdict}");
    }
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

/// Puts every trial into the lane of what was cut, and answers the lanes' names, how many trials the bars of each lane's
/// histogram have in sum, and the lengths that one trial has in them.
const LANES: &str = "<script>
const by = document.getElementById('strip-by');
by.value = [...by.options].find((option) => option.textContent === 'what was cut').value;
by.dispatchEvent(new Event('change'));
const names = [...document.querySelectorAll('#strip svg text.strong title')].map((title) => title.textContent);
document.documentElement.dataset.lanes = names.join('|');
const ends = [...document.querySelectorAll('#strip svg line.gridline')].filter((line) => line.getAttribute('x1') === line.getAttribute('x2'));
const bars = [...document.querySelectorAll('#strip svg rect.bin')].map((bar) => {
  const [x, length] = ['x', 'width'].map((name) => +bar.getAttribute(name));
  return { length, lane: ends.filter((end) => end.getAttribute('x1') < x).length, trials: parseInt(bar.textContent) };
});
document.documentElement.dataset.binned = names.map((_, lane) => bars.filter((bar) => bar.lane === lane).reduce((sum, bar) => sum + bar.trials, 0)).join('|');
document.documentElement.dataset.lengths = [...new Set(bars.map((bar) => (bar.length / bar.trials).toFixed(2)))].join('|');
document.documentElement.dataset.ways = [...by.options].map((option) => option.textContent).join('|');
</script>";

#[test]
#[needs(program = "chromium")]
fn trials_stand_in_lanes_by_what_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let page = folder.path().join("page.html");
    report(folder.path(), &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, text.replace("</body>", &format!("{LANES}</body>"))).unwrap();
    let seen = open(&page, false, 1100);
    seen.assert_sound();
    assert_eq!(seen.datum("lanes"), Some("isolate n1 (21)|isolate n3 (20)|isolate n2 (19)"));
    // Each lane has a histogram of its own trials, all to one scale.
    assert_eq!(seen.datum("binned"), Some("21|20|19"));
    assert!(!seen.datum("lengths").unwrap().contains('|'), "{:?}", seen.datum("lengths"));
    // The isolated peer distinguishes the same trials, so that it is no way of its own.
    assert_eq!(seen.datum("ways"), Some("nothing: all in one|what was cut"));
}

/// Roles and shapes are ways of their own where they distinguish trials.
#[test]
#[needs(program = "chromium")]
fn trials_stand_in_lanes_by_role_and_by_shape() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    synthetic::write_with(&run, &campaign(40), &plants(40, 1, 0.0), |trial, record| {
        record.heal_to_settled_ns = Some(9_000_000_000 + trial * 10_000_000);
        if trial % 4 == 0 {
            record.shape.asked = Shape::Isolate(vec!["@leader".into()]);
            record.shape.roles.insert("leader".to_owned(), vec!["n2".into()]);
        }
    });
    let html = folder.path().join("report.html");
    report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
    let text = fs::read_to_string(&html).unwrap();
    fs::write(&html, text.replace("</body>", &format!("{LANES}</body>"))).unwrap();
    let seen = open(&html, false, 1100);
    seen.assert_sound();
    assert_eq!(seen.datum("log"), Some("false"), "all of them are near the deadline");
    let ways = seen.datum("ways").unwrap();
    assert!(ways.contains("shape") && ways.contains("isolated peer"), "{ways}");
    assert!(seen.datum("lanes").unwrap().contains("@leader = n2"), "{:?}", seen.datum("lanes"));
}

#[test]
#[needs(program = "chromium")]
fn trials_that_were_not_made_are_shown_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write(&run, &campaign(20), &plants(20, 1, 0.0), false);
    let not_made = |trial: u64| NotMade {
        trial,
        attempt: 1,
        wall: WallNs(1_760_000_000_000_000_000),
        reason: "the gate: <b>ingress@n1</b> was not healthy".to_owned(),
    };
    let lines: Vec<String> =
        [20, 22].map(|trial| serde_json::to_string(&not_made(trial)).unwrap() + "\n").into();
    fs::write(run.join("not_made.jsonl"), lines.concat()).unwrap();
    let html = folder.path().join("report.html");
    report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
    let seen = open(&html, false, 1100);
    seen.assert_sound();
    assert_eq!(seen.count("class=\"not-made\""), 2);
    assert!(
        seen.dom.contains("trial 22 was not made: the gate: &lt;b&gt;ingress@n1&lt;/b&gt; was not healthy")
    );
    assert!(seen.dom.contains("id=\"not-made\""));
}

/// Each slow trial says what it waited for, and where its whole record is.
#[test]
fn a_slow_trial_says_what_it_waited_for_and_where_its_record_is() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let html = folder.path().join("pages/report.html");
    fs::create_dir(html.parent().unwrap()).unwrap();
    let made = report(folder.path(), &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() });
    let text = fs::read_to_string(&html).unwrap();
    // A column whose head alone says nothing is explained.
    assert!(made.unwrap().text.contains("mean outage") && text.contains(">mean outage</th>"));
    assert_eq!(text.matches("divided by their number").count(), 2, "below the table, and among the words");
    let table = text.split("id=\"slowest\"").nth(1).unwrap().split("</section>").next().unwrap();
    let rows: Vec<&str> = table.split("<tr data-trial=\"").skip(1).collect();
    assert!(rows.len() >= 5, "{table}");
    let records = fs::read_to_string(folder.path().join("trials.jsonl")).unwrap();
    for row in rows {
        let trial: u64 = row.split('"').next().unwrap().parse().unwrap();
        assert!(row.contains("<td class=\"wrap\">It waited "), "{row}");
        let line = row.split("<a href=\"../trials.jsonl\">line ").nth(1).unwrap().split('<').next().unwrap();
        let line: usize = line.parse().unwrap();
        let record: serde_json::Value = serde_json::from_str(records.lines().nth(line - 1).unwrap()).unwrap();
        assert_eq!(record["trial"], trial, "line {line}");
    }
    assert!(table.contains(" until ingress@"), "{table}");
}

/// Reports, when the page is printed, how it looks then.
const PRINTED: &str = "<script>
matchMedia('print').addEventListener('change', (e) => {
  if (!e.matches) return;
  const { backgroundColor, color } = getComputedStyle(document.body);
  const controls = [...document.querySelectorAll('.controls')].map((part) => getComputedStyle(part).display);
  console.log(`printed: ${backgroundColor}; ${color}; ${controls.length} controls: ${[...new Set(controls)]};`);
});
</script>";

/// A report is printed on paper, for a reader of dark pages too: dark on the paper's own white, without what is to be pressed.
#[test]
#[needs(program = "chromium")]
fn a_report_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let page = folder.path().join("page.html");
    report(folder.path(), &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, text.replace("</body>", &format!("{PRINTED}</body>"))).unwrap();
    let pdf = folder.path().join("page.pdf");
    let output = browser(&folder.path().join("profile"), true, (1100, 900))
        .arg("--no-pdf-header-footer")
        .arg(format!("--print-to-pdf={}", pdf.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("printed: rgba(0, 0, 0, 0); rgb(23, 32, 43); 4 controls: none;"), "{said}");
    let bytes = fs::read(&pdf).unwrap_or_else(|error| panic!("{error}: {said}"));
    let text = String::from_utf8_lossy(&bytes);
    let pages = text.matches("/Type /Page\n").count();
    assert!(text.starts_with("%PDF") && (2..=12).contains(&pages), "{pages} pages: {said}");
}

#[test]
#[needs(program = "chromium")]
fn several_runs_have_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = ["a b", "<i>c"].iter().map(|name| folder.path().join(name)).collect();
    write(&runs[0], &campaign(100), &plants(100, 1, 0.0), false);
    write(&runs[1], &campaign(100), &plants(100, 2, 0.12), false);
    let html = folder.path().join("index.html");
    let made = index(&runs, &IndexOptions { html: html.clone(), served_within: None }).unwrap();
    assert!(made.text.contains("a b") && made.json.as_array().unwrap().len() == 2, "{}", made.text);
    for (dark, width) in [(false, 1100), (true, 390)] {
        let seen = open(&html, dark, width);
        seen.assert_sound();
        assert_eq!(seen.datum("overflow"), Some("0"));
        if width > 500 {
            assert_eq!(seen.count("class=\"median\""), 2);
            assert_eq!(seen.count("href=\"a%20b/report.html\""), 2, "by the plot and by the table");
            assert!(!seen.dom.contains("<i>c"), "a name became markup");
        }
    }
    for run in &runs {
        assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("id=\"verdict\""));
    }
    let missing = folder.path().join("none");
    let error = index(&[runs[0].clone(), missing], &IndexOptions { html, served_within: None }).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}
