//! Where the landing of a mail must lie: each piece of evidence bounds it from one side or both.
//!
//! Two kinds of evidence are kept apart. What this test itself saw is *certain*: it lands after it was sent, it was not there
//! when a pick-up listed the mailbox before, it was there when one listed it later or when the server announced it. What was
//! learnt of a server (how much its clock is ahead, how late it announces) is *likely*: a clock may have been set since the
//! last mail, by less than the pick-ups of this one could show; an announcement may come later than ever before. So what is
//! likely makes the estimate, and is certain only as far as one such lie is survived: where the clock was read in this very
//! test, or where clock and announcement, which know nothing of each other, both vouch for it.

use std::{sync::OnceLock, time::Instant};

use mailqos_core::model::{Hop, Micros, UtcMicros};

use super::clock::{Clocks, Stamp, by_one_reading};

/// A server that files a mail has stamped it so long before it could be seen, mostly (Dovecot's LMTP: 2 ms, on a machine with ten
/// times the work it can do: 59 ms).
const FILING: Micros = Micros::from_millis(75);
/// And at most, beside twice the time that the server took for taking the mail, which shows how busy it is.
const SLOW_FILING: Micros = Micros::from_secs(1);
/// Notifications come later by a server's habit; by so much more now and then (some ms on a calm machine, 350 ms on one with
/// several times the work it can do).
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

    /// What lies within both, if there is anything.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            after: self.after.max(other.after),
            before: self.before.min(other.before),
        };
        (both.after <= both.before).then_some(both)
    }
}

/// When a mail landed, as far as that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landing {
    /// It lies here even if a clock was set since the last mail, or an announcement came later than ever before.
    pub(super) certain: Bounds,
    /// It lies here if neither happened. Within what is certain.
    pub(super) likely: Bounds,
}

/// A round trip and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// The best estimate.
    pub(super) estimate: Micros,
    /// The truth is within so much of it.
    pub(super) error: Micros,
    /// The truth is within so much of it unless a server's habit was broken.
    pub(super) likely_error: Micros,
}

