//! The attribute by which a test declares what it needs. `injector-lab` exports it and has what it expands to.

use std::fmt::Write as _;

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Declares what a test needs, beside `#[test]`:
///
/// ```ignore
/// #[test]
/// #[needs(root, tcx, alone, program = "nft")]
/// fn a_chain_of_nftables_is_noticed() { … }
/// ```
///
/// | word | the test |
/// |---|---|
/// | `root` | needs root, for namespaces and eBPF |
/// | `tcx` | needs a kernel with TCX |
/// | `alone` | measures, so no other test may run beside it |
/// | `quiet` | needs a machine that is not busy, so only tests that say the same run beside it, one for each processor |
/// | `minutes = 2` | takes about so long, so it begins early; from 5 on it runs only with `cargo xtask test --long` |
/// | `every_kernel` | shows what may differ between kernels, so `cargo xtask vm --short` runs it too |
/// | `program = "nft"` | runs this program, which `cargo xtask test` installs |
/// | `example = "quorum"` | runs this example of its package, which `cargo xtask test` builds |
///
/// Where something is missing, the test logs that it is skipped, and why, and returns.
#[proc_macro_attribute]
pub fn needs(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let expanded = declared(arguments).and_then(|needs| guarded(&needs, function));
    expanded.unwrap_or_else(|why| {
        let error = format!("::core::compile_error!({why:?});");
        error.parse().expect("an error is a macro call")
    })
}

/// The value of `injector_lab::Needs` that the words say.
fn declared(arguments: TokenStream) -> Result<String, String> {
    let (mut root, mut tcx, mut alone, mut minutes) = (false, false, false, "0".to_owned());
    let (mut programs, mut examples) = (String::new(), String::new());
    let mut tokens = arguments.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(word) = &token else { return Err(format!("`{token}` is no need of a test")) };
        let mut value = None;
        if matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '=') {
            tokens.next();
            value = tokens.next().map(|value| value.to_string());
        }
        match (word.to_string().as_str(), value) {
            ("root", None) => root = true,
            ("tcx", None) => tcx = true,
            // Which programs run beside it, `cargo xtask test` decides.
            ("alone" | "quiet", None) => alone = true,
            ("minutes", Some(value)) => minutes = value,
            // Only `cargo xtask vm` asks for it.
            ("every_kernel", None) => {}
            ("program", Some(value)) => _ = write!(programs, "{value},"),
            ("example", Some(value)) => _ = write!(examples, "{value},"),
            (word, _) => {
                return Err(format!(
                    "a test needs root, tcx, alone, quiet, every_kernel, minutes = …, program = … or example = …, not `{word}`"
                ));
            }
        }
        match tokens.next() {
            Some(TokenTree::Punct(punct)) if punct.as_char() == ',' => {}
            None => {}
            Some(other) => return Err(format!("a comma is missing before `{other}`")),
        }
    }
    Ok(format!(
        "::injector_lab::Needs {{ root: {root}, tcx: {tcx}, alone: {alone}, minutes: {minutes}, \
         programs: &[{programs}], examples: &[{examples}] }}"
    ))
}

/// The function, whose body runs in the test's turn.
fn guarded(needs: &str, function: TokenStream) -> Result<TokenStream, String> {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let named = tokens.windows(2).find_map(|pair| match pair {
        [TokenTree::Ident(word), TokenTree::Ident(name)] if word.to_string() == "fn" => {
            Some(name.to_string())
        }
        _ => None,
    });
    let name = named.ok_or("`needs` goes with a function")?;
    let body = match tokens.pop() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => body,
        _ => return Err(format!("{name} has no body")),
    };
    let guard = format!(
        "let ::core::option::Option::Some(_turn) = ::injector_lab::meet({name:?}, &{needs}) else {{ return }};"
    );
    let mut guarded: TokenStream = guard.parse().map_err(|error| format!("{name}: {error}"))?;
    // A block of its own, so that the body's items are not after a statement.
    guarded.extend([TokenTree::Group(body.clone())]);
    let mut whole = proc_macro::Group::new(Delimiter::Brace, guarded);
    whole.set_span(body.span());
    tokens.push(TokenTree::Group(whole));
    Ok(tokens.into_iter().collect())
}
