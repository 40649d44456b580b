//! Uptime Kuma: its table `heartbeat` as CSV, such as by
//! `sqlite3 -header -csv kuma.db "SELECT * FROM heartbeat"`.
//!
//! `time` is UTC without an offset; `status` is 0 down, 1 up, 2 pending (failed, to be retried),
//! 3 maintenance; `ping` is in milliseconds.

use super::{Measurement, id, micros, one_line};
use crate::lake::foreign::{Table, is_missing};

pub(super) fn read(table: &Table) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let place = |name: &str| table.head.iter().position(|column| column == name);
    let (Some(time), Some(status), Some(ping)) = (place("time"), place("status"), place("ping")) else {
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
            row.fields
                .get(column)
                .map(String::as_str)
                .filter(|field| !is_missing(field, &[]))
        };
        let wrong = |what: &str| format!("row {}: {what} is missing or not what Uptime Kuma writes", row.line);
        let at = field(time)
            .and_then(|text| text.trim_end_matches('Z').parse::<jiff::civil::DateTime>().ok())
            .and_then(|at| jiff::tz::TimeZone::UTC.to_timestamp(at).ok())
            .ok_or_else(|| wrong("time"))?;
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
        });
    }
    Ok((found, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::foreign::Row;

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
            rows: rows
                .iter()
                .map(|row| Row {
                    line: 2,
                    fields: split(row),
                })
                .collect(),
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
        assert_eq!(
            (found[0].at, found[0].monitor.as_deref()),
            (1_772_366_400_123_000, Some("7"))
        );
    }
}
