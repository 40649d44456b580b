//! A simulated world of servers that behave like real ones. The truth is known here, which makes it
//! possible to verify the guaranteed interval, and the 99 % of the calibrated one.

use proptest::prelude::*;

use super::*;
use crate::mail_test::expectation::Limits;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;

proptest! {
    #[test]
    fn the_true_arrival_is_within_the_guaranteed_interval(
        sent in 0..SECOND,
        delay in 0..SECOND,
        polls in proptest::collection::vec(0..2 * SECOND, 0..20),
    ) {
        let landing = sent + delay;
        let mut polls = polls;
        polls.sort_unstable();
        let not_shown = polls.iter().rev().find(|poll| **poll < landing).map(|poll| Moment(*poll));
        let shown = polls.iter().find(|poll| **poll >= landing).map_or(3 * SECOND, |poll| *poll);
        let certain = Bounds::new(Moment(sent), not_shown, Moment(shown));
        let exact = Bounds { after: Moment(landing), before: Moment(landing) };
        for likely in [certain, exact, Bounds { before: Moment(landing), ..certain }] {
            let RoundTrip { estimate, error, likely_error } =
                Arrival { certain, likely, expected: certain }.round_trip(Moment(sent));
            prop_assert!((estimate.0 - delay).abs() <= likely_error.0);
            prop_assert!(0 <= likely_error.0 && likely_error.0 <= error.0 && estimate.0 >= 0);
        }
    }
}

/// Pseudo-random numbers, the same for each seed.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number from 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn happens(&mut self, share: f64) -> bool {
        self.part() < share
    }

    fn between(&mut self, least: i64, most: i64) -> i64 {
        least + (self.part() * (most - least) as f64) as i64
    }

    /// Returns a number from a log-normal distribution around a median.
    fn around(&mut self, median: i64, sigma: f64) -> i64 {
        let (a, b) = (self.part().max(1e-12), self.part());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (median as f64 * (sigma * normal).exp()) as i64
    }
}

/// How a machine writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// Whole seconds, truncated, as most servers do.
    Truncated,
    /// Rounded to the nearest second.
    Rounded,
    /// Minutes only (a gateway that writes `18:00 +0000`, which RFC 5322 allows).
    Minutes,
    /// Milliseconds.
    Fractions,
    /// The hour between noon and one o'clock as the one after midnight (GreenMail issue 211).
    NoonAsMidnight,
}

/// A machine's clock.
#[derive(Debug, Clone, Copy)]
struct Machine {
    ahead: i64,
    ppm: f64,
}

impl Machine {
    fn shows(self, at: i64, writes: Writes) -> i64 {
        let shown = at + self.ahead + (at as f64 * self.ppm / 1e6).round() as i64;
        match writes {
            Writes::Truncated => shown.div_euclid(SECOND) * SECOND,
            Writes::Rounded => (shown + SECOND / 2).div_euclid(SECOND) * SECOND,
            Writes::Minutes => shown.div_euclid(60 * SECOND) * 60 * SECOND,
            Writes::Fractions => shown.div_euclid(1_000) * 1_000,
            Writes::NoonAsMidnight => {
                let shown = shown.div_euclid(SECOND) * SECOND;
                let is_noon = shown.div_euclid(HOUR).rem_euclid(24) == 12;
                if is_noon { shown - 12 * HOUR } else { shown }
            }
        }
    }
}

/// Servers and their disturbances.
#[derive(Debug, Clone)]
struct World {
    seed: u64,
    /// Time from the end of a test to the next one.
    pause: i64,
    /// Median and spread of the round trips.
    delay: (i64, f64),
    check_interval: i64,
    /// Extra pick-ups per mail.
    extra: usize,
    /// Duration of a pick-up.
    cost: i64,
    /// Delay of the announcement, if the mailbox is watched.
    announced: Option<i64>,
    /// The machines that store the mail, with one name.
    cluster: Vec<Machine>,
    writes: Writes,
    /// Whether the machine that accepts the mail has a separate clock but the same name.
    one_name: bool,
    /// Whether machines have another name for each connection.
    fresh_names: bool,
    /// Whether the last hop stamps the mail when storing it, not when queueing it.
    filed: bool,
    internal_date: bool,
    /// Offset of the clock of INTERNALDATE from the machine that stores the mail.
    dated: i64,
    /// Probability that the announcement is missing.
    silent: f64,
    /// Probability that a machine's clock is set, and the maximum step.
    set: (f64, i64),
    /// Probability that a mail's fields are in odd order, incomplete, or missing.
    odd: f64,
    /// Probability that a server is busy and stores or announces mails up to two seconds late.
    busy: f64,
}

