//! The documents: links and paths lead to existing files, examples parse, and the reference pages name every field.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use injector_core::api::PartitionRequest;
use injector_core::campaign;
use injector_core::config::{Config, schema};
use injector_core::stats::summary::{Plan, summarize};
use serde_json::Value;

/// The ends of names that make a text in backticks a path.
const EXTENSIONS: [&str; 12] =
    ["css", "gz", "index", "js", "json", "jsonl", "md", "mjs", "rs", "toml", "yaml", "yml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document of the repository, relative to its root.
fn documents() -> Vec<PathBuf> {
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut found: Vec<PathBuf> = names.map(PathBuf::from).to_vec();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A block between two fences: what follows the opening fence, the line that it begins on, and its text.
struct Block {
    info: String,
    line: usize,
    text: String,
}

/// The lines outside of blocks, with their numbers, and the blocks.
fn taken_apart(text: &str) -> (Vec<(usize, &str)>, Vec<Block>) {
    let (mut prose, mut blocks, mut open): (Vec<_>, Vec<Block>, Option<Block>) =
        (Vec::new(), Vec::new(), None);
    for (line, content) in (1..).zip(text.lines()) {
        match (content.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(info), None) => {
                open = Some(Block { info: info.trim().to_owned(), line, text: String::new() });
            }
            (None, Some(mut block)) => {
                block.text.push_str(content);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => prose.push((line, content)),
        }
    }
    assert!(open.is_none(), "a block has no end");
    (prose, blocks)
}

/// The texts in backticks of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of the links of a line, without those that are in backticks.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in line.split('`').step_by(2) {
        let ends = part.match_indices("](").map(|(at, _)| &part[at + 2..]);
        found.extend(ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target));
    }
    // A link whose text is in backticks: its target begins the next part.
    for part in line.split('`').skip(2).step_by(2) {
        if let Some((target, _)) = part.strip_prefix("](").and_then(|rest| rest.split_once(')')) {
            found.push(target);
        }
    }
    found
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = taken_apart(text);
    prose.iter().filter(|(_, line)| line.starts_with('#')).map(|(_, line)| anchor(line)).collect()
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_test_that_contributing_shows_is_one() {
    let shown = taken_apart(&text("CONTRIBUTING.md")).1.into_iter().find(|block| block.info == "rust");
    let shown = shown.expect("CONTRIBUTING.md shows a test").text;
    assert!(text("injector/tests/netns_cut.rs").contains(&shown), "it is not in netns_cut.rs:\n{shown}");
    assert!(shown.lines().count() <= 11, "a test is short");
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut faults = Vec::new();
    for document in documents() {
        let content = text(&document);
        let folder = document.parent().unwrap_or(Path::new(""));
        for (line, prose) in taken_apart(&content).0 {
            for target in targets(prose) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, heading) = target.split_once('#').unwrap_or((target, ""));
                let file = if path.is_empty() { document.clone() } else { folder.join(path) };
                if !root().join(&file).exists() {
                    faults.push(format!("{}:{line}: no file {target}", document.display()));
                } else if !heading.is_empty() && !anchors(&text(&file)).contains(heading) {
                    faults.push(format!("{}:{line}: no heading {target}", document.display()));
                }
            }
        }
    }
    assert_none(&faults);
}

/// Whether a text in backticks is meant as a path of this repository.
fn is_path(span: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let Some((first, rest)) = span.split_once('/') else { return false };
    // A text that begins with `/` is a path of a host or of the API, and one in capitals represents a name.
    if first.is_empty() || rest.is_empty() || !span.chars().all(is_plain) {
        return false;
    }
    if first.chars().all(|c| c.is_ascii_uppercase()) || first == "runs" {
        return false;
    }
    let extension = Path::new(span).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) || root().join(first).is_dir()
}

#[test]
fn paths_in_backticks_exist() {
    let mut faults = Vec::new();
    for document in documents() {
        let content = text(&document);
        for (line, prose) in taken_apart(&content).0 {
            // Files that chores make there are not part of the repository.
            for span in spans(prose).filter(|span| is_path(span) && !span.starts_with("target/")) {
                if !root().join(span).exists() {
                    faults.push(format!("{}:{line}: no {span}", document.display()));
                }
            }
        }
    }
    assert_none(&faults);
}

