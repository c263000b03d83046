//! Who may do what: what each kind of connection may without a token, and what tokens add to it.
//!
//! Rights are looked up for every request, in what the file `access` says now, so that a change counts at once.

mod guesses;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diary_access::{Access, AccessFile, Error, Grant, LastUse, Name, Right, Rights, Stamp, Token, TokenHash};
use diary_proto::{Author, Code, Refusal};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{ACCESS_PAUSE, EXPIRY_LOOK_MAX, LAST_USE_PAUSE, LOOK_MAX};
use crate::peer::{Door, Peer, uid_name};
use guesses::Guesses;

/// Target of the log's lines about who logged in, who was refused, and whose rights changed.
pub(crate) const AUDIT: &str = "diary::access";

/// What is allowed without a token.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whoever reaches an address reads and writes, also from other machines.
    pub open: bool,
    /// What clients on loopback may do. If not said: read and append, and nothing once there are tokens.
    pub loopback_can: Option<Rights>,
    /// What other users of this machine may do on a Unix socket. If not said, as for loopback.
    pub unix_can: Option<Rights>,
    /// Networks that may write to quiet listeners and over UDP.
    pub allow: Vec<IpNet>,
}

/// Decides what a peer may do.
#[derive(Debug)]
pub(crate) struct Guard {
    rules: Rules,
    file: AccessFile,
    /// None while tokens are not in use.
    tokens: watch::Sender<Option<Arc<Tokens>>>,
    used: Mutex<Used>,
    guesses: Guesses,
    /// How often the file has been looked at.
    looks: watch::Sender<u64>,
}

#[derive(Debug)]
struct Tokens {
    access: Access,
    by_name: HashMap<Name, Grant>,
}

#[derive(Debug, Default)]
struct Used {
    last: LastUse,
    changed: bool,
}

/// The token that a client has logged in with. What it grants is looked up each time.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) name: Name,
    hash: TokenHash,
    /// When its use was noted.
    noted: Instant,
}

/// What stands between a peer and a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There are no tokens.
    Closed,
    Nobody,
    /// Nobody, where a token must not travel.
    Insecure,
    Removed,
    Expired,
    LoggedIn,
}

/// Sentences that are not made anew for each text: a frame may bring very many.
macro_rules! needs {
    ($right:expr, $rest:literal) => {
        match $right {
            Right::Read => concat!("this needs the right read", $rest),
            Right::Append => concat!("this needs the right append", $rest),
            Right::Redact => concat!("this needs the right redact", $rest),
            Right::Admin => concat!("this needs the right admin", $rest),
        }
    };
}

impl Standing {
    fn lacks(self, right: Right) -> &'static str {
        match self {
            Self::Closed => needs!(right, " in this journal, and nobody has it at this address"),
            Self::Nobody => needs!(right, " in this journal; log in with /login TOKEN, or `diary login`"),
            Self::Insecure => needs!(right, " in this journal; log in with a token, over TLS"),
            Self::Removed => needs!(right, ", and the token has been removed"),
            Self::Expired => needs!(right, ", and the token has expired"),
            Self::LoggedIn => needs!(right, ", which the token does not have in this journal"),
        }
    }

    fn lacks_all(self) -> &'static str {
        match self {
            Self::Closed => "nobody has rights in this journal at this address",
            Self::Nobody => "this needs a token; log in with /login TOKEN, or `diary login`",
            Self::Insecure => "this needs a token, which travels over TLS only",
            Self::Removed => "the token has been removed",
            Self::Expired => "the token has expired",
            Self::LoggedIn => "the token has no rights in this journal",
        }
    }
}

impl From<Access> for Tokens {
    fn from(access: Access) -> Self {
        let by_name = access.grants().map(|grant| (grant.name.clone(), grant.clone())).collect();
        Self { access, by_name }
    }
}

impl Tokens {
    /// What a login grants, unless it is removed. Another token of the name is another one.
    fn of(&self, login: &Login) -> Option<&Grant> {
        self.by_name.get(&login.name).filter(|grant| grant.hash == login.hash)
    }
}

