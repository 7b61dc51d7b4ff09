//! No files of a crate use each other in a circle: `cargo xtask lint` follows the names that each file uses to the files
//! that define them.
//!
//! A `mod` line, or a name that is only re-exported, is no use: the name counts for the file that defines it. Calls of
//! methods are not followed, nor what is compiled for tests alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use serde_json::Value;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, UseTree, Visibility};

use crate::build::cargo;
use crate::command::output;

/// The workspace, and the crates outside it.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "fuzz/Cargo.toml", "clients/rust/Cargo.toml"];

/// Fails if files of a crate of this repository use each other in a circle; names every such circle.
pub fn check_circles() -> Result<()> {
    let mut found = Vec::new();
    for manifest in MANIFESTS {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path", manifest]);
        let metadata: Value =
            serde_json::from_str(&output(&mut metadata)?).context("reading cargo's metadata")?;
        let targets = metadata["packages"].as_array().into_iter().flatten().flat_map(|package| {
            let targets = package["targets"].as_array().into_iter().flatten();
            targets.filter_map(|target| target["src_path"].as_str()).map(PathBuf::from)
        });
        for root in targets {
            found.extend(circles_of(&root)?);
        }
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// The circles of the crate with this root, each as a sentence.
fn circles_of(root: &Path) -> Result<Vec<String>> {
    let mut program = Program::default();
    program.read(root, root.parent().context("a file has a folder")?, Vec::new())?;
    let uses = program.uses();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for &file in uses.keys() {
        let reached = reached(&uses, file);
        if !reached.contains(&file) || !seen.insert(file) {
            continue;
        }
        let circle: Vec<usize> =
            reached.iter().copied().filter(|&other| self::reached(&uses, other).contains(&file)).collect();
        seen.extend(&circle);
        let mut text =
            "these files use each other in a circle; move what they share into a file of its own:".to_owned();
        for from in &circle {
            for (to, names) in uses[from].iter().filter(|(to, _)| circle.contains(to)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (from, to) = (program.files[*from].display(), program.files[*to].display());
                let _ = write!(text, "\n  {from} uses of {to}: {}", names.join(", "));
            }
        }
        found.push(text);
    }
    Ok(found)
}

/// For each file the files that it uses, with the names that it uses of them.
type Uses = BTreeMap<usize, BTreeMap<usize, BTreeSet<String>>>;

/// The files that a file reaches by at least one use.
fn reached(uses: &Uses, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        let further = uses.get(&file).into_iter().flat_map(BTreeMap::keys).copied();
        next.extend(further.filter(|file| reached.insert(*file)).collect::<Vec<_>>());
    }
    reached
}

/// A path of names, such as `crate::config::Probe` without `crate`.
type Names = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
struct Program {
    files: Vec<PathBuf>,
    modules: BTreeMap<Names, Module>,
}

/// A module: a file, or a part of one.
#[derive(Default)]
struct Module {
    file: usize,
    /// The names that the module defines.
    defined: BTreeSet<String>,
    /// The paths that it imports, by the names that they have here; a path begins in this module.
    imported: BTreeMap<String, Names>,
    /// Where it imports everything from.
    globs: Vec<Names>,
    /// The paths that it uses without a re-export.
    used: BTreeSet<Names>,
}

impl Program {
    /// Reads a file as a module, and the modules below it; `folder` is where these are.
    fn read(&mut self, file: &Path, folder: &Path, module: Names) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?;
        self.files.push(file.to_path_buf());
        self.add(self.files.len() - 1, folder, module, parsed.items)
    }

    fn add(&mut self, file: usize, folder: &Path, path: Names, items: Vec<Item>) -> Result<()> {
        let mut module = Module { file, ..Module::default() };
        for item in items {
            if is_for_tests(&item) {
                continue;
            }
            match item {
                Item::Mod(below) => {
                    let name = below.ident.to_string();
                    let inside = [&path[..], std::slice::from_ref(&name)].concat();
                    if let Some((_, items)) = below.content {
                        self.add(file, &folder.join(&name), inside, items)?;
                    } else {
                        let (file, below) = file_of(&below, &self.files[file], folder, &name)?;
                        self.read(&file, &below, inside)?;
                    }
                }
                Item::Use(item) => {
                    let is_private = matches!(item.vis, Visibility::Inherited);
                    module.import(&item.tree, &mut Vec::new(), is_private);
                }
                item => {
                    module.defined.extend(name_of(&item));
                    module.visit_item(&item);
                }
            }
        }
        self.modules.insert(path, module);
        Ok(())
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (path, module) in &self.modules {
            let of_file = uses.entry(module.file).or_default();
            for used in &module.used {
                if let Some(file) = self.file_of(path, used, 0).filter(|file| *file != module.file) {
                    of_file.entry(file).or_default().insert(used.join("::"));
                }
            }
        }
        uses
    }

    /// The file that defines what a path in a module names; `None` if that is another crate, or no path.
    fn file_of(&self, from: &[String], path: &[String], depth: usize) -> Option<usize> {
        let mut at = from.to_vec();
        let mut rest = path;
        let mut is_inside = false;
        // Imports of imports: those of a circle of globs would not end.
        if depth > 16 {
            return None;
        }
        while let Some((name, further)) = rest.split_first() {
            match name.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                name => {
                    let module = self.modules.get(&at)?;
                    let below = [&at[..], &[name.to_owned()]].concat();
                    if self.modules.contains_key(&below) {
                        at = below;
                    } else if module.defined.contains(name) {
                        return Some(module.file);
                    } else if let Some(import) = module.imported.get(name) {
                        let whole = [&import[..], further].concat();
                        return self.file_of(&at, &whole, depth + 1);
                    } else {
                        let whole = |glob: &Names| [&glob[..], rest].concat();
                        let found =
                            module.globs.iter().find_map(|glob| self.file_of(&at, &whole(glob), depth + 1));
                        // A macro makes the names that are in no list.
                        return found.or_else(|| is_inside.then_some(module.file));
                    }
                }
            }
            is_inside = true;
            rest = further;
        }
        // A whole module is the names that are used of it, each with its own path.
        None
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, path: &mut Names, is_private: bool) {
        let whole = |name: &str| match name {
            "self" => path.clone(),
            name => [&path[..], &[name.to_owned()]].concat(),
        };
        let mut one = |path: Names, name: String| {
            if is_private {
                self.used.insert(path.clone());
            }
            self.imported.insert(name, path);
        };
        match tree {
            UseTree::Path(further) => {
                path.push(further.ident.to_string());
                self.import(&further.tree, path, is_private);
                path.pop();
            }
            UseTree::Name(name) => {
                let whole = whole(&name.ident.to_string());
                if let Some(name) = whole.last().cloned() {
                    one(whole, name);
                }
            }
            UseTree::Rename(name) => one(whole(&name.ident.to_string()), name.rename.to_string()),
            UseTree::Glob(_) => {
                if is_private {
                    // The names that come of it are not known: it counts as a use of what the module itself
                    // defines.
                    self.used.insert([&path[..], &["*".to_owned()]].concat());
                }
                self.globs.push(path.clone());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path, is_private)),
        }
    }

    /// Takes note of the paths in the arguments of a macro: a name alone may be anything there.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.note(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.note(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.note(path);
    }

    fn note(&mut self, path: Names) {
        if path.len() > 1 {
            self.used.insert(path);
        }
    }
}