impl Landing {
    /// The round trip; errors are rounded up: the truth is inside.
    pub(super) fn round_trip(self, sent: Moment) -> RoundTrip {
        let Self { certain, likely } = self;
        let width = likely.before - likely.after;
        let middle = likely.after + Micros(width.0 / 2);
        RoundTrip {
            estimate: middle - sent,
            error: (middle - certain.after).max(certain.before - middle),
            likely_error: likely.before - middle,
        }
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
    /// Between which moments the mail landed. What vouches for that is learnt from what this test saw, and from nothing else:
    /// what was learnt must not teach, or one lie would breed others.
    pub(super) fn landing(&self, clocks: &mut Clocks) -> Landing {
        let shown = self.notified.map_or(self.shown, |notified| notified.min(self.shown));
        let seen = Bounds::new(self.sent, self.not_shown, shown);
        let stamps = self.stamps(seen);
        for said in &stamps {
            clocks.note(&said.clock, said.stamp, said.known);
        }
        let mut certain = self.read_in_this_test(&stamps, seen, clocks);
        let stamped = Self::stamped(&stamps, seen, clocks);
        let announced = self.announced("IDLE", certain, clocks);
        if let (Some(stamped), Some(announced)) = (stamped, announced) {
            // Whichever of the two is wrong, the other's bound holds.
            let after = certain.after.max(stamped.after.min(announced.after));
            if after <= certain.before {
                certain.after = after;
            }
        }
        // How late a server announces shows better beside its stamps; but it is wrong where they are, and vouches for nothing.
        let likely = stamped.and_then(|stamped| stamped.and(certain)).unwrap_or(certain);
        let announced = self.announced("IDLE beside its stamps", likely, clocks);
        let likely = announced.and_then(|announced| announced.and(likely)).unwrap_or(likely);
        Landing { certain, likely }
    }

    /// What remains by the stamps of a clock that this test itself has read: the server that took the mail put a stamp on it,
    /// and its reply tells when. Two machines under one name do not make one clock: it must have agreed with itself so far.
    fn read_in_this_test(&self, stamps: &[Said], seen: Bounds, clocks: &Clocks) -> Bounds {
        let Some((first, bounds)) = stamps.first().zip(self.handed_over).filter(|(first, _)| first.taken) else {
            return seen;
        };
        if clocks.when(&first.clock, first.stamp, bounds.before).is_none() {
            return seen;
        }
        let busy = Micros(2 * (bounds.before - bounds.after).0);
        let mut certain = seen;
        for said in stamps[1..].iter().filter(|said| said.clock == first.clock) {
            let when = by_one_reading(first.stamp, bounds, said.stamp);
            certain.after = certain.after.max(when.after);
            if said.filed {
                certain.before = certain.before.min(when.before + SLOW_FILING + busy);
            }
        }
        // Set meanwhile, otherwise.
        if certain.after <= certain.before { certain } else { seen }
    }

    /// What the stamps say by all that is known of their clocks; nothing if they contradict what was seen.
    fn stamped(stamps: &[Said], seen: Bounds, clocks: &Clocks) -> Option<Bounds> {
        let mut stamped = None;
        for said in stamps {
            let Some(when) = clocks.when(&said.clock, said.stamp, seen.before) else {
                continue;
            };
            let so_far = stamped.unwrap_or(seen);
            let before = if said.filed {
                when.before + FILING
            } else {
                so_far.before
            };
            let after = when.after;
            let Some(narrower) = so_far.and(Bounds { after, before }) else {
                tracing::debug!(clock = said.clock, "the stamps of a mail contradict its pick-ups");
                return None;
            };
            stamped = Some(narrower);
        }
        stamped
    }

    /// What the server's announcement says, by the habit that shows where the landing is known to be.
    fn announced(&self, by: &str, known: Bounds, clocks: &mut Clocks) -> Option<Bounds> {
        let name = format!("{} {by}", self.route);
        let stamp = Stamp {
            at: (self.notified? - NOTIFYING).0,
            resolution: NOTIFYING,
        };
        clocks.note(&name, stamp, known);
        clocks.when(&name, stamp, known.before)
    }

    /// Each stamp, and when it was written as far as is known without it.
    fn stamps(&self, seen: Bounds) -> Vec<Said> {
        let mut stamps = Vec::new();
        let filed_within = Bounds {
            after: (seen.after - FILING).max(self.sent),
            before: seen.before,
        };
        for (number, hop) in self.hops.iter().enumerate() {
            let (Some(by), Some(at)) = (&hop.by, hop.at) else {
                continue;
            };
            let filed = self.filed && number + 1 == self.hops.len();
            let taken = number == 0 && self.handed_over.is_some();
            let known = match self.handed_over {
                Some(handed_over) if taken => handed_over,
                _ if filed => filed_within,
                _ => Bounds {
                    after: self.sent,
                    before: seen.before,
                },
            };
            stamps.push(Said {
                clock: format!("{} by {}", self.route, by.to_ascii_lowercase()),
                stamp: stamp(at),
                known,
                filed,
                taken,
            });
        }
        if let Some(at) = self.internal_date {
            stamps.push(Said {
                clock: format!("{} INTERNALDATE", self.route),
                stamp: stamp(at),
                known: filed_within,
                filed: true,
                taken: false,
            });
        }
        stamps
    }
}

/// A server's stamp.
#[derive(Debug)]
struct Said {
    /// Whose clock.
    clock: String,
    /// What it showed.
    stamp: Stamp,
    /// When that was, as far as is known without it.
    known: Bounds,
    /// The mail landed then, or a little later; otherwise it was still on its way.
    filed: bool,
    /// It is the first server's, which wrote it while we handed the mail over.
    taken: bool,
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
            let certain = Bounds::new(Moment(sent), not_shown, Moment(shown));
            for likely in [certain, Bounds { after: Moment(landing), before: Moment(landing) }, Bounds { before: Moment(landing), ..certain }] {
                let RoundTrip { estimate, error, likely_error } = Landing { certain, likely }.round_trip(Moment(sent));
                prop_assert!((estimate.0 - delay).abs() <= likely_error.0);
                prop_assert!(0 <= likely_error.0 && likely_error.0 <= error.0 && estimate.0 >= 0);
            }
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

