//! `diary login`: which server the client trusts, what it shows to it, and what it keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_access::Token;
use diary_server::Listen;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::{stranger, token};
use crate::addresses::is_inside;
use crate::support::{
    CTRL_C, CTRL_D, EC, Process, Ran, Server, Terminal, certificate_in, cli_command, make_certificate, peer,
    run, soon, stored,
};
use crate::tls_identity::fingerprint_by_openssl;

/// Token of nobody.
const TOKEN: &str = "diary_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq";

/// A user's home.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn cli(&self, words: &[&str]) -> Command {
        let mut command = cli_command();
        command.args(words).env("HOME", self.0.path()).env("USER", "zoe").env("TZ", "UTC");
        command
    }

    pub(crate) async fn run(&self, words: &[&str], input: &str) -> Ran {
        run(&mut self.cli(words), input).await
    }

    /// Logs in, and asserts that it works.
    async fn logs_in(&self, address: &str, fingerprint: &str, token: &Token) {
        let words = ["login", address, "--fingerprint", fingerprint];
        check(&self.run(&words, token.reveal()).await, 0, &["logged in as "]);
    }

    fn credentials(&self) -> PathBuf {
        self.0.path().join(".config/diary/credentials")
    }

    /// Writes a credentials file by hand.
    fn knows(&self, address: &str, fingerprint: &str, token: &str) {
        fs::create_dir_all(self.credentials().parent().unwrap()).unwrap();
        let text = format!("[\"{address}\"]\nfingerprint = \"{fingerprint}\"\ntoken = \"{token}\"\n");
        fs::write(self.credentials(), text).unwrap();
        fs::set_permissions(self.credentials(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Files that have this text in them.
    fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let (mut folders, mut found) = (vec![self.0.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if String::from_utf8_lossy(&fs::read(&entry).unwrap()).contains(text) {
                    found.push(entry);
                }
            }
        }
        found
    }
}

/// A server that speaks TLS, its address, and its fingerprint.
async fn with_tls(folder: tempfile::TempDir) -> (Server, String, String) {
    let cert = folder.path().join("tls/cert.pem");
    let server = Server::on(folder, |config| config.listen.push(Listen::tcp("127.0.0.1:0").tls())).await;
    let address = server.addresses()[1].clone();
    (server, address, fingerprint_by_openssl(&cert).await)
}

/// The same again, at an address that it had before.
async fn with_tls_again(folder: tempfile::TempDir, address: &str) -> Server {
    let host_port = address.strip_prefix("tls:").unwrap();
    Server::on(folder, |config| config.listen.push(Listen::tcp(host_port).tls())).await
}

fn check(ran: &Ran, code: i32, parts: &[&str]) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(ran.code == Some(code) && parts.iter().all(|part| said.contains(part)), "{parts:?}: {ran:?}");
}

