//! Tests of the store and the worker together.

use std::{fs, path::Path};

use mailqos_base::hex;
use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use sha2::{Digest as _, Sha256};

use super::{
    notices::DeliveryProblem,
    order::Order,
    store::{Named, Outbox, Request, Submitted},
    worker::{Work, Worker, work_off},
};
use crate::{DeliveryError, Item, MailContent, Served};

fn config(folder: &Path) -> Config {
    let file = folder.join("mailqos.toml");
    fs::write(&file, "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n")
        .expect("written");
    mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Returns a request to deliver one file to the target `file_store`.
pub(crate) fn request(folder: &Path, occasion: &str) -> Request {
    let path = folder.join("r.pdf");
    fs::write(&path, b"%PDF").expect("written");
    Request {
        target: "shelf".parse().expect("a name"),
        folder: String::new(),
        linked_folder: String::new(),
        letter: MailContent::default(),
        items: vec![Item { name: "r.pdf".into(), path }],
        occasion: occasion.into(),
        report: String::new(),
        run: String::new(),
    }
}

#[tokio::test]
async fn a_completed_delivery_is_not_repeated() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let now = UtcMicros(1_000_000);
    let first = outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
    let Submitted::Waits(id) = first else {
        panic!("it waits");
    };
    assert_eq!(
        outbox.submit(&request(folder.path(), "a"), now).expect("again"),
        Submitted::Waits(id.clone())
    );
    let work = work_off(&outbox, &config, now).await.expect("worked off");
    assert_eq!(work.delivered.len(), 1);
    assert_eq!(fs::read(folder.path().join("shelf/r.pdf")).expect("there"), b"%PDF");
    assert_eq!(
        outbox.submit(&request(folder.path(), "a"), now).expect("again"),
        Submitted::Delivered(id)
    );
    assert!(work_off(&outbox, &config, now).await.expect("nothing").delivered.is_empty());
    assert!(matches!(outbox.submit(&request(folder.path(), "b"), now), Ok(Submitted::Waits(_))));
    assert_eq!(outbox.ledger().expect("ledger").len(), 1);
}

/// A state file that was replaced by something else is never read without limit.
#[tokio::test]
async fn a_state_file_of_any_size_is_refused_and_stops_no_other_delivery() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let now = UtcMicros(1_000_000);
    let mut waiting = ["a", "b"].map(|occasion| {
        match outbox.submit(&request(folder.path(), occasion), now).expect("submitted") {
            Submitted::Waits(id) => id,
            other => panic!("{other:?}"),
        }
    });
    waiting.sort();
    let huge = |path: &Path| {
        let file = fs::File::options().write(true).create(true).truncate(false).open(path);
        file.and_then(|file| file.set_len(mailqos_base::files::MAX_STATE + 1)).expect("enlarged");
    };
    huge(&outbox.pending().join(&waiting[0]).join("order.json"));
    huge(&outbox.folder.join("told.json"));
    huge(&outbox.folder.join("sweeps.json"));
    let left: Vec<String> =
        outbox.waiting().expect("listed").into_iter().map(|order| order.id).collect();
    assert_eq!(left, waiting[1..]);
    assert_eq!(work_off(&outbox, &config, now).await.expect("worked off").delivered.len(), 1);
}

#[tokio::test]
async fn a_run_is_ordered_completely_and_once() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let now = UtcMicros(1_000_000);
    let both = [request(folder.path(), "a"), request(folder.path(), "b")];
    let missing = Request {
        items: vec![Item { name: "none.pdf".into(), path: folder.path().join("none.pdf") }],
        ..request(folder.path(), "c")
    };
    // If one file can't be read, none of them is ordered.
    let [first, second] = both.clone();
    assert!(outbox.submit_run("run", &[first, missing, second], now).is_err());
    assert!(!outbox.is_ordered("run") && outbox.waiting().expect("read").is_empty());

    assert_eq!(outbox.submit_run("run", &both, now).expect("ordered").len(), 2);
    assert!(outbox.is_ordered("run") && !outbox.is_ordered("another run"));
    let waiting = outbox.waiting().expect("read");
    assert_eq!(waiting.len(), 2);
    // As after a crash: one order is not among the pending ones yet.
    let left = outbox.run("run").join(&waiting[0].id);
    fs::rename(outbox.pending().join(&waiting[0].id), &left).expect("moved");
    let work = work_off(&outbox, &config, now).await.expect("worked off");
    assert_eq!((work.delivered.len(), left.exists()), (2, false));
    assert!(outbox.is_ordered("run"));
    outbox.close_run("run").expect("closed");
    assert!(!outbox.is_ordered("run"));
    outbox.close_run("run").expect("closed");
}

