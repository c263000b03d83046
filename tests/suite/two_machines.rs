//! A diary on another machine: two network namespaces with a cable between them, which is pulled.

use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::access::token;
use crate::addresses::is_inside_of;
use crate::cli_login::Home;
use crate::support::{Process, Ran, peer, run, server_command, soon, stored};

/// Makes the other machine, with a cable between both, and runs the rest on this one.
const MACHINES: &str = "ip link set lo up
unshare --net sleep infinity & export MACHINE=$!
trap 'kill $MACHINE' EXIT
until [ \"$(readlink /proc/$MACHINE/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done
ip link add near type veth peer name far netns $MACHINE
ip address add 192.0.2.1/24 dev near && ip link set near up
there() { nsenter --target $MACHINE --net \"$@\"; }
there ip link set lo up && there ip address add 192.0.2.2/24 dev far && there ip link set far up
\"$@\"";

/// A command that runs on the other machine.
fn there(command: &Command) -> Command {
    let command = command.as_std();
    let mut there = peer("nsenter");
    there.args(["--target", &std::env::var("MACHINE").unwrap(), "--net"]).arg(command.get_program());
    there.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => there.env(name, value),
            None => there.env_remove(name),
        };
    }
    there
}

async fn serve(data: &Path, listen: &[&str]) -> Process {
    let mut command = server_command(data);
    command.args(listen.iter().flat_map(|listen| ["--listen", listen]));
    Process::spawn(there(&command), listen.len()).await
}

/// Pulls the cable, or plugs it in.
async fn cable(state: &str) {
    let ran = run(peer("ip").args(["link", "set", "near", state]), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

fn check(ran: &Ran, code: i32, parts: &[&str]) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(ran.code == Some(code) && parts.iter().all(|part| said.contains(part)), "{parts:?}: {ran:?}");
}

#[tokio::test]
async fn one_writes_to_the_other_and_loses_the_network() {
    if !is_inside_of(MACHINES, "two_machines::one_writes_to_the_other_and_loses_the_network").await {
        return;
    }
    let (folder, home) = (tempfile::tempdir().unwrap(), Home::new());
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let anna = token(&data, "anna", "read,append", "*");
    let server = serve(&data, &["192.0.2.2:8888", "tls:192.0.2.2:8889"]).await;
    let address = "tls:192.0.2.2:8889";
    let fingerprint = crate::tls_identity::fingerprint_by_openssl(&data.join("tls/cert.pem")).await;

    // In plain text, no token is wanted, and the greeting says where TLS is.
    let ran = run(peer("nc").args(["-N", "192.0.2.2", "8888"]), format!("/login {}\n", anna.reveal())).await;
    let greeting = "login needed; a token travels only in TLS, which is at 192.0.2.2:8889";
    check(&ran, 0, &[greeting, "error not-permitted: "]);

    let ran = home.run(&["login", address, "--fingerprint", &fingerprint], anna.reveal()).await;
    check(&ran, 0, &["logged in as anna, in diary"]);
    check(&home.run(&["add", "at first", "--server", address], "").await, 0, &["1\n"]);
    let mut openssl = peer("openssl");
    openssl.args(["s_client", "-quiet", "-verify_quiet", "-connect", "192.0.2.2:8889"]);
    let lines = format!("/login {}\nby openssl\n/quit\n", anna.reveal());
    check(&run(&mut openssl, lines).await, 0, &["ok login anna", "ok 2 ", "bye"]);

    // A pipe that is there before the cable is pulled, goes on behind it.
    let mut piped = home.cli(&["-n", "0", "--server", address]);
    piped.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    let mut input = piped.stdin.take().unwrap();
    input.write_all(b"before\n").await.unwrap();
    let before = async {
        while stored(&data.join("diary")).len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon("it is on disk", before).await;
    cable("down").await;
    input.write_all(b"in the dark\n").await.unwrap();
    let ran = home.run(&["add", "kept meanwhile", "--server", address], "").await;
    check(&ran, 5, &["is kept in"]);
    // Whoever has the address now, with a key of their own.
    server.stop().await;
    let elsewhere = folder.path().join("elsewhere");
    let impostor = serve(&elsewhere, &[address]).await;
    cable("up").await;
    check(&home.run(&["log", "--server", address], "").await, 4, &[&fingerprint, "nothing was sent"]);
    impostor.stop().await;
    let server = serve(&data, &["192.0.2.2:8888", address]).await;
    drop(input);
    let ended = soon("the pipe ends", piped.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    check(&home.run(&["add", "at last", "--server", address], "").await, 0, &[]);
    server.stop().await;
    let mut entries = stored(&data.join("diary"));
    entries.sort_unstable();
    let expected = ["at first", "at last", "before", "by openssl", "in the dark", "kept meanwhile"]
        .map(|text| format!("anna {text}"));
    assert_eq!(entries, expected);
}
