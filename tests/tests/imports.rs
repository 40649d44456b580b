//! `lake import` with the real binary, for files in the formats of other tools. The RRDtool output
//! was written by RRDtool 1.7 from a file in SmokePing's format; the others follow the exports of
//! PRTG 24, Checkmk 2.3, Nagios 4, PNP4Nagios and Uptime Kuma 1.23.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_tests::setting::{Setting, complaint_of};

const PRTG_XML: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<histdata>
 <prtg-version>24.2.94.1400</prtg-version>
 <item>
  <datetime>01.10.2026 00:00:00</datetime>
  <datetime_raw>46295.9166666667</datetime_raw>
  <value channelid="0" channel="Ladezeit">1.234 ms</value>
  <value_raw channelid="0" channel="Ladezeit">1234.0000</value_raw>
  <value channelid="-4" channel="Ausfall">0 %</value>
  <value_raw channelid="-4" channel="Ausfall">0.0000</value_raw>
  <coverage>100 %</coverage>
  <coverage_raw>0000010000</coverage_raw>
 </item>
 <item>
  <datetime>01.10.2026 00:05:00</datetime>
  <datetime_raw>46295.9201388889</datetime_raw>
  <value channelid="0" channel="Ladezeit"></value>
  <value_raw channelid="0" channel="Ladezeit"></value_raw>
  <value channelid="-4" channel="Ausfall">100 %</value>
  <value_raw channelid="-4" channel="Ausfall">100.0000</value_raw>
  <coverage>100 %</coverage>
  <coverage_raw>0000010000</coverage_raw>
 </item>
</histdata>
"#;
const PRTG_CSV: &str = r#""Datum Uhrzeit";"Datum Uhrzeit(RAW)";"Ladezeit";"Ladezeit(RAW)";"Ausfall";"Ausfall(RAW)";"Abdeckung";"Abdeckung(RAW)"
"01.10.2026 00:00:00";46295,9166666667;"1.234 ms";1234,0000;"0 %";0,0000;"100 %";10000
"01.10.2026 00:05:00";46295,9201388889;"";"";"100 %";100,0000;"100 %";10000
"Summe (von 2 Werten)";"";"1.234 ms";1234,0000;"";"";"";""
"Mittelwert (von 2 Werten)";"";"1.234 ms";1234,0000;"50 %";50,0000;"";""
"#;
const CHECKMK: &str = "time;response_time\n2026-09-30 22:00:00;1.234 s\n2026-09-30 22:02:00;\n";
const NAGIOS: &str = "[SERVICEPERFDATA]\t1790805600\tmail.example.com\tSMTP\t1.2\t0.045\tSMTP OK - 1,234 sec. response time\t'time'=1,234s;5,0;10,0;0,0;10,0\n\
    [SERVICEPERFDATA]\t1790805900\tmail.example.com\tSMTP\t10.0\t0.045\tCRITICAL - Socket timeout after 10 seconds\t\n";
const PNP4NAGIOS: &str = "DATATYPE::SERVICEPERFDATA\tTIMET::1790805600\tHOSTNAME::mail.example.com\tSERVICEDESC::SMTP\tSERVICEPERFDATA::time=1.234s;5;10;0;10\tSERVICECHECKCOMMAND::check_smtp\tHOSTSTATE::UP\tHOSTSTATETYPE::HARD\tSERVICESTATE::OK\tSERVICESTATETYPE::HARD\n\
    DATATYPE::SERVICEPERFDATA\tTIMET::1790805900\tHOSTNAME::mail.example.com\tSERVICEDESC::SMTP\tSERVICEPERFDATA::\tSERVICECHECKCOMMAND::check_smtp\tHOSTSTATE::UP\tHOSTSTATETYPE::HARD\tSERVICESTATE::CRITICAL\tSERVICESTATETYPE::SOFT\n";
const KUMA_CSV: &str = "id,important,monitor_id,status,msg,time,ping,duration,down_count\n\
    1,1,3,1,\"200 - OK\",\"2026-09-30 22:00:00.000\",1234,0,0\n2,1,3,0,\"timeout of 48000ms exceeded\",\"2026-09-30 22:05:00.000\",,300,0\n";
const KUMA_JSON: &str = r#"[{"id":1,"important":1,"monitor_id":3,"status":1,"msg":"250 OK","time":"2026-09-30 22:00:00.000","ping":1234,"duration":0,"down_count":0},
{"id":2,"important":1,"monitor_id":3,"status":0,"msg":"timeout of 48000ms exceeded","time":"2026-09-30 22:05:00.000","ping":null,"duration":300,"down_count":0},
{"id":3,"important":0,"monitor_id":3,"status":3,"msg":"Monitor under maintenance","time":"2026-09-30 22:10:00.000","ping":null,"duration":300,"down_count":0}]"#;
const RRD_FETCH: &str = "                         uptime                loss              median               ping1\n\n\
    1790805600: -nan 0.0000000000e+00 1.2340000000e+00 1.0000000000e-02\n\
    1790805900: -nan 3.0000000000e+00 -nan -nan\n\
    1790806200: -nan -nan -nan -nan\n";
