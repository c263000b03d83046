//! Sends what a tray of the outbox keeps: in order, with its keys, and once each.

use std::collections::VecDeque;
use std::time::Duration;

use diary_client::{Ack, Address, Client, Code, Error, NewEntry, Options, Refusal, State};
use diary_proto::entry::check_text;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cmd::{count, tell_refused};
use crate::outbox::{Outbox, Tray};
use crate::term::ui::Ui;
use crate::unanswered::{Unanswered, answer_of_first, send_next, take_answered};

/// How long a lost connection is waited for: what is kept can go out with the next run.
const AWAY_LIMIT: Duration = Duration::from_secs(10);

/// How long a server that is there may answer nothing. Longer, since its disk may be slow.
const SILENT_LIMIT: Duration = Duration::from_secs(30);

/// What became of a tray's entries.
#[derive(Default)]
pub(crate) struct Delivery {
    /// By counter, in order.
    pub(crate) acked: Vec<(u64, Ack)>,
    /// What was refused for good; it stays in the tray for a person's choice.
    pub(crate) refused: Vec<(u64, Refusal)>,
    /// Why the rest stays in the tray and goes out another time.
    pub(crate) end: Option<Error>,
}

/// Sends what a tray keeps and was not refused. What becomes of it is noted in the tray at once.
///
/// Not cancellation safe: what was sent and not noted counts as maybe sent.
pub(crate) async fn deliver(tray: &mut Tray) -> Delivery {
    let mut delivery = Delivery::default();
    let runs = runs(tray, &mut delivery);
    if runs.is_empty() {
        return delivery;
    }
    tray.sending();
    for run in runs {
        let counters: Vec<u64> = run.iter().map(|(counter, _)| *counter).collect();
        match send_run(tray, run, &mut delivery).await {
            Ok(()) => {}
            // Nothing is noted: where its journal is back, it goes there.
            Err(Error::OtherJournal(why)) => {
                let refusal = Refusal::new(Code::OtherJournal, why);
                let left =
                    tray.entries().filter(|kept| kept.refusal.is_none() && counters.contains(&kept.counter));
                delivery.refused.extend(left.map(|kept| (kept.counter, refusal.clone())));
            }
            Err(error) => {
                delivery.end = Some(error);
                break;
            }
        }
    }
    note_unsent(tray);
    delivery
}

/// Sends what earlier runs left for this server; what becomes of it is told, of what went well only if `told`.
///
/// # Errors
/// Why nothing more can be sent now.
pub(crate) async fn deliver_left(
    outbox: &Outbox,
    server: &Address,
    told: bool,
    ui: &Ui,
) -> Result<(), Error> {
    let mut left = outbox.adopt(Some(server));
    let mut sent = 0;
    let mut end = Ok(());
    for mut tray in left.by_ref() {
        let delivery = deliver(&mut tray).await;
        sent += delivery.acked.len();
        tell_refused(
            ui,
            outbox,
            &tray,
            delivery.refused.iter().map(|(counter, refusal)| (*counter, refusal)),
        );
        if let Some(error) = delivery.end {
            end = Err(error);
            break;
        }
    }
    left.troubles.iter().for_each(|trouble| ui.say(format_args!("{trouble}")));
    if sent > 0 && told {
        ui.say(format_args!("{} kept from before went to {server}", count(sent, "entry", "entries")));
    }
    end
}

/// What is to be sent, cut where counters are missing, since a client counts without a gap, and where it is for
/// another journal.
fn runs(tray: &mut Tray, delivery: &mut Delivery) -> Vec<VecDeque<(u64, NewEntry)>> {
    let open = tray.entries().filter(|kept| kept.refusal.is_none());
    let open: Vec<_> = open.map(|kept| (kept.counter, kept.to_send())).collect();
    let mut runs: Vec<VecDeque<(u64, NewEntry)>> = Vec::new();
    for (counter, entry) in open {
        if let Err(refusal) = check_text(&entry.text) {
            tray.refused(counter, &refusal);
            delivery.refused.push((counter, refusal));
            continue;
        }
        let journal = |counter| tray.entry(counter).and_then(|kept| kept.journal);
        let joins = |last: u64| last + 1 == counter && journal(last) == journal(counter);
        match runs.last_mut() {
            Some(run) if run.back().is_some_and(|(last, _)| joins(*last)) => {
                run.push_back((counter, entry));
            }
            _ => runs.push(VecDeque::from([(counter, entry)])),
        }
    }
    runs
}

