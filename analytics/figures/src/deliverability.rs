//! Deliverability: where mails ended up, verdicts on their origin, attempts, bounces, duplicates and
//! TLS. What is unknown about a mail is in neither the numerator nor the denominator.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use mailqos_lake_tables::{Receipt, Series, TlsFacts};
use mailqos_model::{EnhancedStatus, Micros, Outcome, Placement, Stage, UtcMicros, Verdict, words};

use super::availability::Share;

words!(
    /// A share of mails.
    MailShare, "share of mails" {
        /// Mails in the inbox in time; those in other folders, late, lost or refused are in the
        /// denominator.
        InboxPlacement = "inbox_placement",
        /// Mails in the junk folder, of those that arrived.
        JunkRate = "junk_rate",
        /// SPF results `pass` (RFC 7208).
        SpfPass = "spf_pass_rate",
        /// DKIM results `pass` (RFC 6376).
        DkimPass = "dkim_pass_rate",
        /// DMARC results `pass` (RFC 9989).
        DmarcPass = "dmarc_pass_rate",
        /// Mails that the receiving system's filter considers spam.
        SpamRate = "spam_rate",
        /// Mails that were accepted at the first attempt.
        FirstAttempt = "first_attempt_rate",
        /// Mails that were accepted in the end.
        Accepted = "accepted_rate",
    }
);

impl MailShare {
    /// Returns whether a high share is good.
    pub fn more_is_better(self) -> bool {
        !matches!(self, Self::JunkRate | Self::SpamRate)
    }
}

/// Legs of a mail's path that the probe takes part in.
pub const LEGS: [&str; 2] = ["smtp", "pickup"];

/// Decides for each row whether it is part of a share.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    series: &'a Series,
    /// Whether the folders of mails are visible. If not, as over POP3, lost mails alone would make
    /// up the share.
    sees_folders: bool,
}

impl<'a> Judge<'a> {
    /// Prepares the decisions about a series whose receipts were read.
    pub fn new(series: &'a Series) -> Self {
        let mut arrived = (0..series.len())
            .filter(|row| matches!(series.outcome[*row], Outcome::Ok | Outcome::Late))
            .peekable();
        let sees_folders = arrived.peek().is_none()
            || arrived
                .any(|row| series.receipt(row).is_some_and(|receipt| receipt.placement.is_some()));
        Self { series, sees_folders }
    }

    /// Returns whether a counted test qualifies for a share; `None` if it is unknown or does not
    /// concern it.
    pub fn judge(&self, share: MailShare, row: usize) -> Option<bool> {
        let outcome = *self.series.outcome.get(row)?;
        let unknown = Receipt::default();
        let receipt = self.series.receipt(row).unwrap_or(&unknown);
        let passes = |index: usize| {
            let verdict = receipt.verdicts[index].filter(|verdict| verdict.is_final())?;
            Some(verdict == Verdict::Pass)
        };
        match share {
            MailShare::InboxPlacement => match outcome {
                Outcome::Ok | Outcome::Late => receipt
                    .placement
                    .map(|place| place == Placement::Inbox && outcome == Outcome::Ok),
                Outcome::Lost | Outcome::SmtpFailed => self.sees_folders.then_some(false),
                Outcome::PickupFailed | Outcome::NotTested => None,
            },
            MailShare::JunkRate => receipt.placement.map(|place| place == Placement::Junk),
            MailShare::SpfPass => passes(0),
            MailShare::DkimPass => passes(1),
            MailShare::DmarcPass => passes(2),
            MailShare::SpamRate => receipt.spam,
            MailShare::FirstAttempt => {
                let attempts = receipt.attempts?;
                Some(attempts == 1 && outcome != Outcome::SmtpFailed)
            }
            MailShare::Accepted => {
                receipt.attempts?;
                Some(outcome != Outcome::SmtpFailed)
            }
        }
    }
}

/// Number of mails by folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Places {
    /// In the inbox.
    pub inbox: u64,
    /// In the junk folder.
    pub junk: u64,
    /// In another folder.
    pub other: u64,
    /// Arrived, but the folder is unknown.
    pub unknown: u64,
}

/// TLS version and cipher suite of a connection.
pub type Encryption = (Arc<str>, Option<Arc<str>>);

/// Latest TLS facts of a connection, with the time of the test.
pub type LatestTls = Option<(UtcMicros, Arc<TlsFacts>)>;

