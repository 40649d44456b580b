//! Context of outages: how far before and after a period samples are read.

use std::collections::BTreeMap;

use jiff::{civil::Date, tz::TimeZone};
use mailqos_figures::{Calendar, Period, Timeline};
use mailqos_lake::DayWriter;
use mailqos_lake_tables::{Lake, Series, SeriesQuery};
use mailqos_model::{Micros, Outcome, Sample, UtcMicros};

/// 2026-03-02, midnight UTC.
const MONDAY: UtcMicros = UtcMicros(1_772_409_600_000_000);

fn hours(hours: i64) -> Micros {
    Micros::from_secs(3_600 * hours)
}

#[test]
fn the_context_of_a_monitor_is_as_long_as_three_of_its_test_intervals() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = "here".parse().expect("a site");
    let often = (-60..60).map(|hour| ("often", hour, 1));
    let rarely = [-54, -30, 6, 60].map(|hour| ("rarely", hour, 24));
    // Its samples have no test interval.
    let silent = [-54, -30, 6, 60].map(|hour| ("silent", hour, 0));
    let mut days: BTreeMap<Date, Vec<Sample>> = BTreeMap::new();
    for (monitor, hour, interval) in often.chain(rarely).chain(silent) {
        let at = MONDAY + hours(hour);
        let mut sample = Sample::new(monitor.parse().expect("an id"), at, Outcome::Ok);
        sample.test_interval = (interval > 0).then_some(hours(interval));
        days.entry(at.utc_date()).or_default().push(sample);
    }
    for (day, samples) in days {
        let mut file = DayWriter::create(folder.path(), &site, day).expect("a file");
        for sample in samples {
            file.push(sample).expect("in order");
        }
        file.publish(None).expect("published");
    }
    let lake = Lake::open(folder.path()).expect("the lake");
    let period =
        Period::new(MONDAY, MONDAY + hours(24), Calendar::new(TimeZone::UTC)).expect("a day");
    let mut query = SeriesQuery::new(period.clone()).for_outages();
    query.intervals.insert("silent".to_owned(), hours(24));
    let all: Vec<Series> = lake.series(&query).collect::<Result<_, _>>().expect("read");
    let [often, rarely, silent] = &all[..] else {
        panic!("three monitors: {all:?}");
    };
    assert_eq!((often.len(), often.inside.len()), (72, 24), "a day before and after");
    assert_eq!((rarely.len(), rarely.inside.clone()), (4, 2..3));
    assert_eq!(rarely.test_interval.iter().collect::<Vec<_>>(), [Some(hours(24)); 4]);
    assert_eq!((silent.len(), silent.inside.clone()), (4, 2..3));
    for series in &all {
        let timeline = Timeline::of(series, &period, Some(hours(24)));
        assert_eq!(
            (timeline.up, timeline.unknown),
            (hours(24), Micros::ZERO),
            "{}",
            series.monitor
        );
    }
    let in_parallel = lake.map(&query, |series| series.len()).expect("read");
    assert_eq!(in_parallel, [72, 4, 4]);
}
