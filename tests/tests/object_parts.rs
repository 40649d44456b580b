//! Of a lake in an object store, only what a question needs is fetched, and nothing twice; a file
//! that is replaced meanwhile is read again.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{collections::BTreeSet, fs::File, path::Path};

use jiff::civil::{Date, date};
use mailqos_lake::DayWriter;
use mailqos_model::{Micros, Outcome, Sample, UtcMicros};
use mailqos_tests::{
    lake::day_files,
    secrets::secret_file,
    servers::{KEY_ID, ObjectStore, StoreHabits},
    setting::{Setting, complaint_of, words_of},
};
use parquet::file::{metadata::ParquetMetaDataReader, statistics::Statistics};

/// Tests of a monitor per day.
const TESTS: i64 = 1_440;
/// Enough monitors for two row groups.
const MONITORS: i64 = 24;
/// What `stats` reads, besides the metrics.
const COLUMNS: [&str; 7] =
    ["monitor", "started_at", "outcome", "excluded", "settled", "kind", "test_interval_us"];

/// Writes a day of a site.
fn write_day(data: &Path, day: Date, monitors: i64, tests: i64, round_trip: i64) {
    let site = "cloud".parse().expect("a name");
    let start = UtcMicros(
        jiff::tz::TimeZone::UTC.to_timestamp(day.into()).expect("a day").as_microsecond(),
    );
    let mut file = DayWriter::create(data, &site, day).expect("a day");
    for monitor in 0..monitors {
        let name = format!("m{monitor:03}");
        for test in 0..tests {
            let at = start + Micros(test * 86_400_000_000 / tests + monitor * 1_000);
            let mut sample = Sample::new(name.parse().expect("a name"), at, Outcome::Ok);
            // Numbers without a pattern, as measured ones are (SplitMix64).
            let noise = |seed: u64| {
                let mut bits = (at.0 as u64).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((bits ^ (bits >> 31)) % 3_000_000) as i64
            };
            sample.settled = Some(true);
            sample.test_interval = Some(Micros(60_000_000));
            sample.round_trip = Some(Micros(round_trip + noise(0)));
            sample.smtp_connect = Some(Micros(noise(1)));
            sample.smtp_send = Some(Micros(noise(2)));
            sample.pickup_connect = Some(Micros(noise(3)));
            sample.pickup_login = Some(Micros(noise(4)));
            sample.pickup_receive = Some(Micros(noise(5)));
            file.push(sample).expect("a row");
        }
    }
    file.publish(None).expect("published");
}

fn key(day: Date) -> String {
    format!("bucket/some/lake/samples/site=cloud/date={day}/samples.parquet")
}

/// Copies the days of a lake into the store.
fn upload(data: &Path, store: &ObjectStore) {
    for file in day_files(data) {
        let name = file.strip_prefix(data).expect("below").to_str().expect("text").to_owned();
        store.put(&format!("bucket/some/lake/{name}"), &std::fs::read(&file).expect("read"));
    }
}

fn setting(store: &ObjectStore) -> Setting {
    let mut setting = Setting::new("cloud");
    setting.replace("data = \"data\"", "data = \"s3://bucket/some/lake\"");
    secret_file(&setting.path("s3.secret"), "Object-Store-Hemlighet-5Rt");
    setting.add(&format!(
        "[account.store]\nuser = \"{KEY_ID}\"\npassword = {{ file = \"s3.secret\" }}\n\
         [object_store]\nendpoint = \"{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"",
        store.endpoint()
    ));
    setting.write();
    setting
}

fn stats(setting: &Setting, arguments: &[&str]) -> String {
    let all = ["stats", "--format", "json"].iter().chain(arguments).copied();
    setting.succeed("mailqos-analytics", &all.collect::<Vec<_>>())
}