/// Deliverability of the counted tests of some rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deliverability {
    /// Qualifying and all known tests of each share, by `MailShare as usize`.
    shares: [(u64, u64); MailShare::ALL.len()],
    /// Arrived mails by folder.
    pub places: Places,
    /// Results of SPF, DKIM and DMARC.
    #[serde(with = "crate::wire::arrays_of_pairs")]
    pub verdicts: [BTreeMap<Verdict, u64>; 3],
    /// Spam scores, in thousandths.
    #[serde(with = "crate::wire::counted")]
    pub scores: Vec<i32>,
    /// Time that earlier attempts and pauses cost mails that were accepted after several, in
    /// microseconds.
    #[serde(with = "crate::wire::counted")]
    pub retry_delays: Vec<i64>,
    /// Tests with further copies of the mail.
    pub duplicated: u64,
    /// Refused and bounced mails by status; `None` if no status was given.
    #[serde(with = "crate::wire::bounces")]
    pub bounces: BTreeMap<Option<EnhancedStatus>, u64>,
    /// Connections by TLS version and cipher suite, for each of [`LEGS`].
    #[serde(with = "crate::wire::connections")]
    pub connections: [BTreeMap<Encryption, u64>; 2],
    /// Latest TLS facts of each of [`LEGS`].
    #[serde(with = "crate::wire::latest_tls")]
    pub latest_tls: [LatestTls; 2],
}

impl Deliverability {
    /// Computes the figures of a range of rows.
    pub fn of(judge: &Judge<'_>, rows: Range<usize>) -> Self {
        let series = judge.series;
        let mut sum = Self::default();
        for row in series.counted_in(rows) {
            sum.add_row(judge, row);
        }
        sum
    }

    fn add_row(&mut self, judge: &Judge<'_>, row: usize) {
        let series = judge.series;
        for (share, (part, whole)) in MailShare::ALL.iter().zip(&mut self.shares) {
            if let Some(is_in) = judge.judge(*share, row) {
                *part += u64::from(is_in);
                *whole += 1;
            }
        }
        let outcome = series.outcome[row];
        let Some(receipt) = series.receipt(row) else { return };
        match receipt.placement {
            Some(Placement::Inbox) => self.places.inbox += 1,
            Some(Placement::Junk) => self.places.junk += 1,
            Some(Placement::Other) => self.places.other += 1,
            None => {
                self.places.unknown += u64::from(matches!(outcome, Outcome::Ok | Outcome::Late));
            }
        }
        for (verdicts, verdict) in self.verdicts.iter_mut().zip(receipt.verdicts) {
            if let Some(verdict) = verdict {
                *verdicts.entry(verdict).or_default() += 1;
            }
        }
        self.scores.extend(receipt.score);
        if outcome != Outcome::SmtpFailed {
            self.retry_delays.extend(receipt.retry_delay.map(|delay| delay.0));
        }
        self.duplicated += u64::from(receipt.duplicates.is_some_and(|copies| copies > 0));
        let stage = series.stage.get(row).copied().flatten();
        if receipt.status.is_some() || stage == Some(Stage::Bounced) {
            *self.bounces.entry(receipt.status).or_default() += 1;
        }
        for (leg, facts) in receipt.tls.iter().enumerate() {
            let Some(facts) = facts else { continue };
            if let Some(version) = &facts.version {
                let key = (Arc::clone(version), facts.cipher.clone());
                *self.connections[leg].entry(key).or_default() += 1;
            }
            let at = series.at(row);
            if self.latest_tls[leg].as_ref().is_none_or(|(known, _)| *known <= at) {
                self.latest_tls[leg] = Some((at, Arc::clone(facts)));
            }
        }
    }

    /// Adds another's mails.
    pub fn add(&mut self, other: &Self) {
        fn merge<K: Ord + Clone>(sum: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
            for (key, count) in more {
                *sum.entry(key.clone()).or_default() += count;
            }
        }
        for (sum, more) in self.shares.iter_mut().zip(other.shares) {
            sum.0 += more.0;
            sum.1 += more.1;
        }
        self.places.inbox += other.places.inbox;
        self.places.junk += other.places.junk;
        self.places.other += other.places.other;
        self.places.unknown += other.places.unknown;
        for (sum, more) in self.verdicts.iter_mut().zip(&other.verdicts) {
            merge(sum, more);
        }
        self.scores.extend_from_slice(&other.scores);
        self.retry_delays.extend_from_slice(&other.retry_delays);
        self.duplicated += other.duplicated;
        merge(&mut self.bounces, &other.bounces);
        for (sum, more) in self.connections.iter_mut().zip(&other.connections) {
            merge(sum, more);
        }
        for (sum, more) in self.latest_tls.iter_mut().zip(&other.latest_tls) {
            let is_newer = |(at, _): &(UtcMicros, Arc<TlsFacts>)| {
                sum.as_ref().is_none_or(|(known, _)| known < at)
            };
            if more.as_ref().is_some_and(is_newer) {
                sum.clone_from(more);
            }
        }
    }

    /// Returns a share with its 95 % confidence interval (Wilson 1927); `None` if nothing is known.
    pub fn share(&self, share: MailShare) -> Option<Share> {
        let (part, whole) = self.shares[share as usize];
        Share::new(part, whole)
    }

    /// Returns the number of mails that were accepted after several attempts.
    pub fn retried(&self) -> u64 {
        let (first, _) = self.shares[MailShare::FirstAttempt as usize];
        self.shares[MailShare::Accepted as usize].0 - first
    }

    /// Returns the number of refused and bounced mails.
    pub fn bounced(&self) -> u64 {
        self.bounces.values().sum()
    }