impl Visit<'_> for Module {
    fn visit_path(&mut self, path: &syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A name in small letters alone may be a variable; as a function it is counted where it is called.
        if names.len() > 1 || names.iter().any(|name| name.starts_with(char::is_uppercase)) {
            self.used.insert(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(name) = function.path.get_ident()
        {
            self.used.insert(vec![name.to_string()]);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, called: &syn::Macro) {
        self.visit_path(&called.path);
        self.scan(called.tokens.clone());
    }
}

/// The file of a module without a body, and the folder of the modules below it.
fn file_of(module: &ItemMod, from: &Path, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    for attribute in &module.attrs {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("path")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &pair.value
        {
            let file = from.parent().context("a file has a folder")?.join(path.value());
            let below = file.parent().context("a file has a folder")?.to_path_buf();
            return Ok((file, below));
        }
    }
    let below = folder.join(name);
    let file = folder.join(format!("{name}.rs"));
    let file = if file.is_file() { file } else { below.join("mod.rs") };
    Ok((file, below))
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Whether it is compiled for tests alone.
fn is_for_tests(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.to_token_stream().to_string().replace(' ', "") == "cfg(test)"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files, each by the names of its files.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let found = circles_of(&folder.path().join("lib.rs")).unwrap();
        let place = format!("{}/", folder.path().display());
        found.into_iter().map(|circle| circle.replace(&place, "")).collect()
    }

    #[test]
    fn files_that_use_each_other_are_found_by_whatever_way() {
        let both = "mod a; mod b;";
        for (root, a, b) in [
            (both, "use crate::b::B; pub struct A(B);", "use super::a::A; pub struct B(Vec<A>);"),
            (both, "pub fn a() { crate::b::b(); }", "pub fn b() { println!(\"{}\", crate::a::a()); }"),
            // Through a re-export, and through a module that goes by another name.
            (
                "mod a; mod b; pub use a::A;",
                "use crate::b; pub struct A(b::B);",
                "use crate::A; pub struct B(A);",
            ),
            (both, "use crate::b as other; pub struct A(other::B);", "use crate::a::*; pub struct B;"),
        ] {
            let found = circles(&[("lib.rs", root), ("a.rs", a), ("b.rs", b)]);
            assert_eq!(found.len(), 1, "{a} {b}");
            assert!(
                found[0].contains("a.rs uses of b.rs: ") && found[0].contains("b.rs uses of a.rs: "),
                "{found:?}"
            );
        }
        let found = circles(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; pub use b::B; pub struct A; pub fn a() { B::new(); }"),
            ("a/b.rs", "use super::A; pub struct B(A);"),
        ]);
        assert!(found.len() == 1 && found[0].contains("a/b.rs uses of a/mod.rs: A, super::A"), "{found:?}");
        let three = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "use crate::c::C; pub struct B(C);"),
            ("c.rs", "use crate::a::A; pub struct C(A);"),
        ];
        assert_eq!(circles(&three).len(), 1);
    }

    #[test]
    fn a_face_that_hands_names_on_is_in_no_circle() {
        let files = [
            ("lib.rs", "mod a; pub mod b; pub use a::A; #[cfg(test)] mod tests;"),
            ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use crate::A; pub struct B(A); impl B { pub fn a(b: &Self) { b.a(); } }"),
            ("tests.rs", "use super::*; use crate::b::B;"),
        ];
        assert_eq!(circles(&files), Vec::<String>::new());
    }
}
