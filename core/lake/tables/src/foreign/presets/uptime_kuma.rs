//! Uptime Kuma: its table `heartbeat` as CSV, such as by
//! `sqlite3 -header -csv kuma.db "SELECT * FROM heartbeat"`.
//!
//! `time` is UTC without an offset; `status` is 0 down, 1 up, 2 pending (failed, to be retried), 3
//! maintenance; `ping` is in milliseconds. The same rows are also read as JSON (`sqlite3 -json`) or
//! from a status page, as a list of beats per monitor.

use serde_json::Value;

use super::{Measurement, id, micros, one_line};
use crate::foreign::{Row, Table, is_missing};

/// Advice for users who import the database itself.
pub(super) const DATABASE: &str = "this is Uptime Kuma's database; export its beats with: sqlite3 -header -csv \
    kuma.db \"SELECT * FROM heartbeat\" > beats.csv";
/// Columns of a beat.
const COLUMNS: [&str; 5] = ["monitor_id", "status", "time", "ping", "msg"];

/// Converts the beats of a JSON file to the table of the CSV file.
pub(super) fn from_json(text: &str) -> Result<Table, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if json.get("monitorList").is_some() && json.get("heartbeatList").is_none() {
        return Err(format!("a settings backup contains no beats; {DATABASE}"));
    }
    let mut rows = Vec::new();
    let mut beats = |monitor: Option<&str>, list: &Value| -> Result<(), String> {
        let list = list.as_array().ok_or("not a list of beats of Uptime Kuma")?;
        for beat in list {
            let field = |name: &str| match (name, beat.get(name)) {
                ("monitor_id", None) => beat
                    .get("monitorID")
                    .map(Value::to_string)
                    .or_else(|| monitor.map(str::to_owned))
                    .unwrap_or_default(),
                (_, Some(Value::String(text))) => text.clone(),
                (_, None | Some(Value::Null)) => String::new(),
                // `important` and `status` are booleans in some versions.
                (_, Some(Value::Bool(truth))) => u8::from(*truth).to_string(),
                (_, Some(other)) => other.to_string(),
            };
            rows.push(Row {
                line: rows.len() as u64 + 1,
                fields: COLUMNS.iter().map(|name| field(name)).collect(),
            });
        }
        Ok(())
    };
    match json.get("heartbeatList") {
        Some(Value::Object(monitors)) => {
            for (monitor, list) in monitors {
                beats(Some(monitor), list)?;
            }
        }
        Some(list) => beats(None, list)?,
        None => beats(None, &json)?,
    }
    Ok(Table {
        head: COLUMNS.iter().map(|name| (*name).to_owned()).collect(),
        rows,
        ..Table::default()
    })
}

pub(super) fn read(table: &Table) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let place = |name: &str| table.head.iter().position(|column| column == name);
    let (Some(time), Some(status), Some(ping)) = (place("time"), place("status"), place("ping"))
    else {
        return Err(
            "not the table heartbeat of Uptime Kuma: no columns time, status and ping; export with: sqlite3 -header -csv kuma.db \
             \"SELECT * FROM heartbeat\""
                .to_owned(),
        );
    };
    let (monitor, message) = (place("monitor_id"), place("msg"));
    let mut found = Vec::new();
    for row in &table.rows {
        let field = |column: usize| {
            row.fields.get(column).map(String::as_str).filter(|field| !is_missing(field, &[]))
        };
        let wrong = |what: &str| {
            format!("row {}: {what} is missing or not in the format of Uptime Kuma", row.line)
        };
        let at = field(time).and_then(moment).ok_or_else(|| wrong("time"))?;
        let outcome = match field(status) {
            Some("1") => "ok",
            Some("0" | "2") => "lost",
            Some("3") => "not_tested",
            _ => return Err(wrong("status")),
        };
        let text = message.and_then(field).and_then(one_line);
        found.push(Measurement {
            line: row.line,
            at: at.as_microsecond(),
            monitor: monitor.and_then(field).map(id),
            outcome: Some(outcome),
            error: text.filter(|_| outcome != "ok"),
            round_trip_us: field(ping)
                .and_then(|ping| ping.parse().ok())
                .and_then(|ms: f64| micros(ms / 1e3))
                .filter(|_| outcome == "ok"),
            ..Measurement::default()
        });
    }
    Ok((found, Vec::new()))
}

/// Parses a time: UTC without an offset, or with one.
fn moment(text: &str) -> Option<jiff::Timestamp> {
    text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let at = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(at).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::Row;

    #[test]
    fn beats_are_read_by_their_status() {
        let split = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let rows = [
            "1,1,7,1,200 - OK,2026-03-01 12:00:00.123,125,60,0",
            "2,1,7,0,timeout of 48000ms exceeded,2026-03-01 12:01:00.000,,60,1",
            "3,0,7,2,connect ECONNREFUSED,2026-03-01 12:02:00.000,NULL,60,1",
            "4,0,7,3,,2026-03-01 12:03:00.000,,60,1",
        ];
        let table = Table {
            head: split("id,important,monitor_id,status,msg,time,ping,duration,down_count"),
            rows: rows.iter().map(|row| Row { line: 2, fields: split(row) }).collect(),
            ..Table::default()
        };
        let (found, _) = read(&table).expect("measurements");
        let brief: Vec<_> = found
            .iter()
            .map(|one| (one.outcome, one.round_trip_us, one.error.as_deref()))
            .collect();
        assert_eq!(
            brief,
            [
                (Some("ok"), Some(125_000), None),
                (Some("lost"), None, Some("timeout of 48000ms exceeded")),
                (Some("lost"), None, Some("connect ECONNREFUSED")),
                (Some("not_tested"), None, None),
            ]
        );
        assert_eq!((found[0].at, found[0].monitor.as_deref()), (1_772_366_400_123_000, Some("7")));
    }

    #[test]
    fn beats_come_as_json_as_well() {
        let rows = r#"[{"id":1,"important":1,"monitor_id":7,"status":1,"msg":"200 - OK","time":"2026-03-01 12:00:00.123","ping":125,"duration":60},
            {"id":2,"important":1,"monitor_id":7,"status":0,"msg":"timeout","time":"2026-03-01 12:01:00.000","ping":null}]"#;
        let page = r#"{"heartbeatList":{"7":[{"status":1,"time":"2026-03-01 12:00:00.123","msg":"","ping":125},
            {"status":0,"time":"2026-03-01T12:01:00Z","msg":"timeout","ping":null}]},"uptimeList":{"7_24":0.5}}"#;
        for text in [rows, page] {
            let (found, _) = read(&from_json(text).expect("beats")).expect("measurements");
            let brief: Vec<_> = found
                .iter()
                .map(|one| (one.at, one.monitor.as_deref(), one.outcome, one.round_trip_us))
                .collect();
            assert_eq!(
                brief,
                [
                    (1_772_366_400_123_000, Some("7"), Some("ok"), Some(125_000)),
                    (1_772_366_460_000_000, Some("7"), Some("lost"), None),
                ],
                "{text}"
            );
        }
        let backup = from_json(r#"{"version":"1.23.0","monitorList":[]}"#).expect_err("no beats");
        assert!(backup.contains("sqlite3 -header -csv"), "{backup}");
        assert!(from_json("{}").is_err());
    }
}
