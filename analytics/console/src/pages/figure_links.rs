//! Links to the explanations of a monitor's figures.

use mailqos_figures::Period;
use serde_json::{Value, json};

use super::rows;
use crate::{board::Entry, language::text};

/// Marks a text as one that is translated.
const fn t(english: &'static str) -> &'static str {
    english
}

/// Figures that the page of a monitor links to, with their names for people, and whether they need
/// mails.
pub(super) const FIGURES: [(&str, &str, bool); 16] = [
    ("availability", t("Availability"), false),
    ("availability_by_time", t("Availability by time"), false),
    ("delivery_rate", t("Delivery rate"), true),
    ("round_trip_p50", t("Median round trip"), true),
    ("round_trip_p95", t("Round trip, 95th percentile"), true),
    ("round_trip_p99", t("Round trip, 99th percentile"), true),
    ("delivered_p99", t("Round trip with lost mails, 99th percentile"), true),
    ("delivered_within_max_round_trip", t("Delivered within max round trip"), true),
    ("inbox_placement", t("Inbox placement"), true),
    ("coverage", t("Coverage"), false),
    ("outages", t("Outages"), false),
    ("downtime", t("Downtime"), false),
    ("longest_outage", t("Longest outage"), false),
    ("mttr", t("Mean time to recovery"), false),
    ("declared", t("Tests in maintenance declared afterwards"), false),
    ("availability_excluding_declared", t("Availability without declared maintenance"), false),
];

/// Returns the links to the explanations of the usual figures of a monitor and period.
pub(super) fn links(entry: &Entry, period: &Period, (current, tag): (&str, &str)) -> Vec<Value> {
    let base = rows::href(&entry.site, &entry.id);
    let (from, to) = (period.from, period.to);
    let has_mails = entry.kind != "mailbox";
    let own = FIGURES.iter().filter(|(.., needs_mails)| has_mails || !needs_mails);
    own.map(|(figure, name, _)| {
        let href = format!("{base}/explain?figure={figure}&from={from}&to={to}");
        json!({"name": text(tag, name), "href": href, "is_on": *figure == current})
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use mailqos_figures::explain::figure::Figure;

    use super::*;

    #[test]
    fn every_figure_that_pages_link_to_can_be_explained() {
        for (name, ..) in FIGURES {
            let figure = name.parse::<Figure>();
            assert_eq!(figure.map(|figure| figure.to_string()), Ok(name.to_owned()));
        }
        for section in ["availability", "round_trip_p50", "downtime", "coverage"] {
            assert!(FIGURES.iter().any(|(name, ..)| *name == section), "{section}");
        }
    }
}
