//! Prometheus and compatible systems: the result of `query_range` (or of an instant query) as JSON.
//!
//! Values are strings, times are seconds with a fraction. A metric whose name ends in `success` or
//! is `up` states whether a test succeeded (1) or not (0). A metric whose name ends in
//! `milliseconds` has that unit; all others are in seconds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ExportSelection, Measurement, id, micros};

/// Data of one monitor at one time.
#[derive(Default)]
struct Point {
    good: Option<bool>,
    round_trip_us: Option<i64>,
}

/// A series: its labels, and values with their times in microseconds.
struct Series {
    labels: BTreeMap<String, String>,
    values: Vec<(i64, f64)>,
}

pub(super) fn read(
    text: &str,
    wish: ExportSelection<'_>,
) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let begin = text.trim_start();
    let is_json = begin.starts_with("{\"")
        || begin.starts_with("{ ")
        || begin.starts_with("{\n")
        || begin.starts_with('[');
    let series = match serde_json::from_str::<Value>(text) {
        Ok(json) => of_json(&json)?,
        // One JSON object per line and series: the export of VictoriaMetrics.
        Err(_)
            if is_json
                && begin.lines().next().is_some_and(|line| line.contains("\"timestamps\"")) =>
        {
            of_lines(begin)?
        }
        Err(error) if is_json => return Err(format!("not JSON: {error}")),
        Err(_) => printed(text)?,
    };
    let mut points: BTreeMap<(String, i64), Point> = BTreeMap::new();
    let mut with_state = false;
    for series in &series {
        let label = |name: &str| series.labels.get(name).map(String::as_str);
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
        let unit = if name.ends_with("milliseconds") || name.ends_with("_ms") { 1e3 } else { 1.0 };
        for (at, value) in &series.values {
            let point = points.entry((monitor.clone(), *at)).or_default();
            let value = Some(*value).filter(|value| value.is_finite());
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
            "no metric shows which tests failed (such as probe_success): availability can't be computed".to_owned(),
        );
    }
    let found = points.into_iter().zip(1..).map(|(((monitor, at), point), line)| {
        let good = point.good.or((!with_state && point.round_trip_us.is_some()).then_some(true));
        Measurement {
            line,
            at,
            monitor: (!monitor.is_empty()).then_some(monitor),
            outcome: good.map(|good| if good { "ok" } else { "lost" }),
            error: (good == Some(false)).then(|| "failed in Prometheus".to_owned()),
            round_trip_us: point.round_trip_us.filter(|_| good == Some(true)),
            ..Measurement::default()
        }
    });
    Ok((found.collect(), notes))
}

fn labels(metric: Option<&Value>) -> BTreeMap<String, String> {
    let metric = metric.and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    metric.into_iter().flatten().filter_map(text).collect()
}

/// Parses the answer of the API.
fn of_json(json: &Value) -> Result<Vec<Series>, String> {
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        return Err(format!("Prometheus rejected the query: {error}"));
    }
    // `promtool query range -o json` writes only the list.
    let result = json
        .pointer("/data/result")
        .or_else(|| json.get("result"))
        .unwrap_or(json)
        .as_array()
        .ok_or("not a result from Prometheus: data.result is missing")?;
    let mut all = Vec::new();
    for series in result {
        let labels = labels(series.get("metric"));
        let single = series.get("value").map(std::slice::from_ref);
        let pairs = series
            .get("values")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .or(single)
            .unwrap_or_default();
        let mut values = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let name = labels.get("__name__").map_or("", String::as_str);
            let at = pair.get(0).and_then(Value::as_f64).and_then(micros);
            let at = at.ok_or_else(|| format!("a value of {name} has no time: {pair}"))?;
            let value = pair.get(1).and_then(Value::as_str).and_then(|text| text.parse().ok());
            values.push((at, value.unwrap_or(f64::NAN)));
        }
        all.push(Series { labels, values });
    }
    Ok(all)
}

