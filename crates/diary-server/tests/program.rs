//! The program starts. `cargo test --workspace` builds it for this test, and others start it, too.

use std::process::Command;

#[test]
fn the_program_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_diary-server")).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.starts_with("diary-server "), "{said}");
}
