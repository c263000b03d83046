//! What a server is told: flags, then `DIARY_*` variables, then defaults.

mod listen;

use std::env;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::BoolishValueParser;
use diary_access::{Journals, Name, Rights};
use diary_proto::{DayStart, JournalName};
use ipnet::IpNet;

pub(crate) use listen::TLS_ON_UNIX;
pub use listen::{At, Listen, Udp};

use crate::guard::Rules;
use crate::handed_over::HandedOver;
use crate::limits::Limits;

/// The port, if nobody says otherwise.
pub const PORT: u16 = 8888;

/// A durable diary that anything with a socket can write to.
///
/// Without arguments it listens on 127.0.0.1:8888 and [::1]:8888, or on the sockets that systemd or inetd hands over, and
/// keeps the diary in ~/.local/share/diary.
#[derive(Debug, Parser)]
#[command(name = "diary-server", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) maintenance: Option<Maintenance>,

    /// Address to listen on (repeatable, or separated by commas).
    ///
    /// HOST:PORT, :PORT for every address, or unix:PATH. quiet: in front is for programs that never read, such as
    /// syslog forwarders; proxy: for a proxy that sends the header of the PROXY protocol; tls: for TLS; they go together
    /// in this order. quiet:udp: before HOST:PORT is for syslog datagrams. With =NAME behind it, an address serves this
    /// journal only.
    #[arg(
        long,
        value_name = "[quiet:][proxy:][tls:]ADDR[=NAME]",
        env = "DIARY_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<Listen>,

    /// Address to answer datagrams on [default: none].
    #[arg(long, value_name = "HOST:PORT[=NAME]", env = "DIARY_UDP")]
    udp: Option<Udp>,

    /// Certificate of tls: listeners and those above it, in PEM [default: one that the server makes for itself].
    ///
    /// Read again when it changes, and on SIGHUP, which then does not stop the server.
    #[arg(long, value_name = "FILE", env = "DIARY_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "DIARY_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Mode of the files of Unix sockets, as for chmod: who may connect, and so read and write the diary.
    #[arg(long, value_name = "MODE", env = "DIARY_SOCKET_MODE", default_value = "600", value_parser = check_mode)]
    socket_mode: u32,

    /// Let whoever reaches an address read and write, also from other machines, without a token.
    #[arg(long, env = "DIARY_OPEN", value_parser = BoolishValueParser::new())]
    open: bool,

    /// What clients on loopback may do without a token [default: read and append; nothing once there are tokens].
    #[arg(long, value_name = "RIGHTS", env = "DIARY_LOOPBACK_CAN")]
    loopback_can: Option<Rights>,

    /// What other users of this machine may do on Unix sockets without a token [default: what loopback may do].
    #[arg(long, value_name = "RIGHTS", env = "DIARY_UNIX_CAN")]
    unix_can: Option<Rights>,

    /// Network that may write to quiet listeners and over UDP (repeatable, or separated by commas), such as 10.0.0.0/8.
    #[arg(long, value_name = "CIDR", env = "DIARY_ALLOW", value_delimiter = ',', value_parser = parse_network)]
    allow: Vec<IpNet>,

    /// Most connections at once from one address (IPv6: one /64) [default: a tenth of all, at most 1000].
    ///
    /// Raise it for a proxy, or where many share an address. Loopback and Unix sockets are not limited.
    #[arg(long, value_name = "COUNT", env = "DIARY_CONNECTIONS_PER_ADDRESS", value_parser = check_count)]
    connections_per_address: Option<NonZeroUsize>,

    #[command(flatten)]
    data: DataFolder,

    /// Journal of addresses that name none; it is made if it is not there.
    #[arg(long, value_name = "NAME", env = "DIARY_JOURNAL", default_value_t)]
    journal: JournalName,

    /// Time zone of the diary's days, such as Asia/Shanghai [default: the system's].
    #[arg(long, value_name = "TZ", env = "DIARY_TIMEZONE")]
    timezone: Option<String>,

    /// Time at which a day begins; entries before it belong to the day before. Changes new days only.
    #[arg(long, value_name = "HH:MM", env = "DIARY_DAY_START", default_value_t)]
    day_start: DayStart,

    /// What to log: error, warn, info, debug, or a filter such as diary_server=debug.
    #[arg(long, value_name = "FILTER", env = "DIARY_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// Where the journals are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DataFolder {
    /// Folder of the journals.
    #[arg(long, value_name = "DIR", env = "DIARY_DATA")]
    data: Option<PathBuf>,
}

impl DataFolder {
    /// `None` if no folder is given and there is no home.
    pub(crate) fn path(self) -> Option<PathBuf> {
        self.data.or_else(default_data)
    }
}

/// Which journals.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) data: DataFolder,

    /// Name of a journal [default: all in the data folder].
    #[arg(long, value_name = "NAME", env = "DIARY_JOURNAL")]
    pub(crate) journal: Option<JournalName>,
}