#[tokio::test]
async fn nothing_is_kept_unless_all_of_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read,append", "*");
    let ben = token(folder.path(), "ben", "append", "*");
    let nobody = stranger();
    let (server, address, fingerprint) = with_tls(folder).await;
    let home = Home::new();
    let other = format!("sha256:{}", "1f".repeat(32));
    let login = |fingerprint| ["login", address.as_str(), "--fingerprint", fingerprint];

    let ran = home.run(&["login", &address], anna.reveal()).await;
    check(&ran, 4, &["does not trust the certificate", &fingerprint, "add --fingerprint"]);
    check(&home.run(&login(&other), anna.reveal()).await, 4, &[&other, &fingerprint, "nothing was sent"]);
    check(&home.run(&login(&fingerprint), nobody.reveal()).await, 4, &["bad-token"]);
    check(&home.run(&login(&fingerprint), "").await, 2, &["the token on stdin is empty"]);
    check(&home.run(&["login", anna.reveal()], "").await, 2, &["a token is no argument"]);
    check(
        &home.run(&[&login(&fingerprint)[..], &["--name", "ben"]].concat(), anna.reveal()).await,
        4,
        &["not-permitted: ", "the name ben is that of --name"],
    );
    assert!(!home.credentials().exists());
    let ran = home.run(&["log", "--server", &address], "").await;
    check(&ran, 4, &["does not trust the certificate", "run diary login"]);

    let ran = home.run(&login(&fingerprint), &format!("{}\r\n", anna.reveal())).await;
    check(&ran, 0, &[&format!("logged in as anna, in diary at {address}\n")]);
    assert_eq!(fs::metadata(home.credentials()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.files_with(anna.reveal()), [home.credentials()]);

    let at = |words: &[&'static str]| [words, &[]].concat();
    for (words, seq) in
        [(at(&["add", "at home"]), "1"), (at(&["--name", "anna/phone", "add", "on the way"]), "2")]
    {
        let words: Vec<&str> = words.into_iter().chain(["--server", &address]).collect();
        check(&home.run(&words, "").await, 0, &[&format!("{seq}\n")]);
    }
    // From a file, for this run only; a name that the token does not have is refused, and its entry is kept.
    let file = home.0.path().join("token");
    fs::write(&file, ben.reveal()).unwrap();
    let mut by_file = home.cli(&["add", "from a script", "--server", &address]);
    check(&run(by_file.env("DIARY_TOKEN_FILE", &file), "").await, 0, &["3\n"]);
    let ran = home.run(&["--name", "ben", "add", "as ben", "--server", &address], "").await;
    check(&ran, 5, &["not-permitted: ", "as in anna/phone", "is kept in"]);
    // That one holds up nothing, and is sent as what the token says once a person says so.
    let ran = home.run(&["add", "later", "--server", &address], "").await;
    check(&ran, 0, &["4\n", "refused the entry", "send-as-new"]);
    let id = ran.stderr.split("diary outbox drop ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    check(&home.run(&["outbox", "send-as-new", &id], "").await, 0, &["5\n"]);
    let ran = home.run(&["log", "--server", &address], "").await;
    check(&ran, 0, &[" anna at home", " anna/phone on the way", " ben from a script", " anna as ben"]);
    let ran = home.run(&["doctor", "--server", &address], "").await;
    check(&ran, 0, &["kept for 1 address", &fingerprint, "that login has kept", "you write as anna"]);

    check(&home.run(&["logout", &address], "").await, 0, &["logged out"]);
    // The key alone, with a token that comes from elsewhere.
    let alone = [&login(&fingerprint)[..], &["--no-token"]].concat();
    check(&home.run(&alone, "").await, 0, &["trusted from now on"]);
    let mut by_file = home.cli(&["add", "with the key alone", "--server", &address]);
    check(&run(by_file.env("DIARY_TOKEN_FILE", &file), "").await, 0, &["6\n"]);
    check(&home.run(&["logout", &address], "").await, 0, &["logged out"]);
    check(&home.run(&["logout", &address], "").await, 1, &["nothing is kept for"]);
    assert!(home.files_with(anna.reveal()).is_empty());
    check(&home.run(&["log", "--server", &address], "").await, 4, &["run diary login"]);
    server.stop().await;
}

#[tokio::test]
async fn what_waits_is_sent_with_the_rights_of_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "append", "*");
    let (server, address, fingerprint) = with_tls(folder).await;
    let (home, open) = (Home::new(), Server::start().await);
    home.logs_in(&address, &fingerprint, &anna).await;
    let folder = server.stop().await;
    let ran = home.run(&["add", "on the train", "--server", &address], "").await;
    check(&ran, 5, &["no server is listening", "is kept in"]);
    let server = with_tls_again(folder, &address).await;
    // The configured server knows no tokens.
    let mut send = home.cli(&["outbox", "send"]);
    let ran = run(send.env("DIARY_SERVER", open.address()), "").await;
    check(&ran, 0, &[&format!("1 entry is on disk at {address}")]);
    assert_eq!(stored(&server.journal()), ["anna on the train"]);
    server.stop().await;
    open.stop().await;
}

/// Starts a server with this certificate, on a port that it had before if there is one.
async fn serve(data: &Path, address: &str, cert: &Path, key: &Path) -> Process {
    let mut command = crate::support::server_command(data);
    command
        .args(["--listen", address, "--timezone", "UTC", "--tls-cert"])
        .arg(cert)
        .arg("--tls-key")
        .arg(key);
    Process::spawn(command, 1).await
}

