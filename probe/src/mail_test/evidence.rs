//! Where the landing of a mail must lie: each piece of evidence bounds it from one side or both.
//!
//! Two kinds of evidence are kept apart. What this test itself saw is *certain*: the mail landed after it
//! was sent, it was not there when a pick-up asked for the list before, it was there when a list showed it
//! or when the server announced it. Everything that servers say about time is not: the name in a field
//! may be that of several machines, a clock may have been set a moment ago by less than the pick-ups of
//! this mail can show, a field may be missing or out of order, an announcement may come later than ever
//! before. No agreement between them proves anything about this mail. So what was learnt of stamps and
//! announcements only *predicts* the landing; how far that is to be trusted is measured (`calibration`),
//! and makes the calibrated interval, which is the estimate, but never the guarantee.

use mailqos_model::{Hop, Micros, UtcMicros};

pub(super) use super::moment::{Bounds, Moment};
use super::{
    clock::{Habit, Stamp},
    learnt::Learnt,
};

/// A server that files a mail has stamped it so long before it could be seen, mostly (Dovecot's LMTP: 2 ms,
/// on a machine with ten times the work it can do: 59 ms).
const FILING: Micros = Micros::from_millis(75);
/// Announcements come later by a server's habit; by so much more now and then (some ms on a calm machine,
/// 350 ms on one with several times the work it can do).
const NOTIFYING: Micros = Micros::from_millis(400);
/// The middle of a bracket wider than this is no good estimate.
const COARSE: Micros = Micros::from_millis(1_500);
/// Stamps of mails are truncated to seconds.
const SECOND: Micros = Micros::from_secs(1);

/// When a mail landed, as far as that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landing {
    /// It lies here, whatever servers say.
    pub(super) certain: Bounds,
    /// It lies here with 99 %: calibrated, or the same as what is certain. Within what is certain.
    pub(super) likely: Bounds,
    /// It lies here if the servers go on as they went before: good enough to plan by.
    pub(super) expected: Bounds,
}

/// A round trip and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// The best estimate.
    pub(super) estimate: Micros,
    /// The truth is within so much of it.
    pub(super) error: Micros,
    /// The truth is within so much of it with 99 %.
    pub(super) likely_error: Micros,
}

impl Landing {
    /// The round trip; errors are rounded up: the truth is inside.
    pub(super) fn round_trip(self, sent: Moment) -> RoundTrip {
        let Self {
            certain,
            likely,
            expected,
        } = self;
        // Where the pick-ups are coarse and no quantile is known yet, a prediction is still the best guess.
        let is_guessed = likely == certain && certain.before - certain.after > COARSE;
        let best = if is_guessed { expected } else { likely };
        let middle = best.after + Micros((best.before - best.after).0 / 2);
        let reach = |bounds: Bounds| (middle - bounds.after).max(bounds.before - middle);
        RoundTrip {
            estimate: middle - sent,
            error: reach(certain),
            likely_error: reach(likely),
        }
    }
}

/// All that tells when a mail landed.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// When it was sent.
    pub(super) sent: Moment,
    /// Between which moments the SMTP server took it, where that is known.
    pub(super) accepted: Option<Bounds>,
    /// It was not there yet at this moment.
    pub(super) not_shown: Option<Moment>,
    /// It was there at this moment.
    pub(super) shown: Moment,
    /// The stations on its way, oldest first.
    pub(super) hops: &'a [Hop],
    /// The last station wrote its stamp when it filed the mail, not when it took it into a queue.
    pub(super) filed: bool,
    /// When it landed, by the mailbox server's clock (INTERNALDATE).
    pub(super) internal_date: Option<UtcMicros>,
    /// When the mailbox's server announced new mail, which this was (IDLE).
    pub(super) notified: Option<Moment>,
    /// Time that this machine's monotonic clock did not count since the mail was sent, as far as the wall
    /// clock shows: it does not run while a machine is suspended.
    pub(super) uncounted: Micros,
    /// Through which servers it went: what tells clocks of one name apart.
    pub(super) route: &'a str,
}

/// What was learnt says that the landing lies here.
struct Prediction {
    bounds: Bounds,
    /// Predictions of one kind are as good as one another.
    group: String,
}

