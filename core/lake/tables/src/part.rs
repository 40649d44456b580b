//! The samples of one day file that a query needs, as compact columns.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use mailqos_lake::LakeError;
use mailqos_model::{Exclusion, Micros, Outcome, Stage};
use polars::prelude::{DataFrame, DataType, PolarsError};

use super::{
    decoded::{Decoded, Text, booleans, decode},
    durations::Durations,
    footer::{Footer, SPARSE, Wanted},
    metric::{Column, Metric},
    object::{LakeFile, corrupt},
    query::SeriesQuery,
    receipt::Receipt,
    receipt_columns,
    series::{HopDelay, Series, SeriesKey},
};

/// The rows of one monitor: consecutive, or listed if the file is not sorted.
enum Rows {
    Range(Range<usize>),
    Picked(Vec<u32>),
}

/// Returns the rows of each requested monitor; `None` if a sample has no monitor.
fn monitors_of(column: &Text, wanted: &Wanted) -> Option<Vec<(SeriesKey, Rows)>> {
    let mut runs: Vec<(Arc<str>, Range<usize>)> = Vec::new();
    let mut last: Option<(String, bool)> = None;
    let complete = column.stretches(|monitor, rows| {
        if let Some((name, is)) = &last
            && name == monitor
        {
            if *is && let Some((_, run)) = runs.last_mut() {
                run.end = rows.end;
            }
            return;
        }
        let is = wanted.is(monitor);
        if is {
            runs.push((Arc::from(monitor), rows));
        }
        last = Some((monitor.to_owned(), is));
    });
    if !complete {
        return None;
    }
    // A monitor has several runs only if the file is not sorted.
    runs.sort_by(|(a, rows), (b, others)| (a, rows.start).cmp(&(b, others.start)));
    let mut found: Vec<(SeriesKey, Rows)> = Vec::with_capacity(runs.len());
    for (monitor, run) in runs {
        match found.last_mut() {
            Some((last, rows)) if last.monitor == monitor => {
                let mut picked = match std::mem::replace(rows, Rows::Picked(Vec::new())) {
                    Rows::Range(rows) => rows.map(|row| row as u32).collect(),
                    Rows::Picked(rows) => rows,
                };
                picked.extend(run.map(|row| row as u32));
                *rows = Rows::Picked(picked);
            }
            _ => found.push((SeriesKey { monitor, kind: None }, Rows::Range(run))),
        }
    }
    Some(found)
}

/// Divides the rows of each monitor by the kind of its tests; usually there is only one.
fn by_kind(monitors: Vec<(SeriesKey, Rows)>, kinds: &[Option<Arc<str>>]) -> Vec<(SeriesKey, Rows)> {
    // Null and the explicit name are the same kind.
    let kind = |row: usize| kinds.get(row).cloned().flatten().filter(|kind| **kind != *"mail-qos");
    let mut divided = Vec::with_capacity(monitors.len());
    for (SeriesKey { monitor, .. }, rows) in monitors {
        let mut all: Vec<u32> = match &rows {
            Rows::Range(rows) => rows.clone().map(|row| row as u32).collect(),
            Rows::Picked(rows) => rows.clone(),
        };
        let first = all.first().and_then(|row| kind(*row as usize));
        if all.iter().all(|row| kind(*row as usize) == first) {
            divided.push((SeriesKey { monitor, kind: first }, rows));
            continue;
        }
        let mut of_kind: BTreeMap<Option<Arc<str>>, Vec<u32>> = BTreeMap::new();
        for row in all.drain(..) {
            of_kind.entry(kind(row as usize)).or_default().push(row);
        }
        divided.extend(of_kind.into_iter().map(|(kind, rows)| {
            let monitor = Arc::clone(&monitor);
            (SeriesKey { monitor, kind }, Rows::Picked(rows))
        }));
    }
    divided
}

/// Returns which of the wanted monitors have rows in a file.
///
/// # Errors
/// The file can't be read or is not a sample file.
pub(crate) fn monitors(file: &LakeFile, wanted: &Wanted) -> Result<Vec<Arc<str>>, LakeError> {
    let Some(mut decoded) = decode(file, None, &["monitor"], wanted)? else {
        return Ok(Vec::new());
    };
    let column = decoded
        .text("monitor")
        .map_err(|error| corrupt(file, error))?
        .ok_or_else(|| corrupt(file, "it has no column \"monitor\""))?;
    let found =
        monitors_of(&column, wanted).ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
    Ok(found.into_iter().map(|(key, _)| key.monitor).collect())
}