    /// Servers, and what befalls them.
    #[derive(Debug, Clone, Copy)]
    struct World {
        check_interval: i64,
        /// How far the mailbox server's clock is ahead at first, and how much it gains.
        ahead: i64,
        ppm: f64,
        /// It is set by so much before this mail.
        set: Option<(usize, i64)>,
        /// The server that takes the mail is the one that files it.
        one_host: bool,
        /// It stamps when it files, not when it queues.
        filed: bool,
        internal_date: bool,
        /// It announces half a second late.
        idle: bool,
        /// This announcement comes so much later.
        late: Option<(usize, i64)>,
    }

    const CALM: World = World {
        check_interval: 15 * SECOND,
        ahead: 37 * SECOND,
        ppm: 20.0,
        set: None,
        one_host: true,
        filed: true,
        internal_date: false,
        idle: false,
        late: None,
    };

    impl World {
        fn shows(self, number: usize, at: i64) -> i64 {
            let set = self.set.filter(|(first, _)| number >= *first).map_or(0, |(_, by)| by);
            at + self.ahead + set + (at as f64 * self.ppm / 1e6).round() as i64
        }

        /// A mail a minute, delays in µs; gives back what is said of each landing, and its truth.
        fn said(self, delays: &[i64]) -> Vec<(Landing, Moment)> {
            let mut clocks = Clocks::default();
            let mut said = Vec::new();
            for (number, delay) in delays.iter().enumerate() {
                let at = i64::try_from(number).expect("small");
                let sent = at * 60 * SECOND + at * 7_654_321 % SECOND;
                let landed = sent + delay;
                let visits = delay / self.check_interval + 1;
                let taken_at = sent + 1_500;
                let taken = if self.one_host {
                    hop("MX", self.shows(number, taken_at))
                } else {
                    hop("relay", taken_at)
                };
                let stamped = if self.filed { landed - 2_000 } else { sent + 2_000 };
                let date = self.shows(number, landed - 2_000).div_euclid(SECOND) * SECOND;
                let late = self.late.filter(|(which, _)| number == *which).map_or(0, |(_, by)| by);
                let evidence = Evidence {
                    sent: Moment(sent),
                    handed_over: Some(Bounds {
                        after: Moment(sent - 3_000),
                        before: Moment(sent + 4_000),
                    }),
                    not_shown: (visits > 1).then_some(Moment(sent + (visits - 1) * self.check_interval)),
                    shown: Moment(sent + visits * self.check_interval),
                    hops: &[taken, hop("mx", self.shows(number, stamped))],
                    filed: self.filed,
                    internal_date: self.internal_date.then_some(UtcMicros(date)),
                    notified: self.idle.then_some(Moment(landed + 500_000 + landed % 7_000 + late)),
                    route: "here",
                };
                said.push((evidence.landing(&mut clocks), Moment(landed)));
            }
            said
        }
    }

    fn is_within(landed: Moment, bounds: Bounds) -> bool {
        bounds.after <= landed && landed <= bounds.before
    }

    fn width(bounds: Bounds) -> i64 {
        (bounds.before - bounds.after).0
    }

    fn world() -> impl Strategy<Value = World> {
        let clock = (
            -100 * SECOND..100 * SECOND,
            prop_oneof![-200.0..-20.0_f64, 20.0..200.0_f64],
        );
        let check_interval = prop_oneof![Just(SECOND), Just(5 * SECOND), Just(15 * SECOND)];
        let server = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (check_interval, clock, server).prop_map(|(check_interval, (ahead, ppm), server)| {
            let (one_host, filed, internal_date, idle) = server;
            World {
                check_interval,
                ahead,
                ppm,
                one_host,
                filed,
                internal_date,
                idle,
                ..CALM
            }
        })
    }

