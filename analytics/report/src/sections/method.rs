//! Method: how mail was measured, and the definitions of the figures.

use mailqos_config::{Problems, Table};
use mailqos_figures::Packed;
use mailqos_lake_tables::Metric;

use super::{Kind, Scope, Section, View};
use crate::{
    digest::{Need, Needs},
    document::{Block, Span},
};

#[derive(Debug)]
struct Method;

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("How it was measured and what the figures mean.", &[], read);

fn read(_: &mut Table, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Method))
}

/// Definitions of the figures, as in `docs/figures.md`.
const DEFINITIONS: [(&str, &str); 8] = [
    (
        "Test",
        "the probe submits a mail with a signed sending time to the SMTP server and looks for it in the mailbox until the maximum round trip has passed",
    ),
    (
        "Round trip",
        "from the moment just before the content is handed to the SMTP server to the mail's arrival in the mailbox; every value comes with bounds on the arrival time",
    ),
    (
        "Counted tests",
        "all tests except those that the probe could not perform and those in maintenance windows",
    ),
    (
        "Availability",
        "counted tests whose mail arrived within the maximum round trip, divided by all counted tests; late and lost mails remain in the denominator",
    ),
    (
        "Delivered",
        "counted tests whose mail arrived, on time or late, divided by all counted tests",
    ),
    (
        "Outage",
        "from the first failed test to the next successful one; downtime is the part within the period",
    ),
    (
        "Unknown",
        "gaps of more than three test intervals without a test; they count as neither up nor down, and coverage is the rest of the period",
    ),
    (
        "Percentile",
        "exact, by linear interpolation between closest ranks, over all values of counted tests; neither approximated nor averaged from averages",
    ),
];

/// Definitions that apply to mail tests only.
const OF_MAILS: [&str; 4] = ["Test", "Round trip", "Availability", "Delivered"];

/// Definition of a mailbox test.
const OF_MAILBOXES: (&str, &str) = (
    "Mailbox test",
    "the probe logs in and opens each folder; availability is the share of counted tests in which this succeeds",
);

impl Section for Method {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let has_mails =
            view.monitors.is_empty() || view.monitors.iter().any(|monitor| monitor.has_mails());
        let has_mailboxes = view.monitors.iter().any(|monitor| !monitor.has_mails());
        let definitions =
            DEFINITIONS.iter().filter(|(word, _)| has_mails || !OF_MAILS.contains(word));
        let mut items: Vec<Vec<Span>> = has_mailboxes
            .then_some(&OF_MAILBOXES)
            .into_iter()
            .chain(definitions)
            .map(|(word, meaning)| {
                vec![Span::strong(l.t(word)), Span::plain(format!(": {}.", l.t(meaning)))]
            })
            .collect();
        items.push(vec![
            Span::strong(l.t("Confidence")),
            Span::plain(format!(
                ": {}.",
                l.t("95 % intervals: Wilson score for shares, order statistics for percentiles; they show how uncertain figures from few tests are")
            )),
        ]);
        let mut blocks = vec![Block::List { ordered: false, items }];
        let errors = view.monitors.iter();
        let errors = errors.map(|monitor| monitor.digest.values(Metric::RoundTripError));
        if let [median, p99] = Packed::percentiles(errors, &[0.5, 0.99])[..] {
            blocks.push(Block::paragraph(l.fill(
                "The arrival time was known to within ± {0} in half of the tests, and to within ± {1} in 99 %.",
                &[&l.duration(median), &l.duration(p99)],
            )));
        }
        blocks
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(Metric::RoundTripError));
    }
}
