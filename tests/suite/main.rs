//! What the diary promises, tested from outside. One file a property.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod addresses;
mod bad_input;
mod chunks;
mod cli_add;
mod cli_completions;
mod cli_doctor;
mod cli_editor;
mod cli_import;
mod cli_pipe;
mod cli_read;
mod cli_stats;
mod cli_terminal;
mod clocks;
mod damage;
mod day_files;
mod door;
mod examples;
mod faults;
mod file_limits;
mod filters;
mod first_use;
mod frame_mode;
mod hostile;
mod keys;
mod kills;
mod line_mode;
mod log;
mod memory;
mod order;
mod own_times;
mod peers;
mod planted;
mod proxy;
mod quiet;
mod small_disks;
mod starting;
mod stopping;
mod support;
mod syslog;
mod telnet;
mod udp;
mod unharmed;
mod unix;
mod upkeep;
