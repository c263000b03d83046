//! Prints entries as they are written, until Ctrl-C; with SEQ, from that one on:
//! `cargo run --example follow [HOST:PORT|tls:HOST:PORT|unix:PATH] [SEQ]`
//!
//! The server may restart meanwhile: every entry is printed exactly once.

#![allow(clippy::print_stdout, reason = "it shows something")]

use std::env;

use diary_client::{Client, Event, Options};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let from = words.next().map(|seq| seq.parse()).transpose()?;

    let client = Client::connect(address.parse()?, Options::default()).await?;
    let mut entries = client.follow(from);
    while let Some(event) = entries.next().await {
        match event? {
            Event::Entry(stored) => println!("{}", stored.left),
            Event::Gap(gap) => println!("entries {} to {} are damaged or missing", gap.first, gap.last),
            Event::Damaged { lines } => println!("{lines} damaged lines were left out"),
            Event::Restored { head } => println!("an older copy was restored; it ends with {head}"),
        }
    }
    Ok(())
}
