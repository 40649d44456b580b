//! Conditions about deliverability: the junk folder, results of SPF, DKIM and DMARC, and TLS. Each
//! reason states since when, and what else changed within a day of it.

use std::collections::BTreeMap;

use mailqos_base::clock::MonotonicTime;
use mailqos_config::AlarmRule;
use mailqos_model::{Micros, Outcome, Placement, Sample, UtcMicros, Verdict};
use serde::{Deserialize, Serialize};

/// Minimum number of mails in the window of the junk folder.
const MIN_MAILS: usize = 10;
/// Maximum number of mails in that window.
const MAX_MAILS: usize = 20_000;
/// A minute, to which durations are rounded.
const MINUTE: i64 = 60_000_000;
/// Time around a change in which others may have the same cause.
const RELATED: Micros = Micros::from_secs(86_400);

/// The present value of a fact about the mails of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fact {
    /// The value, such as `fail`.
    value: String,
    /// Start of the first test with it.
    since: UtcMicros,
    /// The value before; `None` if it never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

/// What is known about the deliverability of a monitor's mails.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// Facts by name, such as `DKIM`.
    known: BTreeMap<String, Fact>,
    /// Arrived mails with a known folder, and whether it was the junk folder.
    mails: std::collections::VecDeque<(MonotonicTime, bool)>,
    /// Start of the test from which the share in the junk folder has been exceeded, while it is.
    junk_since: Option<UtcMicros>,
}

impl Facts {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.mails.is_empty()
    }

    fn note(&mut self, name: &str, value: Option<&str>, at: UtcMicros) {
        let Some(value) = value else { return };
        match self.known.get_mut(name) {
            Some(fact) if fact.value == value => {}
            Some(fact) => {
                let before = std::mem::replace(&mut fact.value, value.to_owned());
                (fact.before, fact.since) = (Some(before), at);
            }
            None => {
                let fact = Fact { value: value.to_owned(), since: at, before: None };
                self.known.insert(name.to_owned(), fact);
            }
        }
    }

    /// Returns since when a fact has had its value.
    fn since(&self, name: &str) -> Option<UtcMicros> {
        self.known.get(name).map(|fact| fact.since)
    }

    /// Describes what else changed within a day of a moment.
    fn related(&self, at: UtcMicros, except: &[&str]) -> Vec<String> {
        let is_related = |(name, fact): &(&String, &Fact)| {
            !except.contains(&name.as_str()) && Micros((fact.since - at).0.abs()) <= RELATED
        };
        let changed = self.known.iter().filter(is_related);
        changed
            .filter_map(|(name, fact)| {
                Some(format!("{name} from {} to {}", fact.before.as_ref()?, fact.value))
            })
            .collect()
    }
}

