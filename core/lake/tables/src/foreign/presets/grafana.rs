//! Tables of a time and values with units, as Grafana ("Inspect", "Download CSV") and Checkmk (a
//! graph "as CSV") write them.
//!
//! The first column is the time: as displayed, without an offset, or milliseconds since 1970. Each
//! other column is a series; values are followed by a unit (`12.3 ms`, `1.20 s`) or are seconds.
//! Before version 7 Grafana wrote `Series;Time;Value`.

use super::{ExportSelection, Measurement, id, micros};
use crate::foreign::{Mark, Table, is_missing, with_unit};

/// Names of the time column.
const TIMES: [&str; 8] =
    ["time", "timestamp", "zeit", "tid", "datum", "date", "datetime", "date time"];
/// Likely names of a round trip.
const LIKELY: [&str; 6] = ["round trip", "round_trip", "roundtrip", "rtt", "duration", "delay"];

pub(super) fn read(
    table: &Table,
    wish: ExportSelection<'_>,
    tool: &str,
) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let named = |name: &str, wanted: &[&str]| {
        wanted.contains(&name.trim_matches('"').to_lowercase().as_str())
    };
    let place = |wanted: &[&str]| table.head.iter().position(|name| named(name, wanted));
    if let Some(reason) = sums(table) {
        return Err(reason);
    }
    let time = place(&TIMES).ok_or_else(|| {
        format!(
            "not a table from {tool}: no column contains times ({}); export the panel's data as CSV",
            table.head.join(", ")
        )
    })?;
    let (series, value) =
        match (place(&["series", "serie", "metric"]), place(&["value", "wert", "värde"])) {
            (Some(series), Some(value)) => (Some(series), value),
            _ => (None, chosen(table, time, wish)?),
        };
    let fields = |column: usize| {
        let values = table.rows.iter().filter_map(move |row| row.fields.get(column));
        values.map(String::as_str).filter(|text| !is_missing(text, &[]))
    };
    let usual = match table.delimiter {
        Some(b';') if fields(value).any(|text| text.contains(',')) => Mark::Comma,
        _ => Mark::Point,
    };
    let mark = Mark::of(fields(value), usual)
        .map_err(|reason| format!("{}: {reason}", table.head[value]))?;
    let mut found = Vec::new();
    let mut without_unit = 0_u64;
    for row in &table.rows {
        let field = |column: usize| row.fields.get(column).map_or("", String::as_str);
        if field(time).is_empty() {
            continue;
        }
        let (at, local) = moment(field(time)).ok_or_else(|| {
            format!("row {}: {:?} is not a time of {tool}", row.line, field(time))
        })?;
        let text = field(value);
        let round_trip_us = if is_missing(text, &[]) {
            None
        } else {
            let (digits, unit) = with_unit(text).unwrap_or_else(|| {
                without_unit += 1;
                (text, 1e6)
            });
            let number = mark.parse(digits).ok_or_else(|| {
                format!("row {}: {text:?} is not a number with a unit of time", row.line)
            })?;
            micros(number * unit / 1e6)
        };
        found.push(Measurement {
            line: row.line,
            at,
            local,
            monitor: series.map(|series| id(field(series))),
            outcome: round_trip_us.map(|_| "ok"),
            round_trip_us,
            ..Measurement::default()
        });
    }
    let mut notes = vec![
        format!("round trip from the column {:?}", table.head[value]),
        format!("a graph of {tool} contains no failures: availability can't be computed from it"),
    ];
    if without_unit > 0 {
        notes.push(format!("{without_unit} values without a unit, interpreted as seconds"));
    }
    Ok((found, notes))
}

/// Returns why a table of sums over a time span is refused.
fn sums(table: &Table) -> Option<String> {
    let has = |name: &str| table.head.iter().any(|column| column.trim().eq_ignore_ascii_case(name));
    (has("OK") && (has("CRIT") || has("Crit")) || has("UP") && has("DOWN")).then(|| {
        "this is an availability table, which contains sums instead of single tests; export the graph of the \
         round trip"
            .to_owned()
    })
}

