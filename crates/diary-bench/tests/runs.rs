//! The comparison runs, against our own server and the bare loop, for seconds. What it measures in a debug
//! build says nothing.
//!
//! It starts `diary-server`, which `cargo test --workspace` builds for a test of its own, and `cargo build -p diary-server`
//! alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn the_comparison_runs_against_our_own_server() {
    for row in ["append", "read-", "search", "start", "followers", "memory"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diary-bench"));
        command.args(["compare", "--quick", "--rounds", "1", "--without", "redis,nginx,rg", "--json"]);
        command.args(["--only", row, "--shape", "64x16", "--entries", "20000"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{row}: {output:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = told["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{row}");
        for series in rows.iter().flat_map(|row| row["series"].as_array().unwrap()) {
            assert!(series["median"].as_f64().unwrap() > 0.0, "{row}: {series}");
        }
    }
}

/// A copy of the program has no server beside it.
#[test]
fn a_program_that_is_missing_is_named_with_what_builds_it() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("diary-bench");
    std::fs::copy(env!("CARGO_BIN_EXE_diary-bench"), &alone).unwrap();
    let nowhere = folder.path().join("nowhere");
    let named = ["--server", nowhere.to_str().unwrap()];
    let not_built = format!("{}-server is not built; `cargo build", folder.path().join("diary").display());
    for (options, words) in
        [(&[][..], not_built), (&named, format!("--server: {} is not there", nowhere.display()))]
    {
        let mut command = Command::new(&alone);
        command.args(["compare", "--quick", "--without", "redis,nginx,rg", "--only", "append-frames"]);
        let output = command.args(options).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(&words), "{said}");
    }
}

#[test]
fn a_peer_that_is_missing_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diary-bench"));
    let output = command.args(["compare", "--quick"]).env("PATH", "/nowhere").output().unwrap();
    // Debian's nginx is looked for beside the path.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("not here: redis-server") && said.contains("rg; ") && said.contains("--without redis,"),
        "{said}"
    );
}
