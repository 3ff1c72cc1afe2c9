//! The command line: reads flags, environment and file, calls the library, prints.
//!
//! Results go to standard output and nothing else does; what a person has to know goes to standard error. Exit codes:
//! 0 done, 1 it could not be done or something was found, 2 the command line itself is wrong.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
