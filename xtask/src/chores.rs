//! The chores that documents name: each is read by the real command line. Those that a page shows in a block of its own, marked
//! `sh chore`, take too long for a test: the page names the short form of each, which brings up the same lab.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::command::workspace;
use crate::page::marked;
use crate::{Args, Chore, campaign};

/// What such a block opens with.
const MARK: &str = "sh chore";
/// What continuous integration runs of them.
const IN_CI: &str = "\ncargo xtask campaign --short\n";

/// Every document, and what continuous integration runs.
fn documents() -> Vec<PathBuf> {
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".ci/run"];
    let mut found: Vec<PathBuf> = names.iter().map(|name| workspace().join(name)).collect();
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What is typed ends at a backtick, a comment or the end of the line. `NAME` represents a system.
#[test]
fn chores_that_documents_name_are_read() {
    let mut faults = Vec::new();
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("cargo xtask") {
            let typed = text[at..].split(['`', '#', ';', '\n']).next().unwrap();
            let words = typed.split_whitespace().skip(1);
            let words = words.map(|word| if ["NAME", "\"$system\""].contains(&word) { "etcd" } else { word });
            let words = words.map(|word| if word == "\"$target\"" { "parse" } else { word });
            let words: Vec<&str> = words.collect();
            // `cargo xtask` itself.
            if words.len() < 2 {
                continue;
            }
            count += 1;
            // Prose may name a chore without what it needs.
            if let Err(error) = Args::try_parse_from(&words)
                && error.kind() != ErrorKind::MissingRequiredArgument
            {
                faults.push(format!("{}: {typed}\n{error}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "{count} chores");
}

/// The labs that a chore brings up, and the campaign files that it reads.
fn labs(chore: &Chore) -> Option<(Vec<String>, Vec<PathBuf>)> {
    match chore {
        Chore::Lab(options) => Some((vec![options.system().to_owned()], Vec::new())),
        Chore::Campaign(options) => {
            let (system, file) = options.system_and_file();
            Some((
                system.into_iter().map(str::to_owned).collect(),
                file.map(Path::to_path_buf).into_iter().collect(),
            ))
        }
        Chore::Results(options) => {
            let campaigns = options.systems_and_files();
            let (systems, files): (Vec<_>, Vec<_>) = campaigns.into_iter().unzip();
            Some((
                systems.into_iter().map(str::to_owned).collect(),
                files.into_iter().map(PathBuf::from).collect(),
            ))
        }
        _ => None,
    }
}

/// What is wrong with a line of such a block on a page with this text.
fn faults(line: &str, page: &str) -> Vec<String> {
    let typed = line.split('#').next().unwrap_or_default().trim();
    let Some(words) = typed.strip_prefix("cargo ") else { return vec![format!("\"{typed}\" is no chore")] };
    let chore = match Args::try_parse_from(words.split_whitespace()) {
        Ok(args) => args.chore,
        Err(error) => return vec![format!("{typed}\n{error}")],
    };
    let Some((systems, files)) = labs(&chore) else {
        return vec![format!("{typed}: it has no short form, or `labs` does not know it")];
    };
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut faults = Vec::new();
    for system in systems {
        let short = format!("cargo xtask campaign --short {system}");
        if let Err(error) = Args::try_parse_from(short.split_whitespace().skip(1)) {
            faults.push(format!("{short}\n{error}"));
        }
        let ci = if campaign::is_in_short_form(&system) { "which CI runs" } else { "which CI leaves out" };
        let said = format!("`{short}`, {ci}");
        if !page.contains(&said) {
            faults.push(format!("{typed}: the page does not say \"{said}\""));
        }
    }
    let absent = files.iter().filter(|file| !workspace().join(file).exists());
    faults.extend(absent.map(|file| format!("{typed}: there is no {}", file.display())));
    faults
}

#[test]
fn chores_in_blocks_are_read_and_have_a_short_form() {
    let (mut found, mut count) = (Vec::new(), 0);
    for path in documents().into_iter().filter(|path| path.extension().is_some()) {
        let page = path.strip_prefix(workspace()).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for block in marked(page, MARK).unwrap() {
            count += 1;
            let lines = block.lines().filter(|line| !line.trim().is_empty());
            found.extend(lines.flat_map(|line| faults(line, &text)).map(|fault| format!("{page}: {fault}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(count > 0, "no document has a block that is marked `{MARK}`");
    let ci = fs::read_to_string(workspace().join(".ci/run")).unwrap();
    assert!(ci.contains(IN_CI), "CI does not run{IN_CI}");
}

#[test]
fn wrong_chores_are_noticed() {
    let page = "The short form is `cargo xtask campaign --short vms`, which CI runs.";
    assert_eq!(faults("cargo xtask lab vms   # three guests", page), Vec::<String>::new());
    assert_eq!(faults("cargo xtask campaign vms --file configs/labs/vms.yaml", page), Vec::<String>::new());
    for wrong in [
        "cargo build",
        "cargo xtask lap vms",
        "cargo xtask campaign vms --seeds 3",
        "cargo xtask campaign vms --file configs/labs/absent.yaml",
        "cargo xtask results vms",
        "cargo xtask lint",
    ] {
        assert!(!faults(wrong, page).is_empty(), "{wrong}");
    }
}
