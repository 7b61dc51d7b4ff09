//! The `injector` command.

fn main() -> std::process::ExitCode {
    injector::stack::run_on_enough(injector::cli::main)
}
