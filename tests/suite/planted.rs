//! A journal's folder that others can write to: it is told, and what they put there leads no write out of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{Lines, Process, is_ack, plain_server_command, soon};

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_told_with_the_command_that_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path(), folder.path().join("log"));
    let journal = data.join("diary");
    fs::create_dir(&journal).unwrap();
    let command = format!("chmod go-w '{}'", journal.canonicalize().unwrap().display());
    for (mode, told) in [(0o777, 1), (0o700, 0)] {
        fs::set_permissions(&journal, fs::Permissions::from_mode(mode)).unwrap();
        let process = Process::start_logging(data, &[], &log).await;
        let mut client = Lines::connect(process.address()).await;
        assert!(client.ask("a line").await.starts_with("ok "));
        process.stop().await;
        let said = fs::read_to_string(&log).unwrap();
        let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), told, "{said}");
        assert!(warnings.iter().all(|warning| warning.contains(&command)), "{said}");

        let mut verify = plain_server_command();
        let verified = soon("it ends", verify.arg("verify").arg("--data").arg(data).output()).await.unwrap();
        assert_eq!(verified.status.code(), Some(0), "it is no damage");
        let said = String::from_utf8(verified.stderr).unwrap();
        assert_eq!(said.matches(&command).count(), told, "{said}");
    }
}

#[tokio::test]
async fn a_planted_link_leads_no_server_to_another_file() {
    for name in ["head", "head.new", "cache", "cache.new"] {
        let folder = tempfile::tempdir().unwrap();
        let (journal, victim) = (folder.path().join("diary"), folder.path().join("victim"));
        fs::create_dir(&journal).unwrap();
        fs::write(&victim, "somebody else's").unwrap();
        symlink(&victim, journal.join(name)).unwrap();
        for seq in 1..4 {
            let process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
            let mut client = Lines::connect(process.address()).await;
            assert!(is_ack(&client.ask("a line").await, seq));
            process.stop().await;
            assert_eq!(fs::read_to_string(&victim).unwrap(), "somebody else's", "{name}");
        }
        assert!(fs::symlink_metadata(journal.join("head")).unwrap().is_file());
    }
}
