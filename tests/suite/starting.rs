//! Starting: exit codes, one sentence for each failure, and what is made where.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::faulty::is_root;
use crate::support::{Lines, Process, full_pipe, is_ack, plain_server_command, say, server_command, soon};

/// A user without rights, for tests of permissions where they run as root.
const NOBODY: u32 = 65_534;

/// Runs a server that must not start, and checks its exit code and that it says why in one sentence
/// that holds all of `words`.
async fn check_fails(mut command: Command, code: i32, words: &[&str]) {
    command.env("RUST_BACKTRACE", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { status, stdout, stderr } = soon("it gives up", command.output()).await.unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{said}");
    assert_eq!(stdout, b"", "{words:?}: it listens on nothing");
    let reasons: Vec<&str> = said.lines().filter(|line| line.starts_with("diary-server: ")).collect();
    assert_eq!(reasons.len(), 1, "{said}");
    for word in words {
        assert!(reasons[0].contains(word), "{said} has no {word:?}");
    }
    assert!(!said.contains("panicked") && !said.contains("backtrace") && !said.contains("  at "), "{said}");
    // Besides the reason there is only the log.
    let log = |line: &&str| {
        !line.starts_with("diary-server: ") && !line.contains(" INFO ") && !line.contains("WARN ")
    };
    assert_eq!(said.lines().filter(log).collect::<Vec<_>>(), [""; 0], "{said}");
}

/// A command for a server on a free port.
fn on_free_port(data: &Path) -> Command {
    let mut command = server_command(data);
    command.args(["--listen", "127.0.0.1:0"]);
    command
}

// --- the data folder: exit code 4 ------------------------------------------------------------------------

#[tokio::test]
async fn a_data_folder_that_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    check_fails(on_free_port(&file), 4, &[file.to_str().unwrap()]).await;
    check_fails(on_free_port(&file.join("below")), 4, &[file.to_str().unwrap()]).await;
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("diary"), "text").unwrap();
    check_fails(on_free_port(&data), 4, &[data.join("diary").to_str().unwrap()]).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"text");
}

