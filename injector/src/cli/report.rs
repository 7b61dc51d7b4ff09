//! `injector report`: a run directory as text, and as files; several as one page.

use super::args::{Common, Report};
use super::failure::{Exit, Failure};
use super::output::show;
use injector_core::report::{IndexOptions, ReportOptions, index, report};

pub(super) fn run(common: &Common, args: Report) -> Result<Exit, Failure> {
    if let Some(html) = args.index {
        let options = IndexOptions { html, served_within: args.served_within };
        let made = index(&args.directories, &options)?;
        show(common, &made.json, || made.text)?;
        return Ok(Exit::OK);
    }
    let [directory] = &args.directories[..] else {
        return Err(Failure::usage(
            "report takes one run directory; for a page over several, add --index index.html, and to compare two, \
             use `injector compare A B`",
        ));
    };
    let options = ReportOptions {
        html: args.html,
        junit: args.junit,
        csv: args.csv,
        served_within: args.served_within,
    };
    let made = report(directory, &options)?;
    show(common, &made.json, || made.text)?;
    Ok(Exit::OK)
}
