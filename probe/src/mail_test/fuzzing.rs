//! Entry points for the fuzz targets and for the test that keeps them working: bytes from outside,
//! with the invariants of each module checked. Not part of the public interface.

use std::{cell::RefCell, time::Duration};

use mailqos_base::Secret;
use mailqos_config::{Endpoint, PickupProtocol, TlsMode};
use mailqos_mail::Credentials;
use mailqos_model::{Direction, Hop, UtcMicros};
use mailqos_net::Trust;
use tokio::runtime::Runtime;

use super::{
    classify::{self, Classification, Known},
    pickup::{
        self, Action, Found, MailClassifier, MailboxEndpoint, Memory, VisitStage, VisitTarget,
    },
    received,
    receiver::Receiver,
    token::{SigningKey, Token},
    verdicts,
};

/// A function to fuzz with bytes from outside; it panics if an invariant is violated.
pub type Target = fn(&[u8]);

/// Fuzz targets by name, which is also the name of the folder with their seeds.
pub const TARGETS: [(&str, Target); 7] = [
    ("pop3_reply", pop3_reply),
    ("imap_reply", imap_reply),
    ("graph_reply", graph_reply),
    ("received", received),
    ("token", token),
    ("authentication_results", authentication_results),
    ("bounce", bounce),
];

/// Key that signs the tokens of the seeds.
const KEY: &str = "the key of the fuzz targets";
/// Separator between the sessions of several visits.
const NEXT_VISIT: &[u8] = b"\n=== next visit ===\n";

/// Returns the content of the seeds' token.
fn seeded() -> Token {
    Token {
        site: "here".parse().expect("a name"),
        monitor: "mail".parse().expect("a name"),
        sent_at: UtcMicros(1_795_456_800_000_000),
        nonce: *b"fuzzing!",
    }
}

fn key() -> SigningKey {
    SigningKey::new(&Secret::new(KEY)).expect("long enough")
}

/// Returns the token of the seeds.
pub fn seeded_token() -> String {
    key().write(&seeded())
}

struct Seeds {
    key: SigningKey,
    action: Action,
}

impl Known for Seeds {
    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn sender(&self, _: &Token) -> Option<String> {
        Some("probe@example.com".to_owned())
    }
}

impl MailClassifier for Seeds {
    fn action(&self, _: &Token) -> Action {
        self.action
    }

