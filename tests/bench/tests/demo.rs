//! The demonstration generates its reports, and whenever it is stopped, the lake is readable and no
//! process remains.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use mailqos_tests::{
    binaries::binary,
    lake,
    setting::{PATIENCE, signal, until},
};

/// Starts the demonstration. The programs are built first, which may take longer than a test waits
/// for its end.
fn start(folder: &Path, seconds: &str) -> Child {
    binary("mailqos-probe");
    let said = fs::File::create(folder.join("said")).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--seconds", seconds, "--output"])
        .arg(folder.join("demo"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().expect("a second handle"))
        .stderr(said)
        .spawn()
        .expect("the demonstration starts")
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("said")).unwrap_or_default()
}

fn end_of(mut child: Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its state") {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the demonstration does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[tokio::test]
async fn it_makes_its_reports() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = end_of(start(folder.path(), "4"));
    let said = said(folder.path());
    assert!(status.success(), "{said}");
    lake::check(&folder.path().join("demo/data"));
    for (place, note) in [("demo/report", true), ("demo/report/live", false)] {
        let files = fs::read_dir(folder.path().join(place)).expect("a folder").flatten();
        let paths: Vec<_> = files.map(|file| file.path()).filter(|path| path.is_file()).collect();
        assert_eq!(paths.len(), 2, "{paths:?}");
        for path in paths {
            assert!(said.contains(&*path.to_string_lossy()), "{}: not said", path.display());
            let bytes = fs::read(&path).expect("a file");
            if path.extension().is_some_and(|extension| extension == "html") {
                let page = String::from_utf8(bytes).expect("HTML is UTF-8");
                assert_eq!(page.contains("Simulated data"), note, "{}", path.display());
            } else {
                assert!(bytes.starts_with(b"%PDF-"), "{}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn it_serves_the_console_and_stops_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    binary("mailqos-probe");
    let output = fs::File::create(folder.path().join("said")).expect("a file");
    let child = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--serve", "--seconds", "3", "--output"])
        .arg(folder.path().join("demo"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("the demonstration starts");
    // The address may be in use on this machine; that is then the reason.
    until("the console", || {
        let text = said(folder.path());
        text.contains("/welcome/") || text.contains("the web console ended")
    })
    .await;
    signal(child.id(), "TERM");
    end_of(child);
    lake::check(&folder.path().join("demo/data"));
}

#[tokio::test]
async fn stopped_at_any_time_it_leaves_a_readable_lake() {
    // Immediately; during the simulation; during the tests, before and after the first seal; while
    // it generates the reports.
    for (moment, seconds) in
        [("", "60"), ("2/4", "60"), ("3/4", "60"), ("samples", "60"), ("4/4", "3")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, path) = (folder.path().join("demo/data"), folder.path());
        let child = start(path, seconds);
        until(moment, || match moment {
            "samples" => data.join("samples/site=demo").exists(),
            said_at => said(path).contains(said_at),
        })
        .await;
        signal(child.id(), "INT");
        let status = end_of(child);
        assert!(status.success() || moment.is_empty(), "{moment}: {status}\n{}", said(path));
        if data.exists() {
            lake::check(&data);
        }
        assert_eq!(running_in(path), Vec::<String>::new(), "{moment}: something runs on");
    }
}

/// Returns the processes whose command line contains a folder (Linux; nothing elsewhere).
fn running_in(folder: &Path) -> Vec<String> {
    let name = folder.to_string_lossy().into_owned();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}
