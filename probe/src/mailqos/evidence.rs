//! Where the landing of a mail must lie: each piece of evidence bounds it from one side or both.

use std::{sync::OnceLock, time::Instant};

use mailqos_core::model::{Hop, Micros, UtcMicros};

use super::clock::{Clocks, Stamp};

/// A server that files a mail has stamped it so long before it could be seen, at most (Dovecot's LMTP: 2 ms, on a machine with ten
/// times the work it can do: 59 ms).
const FILING: Micros = Micros::from_millis(75);
/// Notifications come later by a server's habit; by so much more now and then (some ms on a calm machine, 350 ms on one with
/// several times the work it can do). What is assumed too small here makes wrong bounds: 61 % of the true values were outside.
const NOTIFYING: Micros = Micros::from_millis(400);
/// Stamps of mails are cut to seconds.
const SECOND: Micros = Micros::from_secs(1);

/// A moment on this process's monotonic clock; earlier processes' moments are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn now() -> Self {
        Self::of(Instant::now())
    }

    pub(super) fn of(instant: Instant) -> Self {
        static ANCHOR: OnceLock<Instant> = OnceLock::new();
        let anchor = *ANCHOR.get_or_init(Instant::now);
        let since = Micros::from(instant.saturating_duration_since(anchor));
        let before = Micros::from(anchor.saturating_duration_since(instant));
        Self(since.0 - before.0)
    }

    /// How far a clock that shows `stamp` now is ahead of ours.
    pub(super) fn offset_of(self, stamp: i64) -> i64 {
        stamp.saturating_sub(self.0)
    }

    /// When a clock that is ahead of ours by `offset` shows `stamp`.
    pub(super) fn at_offset(stamp: i64, offset: i64) -> Self {
        Self(stamp.saturating_sub(offset))
    }

    #[cfg(test)]
    pub(super) fn of_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A moment that is known by the wall clock only: it lies in an earlier process.
    pub(super) fn of_wall(moment: UtcMicros) -> Self {
        Self::now() - (UtcMicros::now() - moment)
    }

    /// For timers.
    pub(super) fn instant(self) -> tokio::time::Instant {
        tokio::time::Instant::now() + (self - Self::now()).to_std()
    }
}

impl std::ops::Sub for Moment {
    type Output = Micros;
    fn sub(self, other: Self) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add<Micros> for Moment {
    type Output = Self;
    fn add(self, duration: Micros) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl std::ops::Sub<Micros> for Moment {
    type Output = Self;
    fn sub(self, duration: Micros) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

/// The landing lies between these moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Not before.
    pub(super) after: Moment,
    /// Not later.
    pub(super) before: Moment,
}

impl Bounds {
    /// What the sending and a pick-up tell: it lands after it was sent, and was there when it was listed.
    pub(super) fn new(sent: Moment, not_shown: Option<Moment>, shown: Moment) -> Self {
        let after = not_shown.map_or(sent, |moment| moment.max(sent));
        Self {
            after,
            before: shown.max(after),
        }
    }

    /// The best estimate of the round trip, and half the width of the interval, rounded up: the truth is inside.
    pub(super) fn round_trip(self, sent: Moment) -> (Micros, Micros) {
        let least = (self.after - sent).0;
        let most = (self.before - sent).0;
        let middle = least + (most - least) / 2;
        (Micros(middle), Micros(most - middle))
    }
}

/// All that tells when a mail landed.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// When it was sent.
    pub(super) sent: Moment,
    /// Between which moments the SMTP server took it, where that is known.
    pub(super) handed_over: Option<Bounds>,
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
    /// Through which servers it went: what tells clocks of one name apart.
    pub(super) route: &'a str,
}

impl Evidence<'_> {
    /// Between which moments the mail landed. The clocks that stamped it are learnt from it; those that are known well enough
    /// narrow what the pick-ups tell. If they contradict the pick-ups, these alone decide.
    pub(super) fn landing(&self, clocks: &mut Clocks) -> Bounds {
        let picked_up = Bounds::new(self.sent, self.not_shown, self.shown);
        let stamps = self.stamps(picked_up);
        for (name, stamp, known, _) in &stamps {
            clocks.note(name, *stamp, *known);
        }
        let mut landing = picked_up;
        for (name, stamp, _, says) in &stamps {
            let Some(when) = clocks.when(name, *stamp, picked_up.before) else {
                continue;
            };
            landing.after = landing.after.max(when.after);
            if let Says::Landed { later } = says {
                landing.before = landing.before.min(when.before + *later);
            }
        }
        if landing.after > landing.before {
            tracing::debug!(route = self.route, "the stamps of a mail contradict its pick-ups");
            return picked_up;
        }
        self.notification(landing, clocks)
    }

