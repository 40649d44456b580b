//! Writes rows of figures as a table for terminals, CSV, Parquet or JSON.

use std::io::Write as _;

use mailqos_figures::{
    DeliveredPercentile, delivered_within::LIMITS, explain::percentile::limit_name,
    percentiles::CONTRACT, periods::Period, stats::Row,
};
use mailqos_lake_tables::has_mails;

use super::{Group, HELD, json::JsonRow, mail_figure, shape::Shape};
use crate::commands::{
    Failure, print,
    source::Source,
    table::{Cell, Format, Table, csv_line, long, per_cent, seconds},
};

/// Writes rows in one of the formats as they arrive.
pub(super) struct Answer<'a> {
    renderer: Renderer<'a>,
    out: Vec<u8>,
    table: Table,
    rows: usize,
}

/// Renders rows, on any thread.
#[derive(Clone)]
pub(super) struct Renderer<'a> {
    shape: &'a Shape,
    source: &'a Source,
    compared: Option<Period>,
    promises: Vec<f64>,
}

/// Returns the kind of a row's tests.
fn kind(row: &Row) -> Option<&str> {
    Some(row.whose.kind.as_deref().unwrap_or("mail-qos"))
}

/// Rendered rows: bytes or table cells.
pub(super) struct Rendered {
    bytes: Vec<u8>,
    cells: Vec<Vec<Cell>>,
    rows: usize,
}

impl<'a> Answer<'a> {
    pub(super) fn new(shape: &'a Shape, source: &'a Source) -> Self {
        Self {
            renderer: Renderer { shape, source, compared: None, promises: source.promises() },
            out: Vec::new(),
            table: Table::default(),
            rows: 0,
        }
    }

    pub(super) fn compared_with(&mut self, period: Period) {
        self.renderer.compared = Some(period);
    }

    pub(super) fn renderer(&self) -> Renderer<'a> {
        self.renderer.clone()
    }

    pub(super) fn render(&self, rows: &[Row], before: Option<&Row>, lines: &[String]) -> Rendered {
        self.renderer.render(rows, before, lines)
    }

    pub(super) fn take(&mut self, rendered: Rendered) -> Result<(), Failure> {
        if rendered.rows == 0 {
            return Ok(());
        }
        if self.rows == 0 {
            self.begin()?;
        }
        if self.renderer.source.format == Format::Json && self.rows > 0 {
            self.out.write_all(b",\n")?;
        }
        self.rows += rendered.rows;
        self.out.write_all(&rendered.bytes)?;
        for row in rendered.cells {
            self.table.push(row);
        }
        if self.out.len() > HELD {
            print(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        match self.renderer.source.format {
            Format::Json => self.out.write_all(b"[\n")?,
            Format::Csv => {
                let head = self.renderer.columns().join(",");
                writeln!(self.out, "{head}")?;
            }
            Format::Parquet => self.table = Table::new(self.renderer.columns()),
            Format::Table => self.table = Table::new(self.renderer.shown_columns()),
        }
        Ok(())
    }

    /// Writes the remaining rows; returns whether there was no row at all.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        if self.rows == 0 {
            self.begin()?;
        }
        let format = self.renderer.source.format;
        if format == Format::Json {
            self.out.write_all(if self.rows == 0 { b"]\n" } else { b"\n]\n" })?;
        }
        if matches!(format, Format::Table | Format::Parquet) {
            self.out.write_all(&self.table.bytes(format)?)?;
        }
        if format == Format::Table {
            if let Some(before) = &self.renderer.compared {
                writeln!(self.out, "\nBefore: {before}.")?;
            }
            for (path, reason) in self.renderer.source.lake.skipped() {
                writeln!(self.out, "\nSkipped: {} ({reason}).", path.display())?;
            }
            for text in self.renderer.source.lake.doubles() {
                writeln!(self.out, "\nCounted once: {text}.")?;
            }
        }
        print(&self.out)?;
        Ok(self.rows == 0)
    }
}

