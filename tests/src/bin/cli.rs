//! `diary`, for the tests.

fn main() -> std::process::ExitCode {
    diary_cli::main()
}
