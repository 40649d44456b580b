//! How it was measured, and what the figures mean: the definitions that the figures are computed by.

use mailqos_config::{Problems, Table};
use mailqos_figures::Packed;
use mailqos_lake_tables::Metric;

use super::{Scope, Section, View};
use crate::{
    digest::{Need, Needs},
    document::{Block, Span},
};

#[derive(Debug)]
struct Method;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Method))
}

/// The definitions, word for word those of the figures.
const DEFINITIONS: [(&str, &str); 8] = [
    (
        "Test",
        "the probe hands a mail to the SMTP server, with the moment of sending signed into it, and looks for it in the mailbox until max round trip has passed",
    ),
    (
        "Round trip",
        "from the moment just before the content is handed to the SMTP server to the mail's landing in the mailbox; each comes with the bounds that the landing must lie in",
    ),
    (
        "Counted tests",
        "all but those that the probe itself could not make and those in maintenance",
    ),
    (
        "Availability",
        "counted tests whose mail landed within max round trip, divided by counted tests; late and lost mails are in the denominator",
    ),
    (
        "Delivered",
        "counted tests whose mail landed at all, divided by counted tests",
    ),
    (
        "Outage",
        "from the first failed test to the next good one; downtime is the part of it that lies in the period",
    ),
    (
        "Unknown",
        "time without tests for more than three test intervals; it counts neither as up nor as down, and coverage is the rest",
    ),
    (
        "Percentile",
        "exact, by linear interpolation between closest ranks, over all values of counted tests; no sketch, no average of averages",
    ),
];

/// Those that are about mails.
const OF_MAILS: [&str; 4] = ["Test", "Round trip", "Availability", "Delivered"];

/// What a test of a mailbox is.
const OF_MAILBOXES: (&str, &str) = (
    "Test of a mailbox",
    "the probe logs in and opens each folder; availability is the share of counted tests in which this succeeds",
);

impl Section for Method {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let has_mails = view.monitors.is_empty() || view.monitors.iter().any(|monitor| monitor.has_mails());
        let has_mailboxes = view.monitors.iter().any(|monitor| !monitor.has_mails());
        let definitions = DEFINITIONS
            .iter()
            .filter(|(word, _)| has_mails || !OF_MAILS.contains(word));
        let mut items: Vec<Vec<Span>> = has_mailboxes
            .then_some(&OF_MAILBOXES)
            .into_iter()
            .chain(definitions)
            .map(|(word, meaning)| vec![Span::strong(l.t(word)), Span::plain(format!(": {}.", l.t(meaning)))])
            .collect();
        items.push(vec![
            Span::strong(l.t("Confidence")),
            Span::plain(format!(
                ": {}.",
                l.t("95 % intervals: Wilson's for shares, order statistics for percentiles; they show how uncertain figures from few tests are")
            )),
        ]);
        let mut blocks = vec![Block::List { ordered: false, items }];
        let errors = view.monitors.iter();
        let errors = errors.map(|monitor| monitor.digest.values(Metric::RoundTripError));
        if let [median, p99] = Packed::percentiles(errors, &[0.5, 0.99])[..] {
            blocks.push(Block::paragraph(l.fill(
                "The landing of a mail was known to ± {0} in half of the tests, and to ± {1} in 99 % of them.",
                &[&l.duration(median), &l.duration(p99)],
            )));
        }
        blocks
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(Metric::RoundTripError));
    }
}