    fn largest(&self) -> u64 {
        1_000_000
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
}

/// Replays a server's side of one or several visits over POP3.
pub fn pop3_reply(said: &[u8]) {
    let _ = visits(PickupProtocol::Pop3, said);
}

/// Replays a server's side of one or several visits over IMAP.
pub fn imap_reply(said: &[u8]) {
    let _ = visits(PickupProtocol::Imap, said);
}

/// Replays a server's side of one or several visits over Microsoft Graph.
pub fn graph_reply(said: &[u8]) {
    let _ = visits(PickupProtocol::Graph, said);
}

/// Replays visits and returns the findings and the sent data.
fn visits(protocol: PickupProtocol, said: &[u8]) -> (Vec<Found>, String) {
    // The last byte selects the action on our mail.
    let action = match said.last().map_or(0, |byte| byte % 3) {
        0 => Action::Collect,
        1 => Action::Delete,
        _ => Action::Keep,
    };
    let judge = Seeds { key: key(), action };
    let door = MailboxEndpoint {
        endpoint: Endpoint {
            // Nothing listens there, if the client connects again.
            server: "127.0.0.1".to_owned(),
            port: 0,
            tls: TlsMode::None,
            trust: Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        },
        protocol,
        folders: vec!["INBOX".to_owned(), "Junk".to_owned()],
        // Over Microsoft Graph also the longest wait that the server can ask for.
        step: match protocol {
            PickupProtocol::Graph => Duration::from_millis(900),
            _ => Duration::from_secs(10),
        },
        whereabouts: VisitStage::default(),
    };
    let credentials = match protocol {
        PickupProtocol::Graph => Credentials::token("user", Secret::new("a password")),
        _ => Credentials::password("user", Secret::new("a password")),
    };
    let mut memory = Memory::default();
    let (mut taken, mut all) = (Vec::new(), String::new());
    let mut rest = Some(said);
    while let Some(said) = rest {
        let end = said.windows(NEXT_VISIT.len()).position(|window| window == NEXT_VISIT);
        let (this, next) = match end {
            Some(at) => (&said[..at], Some(&said[at + NEXT_VISIT.len()..])),
            None => (said, None),
        };
        rest = next;
        let visit = RUNTIME.with_borrow(|runtime| {
            runtime.block_on(pickup::replay(
                this.to_vec(),
                VisitTarget { door: &door, credentials: Some(&credentials) },
                &mut memory,
                &judge,
            ))
        });
        assert!(
            visit.found.iter().all(|found| found.token == seeded()),
            "only what is signed is ours"
        );
        taken.extend(visit.found);
        let Some(transcript) = visit.transcript else {
            assert!(protocol == PickupProtocol::Graph && visit.error.is_some(), "held back");
            continue;
        };
        let sent: String = transcript
            .chunks()
            .filter(|chunk| chunk.direction == Direction::Sent)
            .map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned())
            .collect();
        let deletes = ["DELE ", " STORE ", "EXPUNGE", "permanentDelete", "DELETE "]
            .iter()
            .any(|command| sent.contains(command));
        assert!(!deletes || !taken.is_empty(), "what is not ours stays: {sent}");
        assert!(action != Action::Keep || !deletes, "what another waits for stays: {sent}");
        assert!(!sent.contains("a password"), "{sent}");
        if let Some(error) = visit.error {
            assert!(
                error.text.chars().count() <= 300 && !error.text.contains(['\r', '\n']),
                "{error}"
            );
        }
        all += &sent;
    }
    (taken, all)
}

/// Parses the `Received` fields of a mail.
pub fn received(mail: &[u8]) {
    let hops: Vec<Hop> = received::hops(mail);
    for pair in hops.windows(2) {
        assert!(pair[1].delay.is_none() || pair[1].at.is_some());
    }
    for hop in &hops {
        for name in [&hop.by, &hop.from].into_iter().flatten() {
            assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
        }
    }
    let _ = received::is_filed(mail);
    let _ = received::is_of_submission(mail, &String::from_utf8_lossy(mail), "[127.0.0.1]");
    let _ = received::date(&String::from_utf8_lossy(mail));
}

/// Searches a mail for a token.
pub fn token(mail: &[u8]) {
    let found = key().find(mail);
    assert!(found.is_none_or(|token| token == seeded()), "nothing is found that was not signed");
    let _ = key().read(&String::from_utf8_lossy(mail));
}

/// Reads the verdicts of a mail.
pub fn authentication_results(mail: &[u8]) {
    let receiver = Receiver::new("probe@example.com", "imap.example.com", &[]);
    let verdicts = verdicts::read(mail, &receiver);
    for word in [&verdicts.spf, &verdicts.dkim, &verdicts.dmarc].into_iter().flatten() {
        assert!(
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{word:?}"
        );
    }
    assert!(verdicts.score.is_none_or(f64::is_finite));
}