fn calm() -> World {
    World {
        seed: 1,
        pause: 20 * SECOND,
        delay: (SECOND, 1.3),
        check_interval: 15 * SECOND,
        extra: 5,
        cost: 30_000,
        announced: None,
        cluster: vec![Machine { ahead: 37 * SECOND, ppm: 20.0 }],
        writes: Writes::Truncated,
        one_name: false,
        fresh_names: false,
        filed: true,
        internal_date: false,
        dated: 0,
        silent: 0.0,
        set: (0.0, 0),
        odd: 0.0,
        busy: 0.0,
    }
}

/// The stated bounds of an arrival, and the true time.
#[derive(Debug, Clone, Copy)]
struct Told {
    landing: Arrival,
    landed: Moment,
}

impl Told {
    fn is_within(&self, bounds: Bounds) -> bool {
        bounds.after <= self.landed && self.landed <= bounds.before
    }
}

fn width(bounds: Bounds) -> i64 {
    (bounds.before - bounds.after).0
}

fn hop(by: Option<String>, at: Option<i64>) -> Hop {
    Hop { by, from: None, at: at.map(UtcMicros), delay: None, clock_suspect: false }
}

/// The pick-ups of a mail.
struct Seen {
    not_shown: Option<i64>,
    shown: i64,
    notified: Option<i64>,
}

