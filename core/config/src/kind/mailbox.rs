//! Kind `mailbox`: opens and lists a mailbox. Nothing is sent, deleted or marked as read.

use mailqos_model::{Micros, Stage};

use super::{Kind, TestKind};
use crate::{
    Endpoint, Problems, Table, Timing,
    reference::Key,
    test_options::{MONITOR, Options, Pickup, PickupProtocol, Transcripts},
};

/// Number of steps of a test, each of which may take the timeout: connecting, greeting, TLS, login,
/// listing.
const STEPS: i64 = 5;

/// Returns the keys that only other kinds have.
pub(super) fn foreign_keys() -> [&'static Key; 11] {
    [
        &MONITOR.from,
        &MONITOR.to,
        &MONITOR.smtp,
        &MONITOR.max_round_trip,
        &MONITOR.check_interval,
        &MONITOR.extra_pickups,
        &MONITOR.horizon,
        &MONITOR.authserv_ids,
        &MONITOR.idle,
        &MONITOR.precise,
        &MONITOR.message,
    ]
}

/// The options of kind `mailbox`.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// The mailbox.
    pub pickup: Pickup,
    /// Tests that leave a transcript.
    pub transcripts: Transcripts,
}

pub(super) fn read(options: &Options, table: &mut Table, problems: &mut Problems) -> Option<Kind> {
    // In `[defaults]` they apply to monitors of other kinds.
    for key in foreign_keys().into_iter().filter(|key| table.is_own(key.name)) {
        let name = key.name;
        problems.push(
            table.problem(key, format!("{name:?} does not apply to kind \"mailbox\""), "here").help(
                "remove it; mailbox tests only log in and list (kind = \"mail-qos\" sends mails)",
            ),
        );
    }
    Some(Kind::Mailbox(Mailbox {
        pickup: options.mailbox(table, problems)?,
        transcripts: options.transcripts,
    }))
}

impl TestKind for Mailbox {
    fn name(&self) -> &'static str {
        "mailbox"
    }

    fn plan(&self) -> String {
        format!(
            "logs in to {} ({}) and lists the mailbox; sends nothing",
            self.pickup.endpoint.place(),
            self.pickup.protocol
        )
    }

    fn path(&self) -> String {
        let endpoint = &self.pickup.endpoint;
        format!("{}:{} ({})", endpoint.server, endpoint.port, self.pickup.protocol)
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let Pickup { endpoint, protocol, folders, timeout } = &self.pickup;
        let mut options = vec![
            ("kind", self.name().to_owned()),
            ("pickup", format!("{} over {protocol}", endpoint.place())),
        ];
        if *protocol != PickupProtocol::Pop3 {
            options.push(("folders", folders.join(", ")));
        }
        options.push(("timeout", timeout.to_string()));
        options
    }

    fn endpoint(&self, _stage: Stage) -> &Endpoint {
        &self.pickup.endpoint
    }

    fn pickup(&self) -> Option<Pickup> {
        Some(self.pickup.clone())
    }

    fn longest_test(&self) -> Micros {
        Micros(self.pickup.timeout.0.saturating_mul(STEPS))
    }

    fn timings(&self) -> &'static [Timing] {
        &[Timing::PickupConnect, Timing::PickupLogin]
    }

    fn transcripts(&self) -> Transcripts {
        self.transcripts
    }
}
