//! Figures about deliverability by name, in the order of the CSV columns.

use mailqos_lake_tables::Series;
use mailqos_model::{EnhancedStatus, Stage};

use super::words::seconds;
use crate::{Deliverability, MailShare, deliverability::Judge};

/// A figure about deliverability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailFigure {
    /// A share with its interval.
    Share(MailShare),
    /// Mails in the inbox, whether in time or not.
    InInbox,
    /// Mails in the junk folder.
    InJunk,
    /// Mails in any other folder.
    InOtherFolder,
    /// Arrived mails whose folder is unknown.
    UnknownFolder,
    /// Median of the spam scores.
    ScoreMedian,
    /// Their 95th percentile.
    ScoreP95,
    /// Mails accepted after several attempts.
    Retried,
    /// The median time that this cost.
    RetryDelay,
    /// Tests whose mail arrived more than once.
    Duplicated,
    /// Mails that were refused or bounced.
    Bounced,
}

impl MailFigure {
    /// All figures, in the order of the CSV columns.
    pub fn all() -> impl Iterator<Item = Self> {
        let shares = MailShare::ALL.iter().map(|share| Self::Share(*share));
        shares.chain([
            Self::InInbox,
            Self::InJunk,
            Self::InOtherFolder,
            Self::UnknownFolder,
            Self::ScoreMedian,
            Self::ScoreP95,
            Self::Retried,
            Self::RetryDelay,
            Self::Duplicated,
            Self::Bounced,
        ])
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Share(share) => share.as_str(),
            Self::InInbox => "in_inbox",
            Self::InJunk => "in_junk",
            Self::InOtherFolder => "in_other_folder",
            Self::UnknownFolder => "folder_unknown",
            Self::ScoreMedian => "spam_score_p50",
            Self::ScoreP95 => "spam_score_p95",
            Self::Retried => "retried",
            Self::RetryDelay => "retry_delay_s",
            Self::Duplicated => "duplicated",
            Self::Bounced => "bounced",
        }
    }

    /// Returns the figure of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|figure| figure.name() == name)
    }

    /// Returns its unit; empty for counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Share(_) => "share",
            Self::ScoreMedian | Self::ScoreP95 => "points",
            Self::RetryDelay => "s",
            _ => "",
        }
    }

    /// Returns whether higher values are better.
    pub fn more_is_better(self) -> bool {
        match self {
            Self::Share(share) => share.more_is_better(),
            other => other == Self::InInbox,
        }
    }

    /// Returns its value.
    pub fn value(self, mails: &Deliverability) -> Option<f64> {
        let places = mails.places;
        let count = |count: u64| Some(count as f64);
        match self {
            Self::Share(share) => mails.share(share).map(|share| share.value),
            Self::InInbox => count(places.inbox),
            Self::InJunk => count(places.junk),
            Self::InOtherFolder => count(places.other),
            Self::UnknownFolder => count(places.unknown),
            Self::ScoreMedian => mails.score(0.5),
            Self::ScoreP95 => mails.score(0.95),
            Self::Retried => count(mails.retried()),
            Self::RetryDelay => mails.retry_delay().map(seconds),
            Self::Duplicated => count(mails.duplicated),
            Self::Bounced => count(mails.bounced()),
        }
    }

    /// Returns its 95 % confidence interval.
    pub fn interval(self, mails: &Deliverability) -> Option<(f64, f64)> {
        match self {
            Self::Share(share) => mails.share(share).map(|share| (share.low, share.high)),
            _ => None,
        }
    }

    /// Returns the definition, and the numbers that the value is calculated from.
    pub fn definition(self, mails: &Deliverability) -> (&'static str, String) {
        let arrived = || {
            let places = mails.places;
            format!(
                "{} in the inbox, {} in the junk folder, {} in other folders, {} unknown",
                places.inbox, places.junk, places.other, places.unknown
            )
        };
        let scores = || format!("{} scores", mails.scores.len());
        let retries = || format!("{} mails", mails.retried());
        match self {
            Self::Share(share) => (definition(share), of_share(share, mails)),
            Self::InInbox => ("mails that arrived in the inbox, whenever", arrived()),
            Self::InJunk => ("mails that arrived in the junk folder", arrived()),
            Self::InOtherFolder => ("mails that arrived in any other folder", arrived()),
            Self::UnknownFolder => {
                ("mails that arrived in an unknown folder, as over POP3", arrived())
            }
            Self::ScoreMedian => {
                ("median of the receiving system's spam scores, on its own scale", scores())
            }
            Self::ScoreP95 => (
                "95th percentile of the receiving system's spam scores, on its own scale",
                scores(),
            ),
            Self::Retried => ("mails that were accepted after several attempts", retries()),
            Self::RetryDelay => (
                "median time that earlier attempts and the pauses after them took, of mails accepted \
                 after several attempts",
                retries(),
            ),
            Self::Duplicated => ("tests whose mail arrived more than once", String::new()),
            Self::Bounced => (
                "mails that were refused with a status code, or bounced",
                statuses(mails).collect::<Vec<_>>().join(", "),
            ),
        }
    }

    /// Returns whether a counted test qualifies for the figure; `None` if it does not concern it.
    pub fn judge(self, judge: &Judge<'_>, series: &Series, row: usize) -> Option<bool> {
        use mailqos_model::Placement::{Inbox, Junk, Other};
        let receipt = series.receipt(row);
        let is_in = |place| receipt.map(|receipt| receipt.placement == Some(place));
        match self {
            Self::Share(share) => judge.judge(share, row),
            Self::InInbox => is_in(Inbox),
            Self::InJunk => is_in(Junk),
            Self::InOtherFolder => is_in(Other),
            Self::UnknownFolder => receipt.map(|receipt| receipt.placement.is_none()),
            Self::ScoreMedian | Self::ScoreP95 => receipt?.score.map(|_| true),
            Self::Retried | Self::RetryDelay => receipt?.attempts.map(|attempts| attempts > 1),
            Self::Duplicated => receipt?.duplicates.map(|copies| copies > 0),
            Self::Bounced => {
                let bounced = series.stage.get(row).copied().flatten() == Some(Stage::Bounced);
                Some(bounced || receipt?.status.is_some())
            }
        }
    }

    /// Returns whether the samples that qualify are the ones to look at, rather than the others.
    pub fn shows_qualifying(self) -> bool {
        !self.more_is_better()
    }
}