impl World {
    /// Returns a random combination of all behaviours.
    fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut machine = || Machine {
            ahead: random.between(-100 * SECOND, 100 * SECOND),
            ppm: random.part() * 400.0 - 200.0,
        };
        let mut cluster = vec![machine()];
        if seed.is_multiple_of(3) {
            // The machines of a cluster are a few seconds apart; one with a wrong time zone is an
            // hour off.
            let Machine { ahead, ppm } = cluster[0];
            let apart = if seed.is_multiple_of(5) { HOUR } else { 3 * SECOND };
            cluster.push(Machine { ahead: ahead + apart, ppm });
            cluster.push(Machine { ahead: ahead - 2 * SECOND, ppm: -ppm });
        }
        let writes = [
            Writes::Truncated,
            Writes::Truncated,
            Writes::Rounded,
            Writes::Fractions,
            Writes::Minutes,
            Writes::NoonAsMidnight,
        ];
        let median = [200_000, SECOND, 4 * SECOND, 62 * SECOND];
        Self {
            seed,
            pause: [2, 20, 300][random.next() as usize % 3] * SECOND,
            delay: (median[random.next() as usize % 4], random.part() * 1.5),
            check_interval: [1, 5, 15, 60][random.next() as usize % 4] * SECOND,
            extra: [0, 3, 5, 5][random.next() as usize % 4],
            cost: random.between(5_000, 700_000),
            announced: random.happens(0.4).then(|| random.between(0, SECOND)),
            cluster,
            writes: writes[random.next() as usize % writes.len()],
            one_name: random.happens(0.5),
            fresh_names: random.happens(0.2),
            filed: random.happens(0.7),
            internal_date: random.happens(0.4),
            dated: if random.happens(0.3) { random.between(-HOUR, HOUR) } else { 0 },
            silent: if random.happens(0.3) { 0.3 } else { 0.0 },
            set: ([0.0, 0.01, 0.05][random.next() as usize % 3], 15 * SECOND),
            odd: [0.0, 0.02, 0.3][random.next() as usize % 3],
            busy: [0.0, 0.02, 0.3][random.next() as usize % 3],
        }
    }

    /// Returns when the mail is looked for, according to the probe's plan.
    fn seen(&self, learned: &LearnedState, random: &mut Random, sent: i64, landed: i64) -> Seen {
        let (count, cost) = match self.announced {
            Some(_) => (2 * self.extra, 2_000),
            None => (self.extra, self.cost),
        };
        let limits = Limits {
            count,
            cost: Micros(cost),
            check_interval: Micros(self.check_interval),
            max_round_trip: Micros(90 * SECOND),
        };
        let looks = learned.expectations.looks(&monitor(), limits, random.next());
        let checks = (1..).map(|number| sent + number * self.check_interval);
        let mut polls: Vec<i64> =
            checks.take(400).chain(looks.iter().map(|look| sent + look.0)).collect();
        polls.sort_unstable();
        let mut not_shown = None;
        let mut free = sent;
        for at in polls {
            // Pick-ups are sequential, and a missed one is not repeated.
            if at < free {
                continue;
            }
            if landed <= at {
                let shown = at + random.between(1_000, cost);
                let notified = self.announced.map(|late| landed + late + random.between(0, 5_000));
                let is_silent = random.happens(self.silent);
                let notified = notified.filter(|notified| *notified < shown && !is_silent);
                return Seen { not_shown, shown, notified };
            }
            not_shown = Some(at);
            free = at + cost;
        }
        let shown = landed + 2 * self.check_interval;
        Seen { not_shown, shown, notified: None }
    }

    /// Returns the fields of a mail.
    fn hops(&self, random: &mut Random, machine: Machine, sent: i64, stamped: i64) -> Vec<Hop> {
        let name = |random: &mut Random, name: &str| {
            let fresh =
                self.fresh_names.then(|| format!("{}.prod.example", random.next() % 10_000));
            Some(fresh.unwrap_or_else(|| name.to_owned()))
        };
        let first = if self.one_name { "MX" } else { "relay" };
        let taker = Machine { ahead: 0, ppm: 0.0 };
        let mut hops = vec![
            hop(name(random, first), Some(taker.shows(sent + 1_500, Writes::Truncated))),
            hop(name(random, "filter"), Some(taker.shows(sent + 5_000, Writes::Truncated))),
            hop(name(random, "mx"), Some(machine.shows(stamped, self.writes))),
        ];
        if random.happens(self.odd) {
            match random.next() % 5 {
                0 => hops.reverse(),
                1 => hops.swap(0, 1),
                2 => drop(hops.pop()),
                3 => hops[2].at = None,
                // A hop hides its name or writes an arbitrary date.
                _ => hops[2] = hop(None, Some(random.between(0, 1_000_000 * SECOND))),
            }
        }
        hops
    }

    /// Returns the stated bounds of each arrival.
    fn told(&self, mails: usize) -> Vec<Told> {
        let mut random = Random::new(self.seed);
        let mut learned = LearnedState::default();
        let mut cluster = self.cluster.clone();
        let mut now = 0;
        let mut told = Vec::with_capacity(mails);
        for _ in 0..mails {
            now += random.between(self.pause, self.pause + 2 * SECOND);
            let sent = now;
            let delay = random.around(self.delay.0, self.delay.1).clamp(20_000, 85 * SECOND);
            let landed = sent + delay;
            let node = random.next() as usize % cluster.len();
            if random.happens(self.set.0) {
                cluster[node].ahead += random.between(-self.set.1, self.set.1);
            }
            let machine = cluster[node];
            let late =
                if random.happens(self.busy) { random.between(0, 2 * SECOND) } else { 2_000 };
            let stamped = if self.filed { (landed - late).max(sent) } else { sent + 20_000 };
            let hops = self.hops(&mut random, machine, sent, stamped);
            let Seen { not_shown, shown, notified } =
                self.seen(&learned, &mut random, sent, landed);
            let evidence = Evidence {
                sent: Moment(sent),
                accepted: Some(Bounds {
                    after: Moment(sent - 3_000),
                    before: Moment(sent + 4_000),
                }),
                not_shown: not_shown.map(Moment),
                shown: Moment(shown),
                hops: &hops,
                filed: self.filed,
                internal_date: self.internal_date.then(|| {
                    UtcMicros(
                        self.dated + machine.shows((landed - late).max(sent), Writes::Truncated),
                    )
                }),
                notified: notified.map(Moment),
                uncounted: Micros::ZERO,
                route: "here",
            };
            let landing = evidence.landing(&mut learned);
            let Bounds { after, before } = landing.expected;
            learned.expectations.note(&monitor(), after - Moment(sent), before - Moment(sent));
            told.push(Told { landing, landed: Moment(landed) });
            now = shown;
        }
        told
    }
}

