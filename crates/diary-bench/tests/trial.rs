//! The load trial, small, as it fits a debug build and few open files.
//!
//! The programs that it starts are built by `cargo test --workspace`, or by `cargo build -p diary-server -p diary-cli`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// Under a limit on open files that leaves a server 536 connections.
fn trial(options: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=600:600", env!("CARGO_BIN_EXE_diary-bench"), "trial"]);
    command.args(options).output().unwrap()
}

#[test]
fn a_small_trial_holds_every_bound() {
    let output = trial(&[
        "--idle=300",
        "--slow=50",
        "--writers=8",
        "--followers=10",
        "--readers=4",
        "--entries=20000",
        "--seconds=2",
    ]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("one is told that it is too many: 536, exactly 536"), "{told}");
    assert!(told.contains("every ack is an entry once, and in order"), "{told}");
}

#[test]
fn a_crowd_that_no_server_takes_is_refused() {
    let output = trial(&["--idle=600"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("these are 1385 connections") && said.contains("takes 536 here"), "{said}");
}
