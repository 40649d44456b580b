//! Deliverability: where mails end up, results of SPF, DKIM and DMARC, what changed and when,
//! bounces, and TLS with the expiry of certificates.

use std::collections::BTreeMap;

use mailqos_charts::{Measure, sparkline};
use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::{Deliverability as Figures, MailShare};

use super::{Kind, Scope, Section, View};
use crate::{
    deliverability::{self, MailFinding, meaning},
    digest::{Need, Needs, spark_of},
    document::{
        Block, Cell, ChartBlock, Column, Finding, KeyFigure, Note, Row, Span, Status, Table,
    },
    facts::Monitor,
    locale::{DASH, Locale},
};

/// Minimum number of values for a sparkline.
const MIN: usize = 4;

#[derive(Debug)]
struct Deliverability {
    brief: bool,
    limit: usize,
}

keys! {
    DELIVERABILITY: DeliverabilityKeys {
        /// Show only the findings, and nothing if there are none.
        brief: Defaulted<bool> = key().default("false");
        /// The maximum number of rows of each table.
        limit: Defaulted<u32> = key().default("40");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new(
    "Deliverability: inbox or junk folder, SPF, DKIM and DMARC, retries, bounces, certificates.",
    DeliverabilityKeys::KEYS,
    read,
);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Deliverability {
        brief: table.read(&DELIVERABILITY.brief, problems),
        limit: table.read(&DELIVERABILITY.limit, problems).max(1) as usize,
    }))
}

impl Section for Deliverability {
    fn scope(&self) -> Scope {
        Scope::Mails
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let found = deliverability::findings(&view.monitors, view.facts.passed.to, view.locale);
        let mut findings: Vec<Finding> = found.iter().map(|one| finding(one, view)).collect();
        if self.brief {
            findings.truncate(self.limit);
            return if findings.is_empty() {
                Vec::new()
            } else {
                vec![Block::Findings { findings }]
            };
        }
        let l = view.locale;
        let mut total = Figures::default();
        let mut of_tags: BTreeMap<&str, Figures> = BTreeMap::new();
        for monitor in &view.monitors {
            let Some(mails) = &monitor.digest.mails else { continue };
            total.add(&mails.total);
            for tag in &monitor.tags {
                of_tags.entry(tag).or_default().add(&mails.total);
            }
        }
        let mut blocks = vec![Block::KeyFigures { figures: key_figures(&total, l) }];
        if findings.is_empty() {
            blocks.push(Block::Note(Note {
                status: Status::Good,
                title: l.t("Nothing to do").to_owned(),
                text: l
                    .t("No change in the junk folder, SPF, DKIM, DMARC and retries, and no certificate that expires soon.")
                    .to_owned(),
            }));
        } else {
            let all = findings.len();
            findings.truncate(self.limit);
            blocks.push(Block::Findings { findings });
            if all > self.limit {
                blocks.push(Block::paragraph(l.fill(
                    "The first {0} of {1} findings are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(all as u64)],
                )));
            }
        }
        blocks.push(Block::Table(self.monitors(view, &of_tags)));
        if !total.bounces.is_empty() {
            blocks.push(Block::Table(self.bounces(&total, view)));
        }
        blocks.extend(self.connections(view).map(Block::Table));
        blocks
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Mails);
    }
}

fn finding(found: &MailFinding<'_>, view: &View<'_>) -> Finding {
    let mut spans = vec![Span::plain(found.text.clone())];
    if !found.advice.is_empty() {
        spans.push(Span { emphasis: true, ..Span::plain(format!(" {}", found.advice)) });
    }
    let chart = found.about.and_then(|(share, at)| {
        let mails = found.monitor.digest.mails.as_ref()?;
        let course = mails.course.get(&share)?;
        let values: Vec<Option<f64>> = course
            .iter()
            .map(|(part, whole)| (*whole > 0).then(|| f64::from(*part) / f64::from(*whole)))
            .collect();
        if values.iter().flatten().count() < MIN {
            return None;
        }
        let period = &view.facts.passed;
        let unit = spark_of(period);
        let buckets = view.facts.buckets(period, unit);
        let marked = at.and_then(|at| {
            buckets.iter().position(|bucket| (bucket.start..bucket.end).contains(&at))
        });
        let by = match unit {
            mailqos_figures::Unit::Hour => "{0} by hour",
            mailqos_figures::Unit::Day => "{0} by day",
            _ => "{0} by week",
        };
        let metric = view.locale.fill(by, &[share_name(share, view.locale)]);
        let drawing = sparkline::Sparkline {
            metric,
            measure: Measure::Share,
            width: 160,
            height: 36,
            values,
            marked,
        };
        Some(ChartBlock {
            id: view.ids.unique("finding"),
            chart: sparkline::chart(&drawing, view.locale),
        })
    });
    Finding { spans, chart }
}