    /// Returns a percentile of the spam scores, on the filter's own scale; `None` without scores.
    pub fn score(&self, q: f64) -> Option<f64> {
        let scores = self.scores.iter().map(|score| i64::from(*score)).collect();
        percentile(scores, q).map(|score| score / 1000.0)
    }

    /// Returns the median time that mails lost if they were accepted after several attempts.
    pub fn retry_delay(&self) -> Option<Micros> {
        percentile(self.retry_delays.clone(), 0.5).map(|delay| Micros(delay.round() as i64))
    }

    /// Returns when the certificate of a leg expires, by the latest connection.
    pub fn expires_at(&self, leg: usize) -> Option<UtcMicros> {
        self.latest_tls.get(leg)?.as_ref()?.1.expires_at
    }
}

fn percentile(mut values: Vec<i64>, q: f64) -> Option<f64> {
    super::percentiles(&mut values, &[q]).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rows: &[(Outcome, Receipt)]) -> Series {
        let mut series = Series::default();
        for (index, (outcome, receipt)) in rows.iter().enumerate() {
            series.started_at.push(index as i64 * 300_000_000);
            series.outcome.push(*outcome);
            series.receipts.push(receipt.clone());
        }
        series.inside = 0..rows.len();
        series
    }

    fn found(placement: Placement) -> Receipt {
        Receipt { placement: Some(placement), ..Receipt::default() }
    }

    fn share(series: &Series, which: MailShare) -> Option<(u64, u64)> {
        let figures = Deliverability::of(&Judge::new(series), 0..series.len());
        figures.share(which).map(|share| (share.part, share.whole))
    }

    #[test]
    fn junk_late_and_lost_mail_is_in_the_denominator_of_the_inbox_placement() {
        let unknown = Receipt::default;
        let rows = [
            (Outcome::Ok, found(Placement::Inbox)),
            (Outcome::Ok, found(Placement::Junk)),
            (Outcome::Ok, found(Placement::Other)),
            (Outcome::Late, found(Placement::Inbox)),
            (Outcome::Lost, unknown()),
            (Outcome::SmtpFailed, unknown()),
            // Nothing is known about these.
            (Outcome::Ok, unknown()),
            (Outcome::PickupFailed, unknown()),
            (Outcome::NotTested, unknown()),
        ];
        let series = series(&rows);
        assert_eq!(share(&series, MailShare::InboxPlacement), Some((1, 6)));
        assert_eq!(share(&series, MailShare::JunkRate), Some((1, 4)));
        let figures = Deliverability::of(&Judge::new(&series), 0..9);
        assert_eq!(figures.places, Places { inbox: 2, junk: 1, other: 1, unknown: 1 });
        let excluded = Series {
            excluded: vec![Some(mailqos_model::Exclusion::Maintenance); rows.len()],
            ..series
        };
        assert_eq!(share(&excluded, MailShare::InboxPlacement), None);
    }

    #[test]
    fn the_placement_is_unknown_if_folders_are_not_visible() {
        let pop3 =
            series(&[(Outcome::Ok, Receipt::default()), (Outcome::Lost, Receipt::default())]);
        assert_eq!(share(&pop3, MailShare::InboxPlacement), None);
        let lost = series(&[(Outcome::Lost, Receipt::default())]);
        assert_eq!(share(&lost, MailShare::InboxPlacement), Some((0, 1)));
    }

    #[test]
    fn temporary_errors_are_not_verdicts() {
        let of = |verdict| Receipt { verdicts: [None, verdict, None], ..Receipt::default() };
        let verdicts = [
            Some(Verdict::Pass),
            Some(Verdict::None),
            Some(Verdict::PermError),
            Some(Verdict::TempError),
            None,
        ];
        let rows: Vec<_> = verdicts.into_iter().map(|of_mail| (Outcome::Ok, of(of_mail))).collect();
        let series = series(&rows);
        assert_eq!(share(&series, MailShare::DkimPass), Some((1, 3)));
        assert_eq!(share(&series, MailShare::SpfPass), None);
    }

    #[test]
    fn retries_are_counted_with_the_time_they_took() {
        let sent = |attempts, seconds: Option<i64>| Receipt {
            attempts: Some(attempts),
            retry_delay: seconds.map(Micros::from_secs),
            ..Receipt::default()
        };
        let rows = [
            (Outcome::Ok, sent(1, None)),
            (Outcome::Ok, sent(3, Some(360))),
            (Outcome::Late, sent(2, Some(300))),
            (Outcome::SmtpFailed, sent(3, Some(900))),
            (Outcome::Lost, Receipt::default()),
        ];
        let series = series(&rows);
        assert_eq!(share(&series, MailShare::FirstAttempt), Some((1, 4)));
        assert_eq!(share(&series, MailShare::Accepted), Some((3, 4)));
        let mut figures = Deliverability::of(&Judge::new(&series), 0..2);
        figures.add(&Deliverability::of(&Judge::new(&series), 2..5));
        assert_eq!(figures, Deliverability::of(&Judge::new(&series), 0..5));
        assert_eq!(figures.retried(), 2);
        assert_eq!(figures.retry_delay(), Some(Micros::from_secs(330)));
    }
}