/// The hops of a mail, if known.
type HopPath = Option<Arc<[HopDelay]>>;

/// Returns the hops of each mail; `None` if the file has none, or none in a form that this version
/// knows.
fn hops(frame: &DataFrame) -> Option<Vec<HopPath>> {
    let column = frame.column("hops").ok()?;
    let list = column.list().ok()?;
    let inner = list.get_inner();
    let stations = inner.struct_().ok()?;
    let by = stations.field_by_name("by").ok()?.cast(&DataType::String).ok()?;
    let delay = stations.field_by_name("delay_us").ok()?.cast(&DataType::Int64).ok()?;
    let suspect = stations.field_by_name("clock_suspect").ok()?.cast(&DataType::Boolean).ok()?;
    // A file names few servers many times.
    let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    let mut all: Vec<HopDelay> = Vec::with_capacity(stations.len());
    for ((by, delay), suspect) in
        by.str().ok()?.iter().zip(delay.i64().ok()?.iter()).zip(suspect.bool().ok()?.iter())
    {
        all.push(HopDelay {
            by: by.map(|by| Arc::clone(names.entry(by).or_insert_with(|| Arc::from(by)))),
            delay: delay.map(Micros),
            clock_suspect: suspect == Some(true),
        });
    }
    let mut ways = Vec::with_capacity(list.len());
    let mut before = 0;
    for chunk in list.downcast_iter() {
        for (row, edges) in chunk.offsets().as_slice().windows(2).enumerate() {
            let place = |edge: i64| usize::try_from(edge).ok().map(|edge| before + edge);
            let stations =
                place(edges[0]).zip(place(edges[1])).and_then(|(from, to)| all.get(from..to));
            let known = chunk.validity().is_none_or(|valid| valid.get_bit(row));
            ways.push(stations.filter(|_| known).map(Arc::from));
        }
        before += chunk.values().len();
    }
    Some(ways)
}

/// A column in which most rows may be empty, such as errors: it then takes little memory.
enum Filled<T> {
    All(Vec<T>),
    /// The rows that have a value, ascending.
    Few(Vec<(u32, T)>),
}

impl<T: Clone + Default + PartialEq> Filled<T> {
    fn of(column: Vec<T>) -> Self {
        let nothing = T::default();
        let filled = column.iter().filter(|value| **value != nothing).count();
        if filled as f64 > column.len() as f64 * SPARSE {
            return Self::All(column);
        }
        let rows = (0_u32..).zip(column);
        Self::Few(rows.filter(|(_, value)| *value != nothing).collect())
    }
}

/// The decoded rows of a file that a batch needs.
#[derive(Default)]
pub(crate) struct Part {
    /// The file that it was read from.
    pub(crate) path: PathBuf,
    monitors: Vec<(SeriesKey, Rows)>,
    /// Index in `monitors` of each monitor of the batch.
    places: Vec<Option<u32>>,
    started_at: Vec<i64>,
    outcome: Vec<Outcome>,
    excluded: Option<Vec<Option<Exclusion>>>,
    provisional: Option<Vec<bool>>,
    stage: Option<Filled<Option<Stage>>>,
    error: Option<Filled<Option<Arc<str>>>>,
    smtp_reply_code: Option<Filled<Option<i32>>>,
    test_interval: Option<Durations>,
    max_round_trip: Option<Durations>,
    unverified: Option<Vec<bool>>,
    hops: Option<Vec<HopPath>>,
    receipts: Option<Vec<Receipt>>,
    metrics: Vec<(Metric, Option<Durations>)>,
}

impl Part {
    /// Reads what a query needs from a file; `known` is its footer, if it has been read.
    ///
    /// # Errors
    /// The file can't be read or is not a sample file.
    pub(crate) fn read(
        file: &LakeFile,
        known: Option<&Footer>,
        query: &SeriesQuery,
        wanted: &Wanted,
    ) -> Result<Self, LakeError> {
        let mut columns = vec!["monitor", "started_at", "outcome", "excluded", "settled", "kind"];
        columns.extend(query.columns.iter().map(|column| column.as_str()));
        let metrics: Vec<(Metric, String)> =
            query.metrics.iter().map(|m| (*m, m.column())).collect();
        columns.extend(metrics.iter().map(|(_, column)| column.as_str()));
        if query.receipts {
            let further: Vec<&str> = receipt_columns::COLUMNS
                .into_iter()
                .filter(|name| !columns.contains(name))
                .collect();
            columns.extend(further);
        }
        let mut part = match decode(file, known, &columns, wanted)? {
            Some(decoded) => Self::of(file, decoded, (&metrics, query.receipts), wanted)?,
            None => Self::default(),
        };
        part.path.clone_from(&file.path);
        Ok(part)
    }