    /// The same, narrowed by the server's announcement: by how much these come late is learnt from all else.
    fn notification(&self, landing: Bounds, clocks: &mut Clocks) -> Bounds {
        let Some(notified) = self.notified else { return landing };
        let name = format!("{} IDLE", self.route);
        let stamp = Stamp {
            at: (notified - NOTIFYING).0,
            resolution: NOTIFYING,
        };
        clocks.note(&name, stamp, landing);
        let Some(when) = clocks.when(&name, stamp, landing.before) else {
            return landing;
        };
        let narrower = Bounds {
            after: landing.after.max(when.after),
            before: landing.before.min(when.before),
        };
        if narrower.after <= narrower.before {
            narrower
        } else {
            landing
        }
    }

    /// Each stamp: whose clock, what it showed, when that was as far as is known without it, and what it says.
    fn stamps(&self, picked_up: Bounds) -> Vec<(String, Stamp, Bounds, Says)> {
        let mut stamps = Vec::new();
        let filed = Bounds {
            after: (picked_up.after - FILING).max(self.sent),
            before: picked_up.before,
        };
        let landed = Says::Landed { later: FILING };
        for (number, hop) in self.hops.iter().enumerate() {
            let (Some(by), Some(at)) = (&hop.by, hop.at) else {
                continue;
            };
            let filing = self.filed && number + 1 == self.hops.len();
            let known = match self.handed_over {
                Some(handed_over) if number == 0 => handed_over,
                _ if filing => filed,
                _ => Bounds {
                    after: self.sent,
                    before: picked_up.before,
                },
            };
            let says = if filing { landed } else { Says::OnItsWay };
            let name = format!("{} by {}", self.route, by.to_ascii_lowercase());
            stamps.push((name, stamp(at), known, says));
        }
        if let Some(at) = self.internal_date {
            let name = format!("{} INTERNALDATE", self.route);
            stamps.push((name, stamp(at), filed, landed));
        }
        stamps
    }
}