fn definition(share: MailShare) -> &'static str {
    match share {
        MailShare::InboxPlacement => {
            "mails in the inbox in time / tests for which this is known; mails in other folders, late, \
             lost and refused ones are in the denominator"
        }
        MailShare::JunkRate => "mails in the junk folder / arrived mails whose folder is known",
        MailShare::SpfPass => {
            "SPF results \"pass\" / results of the receiving system except temperror (RFC 8601)"
        }
        MailShare::DkimPass => {
            "DKIM results \"pass\" / results of the receiving system except temperror (RFC 8601)"
        }
        MailShare::DmarcPass => {
            "DMARC results \"pass\" / results of the receiving system except temperror (RFC 8601)"
        }
        MailShare::SpamRate => {
            "mails that the receiving system's filter considers spam / mails with a verdict of it"
        }
        MailShare::FirstAttempt => {
            "mails accepted at the first attempt / tests that attempted to submit a mail"
        }
        MailShare::Accepted => "mails accepted / tests that attempted to submit a mail",
    }
}

fn of_share(share: MailShare, mails: &Deliverability) -> String {
    let index = match share {
        MailShare::SpfPass => Some(0),
        MailShare::DkimPass => Some(1),
        MailShare::DmarcPass => Some(2),
        _ => None,
    };
    if let Some(index) = index {
        let counts = mails.verdicts[index].iter();
        let counts: Vec<String> = counts.map(|(word, count)| format!("{count} {word}")).collect();
        return counts.join(", ");
    }
    mails
        .share(share)
        .map_or_else(String::new, |share| format!("{} of {}", share.part, share.whole))
}

/// Returns the name of a status code.
pub fn status_name(status: Option<EnhancedStatus>) -> String {
    status.map_or_else(|| "unknown".to_owned(), |status| status.to_string())
}

fn statuses(mails: &Deliverability) -> impl Iterator<Item = String> {
    mails.bounces.iter().map(|(status, count)| format!("{count} {}", status_name(*status)))
}
