//! A simulated month: samples with habits of real mail, so that reports have something to show.
//!
//! Each monitor has its own pace, busy hours and quiet weekends; there are two outages, a lasting
//! shift, a maintenance window, and sometimes a late or lost mail. The same seed produces the same
//! samples.

use std::{collections::BTreeMap, path::Path};

use jiff::{
    civil::{Time, Weekday},
    tz::TimeZone,
};
use mailqos_lake::{DayWriter, LakeError};
use mailqos_model::{
    Exclusion, Hop, Micros, MonitorId, Outcome, Sample, SiteName, Stage, UtcMicros,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp, LogNormal};
use rand_pcg::Pcg64Mcg;

/// How often a simulated monitor is tested.
pub const TEST_INTERVAL: Micros = Micros::from_secs(300);
/// Max round trip of a simulated monitor.
pub const MAX_ROUND_TRIP: Micros = Micros::from_secs(30);

/// The habits of one monitor.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The monitor.
    pub monitor: MonitorId,
    /// Median on a quiet night, in seconds.
    pub median: f64,
    /// How much slower it is in the busiest hour: 1.0 doubles the time.
    pub busy: f64,
    /// Spread of the logarithm.
    pub sigma: f64,
    /// Share of late mails.
    pub late: f64,
    /// Share of lost mails.
    pub lost: f64,
    /// An outage: days before the end, hour, minutes, outcome and stage.
    pub outage: Option<(i64, i8, i64, Outcome, Stage, &'static str)>,
    /// Days before the end from which everything takes longer, and the factor: 1.4 is 40 % longer.
    pub shift: Option<(i64, f64)>,
    /// A maintenance window: days before the end, hour, minutes.
    pub maintenance: Option<(i64, i8, i64)>,
}

impl Habits {
    /// Returns a well-behaved monitor.
    pub fn calm(monitor: MonitorId, median: f64) -> Self {
        Self {
            monitor,
            median,
            busy: 0.6,
            sigma: 0.35,
            late: 0.000_8,
            lost: 0.000_2,
            outage: None,
            shift: None,
            maintenance: None,
        }
    }
}

/// Returns the samples of one monitor in [from, to), one per [`TEST_INTERVAL`], in order.
pub fn samples(
    habits: &Habits,
    seed: u64,
    zone: &TimeZone,
    from: UtcMicros,
    to: UtcMicros,
) -> Vec<Sample> {
    let name = habits
        .monitor
        .as_str()
        .bytes()
        .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut random = Pcg64Mcg::seed_from_u64(seed ^ name);
    // Each monitor has a fixed slot in the interval.
    let slot = Micros(random.random_range(0..TEST_INTERVAL.0));
    let first = UtcMicros((from.0.div_euclid(TEST_INTERVAL.0) + 1) * TEST_INTERVAL.0) + slot;
    (0..)
        .map(|number| first + Micros(number * TEST_INTERVAL.0))
        .take_while(|started| *started < to)
        .map(|started| {
            let jitter = Micros(random.random_range(200..9_000));
            sample(habits, &mut random, zone, started + jitter, to)
        })
        .filter(|sample| sample.started_at < to)
        .collect()
}

/// Writes samples into the lake as sealed day files of a site.
///
/// # Errors
/// The file system rejects the operation.
pub fn write(
    data: &Path,
    site: &SiteName,
    samples: impl IntoIterator<Item = Sample>,
) -> Result<(), LakeError> {
    let mut days: BTreeMap<jiff::civil::Date, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        days.entry(sample.started_at.utc_date()).or_default().push(sample);
    }
    for (date, mut samples) in days {
        samples.sort_by(|a, b| (&a.monitor, a.started_at).cmp(&(&b.monitor, b.started_at)));
        let mut file = DayWriter::create(data, site, date)?;
        for sample in samples {
            file.push(sample)?;
        }
        file.publish(None)?;
    }
    Ok(())
}