/// Returns the bytes of a day file that figures of one monitor need: its footer, and the columns of
/// the row groups that contain the monitor.
fn needed(file: &Path, monitor: &str) -> u64 {
    let source = File::open(file).expect("a file");
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&source).expect("a footer");
    let bytes = std::fs::read(file).expect("read");
    let footer: [u8; 4] = bytes[bytes.len() - 8..bytes.len() - 4].try_into().expect("four");
    let mut sum = u64::from(u32::from_le_bytes(footer)) + 8;
    for group in metadata.row_groups() {
        let chunks = || group.columns().iter();
        let contains = chunks().any(|chunk| match chunk.statistics() {
            Some(Statistics::ByteArray(names)) if chunk.column_path().string() == "monitor" => {
                let bound = |name: Option<&parquet::data_type::ByteArray>| {
                    name.and_then(|name| name.as_utf8().ok()).unwrap_or_default().to_owned()
                };
                (bound(names.min_opt())..=bound(names.max_opt())).contains(&monitor.to_owned())
            }
            _ => false,
        });
        let is_read = |name: &str| {
            COLUMNS.contains(&name)
                || [
                    "round_trip_us",
                    "smtp_connect_us",
                    "smtp_send_us",
                    "pickup_connect_us",
                    "pickup_login_us",
                    "pickup_receive_us",
                ]
                .contains(&name)
        };
        let has_values = |chunk: &parquet::file::metadata::ColumnChunkMetaData| {
            chunk.statistics().and_then(Statistics::null_count_opt)
                != Some(chunk.num_values() as u64)
        };
        if contains {
            let read = chunks()
                .filter(|chunk| is_read(&chunk.column_path().string()) && has_values(chunk));
            sum += read.map(|chunk| chunk.compressed_size() as u64).sum::<u64>();
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn one_monitors_month_of_a_year_costs_little_more_than_its_bytes() {
    let store = ObjectStore::start().await.expect("a store");
    let data = tempfile::tempdir().expect("a folder");
    let mut day = date(2025, 1, 1);
    while day.year() == 2025 {
        // The days around February are needed for outages that cross its limits.
        let is_near = (date(2025, 1, 31)..=date(2025, 3, 1)).contains(&day);
        let (monitors, tests) = if is_near { (MONITORS, TESTS) } else { (2, 4) };
        write_day(data.path(), day, monitors, tests, 2_000_000);
        day = day.tomorrow().expect("a day");
    }
    upload(data.path(), &store);
    let setting = setting(&store);
    let question = [
        "--monitor",
        "m020",
        "--from",
        "2025-02-01",
        "--to",
        "2025-03-01",
        "--by",
        "day",
        "--timezone",
        "UTC",
    ];
    let first = stats(&setting, &question);

    let near = |file: &&std::path::PathBuf| {
        let text = file.to_string_lossy();
        text.contains("date=2025-02")
            || text.contains("date=2025-01-31")
            || text.contains("date=2025-03-01")
    };
    let files = day_files(data.path());
    let asked: Vec<_> = files.iter().filter(near).collect();
    assert_eq!(asked.len(), 30);
    let names: BTreeSet<String> = asked
        .iter()
        .map(|file| {
            format!("bucket/some/lake/{}", file.strip_prefix(data.path()).expect("below").display())
        })
        .collect();
    assert_eq!(store.take_read_names(), names, "no other day is touched");
    let needed: u64 = asked.iter().map(|file| needed(file, "m020")).sum();
    let whole: u64 = asked.iter().map(|file| file.metadata().expect("known").len()).sum();
    let (fetched, requests) = (store.read_bytes(), store.reads());
    assert!(fetched >= needed * 9 / 10, "{fetched} of {needed}: the test counts wrongly");
    assert!(fetched <= needed * 2, "{fetched} bytes fetched, {needed} needed");
    assert!(fetched < whole / 2, "{fetched} bytes fetched of {whole}");
    assert!(requests <= 4 * 30, "{requests} requests");

    // The same figures as from a folder.
    let folder = data.path().to_str().expect("text");
    let local: Vec<&str> = question.iter().copied().chain(["--data", folder]).collect();
    assert_eq!(stats(&setting, &local), first);
    // Nothing is fetched twice.
    assert_eq!(stats(&setting, &question), first);
    assert_eq!((store.read_bytes(), store.reads()), (fetched, requests));
    // A replaced day is.
    write_day(data.path(), date(2025, 2, 3), MONITORS, TESTS, 9_000_000);
    let changed = key(date(2025, 2, 3));
    let file =
        files.iter().find(|file| file.to_string_lossy().contains("2025-02-03")).expect("a day");
    store.put(&changed, &std::fs::read(file).expect("read"));
    store.take_read_names();
    assert_ne!(stats(&setting, &question), first);
    assert_eq!(store.take_read_names(), [changed].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_stays_below_its_limit_and_none_is_needed() {
    for (limit, fetches_again) in [("\"300kB\"", true), ("0", true), ("\"1GB\"", false)] {
        let store = ObjectStore::start().await.expect("a store");
        let data = tempfile::tempdir().expect("a folder");
        for day in 1..=6 {
            write_day(data.path(), date(2025, 2, day), 4, TESTS, 2_000_000);
        }
        upload(data.path(), &store);
        let mut setting = setting(&store);
        setting.replace("allow_http = true", &format!("allow_http = true\ncache = {limit}"));
        setting.write();
        let question = ["--from", "2025-02-01", "--to", "2025-02-07"];
        let first = stats(&setting, &question);
        let fetched = store.read_bytes();
        assert!(fetched > 300_000, "{fetched}: the limit is not reached");
        assert_eq!(stats(&setting, &question), first, "{limit}");
        assert_eq!(store.read_bytes() > fetched, fetches_again, "{limit}");
        let mut size = 0;
        let mut folders = vec![setting.path("state/parts")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let about = entry.metadata().expect("known");
                if about.is_dir() {
                    folders.push(entry.path());
                } else {
                    size += about.len();
                }
            }
        }
        let most = match limit {
            "0" => 0,
            "\"300kB\"" => 300_000,
            _ => u64::MAX,
        };
        assert!(size <= most, "{limit}: {size}");
    }
}

/// Reports: <https://github.com/ClickHouse/ClickHouse/pull/107934> and
/// <https://github.com/spiceai/spiceai/issues/13793> (parts of two versions are mixed),
/// <https://github.com/duckdb/duckdb-httpfs/issues/338> (the size of another version is remembered),
/// <https://github.com/grafana/tempo/issues/4166> (416, because the object became shorter).
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_it_is_read_is_never_mixed() {
    let day = date(2025, 2, 3);
    let made = |monitors, round_trip| {
        let data = tempfile::tempdir().expect("a folder");
        write_day(data.path(), day, monitors, TESTS, round_trip);
        std::fs::read(&day_files(data.path())[0]).expect("read")
    };
    let (long, other, short) = (made(6, 2_000_000), made(6, 9_000_000), made(2, 5_000_000));
    let question = ["--monitor", "m001", "--from", "2025-02-03", "--to", "2025-02-04"];
    for (before, after) in [(&long, &other), (&long, &short), (&short, &long)] {
        let store = ObjectStore::start().await.expect("a store");
        store.put(&key(day), after);
        let expected = stats(&setting(&store), &question);
        let reads = store.reads();
        // After each of the requests that a reader makes.
        for number in 1..=reads {
            store.put(&key(day), before);
            store.replace_after(number, &key(day), after.clone());
            let found = stats(&setting(&store), &question);
            let is_old = found == {
                store.put(&key(day), before);
                stats(&setting(&store), &question)
            };
            assert!(found == expected || is_old, "after {number} of {reads} requests: {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_without_ranges_or_etags_give_the_same_figures() {
    let data = tempfile::tempdir().expect("a folder");
    for day in 1..=3 {
        write_day(data.path(), date(2025, 2, day), 4, TESTS, 2_000_000);
    }
    let question =
        ["--monitor", "m001", "--from", "2025-02-01", "--to", "2025-02-04", "--timezone", "UTC"];
    let none = StoreHabits::default();
    let mut all = Vec::new();
    for habits in [
        none,
        // <https://github.com/apache/arrow-rs-object-store/issues/134>
        StoreHabits { ignores_ranges: true, ..none },
        // <https://github.com/FilenCloudDienste/filen-s3/issues/146>
        StoreHabits { no_etag: true, ..none },
        StoreHabits { weak: true, ..none },
        StoreHabits { unquoted: true, ..none },
        StoreHabits { versioned: true, ..none },
        StoreHabits { slow_down: true, ..none },
    ] {
        let store = ObjectStore::start_with(habits).await.expect("a store");
        upload(data.path(), &store);
        all.push(stats(&setting(&store), &question));
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    let folder = data.path().to_str().expect("text");
    let local: Vec<&str> = question.iter().copied().chain(["--data", folder]).collect();
    let store = ObjectStore::start().await.expect("a store");
    assert_eq!(stats(&setting(&store), &local), all[0]);
}

/// <https://github.com/rustfs/rustfs/issues/6218>: "ghost" keys are listed, and answered with 404.
/// <https://github.com/apache/arrow-rs-object-store/issues/806>: a range of the whole object is
/// answered with 200, which a small object would be asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_object_that_does_not_exist_is_named() {
    let store = ObjectStore::start().await.expect("a store");
    let data = tempfile::tempdir().expect("a folder");
    write_day(data.path(), date(2025, 2, 1), 1, 4, 2_000_000);
    upload(data.path(), &store);
    let setting = setting(&store);
    let question = ["stats", "--from", "2025-02-01", "--to", "2025-02-04", "--format", "json"];
    setting.succeed("mailqos-analytics", &question);
    store.add_ghost(&key(date(2025, 2, 2)));
    let output = setting.run("mailqos-analytics", &question);
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    let told = complaint_of(&output);
    assert!(told.contains("date=2025-02-02") && told.contains("does not have it"), "{told}");
}
