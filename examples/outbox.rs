//! Writes an entry exactly once, even if the server is away: the next run sends what was kept.
//! `cargo run --example outbox HOST:PORT|tls:HOST:PORT|unix:PATH FOLDER TEXT`

#![allow(clippy::print_stdout, reason = "it shows something")]

use std::env;

use diary_outbox::{Delivery, Keys, Outbox, Outcome};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, folder, text] = &words[..] else { anyhow::bail!("usage: outbox ADDRESS FOLDER TEXT") };

    let mut delivery = Delivery::new(address.parse()?, None, Keys::Kept(Outbox::new(folder)))?;
    if let Err(why) = delivery.submit((), text.as_str()) {
        println!("{why}; the entry is sent without being kept");
    }
    delivery.finish();
    while let Some(outcome) = delivery.next().await {
        match outcome {
            Outcome::CaughtUp { entries } => println!("{entries} of earlier runs are in the diary"),
            Outcome::Acked { ack, .. } => println!("entry {} is in the diary", ack.seq),
            Outcome::Held(why) => {
                println!("{why}; run this again to send it");
                delivery.stop();
            }
            Outcome::Refused { refusal, .. } => anyhow::bail!("not stored: {refusal}"),
            _ => {}
        }
    }
    Ok(())
}
