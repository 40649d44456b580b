//! Bounds on the arrival of a mail: each piece of evidence bounds it from one side or both.
//!
//! Two kinds of evidence are kept apart. Observations of this test itself are *certain*: the mail
//! arrived after it was sent, it was not there when an earlier pick-up requested the list, it was
//! there when a list showed it or when the server announced it. The servers' timestamps are not:
//! the name in a field may be shared by several machines, a clock may have been set a moment ago by
//! less than the pick-ups of this mail can show, a field may be missing or out of order, an
//! announcement may come later than ever before. No agreement between them proves anything about
//! this mail. So timestamps and announcements only *predict* the arrival. The accuracy of these
//! predictions is measured (`calibration`) and determines the calibrated interval, which is the
//! estimate but never the guarantee.

use mailqos_model::{Hop, Micros, UtcMicros};

pub(super) use super::moment::{Bounds, Moment};
use super::{
    clock::{ClockBehaviour, Stamp},
    learned::LearnedState,
};

/// Usual maximum time from a server's timestamp to the moment at which the mail becomes visible
/// (Dovecot's LMTP: 2 ms; 59 ms on a machine under ten times the load that it can handle).
const FILING: Micros = Micros::from_millis(75);
/// Usual additional delay of announcements beyond a server's habit (a few ms on an idle machine,
/// 350 ms on one under several times the load that it can handle).
const NOTIFYING: Micros = Micros::from_millis(400);
/// Maximum width of a bracket whose middle is a good estimate.
const COARSE: Micros = Micros::from_millis(1_500);
/// Timestamps in mails are truncated to seconds.
const SECOND: Micros = Micros::from_secs(1);

/// The arrival of a mail, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Guaranteed bounds, independent of servers' statements.
    pub(super) certain: Bounds,
    /// 99 % bounds: calibrated, or the same as the guaranteed ones. Always within the guaranteed
    /// bounds.
    pub(super) likely: Bounds,
    /// Bounds if the servers behave as before: good enough for planning.
    pub(super) expected: Bounds,
}

/// A round trip with its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// The best estimate.
    pub(super) estimate: Micros,
    /// The true value is within this distance.
    pub(super) error: Micros,
    /// The true value is within this distance with 99 % probability.
    pub(super) likely_error: Micros,
}

impl Arrival {
    /// Returns the round trip; errors are rounded up, so that they contain the true value.
    pub(super) fn round_trip(self, sent: Moment) -> RoundTrip {
        let Self { certain, likely, expected } = self;
        // If pick-ups are coarse and there is no quantile yet, a prediction is still the best
        // estimate.
        let is_guessed = likely == certain && certain.before - certain.after > COARSE;
        let best = if is_guessed { expected } else { likely };
        let middle = best.after + Micros((best.before - best.after).0 / 2);
        let reach = |bounds: Bounds| (middle - bounds.after).max(bounds.before - middle);
        RoundTrip { estimate: middle - sent, error: reach(certain), likely_error: reach(likely) }
    }
}

/// All evidence of a mail's arrival.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// Time of sending.
    pub(super) sent: Moment,
    /// Between which moments the SMTP server accepted it, if known.
    pub(super) accepted: Option<Bounds>,
    /// A moment at which it was not there yet.
    pub(super) not_shown: Option<Moment>,
    /// A moment at which it was there.
    pub(super) shown: Moment,
    /// The hops of the mail, oldest first.
    pub(super) hops: &'a [Hop],
    /// Whether the last hop wrote its timestamp when it stored the mail, not when it queued it.
    pub(super) filed: bool,
    /// Arrival by the mailbox server's clock (INTERNALDATE).
    pub(super) internal_date: Option<UtcMicros>,
    /// Moment at which the mailbox's server announced new mail, which was this one (IDLE).
    pub(super) notified: Option<Moment>,
    /// Time that this machine's monotonic clock did not count since the mail was sent, as far as
    /// the wall clock shows: it does not run while a machine is suspended.
    pub(super) uncounted: Micros,
    /// The servers that the mail passed: distinguishes clocks with the same name.
    pub(super) route: &'a str,
}

/// Bounds of the arrival, predicted from what was learned.
struct Prediction {
    bounds: Bounds,
    /// Predictions in the same group are equally accurate.
    group: String,
}

