//! `diary-server`, for the tests.

/// Gives memory that sessions have held back to the system. glibc's heap keeps what was freed between what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    diary_server::main()
}
