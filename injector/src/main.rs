//! The `injector` command.

fn main() -> std::process::ExitCode {
    // First: reading the command line goes deep already.
    if let Err(error) = injector::stack::raise() {
        return injector::cli::refuse(&error);
    }
    injector::cli::main()
}
