//! Timeline of a test, phase by phase, for display.

use mailqos_model::{Micros, Sample};

/// A phase of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// The server, or none for the transit.
    pub part: Part,
    /// Name of the phase.
    pub name: &'static str,
    /// Start, relative to the start of the test.
    pub begin: Micros,
    /// Duration.
    pub took: Micros,
}

/// The active side of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The SMTP server and the probe.
    Smtp,
    /// The mail in transit.
    Transit,
    /// The mailbox server and the probe.
    Pickup,
}

/// A test's phases in chronological order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The phases.
    pub phases: Vec<Phase>,
    /// When the mail was seen, if it was.
    pub arrival: Option<Arrival>,
}

/// The observations between which a mail arrived, relative to its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The last time at which it was not in the mailbox yet; `None` if the first pick-up found it.
    pub not_shown: Option<Micros>,
    /// When the server announced it (IDLE).
    pub announced: Option<Micros>,
    /// The first time at which it was in the mailbox.
    pub shown: Micros,
    /// Number of pick-ups.
    pub pickups: u32,
}

impl Timeline {
    /// Arranges a sample's phases in sequence. `smtp` and `pickup` are the starts of the
    /// connections in the sample, `sent` the time from which the round trip counts; all relative to
    /// the start of the test.
    pub(crate) fn of(
        sample: &Sample,
        smtp: Option<Micros>,
        sent: Option<Micros>,
        pickup: Option<Micros>,
    ) -> Self {
        let mut timeline = Self::default();
        if let Some(begin) = smtp {
            let mut names = [
                ("connect", sample.smtp_tcp),
                ("TLS", sample.smtp_tls),
                ("greeting", sample.smtp_greeting),
                ("EHLO", sample.smtp_ehlo),
                ("login", sample.smtp_auth),
                ("envelope", sample.smtp_envelope),
                ("data", sample.smtp_data),
            ];
            if is_upgraded(sample.smtp_connect, sample.smtp_tcp, sample.smtp_tls) {
                names[1..4].rotate_left(1);
            }
            timeline.lay(Part::Smtp, begin, &names);
        }
        if let (Some(sent), Some(round_trip)) = (sent, sample.round_trip) {
            timeline.phases.push(Phase {
                part: Part::Transit,
                name: "round trip",
                begin: sent,
                took: round_trip,
            });
        }
        if let Some(begin) = pickup {
            let mut names = [
                ("connect", sample.pickup_tcp),
                ("TLS", sample.pickup_tls),
                ("greeting", sample.pickup_greeting),
                ("login", sample.pickup_login),
                ("list", sample.pickup_list),
                ("receive", sample.pickup_receive),
            ];
            if is_upgraded(sample.pickup_connect, sample.pickup_tcp, sample.pickup_tls) {
                names[1..3].rotate_left(1);
            }
            timeline.lay(Part::Pickup, begin, &names);
        }
        timeline
    }

    fn lay(&mut self, part: Part, mut begin: Micros, names: &[(&'static str, Option<Micros>)]) {
        for (name, took) in names {
            if let Some(took) = took {
                self.phases.push(Phase { part, name, begin, took: *took });
                begin = begin + *took;
            }
        }
    }
}

/// Returns whether the handshake followed the greeting (STARTTLS): then `connect` is TCP only.
fn is_upgraded(connect: Option<Micros>, tcp: Option<Micros>, tls: Option<Micros>) -> bool {
    let Some(tls) = tls else { return false };
    let (connect, tcp) = (connect.unwrap_or_default(), tcp.unwrap_or_default());
    connect <= tcp || connect - tcp < tls
}