/// A name before a path, as in "`Link` in `injector-core/src/model.rs`", or with the path in brackets.
#[test]
fn names_are_in_the_files_that_are_given_for_them() {
    let mut faults = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let content = text(&document);
        // Lines are filled: a name and its path may be on two of them.
        let prose: Vec<&str> = taken_apart(&content).0.iter().map(|(_, line)| line.trim()).collect();
        let prose = prose.join(" ");
        let parts: Vec<&str> = prose.split('`').collect();
        for at in (1..parts.len().saturating_sub(2)).step_by(2) {
            let [name, between, path] = [parts[at], parts[at + 1], parts[at + 2]];
            if ![" in ", " ("].contains(&between) || !is_path(path) || !root().join(path).is_file() {
                continue;
            }
            // `State::apply` is in a file of the type's methods, `tcp/5122` is no name.
            let name = name.rsplit("::").next().unwrap().trim_end_matches(['!', '(', ')']);
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            checked += 1;
            if !text(path).contains(name) {
                faults.push(format!("{}: {path} has no {name}", document.display()));
            }
        }
    }
    assert_none(&faults);
    assert!(checked > 100, "{checked} names were looked for");
}

/// A YAML block says after the word `yaml` what it is: `config` or `campaign`, with the name of a file if commands of its
/// page take it, or `part` of one of them. A JSON block that says `request` is the body of `PUT /v1/partitions/{name}`.
#[test]
fn examples_parse() {
    let mut faults = Vec::new();
    let mut configs = 0;
    for document in documents() {
        let content = text(&document);
        for Block { info, line, text } in taken_apart(&content).1 {
            let place = format!("{}:{line}", document.display());
            // A third word is the name of a file.
            let kind: Vec<&str> = info.split_whitespace().take(2).collect();
            let fault = match kind.join(" ").as_str() {
                "yaml config" => {
                    configs += 1;
                    Config::parse(&text, &place).err().map(|errors| errors.to_string())
                }
                "yaml campaign" => {
                    let read = campaign::file::parse(&place, &text);
                    let checked = read.map_err(|errors| errors.to_string());
                    checked.and_then(|spec| spec.check().map_err(|error| error.to_string())).err()
                }
                "yaml part" => serde_yaml::from_str::<serde_yaml::Value>(&text).err().map(|e| e.to_string()),
                "json request" => {
                    serde_json::from_str::<PartitionRequest>(&text).err().map(|e| e.to_string())
                }
                "json" => serde_json::from_str::<Value>(&text).err().map(|e| e.to_string()),
                other if other.starts_with("yaml") => {
                    Some("say after `yaml` what it is: config, campaign or part".to_owned())
                }
                _ => None,
            };
            faults.extend(fault.map(|fault| format!("{place}: {fault}")));
        }
    }
    assert_none(&faults);
    assert!(configs > 2, "{configs} configs were parsed");
}

const SUMMARY: &str = "docs/SUMMARY.md";

/// The pages that the handbook's table of contents names.
fn chapters() -> BTreeSet<PathBuf> {
    let content = text(SUMMARY);
    let lines = taken_apart(&content).0.into_iter();
    lines.flat_map(|(_, line)| targets(line)).map(|target| Path::new("docs").join(target)).collect()
}

#[test]
fn the_handbook_names_every_page_once() {
    let pages = documents().into_iter().filter(|path| path.starts_with("docs") && path != Path::new(SUMMARY));
    let pages: BTreeSet<PathBuf> = pages.collect();
    let chapters = chapters();
    let missing: Vec<_> = pages.difference(&chapters).collect();
    assert!(missing.is_empty(), "{SUMMARY} lacks {missing:?}");
    let unknown: Vec<_> = chapters.difference(&pages).collect();
    assert!(unknown.is_empty(), "{SUMMARY} names {unknown:?}, which are no pages");
    let content = text(SUMMARY);
    let named = taken_apart(&content).0.iter().map(|(_, line)| targets(line).len()).sum::<usize>();
    assert_eq!(named, chapters.len(), "{SUMMARY} names a page twice");
}

/// Only pages of the handbook, and pictures, are in the book that mdBook makes: other files are named by their path.
#[test]
fn pages_of_the_handbook_link_within_it() {
    let mut faults = Vec::new();
    let chapters = chapters();
    for page in &chapters {
        let content = text(page);
        for (line, prose) in taken_apart(&content).0 {
            for target in targets(prose).into_iter().filter(|target| !target.contains("://")) {
                let file = target.split('#').next().unwrap();
                if file.is_empty() {
                    continue;
                }
                let mut path = page.parent().unwrap().to_path_buf();
                for part in Path::new(file).components() {
                    match part {
                        std::path::Component::ParentDir => drop(path.pop()),
                        part => path.push(part),
                    }
                }
                if !chapters.contains(&path) && !path.starts_with("docs/pictures") {
                    faults.push(format!(
                        "{}:{line}: {target} is not in the handbook; name the file by its path, in backticks",
                        page.display()
                    ));
                }
            }
        }
    }
    assert_none(&faults);
    let book = text("docs/book.toml");
    assert!(book.contains("src = \".\""), "the handbook is this folder: {book}");
}

