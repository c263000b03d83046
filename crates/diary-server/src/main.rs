//! The program `diary-server`; all of it is in the library, so that it can be started from elsewhere.

/// Gives memory that sessions have held back to the system. glibc's heap keeps what was freed between what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    diary_server::main()
}
