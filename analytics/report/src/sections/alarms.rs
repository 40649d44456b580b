//! Alarm log: raised alarms, their notifications and acknowledgements, dead channels, and
//! maintenance windows.

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::alarm_log::{Alarm, DeadChannel, LOOK_BACK_DAYS, Window};
use mailqos_model::UtcMicros;

use super::{Kind, Scope, Section, View};
use crate::{
    document::{Block, Cell, Column, Note, Row, Status, Table},
    locale::{DASH, Locale},
};

/// Maximum number of named monitors per maintenance window; the others are counted.
const MAX_NAMES: usize = 5;

#[derive(Debug)]
struct Alarms {
    limit: usize,
    channels: bool,
}

keys! {
    ALARMS: AlarmsKeys {
        /// The maximum number of alarms.
        limit: Defaulted<u32> = key().default("40");
        /// Whether dead channels are listed.
        channels: Defaulted<bool> = key().default("true");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new(
    "Alarms, notified people, failing channels and planned maintenance.",
    AlarmsKeys::KEYS,
    read,
);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&ALARMS.limit, problems);
    let channels = table.read(&ALARMS.channels, problems);
    Some(Box::new(Alarms { limit: limit.max(1) as usize, channels }))
}

impl Section for Alarms {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let mut blocks = if self.channels { dead_channels(view) } else { Vec::new() };
        blocks.extend(self.alarms(view));
        blocks.extend(self.windows(view));
        blocks
    }
}

/// Returns the names of a section's monitors that a window covers; empty if it covers the whole
/// site, `None` if it only covers other monitors.
fn concerned(window: &Window, view: &View<'_>) -> Option<Vec<String>> {
    let here: Vec<_> =
        view.monitors.iter().filter(|monitor| monitor.site == *window.site).collect();
    if window.monitors.is_empty() {
        return (!here.is_empty()).then(Vec::new);
    }
    let named = here.iter().filter(|monitor| window.monitors.contains(&monitor.id));
    let names: Vec<String> = named.map(|monitor| monitor.name.clone()).collect();
    (!names.is_empty()).then_some(names)
}

/// Returns who added a window, and whether it was declared afterwards.
fn detail(window: &Window, l: &Locale) -> String {
    let declared = window.is_declared.then(|| l.t("declared afterwards").to_owned());
    declared.into_iter().chain(window.by.clone()).collect::<Vec<_>>().join(", ")
}

/// Returns notes on dead channels, whose notifications may not have reached anyone.
fn dead_channels(view: &View<'_>) -> Vec<Block> {
    let l = view.locale;
    let note = |dead: &DeadChannel| {
        let from = l.moment_in_period(dead.from);
        let text = match dead.to {
            Some(to) => l.fill(
                "{0} accepted no notifications from {1} to {2}: {3}",
                &[&dead.channel, &from, &l.moment_in_period(to), &dead.error],
            ),
            None => l.fill(
                "{0} has accepted no notifications since {1}: {2}",
                &[&dead.channel, &from, &dead.error],
            ),
        };
        Block::Note(Note {
            status: if dead.to.is_none() { Status::Bad } else { Status::Warn },
            title: l.t("Alarm channel down").to_owned(),
            text,
        })
    };
    view.facts.log.dead_channels.iter().map(note).collect()
}

fn moment_cell(at: Option<UtcMicros>, l: &Locale) -> Cell {
    at.map_or_else(|| Cell::text(DASH), |at| Cell::moment(l.moment_in_period(at), at))
}

/// Returns the name of the monitor that an alarm is about, if it is one of the section's.
fn name(alarm: &Alarm, view: &View<'_>) -> Option<String> {
    let monitor = view
        .monitors
        .iter()
        .find(|monitor| monitor.id == alarm.monitor && monitor.site == *alarm.site);
    match monitor {
        Some(monitor) => Some(monitor.name.clone()),
        // The probe's own alarm belongs to no monitor.
        None => alarm.monitor.starts_with("mailqos.").then(|| alarm.monitor.clone()),
    }
}

/// Returns the row of an alarm.
fn row(alarm: &Alarm, name: &str, l: &Locale) -> Row {
    let by = match &alarm.acknowledged {
        Some((who, at)) => Cell::text(who).detail(l.moment_in_period(*at)),
        None => Cell::text(DASH),
    };
    let mut about = Cell::text(if alarm.raised_at.is_some() {
        alarm.text.as_str()
    } else {
        l.t("raised before the log starts")
    });
    if alarm.simulated {
        about = about.detail(l.t("triggered to test the action list"));
    }
    let ended = match alarm.cleared_at {
        None => Cell::text(DASH).detail(l.t("clearing not observed")).status(Status::Unknown),
        cleared => moment_cell(cleared, l),
    };
    let raised = moment_cell(alarm.raised_at, l);
    Row {
        cells: vec![raised, ended, Cell::text(name), notified_cell(alarm, l), by, about],
        strong: false,
    }
}

