//! A simulated half year with planted faults: exactly these are found, and nothing else.

use std::{collections::BTreeMap, path::Path};

use jiff::tz::TimeZone;
use mailqos_figures::{Calendar, MailShare, Period};
use mailqos_lake::DayWriter;
use mailqos_lake_tables::Lake;
use mailqos_model::{Micros, Outcome, Placement, Sample, Stage, UtcMicros};

use crate::{
    digest::{Need, Needs},
    facts::{Facts, Selection, Source},
    locale::Locale,
};

/// 2026-01-05, a Monday, midnight UTC.
const BEGIN: UtcMicros = UtcMicros(1_767_571_200_000_000);
const DAY: Micros = Micros::from_secs(86_400);
const DAYS: i64 = 182;

/// Uniform numbers in [0, 1): a linear congruential generator (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn draw(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    fn happens(&mut self, chance: f64) -> bool {
        self.draw() < chance
    }
}

fn day(number: i64) -> UtcMicros {
    BEGIN + Micros(DAY.0 * number)
}

/// Returns a test with what happens to any mail now and then: 2 % in the junk folder, 1 % lost, 1 %
/// temporary errors, 2 % of second attempts.
fn ordinary(monitor: &str, at: UtcMicros, random: &mut Random) -> Sample {
    let mut sample = Sample::new(monitor.parse().expect("an id"), at, Outcome::Ok);
    sample.test_interval = Some(Micros::from_secs(7_200));
    sample.settled = Some(true);
    sample.smtp_attempts = Some(1);
    sample.smtp_send = Some(Micros::from_secs(1));
    sample.smtp_elapsed = sample.smtp_send;
    if random.happens(0.02) {
        sample.smtp_attempts = Some(2);
        sample.smtp_elapsed = Some(Micros::from_secs(61));
    }
    for (version, expires_at) in [
        (&mut sample.smtp_tls_version, &mut sample.smtp_certificate_expires_at),
        (&mut sample.pickup_tls_version, &mut sample.pickup_certificate_expires_at),
    ] {
        *version = Some("TLSv1.3".into());
        // Renewed in time, every 60 days.
        let renewed = (at - BEGIN).0 / (60 * DAY.0);
        *expires_at = Some(day(renewed * 60 + 120));
    }
    if random.happens(0.01) {
        sample.outcome = Outcome::Lost;
        return sample;
    }
    sample.round_trip = Some(Micros::from_secs(2));
    sample.placement = Some(if random.happens(0.02) { Placement::Junk } else { Placement::Inbox });
    sample.folder = Some("INBOX".into());
    for verdict in [&mut sample.spf, &mut sample.dkim, &mut sample.dmarc] {
        *verdict = Some(if random.happens(0.01) { "temperror" } else { "pass" }.into());
    }
    sample.duplicates = Some(0);
    sample.spam_score = Some(random.draw() * 2.0 - 1.0);
    sample
}

fn plant(sample: &mut Sample, number: i64, random: &mut Random) {
    let arrived = sample.outcome == Outcome::Ok;
    match sample.monitor.as_str() {
        // The provider files mails as spam from day 70.
        "provider" if arrived && number >= 70 && random.happens(0.8) => {
            sample.placement = Some(Placement::Junk);
        }
        // No valid signature for a week.
        "signed" if arrived && (100..107).contains(&number) => sample.dkim = Some("fail".into()),
        // Greylisting from day 50.
        "grey" if number >= 50 && random.happens(0.6) => {
            sample.smtp_attempts = Some(3);
            sample.smtp_elapsed = Some(Micros::from_secs(301));
        }
        // Not renewed; the probe does not verify it.
        "expired" => sample.pickup_certificate_expires_at = Some(day(150)),
        // An outage, and a bounce, neither of which concerns deliverability.
        "calm" if number == 90 => {
            *sample = Sample {
                stage: Some(Stage::SmtpConnect),
                test_interval: sample.test_interval,
                ..Sample::new(sample.monitor.clone(), sample.started_at, Outcome::SmtpFailed)
            };
        }
        // POP3 shows no folders.
        "pop3" => (sample.placement, sample.folder) = (None, None),
        _ => {}
    }
}

/// What was planted, counted while it is written.
#[derive(Default)]
struct Planted {
    /// Tests of `calm`, and those whose mail was in the inbox.
    calm: (f64, f64),
    /// Tests of `grey` since the greylisting began, and those accepted at the first attempt.
    grey: (f64, f64),
}