impl Evidence<'_> {
    /// Between which moments the mail landed. The prediction is made before anything is learnt from this
    /// mail, as it is for the mails by which predictions are judged.
    pub(super) fn landing(&self, learnt: &mut Learnt) -> Landing {
        let shown = self.notified.map_or(self.shown, |notified| notified.min(self.shown));
        let mut certain = Bounds::new(self.sent, self.not_shown, shown);
        certain.before = certain.before + self.uncounted;
        let stamps = self.stamps(certain);
        let prediction = self.predict(&stamps, learnt);
        let (mut likely, mut expected) = (certain, certain);
        if let Some(Prediction { bounds, group }) = prediction {
            expected = bounds.and(certain).unwrap_or(certain);
            if let Some(margin) = learnt.calibration.margin(&group) {
                // A prediction that even then contradicts what was seen is wrong altogether.
                likely = bounds.widened(margin).and(certain).unwrap_or(certain);
            }
            if self.uncounted == Micros::ZERO {
                learnt.calibration.note(&group, bounds, certain);
            }
        }
        if self.uncounted == Micros::ZERO {
            self.learn(&stamps, certain, learnt);
        } else {
            likely = certain;
        }
        Landing {
            certain,
            likely,
            expected,
        }
    }

    /// Where the landing lies by what was learnt, if that says when it was at the latest.
    fn predict(&self, stamps: &[Said], learnt: &Learnt) -> Option<Prediction> {
        let mut all: Option<Bounds> = None;
        let mut worst = Habit::Steady;
        let mut witnesses = String::new();
        let mut add = |bounds: Bounds| {
            all = Some(match all {
                None => bounds,
                // Witnesses that contradict one another tell nothing.
                Some(so_far) => so_far.and(bounds)?,
            });
            Some(())
        };
        let filed = stamps.iter().filter(|said| said.place.is_of_landing());
        for said in filed {
            if let Some((when, habit)) = learnt.clocks.when(&said.clocks, said.stamp, self.shown) {
                let before = when.before + FILING;
                add(Bounds {
                    after: when.after,
                    before,
                })?;
                worst = if habit == Habit::Steady { worst } else { habit };
                witnesses.push(if said.place == Place::Dated { 'd' } else { 'f' });
            }
        }
        if let Some(stamp) = self.announcement() {
            let clocks = [self.announcing()];
            if let Some((when, habit)) = learnt.clocks.when(&clocks, stamp, self.shown) {
                add(when)?;
                worst = if habit == Habit::Steady { worst } else { habit };
                witnesses.push('a');
            }
        }
        let mut bounds = all?;
        for said in stamps.iter().filter(|said| !said.place.is_of_landing()) {
            // A mail lands after it has passed the stations before.
            if let Some((when, Habit::Steady)) = learnt.clocks.when(&said.clocks, said.stamp, self.shown) {
                bounds.after = bounds.after.max(when.after).min(bounds.before);
            }
        }
        let habit = match worst {
            Habit::Steady => "steady",
            Habit::Varied => "varied",
        };
        let group = format!("{} {habit} {witnesses}", self.route);
        Some(Prediction { bounds, group })
    }

    /// Learns from this mail what its servers' clocks are like.
    fn learn(&self, stamps: &[Said], certain: Bounds, learnt: &mut Learnt) {
        for said in stamps {
            for clock in &said.clocks {
                learnt.clocks.note(clock, said.stamp, said.known);
            }
        }
        if let Some(stamp) = self.announcement() {
            learnt.clocks.note(&self.announcing(), stamp, certain);
        }
    }

    /// What the server's announcement says, as if it were the stamp of a clock.
    fn announcement(&self) -> Option<Stamp> {
        self.notified.map(|notified| Stamp {
            at: (notified - NOTIFYING).0,
            resolution: NOTIFYING,
        })
    }

    fn announcing(&self) -> String {
        format!("{} IDLE", self.route)
    }

    /// Each stamp, and when it was written as far as is known without it.
    fn stamps(&self, certain: Bounds) -> Vec<Said> {
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

    /// A stamp that was written at this place of the way. A clock belongs to a machine seen at one place:
    /// machines elsewhere may bear the same name. Where names change from mail to mail, all machines at
    /// the place may have the same time nevertheless.
    fn said(&self, place: Place, by: Option<&str>, at: UtcMicros, certain: Bounds) -> Said {
        let anybody = format!("{} {place}", self.route);
        let by = by.map(|name| format!("{anybody} by {}", name.to_ascii_lowercase()));
        let known = match (place, self.accepted) {
            (Place::Taken, Some(accepted)) => accepted,
            (Place::Filed | Place::Dated, _) => Bounds {
                after: (certain.after - FILING).max(self.sent),
                before: certain.before,
            },
            _ => Bounds {
                after: self.sent,
                before: certain.before,
            },
        };
        Said {
            clocks: by.into_iter().chain([anybody]).collect(),
            stamp: stamp(at),
            known,
            place,
        }
    }
}

/// Where on a mail's way a stamp was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By the server that took the mail from us, while we handed it over.
    Taken,
    /// By a station so many before the last.
    Passed(usize),
    /// By what filed the mail: it landed then, or a little later.
    Filed,
    /// By the mailbox's server, likewise (INTERNALDATE).
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

/// A server's stamp.
#[derive(Debug)]
struct Said {
    /// Whose clock: that of a machine of this name at this place, or of any at this place.
    clocks: Vec<String>,
    /// What it showed.
    stamp: Stamp,
    /// When that was, as far as is known without it.
    known: Bounds,
    place: Place,
}

fn stamp(at: UtcMicros) -> Stamp {
    Stamp {
        at: at.0,
        resolution: if at.0.rem_euclid(SECOND.0) == 0 {
            SECOND
        } else {
            // It has a fraction; of how many digits does not show.
            Micros::from_millis(100)
        },
    }
}

#[cfg(test)]
mod tests;