/// Returns the time until the first notification of an alarm, or that no one was notified.
fn notified_cell(alarm: &Alarm, l: &Locale) -> Cell {
    match (alarm.raised_at, alarm.told_at) {
        (Some(raised), Some(notified)) => {
            let took = notified - raised;
            Cell::number(
                l.fill("after {0}", &[&l.duration(took.0.max(0) as f64)]),
                Some(took.as_secs_f64()),
            )
        }
        (Some(_), None) => {
            Cell::text(l.t("no one")).status(Status::Warn).detail(match alarm.refused {
                0 => String::new(),
                refused => l.count(
                    refused,
                    "one notification not accepted",
                    "{0} notifications not accepted",
                ),
            })
        }
        (None, _) => Cell::text(DASH),
    }
}

impl Alarms {
    fn alarms(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut alarms: Vec<(&Alarm, String)> = view
            .facts
            .log
            .alarms
            .iter()
            .filter_map(|alarm| Some((alarm, name(alarm, view)?)))
            .collect();
        let unseen = if view.facts.log.is_cut {
            let days = u64::try_from(LOOK_BACK_DAYS).unwrap_or_default();
            l.fill(
                "Alarms raised more than {0} days before the period are listed only if they cleared during it.",
                &[&l.integer(days)],
            )
        } else {
            String::new()
        };
        if alarms.is_empty() {
            let text = format!("{} {unseen}", l.t("No alarms were raised."));
            return vec![Block::paragraph(text.trim_end())];
        }
        let all = alarms.len();
        let unnotified = |alarm: &Alarm| alarm.told_at.is_none() && alarm.raised_at.is_some();
        // If not all alarms fit, those without a notification take precedence, then the latest.
        alarms.sort_by_key(|(alarm, _)| (!unnotified(alarm), std::cmp::Reverse(alarm.raised_at)));
        alarms.truncate(self.limit);
        alarms.sort_by(|(a, one), (b, other)| (a.raised_at, one).cmp(&(b.raised_at, other)));
        vec![Block::Table(Table {
            id: view.ids.unique("alarms"),
            title: l.count(all as u64, "One alarm", "{0} alarms"),
            subtitle: l
                .t("Notified: time until a channel first accepted a notification")
                .to_owned(),
            columns: vec![
                Column::wide(6, l.t("Raised")),
                Column::wide(6, l.t("Cleared")),
                Column::wide(6, l.t("Monitor")),
                Column::wide(4, l.t("Notified")),
                Column::wide(5, l.t("Acknowledged by")),
                Column::wide(8, l.t("Problem")),
            ],
            rows: alarms.iter().map(|(alarm, name)| row(alarm, name, l)).collect(),
            note: if all > self.limit {
                let listed = l.fill(
                    "{0} of {1} alarms are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(all as u64)],
                );
                format!("{listed} {unseen}").trim_end().to_owned()
            } else {
                unseen
            },
        })]
    }

    fn windows(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let all: Vec<(&Window, Vec<String>)> = view
            .facts
            .log
            .windows
            .iter()
            .filter_map(|window| Some((window, concerned(window, view)?)))
            .collect();
        if all.is_empty() {
            return Vec::new();
        }
        let rows = all
            .iter()
            .rev()
            .take(self.limit)
            .rev()
            .map(|(window, concerned)| {
                let mut names: Vec<String> = concerned.iter().take(MAX_NAMES).cloned().collect();
                let others = concerned.len() - names.len();
                if others > 0 {
                    names.push(l.count(others as u64, "one more", "{0} more"));
                }
                if names.is_empty() {
                    names.push(l.t("all").to_owned());
                }
                Row {
                    cells: vec![
                        moment_cell(Some(window.from), l),
                        moment_cell(window.to, l),
                        Cell::text(names.join(", ")),
                        Cell::text(&window.text).detail(detail(window, l)),
                    ],
                    strong: false,
                }
            })
            .collect();
        vec![Block::Table(Table {
            id: view.ids.unique("maintenance"),
            title: l.count(all.len() as u64, "One maintenance window", "{0} maintenance windows"),
            subtitle: l.t("Tests during maintenance do not count towards availability").to_owned(),
            columns: vec![
                Column::wide(2, l.t("Start")),
                Column::wide(2, l.t("End")),
                Column::wide(3, l.t("Monitors")),
                Column::wide(4, l.t("Reason")),
            ],
            rows,
            note: if all.len() > self.limit {
                l.fill(
                    "The latest {0} of {1} are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(all.len() as u64)],
                )
            } else {
                String::new()
            },
        })]
    }
}
