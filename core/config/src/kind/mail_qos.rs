//! Kind `mail-qos`: a mail is sent and picked up.

use mailqos_model::{Micros, Stage};

use super::{Kind, TestKind};
use crate::{
    Endpoint, MessageShape, Person, Problems, SubmissionProtocol, Table, Timing,
    reference::Key,
    test_options::{MONITOR, Options, Pickup, PickupProtocol, Transcripts},
};

/// The largest test mail over Microsoft Graph, in bytes: 4 MB in Base64.
const MAX_OVER_GRAPH: u64 = 3 * 1024 * 1024;

/// The options of kind `mail-qos`.
#[derive(Debug, Clone)]
pub struct MailQos {
    /// Longest round trip that counts as good.
    pub max_round_trip: Micros,
    /// Time before the first pick-up and between pick-ups; shorter than the maximum round trip.
    pub check_interval: Micros,
    /// Maximum number of extra pick-ups per mail in addition to those of the check interval, made
    /// around the expected arrival. Twice this number is allowed for a watch over IMAP.
    pub extra_pickups: u8,
    /// Time after which a mail counts as `lost`.
    pub horizon: Micros,
    /// Deadline of each step of a session.
    pub timeout: Micros,
    /// Envelope sender and `From`.
    pub from: Person,
    /// The mailbox: envelope recipient and `To`.
    pub to: Person,
    /// Server to which the mail is submitted.
    pub smtp: Endpoint,
    /// Protocol by which it accepts the mail.
    pub submission: SubmissionProtocol,
    /// Server of the mailbox.
    pub pickup: Endpoint,
    /// Protocol of the mailbox.
    pub protocol: PickupProtocol,
    /// Folders to search over IMAP, in this order; POP3 supports only the inbox.
    pub folders: Vec<String>,
    /// Hosts or domains, in lower case, whose `Authentication-Results` count; if empty, those of the
    /// receiving domain.
    pub authserv_ids: Vec<String>,
    /// Whether the server's announcements of new mail (IMAP IDLE) are used as evidence of the
    /// arrival.
    pub idle: bool,
    /// Tests that leave a transcript.
    pub transcripts: Transcripts,
    /// Contents of the test mail.
    pub message: MessageShape,
    /// Whether pick-ups are made at short intervals around the expected arrival, whatever the check
    /// interval.
    pub precise: bool,
}

pub(super) fn read(options: &Options, table: &mut Table, problems: &mut Problems) -> Option<Kind> {
    let required: [(&Key, bool, &str); 3] = [
        (&MONITOR.from, options.from.is_none(), "the sender of the test mails"),
        (&MONITOR.to, options.to.is_none(), "the mailbox's address"),
        (
            &MONITOR.smtp,
            table.node(&MONITOR.smtp).is_none(),
            "the server that accepts the mail: { port = 587, tls = \"starttls\", account = \"NAME\" }",
        ),
    ];
    for (key, is_missing, why) in required {
        if is_missing && table.node(key).is_none() {
            problems.push(table.missing(key, why));
        }
    }
    let pickup = options.mailbox(table, problems);
    check_graph(options, table, problems);
    Some(Kind::MailQos(MailQos {
        max_round_trip: options.max_round_trip,
        check_interval: options.check_interval,
        extra_pickups: options.extra_pickups,
        horizon: options.horizon,
        timeout: options.timeout,
        from: options.from.clone()?,
        to: options.to.clone()?,
        smtp: options.smtp.clone()?,
        submission: options.submission,
        pickup: pickup?.endpoint,
        protocol: options.protocol,
        folders: options.folders.clone(),
        authserv_ids: options.authserv_ids.clone(),
        idle: options.idle,
        precise: options.precise,
        transcripts: options.transcripts,
        message: options.message.clone(),
    }))
}

/// Checks what Microsoft Graph does not allow: large mails, and folders with copies of sent mails,
/// which would count as arrived.
fn check_graph(options: &Options, table: &mut Table, problems: &mut Problems) {
    const OWN: [&str; 5] = ["sentitems", "sent items", "drafts", "outbox", "sent"];
    if options.submission == SubmissionProtocol::Graph
        && let Some(size) = options.message.size.filter(|size| *size > MAX_OVER_GRAPH)
    {
        let message = format!("Microsoft Graph does not accept mails of {size} bytes");
        problems.push(
            table
                .problem(&MONITOR.message, message, "here")
                .help(format!("use a size of at most {MAX_OVER_GRAPH} bytes, or send over SMTP")),
        );
    }
    let is_own = |name: &&String| OWN.contains(&name.to_lowercase().as_str());
    if options.protocol == PickupProtocol::Graph
        && let Some(folder) = options.folders.iter().find(is_own)
    {
        let message = format!("{folder:?} contains mails that were sent, not those that arrived");
        problems
            .push(table.problem(&MONITOR.folders, message, "here").help("remove it from the list"));
    }
}

impl TestKind for MailQos {
    fn name(&self) -> &'static str {
        "mail-qos"
    }

    fn plan(&self) -> String {
        format!(
            "sends through {}, then looks for the mail every {} in {} ({}), for at most {}",
            self.smtp.place(),
            self.check_interval,
            self.pickup.place(),
            self.protocol,
            self.max_round_trip,
        )
    }

    fn path(&self) -> String {
        let (smtp, pickup) = (&self.smtp, &self.pickup);
        format!(
            "{} → {}:{} → {} → {}:{}",
            self.from.address, smtp.server, smtp.port, self.to.address, pickup.server, pickup.port
        )
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("from", self.from.to_string()),
            ("to", self.to.to_string()),
            ("smtp", format!("{} over {}", self.smtp.place(), self.submission)),
            ("pickup", format!("{} over {}", self.pickup.place(), self.protocol)),
            ("max_round_trip", self.max_round_trip.to_string()),
            ("check_interval", self.check_interval.to_string()),
            ("horizon", self.horizon.to_string()),
            ("timeout", self.timeout.to_string()),
        ]
    }

    fn endpoint(&self, stage: Stage) -> &Endpoint {
        match stage {
            Stage::SmtpConnect
            | Stage::SmtpTls
            | Stage::SmtpGreeting
            | Stage::SmtpAuth
            | Stage::SmtpRcpt
            | Stage::SmtpData => &self.smtp,
            Stage::PickupConnect
            | Stage::PickupTls
            | Stage::PickupGreeting
            | Stage::PickupLogin
            | Stage::PickupList
            | Stage::PickupReceive
            | Stage::Bounced => &self.pickup,
        }
    }

    fn smtp(&self) -> Option<&Endpoint> {
        Some(&self.smtp)
    }

    fn pickup(&self) -> Option<Pickup> {
        Some(Pickup {
            endpoint: self.pickup.clone(),
            protocol: self.protocol,
            folders: self.folders.clone(),
            timeout: self.timeout,
        })
    }

    fn recipient(&self) -> Option<&str> {
        Some(&self.to.address)
    }

    fn max_round_trip(&self) -> Option<Micros> {
        Some(self.max_round_trip)
    }

    fn longest_test(&self) -> Micros {
        self.max_round_trip + self.timeout
    }

    fn timings(&self) -> &'static [Timing] {
        Timing::ALL
    }

    fn transcripts(&self) -> Transcripts {
        self.transcripts
    }
}
