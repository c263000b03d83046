//! A load generator, and a comparison of the diary with what the machine allows and what people would
//! use instead.
//!
//! - `talk`: what an append looks like to each server;
//! - `load`: connections that append and count acks;
//! - `bare`: the loop that shows what the machine allows;
//! - `fill`: diaries to read;
//! - `peers`: servers, started and ended; `programs`: where the diary's own ones are;
//! - `rows`: what is measured; `table`: how it is shown;
//! - `trial`: one server under everything at once, and the bounds that must hold.

mod bare;
mod fill;
mod load;
mod peers;
mod programs;
mod rows;
mod stream;
mod table;
mod talk;
mod trial;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Measures the diary side by side with others, on this machine, in one run.
#[derive(Debug, Parser)]
#[command(name = "diary-bench", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    programs: programs::Programs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Starts the diary, the bare loop, Redis and nginx, drives them in turn, and prints medians and ratios.
    Compare(rows::Options),
    /// Appends to a server that runs already, in line mode, and prints how it went.
    Load {
        /// Where it listens.
        address: String,
        /// Connections, and how many appends each sends at once.
        #[arg(long, value_name = "CxD", default_value = "64x16", value_parser = load::Shape::parse)]
        shape: load::Shape,
        /// For so long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Puts one server under everything at once, and fails where a bound does not hold or an entry is lost.
    Trial(trial::Options),
    /// Runs the bare loop until it is killed.
    #[command(hide = true)]
    Bare {
        /// Where it listens.
        address: String,
        /// What it appends to.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let Args { programs, command } = Args::parse();
    programs.set();
    let ran = match command {
        Command::Compare(options) => rows::compare(&options),
        Command::Trial(options) => trial::run(&options),
        Command::Load { address, shape, seconds } => {
            load::print(&address, shape, Duration::from_secs(seconds))
        }
        Command::Bare { address, file } => bare::serve(&address, &file),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "diary-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