#[tokio::test]
async fn a_data_folder_without_permission() {
    let folder = tempfile::tempdir().unwrap();
    let allow =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(folder.path(), 0o755);
    // Root may do everything: the program runs as somebody else, from where they may read it.
    let program = folder.path().join("diary-server");
    // A copy by this process could be open for writing in a child of another test, and then not run.
    let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_diary-server-under-test")).arg(&program).status();
    assert!(copy.await.unwrap().success());
    let command = |data: &Path| {
        let mut command = Command::new(&program);
        command
            .env_clear()
            .args(["--log", "warn", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    allow(&closed, 0o000);
    check_fails(command(&closed), 4, &[closed.to_str().unwrap(), "ermission denied"]).await;
    let read_only = folder.path().join("read-only");
    std::fs::create_dir(&read_only).unwrap();
    allow(&read_only, 0o555);
    check_fails(command(&read_only), 4, &[read_only.to_str().unwrap(), "ermission denied"]).await;
    allow(&closed, 0o755);

    // The same program and user can use a folder of their own.
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    allow(&open, 0o777);
    let process = Process::spawn(command(&open), 1).await;
    assert!(is_ack(&Lines::connect(process.address()).await.ask("one").await, 1));
    process.stop().await;
}

#[tokio::test]
async fn a_data_folder_that_another_server_has() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &["--log", "error"]).await;
    let journal = folder.path().join("diary");
    check_fails(
        on_free_port(folder.path()),
        4,
        &["another diary-server", journal.to_str().unwrap(), "--data"],
    )
    .await;
    // The other one is not disturbed, and another journal in the same folder is free.
    assert!(is_ack(&Lines::connect(process.address()).await.ask("one").await, 1));
    let second =
        Process::start(folder.path(), &["127.0.0.1:0"], &["--journal", "work", "--log", "error"]).await;
    let mut client = Lines::connect(second.address()).await;
    assert!(client.greeting.contains(" head=0 journal=work "), "{}", client.greeting);
    assert!(is_ack(&client.ask("one").await, 1));
    drop(client);
    process.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_data_folder_of_a_newer_format() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("diary");
    std::fs::create_dir(&journal).unwrap();
    let mut header = b"# diary 2 2026-11-21 id=5f0c9e27a1b34d68 first=1 after=-\t".to_vec();
    diary_proto::Seal::PLAIN.write(&mut header, 0);
    std::fs::write(journal.join("2026-11-21.log"), &header).unwrap();
    check_fails(on_free_port(folder.path()), 4, &["2026-11-21.log has format 2", "newer diary-server"]).await;
    assert_eq!(std::fs::read(journal.join("2026-11-21.log")).unwrap(), header);
}

// --- addresses: exit code 3 ------------------------------------------------------------------------------

#[tokio::test]
async fn an_address_in_use_names_the_address_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let mut command = server_command(folder.path());
    command.args(["--listen", &address]);
    check_fails(command, 3, &[&address, "the address is in use", "--listen"]).await;
    let mut command = on_free_port(folder.path());
    command.args(["--listen", &format!("quiet:{address}")]);
    check_fails(command, 3, &[&address, "the address is in use"]).await;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let mut command = on_free_port(folder.path());
    command.args(["--udp", &address]);
    check_fails(command, 3, &[&format!("udp:{address}"), "the address is in use"]).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[tokio::test]
async fn an_address_that_cannot_be_had() {
    let folder = tempfile::tempdir().unwrap();
    // TEST-NET-1 (RFC 5737) is nobody's, and .invalid (RFC 6761) never resolves.
    for (listen, words) in [
        ("192.0.2.1:0", &["192.0.2.1:0", "does not have that address"][..]),
        ("diary.invalid:0", &["diary.invalid:0"]),
        ("unix:/nonexistent/folder/socket", &["unix:/nonexistent/folder/socket"]),
    ] {
        let mut command = server_command(folder.path());
        command.args(["--listen", listen]);
        check_fails(command, 3, words).await;
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (folder.path().join("socket"), folder.path().join("data"));
    let listen = format!("unix:{}", path.display());
    let in_use = || {
        let mut command = server_command(&folder.path().join("other"));
        command.args(["--listen", &listen]);
        command
    };
    // What a killed server leaves.
    drop(UnixListener::bind(&path).unwrap());
    let mut process = Process::start(&data, &[&listen], &["--log", "error"]).await;
    assert_eq!(process.address(), listen);
    check_fails(in_use(), 3, &[&listen, "the address is in use"]).await;
    assert!(tokio::net::UnixStream::connect(&path).await.is_ok(), "the live one is still there");
    process.signal(rustix::process::Signal::KILL);
    process.wait().await;
    Process::start(&data, &[&listen], &["--log", "error"]).await.stop().await;
    std::fs::write(&path, "a file").unwrap();
    check_fails(in_use(), 3, &[&listen]).await;
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

// --- usage: exit code 2 ----------------------------------------------------------------------------------

#[tokio::test]
async fn bad_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["--nonsense"][..], &["--nonsense"][..]),
        (&["surplus"], &["surplus"]),
        (&["--listen", "localhost"], &["localhost:8888"]),
        (&["--listen", "localhost:99999"], &["99999 is not a port"]),
        (&["--listen", "::1:8888"], &["[::1]:8888"]),
        (&["--listen", "unix:"], &["unix: needs a path"]),
        (&["--listen", "quiet:nowhere"], &["port"]),
        (&["--udp", "localhost"], &["localhost:8888"]),
        (&["--journal", "a/b"], &["journal"]),
        (&["--journal", ".."], &["journal"]),
        (&["--journal", ""], &["journal"]),
        (&["--socket-mode", "rw"], &["rw", "660"]),
        (&["--socket-mode", "680"], &["680", "660"]),
        (&["--socket-mode", "1660"], &["1660", "660"]),
    ] {
        let mut command = on_free_port(folder.path());
        let output = soon("it gives up", command.args(arguments).output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}: {said}");
        assert!(
            said.starts_with("error: ") && words.iter().all(|word| said.contains(word)),
            "{arguments:?}: {said}"
        );
    }
    for (arguments, words) in [
        (["--timezone", "Mars/Olympus"], &["Mars/Olympus is not a time zone", "Asia/Shanghai"][..]),
        (["--log", "diary=loud=x"], &["--log diary=loud=x"]),
    ] {
        let mut command = on_free_port(folder.path());
        command.args(arguments);
        check_fails(command, 2, words).await;
    }
    assert!(!folder.path().join("diary").exists(), "nothing was made");
}