#[test]
fn partial_rejections_remain_until_someone_is_notified() {
    let folder = tempfile::tempdir().expect("folder");
    let mut config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let now = UtcMicros(1_000_000);
    let refuse = |config: &Config, occasion: &str| {
        let submitted = outbox.submit(&request(folder.path(), occasion), now).expect("submitted");
        let Submitted::Waits(id) = submitted else {
            panic!("it waits");
        };
        let place = outbox.pending().join(&id);
        let mut order = Order::load(&place).expect("an order");
        let served = Served {
            recipient: "a@example.com".into(),
            at: String::new(),
            reply: "550 5.1.1 nobody".into(),
            refused: true,
        };
        order.done.insert("a@example.com whole".into(), served);
        order.save(&place).expect("saved");
        outbox.retire(config, &id).expect("retired");
        assert!(outbox.waiting().expect("read").is_empty());
    };
    // No one is left to notify.
    refuse(&config, "a");
    assert!(outbox.not_to_all().expect("read").is_empty());
    config.delivery.action_list = Some("bosses".parse().expect("a name"));
    refuse(&config, "b");
    let left = outbox.not_to_all().expect("read").remove(0);
    assert!(!outbox.refused().join(&left.id).join("file-0").exists());
}

#[test]
fn a_run_closed_while_others_look_for_it_blocks_no_one() {
    let folder = tempfile::tempdir().expect("folder");
    let outbox = Outbox::open(&config(folder.path())).expect("outbox");
    outbox.place_run(&outbox.run("run")).expect("nothing to do");
}

#[test]
fn a_stray_file_blocks_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let outbox = Outbox::open(&config(folder.path())).expect("outbox");
    fs::write(outbox.runs().join("stray"), "x").expect("written");
    outbox.tidy().expect("it goes on");
}

#[test]
fn a_dropped_order_can_be_ordered_again() {
    let folder = tempfile::tempdir().expect("folder");
    let outbox = Outbox::open(&config(folder.path())).expect("outbox");
    let now = UtcMicros(1_000_000);
    let order = || outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
    let Submitted::Waits(id) = order() else {
        panic!("it waits");
    };
    assert_eq!(outbox.drop_order(&id).expect("dropped"), Named::Done);
    let left = fs::read_dir(&outbox.folder).expect("a folder").flatten();
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| !name.to_string_lossy().starts_with(".draft-"))
    );
    assert_eq!(order(), Submitted::Waits(id));
    assert_eq!(outbox.waiting().expect("read").len(), 1);
}

#[tokio::test]
async fn partial_uploads_of_abandoned_orders_are_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let mut now = UtcMicros(1_000_000);
    outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
    // A folder occupies the file's name, and an earlier attempt left a partial upload.
    let file_store = folder.path().join("shelf");
    fs::create_dir_all(file_store.join("r.pdf")).expect("made");
    let part = file_store.join(format!(".r.pdf.{}.part", &hex(&Sha256::digest(b"%PDF"))[..8]));
    fs::write(&part, "%P").expect("written");
    assert_eq!(work_off(&outbox, &config, now).await.expect("tried").failed.len(), 1);
    assert!(part.exists());
    now = now + config.delivery.patience + config.delivery.longest_pause;
    assert_eq!(work_off(&outbox, &config, now).await.expect("tried").dead.len(), 1);
    assert!(!part.exists());
}

