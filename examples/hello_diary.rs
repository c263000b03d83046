//! Appends an entry and prints the last three:
//! `cargo run --example hello_diary [HOST:PORT|tls:HOST:PORT|unix:PATH] [TEXT]`

#![allow(clippy::print_stdout, reason = "it shows something")]

use std::env;

use diary_client::{Client, Event, Options, Which};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let text = words.next().unwrap_or_else(|| "hello, diary".to_owned());

    let client = Client::connect(address.parse()?, Options::default()).await?;
    let ack = client.append(text).await?;
    println!("entry {} is on disk since {}", ack.seq, ack.time);

    let mut history = client.history(Which::Last(3));
    while let Some(event) = history.next().await {
        match event? {
            Event::Entry(stored) => println!("{}: {}", stored.entry.author, stored.entry.text),
            Event::Gap(gap) => println!("entries {} to {} are damaged or missing", gap.first, gap.last),
            Event::Damaged { lines } => println!("{lines} damaged lines were left out"),
            Event::Restored { head } => println!("an older copy was restored; it ends with {head}"),
        }
    }
    client.close().await?;
    Ok(())
}