#[tokio::test]
async fn help_and_version_are_no_failures() {
    for (argument, words) in
        [("--help", &["--listen", "DIARY_LISTEN", "--data"][..]), ("--version", &["diary-server 0"])]
    {
        let output = server_command(Path::new("/nonexistent")).arg(argument).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

// --- outputs that nobody reads ---------------------------------------------------------------------------

#[tokio::test]
async fn an_error_that_nobody_reads_ends_it_with_its_code_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code) in [
        (&["--nonsense"][..], 2),
        (&["--log", "loud"], 2),
        (&["--timezone", "Mars/Olympus"], 2),
        (&["--listen", &taken], 3),
        (&["--listen", "127.0.0.1:0", "--data", file], 4),
        (&["verify", "--data", file], 4),
    ] {
        let mut command = plain_server_command();
        if code == 3 {
            command.arg("--data").arg(folder.path());
        }
        let (_nobody_reads, full) = full_pipe();
        command.args(arguments).stdout(Stdio::null()).stderr(full);
        let status = soon("it gives up", command.status()).await.unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn addresses_that_nobody_reads_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut command = server_command(folder.path());
    let (_nobody_reads, full) = full_pipe();
    command.args(["--listen", &format!("unix:{}", socket.display())]).stdout(full).stderr(Stdio::piped());
    let mut process = Process { child: command.spawn().unwrap(), addresses: Vec::new() };
    let mut log = BufReader::new(process.child.stderr.take().unwrap()).lines();
    loop {
        let line = soon("it starts", log.next_line()).await.unwrap().unwrap();
        if line.contains("the journal diary is open") {
            break;
        }
    }
    let answer = say(tokio::net::UnixStream::connect(&socket).await.unwrap(), b"one\n").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.lines().nth(1).is_some_and(|line| is_ack(line, 1)), "{answer}");
    process.stop().await;
}

// --- what works ------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_listener_is_printed_whatever_the_log_says() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    for log in ["off", "error", "trace", "diary_server=warn"] {
        let mut command = on_free_port(&folder.path().join("data"));
        command.args([
            "--listen",
            "quiet:127.0.0.1:0",
            "--listen",
            &unix,
            "--udp",
            "127.0.0.1:0",
            "--log",
            log,
        ]);
        command.stderr(Stdio::null());
        let process = Process::spawn(command, 4).await;
        let [tcp, quiet, socket, udp] = &process.addresses[..] else { panic!("{:?}", process.addresses) };
        assert!(tcp.starts_with("127.0.0.1:") && !tcp.ends_with(":0"), "{tcp}");
        assert!(quiet.starts_with("quiet:127.0.0.1:") && !quiet.ends_with(":0"), "{quiet}");
        assert_eq!(*socket, unix);
        assert!(udp.starts_with("udp:127.0.0.1:") && !udp.ends_with(":0"), "{udp}");
        assert!(Lines::connect(tcp).await.greeting.starts_with("diary/1 "));
        process.stop().await;
    }
}

