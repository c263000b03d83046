//! `diary-server`, for the tests.

fn main() -> std::process::ExitCode {
    diary_server::main()
}