/// Sends entries with consecutive counters. An error is the reason why some of them stay.
async fn send_run(
    tray: &mut Tray,
    mut run: VecDeque<(u64, NewEntry)>,
    delivery: &mut Delivery,
) -> Result<(), Error> {
    let Some(&(first_counter, _)) = run.front() else { return Ok(()) };
    let sent = |counter: &u64| tray.entry(*counter).is_some_and(|kept| kept.sent);
    let last_sent = run.iter().map(|(counter, _)| *counter).filter(sent).max();
    let options = Options {
        author: tray.author().cloned(),
        secret: Some(tray.secret()),
        first_counter,
        journal: tray.entry(first_counter).and_then(|kept| kept.journal),
        retry_below: last_sent.map_or(0, |counter| counter + 1),
    };
    let client = Client::connect(tray.server().clone(), options).await?;
    tray.met(client.welcome().journal_id);
    let address = tray.server().clone();
    let mut hope = Hope::new(&client, &address);
    let mut sending = Sending { tray, delivery, open: VecDeque::new(), full: None };
    let end = loop {
        if run.is_empty() && sending.open.is_empty() {
            break None;
        }
        tokio::select! {
            biased;
            (counter, answer) = answer_of_first(&mut sending.open), if !sending.open.is_empty() => {
                hope.progress();
                if let Err(error) = sending.settle(counter, answer) {
                    break Some(error);
                }
                if sending.full.is_some() {
                    // What follows would be refused too, or overtake what was.
                    run.clear();
                }
            }
            sent = send_next(&client, || run.pop_front()), if !run.is_empty() => match sent {
                Ok(sent) => sending.open.push_back(sent),
                Err(error) => break Some(error),
            },
            error = hope.lost() => break Some(error),
        }
    };
    match (end, sending.full.take()) {
        (Some(error), _) => {
            let given_up = client.give_up().await;
            sending.give_up(given_up.iter().filter(|entry| !entry.sent).count());
            Err(error)
        }
        (None, full) => {
            // All is answered: whether the server still says goodbye is not worth an error.
            let _ = client.close().await;
            full.map_or(Ok(()), |refusal| Err(Error::Refused(refusal)))
        }
    }
}

/// Notes what was certainly not sent, so that a later run need not ask the server whether it was.
pub(crate) fn note_unsent(tray: &mut Tray) {
    let mut from = None;
    for kept in tray.entries() {
        match (kept.sent && kept.refusal.is_none(), from) {
            (true, _) => from = None,
            (false, None) => from = Some(kept.counter),
            (false, Some(_)) => {}
        }
    }
    if let Some(from) = from {
        tray.not_sent(from);
    }
}

/// Entries on their way.
struct Sending<'a> {
    tray: &'a mut Tray,
    delivery: &'a mut Delivery,
    /// What was sent and not answered, in order.
    open: Unanswered<u64>,
    /// The server has no room.
    full: Option<Refusal>,
}