impl Guard {
    /// Reads the tokens in the data folder.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) async fn start(rules: Rules, data: &Path) -> Result<(Arc<Self>, Stamp), Error> {
        let file = AccessFile::at(data);
        let at_start = file.clone();
        let read = spawn_blocking(move || (at_start.stamp(), at_start.read(), at_start.read_last_use()));
        let (stamp, access, last) =
            read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        // Nothing depends on it.
        let last = last.unwrap_or_default();
        let tokens = watch::Sender::new(access?.map(|access| Arc::new(access.into())));
        let used = Mutex::new(Used { last, changed: false });
        let (guesses, looks) = (Guesses::default(), watch::Sender::new(0));
        Ok((Arc::new(Self { rules, file, tokens, used, guesses, looks }), stamp))
    }

    #[cfg(test)]
    pub(crate) fn without_tokens() -> Arc<Self> {
        let file = AccessFile::at("/nowhere");
        let (tokens, used) = (watch::Sender::new(None), Mutex::default());
        let (guesses, looks) = (Guesses::default(), watch::Sender::new(0));
        Arc::new(Self { rules: Rules::default(), file, tokens, used, guesses, looks })
    }

    /// Whether tokens are in use.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.borrow().is_some()
    }

    /// Whether tokens are in use, and there is none.
    pub(crate) fn has_only_closed_doors(&self) -> bool {
        self.tokens.borrow().as_ref().is_some_and(|tokens| tokens.by_name.is_empty())
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rights of a peer in a journal.
    pub(crate) fn rights(&self, peer: &Peer, journal: &str) -> Rights {
        let tokens = self.tokens.borrow();
        let unsaid = if tokens.is_none() || self.rules.open { Rights::default() } else { Rights::NONE };
        let without = match peer.door {
            Door::Own => Rights::ALL,
            Door::User => self.rules.unix_can.or(self.rules.loopback_can).unwrap_or(unsaid),
            Door::Loopback => self.rules.loopback_can.unwrap_or(unsaid),
            Door::Network if self.rules.open => Rights::default(),
            Door::Network => Rights::NONE,
            Door::Allowed => Rights::APPEND,
        };
        let (Some(login), false) = (&peer.login, peer.door == Door::Own) else { return without };
        let (now, grant) = (Timestamp::now(), tokens.as_ref().and_then(|tokens| tokens.of(login)));
        match grant.filter(|grant| !grant.is_expired(now)) {
            Some(grant) => without.and(grant.rights_in(journal, now)),
            // Whoever has somebody's token must not go on under that name, with rights that are everybody's.
            None => Rights::NONE,
        }
    }

    /// Whether a peer may do something in a journal.
    ///
    /// # Errors
    /// What it is told if not.
    pub(crate) fn may(&self, peer: &Peer, right: Right, journal: &str) -> Result<(), Refusal> {
        self.require(peer, self.rights(peer, journal), right)
    }

    /// The same for one who is known to have `rights`.
    ///
    /// # Errors
    /// What it is told if not.
    pub(crate) fn require(&self, peer: &Peer, rights: Rights, right: Right) -> Result<(), Refusal> {
        match rights.has(right) {
            true => Ok(()),
            false => Err(Refusal::new(Code::NotPermitted, self.standing(peer).lacks(right))),
        }
    }

    /// Whether a peer has any right in a journal: else it is told nothing about it, not even that it exists.
    ///
    /// # Errors
    /// What it is told if not, where the journal is the one that it is in.
    pub(crate) fn may_enter(&self, peer: &Peer, journal: &str) -> Result<(), Refusal> {
        match self.knows(peer, journal) {
            true => Ok(()),
            false => Err(Refusal::new(Code::NotPermitted, self.standing(peer).lacks_all())),
        }
    }

    /// Whether a peer has any right in a journal.
    pub(crate) fn knows(&self, peer: &Peer, journal: &str) -> bool {
        self.rights(peer, journal) != Rights::NONE
    }

    /// Whether there may be a journal in which a peer has a right: else it has to log in first.
    ///
    /// # Errors
    /// What it is told if not.
    pub(crate) fn may_ask(&self, peer: &Peer, journal: &str) -> Result<(), Refusal> {
        match self.standing(peer) {
            Standing::LoggedIn => Ok(()),
            _ => self.may_enter(peer, journal),
        }
    }

    fn standing(&self, peer: &Peer) -> Standing {
        let tokens = self.tokens.borrow();
        match &peer.login {
            None if tokens.is_none() => Standing::Closed,
            None if peer.is_secure() => Standing::Nobody,
            None => Standing::Insecure,
            Some(login) => match tokens.as_ref().and_then(|tokens| tokens.of(login)) {
                None => Standing::Removed,
                Some(grant) if grant.is_expired(Timestamp::now()) => Standing::Expired,
                Some(_) => Standing::LoggedIn,
            },
        }
    }

    /// Whether a peer may write as `author` in a journal. Nobody takes the name of another's token.
    ///
    /// # Errors
    /// What it is told if not.
    pub(crate) fn may_be(&self, peer: &Peer, author: &Author, journal: &str) -> Result<(), Refusal> {
        let base = author.as_str().split('/').next().unwrap_or_default();
        let is_own = peer.login.as_ref().is_some_and(|login| login.name.as_str() == base);
        let tokens = self.tokens.borrow().clone().filter(|_| !is_own);
        let Some(tokens) = tokens else { return Ok(()) };
        let is_taken = || base.parse().is_ok_and(|base: Name| tokens.by_name.contains_key(&base));
        if self.rights(peer, journal).has(Right::Admin) || (peer.login.is_none() && !is_taken()) {
            return Ok(());
        }
        // Without names: a frame may bring very many.
        let why = match peer.login {
            Some(_) => "a token writes under its own name, which can only be added to, as in anna/phone",
            None => "this is the name of a token, and only whoever logs in with it writes under it",
        };
        Err(Refusal::new(Code::NotPermitted, why))
    }

    /// Whether a peer that writes as `author` may correct what `earlier` wrote. A name alone shows who somebody is only
    /// where all are trusted: on this machine.
    pub(crate) fn may_correct(&self, peer: &Peer, earlier: &Author, author: &Author, journal: &str) -> bool {
        let is_own = match (&peer.login, peer.door) {
            (Some(_), _) => self.may_be(peer, earlier, journal).is_ok(),
            (None, Door::Loopback) => earlier == author && !earlier.as_str().starts_with("uid:"),
            (None, Door::User) => peer.uid.is_some_and(|uid| earlier.as_str() == uid_name(uid)),
            (None, Door::Own | Door::Network | Door::Allowed) => false,
        };
        is_own || self.rights(peer, journal).has(Right::Admin)
    }

    /// A peer that never logs in, at a quiet listener or by a datagram: whether its network may write here.
    ///
    /// # Errors
    /// Why it is turned away.
    pub(crate) fn admit(&self, mut peer: Peer, journal: &str) -> Result<Peer, Refusal> {
        let allowed =
            |ip: IpAddr| self.rules.allow.iter().any(|network| network.contains(&ip.to_canonical()));
        if peer.door != Door::Own && peer.ip.is_some_and(allowed) {
            peer.door = Door::Allowed;
        }
        match self.rights(&peer, journal).has(Right::Append) {
            true => Ok(peer),
            false => {
                let message = "this network may not write here; --allow CIDR lets it";
                Err(Refusal::new(Code::NotPermitted, message))
            }
        }
    }

    /// Who reads over UDP, where nobody logs in and an address can be forged: private networks, where there are no tokens.
    ///
    /// # Errors
    /// What others are told.
    pub(crate) fn may_read_datagrams(&self, peer: &Peer) -> Result<(), Refusal> {
        let is_loopback = peer.ip.is_some_and(|ip| ip.to_canonical().is_loopback());
        let is_limited = || self.rules.loopback_can.is_some_and(|can| !can.has(Right::Read));
        let (code, why) = match peer.is_private() {
            false => (Code::Denied, "only private networks may read over UDP"),
            true if self.has_tokens() => (
                Code::NotPermitted,
                "this needs the right read, which takes a token, and there is no login over UDP",
            ),
            true if is_loopback && is_limited() => (Code::NotPermitted, Standing::Closed.lacks(Right::Read)),
            true => return Ok(()),
        };
        Err(Refusal::new(code, why))
    }

    /// Whether a token may be somebody's, as far as is known now.
    pub(crate) fn is_known(&self, token: Option<&Token>) -> bool {
        let tokens = self.tokens.borrow().clone();
        tokens.zip(token).is_some_and(|(tokens, token)| tokens.access.find(token).is_some())
    }

    /// Waits as long as a token does that is not known: until one that was made just now would be, and longer where there
    /// were many wrong ones before. A right one does not wait. Cancel safe.
    pub(crate) fn patience(self: &Arc<Self>, peer: &Peer) -> impl Future<Output = ()> + Send + use<> {
        let (delay, guard) = (self.guesses.delay(peer.ip, Instant::now()), Arc::clone(self));
        async move {
            sleep(delay).await;
            if guard.has_tokens() {
                let mut looks = guard.looks.subscribe();
                let seen = *looks.borrow() + 2;
                // The disk may hang.
                let _ = timeout(LOOK_MAX, looks.wait_for(|looks| *looks >= seen)).await;
            }
        }
    }

    /// Logs a peer in, which is the token's author from here on.
    ///
    /// # Errors
    /// The token grants nothing; the peer stays what it was.
    pub(crate) fn log_in(&self, peer: &mut Peer, token: Option<&Token>) -> Result<(), Refusal> {
        let tokens = self.tokens.borrow().clone();
        let now = Timestamp::now();
        let grant = tokens.as_ref().zip(token).and_then(|(tokens, token)| tokens.access.find(token));
        let why = match grant {
            Some(grant) if !grant.is_expired(now) => {
                let Grant { name, hash, .. } = grant;
                tracing::info!(target: AUDIT, peer = peer.address, token = %name, "logged in");
                peer.author = Arc::new(name.author().clone());
                peer.login = Some(Login { name: name.clone(), hash: *hash, noted: Instant::now() });
                self.note_use(name);
                return Ok(());
            }
            Some(grant) => {
                tracing::warn!(target: AUDIT, peer = peer.address, token = %grant.name, "an expired token");
                "this token has expired"
            }
            None if tokens.is_none() => "this server asks for no tokens; leave it out",
            None => {
                self.guesses.note(peer.ip, Instant::now());
                tracing::warn!(target: AUDIT, peer = peer.address, "a wrong token");
                "this is not a token of this server"
            }
        };
        Err(Refusal::new(Code::BadToken, why))
    }

    fn note_use(&self, name: &Name) {
        let mut used = self.used();
        used.last.note(name, Timestamp::now());
        used.changed = true;
    }

    /// Notes that a login is still used, now and then.
    pub(crate) fn note(&self, login: &mut Login) {
        if login.noted.elapsed() >= LAST_USE_PAUSE {
            login.noted = Instant::now();
            self.note_use(&login.name);
        }
    }

    /// Waits until a peer that is logged in may not read a journal any more. Cancel safe.
    pub(crate) async fn cannot_read(&self, peer: &Peer, journal: &str) -> Refusal {
        // Before the first look, so that no change is missed.
        let mut changes = self.tokens.subscribe();
        loop {
            if let Err(refusal) = self.may(peer, Right::Read, journal) {
                return refusal;
            }
            let expires = peer.login.as_ref().and_then(|login| self.expiry(login));
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep(expires.unwrap_or(EXPIRY_LOOK_MAX).min(EXPIRY_LOOK_MAX)) => {}
            }
        }
    }

    /// How long a token still grants what it grants, if it expires.
    fn expiry(&self, login: &Login) -> Option<Duration> {
        let expires = self.tokens.borrow().as_ref()?.of(login)?.expires?;
        // Past it by a little, so that one look is enough.
        let left = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
        Some(left + Duration::from_millis(1))
    }

    /// Takes up changes of the file, and writes down when tokens were used, for as long as the server runs. Cancel safe.
    pub(crate) async fn watch(self: Arc<Self>, mut stamp: Stamp) {
        let (mut write_at, mut failed) = (Instant::now() + LAST_USE_PAUSE, false);
        loop {
            sleep(ACCESS_PAUSE).await;
            let (file, before) = (self.file.clone(), stamp);
            let look = spawn_blocking(move || {
                let now = file.stamp();
                let read = (now != before).then(|| file.read());
                (now, read)
            });
            let Ok((now, read)) = look.await else { continue };
            match read {
                None => {}
                // It may be readable at the next look: the descriptors had run out, say.
                Some(Err(Error::Io { .. })) if failed => {}
                Some(Err(error @ Error::Io { .. })) => {
                    failed = true;
                    tracing::error!(target: AUDIT, %error, "the tokens stay as they were until it can be read");
                }
                Some(read) => {
                    (stamp, failed) = (now, false);
                    self.take(read);
                }
            }
            self.looks.send_modify(|looks| *looks += 1);
            if Instant::now() >= write_at {
                self.write_last_use().await;
                write_at = Instant::now() + LAST_USE_PAUSE;
            }
        }
    }

    /// Writes down when tokens were used.
    pub(crate) async fn write_last_use(&self) {
        let tokens = self.tokens.borrow().clone();
        let used = std::mem::take(&mut self.used().changed);
        let Some(tokens) = tokens.filter(|_| used) else { return };
        let (file, mut last) = (self.file.clone(), self.used().last.clone());
        let written = spawn_blocking(move || file.write_last_use(&mut last, &tokens.access)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "when tokens were used is not written down");
        }
    }

    /// The file has changed. What cannot be used changes nothing.
    fn take(&self, read: Result<Option<Access>, Error>) {
        match read {
            Ok(Some(access)) => {
                let new = Tokens::from(access);
                self.tell_changes(&new);
                self.tokens.send_replace(Some(Arc::new(new)));
            }
            Ok(None) if self.has_tokens() => {
                tracing::error!(target: AUDIT, "the file with the tokens is gone; they hold until the next start");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(target: AUDIT, %error, "the tokens stay as they were"),
        }
    }

    fn tell_changes(&self, new: &Tokens) {
        let old = self.tokens.borrow().clone();
        if old.is_none() {
            tracing::warn!(target: AUDIT, "tokens are in use from now on");
        }
        let none = HashMap::new();
        let old = old.as_ref().map_or(&none, |old| &old.by_name);
        for (name, grant) in &new.by_name {
            let Grant { rights, journals, expires, .. } = grant;
            let expires = expires.map(tracing::field::display);
            let what = match old.get(name) {
                Some(before) if before == grant => continue,
                Some(_) => "changed",
                None => "added",
            };
            tracing::info!(target: AUDIT, token = %name, %rights, %journals, expires, "{what}");
        }
        for name in old.keys().filter(|name| !new.by_name.contains_key(name)) {
            tracing::info!(target: AUDIT, token = %name, "removed");
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
