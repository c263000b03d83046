//! Verify, repair and archive, as an operator uses them; and a backup taken while the server writes.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{Lines, Process, is_ack, plain_server_command, soon};

async fn upkeep(data: &Path, arguments: &[&str]) -> Output {
    // The subcommand comes before its flags.
    let mut command = plain_server_command();
    command.args(&arguments[..1]).arg("--data").arg(data).args(&arguments[1..]);
    soon("it ends", command.output()).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn verify_beside_a_running_server_and_archive_not() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
    let mut client = Lines::connect(process.address()).await;
    for seq in 1..=20 {
        assert!(is_ack(&client.ask("a line").await, seq));
        if seq % 5 == 0 {
            let verified = upkeep(folder.path(), &["verify"]).await;
            assert_eq!(verified.status.code(), Some(0), "{verified:?}");
            assert!(
                text(&verified.stdout).contains(&format!(", up to {seq}, in 1 day file")),
                "{verified:?}"
            );
        }
    }
    let held = upkeep(folder.path(), &["archive"]).await;
    assert_eq!(held.status.code(), Some(4));
    assert!(text(&held.stderr).starts_with("diary-server: another diary-server is using "), "{held:?}");
    assert_eq!(text(&held.stderr).lines().count(), 1);
}

#[tokio::test]
async fn damage_is_found_repaired_beside_and_archived() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
    let mut client = Lines::connect(process.address()).await;
    for seq in 1..=5 {
        assert!(is_ack(&client.ask(&format!("line {seq}")).await, seq));
    }
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().await, Some(0));

    let journal = folder.path().join("diary");
    let mut days = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
    let day = days.find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    let damaged = std::fs::read_to_string(&day).unwrap().replace("line 3", "lime 3");
    std::fs::write(&day, &damaged).unwrap();

    let found = upkeep(folder.path(), &["verify"]).await;
    assert_eq!(found.status.code(), Some(6), "{found:?}");
    let name = day.file_name().unwrap().to_str().unwrap();
    assert!(
        text(&found.stdout)
            .contains(&format!("{name} line 4: the line is damaged (the entry before it is 2)\n"))
    );
    assert!(text(&found.stdout).contains("entry 3 is missing before it"), "{found:?}");
    assert!(
        text(&found.stdout)
            .ends_with("`diary-server repair` makes a copy without damage, of all that is there\n")
    );
    for flags in [&[][..], &["--json"]] {
        let mut command = plain_server_command();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        command.arg("verify").arg("--data").arg(folder.path()).args(flags).stdout(full);
        let ended = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        let ended = soon("it ends", ended).await.unwrap();
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2));
        assert!(said.starts_with("diary-server: the output cannot be written: No space left"), "{said}");
    }
    let json = upkeep(folder.path(), &["verify", "--json"]).await;
    assert_eq!(json.status.code(), Some(6));
    assert!(text(&json.stdout).lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{json:?}");

    let repaired = upkeep(folder.path(), &["repair"]).await;
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    assert_eq!(std::fs::read_to_string(&day).unwrap(), damaged, "the original is not touched");
    let copy = upkeep(folder.path(), &["verify", "--journal", "diary.repaired"]).await;
    assert_eq!(copy.status.code(), Some(0), "{copy:?}");

    let archived = upkeep(folder.path(), &["archive"]).await;
    assert_eq!(archived.status.code(), Some(0), "{archived:?}");
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(is_ack(&client.ask("afresh").await, 6), "seqs go on");
    client.send("/history all\n").await;
    assert_eq!(client.line().await, "ok history");
    assert!(client.line().await.ends_with(" local afresh"));
    assert_eq!(client.line().await, "end 1");

    let behind = upkeep(
        folder.path(),
        &["repair", "--journal", "diary", "--to", folder.path().join("behind").to_str().unwrap()],
    )
    .await;
    let said = text(&behind.stdout);
    assert!(
        said.contains(
            "a server is using this diary; entries that it accepts from now on are not in the copy"
        ),
        "{said}"
    );
    assert!(!said.contains("to use it: "), "{said}");
}

/// A backup is a copy of the folder, taken live: a server starts on it, and has everything that was acked
/// before the copy began.
#[tokio::test]
async fn a_copy_taken_while_the_server_writes() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
    let mut client = Lines::connect(process.address()).await;
    let lines: String = (0..200_000).map(|n| format!("line {n} of many\n")).collect();
    let Lines { reader, writer, .. } = &mut client;
    let (acked, begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let mut acked = Some(acked);
    let write = async { tokio::io::AsyncWriteExt::write_all(writer, lines.as_bytes()).await.unwrap() };
    let read = async {
        let mut line = String::new();
        for seq in 1..=200_000 {
            line.clear();
            tokio::io::AsyncBufReadExt::read_line(reader, &mut line).await.unwrap();
            assert!(is_ack(line.trim_end(), seq));
            if seq == 20_000 {
                acked.take().unwrap().send(()).unwrap();
            }
        }
    };
    let copies = tempfile::tempdir().unwrap();
    let copy = async {
        begun.take().unwrap().await.unwrap();
        let to = copies.path().join("diary");
        let status =
            tokio::process::Command::new("cp").arg("-a").arg(folder.path().join("diary")).arg(&to).status();
        assert!(status.await.unwrap().success());
        let verified = upkeep(copies.path(), &["verify"]).await;
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
        let copied = Process::start(copies.path(), &["127.0.0.1:0"], &[]).await;
        let greeting = Lines::connect(copied.address()).await.greeting;
        let head = greeting.split("head=").nth(1).unwrap().split(' ').next().unwrap();
        assert!(head.parse::<u64>().unwrap() >= 20_000, "{greeting}");
    };
    soon("writing, reading and copying", async { tokio::join!(write, read, copy) }).await;
}