/// Returns the column of the round trip.
fn chosen(table: &Table, time: usize, wish: ExportSelection<'_>) -> Result<usize, String> {
    let columns: Vec<usize> = (0..table.head.len())
        .filter(|column| *column != time && !table.head[*column].is_empty())
        .collect();
    let names =
        || columns.iter().map(|column| table.head[*column].as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = wish.round_trip {
        let found = columns.iter().find(|column| table.head[**column] == name);
        return found.copied().ok_or_else(|| format!("no column {name:?}; available: {}", names()));
    }
    let likely: Vec<usize> = columns
        .iter()
        .copied()
        .filter(|column| {
            LIKELY.iter().any(|word| table.head[*column].to_lowercase().contains(word))
        })
        .collect();
    match (columns.as_slice(), likely.as_slice()) {
        ([one], _) | (_, [one]) => Ok(*one),
        _ => Err(format!(
            "set the column of the round trip, such as --column round_trip_us=NAME; available: {}",
            names()
        )),
    }
}

/// Parses a time: microseconds since 1970, or a local time to be resolved by the order of rows.
fn moment(text: &str) -> Option<(i64, Option<String>)> {
    if let Ok(number) = text.parse::<i64>() {
        // Eleven digits are seconds until the year 5138.
        let unit = if text.len() <= 11 { 1_000_000 } else { 1_000 };
        return number.checked_mul(unit).map(|at| (at, None));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some((at.as_microsecond(), None));
    }
    let local = text.parse::<jiff::civil::DateTime>().ok().or_else(|| {
        ["%d.%m.%Y %H:%M:%S", "%d.%m.%Y, %H:%M:%S", "%d.%m.%Y %H:%M"]
            .iter()
            .find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())
    })?;
    Some((0, Some(local.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::table::read_csv;

    fn read_text(
        text: &str,
        wish: ExportSelection<'_>,
    ) -> Result<(Vec<Measurement>, Vec<String>), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("panel.csv");
        std::fs::write(&file, text).expect("written");
        read(&read_csv(&file, None).map_err(|error| error.to_string())?, wish, "Grafana")
    }

    #[test]
    fn values_with_units_and_times_without_offsets_are_read() {
        for (text, expected) in [
            (
                "sep=,\r\n\"Time\",\"round trip\"\r\n2026-03-01 12:00:00,12.3 ms\r\n2026-03-01 12:01:00,1.20 s\r\n2026-03-01 12:02:00,\r\n",
                [Some(12_300), Some(1_200_000), None],
            ),
            (
                "Time;mx1\n2026-03-01T12:00:00;12,3 ms\n2026-03-01T12:01:00;1,20 s\n2026-03-01T12:02:00;undefined\n",
                [Some(12_300), Some(1_200_000), None],
            ),
            (
                "Zeit;mx1\n01.03.2026 12:00:00;456 µs\n01.03.2026 12:01:00;1.5 mins\n01.03.2026 12:02:00;NaN\n",
                [Some(456), Some(90_000_000), None],
            ),
            (
                "timestamp,Round trip\n2026-03-01 12:00:00,0.25\n2026-03-01 12:01:00,1.5e0\n2026-03-01 12:02:00,null\n",
                [Some(250_000), Some(1_500_000), None],
            ),
        ] {
            let (found, _) = read_text(text, ExportSelection::default())
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let times: Vec<_> = found.iter().map(|one| one.round_trip_us).collect();
            assert_eq!(times, expected, "{text}");
            let at: Vec<_> = found.iter().filter_map(|one| one.local.as_deref()).collect();
            assert_eq!(at, ["2026-03-01T12:00:00", "2026-03-01T12:01:00", "2026-03-01T12:02:00"]);
        }
    }

    #[test]
    fn other_forms_of_tables_are_read_or_refused() {
        let series = "Series;Time;Value\nmx1 loop;2026-03-01T12:00:00.000Z;0.25\nmx2 loop;2026-03-01T12:00:00.000Z;null\n";
        let (found, notes) = read_text(series, ExportSelection::default()).expect("series");
        assert_eq!(
            (found[0].monitor.as_deref(), found[0].at, found[0].round_trip_us),
            (Some("mx1-loop"), 1_772_366_400_000_000, Some(250_000))
        );
        assert_eq!(found[1].outcome, None);
        assert!(notes.iter().any(|note| note.contains("interpreted as seconds")), "{notes:?}");
        let (found, _) =
            read_text("\"Time\",\"x\"\n1772366400000,3 ms\n", ExportSelection::default())
                .expect("milliseconds");
        assert_eq!(found[0].at, 1_772_366_400_000_000);
        let several = "Time,p50,p99\n2026-03-01 12:00:00,1 ms,2 ms\n";
        assert!(
            read_text(several, ExportSelection::default()).expect_err("two").contains("p50, p99")
        );
        let wish = ExportSelection { round_trip: Some("p99"), ..ExportSelection::default() };
        assert_eq!(read_text(several, wish).expect("one").0[0].round_trip_us, Some(2_000));
        for (text, reason) in [
            ("Host;Service;OK;WARN;CRIT\nmx1;Mail;99.1%;0%;0.9%\n", "availability table"),
            ("a,b\n1,2\n", "no column contains times"),
            ("Time,x\nyesterday,1 ms\n", "not a time of Grafana"),
            ("Time,x\n2026-03-01 12:00:00,95 %\n", "not a number with a unit of time"),
        ] {
            let error = read_text(text, ExportSelection::default()).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }
}
