//! PRTG Network Monitor: historic data as CSV (sensor, "Historic Data", or `historicdata.csv`).
//!
//! The time, which comes first, and each channel have two columns, `Name` and `Name(RAW)`. Names
//! are in the language of the installation, so columns are recognised by position: the time first,
//! downtime and coverage last. RAW times are OLE Automation dates in UTC (days since 30 December
//! 1899); RAW values of time channels are milliseconds. Sums and averages follow the rows.

use super::{ExportSelection, Measurement, micros};
use crate::foreign::{Mark, Table};

/// OLE Automation dates count from 30 December 1899.
const UNIX_EPOCH_DAYS: f64 = 25_569.0;
/// Names of the whole round trip in the channels of PRTG's mail sensors.
const TOTAL: [&str; 6] = ["roundtrip", "round trip", "round-trip", "total", "gesamt", "summe"];

/// A channel: its name, and the indices of the formatted and raw values.
struct Channel<'a> {
    name: &'a str,
    shown: usize,
    raw: usize,
}

pub(super) fn read(
    table: &Table,
    wish: ExportSelection<'_>,
) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let channels = channels(&table.head);
    let Some((time, channels)) = channels.split_first() else {
        return Err(
            "not an export from PRTG: no column has a (RAW) counterpart; export historic data as CSV".to_owned(),
        );
    };
    let field =
        |row: usize, column: usize| table.rows[row].fields.get(column).map_or("", String::as_str);
    let percent = |channel: &&Channel<'_>| {
        let mut shown = (0..table.rows.len())
            .map(|row| field(row, channel.shown))
            .filter(|shown| !shown.is_empty());
        shown.next().is_some_and(|first| first.ends_with('%'))
            && shown.all(|shown| shown.ends_with('%'))
    };
    let rates: Vec<&Channel<'_>> = channels.iter().rev().take(2).filter(percent).collect();
    let (coverage, downtime) = match rates.as_slice() {
        [coverage, downtime] => (Some(*coverage), Some(*downtime)),
        // Without coverage, the last column is the downtime.
        [downtime] => (None, Some(*downtime)),
        _ => (None, None),
    };
    let values: Vec<&Channel<'_>> = channels
        .iter()
        .filter(|channel| !rates.iter().any(|rate| rate.raw == channel.raw))
        .collect();
    let value = chosen(&values, wish)?;
    let mark = Mark::of((0..table.rows.len()).map(|row| field(row, time.raw)), Mark::Point)
        .unwrap_or(Mark::Point);
    let mut found = Vec::new();
    let (mut summaries, mut averages, mut partly) = (0, 0, 0);
    for row in 0..table.rows.len() {
        // Sums and averages have no raw time.
        let Some(at) = mark.parse(field(row, time.raw)).and_then(moment) else {
            summaries += 1;
            continue;
        };
        averages += usize::from(field(row, time.shown).contains(" - "));
        let raw = |channel: Option<&Channel<'_>>| {
            channel.and_then(|channel| mark.parse(field(row, channel.raw)))
        };
        let down = raw(downtime).unwrap_or(0.0) > 0.0;
        let round_trip_us = raw(Some(value)).and_then(|ms| micros(ms / 1e3));
        partly += usize::from(down && round_trip_us.is_some());
        let untested = raw(coverage) == Some(0.0);
        let outcome = match round_trip_us {
            Some(_) => Some("ok"),
            None if down && !untested => Some("lost"),
            None => None,
        };
        found.push(Measurement {
            line: table.rows[row].line,
            at,
            outcome,
            error: (outcome == Some("lost")).then(|| "down in PRTG".to_owned()),
            round_trip_us,
            ..Measurement::default()
        });
    }
    let mut notes = vec![format!("round trip from the channel {:?}", value.name)];
    if summaries > 0 {
        notes.push(format!("{summaries} rows of sums and averages skipped"));
    }
    if averages > 0 {
        notes.push(format!(
            "{averages} rows are averages over an interval, so percentiles are percentiles of averages; export \
             without averaging to get the raw values"
        ));
    }
    if partly > 0 {
        notes.push(format!(
            "{partly} rows have both a value and downtime within their interval; they count as ok, because \
             single tests can't be distinguished"
        ));
    }
    Ok((found, notes))
}

/// Returns the columns that are accompanied by a raw one.
fn channels(head: &[String]) -> Vec<Channel<'_>> {
    let raw = |name: &str| {
        let suffixed = |other: &String| {
            let lower = other.to_lowercase();
            lower.strip_suffix("(raw)").is_some_and(|rest| rest.trim() == name.to_lowercase())
        };
        head.iter().position(suffixed)
    };
    head.iter()
        .enumerate()
        .filter_map(|(shown, name)| Some(Channel { name, shown, raw: raw(name)? }))
        .collect()
}