const RRD_XPORT: &str = r#"{ "about": "RRDtool graph JSON output",
  "meta": {
    "start": 1790805600,
    "end": 1790806200,
    "step": 300,
    "legend": [
      "median",
      "loss"
          ]
     },
  "data": [
    [ 1.2340000000e+00, 0.0000000000e+00 ],
    [ null, 3.0000000000e+00 ],
    [ null, null ]
  ]
}
"#;

/// Returns start, outcome and round trip in microseconds of the samples of a site.
fn samples(setting: &Setting, site: &str) -> Vec<[String; 3]> {
    let text = setting.succeed("mailqos-analytics", &["lake", "export", "--site", site]);
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heads = lines.next().expect("heads");
    let place = |name: &str| heads.iter().position(|head| *head == name).expect("a column");
    let places = ["started_at", "outcome", "round_trip_us"].map(place);
    lines.map(|cells| places.map(|place| cells[place].to_owned())).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn exports_of_other_tools_become_the_same_samples() {
    let setting = Setting::new("here");
    setting.write();
    let ok = ["2026-09-30T22:00:00Z", "ok", "1234000"].map(str::to_owned);
    let lost = ["2026-09-30T22:05:00Z", "lost", ""].map(str::to_owned);
    let skipped = ["2026-09-30T22:10:00Z", "not_tested", ""].map(str::to_owned);
    let both = vec![ok.clone(), lost.clone()];
    let plain = |text: &str| text.as_bytes().to_vec();
    let cases = [
        ("prtg", "prtg.xml", plain(PRTG_XML), both.clone()),
        ("prtg", "prtg.csv", plain(PRTG_CSV), both.clone()),
        ("prtg", "prtg-utf16.csv", utf16(PRTG_CSV), both.clone()),
        ("prtg", "prtg-sep.csv", plain(&format!("sep=;\r\n{PRTG_CSV}")), both.clone()),
        // A graph contains no failures.
        ("checkmk", "checkmk.csv", plain(CHECKMK), vec![ok.clone()]),
        ("nagios", "nagios.txt", plain(NAGIOS), both.clone()),
        ("nagios", "pnp.txt", plain(PNP4NAGIOS), both.clone()),
        ("uptime-kuma", "kuma.csv", plain(KUMA_CSV), both.clone()),
        ("uptime-kuma", "kuma.json", plain(KUMA_JSON), vec![ok.clone(), lost.clone(), skipped]),
        ("smokeping", "fetch.txt", plain(RRD_FETCH), both.clone()),
        ("smokeping", "xport.json", plain(RRD_XPORT), both),
    ];
    for (number, (tool, name, content, expected)) in cases.into_iter().enumerate() {
        let path = setting.path(name);
        std::fs::write(&path, content).unwrap();
        let (file, site) = (path.to_string_lossy().into_owned(), format!("site{number}"));
        let zone = ["--timezone", if tool == "prtg" { "Europe/Berlin" } else { "UTC" }];
        let import =
            ["lake", "import", "--from", tool, &file, "--into", &site, "--as-monitor", "mail"];
        setting.succeed("mailqos-analytics", &[&import[..], &zone, &["--apply"]].concat());
        assert_eq!(samples(&setting, &site), expected, "{name}");
    }
}

/// SEED-platform/seed#4286: readings in the repeated hour failed to import.
#[test]
fn a_repeated_hour_is_resolved_by_the_order_of_rows_or_refused() {
    let setting = Setting::new("here");
    setting.write();
    let import = |site: &str, text: &str| {
        let path = setting.path("local.csv");
        std::fs::write(&path, text).unwrap();
        let file = path.to_string_lossy().into_owned();
        let columns = ["--column", "started_at=time", "--column", "round_trip_us=latency:s"];
        let all = [
            &[
                "lake",
                "import",
                &file,
                "--into",
                site,
                "--as-monitor",
                "mail",
                "--as-outcome",
                "ok",
            ][..],
            &columns,
            &["--timezone", "America/New_York", "--apply"],
        ];
        setting.run("mailqos-analytics", &all.concat())
    };
    let ordered = "time,latency\n2022-11-06 00:30:00,0.1\n2022-11-06 01:00:00,0.2\n2022-11-06 01:30:00,0.3\n\
        2022-11-06 01:00:00,0.4\n2022-11-06 01:30:00,0.5\n2022-11-06 02:00:00,0.6\n";
    assert!(import("ordered", ordered).status.success());
    let starts: Vec<String> =
        samples(&setting, "ordered").into_iter().map(|[start, ..]| start).collect();
    let expected = ["04:30", "05:00", "05:30", "06:00", "06:30", "07:00"]
        .map(|time| format!("2022-11-06T{time}:00Z"));
    assert_eq!(starts, expected);
    let alone = import("alone", "time,latency\n2022-11-06 01:00:00,0.2\n");
    let said = complaint_of(&alone);
    assert_eq!(alone.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is ambiguous in America/New_York") && said.contains("--timezone"),
        "{said}"
    );
}
