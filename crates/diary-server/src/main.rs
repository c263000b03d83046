//! The program `diary-server`; all of it is in the library, so that it can be started from elsewhere.

fn main() -> std::process::ExitCode {
    diary_server::main()
}