fn chosen<'a, 'b>(
    channels: &[&'a Channel<'b>],
    wish: ExportSelection<'_>,
) -> Result<&'a Channel<'b>, String> {
    let names = || channels.iter().map(|channel| channel.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = wish.round_trip {
        return channels
            .iter()
            .find(|channel| channel.name == name)
            .copied()
            .ok_or_else(|| format!("no channel {name:?}; available: {}", names()));
    }
    let total = |channel: &&&Channel<'_>| {
        TOTAL.iter().any(|word| channel.name.to_lowercase().contains(word))
    };
    let totals: Vec<_> = channels.iter().filter(total).collect();
    match (totals.as_slice(), channels) {
        ([one], _) => Ok(one),
        (_, [one]) => Ok(one),
        _ => Err(format!(
            "set the channel of the round trip, such as --column round_trip_us=NAME; available: {}",
            names()
        )),
    }
}

/// Parses whole milliseconds: PRTG writes ten digits, and the last one of a day's fraction is
/// noisy.
fn moment(days: f64) -> Option<i64> {
    let ms = ((days - UNIX_EPOCH_DAYS) * 86_400_000.0).round();
    (ms > 0.0 && ms < 4e12).then_some(ms as i64 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::Row;

    fn table(head: &str, rows: &[&str]) -> Table {
        let split = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
        Table {
            head: split(head),
            rows: rows
                .iter()
                .enumerate()
                .map(|(line, row)| Row { line: line as u64 + 2, fields: split(row) })
                .collect(),
            ..Table::default()
        }
    }

    #[test]
    fn rows_sums_and_downtime_of_any_language_are_understood() {
        for head in [
            "Date Time|Date Time(RAW)|Total|Total(RAW)|SMTP|SMTP(RAW)|Downtime|Downtime(RAW)|Coverage|Coverage(RAW)",
            "Datum Uhrzeit|Datum Uhrzeit(RAW)|Gesamtzeit|Gesamtzeit(RAW)|SMTP|SMTP(RAW)|Ausfallzeit|Ausfallzeit(RAW)|Abdeckung|Abdeckung(RAW)",
        ] {
            let table = table(
                head,
                &[
                    // 2026-03-01T12:00:00Z is day 46082.5.
                    "01.03.2026 13:00:00|46082.5000000000|1.234 msec|1234.0000|200 msec|200.0000|0 %|0.0000|100 %|10000.0000",
                    "01.03.2026 13:05:00|46082.5034722222|||||100 %|100.0000|100 %|10000.0000",
                    "01.03.2026 13:10:00|46082.5069444444|||||0 %|0.0000|0 %|0.0000",
                    "01.03.2026 13:15:00 - 13:20:00|46082.5104166667|90 msec|90.0000|20 msec|20.0000|50 %|50.0000|100 %|10000.0000",
                    "Summen (von 4 Werten)||1.324 msec|1324.0000||||||",
                    "Durchschnitt (von 4 Werten)||662 msec|662.0000||||||",
                ],
            );
            let (found, notes) = read(&table, ExportSelection::default()).expect("measurements");
            let brief: Vec<_> =
                found.iter().map(|one| (one.at, one.outcome, one.round_trip_us)).collect();
            assert_eq!(
                brief,
                [
                    (1_772_366_400_000_000, Some("ok"), Some(1_234_000)),
                    (1_772_366_700_000_000, Some("lost"), None),
                    (1_772_367_000_000_000, None, None),
                    (1_772_367_300_000_000, Some("ok"), Some(90_000)),
                ]
            );
            let notes = notes.join("\n");
            for part in ["2 rows of sums", "1 rows are averages", "1 rows have both"] {
                assert!(notes.contains(part), "{notes}");
            }
        }
    }

    #[test]
    fn a_channel_is_asked_for_if_several_are_likely() {
        let table =
            table("Time|Time(RAW)|SMTP|SMTP(RAW)|IMAP|IMAP(RAW)", &["x|46082.5|1 msec|1|2 msec|2"]);
        let error = read(&table, ExportSelection::default()).expect_err("two channels");
        assert!(error.contains("SMTP, IMAP"), "{error}");
        let wish = ExportSelection { round_trip: Some("IMAP"), ..ExportSelection::default() };
        assert_eq!(read(&table, wish).expect("one").0[0].round_trip_us, Some(2_000));
        assert!(read(&super::tests::table("a|b", &[]), ExportSelection::default()).is_err());
    }
}