fn sample(
    habits: &Habits,
    random: &mut Pcg64Mcg,
    zone: &TimeZone,
    started: UtcMicros,
    end: UtcMicros,
) -> Sample {
    let mut sample = Sample::new(habits.monitor.clone(), started, Outcome::Ok);
    sample.test_interval = Some(TEST_INTERVAL);
    sample.max_round_trip = Some(MAX_ROUND_TRIP);
    sample.settled = Some(true);
    sample.smtp_attempts = Some(1);
    if habits.maintenance.is_some_and(|window| within(zone, started, end, window)) {
        sample.excluded = Some(Exclusion::Maintenance);
    }
    if let Some((days, hour, minutes, outcome, stage, error)) = habits.outage
        && within(zone, started, end, (days, hour, minutes))
    {
        sample.outcome = outcome;
        sample.stage = Some(stage);
        sample.error = Some(error.to_owned());
        if outcome == Outcome::PickupFailed {
            send(&mut sample, random, 1.0);
        }
        return sample;
    }
    let mut load = load(zone, started, habits.busy);
    if let Some((days, factor)) = habits.shift
        && end - started < Micros::from_secs(days * 86_400)
    {
        load *= factor;
    }
    send(&mut sample, random, load);
    pick_up(&mut sample, random, load);
    let fate: f64 = random.random();
    if fate < habits.lost {
        sample.outcome = Outcome::Lost;
        sample.error = Some("not seen within 24h".to_owned());
        (sample.pickup_receive, sample.hops, sample.folder) = (None, None, None);
        return sample;
    }
    let usual = LogNormal::new((habits.median * load).ln(), habits.sigma)
        .expect("a finite spread")
        .sample(random);
    let seconds = if fate < habits.lost + habits.late {
        sample.outcome = Outcome::Late;
        MAX_ROUND_TRIP.as_secs_f64()
            + Exp::new(1.0 / 240.0).expect("a positive rate").sample(random)
    } else {
        usual.min(MAX_ROUND_TRIP.as_secs_f64() * 0.98)
    };
    sample.round_trip = Some(Micros((seconds * 1e6) as i64));
    sample.round_trip_error = Some(Micros(random.random_range(40_000..260_000)));
    sample.pickups = Some((seconds / 5.0) as i32 + 1);
    sample.hops = Some(hops(habits.monitor.as_str(), started, seconds));
    sample
}

/// Returns how the hour slows down mail: busy at ten and at three, idle at night and on weekends,
/// slow during the backup.
fn load(zone: &TimeZone, moment: UtcMicros, busy: f64) -> f64 {
    let local = zone.to_datetime(moment.timestamp());
    let hour = f64::from(local.hour()) + f64::from(local.minute()) / 60.0;
    let peak = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    let weekend = matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
    let day = (peak(10.0, 2.2) + 0.8 * peak(15.0, 2.5)) * if weekend { 0.2 } else { 1.0 };
    1.0 + busy * day + 0.9 * peak(2.5, 0.4)
}

/// Returns whether a moment is in a window that began this many local days before the end, at an
/// hour, and lasts some minutes.
fn within(
    zone: &TimeZone,
    moment: UtcMicros,
    end: UtcMicros,
    (days, hour, minutes): (i64, i8, i64),
) -> bool {
    let date = zone.to_datetime(end.timestamp()).date();
    let begin = Time::new(hour, 17, 0, 0).ok().and_then(|time| {
        let day = date.checked_sub(jiff::Span::new().days(days)).ok()?;
        zone.to_timestamp(day.to_datetime(time)).ok()
    });
    begin.is_some_and(|begin| {
        let begin = UtcMicros::from(begin);
        begin <= moment && moment < begin + Micros::from_secs(minutes * 60)
    })
}

/// Returns a random duration in microseconds around a value in milliseconds.
fn about(random: &mut Pcg64Mcg, milliseconds: f64) -> Micros {
    let drawn = LogNormal::new(milliseconds.ln(), 0.22).expect("a finite spread").sample(random);
    Micros((drawn * 1_000.0) as i64)
}

