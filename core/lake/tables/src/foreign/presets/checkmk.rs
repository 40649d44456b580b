//! Checkmk: metrics from the REST API (`/domain-types/metric/actions/get/invoke`) as JSON.
//!
//! `{"time_range": {"start": …, "end": …}, "step": 60, "metrics": [{"title": …, "data_points": […]}]}`;
//! times are seconds since 1970 or RFC 3339, values of time metrics seconds, `null` is unknown.

use serde_json::Value;

use super::{ExportSelection, Measurement, micros};

pub(super) fn read(
    text: &str,
    wish: ExportSelection<'_>,
) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let wrong =
        || "not metrics from Checkmk's REST API: time_range, step or metrics is missing".to_owned();
    let start = json.pointer("/time_range/start").and_then(seconds).ok_or_else(wrong)?;
    let step =
        json.get("step").and_then(Value::as_i64).filter(|step| *step > 0).ok_or_else(wrong)?;
    let metrics = json.get("metrics").and_then(Value::as_array).ok_or_else(wrong)?;
    let title =
        |metric: &Value| metric.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = || metrics.iter().map(title).collect::<Vec<_>>().join(", ");
    let metric = match (wish.round_trip, metrics.as_slice()) {
        (Some(name), all) => all.iter().find(|metric| title(metric) == name),
        (None, [one]) => Some(one),
        _ => None,
    };
    let metric = metric.ok_or_else(|| {
        format!(
            "set the metric of the round trip, such as --column round_trip_us=NAME; available: {}",
            names()
        )
    })?;
    let points = metric.get("data_points").and_then(Value::as_array).ok_or_else(wrong)?;
    let mut found = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let at = i64::try_from(index)
            .ok()
            .and_then(|index| index.checked_mul(step)?.checked_add(start)?.checked_mul(1_000_000));
        let round_trip_us = point.as_f64().and_then(micros);
        found.push(Measurement {
            line: index as u64 + 1,
            at: at.ok_or_else(wrong)?,
            outcome: round_trip_us.map(|_| "ok"),
            round_trip_us,
            ..Measurement::default()
        });
    }
    let notes = vec![
        format!("round trip from the metric {:?}", title(metric)),
        "metrics contain no failures: availability can't be computed from them".to_owned(),
    ];
    Ok((found, notes))
}

fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_f64().map(|seconds| seconds as i64),
        Value::String(text) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_second)
            .or_else(|| text.parse().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_start_and_step() {
        for start in ["1772366400", "\"2026-03-01T13:00:00+01:00\""] {
            let text = format!(
                "{{\"time_range\":{{\"start\":{start},\"end\":1772366520}},\"step\":60,\
                 \"metrics\":[{{\"title\":\"Mail loop duration\",\"data_points\":[1.5,null,2]}}]}}"
            );
            let (found, _) = read(&text, ExportSelection::default()).expect("measurements");
            let brief: Vec<_> = found
                .iter()
                .map(|one| (one.at / 1_000_000 - 1_772_366_400, one.round_trip_us))
                .collect();
            assert_eq!(brief, [(0, Some(1_500_000)), (60, None), (120, Some(2_000_000))]);
            assert_eq!(found[1].outcome, None);
        }
        assert!(read("{}", ExportSelection::default()).is_err());
        assert!(read("[", ExportSelection::default()).is_err());
    }
}