impl Evidence<'_> {
    /// Returns the bounds of the arrival. The prediction is made before anything is learned from
    /// this mail, as for the mails by which predictions are scored.
    pub(super) fn landing(&self, learned: &mut LearnedState) -> Arrival {
        let shown = self.notified.map_or(self.shown, |notified| notified.min(self.shown));
        let mut certain = Bounds::new(self.sent, self.not_shown, shown);
        certain.before = certain.before + self.uncounted;
        let stamps = self.stamps(certain);
        let prediction = self.predict(&stamps, learned);
        let (mut likely, mut expected) = (certain, certain);
        if let Some(Prediction { bounds, group }) = prediction {
            expected = bounds.and(certain).unwrap_or(certain);
            if let Some(margin) = learned.calibration.margin(&group) {
                // A prediction that still contradicts the observations is entirely wrong.
                likely = bounds.widened(margin).and(certain).unwrap_or(certain);
            }
            if self.uncounted == Micros::ZERO {
                learned.calibration.note(&group, bounds, certain);
            }
        }
        if self.uncounted == Micros::ZERO {
            self.learn(&stamps, certain, learned);
        } else {
            likely = certain;
        }
        Arrival { certain, likely, expected }
    }

    /// Predicts the arrival from what was learned, if that bounds it from above.
    fn predict(&self, stamps: &[ServerStamp], learned: &LearnedState) -> Option<Prediction> {
        let mut all: Option<Bounds> = None;
        let mut worst = ClockBehaviour::Steady;
        let mut witnesses = String::new();
        let mut add = |bounds: Bounds| {
            all = Some(match all {
                None => bounds,
                // Contradicting witnesses prove nothing.
                Some(so_far) => so_far.and(bounds)?,
            });
            Some(())
        };
        let filed = stamps.iter().filter(|said| said.place.is_of_landing());
        for said in filed {
            if let Some((when, habit)) = learned.clocks.when(&said.clocks, said.stamp, self.shown) {
                let before = when.before + FILING;
                add(Bounds { after: when.after, before })?;
                worst = if habit == ClockBehaviour::Steady { worst } else { habit };
                witnesses.push(if said.place == Place::Dated { 'd' } else { 'f' });
            }
        }
        if let Some(stamp) = self.announcement() {
            let clocks = [self.announcing()];
            if let Some((when, habit)) = learned.clocks.when(&clocks, stamp, self.shown) {
                add(when)?;
                worst = if habit == ClockBehaviour::Steady { worst } else { habit };
                witnesses.push('a');
            }
        }
        let mut bounds = all?;
        for said in stamps.iter().filter(|said| !said.place.is_of_landing()) {
            // A mail arrives after it has passed all hops.
            if let Some((when, ClockBehaviour::Steady)) =
                learned.clocks.when(&said.clocks, said.stamp, self.shown)
            {
                bounds.after = bounds.after.max(when.after).min(bounds.before);
            }
        }
        let habit = match worst {
            ClockBehaviour::Steady => "steady",
            ClockBehaviour::Varied => "varied",
        };
        let group = format!("{} {habit} {witnesses}", self.route);
        Some(Prediction { bounds, group })
    }

    /// Learns the behaviour of the servers' clocks from this mail.
    fn learn(&self, stamps: &[ServerStamp], certain: Bounds, learned: &mut LearnedState) {
        for said in stamps {
            for clock in &said.clocks {
                learned.clocks.note(clock, said.stamp, said.known);
            }
        }
        if let Some(stamp) = self.announcement() {
            learned.clocks.note(&self.announcing(), stamp, certain);
        }
    }

    /// Returns the server's announcement as if it were the stamp of a clock.
    fn announcement(&self) -> Option<Stamp> {
        self.notified.map(|notified| Stamp { at: (notified - NOTIFYING).0, resolution: NOTIFYING })
    }

    fn announcing(&self) -> String {
        format!("{} IDLE", self.route)
    }

    /// Returns each timestamp, and when it was written as far as known without it.
    fn stamps(&self, certain: Bounds) -> Vec<ServerStamp> {
        let mut stamps = Vec::new();
        for (number, hop) in self.hops.iter().enumerate() {
            let Some(at) = hop.at else { continue };
            let place = if self.filed && number + 1 == self.hops.len() {
                Place::Filed
            } else if number == 0 && self.accepted.is_some() {
                Place::Taken
            } else {
                Place::Passed(self.hops.len() - 1 - number)
            };
            stamps.push(self.said(place, hop.by.as_deref(), at, certain));
        }
        if let Some(at) = self.internal_date {
            stamps.push(self.said(Place::Dated, None, at, certain));
        }
        stamps
    }

    /// Returns a timestamp written at this place on the path. A clock belongs to a machine at one
    /// place: machines elsewhere may have the same name. If names change from mail to mail, all
    /// machines at the place may still have the same time.
    fn said(&self, place: Place, by: Option<&str>, at: UtcMicros, certain: Bounds) -> ServerStamp {
        let anybody = format!("{} {place}", self.route);
        let by = by.map(|name| format!("{anybody} by {}", name.to_ascii_lowercase()));
        let known = match (place, self.accepted) {
            (Place::Taken, Some(accepted)) => accepted,
            (Place::Filed | Place::Dated, _) => {
                Bounds { after: (certain.after - FILING).max(self.sent), before: certain.before }
            }
            _ => Bounds { after: self.sent, before: certain.before },
        };
        ServerStamp {
            clocks: by.into_iter().chain([anybody]).collect(),
            stamp: stamp(at),
            known,
            place,
        }
    }
}

/// The place on a mail's path at which a timestamp was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By the server that accepted the mail from us, during submission.
    Taken,
    /// By a hop this many before the last.
    Passed(usize),
    /// By the program that stored the mail: it arrived then, or a little later.
    Filed,
    /// By the mailbox server, likewise (INTERNALDATE).
    Dated,
}

impl Place {
    fn is_of_landing(self) -> bool {
        matches!(self, Self::Filed | Self::Dated)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken => f.write_str("taken"),
            Self::Passed(before) => write!(f, "passed {before} before the last"),
            Self::Filed => f.write_str("filed"),
            Self::Dated => f.write_str("INTERNALDATE"),
        }
    }
}

/// A server's timestamp.
#[derive(Debug)]
struct ServerStamp {
    /// Names of its clock: the machine of this name at this place, or any at this place.
    clocks: Vec<String>,
    /// The timestamp.
    stamp: Stamp,
    /// Bounds of its true time, as far as known without it.
    known: Bounds,
    place: Place,
}

fn stamp(at: UtcMicros) -> Stamp {
    Stamp {
        at: at.0,
        resolution: if at.0.rem_euclid(SECOND.0) == 0 {
            SECOND
        } else {
            // It has a fraction; the number of digits is unknown.
            Micros::from_millis(100)
        },
    }
}

#[cfg(test)]
mod tests;