fn monitor() -> mailqos_model::MonitorId {
    "mail".parse().expect("an id")
}

/// Returns the share of arrivals that the calibrated interval covers.
fn covered(told: &[Told]) -> f64 {
    let inside = told.iter().filter(|told| told.is_within(told.landing.likely)).count();
    inside as f64 / told.len() as f64
}

/// Returns the median width of the calibrated interval.
fn median_width(told: &[Told]) -> i64 {
    let mut widths: Vec<i64> = told.iter().map(|told| width(told.landing.likely)).collect();
    widths.sort_unstable();
    widths[widths.len() / 2]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Holds whatever servers do with their clocks, names and fields.
    #[test]
    fn the_guaranteed_interval_always_contains_the_true_time(seed in any::<u64>(), mails in 1..120_usize) {
        for told in World::drawn(seed).told(mails) {
            let Arrival { certain, likely, expected } = told.landing;
            prop_assert!(told.is_within(certain), "{told:?}");
            for inner in [likely, expected] {
                prop_assert!(certain.after <= inner.after && inner.after <= inner.before && inner.before <= certain.before);
            }
        }
    }
}

#[test]
fn the_calibrated_interval_covers_99_percent() {
    let (mut all, mut inside) = (0, 0.0);
    for seed in 0..16 {
        let world = World::drawn(seed);
        let told = world.told(400);
        let covered = covered(&told);
        assert!(covered >= 0.985, "{covered}: {world:?}");
        all += 1;
        inside += covered;
    }
    let mean = inside / f64::from(all);
    assert!(mean >= 0.99, "{mean}");
}

#[test]
fn after_30_mails_the_interval_is_below_700_ms_at_any_check_interval() {
    for check_interval in [1, 5, 15, 60] {
        for announced in [None, Some(500_000)] {
            for delay in [(150_000, 0.3), (SECOND, 1.3), (62 * SECOND, 0.01)] {
                let world =
                    World { check_interval: check_interval * SECOND, announced, delay, ..calm() };
                let told = world.told(230);
                let (covered, width) = (covered(&told), median_width(&told[30..]));
                assert!(covered >= 0.99, "{covered}: {world:?}");
                assert!(width <= 700_000, "{width}: {world:?}");
            }
        }
    }
}

#[test]
fn calibration_narrows_the_interval_of_a_slow_mail() {
    let told = calm().told(600);
    let slow = |told: &&Told| width(told.landing.certain) > 3 * SECOND;
    let mut slow: Vec<Told> = told[300..].iter().filter(slow).copied().collect();
    assert!(slow.len() > 20);
    slow.sort_by_key(|told| width(told.landing.likely));
    let median = width(slow[slow.len() / 2].landing.likely);
    assert!(median < 3 * SECOND, "{median}");
    assert!(covered(&slow) >= 0.95);
}

/// Without extra pick-ups nothing can be calibrated, but clocks are learned even from coarse
/// pick-ups.
#[test]
fn without_calibration_the_prediction_is_the_estimate() {
    let told = World { extra: 0, ..calm() }.told(90);
    let mut errors: Vec<i64> = told[60..]
        .iter()
        .map(|told| {
            let RoundTrip { estimate, error, likely_error } = told.landing.round_trip(Moment(0));
            let off = (estimate.0 - told.landed.0).abs();
            assert!(off <= likely_error.0 && likely_error.0 <= error.0);
            off
        })
        .collect();
    errors.sort_unstable();
    assert!(errors[15] < 2_500_000, "{errors:?}");
}

/// Issue 18, A3: two machines with the same name, five seconds apart; the mail arrives after eight
/// seconds, and a pick-up every fifteen finds it.
#[test]
fn two_machines_with_one_name_are_not_one_clock() {
    for behind in [-7, -5, -3, -1, 1, 3, 5, 7] {
        for extra in [0, 5] {
            let world = World {
                pause: 2 * SECOND,
                delay: (8 * SECOND, 0.0),
                extra,
                cluster: vec![Machine { ahead: -behind * SECOND, ppm: 0.0 }],
                one_name: true,
                ..calm()
            };
            let told = world.told(150);
            for told in &told {
                assert!(told.is_within(told.landing.certain), "{told:?}");
                assert!(told.is_within(told.landing.likely), "{told:?}");
            }
            let width = median_width(&told[30..]);
            assert!(extra == 0 || width < 700_000, "{width}");
        }
    }
}