fn send(sample: &mut Sample, random: &mut Pcg64Mcg, load: f64) {
    let parts = [
        (&mut sample.smtp_tcp, 11.0),
        (&mut sample.smtp_tls, 24.0),
        (&mut sample.smtp_greeting, 13.0),
        (&mut sample.smtp_ehlo, 12.0),
        (&mut sample.smtp_auth, 38.0 * load),
        (&mut sample.smtp_envelope, 21.0 * load),
        (&mut sample.smtp_data, 46.0 * load),
    ];
    let mut total = Micros::ZERO;
    for (part, milliseconds) in parts {
        let time = about(random, milliseconds);
        *part = Some(time);
        total = total + time;
    }
    sample.smtp_connect = sample.smtp_tcp;
    sample.smtp_send = Some(total);
    sample.smtp_reply_code = Some(250);
    sample.smtp_enhanced_status = Some("2.0.0".to_owned());
    sample.smtp_tls_version = Some("TLSv1.3".to_owned());
    sample.smtp_tls_cipher = Some("TLS13_AES_256_GCM_SHA384".to_owned());
}

fn pick_up(sample: &mut Sample, random: &mut Pcg64Mcg, load: f64) {
    let (tcp, tls) = (about(random, 11.0), about(random, 25.0));
    sample.pickup_tcp = Some(tcp);
    sample.pickup_tls = Some(tls);
    sample.pickup_connect = Some(tcp + tls);
    sample.pickup_greeting = Some(about(random, 12.0));
    sample.pickup_login = Some(about(random, 62.0 * load));
    sample.pickup_list = Some(about(random, 14.0));
    sample.pickup_receive = Some(about(random, 17.0 * load));
    sample.pickup_tls_version = Some("TLSv1.3".to_owned());
    sample.pickup_tls_cipher = Some("TLS13_AES_256_GCM_SHA384".to_owned());
    sample.folder = Some("INBOX".to_owned());
}

/// Three hops; most of the time is spent at the filter in the middle.
fn hops(monitor: &str, started: UtcMicros, seconds: f64) -> Vec<Hop> {
    let whole = |moment: UtcMicros| UtcMicros(moment.0.div_euclid(1_000_000) * 1_000_000);
    let stations = [("probe", 0.05), ("mx", 0.15), ("filter", 0.95), ("mailbox", 1.0)];
    let at = |share: f64| whole(started + Micros((seconds * share * 1e6) as i64));
    let name = |station: &str| format!("{station}.{monitor}.example.com");
    stations
        .windows(2)
        .map(|pair| Hop {
            by: Some(name(pair[1].0)),
            from: Some(name(pair[0].0)),
            at: Some(at(pair[1].1)),
            delay: Some(at(pair[1].1) - at(pair[0].1)),
            clock_suspect: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_month_and_the_outage_is_in_it() {
        let zone = TimeZone::get("Europe/Stockholm").expect("a zone");
        let to = UtcMicros(1_790_000_000_000_000);
        let from = to - Micros::from_secs(31 * 86_400);
        let habits = Habits {
            outage: Some((5, 9, 42, Outcome::SmtpFailed, Stage::SmtpConnect, "connection refused")),
            maintenance: Some((8, 22, 120)),
            ..Habits::calm("lyon".parse().expect("an id"), 2.0)
        };
        let month = samples(&habits, 1, &zone, from, to);
        assert_eq!(month, samples(&habits, 1, &zone, from, to));
        assert!((8_920..=8_930).contains(&month.len()), "{}", month.len());
        assert!(month.is_sorted_by_key(|sample| sample.started_at));
        let count =
            |test: &dyn Fn(&Sample) -> bool| month.iter().filter(|sample| test(sample)).count();
        assert!((8..=9).contains(&count(&|sample| sample.outcome == Outcome::SmtpFailed)));
        assert_eq!(count(&|sample| sample.excluded == Some(Exclusion::Maintenance)), 24);
        assert!(count(&|sample| sample.outcome == Outcome::Late) > 0);
        let sum = |sample: &Sample| {
            sample.smtp_connect <= sample.smtp_send
                && sample.round_trip.is_none_or(|time| time > Micros::ZERO)
        };
        assert!(month.iter().all(sum));
    }
}