    fn of(
        file: &LakeFile,
        mut decoded: Decoded,
        (metrics, with_receipts): (&[(Metric, String)], bool),
        wanted: &Wanted,
    ) -> Result<Self, LakeError> {
        let wrong = |error: PolarsError| corrupt(file, error);
        let missing = |name: &str| corrupt(file, format!("it has no column {name:?}"));
        let monitors = decoded.text("monitor").map_err(wrong)?.ok_or_else(|| missing("monitor"))?;
        let started_at = decoded
            .moments("started_at")
            .map_err(|error| {
                error.map_or_else(|| corrupt(file, "a sample has no started_at"), wrong)
            })?
            .ok_or_else(|| missing("started_at"))?;
        let outcomes = decoded.text("outcome").map_err(wrong)?.ok_or_else(|| missing("outcome"))?;
        let mut outcome: Vec<Outcome> = Vec::with_capacity(started_at.len());
        let mut unknown = None;
        let complete = outcomes.stretches(|word, rows| match word.parse::<Outcome>() {
            Ok(value) => outcome.resize(rows.end, value),
            Err(error) => {
                unknown.get_or_insert(error.to_string());
            }
        });
        if let Some(error) = unknown {
            return Err(corrupt(file, error));
        }
        if !complete {
            return Err(corrupt(file, "a sample has no outcome"));
        }
        let excluded = decoded
            .text("excluded")
            .map_err(wrong)?
            .filter(|column| !column.all_null())
            // A reason added by a later version is still a reason.
            .map(|column| {
                column.each(|word| word.map(|word| word.parse().unwrap_or(Exclusion::Maintenance)))
            });
        let stage = decoded
            .text("stage")
            .map_err(wrong)?
            .map(|column| column.each(|word| word.and_then(|word| word.parse().ok())));
        let error = decoded
            .text("error")
            .map_err(wrong)?
            .filter(|column| !column.all_null())
            .map(|column| column.each(|line| line.map(Arc::<str>::from)));
        let receipts = with_receipts
            .then(|| {
                receipt_columns::receipts(
                    &mut decoded,
                    &outcome,
                    (stage.as_deref(), error.as_deref()),
                )
            })
            .transpose()
            .map_err(wrong)?;
        let mut columns = Vec::with_capacity(metrics.len());
        for (metric, name) in metrics {
            columns.push((*metric, decoded.durations(name).map_err(wrong)?));
        }
        let smtp_reply_code = decoded.codes("smtp_reply_code").map_err(wrong)?;
        let test_interval = decoded.durations("test_interval_us").map_err(wrong)?;
        let max_round_trip = decoded.durations("max_round_trip_us").map_err(wrong)?;
        let kinds = decoded.text("kind").map_err(wrong)?.filter(|column| !column.all_null());
        let frame = &decoded.frame;
        let provisional = booleans(frame, "settled")
            .map_err(wrong)?
            .map(|column| column.iter().map(|settled| settled == Some(false)).collect());
        let unverified = booleans(frame, "tls_unverified")
            .map_err(wrong)?
            .map(|column| column.iter().map(|unverified| unverified == Some(true)).collect());
        let mut monitors = monitors_of(&monitors, wanted)
            .ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
        if let Some(kinds) = kinds {
            monitors = by_kind(monitors, &kinds.each(|kind| kind.map(Arc::from)));
        }
        Ok(Self {
            path: PathBuf::new(),
            monitors,
            places: Vec::new(),
            outcome,
            excluded,
            provisional,
            stage: stage.map(Filled::of),
            error: error.map(Filled::of),
            smtp_reply_code: smtp_reply_code.map(Filled::of),
            test_interval,
            max_round_trip,
            unverified,
            hops: hops(frame),
            receipts,
            metrics: columns,
            started_at,
        })
    }

    /// Returns the monitors whose rows it contains.
    pub(crate) fn monitors(&self) -> impl Iterator<Item = &SeriesKey> {
        self.monitors.iter().map(|(monitor, _)| monitor)
    }