impl Renderer<'_> {
    pub(super) fn render(&self, rows: &[Row], before: Option<&Row>, lines: &[String]) -> Rendered {
        let mut rendered = Rendered { bytes: Vec::new(), cells: Vec::new(), rows: rows.len() };
        let skipped = self.skipped();
        let mut line = String::new();
        for (number, row) in rows.iter().enumerate() {
            match self.source.format {
                Format::Json => {
                    if number > 0 {
                        rendered.bytes.extend_from_slice(b",\n");
                    }
                    let row = JsonRow {
                        row,
                        shape: self.shape,
                        before: self.compared.as_ref().map(|period| (period, before)),
                        skipped: &skipped,
                    };
                    // Writing numbers and texts to memory can't fail.
                    let _ = serde_json::to_writer(&mut rendered.bytes, &row);
                }
                Format::Csv => {
                    line.clear();
                    csv_line(&self.cells(row, before, &skipped), &mut line);
                    rendered.bytes.extend_from_slice(line.as_bytes());
                }
                Format::Parquet => rendered.cells.push(self.cells(row, before, &skipped)),
                Format::Table => rendered.cells.push(self.shown(row, before, lines.get(number))),
            }
        }
        rendered
    }

    /// Returns the corrupt files that were skipped.
    fn skipped(&self) -> Vec<String> {
        let skipped = self.source.lake.skipped();
        skipped.into_iter().map(|(path, _)| path.display().to_string()).collect()
    }

    /// Returns the column names of all figures.
    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = vec!["site".into(), "monitor".into()];
        columns.extend(self.shape.group.name().map(str::to_owned));
        columns.extend(self.shape.kinds.then(|| "kind".to_owned()));
        columns.push("bucket".into());
        let figures = self.figure_columns();
        columns.extend(figures.iter().cloned());
        if self.compared.is_some() {
            columns.extend(figures.iter().map(|name| format!("before_{name}")));
        }
        if self.source.lake.skips() {
            columns.push("skipped_files".into());
        }
        columns
    }

    fn figure_columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = [
            "tests",
            "ok",
            "late",
            "lost",
            "smtp_failed",
            "pickup_failed",
            "not_tested",
            "availability",
        ]
        .map(str::to_owned)
        .to_vec();
        for metric in &self.shape.metrics {
            columns.extend(["count", "min", "mean", "max"].map(|name| format!("{metric}_{name}")));
            columns.extend(
                self.shape.percentiles.iter().map(|asked| format!("{metric}_{}", asked.name())),
            );
        }
        columns.extend(
            [
                "monitors",
                "excluded",
                "provisional",
                "availability_low",
                "availability_high",
                "delivery_rate",
                "coverage",
                "availability_by_time",
                "downtime_s",
                "unknown_s",
                "maintenance_s",
                "outages",
                "longest_outage_s",
                "mttr_s",
                "mtbf_s",
            ]
            .map(str::to_owned),
        );
        columns.extend(LIMITS.map(|limit| format!("delivered_within_{}", limit_name(limit))));
        columns.push("delivered_within_max_round_trip".into());
        for asked in &self.shape.percentiles {
            columns.push(format!("delivered_{}", asked.name()));
            columns.push(format!("round_trip_{}_low", asked.name()));
            columns.push(format!("round_trip_{}_high", asked.name()));
        }
        columns.extend(
            [
                "declared",
                "declared_s",
                "availability_excluding_declared",
                "availability_by_time_excluding_declared",
                "downtime_excluding_declared_s",
            ]
            .map(str::to_owned),
        );
        columns.extend(mail_figure::columns());
        columns
    }

    /// Returns the cells of the columns from [`Renderer::columns`].
    fn cells(&self, row: &Row, before: Option<&Row>, skipped: &[String]) -> Vec<Cell> {
        let mut cells =
            vec![Cell::text(row.whose.site.as_deref()), Cell::text(row.whose.monitor.as_deref())];
        if self.shape.group.name().is_some() {
            cells.push(Cell::text(row.whose.group.as_deref()));
        }
        if self.shape.kinds {
            cells.push(Cell::text(kind(row)));
        }
        cells.push(Cell::text(self.shape.bucket(row)));
        self.figure_cells(row, &mut cells);
        if self.compared.is_some() {
            let begin = cells.len();
            match before {
                Some(before) => self.figure_cells(before, &mut cells),
                None => cells.resize(begin + self.figure_columns().len(), Cell::None),
            }
        }
        if self.source.lake.skips() {
            cells.push(Cell::Count(skipped.len() as u64));
        }
        cells
    }

    fn figure_cells(&self, row: &Row, cells: &mut Vec<Cell>) {
        let (counts, time) = (&row.counts, &row.time);
        let tests = counts.tests();
        cells.extend(
            [
                tests,
                counts.ok,
                counts.late,
                counts.lost,
                counts.smtp_failed,
                counts.pickup_failed,
                counts.not_tested,
            ]
            .map(Cell::Count),
        );
        cells.push(Cell::share(counts.availability(), tests));
        for found in &row.metrics {
            let summary = found.as_ref().map(|found| &found.summary);
            cells.push(Cell::Count(summary.map_or(0, |summary| summary.count)));
            cells.push(Cell::number(summary.map(|s| s.min.as_millis_f64()), 1));
            cells.push(Cell::number(summary.map(|s| s.mean / 1000.0), 1));
            cells.push(Cell::number(summary.map(|s| s.max.as_millis_f64()), 1));
            for index in 0..self.shape.percentiles.len() {
                let value = summary.and_then(|summary| summary.percentiles.get(index));
                cells.push(Cell::number(value.map(|micros| micros / 1000.0), 1));
            }
        }
        let interval = counts.availability_interval();
        cells.extend([row.monitors, counts.excluded, counts.provisional].map(Cell::Count));
        cells.push(Cell::share(interval.map(|share| share.low), tests));
        cells.push(Cell::share(interval.map(|share| share.high), tests));
        cells.push(Cell::share(row.delivery_rate(), tests));
        cells.push(Cell::share(time.coverage(), tests));
        cells.push(Cell::share(time.availability(), tests));
        cells.extend(
            [time.downtime, time.unknown, time.excluded]
                .map(|time| Cell::number(Some(seconds(time)), 0)),
        );
        cells.push(Cell::Count(time.outages));
        cells.extend(
            [time.longest, time.mttr(), time.mtbf()].map(|time| Cell::number(time.map(seconds), 0)),
        );
        let limits = (0..LIMITS.len()).map(Some).chain([None]);
        cells.extend(limits.map(|limit| Cell::share(row.delivered_within(limit), tests)));
        let round_trip = row.metrics.first().and_then(Option::as_ref);
        for index in 0..self.shape.percentiles.len() {
            cells.push(match row.delivered.get(index) {
                Some(DeliveredPercentile::Within(micros)) => Cell::number(Some(micros / 1000.0), 1),
                // A number column can't hold a word, but the percentile is undefined if its tests
                // were not delivered.
                Some(DeliveredPercentile::NotDelivered) | None => Cell::None,
            });
            let interval =
                round_trip.and_then(|found| found.intervals.get(index).copied().flatten());
            cells.push(Cell::number(interval.map(|(low, _)| low / 1000.0), 1));
            cells.push(Cell::number(interval.map(|(_, high)| high / 1000.0), 1));
        }
        let (without, time_without) = row.excluding_declared();
        cells.push(Cell::Count(row.declared_tests()));
        cells.push(Cell::number(Some(seconds(row.declared_time())), 0));
        cells.push(Cell::share(without.availability(), without.tests()));
        cells.push(Cell::share(time_without.availability(), without.tests()));
        cells.push(Cell::number(Some(seconds(time_without.downtime)), 0));
        let mails = row.mails.as_deref().filter(|_| has_mails(row.whose.kind.as_deref()));
        cells.extend(mail_figure::cells(mails, tests));
    }

    fn shown_columns(&self) -> Vec<String> {
        let mut columns: Vec<&str> = match self.shape.group {
            Group::Monitor => vec!["site", "monitor"],
            Group::Site => vec!["site"],
            Group::Object => vec!["object"],
            Group::Tag => vec!["tag"],
            Group::All => Vec::new(),
        };
        columns.extend(self.shape.kinds.then_some("kind"));
        if self.shape.group != Group::Monitor {
            columns.push("monitors");
        }
        columns.extend(["bucket", "tests", "failed", "availability", "95_%_interval", "coverage"]);
        if self.compared.is_some() {
            columns.extend(["before", "p50_ms", "before", "p95_ms", "before", "p99_ms", "before"]);
        } else {
            columns.extend([
                "outages",
                "downtime",
                "p50_ms",
                "p95_ms",
                "p99_ms",
                "95_%_interval",
                "delivered_p99",
                "max_ms",
            ]);
        }
        let mut columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let extra = || self.shape.percentiles.iter().skip(CONTRACT.len());
        columns.extend(extra().map(|asked| format!("{}_ms", asked.name())));
        if self.compared.is_none() {
            columns.push("round_trip".to_owned());
        }
        columns
    }

    /// Returns a row for terminals: counts, availability with its interval and coverage, outages,
    /// and the round trip.
    fn shown(&self, row: &Row, before: Option<&Row>, line: Option<&String>) -> Vec<Cell> {
        let (counts, time, tests) = (&row.counts, &row.time, row.counts.tests());
        let mut cells = match self.shape.group {
            Group::Monitor => vec![
                Cell::text(row.whose.site.as_deref()),
                Cell::text(row.whose.monitor.as_deref()),
            ],
            Group::Site => vec![Cell::text(row.whose.site.as_deref())],
            Group::Object | Group::Tag => vec![Cell::text(row.whose.group.as_deref())],
            Group::All => Vec::new(),
        };
        if self.shape.kinds {
            cells.push(Cell::text(kind(row)));
        }
        if self.shape.group != Group::Monitor {
            cells.push(Cell::Count(row.monitors));
        }
        cells.push(Cell::text(self.shape.bucket(row)));
        cells.push(Cell::Count(tests));
        cells.push(Cell::Count(counts.failed()));
        cells.push(Cell::share_beside(counts.availability(), tests, &self.promises));
        cells.push(Cell::text(counts.availability_interval().map(|share| {
            format!("{} to {}", per_cent(share.low, tests), per_cent(share.high, tests))
        })));
        cells.push(Cell::share(time.coverage(), tests));
        let percentile = |row: Option<&Row>, index: usize| {
            let found = row.and_then(|row| row.metrics.first()).and_then(Option::as_ref);
            let value = found.and_then(|found| found.summary.percentiles.get(index).copied());
            Cell::number(value.map(|micros| micros / 1000.0), 0)
        };
        let (p50, p95, p99) = (0, 2, 3);
        if self.compared.is_some() {
            let counts = before.map(|before| &before.counts);
            cells.push(Cell::share(
                counts.and_then(|counts| counts.availability()),
                counts.map_or(0, |counts| counts.tests()),
            ));
            for index in [p50, p95, p99] {
                cells.push(percentile(Some(row), index));
                cells.push(percentile(before, index));
            }
        } else {
            let round_trip = row.metrics.first().and_then(Option::as_ref);
            cells.push(Cell::Count(time.outages));
            cells.push(Cell::Text(long(time.downtime)));
            cells.extend([p50, p95, p99].map(|index| percentile(Some(row), index)));
            let interval = round_trip.and_then(|found| found.intervals.get(p99).copied().flatten());
            cells.push(Cell::text(
                interval.map(|(low, high)| format!("{:.0} to {:.0}", low / 1000.0, high / 1000.0)),
            ));
            cells.push(match row.delivered.get(p99) {
                None => Cell::None,
                Some(DeliveredPercentile::NotDelivered) => Cell::Text("not delivered".into()),
                Some(DeliveredPercentile::Within(micros)) => {
                    Cell::Text(format!("{:.0}", micros / 1000.0))
                }
            });
            cells.push(Cell::number(round_trip.map(|found| found.summary.max.as_millis_f64()), 0));
        }
        cells.extend(
            (CONTRACT.len()..self.shape.percentiles.len())
                .map(|index| percentile(Some(row), index)),
        );
        if self.compared.is_none() {
            cells.push(Cell::text(line.cloned()));
        }
        cells
    }
}
