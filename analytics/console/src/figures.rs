//! Figures and charts of one monitor and period, rendered by the sections of reports. They are kept
//! for a short time, because several people look at the same alarm.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Config;
use mailqos_figures::{
    Calendar, Period,
    explain::{Explanation, explanations, figure::Figure},
    stats::{FiguresQuery, Row},
};
use mailqos_lake_tables::{Lake, Metric, SeriesQuery};
use mailqos_model::{Micros, UtcMicros};
use mailqos_report::{
    definitions,
    document::{Block, Document},
    facts::Selection,
    generate::{self, Source},
    media::html,
};

/// Sections of a monitor's page.
const TEMPLATE: &str = include_str!("../../../templates/console/monitor.toml");
/// Pages that are computed at the same time.
const MAX_RUNNING: usize = 2;
/// Longest wait for a place.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Time for which figures are kept.
const KEEP: Duration = Duration::from_secs(30);
/// Size of all kept figures, in bytes.
const MAX_KEPT: usize = 64 << 20;
/// Memory for samples while they are read, in bytes.
const BUDGET: usize = 128 << 20;

/// Length of a rolling period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Span {
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Span {
    /// All spans with their words in addresses.
    pub(crate) const WORDS: [(&'static str, Self); 4] =
        [("day", Self::Day), ("week", Self::Week), ("month", Self::Month), ("year", Self::Year)];

    /// Returns the length.
    pub(crate) fn length(self) -> Micros {
        Micros::from_secs(
            86_400
                * match self {
                    Self::Day => 1,
                    Self::Week => 7,
                    Self::Month => 30,
                    Self::Year => 365,
                },
        )
    }

    /// Returns the period that ends now, or an earlier one of the same length.
    pub(crate) fn period(self, back: u32, now: UtcMicros, calendar: Calendar) -> Option<Period> {
        // Full minutes, so that figures can be kept for a moment.
        let now = UtcMicros(now.0 - now.0.rem_euclid(60_000_000));
        let to = now - Micros(self.length().0.saturating_mul(i64::from(back)));
        Period::new(to - self.length(), to, calendar).ok()
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Site of the monitor.
    pub(crate) site: String,
    /// Id of the monitor.
    pub(crate) id: String,
    /// Start of the period.
    pub(crate) from: UtcMicros,
    /// End of the period.
    pub(crate) to: UtcMicros,
    /// Language of the texts.
    pub(crate) language: String,
    /// Whether the viewer sees all monitors, and thus what concerns all of them.
    pub(crate) sees_all: bool,
}

/// Reasons why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FiguresError {
    /// Too many pages are being computed.
    #[error("too many pages are being computed at the same time")]
    Busy,
    /// The lake can't be read.
    #[error("{0}")]
    Lake(String),
    /// The sections can't be rendered.
    #[error("{0}")]
    Page(String),
}

/// Figures that are kept.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    running: Mutex<usize>,
    freed: Condvar,
    kept: Mutex<HashMap<Question, (Instant, Arc<str>)>>,
}

/// A place among those that compute; freed when dropped.
struct Place<'a>(&'a Figures);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.running.lock().ignore_poison() -= 1;
        self.0.freed.notify_one();
    }
}

impl Figures {
    fn place(&self) -> Result<Place<'_>, FiguresError> {
        let running = self.running.lock().ignore_poison();
        let (mut running, waited) = self
            .freed
            .wait_timeout_while(running, MAX_WAIT, |running| *running >= MAX_RUNNING)
            .ignore_poison();
        if waited.timed_out() {
            return Err(FiguresError::Busy);
        }
        *running += 1;
        Ok(Place(self))
    }

    /// Returns the sections of a monitor's page as HTML; empty without tests. Blocks.
    ///
    /// # Errors
    /// The lake can't be read, or too many others are asking.
    pub(crate) fn page(
        &self,
        question: &Question,
        folder: &std::path::Path,
        config: &Config,
    ) -> Result<Arc<str>, FiguresError> {
        if let Some(kept) = self.kept(question) {
            return Ok(kept);
        }
        let _place = self.place()?;
        // Another request may have computed it in the meantime.
        if let Some(kept) = self.kept(question) {
            return Ok(kept);
        }
        let page: Arc<str> = compute(question, folder, config)?.into();
        let mut all = self.kept.lock().ignore_poison();
        all.retain(|_, (at, _)| at.elapsed() < KEEP);
        let size: usize = all.values().map(|(_, page)| page.len()).sum();
        if size + page.len() <= MAX_KEPT {
            all.insert(question.clone(), (Instant::now(), Arc::clone(&page)));
        }
        Ok(page)
    }

    fn kept(&self, question: &Question) -> Option<Arc<str>> {
        let all = self.kept.lock().ignore_poison();
        let (at, page) = all.get(question)?;
        (at.elapsed() < KEEP).then(|| Arc::clone(page))
    }

    /// Returns the figures of a monitor, in the form of `stats`: one row for each kind of test.
    /// Blocks.
    ///
    /// # Errors
    /// The lake can't be read, or too many others are asking.
    pub(crate) fn rows(
        &self,
        question: &Question,
        folder: &std::path::Path,
        config: &Config,
        query: &FiguresQuery,
    ) -> Result<Vec<Row>, FiguresError> {
        let _place = self.place()?;
        let lake = open(folder)?;
        let series = SeriesQuery::new(question.from..question.to)
            .sites([question.site.clone()])
            .monitors([question.id.clone()])
            .metrics(&Metric::CONTRACT)
            .for_outages()
            .intervals(config)
            .budget(BUDGET);
        let rows = lake.map(&series, |series| query.rows(series));
        Ok(rows.map_err(lake_error)?.into_iter().flatten().collect())
    }
}

