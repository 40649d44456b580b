//! Tests of imports.

use mailqos_lake::read_day;
use mailqos_model::Hop;

use super::*;

fn plan(mappings: &[&str]) -> Plan {
    Plan {
        site: "lyon".parse().expect("a name"),
        monitor: Some("m1".parse().expect("a name")),
        mappings: mappings.iter().map(|text| text.parse().expect("a mapping")).collect(),
        outcomes: BTreeMap::from([("fail".to_owned(), "lost".to_owned())]),
        outcome: None,
        delimiter: None,
        time_format: None,
        timezone: TimeZone::UTC,
        skip_duplicates: false,
        preset: None,
        missing: Vec::new(),
        missing_outcome: None,
        decimal_mark: None,
    }
}

fn imported(text: &str, plan: &Plan) -> Result<Vec<Sample>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("old.csv");
    std::fs::write(&file, text).expect("a file");
    let data = folder.path().join("lake");
    import(&data, &file, plan, true).map_err(|error| error.to_string())?;
    let day = UtcMicros(1_772_366_400_000_000).utc_date();
    Ok(read_day(&day_path::<Sample>(&data, &plan.site, day)).expect("read"))
}

#[test]
fn a_foreign_file_with_semicolons_commas_and_its_own_dates_is_understood() {
    let mut plan = plan(&["started_at=Zeit", "round_trip_us=Dauer:ms", "outcome=Ergebnis"]);
    plan.time_format = Some("%d.%m.%Y %H:%M".to_owned());
    plan.timezone = TimeZone::get("Europe/Berlin").expect("a zone");
    let text =
        "\u{feff}Zeit;Dauer;Ergebnis\r\n01.03.2026 13:00;12,5;ok\r\n01.03.2026 13:05;;fail\r\n";
    let samples = imported(text, &plan).expect("imported");
    assert_eq!(samples[0].started_at, UtcMicros(1_772_366_400_000_000));
    assert_eq!(samples[0].round_trip, Some(Micros(12_500)));
    assert_eq!((samples[1].outcome, samples[1].round_trip), (Outcome::Lost, None));
    let refused =
        imported("Zeit;Dauer;Ergebnis\n2026-03-01;1;ok\n", &plan).expect_err("another form");
    assert!(refused.contains("does not match the format"), "{refused}");
}

#[test]
fn an_explicit_outcome_applies_to_files_in_our_format_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = UtcMicros(1_772_366_400_000_000);
    let mut lost = Sample::new("m1".parse().expect("a name"), at, Outcome::Lost);
    let hops = vec![Hop {
        by: Some("mx.example.com".to_owned()),
        from: None,
        at: None,
        delay: None,
        clock_suspect: false,
    }];
    lost.hops = Some(hops.clone());
    let from = folder.path().join("from");
    write_into(&from, &"lyon".parse().expect("a name"), vec![lost]).expect("write");
    let plan = Plan {
        monitor: Some("m2".parse().expect("a name")),
        outcomes: BTreeMap::new(),
        outcome: Some(Outcome::Ok),
        ..plan(&[])
    };
    let day = |data: &Path| day_path::<Sample>(data, &plan.site, at.utc_date());
    let data = folder.path().join("lake");
    import(&data, &day(&from), &plan, true).expect("imported");
    let there = read_day::<Sample>(&day(&data)).expect("read").remove(0);
    assert_eq!((there.monitor.as_str(), there.outcome), ("m2", Outcome::Ok));
    assert_eq!(there.hops, Some(hops));
}

#[test]
fn what_cannot_be_is_refused_with_its_remedy() {
    let mut plan = plan(&["started_at=time", "round_trip_us=latency:ms"]);
    let refused = imported("time,latency\n1772366400,1\n", &plan).expect_err("no outcome");
    assert!(refused.contains("--as-outcome"), "{refused}");
    plan.outcome = Some(Outcome::Ok);
    for (text, part) in [
        ("time,latency\n1772366400,1\n", "set the unit"),
        ("time,latency\n2026-03-01T12:00:00Z,-1\n", "negative"),
        ("time,latency\n2026-03-01T12:00:00Z,\"1,234\"\n", "is ambiguous"),
        ("time,latency\n2999-03-01T12:00:00Z,1\n", "implausible"),
        ("time,dauer\n2026-03-01T12:00:00Z,1\n", "no column"),
        ("time,latency\n2026-03-01T12:00:00Z,1\n2026-03-01T12:00:00Z,2\n", "twice"),
    ] {
        let refused = imported(text, &plan).expect_err(text);
        assert!(refused.contains(part), "{text}: {refused}");
    }
    let plan = Plan {
        mappings: vec![
            "started_at=time:s".parse().expect("a mapping"),
            "round_trip_us=latency:min".parse().expect("a mapping"),
        ],
        ..plan
    };
    let samples = imported("time\tlatency\n1772366400\t0.5\n", &plan).expect("imported");
    assert_eq!(samples[0].round_trip, Some(Micros(30_000_000)));
}

#[test]
fn rows_without_a_value_are_not_good_tests() {
    let mut plan = plan(&["started_at=time", "round_trip_us=latency:ms"]);
    plan.outcome = Some(Outcome::Ok);
    plan.missing = vec!["Timeout".to_owned()];
    let mut text = "time,latency\n2026-03-01T12:00:00Z,1.5\n".to_owned();
    for (minute, missing) in ["", "-", "U", "NaN", "null", "Timeout"].into_iter().enumerate() {
        text.push_str(&format!("2026-03-01T12:0{}:00Z,{missing}\n", minute + 1));
    }
    let samples = imported(&text, &plan).expect("imported");
    assert_eq!(samples.len(), 1, "nothing is known about the others");
    plan.missing_outcome = Some(Outcome::Lost);
    let samples = imported(&text, &plan).expect("imported");
    assert_eq!(samples.iter().filter(|sample| sample.outcome == Outcome::Lost).count(), 6);
    plan.missing.clear();
    let refused = imported(&text, &plan).expect_err("an undeclared word");
    assert!(refused.contains("Timeout"), "{refused}");
}

#[test]
fn a_repeated_hour_is_resolved_by_the_order_of_rows() {
    let mut plan = plan(&["started_at=time", "round_trip_us=latency:ms"]);
    plan.outcome = Some(Outcome::Ok);
    plan.timezone = TimeZone::get("America/Sao_Paulo").expect("a zone");
    // 2026-03-01 is an ordinary day there; `clock` tests the repeated hour.
    assert_eq!(imported("time,latency\n2026-03-01T09:00,1\n", &plan).expect("imported").len(), 1);
    plan.timezone = TimeZone::get("Europe/Berlin").expect("a zone");
    let hours = "time,latency\n2025-10-26T01:30,1\n2025-10-26T02:30,1\n2025-10-26T02:30,1\n2025-10-26T03:30,1\n";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("old.csv");
    std::fs::write(&file, hours).expect("a file");
    let imported = import(&folder.path().join("lake"), &file, &plan, true).expect("imported");
    assert_eq!((imported.new, imported.duplicates), (4, 0));
    let (first, last) = imported.span.expect("a span");
    assert_eq!(last - first, Micros::from_secs(3 * 3_600));
    std::fs::write(&file, "time,latency\n2025-10-26T02:30,1\n").expect("a file");
    let refused =
        import(&folder.path().join("lake"), &file, &plan, true).expect_err("unclear").to_string();
    assert!(refused.contains("is ambiguous in Europe/Berlin"), "{refused}");
}