    /// Looks up the monitors of a batch, in order, so that names are compared once and not in each
    /// query.
    pub(crate) fn place(&mut self, batch: &[SeriesKey]) {
        let mut own = self.monitors.iter().zip(0_u32..).peekable();
        let places = batch.iter().map(|monitor| {
            while own.next_if(|((name, _), _)| name < monitor).is_some() {}
            own.next_if(|((name, _), _)| name == monitor).map(|(_, place)| place)
        });
        self.places = places.collect();
    }

    /// Returns the rows of a monitor, by its number in the batch.
    fn rows(&self, monitor: usize) -> Option<&Rows> {
        let place = (*self.places.get(monitor)?)?;
        self.monitors.get(place as usize).map(|(_, rows)| rows)
    }

    /// Returns the number of rows of a monitor.
    pub(crate) fn count(&self, monitor: usize) -> usize {
        match self.rows(monitor) {
            None => 0,
            Some(Rows::Range(rows)) => rows.len(),
            Some(Rows::Picked(rows)) => rows.len(),
        }
    }

    /// Returns the longest test interval of a monitor, if it may be longer than 71 minutes.
    pub(crate) fn longest_interval(&self, monitor: usize) -> Option<Micros> {
        let intervals = self.test_interval.as_ref().filter(|column| column.may_be_long())?;
        match self.rows(monitor)? {
            Rows::Range(rows) => rows.clone().filter_map(|row| intervals.get(row)).max(),
            Rows::Picked(rows) => rows.iter().filter_map(|row| intervals.get(*row as usize)).max(),
        }
    }

    /// Drops the rows of monitors that were not requested: those of many files together would take
    /// much memory.
    pub(crate) fn of_wanted(mut self, query: &SeriesQuery) -> Self {
        fn known<T>(column: Vec<T>) -> Option<Vec<T>> {
            (!column.is_empty()).then_some(column)
        }
        fn measured(column: &mut Durations) -> Option<Durations> {
            (!column.is_empty()).then(|| std::mem::take(column))
        }
        let names: Vec<SeriesKey> = self.monitors().cloned().collect();
        self.place(&names);
        let mut series = Series::default();
        // Don't overallocate: there are many files.
        let rows = (0..names.len()).map(|number| self.count(number)).sum();
        series.reserve(rows, &query.metrics, &query.columns);
        let mut monitors = Vec::with_capacity(names.len());
        for (number, name) in names.into_iter().enumerate() {
            let first = series.len();
            self.add_to(&mut series, query, number);
            monitors.push((name, Rows::Range(first..series.len())));
        }
        Self {
            path: self.path,
            monitors,
            places: Vec::new(),
            test_interval: measured(&mut series.test_interval),
            max_round_trip: measured(&mut series.max_round_trip),
            metrics: query
                .metrics
                .iter()
                .map(|metric| (*metric, measured(&mut series.metrics[*metric as usize])))
                .collect(),
            started_at: series.started_at,
            outcome: series.outcome,
            excluded: known(series.excluded),
            provisional: known(series.provisional),
            stage: known(series.stage).map(Filled::of),
            error: known(series.error).map(Filled::of),
            smtp_reply_code: known(series.smtp_reply_code).map(Filled::of),
            unverified: known(series.unverified),
            hops: known(series.hops),
            receipts: known(series.receipts),
        }
    }

    /// Adds a monitor's rows to its series.
    pub(crate) fn add_to(&self, series: &mut Series, query: &SeriesQuery, monitor: usize) {
        match self.rows(monitor) {
            None => {}
            Some(Rows::Range(rows)) => self.add(series, query, &Chosen::Range(rows.clone())),
            Some(Rows::Picked(rows)) => self.add(series, query, &Chosen::Picked(rows)),
        }
    }

    fn add(&self, series: &mut Series, query: &SeriesQuery, rows: &Chosen<'_>) {
        let before = series.len();
        rows.copy(&self.started_at, &mut series.started_at);
        rows.copy(&self.outcome, &mut series.outcome);
        rows.add(self.excluded.as_deref(), before, &mut series.excluded);
        rows.add(self.provisional.as_deref(), before, &mut series.provisional);
        for column in &query.columns {
            match column {
                Column::Stage => rows.add_filled(self.stage.as_ref(), before, &mut series.stage),
                Column::Error => rows.add_filled(self.error.as_ref(), before, &mut series.error),
                Column::SmtpReplyCode => {
                    rows.add_filled(
                        self.smtp_reply_code.as_ref(),
                        before,
                        &mut series.smtp_reply_code,
                    );
                }
                Column::TestInterval => {
                    rows.durations(self.test_interval.as_ref(), before, &mut series.test_interval)
                }
                Column::MaxRoundTrip => {
                    rows.durations(
                        self.max_round_trip.as_ref(),
                        before,
                        &mut series.max_round_trip,
                    );
                }
                Column::Unverified => {
                    rows.add(self.unverified.as_deref(), before, &mut series.unverified)
                }
                Column::Hops => rows.add(self.hops.as_deref(), before, &mut series.hops),
            }
        }
        rows.add(self.receipts.as_deref(), before, &mut series.receipts);
        for (metric, column) in &self.metrics {
            rows.durations(column.as_ref(), before, &mut series.metrics[*metric as usize]);
        }
    }
}