impl Sending<'_> {
    /// An entry was answered. An error means that the client has ended without its ack.
    fn settle(&mut self, counter: u64, answer: Result<Ack, Error>) -> Result<(), Error> {
        match answer {
            Ok(ack) => {
                self.tray.acked(counter);
                self.delivery.acked.push((counter, ack));
            }
            // It is not stored, and may be later.
            Err(Error::Refused(refusal)) if refusal.code.is_for_now() => self.full = Some(refusal),
            Err(Error::Refused(refusal)) => {
                self.tray.refused(counter, &refusal);
                self.delivery.refused.push((counter, refusal));
            }
            Err(error) => {
                self.tray.sent(counter);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The client was given up, with so many entries at the end that it never sent.
    fn give_up(mut self, unsent: usize) {
        for (counter, answer) in take_answered(&mut self.open) {
            // Neither an ack nor a refusal ends anything.
            let _ = self.settle(counter, answer);
        }
        let left: Vec<u64> = self.open.iter().map(|(counter, _)| *counter).collect();
        let sent = left.len().saturating_sub(unsent);
        left[..sent].iter().for_each(|&counter| self.tray.sent(counter));
    }
}

/// Whether it is worth waiting for a server.
struct Hope<'a> {
    state: watch::Receiver<State>,
    address: &'a Address,
    /// When it last answered.
    progress: Instant,
    /// Since when the connection is lost.
    lost_at: Option<Instant>,
}

impl<'a> Hope<'a> {
    fn new(client: &Client, address: &'a Address) -> Self {
        Self { state: client.state(), address, progress: Instant::now(), lost_at: None }
    }

    /// It answered.
    fn progress(&mut self) {
        self.progress = Instant::now();
    }

    /// Waits until there is no hope that it answers soon, and says why.
    ///
    /// Cancellation safe.
    async fn lost(&mut self) -> Error {
        loop {
            let error = self.state.borrow_and_update().error().cloned();
            let silent_until = self.progress + SILENT_LIMIT;
            let (until, why) = match error {
                // It was stopped. If it comes back, what is kept will find it.
                Some(error @ Error::NothingListens(_)) => return error,
                Some(error) => {
                    let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
                    (silent_until.min(lost_at + AWAY_LIMIT), error)
                }
                None => {
                    self.lost_at = None;
                    (silent_until, Error::Silent { address: self.address.clone(), limit: SILENT_LIMIT })
                }
            };
            match timeout_at(until, self.state.changed()).await {
                Ok(Ok(())) => {}
                // The client has ended; whoever waits for its answers learns why.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return why,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{BREAK, Fake, REFUSED, SILENCE, STALE, TIME};
    use crate::outbox::Outbox;
    use diary_client::Author;
    use tempfile::TempDir;

    /// A tray for `address` that keeps these texts.
    fn tray(state: &TempDir, address: &str, texts: &[&str]) -> Tray {
        let anna = Author::new("anna").unwrap();
        let mut tray = Outbox::new(Some(state.path())).begin(&address.parse().unwrap(), Some(&anna)).unwrap();
        push(&mut tray, texts);
        tray
    }

    fn push(tray: &mut Tray, texts: &[&str]) {
        for text in texts {
            tray.push(TIME, text).kept.unwrap();
        }
    }

    /// The one tray that nobody holds.
    fn adopt(state: &TempDir) -> Tray {
        let mut left = Outbox::new(Some(state.path())).adopt(None);
        let tray = left.next().unwrap();
        assert!(left.next().is_none() && left.troubles.is_empty(), "{:?}", left.troubles);
        tray
    }

    fn is_empty(state: &TempDir) -> bool {
        std::fs::read_dir(state.path().join("outbox")).unwrap().next().is_none()
    }

    /// Where nothing listens yet. No client connects from an address other than 127.0.0.1, so nothing takes the
    /// port meanwhile.
    fn address_to_be() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        listener.local_addr().unwrap().to_string()
    }

    fn left(tray: &Tray) -> Vec<&str> {
        tray.entries().map(|kept| kept.text.as_str()).collect()
    }

    #[tokio::test]
    async fn what_was_just_written_is_no_retry_and_what_was_left_is() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut fresh = tray(&state, fake.address(), &["a", "b"]);
        let delivery = deliver(&mut fresh).await;
        assert!(delivery.end.is_none() && delivery.refused.is_empty());
        assert!(delivery.acked.iter().map(|(counter, ack)| (*counter, ack.seq)).eq([(1, 1), (2, 2)]));
        drop(fresh);
        assert!(is_empty(&state));

        drop(tray(&state, fake.address(), &["c", "d", "e"]));
        let mut adopted = adopt(&state);
        adopted.drop_entry(2).unwrap();
        assert_eq!(deliver(&mut adopted).await.acked.len(), 2);
        drop(adopted);
        assert!(is_empty(&state));
        assert_eq!(fake.texts(), ["anna: a", "anna: b", "anna: c", "anna: e"]);
        assert_eq!(fake.appends(), ["1", "2", "1+", "3+"]);
    }

    /// The run before was killed between the ack and its note.
    #[tokio::test]
    async fn what_is_in_the_diary_already_is_not_there_twice() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut first = tray(&state, fake.address(), &["a", "b"]);
        let path = first.path().unwrap();
        let before = std::fs::read(&path).unwrap();
        deliver(&mut first).await;
        drop(first);
        std::fs::write(&path, before).unwrap();
        assert_eq!(deliver(&mut adopt(&state)).await.acked.len(), 2);
        assert_eq!(fake.texts(), ["anna: a", "anna: b"]);
        assert!(is_empty(&state));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_leaves_no_double() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let break_one = format!("{BREAK} 1");
        let mut tray = tray(&state, fake.address(), &["a", &break_one, "b"]);
        assert_eq!(deliver(&mut tray).await.acked.len(), 3);
        assert_eq!(fake.texts(), ["anna: a", "anna: break 1", "anna: b"]);
    }

    #[tokio::test]
    async fn a_refusal_stays_for_a_choice_and_the_others_go_on() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        drop(tray(&state, fake.address(), &["a", STALE, "b"]));
        let mut adopted = adopt(&state);
        let delivery = deliver(&mut adopted).await;
        let codes: Vec<_> =
            delivery.refused.iter().map(|(counter, refusal)| (*counter, refusal.code)).collect();
        assert_eq!((codes, delivery.acked.len()), (vec![(2, Code::StaleKey)], 2));
        drop(adopted);

        let mut adopted = adopt(&state);
        let kept = adopted.entry(2).unwrap();
        assert_eq!(kept.refusal.as_ref().map(|refusal| refusal.code), Some(Code::StaleKey));
        let delivery = deliver(&mut adopted).await;
        assert!(delivery.acked.is_empty() && delivery.refused.is_empty(), "it is not tried again");
        assert_eq!(adopted.renew(2), Ok(4));
        assert_eq!(deliver(&mut adopted).await.acked.len(), 1);
        drop(adopted);
        assert_eq!(fake.texts(), ["anna: a", "anna: b", "anna: stale"]);
        assert_eq!(fake.appends(), ["1+", "2+", "3+", "4"]);
        assert!(is_empty(&state));
    }

    #[tokio::test]
    async fn a_text_that_no_server_takes_is_refused_here() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut tray = tray(&state, fake.address(), &["a", "x\0y", "b"]);
        let delivery = deliver(&mut tray).await;
        assert_eq!((delivery.acked.len(), delivery.refused[0].1.code), (2, Code::Nul));
        assert_eq!(left(&tray), ["x\0y"]);
        assert_eq!(fake.appends(), ["1", "3"]);
    }

    #[tokio::test]
    async fn a_full_disk_keeps_the_entry() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut tray = tray(&state, fake.address(), &["a", REFUSED]);
        let delivery = deliver(&mut tray).await;
        assert!(matches!(delivery.end, Some(Error::Refused(refusal)) if refusal.code == Code::DiskFull));
        assert!(delivery.refused.is_empty());
        assert_eq!(left(&tray), [REFUSED]);
        assert!(tray.entries().all(|kept| kept.refusal.is_none()));
    }

    /// What was not sent for certain is no retry later, however often that happens.
    #[tokio::test]
    async fn a_server_that_is_not_there_is_not_waited_for() {
        let address = address_to_be();
        let state = tempfile::tempdir().unwrap();
        let mut fresh = tray(&state, &address, &["a", STALE]);
        for _ in 0..2 {
            let delivery = deliver(&mut fresh).await;
            assert!(matches!(delivery.end, Some(Error::NothingListens(_))), "{:?}", delivery.end);
            drop(fresh);
            fresh = adopt(&state);
            assert!(fresh.entries().all(|kept| !kept.sent));
        }
        let fake = Fake::start_on(&address).await;
        assert_eq!(deliver(&mut fresh).await.acked.len(), 2);
        assert_eq!(fake.appends(), ["1", "2"]);
        assert_eq!(fake.texts(), ["anna: a", "anna: stale"]);
    }

    /// Whoever is killed while it sends leaves no word that nothing was sent.
    #[tokio::test]
    async fn an_attempt_is_noted_before_it_is_made() {
        let address = address_to_be();
        let state = tempfile::tempdir().unwrap();
        let mut first = tray(&state, &address, &["a"]);
        deliver(&mut first).await;
        drop(first);
        let mut second = adopt(&state);
        let fake = Fake::start_on(&address).await;
        second.sending();
        let path = second.path().unwrap();
        let killed_here = std::fs::read(&path).unwrap();
        deliver(&mut second).await;
        drop(second);
        std::fs::write(&path, killed_here).unwrap();
        assert_eq!(deliver(&mut adopt(&state)).await.acked.len(), 1);
        assert_eq!(fake.appends(), ["1", "1+"]);
        assert_eq!(fake.texts(), ["anna: a"]);
    }

    /// Once the clock stands still, it runs ahead whenever all wait: no real thirty seconds.
    #[tokio::test]
    async fn a_server_that_answers_nothing_is_given_up() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut tray = tray(&state, fake.address(), &["a", SILENCE, "b"]);
        let ending = async {
            fake.stores(1).await;
            tokio::time::pause();
        };
        let (delivery, ()) = tokio::join!(deliver(&mut tray), ending);
        assert!(matches!(delivery.end, Some(Error::Silent { .. })), "{:?}", delivery.end);
        assert_eq!(left(&tray), [SILENCE, "b"]);
        assert!(tray.entries().all(|kept| kept.sent));
    }

    #[tokio::test]
    async fn many_entries() {
        let fake = Fake::start().await;
        let state = tempfile::tempdir().unwrap();
        let mut tray = tray(&state, fake.address(), &[]);
        let texts: Vec<_> = (1..=300).map(|number| format!("line {number}")).collect();
        push(&mut tray, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(deliver(&mut tray).await.acked.len(), 300);
        assert!(fake.texts().iter().zip(&texts).all(|(stored, text)| *stored == format!("anna: {text}")));
        drop(tray);
        assert!(is_empty(&state));
    }
}