/// What a stamp says of the landing.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// The mail was still on its way.
    OnItsWay,
    /// It landed then, or up to so much later.
    Landed { later: Micros },
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_truth_is_inside(sent in 0..1_000_000_i64, delay in 0..1_000_000_i64, polls in proptest::collection::vec(0..2_000_000_i64, 0..20)) {
            let landing = sent + delay;
            let mut polls = polls;
            polls.sort_unstable();
            let not_shown = polls.iter().rev().find(|poll| **poll < landing).map(|poll| Moment(*poll));
            let shown = polls.iter().find(|poll| **poll >= landing).map_or(3_000_000, |poll| *poll);
            let (round_trip, error) = Bounds::new(Moment(sent), not_shown, Moment(shown)).round_trip(Moment(sent));
            prop_assert!((round_trip.0 - delay).abs() <= error.0);
            prop_assert!(error.0 >= 0 && round_trip.0 >= 0);
        }
    }

    const SECOND: i64 = 1_000_000;

    fn hop(by: &str, at: i64) -> Hop {
        Hop {
            by: Some(by.to_owned()),
            from: None,
            at: Some(UtcMicros(at.div_euclid(SECOND) * SECOND)),
            delay: None,
            clock_suspect: false,
        }
    }

    /// A mail a minute, delays in µs, found by pick-ups every 15 s; gives back what is said of each landing and its truth.
    fn said(delays: &[i64], ahead: i64, filed: bool, idle: bool) -> Vec<(Bounds, Moment)> {
        let mut clocks = Clocks::default();
        let mut said = Vec::new();
        for (number, delay) in delays.iter().enumerate() {
            let sent = number as i64 * 60 * SECOND + number as i64 * 7_654_321 % SECOND;
            let landed = sent + delay;
            let visits = (delay / (15 * SECOND)) + 1;
            let stamped = if filed { landed - 2_000 } else { sent + 2_000 };
            let (mine, theirs) = (hop("MX", sent + 1_500 + ahead), hop("mx", stamped + ahead));
            let evidence = Evidence {
                sent: Moment(sent),
                handed_over: Some(Bounds {
                    after: Moment(sent - 3_000),
                    before: Moment(sent + 4_000),
                }),
                not_shown: (visits > 1).then_some(Moment(sent + (visits - 1) * 15 * SECOND)),
                shown: Moment(sent + visits * 15 * SECOND),
                hops: &[mine, theirs],
                filed,
                internal_date: None,
                notified: idle.then_some(Moment(landed + 500_000 + landed % 7_000)),
                route: "here",
            };
            let bounds = evidence.landing(&mut clocks);
            said.push((bounds, Moment(landed)));
        }
        said
    }

    proptest! {
        #[test]
        fn the_landing_is_within_what_all_evidence_says(
            delays in proptest::collection::vec(0..60 * SECOND, 1..60),
            ahead in -100 * SECOND..100 * SECOND,
            filed: bool,
            idle: bool,
        ) {
            for (bounds, landed) in said(&delays, ahead, filed, idle) {
                prop_assert!(bounds.after <= landed && landed <= bounds.before, "{bounds:?} {landed:?}");
            }
        }
    }

    #[test]
    fn where_two_stamps_of_a_mail_disagree_the_truth_is_still_inside() {
        let mut clocks = Clocks::default();
        for number in 0..60_i64 {
            let sent = number * 60 * SECOND + number * 7_654_321 % SECOND;
            let landed = sent + 1_234_567;
            // Now and then the one server's stamp is wrong.
            let wrong = match number {
                35 => 30 * SECOND,
                40 => -30 * SECOND,
                _ => 0,
            };
            let filed = landed - 2_000;
            let evidence = Evidence {
                sent: Moment(sent),
                handed_over: None,
                not_shown: None,
                shown: Moment(sent + 15 * SECOND),
                hops: &[hop("mx", filed + 37 * SECOND + wrong)],
                filed: true,
                internal_date: Some(UtcMicros((filed - 90 * SECOND).div_euclid(SECOND) * SECOND)),
                notified: None,
                route: "here",
            };
            let bounds = evidence.landing(&mut clocks);
            assert!(
                bounds.after <= Moment(landed) && Moment(landed) <= bounds.before,
                "{number}: {bounds:?} {landed}"
            );
        }
    }

    #[test]
    fn after_thirty_mails_a_second_is_left_of_fifteen() {
        let delays: Vec<i64> = (0..60)
            .map(|number| 900_000 + number * 5_123_457 % (20 * SECOND))
            .collect();
        let widest = |filed, idle| {
            let said = said(&delays, 37 * SECOND, filed, idle);
            said[30..]
                .iter()
                .map(|(bounds, _)| (bounds.before - bounds.after).0)
                .max()
        };
        assert!(widest(true, false) < Some(1_300_000));
        // A server that says only when it queued the mail does not say when it landed.
        assert!(widest(false, false) > Some(14 * SECOND));
        // One whose notifications are late by habit tells the more the better its habit is known.
        assert!(widest(true, true) < widest(true, false));
    }
}