#[tokio::test]
async fn a_renewed_certificate_passes_and_another_key_does_not() {
    let (folder, home) = (tempfile::tempdir().unwrap(), Home::new());
    let at = |name: &str| folder.path().join(name);
    make_certificate(EC, &at("cert"), &at("key")).await;
    make_certificate(EC, &at("other-cert"), &at("other-key")).await;
    let mut renew = peer("openssl");
    renew.args(["req", "-x509", "-new", "-days", "1", "-subj", "/CN=renewed", "-key"]).arg(at("key"));
    assert_eq!(run(renew.arg("-out").arg(at("renewed")), "").await.code, Some(0));
    assert_ne!(certificate_in(&at("cert")), certificate_in(&at("renewed")));

    let data = at("data");
    let server = serve(&data, "tls:127.0.0.1:0", &at("cert"), &at("key")).await;
    let address = server.address().to_owned();
    let fingerprint = fingerprint_by_openssl(&at("cert")).await;
    let words = ["login", &address, "--no-token", "--fingerprint", &fingerprint];
    check(&home.run(&words, "").await, 0, &["trusted from now on: tls:"]);
    server.stop().await;

    let server = serve(&data, &address, &at("renewed"), &at("key")).await;
    check(&home.run(&["add", "x", "--server", &address], "").await, 0, &["1\n"]);
    server.stop().await;

    let server = serve(&data, &address, &at("other-cert"), &at("other-key")).await;
    let other = fingerprint_by_openssl(&at("other-cert")).await;
    let changed = ["the key of tls:", &fingerprint, &other, "nothing was sent", "run diary login again"];
    check(&home.run(&["log", "--server", &address], "").await, 4, &changed);
    check(&home.run(&["add", "y", "--server", &address], "").await, 5, &changed);
    check(&home.run(&["doctor", "--server", &address], "").await, 4, &["fail   tls", &other]);
    let ran = home.run(&["login", &address, "--no-token"], "").await;
    check(&ran, 4, &["has CHANGED", &fingerprint, &other]);
    let words = ["login", &address, "--no-token", "--fingerprint", &other];
    check(&home.run(&words, "").await, 0, &[]);
    check(&home.run(&["outbox", "send", "--server", &address], "").await, 0, &["1 entry is on disk"]);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_the_system_trusts_needs_no_login() {
    let (server, address, _) = with_tls(tempfile::tempdir().unwrap()).await;
    let (home, cert) = (Home::new(), server.journal().parent().unwrap().join("tls/cert.pem"));
    for (server, code) in [(address.clone(), 0), (address.replace("127.0.0.1", "127.0.0.2"), 3)] {
        let mut add = home.cli(&["doctor", "--server", &server]);
        let ran = run(add.env("SSL_CERT_FILE", &cert).env_remove("SSL_CERT_DIR"), "").await;
        assert!(ran.code == Some(code), "{ran:?}");
    }
    let mut add = home.cli(&["add", "x", "--server", &address]);
    check(&run(add.env("SSL_CERT_FILE", &cert), "").await, 0, &["1\n"]);
    server.stop().await;
}

/// Whoever is in between gets a handshake and not one byte of what is inside.
#[tokio::test]
async fn a_man_in_the_middle_gets_nothing() {
    let (folder, home) = (tempfile::tempdir().unwrap(), Home::new());
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    make_certificate(EC, &cert, &key).await;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let config = config.with_single_cert(vec![certificate_in(&cert)], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls:{}", listener.local_addr().unwrap());
    let expected = format!("sha256:{}", "1f".repeat(32));
    home.knows(&address, &expected, TOKEN);
    let file = folder.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let file = file.to_str().unwrap();

    let middle = tokio::spawn(async move {
        let mut met = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut inside) = acceptor.accept(stream).await {
                let mut heard = Vec::new();
                let _ = inside.read_to_end(&mut heard).await;
                panic!("heard {}", String::from_utf8_lossy(&heard));
            }
            met += 1;
            if met == 6 {
                return;
            }
        }
    });
    for (words, code) in [
        (&["log"][..], 4),
        (&["add", "x"], 5),
        (&["doctor"], 4),
        (&["outbox", "send"], 5),
        (&["login", "--fingerprint", &expected, "--token-file", file], 4),
    ] {
        let ran = home.run(&[words, &["--server", &address]].concat(), "").await;
        assert!(ran.code == Some(code) && !format!("{ran:?}").contains(TOKEN), "{words:?}: {ran:?}");
    }
    soon("all have met it", middle).await.unwrap();
}

