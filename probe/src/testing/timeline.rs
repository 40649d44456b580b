//! Timeline of a test, phase by phase, for display.

use mailqos_model::{Micros, Sample};

/// A phase of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// The part of the route in which it takes place.
    pub part: Part,
    /// Name of the phase.
    pub name: &'static str,
    /// Start, relative to the start of the test.
    pub begin: Micros,
    /// Duration.
    pub took: Micros,
}

/// Part of a mail's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Connection to the SMTP server.
    Smtp,
    /// Transit of the mail.
    Transit,
    /// Connection to the mailbox server.
    Pickup,
}

/// The phases of a test in chronological order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The phases.
    pub phases: Vec<Phase>,
    /// Observations of the arrival, if the mail was seen.
    pub arrival: Option<Arrival>,
}

/// The observations between which a mail arrived, relative to its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The last time at which it was not in the mailbox; `None` if the first pick-up found it.
    pub not_shown: Option<Micros>,
    /// Time at which the server announced it (IDLE).
    pub announced: Option<Micros>,
    /// The first time at which it was in the mailbox.
    pub shown: Micros,
    /// Number of pick-ups.
    pub pickups: u32,
}

impl Timeline {
    /// Arranges a sample's phases in sequence. `smtp` and `pickup` are the starts of the
    /// connections in the sample, and `sent` is the time from which the round trip counts. All are
    /// relative to the start of the test.
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

/// Returns whether the handshake came after the greeting (STARTTLS), so that `connect` is TCP
/// alone.
fn is_upgraded(connect: Option<Micros>, tcp: Option<Micros>, tls: Option<Micros>) -> bool {
    let Some(tls) = tls else { return false };
    let (connect, tcp) = (connect.unwrap_or_default(), tcp.unwrap_or_default());
    connect <= tcp || connect - tcp < tls
}