#[tokio::test]
async fn variables_say_what_flags_say_and_flags_win() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let unix = format!("unix:{}", folder.path().join("socket").display());
    let variables = || {
        let mut command = server_command(Path::new("/"));
        // Without the flag that every other test has.
        command = Command::new(command.as_std().get_program());
        command.env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.env("DIARY_DATA", &data).env("DIARY_LISTEN", format!("127.0.0.1:0,{unix}"));
        command.env("DIARY_UDP", "127.0.0.1:0").env("DIARY_JOURNAL", "work");
        command.env("DIARY_TIMEZONE", "Asia/Kathmandu").env("DIARY_LOG", "error");
        command
    };
    let process = Process::spawn(variables(), 3).await;
    assert_eq!(process.addresses[1], unix);
    let mut client = Lines::connect(process.address()).await;
    assert!(client.greeting.contains(" journal=work "), "{}", client.greeting);
    assert!(client.ask("one").await.ends_with("+05:45"));
    assert!(data.join("work").is_dir());
    drop(client);
    process.stop().await;

    let mut command = variables();
    command.args(["--listen", "127.0.0.1:0", "--journal", "home", "--timezone", "UTC"]);
    let process = Process::spawn(command, 2).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(client.greeting.contains(" head=0 journal=home "), "{}", client.greeting);
    assert!(client.ask("one").await.ends_with("+00:00"));
    drop(client);
    process.stop().await;
}

#[tokio::test]
async fn the_data_folder_is_where_it_is_said_and_the_log_says_where() {
    let home = tempfile::tempdir().unwrap();
    for (name, value, data) in [
        ("XDG_DATA_HOME", home.path().join("xdg"), home.path().join("xdg/diary")),
        ("HOME", home.path().to_owned(), home.path().join(".local/share/diary")),
    ] {
        let mut command = Command::new(server_command(Path::new("/")).as_std().get_program());
        command.env_clear().kill_on_drop(true).env(name, value).args([
            "--listen",
            "127.0.0.1:0",
            "--timezone",
            "UTC",
        ]);
        command.stderr(Stdio::piped());
        let mut process = Process::spawn(command, 1).await;
        let mut log = BufReader::new(process.child.stderr.take().unwrap()).lines();
        let opened = loop {
            let line = soon("the log says where", log.next_line()).await.unwrap().unwrap();
            if line.contains("the journal diary is open") {
                break line;
            }
        };
        assert!(opened.contains(data.join("diary").to_str().unwrap()) && opened.contains("UTC"), "{opened}");
        assert!(data.join("diary").is_dir());
        process.stop().await;
    }
    let mut homeless = Command::new(server_command(Path::new("/")).as_std().get_program());
    homeless.env_clear().args(["--listen", "127.0.0.1:0"]);
    check_fails(homeless, 2, &["--data"]).await;
}

#[tokio::test]
async fn files_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("made/on/the/way");
    let process = Process::start(&data, &["127.0.0.1:0"], &["--log", "error"]).await;
    assert!(is_ack(&Lines::connect(process.address()).await.ask("one").await, 1));
    process.stop().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("diary"))), (0o700, 0o700));
    let mut names = Vec::new();
    for file in std::fs::read_dir(data.join("diary")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        names.push(file.extension().map(|extension| extension.to_owned()));
    }
    assert!(names.contains(&Some("log".into())), "{names:?}");
}

#[tokio::test]
async fn without_ipv6_a_server_for_every_address_starts_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let has_ipv6 = TcpListener::bind("[::]:0").is_ok();
    let mut command = server_command(folder.path());
    command.args(["--listen", ":0", "--open"]).stderr(Stdio::piped());
    let mut process = Process::spawn(command, 1 + usize::from(has_ipv6)).await;
    let port = process.address().strip_prefix("0.0.0.0:").unwrap().to_owned();
    assert!(Lines::connect(&format!("127.0.0.1:{port}")).await.greeting.starts_with("diary/1 "));
    if has_ipv6 {
        let port = process.addresses[1].strip_prefix("[::]:").unwrap();
        assert!(Lines::connect(&format!("[::1]:{port}")).await.greeting.starts_with("diary/1 "));
    }
    // Beyond loopback, a warning says what that means.
    let mut log = BufReader::new(process.child.stderr.take().unwrap()).lines();
    loop {
        let line = soon("a warning", log.next_line()).await.unwrap().expect("a warning comes");
        if line.contains("WARN") {
            assert!(line.contains("0.0.0.0:") && line.contains("reads and writes"), "{line}");
            break;
        }
    }
    process.stop().await;
}