impl Planted {
    fn count(&mut self, number: i64, sample: &Sample) {
        let add = |count: &mut (f64, f64), good: bool| {
            count.0 += 1.0;
            count.1 += f64::from(u8::from(good));
        };
        match sample.monitor.as_str() {
            "calm" => add(&mut self.calm, sample.placement == Some(Placement::Inbox)),
            "grey" if number >= 50 => add(&mut self.grey, sample.smtp_attempts == Some(1)),
            _ => {}
        }
    }
}

/// Writes the half year, and returns its lake with what was planted.
fn lake(folder: &Path, monitors: &[&str], seed: u64) -> (Lake, Planted) {
    let mut random = Random(seed);
    let mut days: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
    let mut planted = Planted::default();
    for number in 0..DAYS {
        for monitor in monitors {
            for test in 0..12 {
                let at = day(number) + Micros::from_secs(test * 7_200 + 60);
                let mut sample = ordinary(monitor, at, &mut random);
                plant(&mut sample, number, &mut random);
                planted.count(number, &sample);
                days.entry(at.utc_date()).or_default().push(sample);
            }
        }
    }
    let site = "here".parse().expect("a site");
    for (date, samples) in days {
        let mut file = DayWriter::create(folder, &site, date).expect("a file");
        for sample in samples {
            file.push(sample).expect("in order");
        }
        file.publish(None).expect("published");
    }
    (Lake::open(folder).expect("the lake"), planted)
}

fn facts(lake: &Lake) -> Facts {
    let period = Period::new(BEGIN, day(DAYS), Calendar::new(TimeZone::UTC)).expect("a period");
    let source = Source { lake, config: None, now: day(DAYS + 1), made_at: None };
    let needs: Needs = [Need::Mails].into_iter().collect();
    Facts::load(source, &Selection::default(), &period, &needs).expect("facts")
}

fn texts(facts: &Facts, language: &str) -> Vec<String> {
    let locale = Locale::new(language, TimeZone::UTC).expect("a language");
    let monitors: Vec<_> = facts.monitors.iter().collect();
    let found = super::findings(&monitors, facts.passed.to, &locale);
    // With ordinary spaces.
    found.into_iter().map(|one| one.text.replace(['\u{a0}', '\u{202f}'], " ")).collect()
}

#[test]
fn a_half_year_has_exactly_the_planted_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    let monitors = ["calm", "expired", "grey", "pop3", "provider", "signed"];
    let (lake, planted) = lake(folder.path(), &monitors, 7);
    let facts = facts(&lake);
    let found = texts(&facts, "en");
    let first = planted.grey.1 / planted.grey.0 * 100.0;
    let grey = format!("grey: since 24 February 2026, only {first:.1} %");
    let begins = [
        "expired: the certificate of the mailbox server expired on 4 June 2026.",
        &grey,
        "provider: since 16 March 2026, 8",
        "signed: from 15 April 2026 to 21 April 2026, only 0 % of the mails passed DKIM (100",
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (text, begin) in found.iter().zip(begins) {
        assert!(text.starts_with(begin), "{text:?} should begin with {begin:?}");
    }
    assert!(found[1].ends_with("a retry costs 5 min (median)."), "{}", found[1]);
    // The figures themselves.
    let of = |id: &str| {
        let monitor = facts.monitors.iter().find(|monitor| monitor.id == id);
        &monitor.expect("the monitor").digest.mails.as_ref().expect("figures").total
    };
    let share = |id: &str, share| of(id).share(share).map(|share| (share.value * 100.0).round());
    assert_eq!(share("pop3", MailShare::InboxPlacement), None);
    assert!(of("pop3").places.unknown > 2_000);
    let inbox = (planted.calm.1 / planted.calm.0 * 100.0).round();
    assert_eq!(share("calm", MailShare::InboxPlacement), Some(inbox));
    assert_eq!(share("signed", MailShare::DkimPass), Some(96.0));
    assert_eq!(share("signed", MailShare::DmarcPass), Some(100.0));
    for language in ["de", "sv"] {
        assert_eq!(texts(&facts, language).len(), begins.len());
    }
}

#[test]
fn half_years_without_planted_faults_have_no_findings() {
    for seed in [1, 2, 3] {
        let folder = tempfile::tempdir().expect("a folder");
        let facts = facts(&lake(folder.path(), &["calm", "pop3", "quiet"], seed).0);
        assert_eq!(texts(&facts, "en"), Vec::<String>::new(), "seed {seed}");
    }
}