#[tokio::test]
async fn linked_files_are_removed_unless_another_delivery_uses_them() {
    for busy in [false, true] {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n\
                    [mail_server.a]\nserver = \"a.example.com\"\nfrom = \"reports@example.com\"\n\
                    [target.people]\nkind = \"email\"\nto = [\"a@example.com\"]\nattachments = \"1kB\"\nlink_to = \"shelf\"\n";
        fs::write(&file, text).expect("written");
        let config = mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let outbox = Outbox::open(&config).expect("outbox");
        let mut now = UtcMicros(1_000_000);
        let mut request = request(folder.path(), "a");
        request.target = "people".parse().expect("a name");
        let bytes = vec![b'x'; 3_000];
        fs::write(&request.items[0].path, &bytes).expect("written");
        outbox.submit(&request, now).expect("submitted");
        let file_store = folder.path().join("shelf");
        fs::create_dir_all(file_store.join("r.pdf")).expect("made");
        let part = file_store.join(format!(".r.pdf.{}.part", &hex(&Sha256::digest(&bytes))[..8]));
        fs::write(&part, "x").expect("written");
        let lock = busy.then(|| outbox.lock_target("shelf").expect("a lock"));
        assert_eq!(work_off(&outbox, &config, now).await.expect("tried").failed.len(), 1);
        now = now + config.delivery.patience + config.delivery.longest_pause;
        assert_eq!(work_off(&outbox, &config, now).await.expect("tried").dead.len(), 1);
        assert_eq!(part.exists(), busy);
        drop(lock);
    }
}

#[test]
fn an_order_that_gets_stuck_again_causes_another_notice() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    let outbox = Outbox::open(&config).expect("outbox");
    let mut now = UtcMicros(1_000_000);
    let submitted = outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
    let Submitted::Waits(id) = submitted else {
        panic!("it waits");
    };
    let place = outbox.pending().join(&id);
    let mut fail = |transient: bool| {
        now = now + Micros::from_secs(1);
        let error = DeliveryError::Server {
            server: "far:21".into(),
            step: "login".into(),
            reason: "530".into(),
            transient,
        };
        let there = Order::load(&place).expect("an order");
        Worker::new(&outbox, &config, now)
            .settle(there, Err(error), &mut Work::default())
            .expect("written");
        (Order::load(&place).expect("an order"), now)
    };
    let (first, _) = fail(false);
    let (same, _) = fail(false);
    assert_eq!(DeliveryProblem::Stuck.notice(&same), DeliveryProblem::Stuck.notice(&first));
    // Without intervention, and after an operator tried to fix it.
    fail(true);
    let (second, at) = fail(false);
    assert_ne!(DeliveryProblem::Stuck.notice(&second), DeliveryProblem::Stuck.notice(&first));
    assert_eq!(outbox.retry(&id, at).expect("retried"), Named::Done);
    let (third, _) = fail(false);
    assert_ne!(DeliveryProblem::Stuck.notice(&third), DeliveryProblem::Stuck.notice(&second));
}

#[tokio::test]
async fn failed_deliveries_are_retried_and_finally_given_up() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path());
    // A file occupies the name of the target's folder.
    fs::write(folder.path().join("shelf"), "x").expect("written");
    let outbox = Outbox::open(&config).expect("outbox");
    let mut now = UtcMicros(1_000_000);
    outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
    assert_eq!(work_off(&outbox, &config, now).await.expect("tried").failed.len(), 1);
    assert!(work_off(&outbox, &config, now).await.expect("too early").failed.is_empty());
    now = now + config.delivery.patience + config.delivery.longest_pause;
    assert_eq!(work_off(&outbox, &config, now).await.expect("tried").dead.len(), 1);
    let dead = outbox.given_up().expect("dead letters");
    assert!(dead[0].last_error.as_deref().is_some_and(|error| error.contains("shelf")));
    fs::remove_file(folder.path().join("shelf")).expect("mended");
    assert_eq!(outbox.retry(&dead[0].id, now).expect("retried"), Named::Done);
    assert_eq!(work_off(&outbox, &config, now).await.expect("tried").delivered.len(), 1);
    assert_eq!(outbox.retry("../../x", now).expect("no such order"), Named::Unknown);
}