#[test]
fn the_page_of_versions_has_the_numbers_of_the_code() {
    use injector_core::api::{OLDEST_RECORD_SCHEMA, RECORD_SCHEMA};
    use injector_core::run::settings::CAMPAIGN_SCHEMA;
    use injector_core::stats::summary::SUMMARY_SCHEMA;

    let page = text("docs/reference/versions.md");
    let abi = injector_common::ABI_VERSION;
    for row in [
        format!("| package | {} |", env!("CARGO_PKG_VERSION")),
        "| API | `/v1` |".to_owned(),
        format!("| recovery record | {RECORD_SCHEMA}, reads from {OLDEST_RECORD_SCHEMA} |"),
        format!("| `campaign.json` | {CAMPAIGN_SCHEMA} |"),
        format!("| `summary.json` | {SUMMARY_SCHEMA} |"),
        format!("| ABI of the programs | {abi} |"),
    ] {
        assert!(page.contains(&row), "docs/reference/versions.md lacks {row}");
    }
    let changes = text("CHANGELOG.md");
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(changes.contains(&heading), "CHANGELOG.md has no heading {heading}");
}

const API: &str = "docs/reference/api.md";
const RECORD: &str = "docs/reference/record.md";

/// Fails unless each of some words is in backticks on one of the pages.
fn assert_named<'a>(pages: &[&str], words: impl IntoIterator<Item = &'a str>) {
    let content: String = pages.iter().map(text).collect();
    let named: BTreeSet<&str> = content.lines().flat_map(spans).collect();
    let missing: Vec<&str> = words.into_iter().filter(|word| !named.contains(word)).collect();
    assert!(missing.is_empty(), "{} lacks {}", pages[0], missing.join(", "));
}

/// The names of all properties in a JSON schema.
fn properties(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "properties"
                    && let Some(properties) = value.as_object()
                {
                    found.extend(properties.keys().cloned());
                }
                properties(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| properties(value, found)),
        _ => {}
    }
}

/// The keys of all objects in a JSON value.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.keys().cloned());
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

#[test]
fn the_record_page_names_every_field() {
    let mut found = BTreeSet::new();
    properties(&json("injector-core/tests/data/golden/record.schema.json"), &mut found);
    assert!(found.len() > 100, "{found:?}");
    // Shapes are on the API's page.
    assert_named(&[RECORD, API], found.iter().map(String::as_str));
}

#[test]
fn the_api_page_names_every_call_field_and_code() {
    let document = json("injector/tests/data/golden/openapi.json");
    let content = text(API);
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let call = format!("`{} {path}`", method.to_uppercase());
            assert!(content.contains(&call), "{API} lacks {call}");
        }
    }
    let schemas = &document["components"]["schemas"];
    let codes = schemas["Code"]["oneOf"].as_array().unwrap().iter().filter_map(|code| code["const"].as_str());
    assert_named(&[API], codes);
    let all = schemas.as_object().unwrap().values().filter_map(|schema| schema["oneOf"].as_array()).flatten();
    let words: Vec<&str> = all.filter_map(|word| word["const"].as_str()).collect();
    assert!(words.len() > 80, "{words:?}");
    assert_named(&[API, RECORD, "docs/reference/config.md"], words);
    let mut found = BTreeSet::new();
    properties(schemas, &mut found);
    assert_named(&[API, RECORD], found.iter().map(String::as_str));
}

#[test]
fn the_run_directory_page_names_every_field() {
    let mut found = BTreeSet::new();
    let campaign = json("injector-core/tests/data/golden/campaign.json");
    keys(&campaign, &mut found);
    // Names of systems under test are the user's, and shapes are on the API's page.
    keys(&json("injector-core/tests/data/golden/run-lines.json"), &mut found);
    let users: BTreeSet<String> =
        campaign["versions"]["systems"].as_object().unwrap().keys().cloned().collect();
    let shapes: BTreeSet<String> = campaign["settings"]["cells"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|cell| {
            let mut found = BTreeSet::new();
            keys(&cell["shape"], &mut found);
            found
        })
        .collect();
    keys(&serde_json::to_value(summarize(&[], &Plan::default())).unwrap(), &mut found);
    let wanted = found.iter().filter(|key| !users.contains(*key) && !shapes.contains(*key));
    assert_named(&["docs/reference/run-directory.md"], wanted.map(String::as_str));
}