/// Parses `/api/v1/export` of VictoriaMetrics: one series per line, times in milliseconds.
fn of_lines(text: &str) -> Result<Vec<Series>, String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let series = lines.map(|(line, row)| {
        let json: Value =
            serde_json::from_str(line).map_err(|error| format!("row {row}: not JSON: {error}"))?;
        let list =
            |name: &str| json.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let times =
            list("timestamps").into_iter().map(|at| at.as_f64().and_then(|ms| micros(ms / 1e3)));
        let values = list("values").into_iter().map(|value| value.as_f64().unwrap_or(f64::NAN));
        Ok(Series {
            labels: labels(json.get("metric")),
            values: times.zip(values).filter_map(|(at, value)| Some((at?, value))).collect(),
        })
    });
    series.collect()
}

/// Parses promtool's output: `{labels} VALUE MILLISECONDS` of `tsdb dump`,
/// `name{labels} VALUE SECONDS` of `tsdb dump-openmetrics`, or `name{labels} =>` before lines
/// `VALUE @[SECONDS]` of `query range`.
fn printed(text: &str) -> Result<Vec<Series>, String> {
    let mut all: BTreeMap<BTreeMap<String, String>, Vec<(i64, f64)>> = BTreeMap::new();
    let mut current = None;
    for (line, row) in text.lines().zip(1_u64..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || {
            format!(
                "row {row}: {line:?} is from neither `promtool tsdb dump` nor `promtool query \
            range`"
            )
        };
        let (labels, rest) = selector(line).ok_or_else(wrong)?;
        if !labels.is_empty() {
            current = Some(labels);
        }
        let rest = rest.trim().trim_start_matches("=>").trim();
        if rest.is_empty() {
            continue;
        }
        let (value, at) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let (at, unit) = match at.trim().strip_prefix("@[") {
            Some(at) => (at.trim_end_matches(']'), 1.0),
            // Seconds have a decimal point or few digits.
            None if at.contains('.') || at.trim().len() < 12 => (at, 1.0),
            None => (at, 1e3),
        };
        let at =
            at.trim().parse::<f64>().ok().and_then(|at| micros(at / unit)).ok_or_else(wrong)?;
        let value = value.parse().map_err(|_| wrong())?;
        let labels = current.clone().ok_or_else(wrong)?;
        all.entry(labels).or_default().push((at, value));
    }
    if all.is_empty() {
        return Err("not a result from Prometheus: neither JSON nor output of promtool".to_owned());
    }
    Ok(all.into_iter().map(|(labels, values)| Series { labels, values }).collect())
}

