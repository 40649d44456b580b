//! Exports samples as CSV or as a separate lake.

use std::{collections::BTreeSet, io::Write, path::Path};

use mailqos_lake::{Cell, Column, DayWriter, Hold, Record as _, io_error};
use mailqos_model::{Hop, Sample, SiteName, UtcMicros};

use super::{Day, LakeAdminError, list};

/// Which samples are exported.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Sites; all if empty.
    pub sites: Vec<SiteName>,
    /// Monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// Start of the period, inclusive.
    pub from: UtcMicros,
    /// End of the period, exclusive.
    pub to: UtcMicros,
}

impl Choice {
    fn days(&self, data: &Path) -> Result<Vec<Day>, LakeAdminError> {
        let mut days = list::<Sample>(data, &self.sites)?.days;
        let (first, last) = (self.from.utc_date(), self.to.utc_date());
        days.retain(|day| (first..=last).contains(&day.date));
        Ok(days)
    }

    fn has(&self, sample: &Sample) -> bool {
        (self.from..self.to).contains(&sample.started_at)
            && (self.monitors.is_empty() || self.monitors.contains(sample.monitor.as_str()))
    }
}

/// Writes the samples as CSV with a header: the site, then all columns. Nulls are empty, times are
/// RFC 3339, hops are JSON.
///
/// # Errors
/// A day file can't be read, or the output can't be written.
pub fn csv(data: &Path, choice: &Choice, out: impl Write) -> Result<u64, LakeAdminError> {
    let name = Path::new("the CSV file");
    let error = |error: csv::Error| io_error(name)(error.into());
    let mut writer = csv::Writer::from_writer(out);
    let columns = Sample::columns();
    let head = std::iter::once("site").chain(columns.iter().map(|column| column.name));
    writer.write_record(head).map_err(error)?;
    let mut count = 0;
    for day in choice.days(data)? {
        for sample in day.rows::<Sample>()? {
            let sample = sample?;
            if choice.has(&sample) {
                let cells = columns.iter().map(|column| shown(column, (column.get)(&sample)));
                let record = std::iter::once(day.site.to_string()).chain(cells);
                writer.write_record(record).map_err(error)?;
                count += 1;
            }
        }
    }
    writer.flush().map_err(io_error(name))?;
    Ok(count)
}

fn shown(column: &Column<Sample>, cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Int(value) if column.holds == Hold::Timestamp => UtcMicros(value).to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Text(text) => text,
        Cell::Bool(flag) => flag.to_string(),
        Cell::Real(value) => value.to_string(),
        Cell::Hops(hops) => {
            let hops: Vec<_> = hops.iter().map(hop).collect();
            serde_json::Value::Array(hops).to_string()
        }
    }
}

fn hop(hop: &Hop) -> serde_json::Value {
    serde_json::json!({
        "by": hop.by,
        "from": hop.from,
        "at": hop.at.map(|at| at.to_string()),
        "delay_us": hop.delay.map(|delay| delay.0),
        "clock_suspect": hop.clock_suspect,
    })
}

/// Writes the samples into a folder as a lake that any Parquet reader can open.
///
/// # Errors
/// A day file can't be read or written.
pub fn lake(data: &Path, choice: &Choice, folder: &Path) -> Result<u64, LakeAdminError> {
    let mut count = 0;
    for day in choice.days(data)? {
        let mut writer: Option<DayWriter<Sample>> = None;
        for sample in day.rows::<Sample>()? {
            let sample = sample?;
            if choice.has(&sample) {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(DayWriter::create(folder, &day.site, day.date)?),
                };
                writer.push(sample)?;
                count += 1;
            }
        }
        if let Some(writer) = writer {
            writer.publish(None)?;
        }
    }
    Ok(count)
}