/// The texts that follow `before` and end at a quote, in a source file.
fn quoted<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    source
        .match_indices(before)
        .filter_map(|(at, _)| source[at + before.len()..].split_once('"'))
        .map(|(it, _)| it)
}

const CONFIG: &str = "docs/reference/config.md";

#[test]
fn the_config_page_names_every_key() {
    let mut found = BTreeSet::new();
    properties(&schema::schema(), &mut found);
    assert!(found.len() > 70, "{found:?}");
    // Shapes are on the API's page.
    assert_named(&[CONFIG, API], found.iter().map(String::as_str));
}

/// The table of a kind's keys is written by this test with `INJECTOR_BLESS=1`.
#[test]
fn the_config_page_has_the_keys_of_each_kind_of_probe() {
    let content = text(CONFIG);
    let table = schema::probe_kinds_table();
    let head = table.lines().next().unwrap();
    let from = content.find(head).expect("the head of the table");
    let to = content[from..].find("\n\n").map_or(content.len(), |end| from + end + 1);
    if std::env::var_os("INJECTOR_BLESS").is_some() {
        fs::write(root().join(CONFIG), format!("{}{table}{}", &content[..from], &content[to..])).unwrap();
        return;
    }
    assert_eq!(&content[from..to], table, "run this test with INJECTOR_BLESS=1, and read `git diff`");
}

#[test]
fn the_metrics_page_names_every_metric() {
    let source = text("injector/src/server/metrics.rs");
    let code = source.split("#[cfg(test)]").next().unwrap();
    let found: BTreeSet<String> =
        quoted(code, "\"injector_").map(|rest| format!("injector_{rest}")).collect();
    assert!(found.len() > 20, "{found:?}");
    assert_named(&["docs/reference/metrics.md"], found.iter().map(String::as_str));
    let counters = injector_common::record::counter::NAMES;
    assert_named(&["docs/reference/metrics.md"], counters);
}

#[test]
fn the_page_of_one_cut_names_every_map() {
    let sources = ["maps.rs", "local/owners.rs", "local/ports.rs"];
    let code: String = sources.iter().map(|file| text(format!("injector-ebpf/src/{file}"))).collect();
    let maps: Vec<&str> =
        code.split("map]\npub static ").skip(1).filter_map(|rest| rest.split(':').next()).collect();
    assert!(maps.len() > 30, "{maps:?}");
    assert_named(&["docs/follow-one-cut.md"], maps);
}

#[test]
fn the_exit_code_page_names_every_code() {
    let source = text("injector/src/cli/failure.rs");
    let codes: Vec<&str> = source
        .match_indices(": Self = Self(")
        .filter_map(|(at, before)| source[at + before.len()..].split_once(')'))
        .map(|(code, _)| code)
        .collect();
    assert!(codes.len() > 6, "{codes:?}");
    assert_named(&["docs/reference/exit-codes.md"], codes);
}

/// The last paragraph of the page has the codes of problems that do not become 64, each before its exit code.
#[test]
fn the_exit_code_page_names_every_problem_that_is_no_wrong_usage() {
    let source = text("injector/src/cli/failure.rs");
    let (_, arms) = source.split_once("match problem.code {").expect("the exit codes of problems");
    let (arms, _) = arms.split_once("_ => Exit::USAGE").expect("the arm of all others");
    let page = text("docs/reference/exit-codes.md");
    let (_, last) = page.split_once("Problems of the API become 64, except for these:").expect("the list");
    let mut pending = Vec::new();
    let mut told = Vec::new();
    for (code, exit) in last.split('`').skip(1).collect::<Vec<_>>().chunks(2).map(|pair| (pair[0], pair[1])) {
        pending.push(code);
        let number: String = exit.chars().filter(char::is_ascii_digit).collect();
        if !number.is_empty() {
            told.extend(pending.drain(..).map(|code| (code.to_owned(), number.clone())));
        }
    }
    told.sort();
    let exits = [("UNREACHABLE", "69"), ("NOT_PERMITTED", "77"), ("UNDECIDED", "2")];
    let mut known = Vec::new();
    for arm in arms.split(',').filter(|arm| arm.contains("=>")) {
        let (codes, exit) = arm.split_once("=>").unwrap();
        let (_, number) = exits.iter().find(|(name, _)| exit.contains(name)).expect("a known exit");
        let codes = codes.split("Code::").skip(1).map(|rest| rest.trim_end_matches([' ', '\n', '|']));
        known.extend(codes.map(|code| (kebab(code), (*number).to_owned())));
    }
    known.sort();
    assert!(known.len() > 6, "{known:?}");
    assert_eq!(told, known);
}

/// `NoFreeSlot` as `no-free-slot`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