/// Classifies a mail that may be a notification about one of ours.
pub fn bounce(mail: &[u8]) {
    let judge = Seeds { key: key(), action: Action::Collect };
    let classification = classify::classify(&judge, mail);
    if let Some(token) = classification.token() {
        assert_eq!(*token, seeded(), "nothing is about us that was not signed");
    }
    if let Classification::Notification(_, report) = &classification {
        assert!(
            report.status.as_ref().is_none_or(|status| status.len() <= 11
                && status.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')),
            "{report:?}"
        );
    }
    // Enclosed in another message, a message about our mail never becomes the mail.
    let head = b"From: Anna <anna@example.com>\r\nSubject: look\r\n\r\n";
    let quoted = classify::classify(&judge, &[head, mail].concat());
    assert!(!matches!(quoted, Classification::TestMail(_)), "{quoted:?}");
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::Path};

    use super::*;

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
    }

    #[test]
    fn a_foreign_mail_with_our_identifier_is_not_deleted() {
        let listed = "+OK ready\r\n+OK\r\nUSER\r\nUIDL\r\nTOP\r\nSASL PLAIN\r\n.\r\n+OK\r\n+OK\r\n1 aaa\r\n.\r\n";
        let ours = format!("+OK\r\nX-MailQoS-Token: {}\r\n\r\n.\r\n", seeded_token());
        let next = String::from_utf8_lossy(NEXT_VISIT);
        let deletions = |second: &str| {
            let said = format!("{listed}{ours}{ours}+OK\r\n{next}{listed}{second}x");
            let (taken, sent) = visits(PickupProtocol::Pop3, said.as_bytes());
            assert_eq!(taken.len(), 1, "{sent}");
            sent.matches("DELE").count()
        };
        assert_eq!(deletions(&format!("{ours}+OK\r\n")), 2);
        assert_eq!(deletions("+OK\r\nSubject: hello\r\n\r\n.\r\n"), 1);
    }

    #[test]
    fn without_top_a_test_mail_of_any_size_is_read() {
        let listed = "+OK ready\r\n-ERR\r\n+OK\r\n+OK\r\n+OK\r\n1 aaa\r\n.\r\n-ERR no TOP\r\n";
        let ours = format!("+OK\r\nX-MailQoS-Token: {}\r\n\r\n.\r\n", seeded_token());
        let taken = |size: u64| {
            let said = format!("{listed}+OK 1 {size}\r\n+OK 1 {size}\r\n{ours}+OK\r\nx");
            visits(PickupProtocol::Pop3, said.as_bytes()).0.len()
        };
        // Foreign mails are not all retrieved.
        assert_eq!((taken(1_100_000), taken(2_000_000)), (1, 0));
    }

    #[test]
    fn a_failed_deletion_does_not_end_the_visit() {
        let listed = "+OK ready\r\n+OK\r\nUSER\r\nUIDL\r\nTOP\r\nSASL PLAIN\r\n.\r\n+OK\r\n+OK\r\n2 bbb\r\n1 aaa\r\n.\r\n";
        let ours = format!("+OK\r\nX-MailQoS-Token: {}\r\n\r\n.\r\n", seeded_token());
        let foreign = "+OK\r\nSubject: hello\r\n\r\n.\r\n";
        let next = String::from_utf8_lossy(NEXT_VISIT);
        let refused = "-ERR read-only\r\n";
        let first = format!("{listed}{ours}{ours}{refused}{foreign}");
        let said = format!("{first}{next}{listed}{ours}{refused}x");
        let (taken, sent) = visits(PickupProtocol::Pop3, said.as_bytes());
        assert_eq!((taken.len(), sent.matches("DELE").count()), (1, 2), "{sent}");
        assert_eq!(sent.matches("TOP 1").count() + sent.matches("TOP 2").count(), 3, "{sent}");
    }

    #[test]
    fn mails_that_cannot_be_retrieved_are_retried_in_small_batches() {
        let ready = "+OK ready\r\n+OK\r\nUSER\r\nUIDL\r\nTOP\r\nSASL PLAIN\r\n.\r\n+OK\r\n+OK\r\n";
        let ours = format!("+OK\r\nX-MailQoS-Token: {}\r\n\r\n.\r\n", seeded_token());
        let refused = "-ERR read-only\r\n";
        let next = String::from_utf8_lossy(NEXT_VISIT);
        // Number of attempts to delete mails, if each visit after the retrieving one tries this
        // many again.
        let deletions = |mails: usize, again: &[usize]| {
            let listed: String =
                (1..=mails).map(|number| format!("{number} mail{number}\r\n")).collect();
            let listed = format!("{ready}{listed}.\r\n");
            let taken = format!("{ours}{ours}{refused}").repeat(mails);
            let mut said = format!("{ready}.\r\n{next}{listed}{taken}");
            for count in again {
                said += &format!("{next}{listed}{}", format!("{ours}{refused}").repeat(*count));
            }
            let (taken, sent) = visits(PickupProtocol::Pop3, format!("{said}x").as_bytes());
            assert_eq!(taken.len(), mails, "{sent}");
            sent.matches("DELE ").count()
        };
        assert_eq!(deletions(1, &[1, 1, 1, 0, 0]), 1 + 3);
        assert_eq!(deletions(40, &[32, 32, 32, 8, 8, 8, 0]), 40 + 3 * 40);
        // A mail that can't be read ends no more visits than that, either.
        let listed = format!("{ready}1 mail1\r\n.\r\n");
        let broken = format!("{next}{listed}-ERR no\r\n");
        let said = format!("{listed}{ours}{ours}{refused}{}{next}{listed}x", broken.repeat(5));
        let (_, sent) = visits(PickupProtocol::Pop3, said.as_bytes());
        assert_eq!(sent.matches("TOP ").count(), 1 + 3, "{sent}");
    }

    #[test]
    fn without_uidvalidity_no_uid_is_remembered() {
        let said = |validity: &str| {
            let selected = format!(
                "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS] ready\r\nA1 OK [CAPABILITY IMAP4rev1 UIDPLUS] in\r\n\
                 * 1 EXISTS\r\n* OK {validity} ok\r\n* OK [UIDNEXT 2] ok\r\nA2 OK selected\r\n"
            );
            let field = format!("X-MailQoS-Token: {}\r\n\r\n", seeded_token());
            let length = field.len();
            // Retrieved and marked; the connection ends before the mail is removed.
            let taken = format!(
                "* SEARCH 1\r\nA3 OK found\r\n* 1 FETCH (UID 1 BODY[HEADER] {{{length}}}\r\n{field})\r\nA4 OK read\r\n\
                 * 1 FETCH (UID 1 BODY[] {{{length}}}\r\n{field})\r\nA5 OK read\r\nA6 OK marked\r\n"
            );
            let next = String::from_utf8_lossy(NEXT_VISIT);
            visits(PickupProtocol::Imap, format!("{selected}{taken}{next}{selected}x").as_bytes())
        };
        let stores = |validity: &str| {
            let (taken, sent) = said(validity);
            assert_eq!(taken.len(), 1, "{sent}");
            sent.matches("UID EXPUNGE 1").count()
        };
        assert_eq!((stores("[UIDVALIDITY 7]"), stores("[NOSUCH]")), (2, 1));
    }

    #[test]
    fn the_seeds_reach_the_deep_code_paths() {
        assert!(
            seeds("token").iter().all(|seed| key().find(seed) == Some(seeded())),
            "{}",
            seeded_token()
        );
        let mut ends: HashSet<(&str, &str)> = HashSet::new();
        for (protocol, target) in [
            (PickupProtocol::Pop3, "pop3_reply"),
            (PickupProtocol::Imap, "imap_reply"),
            (PickupProtocol::Graph, "graph_reply"),
        ] {
            for seed in seeds(target) {
                let (taken, sent) = visits(protocol, &seed);
                let complete = taken.iter().any(|found| found.receive.is_some());
                let deletes = ["DELE", "EXPUNGE", "permanentDelete"];
                let deletes = deletes.iter().any(|command| sent.contains(command));
                let what = match (complete, deletes) {
                    (true, true) => "taken",
                    (false, true) => "cleared",
                    _ => "left",
                };
                ends.insert((target, what));
            }
        }
        for target in ["pop3_reply", "imap_reply", "graph_reply"] {
            for what in ["taken", "cleared", "left"] {
                assert!(ends.contains(&(target, what)), "{target} {what}: {ends:?}");
            }
        }
    }
}