/// Returns the name of a share within a sentence.
fn share_name(share: MailShare, l: &Locale) -> &'static str {
    match share {
        MailShare::SpfPass => l.t("share that passes SPF"),
        MailShare::DkimPass => l.t("share that passes DKIM"),
        MailShare::DmarcPass => l.t("share that passes DMARC"),
        MailShare::FirstAttempt => l.t("share accepted at the first attempt"),
        _ => l.t("share filed as spam"),
    }
}

fn key_figures(total: &Figures, l: &Locale) -> Vec<KeyFigure> {
    let figure = |label: &str, share: MailShare, detail: String| {
        let value = total.share(share);
        KeyFigure {
            label: label.to_owned(),
            value: value.map_or_else(|| DASH.to_owned(), |share| l.share(share.part, share.whole)),
            detail,
            status: if value.is_none() { Status::Unknown } else { Status::Neutral },
            exact: value.map(|share| share.value * 100.0),
            unit: "%",
            ..KeyFigure::default()
        }
    };
    let mails = |share: MailShare| {
        total.share(share).map_or_else(
            || l.t("no results of the receiving system").to_owned(),
            |share| l.count(share.whole, "of one mail", "of {0} mails"),
        )
    };
    let places = total.places;
    let where_ = if places.inbox + places.junk + places.other == 0 && places.unknown > 0 {
        l.t("unknown: POP3 does not show in which folder a mail is").to_owned()
    } else {
        l.fill(
            "{0} in the junk folder, {1} in other folders, {2} unknown",
            &[&l.integer(places.junk), &l.integer(places.other), &l.integer(places.unknown)],
        )
    };
    let retried = total
        .retry_delay()
        .map_or_else(String::new, |delay| l.fill("a retry cost {0} (median)", &[&l.span(delay)]));
    vec![
        figure(l.t("In the inbox in time"), MailShare::InboxPlacement, where_),
        figure("SPF", MailShare::SpfPass, mails(MailShare::SpfPass)),
        figure("DKIM", MailShare::DkimPass, mails(MailShare::DkimPass)),
        figure("DMARC", MailShare::DmarcPass, mails(MailShare::DmarcPass)),
        figure(l.t("Accepted immediately"), MailShare::FirstAttempt, retried),
    ]
}

/// Returns a cell with a share; `detailed` adds its interval.
fn cell(figures: &Figures, share: MailShare, detailed: bool, l: &Locale) -> Cell {
    let Some(value) = figures.share(share) else {
        return Cell::number(DASH, None);
    };
    let cell = Cell::number(l.share(value.part, value.whole), Some(value.value * 100.0));
    if detailed {
        let percent = |share: f64| l.percent_bare(share, 1);
        return cell.detail(format!("({}–{})", percent(value.low), percent(value.high)));
    }
    cell
}

impl Deliverability {
    /// Returns the table of monitors and tags, the monitors with the lowest inbox placement first.
    fn monitors(&self, view: &View<'_>, of_tags: &BTreeMap<&str, Figures>) -> Table {
        let l = view.locale;
        let mut monitors: Vec<(&Monitor, &Figures)> = view
            .monitors
            .iter()
            .filter_map(|monitor| Some((*monitor, &monitor.digest.mails.as_ref()?.total)))
            .collect();
        let placement = |figures: &Figures| {
            figures.share(MailShare::InboxPlacement).map_or(2.0, |share| share.value)
        };
        monitors.sort_by(|a, b| placement(a.1).total_cmp(&placement(b.1)));
        let count = monitors.len();
        monitors.truncate(self.limit);
        let mut rows: Vec<Row> =
            monitors.iter().map(|(monitor, figures)| row(&monitor.name, figures, l)).collect();
        for (tag, figures) in of_tags {
            let row = row(&l.fill("Tag {0}", &[tag]), figures, l);
            rows.push(Row { strong: true, ..row });
        }
        Table {
            id: view.ids.unique("deliverability"),
            title: l.t("Folders, results and attempts").to_owned(),
            subtitle: l
                .t("Shares of mails; late and lost mails are not in the inbox in time; 95 % confidence interval in brackets")
                .to_owned(),
            columns: vec![
                Column::wide(4, l.t("Monitor")),
                Column::measured(l.t("In the inbox in time"), "%"),
                Column::measured(l.t("Filed as spam"), "%"),
                Column::measured("SPF", "%"),
                Column::measured("DKIM", "%"),
                Column::measured("DMARC", "%"),
                Column::measured(l.t("Accepted immediately"), "%"),
                Column::measured(l.t("Retry"), "s"),
                Column::number(l.t("Bounces"), ""),
            ],
            rows,
            note: if count > self.limit {
                l.fill(
                    "The {0} worst of {1} monitors are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(count as u64)],
                )
            } else {
                String::new()
            },
        }
    }

