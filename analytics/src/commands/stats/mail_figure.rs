//! Figures about deliverability by name, in the order of the CSV columns.

use mailqos_figures::{
    Deliverability, MailShare,
    deliverability::{Judge, LEGS},
};
use mailqos_lake_tables::Series;
use mailqos_model::{EnhancedStatus, Stage, Verdict};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::commands::table::{Cell, seconds};

/// A figure about deliverability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum MailFigure {
    /// A share with its interval.
    Share(MailShare),
    /// Mails in the inbox, whether in time or not.
    InInbox,
    InJunk,
    InOtherFolder,
    /// Arrived mails whose folder is unknown.
    UnknownFolder,
    /// Median of the spam scores.
    ScoreMedian,
    ScoreP95,
    /// Mails accepted after several attempts.
    Retried,
    /// The median time that this cost.
    RetryDelay,
    Duplicated,
    Bounced,
}

impl MailFigure {
    /// All figures, in the order of the CSV columns.
    pub(super) fn all() -> impl Iterator<Item = Self> {
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

    pub(super) fn name(self) -> &'static str {
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

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::all().find(|figure| figure.name() == name)
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Share(_) => "share",
            Self::ScoreMedian | Self::ScoreP95 => "points",
            Self::RetryDelay => "s",
            _ => "",
        }
    }

    pub(super) fn more_is_better(self) -> bool {
        match self {
            Self::Share(share) => share.more_is_better(),
            other => other == Self::InInbox,
        }
    }

    pub(super) fn value(self, mails: &Deliverability) -> Option<f64> {
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

    pub(super) fn interval(self, mails: &Deliverability) -> Option<(f64, f64)> {
        match self {
            Self::Share(share) => mails.share(share).map(|share| (share.low, share.high)),
            _ => None,
        }
    }

    /// Returns the definition, and the numbers that the value is calculated from.
    pub(super) fn definition(self, mails: &Deliverability) -> (&'static str, String) {
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
    pub(super) fn judge(self, judge: &Judge<'_>, series: &Series, row: usize) -> Option<bool> {
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
    pub(super) fn shows_qualifying(self) -> bool {
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

fn status_name(status: Option<EnhancedStatus>) -> String {
    status.map_or_else(|| "unknown".to_owned(), |status| status.to_string())
}

fn statuses(mails: &Deliverability) -> impl Iterator<Item = String> {
    mails.bounces.iter().map(|(status, count)| format!("{count} {}", status_name(*status)))
}

/// Returns the names of the CSV columns.
pub(super) fn columns() -> impl Iterator<Item = String> {
    MailFigure::all().flat_map(|figure| {
        let name = figure.name();
        let interval = (figure.unit() == "share")
            .then(|| [format!("{name}_low"), format!("{name}_high")])
            .into_iter()
            .flatten();
        std::iter::once(name.to_owned()).chain(interval)
    })
}

/// Returns the cells of [`columns`].
pub(super) fn cells(mails: Option<&Deliverability>, tests: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for figure in MailFigure::all() {
        let value = mails.and_then(|mails| figure.value(mails));
        match figure.unit() {
            "share" => {
                let interval = mails.and_then(|mails| figure.interval(mails));
                cells.push(Cell::share(value, tests));
                cells.push(Cell::share(interval.map(|(low, _)| low), tests));
                cells.push(Cell::share(interval.map(|(_, high)| high), tests));
            }
            "" => cells.push(value.map_or(Cell::None, |value| Cell::Count(value as u64))),
            _ => cells.push(Cell::number(value, 1)),
        }
    }
    cells
}

/// Writes deliverability as a JSON object.
pub(super) struct JsonMails<'a>(pub(super) &'a Deliverability);

impl Serialize for JsonMails<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mails = self.0;
        let mut map = serializer.serialize_map(None)?;
        for figure in MailFigure::all() {
            let value = figure.value(mails);
            if figure.unit().is_empty() {
                map.serialize_entry(figure.name(), &value.map(|count| count as u64))?;
            } else {
                map.serialize_entry(figure.name(), &value)?;
            }
            if figure.unit() == "share" {
                let name = format!("{}_interval", figure.name());
                map.serialize_entry(&name, &figure.interval(mails))?;
            }
        }
        for (name, verdicts) in ["spf", "dkim", "dmarc"].into_iter().zip(&mails.verdicts) {
            map.serialize_entry(name, &JsonVerdicts(verdicts))?;
        }
        map.serialize_entry("bounces", &JsonBounces(mails))?;
        for (leg, name) in LEGS.into_iter().enumerate() {
            map.serialize_entry(&format!("{name}_tls"), &JsonConnections(mails, leg))?;
            let expires_at = mails.expires_at(leg).map(|at| at.to_string());
            map.serialize_entry(&format!("{name}_certificate_expires_at"), &expires_at)?;
        }
        map.end()
    }
}

struct JsonVerdicts<'a>(&'a std::collections::BTreeMap<Verdict, u64>);

impl Serialize for JsonVerdicts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(verdict, count)| (verdict.as_str(), count)))
    }
}

struct JsonBounces<'a>(&'a Deliverability);

impl Serialize for JsonBounces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bounces = self.0.bounces.iter();
        serializer.collect_map(bounces.map(|(status, count)| (status_name(*status), count)))
    }
}

struct JsonConnections<'a>(&'a Deliverability, usize);

impl Serialize for JsonConnections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let connections = self.0.connections[self.1].iter();
        serializer.collect_map(connections.map(|((version, cipher), count)| {
            let cipher = cipher.as_deref().unwrap_or("unknown cipher");
            (format!("{version} {cipher}"), count)
        }))
    }
}