/// Returns behaviours reported of real servers.
fn reported() -> Vec<(&'static str, World)> {
    let machine = |ahead: i64| Machine { ahead, ppm: 15.0 };
    vec![
        (
            "postalserver/postal 417: one of two machines writes local time as UTC, five hours off",
            World { cluster: vec![machine(0), machine(-5 * HOUR)], ..calm() },
        ),
        (
            "grommunio/gromox 215: INTERNALDATE is local time that claims to be UTC, eight hours off",
            World { internal_date: true, dated: 8 * HOUR, ..calm() },
        ),
        (
            "greenmail 211: between noon and one o'clock INTERNALDATE is twelve hours early",
            World {
                cluster: vec![machine(11 * HOUR)],
                writes: Writes::NoonAsMidnight,
                internal_date: true,
                ..calm()
            },
        ),
        (
            "cyberdefenders/email-header-analyzer 20: stations are out of order by their own clocks",
            World { odd: 0.3, cluster: vec![machine(-97 * SECOND)], ..calm() },
        ),
        (
            "Stack Overflow 35487911: Exchange Online has another name for each connection, a relay is 100 s ahead",
            World { fresh_names: true, cluster: vec![machine(100 * SECOND), machine(0)], ..calm() },
        ),
        (
            "dovecot/core 231: NTP lets a clock jump by a tenth of a second now and then",
            World { set: (0.02, 100_000), ..calm() },
        ),
        (
            "Isgec/ITIL-Server 5: two minutes ahead, corrected in the evening",
            World { set: (0.004, 120 * SECOND), ..calm() },
        ),
        (
            "chatmail/relay 72: Dovecot announces new mail half a second late",
            World { announced: Some(517_000), ..calm() },
        ),
        (
            "d99kris/nmail 112: an announcement is not made now and then",
            World { announced: Some(50_000), silent: 0.3, ..calm() },
        ),
        (
            "OfflineIMAP/offlineimap 186: an hour off, by daylight saving",
            World {
                internal_date: true,
                dated: -HOUR,
                cluster: vec![machine(HOUR), machine(0)],
                ..calm()
            },
        ),
    ]
}

#[test]
fn reported_server_behaviour_never_breaks_the_guarantee() {
    for (report, world) in reported() {
        let told = world.told(250);
        assert!(told.iter().all(|told| told.is_within(told.landing.certain)), "{report}");
        let (covered, width) = (covered(&told), median_width(&told[30..]));
        assert!(covered >= 0.99, "{report}: {covered}");
        assert!(width <= 700_000, "{report}: {width}");
    }
}

/// Small steps of NTP that no coarse pick-up shows (Dovecot pull request 231: a jump of 0.1 s a
/// day), and large ones (ITIL-Server issue 5: two minutes, corrected in the evening).
#[test]
fn after_a_clock_was_set_it_is_learned_again() {
    for by in [-120, -14, -5, -1, 1, 5, 14, 120] {
        let set = World { set: (0.006, by * SECOND), ..calm() };
        let told = set.told(500);
        for told in &told {
            assert!(told.is_within(told.landing.certain), "{by}: {told:?}");
        }
        let covered = covered(&told);
        assert!(covered >= 0.99, "{by}: {covered}");
    }
}

#[test]
fn time_not_counted_during_suspension_is_added() {
    let mut learned = LearnedState::default();
    let evidence = Evidence {
        sent: Moment(0),
        accepted: None,
        not_shown: None,
        shown: Moment(5 * SECOND),
        hops: &[],
        filed: false,
        internal_date: None,
        notified: None,
        uncounted: Micros(600 * SECOND),
        route: "here",
    };
    let landing = evidence.landing(&mut learned);
    assert_eq!(landing.certain.before, Moment(605 * SECOND));
    assert_eq!(landing.likely, landing.certain);
}
