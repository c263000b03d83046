//! Runs a diary server inside a program, which writes to it as well:
//! `cargo run --example embed_server [FOLDER]`

#![allow(clippy::print_stdout, reason = "it shows something")]

use std::env;
use std::path::PathBuf;

use diary_client::{Client, Options};
use diary_server::{Config, Server};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = env::args_os().nth(1).map_or_else(|| env::temp_dir().join("embedded-diary"), PathBuf::from);

    // Listens on a free port of 127.0.0.1, where `nc` and `diary` can connect while it runs.
    let server = Server::start(Config::local(&folder)).await?;
    let address = server.addresses()[0].clone();
    println!("the diary in {} listens on {address}", folder.display());
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));

    let client = Client::connect(address.parse()?, Options::default()).await?;
    for text in ["the program starts", "the program ends"] {
        println!("entry {} is on disk", client.append(text).await?.seq);
    }
    client.close().await?;

    // Entries already read are committed and acked before it ends.
    stop.cancel();
    println!("stopped: {:?}", running.await?);
    Ok(())
}