/// The rows to add to a series.
enum Chosen<'a> {
    Range(Range<usize>),
    Picked(&'a [u32]),
}

impl Chosen<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Range(rows) => rows.len(),
            Self::Picked(rows) => rows.len(),
        }
    }

    fn copy<T: Clone>(&self, from: &[T], to: &mut Vec<T>) {
        match self {
            Self::Range(rows) => to.extend_from_slice(&from[rows.clone()]),
            Self::Picked(rows) => to.extend(rows.iter().map(|row| from[*row as usize].clone())),
        }
    }

    /// Appends rows of a column after the `before` existing rows. A column stays empty as long as
    /// no file has a value; it reads the same.
    fn add<T: Clone + Default>(&self, from: Option<&[T]>, before: usize, to: &mut Vec<T>) {
        match from {
            Some(from) => {
                to.resize(before, T::default());
                self.copy(from, to);
            }
            None if to.is_empty() => {}
            None => to.resize(before + self.len(), T::default()),
        }
    }

    /// Like [`Chosen::add`], for a column in which most rows may be empty.
    fn add_filled<T: Clone + Default>(
        &self,
        from: Option<&Filled<T>>,
        before: usize,
        to: &mut Vec<T>,
    ) {
        let few = match from {
            Some(Filled::All(all)) => return self.add(Some(all), before, to),
            Some(Filled::Few(few)) => few.as_slice(),
            None => return self.add(None, before, to),
        };
        to.resize(before + self.len(), T::default());
        match self {
            Self::Range(rows) => {
                let first = few.partition_point(|(row, _)| (*row as usize) < rows.start);
                let inside = few[first..].iter().take_while(|(row, _)| (*row as usize) < rows.end);
                for (row, value) in inside {
                    to[before + *row as usize - rows.start] = value.clone();
                }
            }
            Self::Picked(rows) => {
                for (place, row) in (before..).zip(*rows) {
                    if let Ok(found) = few.binary_search_by_key(row, |(row, _)| *row) {
                        to[place] = few[found].1.clone();
                    }
                }
            }
        }
    }

    fn durations(&self, from: Option<&Durations>, before: usize, to: &mut Durations) {
        if from.is_some() {
            to.push_nulls(before - to.len());
        }
        match (from, self) {
            (None, _) if to.is_empty() => {}
            (None, _) => to.push_nulls(self.len()),
            (Some(from), Self::Range(rows)) => to.append_rows(from, rows.clone()),
            (Some(from), Self::Picked(rows)) => {
                rows.iter().for_each(|row| to.push(from.get(*row as usize)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use parquet::{
        data_type::{ByteArray, ByteArrayType, Int32Type},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;

    #[test]
    fn a_date_is_not_a_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("samples.parquet");
        let schema =
            "message rows { required binary monitor (UTF8); required int32 started_at (DATE);
            required binary outcome (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let file = File::create(&path).expect("a file");
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::new()))
            .expect("one");
        let mut group = writer.next_row_group().expect("a row group");
        for word in ["m", "", "ok"] {
            let mut column = group.next_column().expect("a column").expect("a column");
            let written = if word.is_empty() {
                column.typed::<Int32Type>().write_batch(&[20_000], None, None)
            } else {
                let word = [ByteArray::from(word)];
                column.typed::<ByteArrayType>().write_batch(&word, None, None)
            };
            written.expect("a value");
            column.close().expect("a column");
        }
        group.close().expect("a row group");
        writer.close().expect("a file");
        let file = LakeFile {
            site: "here".into(),
            date: jiff::civil::date(2024, 10, 4),
            path,
            object: None,
        };
        let day = mailqos_model::UtcMicros(0)..mailqos_model::UtcMicros(1);
        let read = Part::read(&file, None, &SeriesQuery::new(day), &Wanted::default());
        assert!(matches!(read, Err(LakeError::Corrupt { .. })));
    }
}