/// Splits the labels at the beginning of a line, with the name as `__name__`, from what follows;
/// none if the line begins with a value.
fn selector(line: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))?;
    let name = &line[..end];
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':'))
        && !["nan", "inf"].contains(&name.to_ascii_lowercase().as_str());
    if !is_name && !line.starts_with('{') {
        return Some((labels, line));
    }
    if is_name {
        labels.insert("__name__".to_owned(), name.to_owned());
    }
    let Some(mut rest) = line[end..].strip_prefix('{') else {
        return Some((labels, &line[end..]));
    };
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let close = loop {
            match chars.next()? {
                (_, '\\') => {
                    value.extend(chars.next().map(|(_, c)| if c == 'n' { '\n' } else { c }))
                }
                (at, '"') => break at,
                (_, c) => value.push(c),
            }
        };
        labels.insert(key.trim().trim_matches('"').to_owned(), value);
        rest = &after[close + 1..];
    }
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
        let (found, notes) = read(text, ExportSelection::default()).expect("measurements");
        let brief: Vec<_> = found.iter().map(|one| (one.outcome, one.round_trip_us)).collect();
        assert_eq!(brief, [(Some("ok"), Some(250_000)), (Some("lost"), None), (None, None)]);
        assert_eq!(
            (found[0].at, found[0].monitor.as_deref()),
            (1_772_366_400_500_000, Some("mail.example.com"))
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn durations_alone_do_not_show_failures() {
        let text = r#"{"data":{"result":[{"metric":{"__name__":"mail_deliver_duration_milliseconds"},"value":[1772366400,"125"]}]}}"#;
        let (found, notes) = read(text, ExportSelection::default()).expect("measurements");
        assert_eq!((found[0].outcome, found[0].round_trip_us), (Some("ok"), Some(125_000)));
        assert!(notes[0].contains("availability"), "{notes:?}");
        assert!(read("{}", ExportSelection::default()).is_err());
    }

    #[test]
    fn what_promtool_and_victoria_metrics_write_is_read() {
        let dump = "{__name__=\"probe_duration_seconds\", instance=\"mail.example.com\", job=\"a \\\"b\\\", c\"} 0.25 1772366400500\n\
            {__name__=\"probe_duration_seconds\", instance=\"mail.example.com\"} 9.5 1772366460500\n\
            {__name__=\"probe_success\", instance=\"mail.example.com\"} 1 1772366400500\n\
            {__name__=\"probe_success\", instance=\"mail.example.com\"} 0 1772366460500\n\
            {__name__=\"probe_success\", instance=\"mail.example.com\"} NaN 1772366520500\n";
        let open_metrics = "probe_duration_seconds{instance=\"mail.example.com\"} 0.25 1772366400.5\n\
            probe_duration_seconds{instance=\"mail.example.com\"} +Inf 1772366460.5\n\
            probe_success{instance=\"mail.example.com\"} 1 1772366400.5\n\
            probe_success{instance=\"mail.example.com\"} 0 1772366460.5\nprobe_success{instance=\"mail.example.com\"} NaN 1772366520.5\n# EOF\n";
        let query = "probe_duration_seconds{instance=\"mail.example.com\"} =>\n0.25 @[1772366400.5]\n9.5 @[1772366460.5]\n\
            probe_success{instance=\"mail.example.com\"} =>\n1 @[1772366400.5]\n0 @[1772366460.5]\nNaN @[1772366520.5]\n";
        let lines = "{\"metric\":{\"__name__\":\"probe_duration_seconds\",\"instance\":\"mail.example.com\"},\"values\":[0.25,9.5],\"timestamps\":[1772366400500,1772366460500]}\n\
            {\"metric\":{\"__name__\":\"probe_success\",\"instance\":\"mail.example.com\"},\"values\":[1,0,null],\"timestamps\":[1772366400500,1772366460500,1772366520500]}\n";
        let array = r#"[{"metric":{"__name__":"probe_duration_seconds","instance":"mail.example.com"},"values":[[1772366400.5,"0.25"]]},
            {"metric":{"__name__":"probe_success","instance":"mail.example.com"},"values":[[1772366400.5,"1"],[1772366460.5,"0"],[1772366520.5,"NaN"]]}]"#;
        for text in [dump, open_metrics, query, lines, array] {
            let (found, _) = read(text, ExportSelection::default())
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let brief: Vec<_> =
                found.iter().map(|one| (one.at, one.outcome, one.round_trip_us)).collect();
            assert_eq!(
                brief,
                [
                    (1_772_366_400_500_000, Some("ok"), Some(250_000)),
                    (1_772_366_460_500_000, Some("lost"), None),
                    (1_772_366_520_500_000, None, None)
                ],
                "{text}"
            );
            assert_eq!(found[0].monitor.as_deref(), Some("mail.example.com"));
        }
        let refused =
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"step\""}"#;
        let error = read(refused, ExportSelection::default()).expect_err("an error");
        assert!(error.contains("invalid parameter"), "{error}");
        for wrong in ["", "x", "{a=\"b", "{} 1 2", "1 2"] {
            assert!(read(wrong, ExportSelection::default()).is_err(), "{wrong:?}");
        }
    }
}