impl Figures {
    /// Explains a figure of a monitor; `None` without tests. Blocks.
    ///
    /// # Errors
    /// The lake can't be read, or too many others are asking.
    pub(crate) fn explain(
        &self,
        question: &Question,
        folder: &std::path::Path,
        config: &Config,
        figure: &Figure,
    ) -> Result<Option<Explanation>, FiguresError> {
        let _place = self.place()?;
        let lake = open(folder)?;
        let calendar = Calendar::new(config.timezone.clone());
        let period = Period::new(question.from, question.to, calendar)
            .map_err(|error| FiguresError::Page(error.to_string()))?;
        let series = SeriesQuery::new(question.from..question.to)
            .sites([question.site.clone()])
            .monitors([question.id.clone()])
            .for_outages()
            .intervals(config)
            .budget(BUDGET);
        let found = explanations(&lake, series, (figure, &period), false).map_err(lake_error)?;
        let mut found = found.into_iter().next();
        if let Some(found) = found.as_mut().filter(|_| !question.sees_all) {
            // Paths, and names of other people's maintenance.
            found.skipped_files.clear();
            found.declared.clear();
        }
        Ok(found)
    }
}

fn open(folder: &std::path::Path) -> Result<Lake, FiguresError> {
    Ok(Lake::open(folder).map_err(lake_error)?.skip_corrupt(true))
}

fn lake_error(error: mailqos_lake_tables::LakeError) -> FiguresError {
    FiguresError::Lake(error.to_string())
}

fn compute(
    question: &Question,
    folder: &std::path::Path,
    config: &Config,
) -> Result<String, FiguresError> {
    let page = |error: String| FiguresError::Page(error);
    let text = if question.sees_all {
        TEMPLATE.to_owned()
    } else {
        // Channels of notifications are named after other people's affairs.
        TEMPLATE.replace("kind = \"alarms\"", "kind = \"alarms\"\nchannels = false")
    };
    let mut definition = definitions::of_text(Some(config), "monitor", &text)
        .map_err(|problems| page(problems.render(false)))?;
    definition.language.clone_from(&question.language);
    definition.selection =
        Selection { monitors: vec![question.id.clone()], sites: vec![question.site.clone()] };
    let calendar = Calendar::new(config.timezone.clone());
    let period = Period::new(question.from, question.to, calendar)
        .map_err(|error| page(error.to_string()))?;
    let lake = open(folder)?;
    let tests = SeriesQuery::new(question.from..question.to)
        .sites([question.site.clone()])
        .monitors([question.id.clone()]);
    if lake.count(&tests).map_err(lake_error)? == 0 {
        return Ok(String::new());
    }
    let source = Source { lake: &lake, config: Some(config), now: UtcMicros::now(), made_at: None };
    let reports = generate::documents(&definition, source, &period)
        .map_err(|error| FiguresError::Lake(error.to_string()))?;
    let Some(mut report) = reports.into_iter().next() else {
        return Ok(String::new());
    };
    for block in &mut report.document.blocks {
        link(block, question);
    }
    let html = html::fragment(&report.document).map_err(|error| page(error.to_string()))?;
    Ok(with_times(html, &report.document))
}

/// Links key figures to their explanations.
fn link(block: &mut Block, question: &Question) {
    let Block::KeyFigures { figures } = block else { return };
    let base = format!("/monitors/{}/{}", question.site, question.id);
    for figure in figures.iter_mut().filter(|figure| !figure.figure.is_empty()) {
        let name = figure.figure;
        let (from, to) = (question.from, question.to);
        figure.href = format!("{base}/explain?figure={name}&from={from}&to={to}");
    }
}

/// Adds to each chart over time which times its left and right edges are, so that the script can
/// zoom into the chart.
fn with_times(html: String, document: &Document) -> String {
    let mut html = html;
    for block in document.charts() {
        let Some(area) = &block.chart.time else { continue };
        let begin = format!("<figure id=\"{}\">", block.id);
        let (from, to) = (area.span.from, area.span.to);
        let with = format!(
            "<figure id=\"{}\" data-from=\"{from}\" data-to=\"{to}\" data-left=\"{:.1}\" \
             data-right=\"{:.1}\">",
            block.id, area.left, area.right
        );
        html = html.replacen(&begin, &with, 1);
    }
    html
}
