//! Determines bounds on the arrival of a mail. Each piece of evidence bounds it from one side or
//! both.
//!
//! Two kinds of evidence are distinguished. Observations of this test itself are *certain*: the
//! mail arrived after it was sent, it was not there when an earlier pick-up requested the list, and
//! it was there when a list showed it or when the server announced it. Time statements of servers
//! are not certain: the name in a field may be shared by several machines, a clock may have been
//! set recently by less than the pick-ups of this mail can show, a field may be missing or out of
//! order, and an announcement may come later than ever before. Their agreement proves nothing about
//! this mail. Stamps and announcements therefore only *predict* the arrival. The accuracy of
//! predictions is measured (`calibration`) and determines the calibrated interval. It is the
//! estimate, but never the guarantee.

use mailqos_model::{Hop, Micros, UtcMicros};

pub(super) use super::moment::{Bounds, Moment};
use super::{
    clock::{ClockBehaviour, Stamp},
    learned::LearnedState,
};

/// Typical maximum time from a server's stamp until the mail becomes visible (Dovecot's LMTP: 2 ms;
/// 59 ms on a machine with ten times its capacity of work).
const FILING: Micros = Micros::from_millis(75);
/// Occasional additional delay of announcements beyond the server's usual one (some ms on an idle
/// machine, 350 ms on one with several times its capacity of work).
const NOTIFYING: Micros = Micros::from_millis(400);
/// Maximum width of a bracket whose middle is a good estimate.
const COARSE: Micros = Micros::from_millis(1_500);
/// Resolution of stamps in mails, which are truncated to seconds.
const SECOND: Micros = Micros::from_secs(1);

/// The arrival of a mail, as precisely as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Guaranteed bounds, independent of servers' statements.
    pub(super) certain: Bounds,
    /// 99 % bounds: calibrated, or equal to the guaranteed ones. Always within the guaranteed
    /// bounds.
    pub(super) likely: Bounds,
    /// Bounds if the servers behave as before, good enough for planning.
    pub(super) expected: Bounds,
}

/// A round trip and its accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// Best estimate.
    pub(super) estimate: Micros,
    /// Guaranteed maximum error.
    pub(super) error: Micros,
    /// Maximum error with a probability of 99 %.
    pub(super) likely_error: Micros,
}

impl Arrival {
    /// Returns the round trip. Errors are rounded up, so that they include the true value.
    pub(super) fn round_trip(self, sent: Moment) -> RoundTrip {
        let Self { certain, likely, expected } = self;
        // If the pick-ups are coarse and no quantile is known yet, a prediction is still the best
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
    /// Bounds of the acceptance by the SMTP server, if known.
    pub(super) accepted: Option<Bounds>,
    /// Last time at which the mail was known to be absent.
    pub(super) not_shown: Option<Moment>,
    /// First time at which the mail was known to be present.
    pub(super) shown: Moment,
    /// Hops of the mail, oldest first.
    pub(super) hops: &'a [Hop],
    /// Whether the last hop stamped the mail when storing it, not when queueing it.
    pub(super) filed: bool,
    /// Arrival by the mailbox server's clock (INTERNALDATE).
    pub(super) internal_date: Option<UtcMicros>,
    /// Time at which the mailbox server announced this mail (IDLE).
    pub(super) notified: Option<Moment>,
    /// Time since sending that this machine's monotonic clock did not count because the machine was
    /// suspended, as far as the wall clock shows.
    pub(super) uncounted: Micros,
    /// Servers of the mail's route, which distinguishes clocks with the same name.
    pub(super) route: &'a str,
}

/// Predicted bounds of the arrival.
struct Prediction {
    bounds: Bounds,
    /// Group of predictions with the same expected accuracy.
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
                // A prediction that still contradicts the observations is completely wrong.
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

    /// Predicts the arrival from earlier mails, if that gives an upper bound.
    fn predict(&self, stamps: &[ServerStamp], learned: &LearnedState) -> Option<Prediction> {
        let mut all: Option<Bounds> = None;
        let mut worst = ClockBehaviour::Steady;
        let mut witnesses = String::new();
        let mut add = |bounds: Bounds| {
            all = Some(match all {
                None => bounds,
                // Contradictory evidence is unusable.
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
            // A mail arrives after it has passed the earlier hops.
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

    /// Learns the servers' clocks from this mail.
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

    /// Returns the server's announcement as the stamp of a clock.
    fn announcement(&self) -> Option<Stamp> {
        self.notified.map(|notified| Stamp { at: (notified - NOTIFYING).0, resolution: NOTIFYING })
    }

    fn announcing(&self) -> String {
        format!("{} IDLE", self.route)
    }

    /// Returns each stamp with the bounds of its time that are known without it.
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

    /// Returns a stamp written at this place of the route. A clock belongs to a machine at one
    /// place, because machines elsewhere may have the same name. If names change from mail to mail,
    /// all machines at the place may still share the same time.
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

/// Place on a mail's route at which a stamp was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The server that accepted the mail from us.
    Taken,
    /// A hop this many before the last one.
    Passed(usize),
    /// The program that stored the mail, which arrived then or a little later.
    Filed,
    /// The mailbox server (INTERNALDATE); the mail arrived then or a little later.
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
    /// Names of its clock: the machine with this name at this place, or any machine at this place.
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
            // The stamp has a fraction of unknown precision.
            Micros::from_millis(100)
        },
    }
}

#[cfg(test)]
mod tests;
