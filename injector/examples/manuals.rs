//! Writes the manual pages and the completions of shells into a folder: `manuals FOLDER`. Both come from the command line's
//! own definitions. `cargo xtask dist` runs it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use injector::cli::args::CommandLine;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: manuals FOLDER");
        return ExitCode::from(64);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}

/// `man/injector.1`, one page for each command, and `completions/` for bash, zsh and fish.
fn write(folder: &Path) -> std::io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let command = CommandLine::command().version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut without_hidden(&command), "injector", &completions)?;
    }
    Ok(())
}

/// The command without those that are for other programs: completions would offer them.
fn without_hidden(command: &clap::Command) -> clap::Command {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("injector")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(shown.cloned())
}