/// Returns the verdicts of a sample by name, without temporary errors.
fn verdicts(sample: &Sample) -> [(&'static str, Option<Verdict>); 3] {
    let of = |word: &Option<String>| {
        word.as_deref().and_then(Verdict::parse).filter(|verdict| verdict.is_final())
    };
    [("SPF", of(&sample.spf)), ("DKIM", of(&sample.dkim)), ("DMARC", of(&sample.dmarc))]
}

/// Returns whether the mail was in the junk folder, if its folder is known.
fn is_junk(sample: &Sample) -> Option<bool> {
    let by_name = || sample.folder.as_deref().map(Placement::of_folder);
    sample.placement.or_else(by_name).map(|place| place == Placement::Junk)
}

const SERVERS: [&str; 2] = ["SMTP server", "mailbox server"];

impl Facts {
    /// Records the facts of a test, whatever its outcome.
    pub(super) fn note_sample(&mut self, sample: &Sample, began: MonotonicTime, rule: &AlarmRule) {
        let facts = self;
        let at = sample.started_at;
        for (name, verdict) in verdicts(sample) {
            facts.note(name, verdict.map(Verdict::as_str), at);
        }
        let versions = [&sample.smtp_tls_version, &sample.pickup_tls_version];
        for (server, version) in SERVERS.iter().zip(versions) {
            facts.note(&format!("TLS of the {server}"), version.as_deref(), at);
        }
        let newest = sample.hops.as_ref().and_then(|hops| hops.last()?.by.as_deref());
        facts.note("the server that stores the mail", newest, at);
        let Some(junk) = rule.junk else {
            facts.mails.clear();
            return;
        };
        let arrived = matches!(sample.outcome, Outcome::Ok | Outcome::Late);
        if let Some(is_junk) = is_junk(sample).filter(|_| arrived)
            && facts.mails.back().is_none_or(|(at, _)| *at < began)
        {
            facts.mails.push_back((began, is_junk));
        }
        let is_old = |(at, _): &(MonotonicTime, bool)| began - *at > junk.over;
        while facts.mails.len() > MAX_MAILS || facts.mails.front().is_some_and(is_old) {
            facts.mails.pop_front();
        }
    }

    /// Returns the problems of a test's mail.
    pub(super) fn judge(&mut self, sample: &Sample, rule: &AlarmRule) -> Vec<String> {
        let at = sample.started_at;
        let mut reasons = Vec::new();
        let mut concerned: Vec<&str> = Vec::new();
        let mut first: Option<UtcMicros> = None;
        let mut add = |reason: String, since: Option<UtcMicros>| {
            let since = since.unwrap_or(at);
            first = Some(first.map_or(since, |first: UtcMicros| first.min(since)));
            let lasts = at - since;
            let how_long = match lasts > Micros::ZERO {
                true => format!(", for {}", Micros(lasts.0 / MINUTE * MINUTE)),
                false => String::new(),
            };
            reasons.push(format!("{reason}{how_long}"));
        };
        let junk = self.junk(at, rule);
        for ((name, verdict), required) in verdicts(sample).into_iter().zip(rule.verdicts) {
            if let Some(verdict) = verdict.filter(|verdict| required && *verdict != Verdict::Pass) {
                let reason = format!("the receiving system reports {name} as {verdict}");
                add(reason, self.since(name));
                concerned.push(name);
            }
        }
        if let Some(least) = rule.tls {
            let versions = [&sample.smtp_tls_version, &sample.pickup_tls_version];
            for (server, version) in SERVERS.iter().zip(versions) {
                if let Some(version) = version.as_ref().filter(|old| least.is_newer_than(old)) {
                    let since = self.since(&format!("TLS of the {server}"));
                    add(format!("the {server} uses {version}, older than TLS {least}"), since);
                }
            }
        }
        if let Some((reason, since)) = junk {
            add(reason, Some(since));
        }
        if let (Some(first), Some(last)) = (first, reasons.last_mut()) {
            let related = self.related(first, &concerned);
            if !related.is_empty() {
                last.push_str(&format!("; also changed within a day: {}", related.join(", ")));
            }
        }
        reasons
    }

    /// Returns the problem of the share in the junk folder, and since when it has been exceeded.
    /// An exceeded share is met again only if it is clearly below the limit.
    fn junk(&mut self, at: UtcMicros, rule: &AlarmRule) -> Option<(String, UtcMicros)> {
        let junk = rule.junk?;
        let count = self.mails.len();
        if count < MIN_MAILS {
            return None;
        }
        let part = self.mails.iter().filter(|(_, is_junk)| *is_junk).count();
        let share = part as f64 / count as f64;
        let limit =
            if self.junk_since.is_some() { junk.most * rule.clear_below } else { junk.most };
        if share <= limit {
            self.junk_since = None;
            return None;
        }
        let since = *self.junk_since.get_or_insert(at);
        let reason = format!(
            "{part} of {count} mails of the last {} were in the junk folder, more than {} %",
            junk.over,
            (junk.most * 1000.0).round() / 10.0
        );
        Some((reason, since))
    }
}

#[cfg(test)]
mod tests {
    use mailqos_config::{JunkRule, TlsVersion};

    use super::*;
    use crate::alarm::{Change, State, Status};

    const HOUR: i64 = 3_600_000_000;

    fn sample(hour: i64, junk: bool) -> Sample {
        let id = "m".parse().expect("a name");
        let mut sample = Sample::new(id, UtcMicros(hour * HOUR), Outcome::Ok);
        sample.placement = Some(if junk { Placement::Junk } else { Placement::Inbox });
        sample.smtp_tls_version = Some("TLSv1.3".into());
        sample
    }

    fn step(state: &mut State, sample: &Sample, rule: &AlarmRule) -> Option<Change> {
        state.step((sample, MonotonicTime(sample.started_at.0)), rule, None, |_| None)
    }

    fn rule() -> AlarmRule {
        AlarmRule { after: 1, flapping: false, ..AlarmRule::default() }
    }

    #[test]
    fn a_share_in_the_junk_folder_raises_one_alarm_and_clears_clearly_below() {
        let most = "10%/1d".parse::<JunkRule>().expect("a rule");
        let rule = AlarmRule { junk: Some(most), clear_below: 0.5, ..rule() };
        let mut state = State::default();
        let mut changes = Vec::new();
        for hour in 0..96 {
            // Ten hours on the second day.
            let sample = sample(hour, (24..34).contains(&hour));
            changes.extend(step(&mut state, &sample, &rule).map(|change| (hour, change)));
        }
        // 3 of 25 mails of a day; 1 of 25, after the others have left the window.
        assert_eq!(changes, [(26, Change::Raised), (57, Change::Cleared)]);
        assert_eq!(state.status, Status::Ok);
    }

    #[test]
    fn a_missing_result_is_not_a_failed_one() {
        let rule = AlarmRule { verdicts: [true; 3], ..rule() };
        let mut state = State::default();
        let mut with = |word: Option<&str>, hour: i64| {
            let mut sample = sample(hour, false);
            sample.dkim = word.map(str::to_owned);
            let change = step(&mut state, &sample, &rule);
            (change, state.reason.clone())
        };
        assert_eq!(with(None, 0).0, None);
        assert_eq!(with(Some("pass"), 1).0, None);
        assert_eq!(with(Some("temperror"), 2).0, None);
        let (change, reason) = with(Some("permerror"), 3);
        assert_eq!(change, Some(Change::Raised));
        assert_eq!(reason.as_deref(), Some("the receiving system reports DKIM as permerror"));
        let (_, reason) = with(Some("permerror"), 5);
        let reason = reason.unwrap_or_default();
        assert!(reason.ends_with("as permerror, for 2h"), "{reason}");
        assert_eq!(with(Some("pass"), 6).0, Some(Change::Cleared));
    }

    #[test]
    fn old_tls_and_what_else_changed_are_stated() {
        let rule = AlarmRule { tls: Some(TlsVersion::Tls12), ..rule() };
        let mut state = State::default();
        let mut old = sample(0, false);
        old.spf = Some("pass".into());
        assert_eq!(step(&mut state, &old, &rule), None);
        let mut new = sample(1, false);
        (new.smtp_tls_version, new.spf) = (Some("TLSv1.1".into()), Some("fail".into()));
        assert_eq!(step(&mut state, &new, &rule), Some(Change::Raised));
        let reason = state.reason.unwrap_or_default();
        assert!(reason.starts_with("the SMTP server uses TLSv1.1, older than TLS 1.2"), "{reason}");
        assert!(reason.contains("also changed within a day: SPF from pass to fail"), "{reason}");
    }

    #[test]
    fn shares_of_windows_are_parsed_strictly() {
        let rule = "2.5%/12h".parse::<JunkRule>();
        assert_eq!(rule, Ok(JunkRule { most: 0.025, over: Micros::from_secs(43_200) }));
        for wrong in ["10%", "10/1d", "100%/1d", "-1%/1d", "10%/1s", "10%/30d", "NaN%/1d", ""] {
            assert!(wrong.parse::<JunkRule>().is_err(), "{wrong}");
        }
    }
}