    fn delays() -> impl Strategy<Value = Vec<i64>> {
        // Mails of every haste, and such that are always fast.
        prop_oneof![
            proptest::collection::vec(50_000..60 * SECOND, 1..60),
            proptest::collection::vec(50_000..2 * SECOND, 1..60),
            proptest::collection::vec(
                (0.0..1.0_f64).prop_map(|part| (50_000.0 * 1_200_f64.powf(part)) as i64),
                1..60
            ),
        ]
    }

    proptest! {
        #[test]
        fn the_landing_is_within_what_all_evidence_says(world in world(), delays in delays()) {
            for (landing, landed) in world.said(&delays) {
                prop_assert!(is_within(landed, landing.certain), "{landing:?} {landed:?}");
                prop_assert!(is_within(landed, landing.likely), "{landing:?} {landed:?}");
                prop_assert!(landing.certain.after <= landing.likely.after && landing.likely.before <= landing.certain.before);
            }
        }

        #[test]
        fn no_clock_that_is_set_puts_the_truth_outside(
            world in world(),
            delays in delays(),
            first in 0..60_usize,
            by in prop_oneof![-14 * SECOND..-SECOND, SECOND..14 * SECOND, -SECOND..SECOND, -1000 * SECOND..1000 * SECOND],
        ) {
            let world = World { set: Some((first, by)), ..world };
            for (landing, landed) in world.said(&delays) {
                prop_assert!(is_within(landed, landing.certain), "{landing:?} {landed:?}");
            }
        }

        #[test]
        fn no_late_announcement_puts_the_truth_outside(
            world in world(),
            delays in delays(),
            late in 0..60_usize,
            by in 0..30 * SECOND,
        ) {
            let world = World { idle: true, late: Some((late, by)), ..world };
            for (landing, landed) in world.said(&delays) {
                prop_assert!(is_within(landed, landing.certain), "{landing:?} {landed:?}");
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
            let landing = evidence.landing(&mut clocks);
            assert!(
                is_within(Moment(landed), landing.certain),
                "{number}: {landing:?} {landed}"
            );
        }
    }

    /// Delays of all sizes, drawn without chance.
    fn many_delays() -> Vec<i64> {
        (0..60)
            .map(|number| 900_000 + number * 5_123_457 % (20 * SECOND))
            .collect()
    }

    #[test]
    fn after_thirty_mails_a_second_is_left_of_fifteen() {
        let widest = |world: World, of: fn(&Landing) -> Bounds| {
            let said = world.said(&many_delays());
            said[30..].iter().map(|(landing, _)| width(of(landing))).max()
        };
        let likely = |world| widest(world, |landing| landing.likely);
        let certain = |world| widest(world, |landing| landing.certain);
        assert!(likely(CALM) < Some(1_500_000));
        // Two stamps of one clock, a second's resolution each, and what filing may take.
        assert!(certain(CALM) < Some(3_200_000), "{:?}", certain(CALM));
        // A server that says only when it queued the mail does not say when it landed.
        assert!(likely(World { filed: false, ..CALM }) > Some(14 * SECOND));
        // Whose clock nothing reads in the test itself may have been set; and it takes more mails to learn it.
        let relayed = World {
            one_host: false,
            ..CALM
        };
        assert!(likely(relayed) < Some(5 * SECOND), "{:?}", likely(relayed));
        assert!(certain(relayed) > Some(14 * SECOND));
        // One whose notifications are late by habit tells the more the better its habit is known; and it vouches for the clock.
        let announced = World { idle: true, ..relayed };
        assert!(likely(announced) < likely(relayed), "{:?}", likely(announced));
        assert!(certain(announced) < Some(10 * SECOND), "{:?}", certain(announced));
    }

    #[test]
    fn after_a_clock_was_set_it_is_learnt_anew() {
        for by in [-14, -5, -1, 1, 5, 14] {
            let world = World {
                set: Some((30, by * SECOND)),
                ..CALM
            };
            let mut delays = many_delays();
            delays.extend(many_delays());
            let said = world.said(&delays);
            for (landing, landed) in &said[60..] {
                assert!(is_within(*landed, landing.likely), "{by}: {landing:?} {landed:?}");
                assert!(width(landing.likely) < 1_500_000, "{by}: {landing:?}");
            }
        }
    }
}
