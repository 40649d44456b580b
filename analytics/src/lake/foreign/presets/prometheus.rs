//! Prometheus and what speaks its API: the result of `query_range` (or of an instant query) as JSON.
//!
//! Values are strings, times seconds with a fraction. A metric whose name ends in `success` or is
//! `up` says whether a test was good (1) or not (0); one that ends in `milliseconds` is in those,
//! any other one in seconds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Measurement, Wish, id, micros};

/// What is known of one moment of one monitor.
#[derive(Default)]
struct Point {
    good: Option<bool>,
    round_trip_us: Option<i64>,
}

pub(super) fn read(text: &str, wish: Wish<'_>) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let result = json
        .pointer("/data/result")
        .or_else(|| json.get("result"))
        .and_then(Value::as_array)
        .ok_or("not a result of Prometheus: no data.result in it")?;
    let mut points: BTreeMap<(String, i64), Point> = BTreeMap::new();
    let mut with_state = false;
    for series in result {
        let label = |name: &str| series.pointer(&format!("/metric/{name}")).and_then(Value::as_str);
        let name = label("__name__").unwrap_or_default();
        let monitor = label("instance")
            .or_else(|| label("target"))
            .or_else(|| label("job"))
            .map(id)
            .unwrap_or_default();
        let is_state = name == "up" || name.ends_with("success");
        with_state |= is_state;
        if !is_state && wish.round_trip.is_some_and(|wish| wish != name) {
            continue;
        }
        let unit = if name.ends_with("milliseconds") || name.ends_with("_ms") {
            1e3
        } else {
            1.0
        };
        let single = series.get("value").map(std::slice::from_ref);
        let values = series
            .get("values")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .or(single)
            .unwrap_or_default();
        for pair in values {
            let at = pair.get(0).and_then(Value::as_f64).and_then(micros);
            let value = pair
                .get(1)
                .and_then(Value::as_str)
                .and_then(|text| text.parse::<f64>().ok());
            let Some(at) = at else {
                return Err(format!("a value of {name} has no time: {pair}"));
            };
            let point = points.entry((monitor.clone(), at)).or_default();
            let value = value.filter(|value| value.is_finite());
            if is_state {
                point.good = value.map(|value| value >= 1.0);
            } else {
                point.round_trip_us = value.and_then(|value| micros(value / unit));
            }
        }
    }
    let mut notes = Vec::new();
    if !with_state {
        notes.push(
            "no metric says which tests failed (such as probe_success): availability cannot be computed".to_owned(),
        );
    }
    let found = points.into_iter().zip(1..).map(|(((monitor, at), point), line)| {
        let good = point
            .good
            .or((!with_state && point.round_trip_us.is_some()).then_some(true));
        Measurement {
            line,
            at,
            monitor: (!monitor.is_empty()).then_some(monitor),
            outcome: good.map(|good| if good { "ok" } else { "lost" }),
            error: (good == Some(false)).then(|| "failed in Prometheus".to_owned()),
            round_trip_us: point.round_trip_us.filter(|_| good == Some(true)),
        }
    });
    Ok((found.collect(), notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_states_of_a_moment_are_joined() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"probe_duration_seconds","instance":"mail.example.com"},
             "values":[[1772366400.5,"0.25"],[1772366460.5,"9.5"],[1772366520.5,"NaN"]]},
            {"metric":{"__name__":"probe_success","instance":"mail.example.com"},
             "values":[[1772366400.5,"1"],[1772366460.5,"0"],[1772366520.5,"NaN"]]}]}}"#;
        let (found, notes) = read(text, Wish::default()).expect("measurements");
        let brief: Vec<_> = found.iter().map(|one| (one.outcome, one.round_trip_us)).collect();
        assert_eq!(brief, [(Some("ok"), Some(250_000)), (Some("lost"), None), (None, None)]);
        assert_eq!(
            (found[0].at, found[0].monitor.as_deref()),
            (1_772_366_400_500_000, Some("mail.example.com"))
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn durations_alone_say_nothing_of_failures() {
        let text = r#"{"data":{"result":[{"metric":{"__name__":"mail_deliver_duration_milliseconds"},"value":[1772366400,"125"]}]}}"#;
        let (found, notes) = read(text, Wish::default()).expect("measurements");
        assert_eq!((found[0].outcome, found[0].round_trip_us), (Some("ok"), Some(125_000)));
        assert!(notes[0].contains("availability"), "{notes:?}");
        assert!(read("{}", Wish::default()).is_err());
    }
}