/// What can be done with a journal beside serving it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Maintenance {
    /// Add or list journals, also while a server runs.
    Journal {
        #[command(subcommand)]
        action: JournalAction,
    },
    /// Add, list or remove tokens, also while a server runs.
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Check every line, chain and number, also while a server runs; exit with 6 if anything is damaged.
    Verify {
        #[command(flatten)]
        place: Place,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Write a copy without damage beside a journal, which is not touched; of several journals, beside each damaged one.
    Repair {
        #[command(flatten)]
        place: Place,
        /// Folder for the copy, of one journal only [default: the journal's, with .repaired].
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Move the day files into archive/<date>/ and start over. No server may be using the journal.
    Archive {
        #[command(flatten)]
        place: Place,
        /// Time zone of today's date [default: the system's].
        #[arg(long, value_name = "TZ", env = "DIARY_TIMEZONE")]
        timezone: Option<String>,
        /// Time at which a day begins.
        #[arg(long, value_name = "HH:MM", env = "DIARY_DAY_START", default_value_t)]
        day_start: DayStart,
    },
}

/// What can be done with the list of journals.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum JournalAction {
    /// Make a journal.
    Add {
        #[command(flatten)]
        data: DataFolder,
        /// Its name: letters, digits, '-', '_' and '.'
        name: JournalName,
    },
    /// Print the names of all journals.
    List {
        #[command(flatten)]
        data: DataFolder,
    },
}

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenAction {
    /// Make a token and print it, this one time.
    Add {
        #[command(flatten)]
        data: DataFolder,
        /// Name of the token, which is the author of all that is written with it.
        name: Name,
        /// What it may do, separated by commas: read, append, redact, admin.
        #[arg(long, value_name = "RIGHTS", default_value_t)]
        can: Rights,
        /// Journals in which it may do that, separated by commas: names, prefixes as work*, or * for all.
        #[arg(long, value_name = "PATTERN", default_value_t)]
        journal: Journals,
        /// When it expires: a date, a time with an offset, or a distance as 30d or 12h [default: never].
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// Print the names of all tokens, with what they may do, where, their last use, and when they expire.
    List {
        #[command(flatten)]
        data: DataFolder,
    },
    /// Remove a token. Whoever is logged in with it has no rights any more within a second.
    Remove {
        #[command(flatten)]
        data: DataFolder,
        /// Name of the token.
        name: Name,
    },
}

/// A server's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Sockets that listen already.
    pub handed_over: Vec<HandedOver>,
    /// Where to answer datagrams.
    pub udp: Option<Udp>,
    /// Who TLS listeners are; if not said, the server makes itself a key and a certificate, and keeps them in `data`.
    pub tls: Option<TlsFiles>,
    /// What is allowed without a token.
    pub rules: Rules,
    /// The mode of Unix sockets' files: who may connect.
    pub socket_mode: u32,
    /// The folder that holds journals.
    pub data: PathBuf,
    /// The journal of addresses that name none.
    pub journal: JournalName,
    /// The time zone's name; the system's, if not said.
    pub timezone: Option<String>,
    /// When a day begins.
    pub day_start: DayStart,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A server for the diary in `data` that listens on a free port of 127.0.0.1, for programs and tests.
    pub fn local(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: vec![Listen::tcp("127.0.0.1:0")],
            handed_over: Vec::new(),
            udp: None,
            tls: None,
            rules: Rules::default(),
            socket_mode: 0o600,
            data: data.into(),
            journal: JournalName::default(),
            timezone: None,
            day_start: DayStart::default(),
            limits: Limits::default(),
        }
    }

    /// The settings that the arguments stand for; `None` if no folder is given and there is no home.
    pub(crate) fn of_args(args: Args, handed_over: Vec<HandedOver>) -> Option<Self> {
        let listen = if args.listen.is_empty() && handed_over.is_empty() {
            let ipv6 = Listen { optional: true, ..Listen::tcp(&format!("[::1]:{PORT}")) };
            vec![Listen::tcp(&format!("127.0.0.1:{PORT}")), ipv6]
        } else {
            args.listen
        };
        let tls = args.tls_cert.zip(args.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        let Args { open, loopback_can, unix_can, allow, .. } = args;
        let rules = Rules { open, loopback_can, unix_can, allow };
        let Args { udp, socket_mode, data, journal, timezone, day_start, .. } = args;
        let data = data.path()?;
        let connections_per_address = args.connections_per_address.map(NonZeroUsize::get);
        let limits = Limits { connections_per_address, ..Limits::default() };
        Some(Self {
            listen,
            handed_over,
            udp,
            tls,
            rules,
            socket_mode,
            data,
            journal,
            timezone,
            day_start,
            limits,
        })
    }
}

/// `$XDG_DATA_HOME/diary`, else `~/.local/share/diary`.
fn default_data() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("diary"))
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those above it, in PEM.
    pub cert: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// A network, or one address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.to_canonical().into()));
    let network: IpNet =
        network.map_err(|_| format!("{text} is not a network; write one such as 10.0.0.0/8"))?;
    match network {
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{text} stands for IPv4 addresses; write it as such, as in 10.0.0.0/8"))
        }
        network => Ok(network.trunc()),
    }
}

fn check_count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("{text} is not a number of connections (1 or more)"))
}

/// What `chmod` takes as the mode of a file, without the bits that mean nothing for a socket.
fn check_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && !text.starts_with('+'));
    mode.ok_or_else(|| format!("{text} is not a mode; 600 lets only this user connect, 660 the group, too"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        for (network, parsed) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("fd00::1/64", "fd00::/64"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_network(network).unwrap().to_string(), parsed);
        }
        for bad in ["", "x", "10.0.0.0/33", "10.0.0/8", "::ffff:10.0.0.0/104", "localhost", "10.0.0.0/8 "] {
            assert!(parse_network(bad).is_err(), "{bad:?}");
        }
        for bad in ["0", "-1", "x", ""] {
            assert!(check_count(bad).is_err(), "{bad:?}");
        }
        for (mode, expected) in [("600", 0o600), ("0660", 0o660), ("777", 0o777), ("0", 0)] {
            assert_eq!(check_mode(mode), Ok(expected));
        }
        for bad in ["", "1600", "888", "rw", "+600", "-600", "0o600", "6 0"] {
            assert!(check_mode(bad).is_err(), "{bad:?}");
        }
    }
}