    fn bounces(&self, total: &Figures, view: &View<'_>) -> Table {
        let l = view.locale;
        let mut bounces: Vec<_> = total.bounces.iter().collect();
        bounces.sort_by_key(|(status, count)| (std::cmp::Reverse(**count), **status));
        bounces.truncate(self.limit);
        let rows = bounces
            .into_iter()
            .map(|(status, count)| Row {
                cells: vec![
                    Cell::text(l.t(meaning(*status))),
                    Cell::text(status.map_or_else(|| DASH.to_owned(), |code| code.to_string())),
                    Cell::number(l.integer(*count), Some(*count as f64)),
                ],
                strong: false,
            })
            .collect();
        Table {
            id: view.ids.unique("bounces"),
            title: l.count(
                total.bounced(),
                "One mail was refused or bounced",
                "{0} mails were refused or bounced",
            ),
            subtitle: l
                .t("By enhanced status code (RFC 3463); 4 is temporary, 5 permanent")
                .to_owned(),
            columns: vec![
                Column::wide(6, l.t("Reason")),
                Column::text(l.t("Code")),
                Column::number(l.t("Mails"), ""),
            ],
            rows,
            note: String::new(),
        }
    }

    /// Returns the table of TLS connections and certificates, those that expire first on top.
    fn connections(&self, view: &View<'_>) -> Option<Table> {
        let l = view.locale;
        let end = view.facts.passed.to;
        let mut all = Vec::new();
        for monitor in &view.monitors {
            let Some(mails) = &monitor.digest.mails else { continue };
            for (leg, latest) in mails.total.latest_tls.iter().enumerate() {
                all.extend(latest.as_ref().map(|(_, facts)| (monitor, leg, facts)));
            }
        }
        all.sort_by_key(|(monitor, leg, facts)| {
            (facts.expires_at.is_none(), facts.expires_at, &monitor.id, *leg)
        });
        all.truncate(self.limit);
        let text = |text: Option<&str>| Cell::text(text.unwrap_or(DASH));
        let rows: Vec<Row> = all
            .into_iter()
            .map(|(monitor, leg, facts)| Row {
                cells: vec![
                    Cell::text(monitor.name.clone()),
                    Cell::text(l.t(if leg == 0 { "SMTP" } else { "Mailbox" })),
                    text(facts.version.as_deref()),
                    text(facts.cipher.as_deref()),
                    facts.expires_at.map_or_else(
                        || Cell::text(DASH),
                        |at| {
                            let status = if at < end { Status::Bad } else { Status::Neutral };
                            Cell::moment(l.date(at), at).status(status)
                        },
                    ),
                ],
                strong: false,
            })
            .collect();
        (!rows.is_empty()).then(|| Table {
            id: view.ids.unique("connections"),
            title: l.t("Encryption and certificates").to_owned(),
            subtitle: l
                .t("Latest connection to each server; those that expire first on top")
                .to_owned(),
            columns: vec![
                Column::wide(4, l.t("Monitor")),
                Column::text(l.t("Server")),
                Column::text("TLS"),
                Column::wide(4, l.t("Cipher suite")),
                Column::text(l.t("Certificate expires")),
            ],
            rows,
            note: String::new(),
        })
    }
}

fn row(name: &str, figures: &Figures, l: &Locale) -> Row {
    let retry = figures.retry_delay();
    Row {
        cells: vec![
            Cell::text(name),
            cell(figures, MailShare::InboxPlacement, true, l),
            cell(figures, MailShare::JunkRate, false, l),
            cell(figures, MailShare::SpfPass, false, l),
            cell(figures, MailShare::DkimPass, false, l),
            cell(figures, MailShare::DmarcPass, false, l),
            cell(figures, MailShare::FirstAttempt, false, l),
            Cell::number(
                retry.map_or_else(|| DASH.to_owned(), |delay| l.span(delay)),
                retry.map(|delay| delay.0 as f64 / 1e6),
            ),
            Cell::number(l.integer(figures.bounced()), Some(figures.bounced() as f64)),
        ],
        strong: false,
    }
}