#[tokio::test]
async fn credentials_are_the_users_alone() {
    let (home, server) = (Home::new(), Server::start().await);
    home.knows("tls:diary.example:8888", &format!("sha256:{}", "1f".repeat(32)), TOKEN);
    check(&home.run(&["add", "x", "--server", server.address()], "").await, 0, &["1\n"]);
    fs::set_permissions(home.credentials(), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = ["credentials is open to other users (mode 644); run: chmod 600 '"];
    for words in [&["log"][..], &["logout"], &["login", "tls:diary.example:8888", "--no-token"]] {
        check(&home.run(words, "").await, 2, &refused);
    }
    check(&home.run(&["add", "y"], "").await, 2, &[refused[0], "the text is in"]);
    let ran = home.run(&["doctor", "--server", server.address()], "").await;
    check(
        &ran,
        4,
        &[&format!("fail   credentials    {}", home.0.path().display()), refused[0], "not checked"],
    );
    assert!(stored(&server.journal()) == ["zoe x"]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_does_not_leave_the_machine_in_the_clear() {
    if !is_inside("cli_login::a_token_does_not_leave_the_machine_in_the_clear").await {
        return;
    }
    let home = Home::new();
    let listener = TcpListener::bind("192.0.2.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    home.knows(&address, &format!("sha256:{}", "1f".repeat(32)), TOKEN);
    let mut reading = JoinSet::new();
    for (words, code) in [(&["log"][..], 4), (&["add", "x"], 5), (&["doctor"], 4), (&["login"], 4)] {
        let words = [words, &["--server", &address]].concat();
        let mut client = home.cli(&words);
        let (ran, accepted) = tokio::join!(run(&mut client, TOKEN), listener.accept());
        check(&ran, code, &["the token was not sent", "is not encrypted"]);
        let (mut stream, _): (TcpStream, _) = accepted.unwrap();
        reading.spawn(async move { stream.read_to_end(&mut Vec::new()).await.unwrap_or(0) });
    }
    assert_eq!(soon("all have ended", reading.join_all()).await, [0; 4]);
}

#[tokio::test]
async fn a_person_compares_and_types_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read,append", "*");
    let (server, address, fingerprint) = with_tls(folder).await;
    let home = Home::new();
    let mut terminal = Terminal::start(home.cli(&["login", &address]));
    terminal.sees("[yes/no]").await;
    terminal.types("y\r").await;
    let (code, said) = terminal.ends().await;
    assert!(code == Some(4) && said.contains("nothing is kept"), "{said}");

    for interrupted in [true, false] {
        let mut terminal = Terminal::start(home.cli(&["login", &address]));
        let mut seen = terminal.sees("[yes/no]").await;
        assert!(seen.contains(&fingerprint), "{seen}");
        terminal.types("yes\r").await;
        seen += &terminal.sees("is not shown):").await;
        if interrupted {
            terminal.types(CTRL_C).await;
            let (code, said) = terminal.ends().await;
            assert!(code == Some(130) && said.contains("nothing is kept"), "{said}");
            assert!(!home.credentials().exists());
            continue;
        }
        terminal.types(&format!("{}\r", anna.reveal())).await;
        seen += &terminal.sees("logged in as anna, in diary at tls:").await;
        assert_eq!(terminal.modes(), terminal.modes_before());
        let (code, said) = terminal.ends().await;
        assert!(code == Some(0) && !(seen + &said).contains(anna.reveal()));
    }

    // In a conversation, `/login` is a mistake that leaves no trace.
    let secret = TOKEN;
    let mut terminal = Terminal::start(home.cli(&[&address]));
    terminal.sees("anna writes in diary at tls:").await;
    terminal.sees("> ").await;
    for login in [format!("/login {secret}\r"), format!(" /Login {secret}\r"), format!("/login{secret}\r")] {
        terminal.types(&login).await;
        terminal.sees("neither sent nor kept").await;
    }
    terminal.types("an entry\r").await;
    terminal.sees("ok 1 on ").await;
    // Not as a draft, either.
    terminal.types(&format!("/login {secret}")).await;
    terminal.sees(&secret[..20]).await;
    terminal.types(CTRL_C).await;
    terminal.sees("not sent").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert!(home.files_with(secret).is_empty(), "{:?}", home.files_with(secret));
    assert_eq!(home.files_with("an entry").len(), 1);
    assert_eq!(stored(&server.journal()), ["anna an entry"]);
    server.stop().await;
}

/// An entry that was kept before its writer had a token is written under the token's name, unless a name was chosen.
#[tokio::test]
async fn what_was_kept_before_the_login_is_sent_as_what_the_token_says() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read,append", "*");
    let (server, address, fingerprint) = with_tls(folder).await;
    let home = Home::new();
    let folder = server.stop().await;
    for words in [&["add", "early"][..], &["--name", "anna/phone", "add", "on the way"]] {
        let words = [words, &["--server", &address]].concat();
        check(&home.run(&words, "").await, 5, &["no server is listening", "is kept in"]);
    }
    let server = with_tls_again(folder, &address).await;
    home.logs_in(&address, &fingerprint, &anna).await;
    check(&home.run(&["outbox", "send", "--server", &address], "").await, 0, &["2 entries are on disk"]);
    assert_eq!(stored(&server.journal()), ["anna early", "anna/phone on the way"]);
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_the_token_does_not_have_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read,append", "*");
    let (server, address, fingerprint) = with_tls(folder).await;
    let home = Home::new();
    home.logs_in(&address, &fingerprint, &anna).await;
    let mut terminal = Terminal::start(home.cli(&[&address]));
    terminal.sees("anna writes in diary at tls:").await;
    // Typed before the answer can have come.
    terminal.types("/name eve\rafter eve\r").await;
    terminal.sees_all(&["error not-permitted: ", "you still write as anna", "ok 1 "]).await;
    for (name, told) in [
        ("ben", "error not-permitted: "),
        ("anna/phone", "you write as anna/phone"),
        ("anna-2", "you still write as anna/phone"),
    ] {
        terminal.types(&format!("/name {name}\r")).await;
        terminal.sees(told).await;
        terminal.types(&format!("after {name}\r")).await;
        terminal.sees("ok ").await;
    }
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    let entries =
        ["anna after eve", "anna after ben", "anna/phone after anna/phone", "anna/phone after anna-2"];
    assert_eq!(stored(&server.journal()), entries);
    server.stop().await;
}

/// Having few rights is no fault.
#[tokio::test]
async fn whoever_may_only_write_writes_and_whoever_may_only_read_reads() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = ["append", "read"].map(|can| token(folder.path(), can, can, "*"));
    let (server, address, fingerprint) = with_tls(folder).await;
    let (home, file) = (Home::new(), server.journal().parent().unwrap().join("token"));
    let words = ["login", &address, "--no-token", "--fingerprint", &fingerprint];
    check(&home.run(&words, "").await, 0, &[]);
    let [writer, reader] = tokens;
    let run_with = async |token: &str, words: &[&str], input: &str| {
        fs::write(&file, token).unwrap();
        let mut command = home.cli(&[words, &["--server", &address]].concat());
        run(command.env("DIARY_TOKEN_FILE", &file), input).await
    };
    let ran = run_with(writer.reveal(), &[], "a\nb\n").await;
    check(&ran, 0, &["ok 1 ", "ok 2 ", "this needs the right read"]);
    let ran = run_with(writer.reveal(), &["-n", "5"], "").await;
    check(&ran, 4, &["this needs the right read"]);
    let ran = run_with(writer.reveal(), &["doctor"], "").await;
    let of_file = "the server accepts the one from DIARY_TOKEN_FILE";
    check(&ran, 0, &[of_file, "not for you: this needs the right read", "the server accepts entries"]);
    let ran = run_with(reader.reveal(), &["doctor"], "").await;
    check(&ran, 0, &[of_file, "entry 2 by append", "not for you: this needs the right append"]);
    let ran = run_with(reader.reveal(), &[], "c\n").await;
    check(&ran, 4, &["2 ", "line 1: error not-permitted: this needs the right append"]);
    let ran = run_with(stranger().reveal(), &["log"], "").await;
    check(&ran, 4, &["bad-token", "the token is that of DIARY_TOKEN_FILE"]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_in_the_place_of_a_text_goes_nowhere() {
    let (home, server) = (Home::new(), Server::start().await);
    let login = format!("/login {TOKEN}");
    for (words, input, code) in [
        (&["add", "-"][..], TOKEN, 2),
        (&["add", "-"], &login, 2),
        (&[], &*format!("a\n {TOKEN}\n{login}\nb\n"), 4),
    ] {
        let ran = home.run(&[words, &["--server", server.address()]].concat(), input).await;
        check(&ran, code, &["this is a token, and is neither sent nor kept"]);
        assert!(!format!("{ran:?}").contains(TOKEN), "{ran:?}");
    }
    for words in [&["add", TOKEN][..], &["add", &login], &["login", "tls:h:1", TOKEN], &["search", TOKEN]] {
        let ran = home.run(words, "").await;
        check(&ran, 2, &["a token is no argument"]);
        assert!(!format!("{ran:?}").contains(TOKEN), "{ran:?}");
    }
    let mut terminal = Terminal::start(home.cli(&[server.address()]));
    terminal.sees("zoe writes in diary at").await;
    for line in [format!("/logn {TOKEN}"), format!("it is {TOKEN}"), format!("//{TOKEN}"), TOKEN.to_owned()] {
        terminal.types(&format!("{line}\r")).await;
        terminal.sees("neither sent nor kept").await;
    }
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert!(home.files_with(TOKEN).is_empty());
    assert_eq!(stored(&server.journal()), ["zoe a", "zoe b"]);
    server.stop().await;
}

#[tokio::test]
async fn the_wrong_kind_of_address_is_told() {
    let (server, address, _) = with_tls(tempfile::tempdir().unwrap()).await;
    let home = Home::new();
    let plain = address.strip_prefix("tls:").unwrap();
    let ran = home.run(&["log", "--server", plain], "").await;
    check(&ran, 3, &["this address speaks TLS, not plain text; write tls: before the address"]);
    let ran = home.run(&["log", "--server", &format!("tls:{}", server.address())], "").await;
    check(&ran, 3, &["this port does not speak TLS; check the address", "has no tls:"]);
    server.stop().await;
}

/// The pin is for the server, and the token for its journal.
#[tokio::test]
async fn a_token_for_one_journal_says_which() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(crate::access::maintain(folder.path(), &["journal", "add", "work"]).await.code, Some(0));
    let worker = token(folder.path(), "worker", "read,append", "work");
    let (server, address, fingerprint) = with_tls(folder).await;
    let (home, work) = (Home::new(), format!("{address}=work"));
    let login = |address| ["login", address, "--fingerprint", &fingerprint];
    let ran = home.run(&login(&address), worker.reveal()).await;
    check(&ran, 4, &["no rights in this journal", &format!("logs in at {address}=JOURNAL")]);
    let named = [&login(&address)[..], &["--name", "worker/phone"]].concat();
    let ran = home.run(&named, worker.reveal()).await;
    check(&ran, 4, &["no rights in this journal", &format!("logs in at {address}=JOURNAL")]);
    let ran = home.run(&login(&work), worker.reveal()).await;
    check(&ran, 0, &[&format!("logged in as worker, in work at {work}")]);
    check(&home.run(&["add", "x", "--server", &work], "").await, 0, &["1\n"]);
    check(&home.run(&["log", "--server", &address], "").await, 4, &["this needs a token"]);
    server.stop().await;
}
