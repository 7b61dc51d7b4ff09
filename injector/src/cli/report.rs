//! `injector report`: a run directory as text, and as files.

use super::args::{Common, Report};
use super::failure::{Exit, Failure};
use super::output::show;
use injector_core::report::{ReportOptions, report};

pub(super) fn run(common: &Common, args: Report) -> Result<Exit, Failure> {
    let options = ReportOptions {
        html: args.html,
        junit: args.junit,
        csv: args.csv,
        served_within: args.served_within,
    };
    let made = report(&args.directory, &options)?;
    show(common, &made.json, || made.text)?;
    Ok(Exit::OK)
}
