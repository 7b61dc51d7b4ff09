//! A page as it is written: markup, and text that is escaped.

use std::fmt::{Display, Write as _};

use crate::report::escape::Escaped;

const CSS: &str = include_str!("page/page.css");

/// The page's script: a single function around all parts, since later parts use the names of earlier ones.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/base.js"),
    include_str!("page/curve.js"),
    include_str!("page/strip.js"),
    include_str!("page/timeline.js"),
    include_str!("page/outages.js"),
    include_str!("page/phases.js"),
    include_str!("page/index.js"),
    include_str!("page/main.js"),
    "})();\n"
);

/// A page that is being written; every `Display` given to it is escaped, only literals are markup.
pub(super) struct Page(String);

impl Page {
    pub(super) fn markup(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        write!(self.0, "{}", Escaped(text)).expect("writing to a String cannot fail");
        self
    }

    pub(super) fn element(&mut self, open: &str, text: impl Display, close: &str) -> &mut Self {
        self.markup(open).text(text).markup(close)
    }

    pub(super) fn row(&mut self, open: &str, cells: &[String]) {
        self.markup(open);
        for cell in cells {
            self.element("<td>", cell, "</td>");
        }
        self.markup("</tr>");
    }

    pub(super) fn head(&mut self, heads: &[&str]) {
        self.table("<table>", heads);
    }

    pub(super) fn table(&mut self, open: &str, heads: &[&str]) {
        self.markup("<div class=\"scroll\">").markup(open).markup("<thead><tr>");
        for head in heads {
            self.element("<th>", head, "</th>");
        }
        self.markup("</tr></thead><tbody>");
    }

    pub(super) fn end_table(&mut self) {
        self.markup("</tbody></table></div>");
    }
}

/// How every page begins.
pub(in crate::report) const OPENING: &str = "<!doctype html>";

pub(super) fn begin(title: &str) -> Page {
    let mut page = Page(String::new());
    page.markup(OPENING)
        .markup("<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        // Nothing may be fetched, also should a name ever get past the escaping.
        .markup("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">")
        .markup("<link rel=\"icon\" href=\"data:,\">")
        .element("<title>", title, "</title>")
        .markup("<style>")
        .markup(CSS)
        .markup("</style></head><body><main>");
    page
}

pub(super) fn end(mut page: Page, json: &str) -> String {
    page.markup("</main><script id=\"data\" type=\"application/json\">")
        .markup(json)
        .markup("</script><script>")
        .markup(SCRIPT)
        .markup("</script></body></html>\n");
    page.0
}

pub(super) fn section(page: &mut Page, id: &str, title: &str, note: &str) {
    page.markup("<section id=\"").markup(id).markup("\">").element("<h2>", title, "</h2>");
    if !note.is_empty() {
        page.element("<p class=\"note\">", note, "</p>");
    }
}
