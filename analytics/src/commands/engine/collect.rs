//! Puts the lines of workers in order, and accepts only complete answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use mailqos_lake_tables::Lake;

use super::shard::{Content, End, Item, Line, Refusal, Shard};
use crate::commands::Failure;

/// How often the shards of a site are answered until all workers have read the same files.
const MAX_ATTEMPTS: usize = 4;

/// What runs workers.
pub(super) trait Runner {
    /// Runs a worker for each shard, in any order, and passes the lines of its output to `take`.
    /// Only the output of complete attempts is passed on; `done` is called after each shard.
    ///
    /// # Errors
    /// A worker failed in every attempt, or `take` failed.
    fn run(
        &self,
        shards: &[&Shard],
        take: &mut dyn FnMut(&str) -> Result<(), Failure>,
        done: &(dyn Fn() + Sync),
    ) -> Result<(), Failure>;

    /// Returns how many workers run at the same time.
    fn count(&self) -> usize;

    /// Returns the number of threads for each worker.
    fn threads(&self) -> usize;
}

/// The complete answer to a shard.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) items: Vec<Item>,
    /// Corrupt files, as paths within the lake, each with the reason.
    pub(super) skipped: BTreeMap<PathBuf, String>,
    /// Duplicates: file, monitor and number of rows.
    pub(super) duplicates: Vec<(PathBuf, String, usize)>,
    /// Whether some tests are not of kind `mail-qos`, in any attempt.
    pub(super) kinds: bool,
    /// Digest of the site's files.
    pub(super) files: String,
}

/// What has arrived of an answer.
#[derive(Debug, Default)]
struct Arrived {
    answer: Answer,
    refusal: Option<Refusal>,
    end: Option<End>,
}

/// Returns the answers to all shards, in their order. A site whose workers have not all read the
/// same files, or skipped the same corrupt ones, is answered again.
///
/// # Errors
/// A worker failed, an answer is incomplete, or the files of a site changed in every attempt.
pub(super) fn all(
    shards: &mut [Shard],
    runner: &dyn Runner,
    lake: &Lake,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Answer>, Failure> {
    let mut arrived: BTreeMap<usize, Arrived> = BTreeMap::new();
    let mut sites: BTreeSet<String> = shards.iter().map(|shard| shard.site.clone()).collect();
    let mut kinds = false;
    for _ in 0..MAX_ATTEMPTS {
        if sites.is_empty() {
            break;
        }
        let open: Vec<&Shard> = shards.iter().filter(|shard| sites.contains(&shard.site)).collect();
        let asked: BTreeSet<usize> = open.iter().map(|shard| shard.shard).collect();
        arrived.retain(|shard, _| !asked.contains(shard));
        runner.run(&open, &mut |line| take(line, &asked, &mut arrived), done)?;
        for shard in open {
            let answer = arrived.remove(&shard.shard).unwrap_or_default();
            let answer = complete(shard, answer, lake)?;
            kinds |= answer.end.as_ref().is_some_and(|end| end.kinds);
            arrived.insert(shard.shard, answer);
        }
        sites = differing(shards, &arrived);
        leave_out(shards, &sites, &arrived);
    }
    if let Some(site) = sites.first() {
        return Err(Failure::work_help(
            format!("the files of the site {site} changed while workers were reading them"),
            "try again, or end the period before the current day",
        ));
    }
    let in_order = arrived.into_values().map(|Arrived { mut answer, end, .. }| {
        answer.kinds = kinds;
        answer.files = end.and_then(|end| end.files).unwrap_or_default();
        answer
    });
    Ok(in_order.collect())
}

fn take(
    line: &str,
    asked: &BTreeSet<usize>,
    arrived: &mut BTreeMap<usize, Arrived>,
) -> Result<(), Failure> {
    let found: Line = serde_json::from_str(line).map_err(|error| {
        Failure::work_help(
            format!("a worker wrote a line that is not an answer: {error}"),
            "its program must be mailqos-analytics in the same version, and must not write anything else to its \
             standard output",
        )
    })?;
    let answer = arrived.entry(found.shard).or_default();
    if !asked.contains(&found.shard) || answer.end.is_some() || answer.refusal.is_some() {
        return Err(Failure::work(format!(
            "a worker wrote an answer to shard {} that was not expected",
            found.shard
        )));
    }
    match found.content {
        Content::Item(item) => answer.answer.items.push(item),
        Content::Skipped(path, reason) => {
            answer.answer.skipped.insert(path, reason);
        }
        Content::Duplicate(path, monitor, count) => {
            answer.answer.duplicates.push((path, monitor, count));
        }
        Content::Failed(refusal) => answer.refusal = Some(refusal),
        Content::End(end) => answer.end = Some(end),
    }
    Ok(())
}

/// Fails unless a shard was answered completely.
fn complete(shard: &Shard, mut answer: Arrived, lake: &Lake) -> Result<Arrived, Failure> {
    if let Some(refusal) = answer.refusal.take() {
        return Err(refusal.failure(|path| lake.outer_path(&path)));
    }
    let missing = match &answer.end {
        None if answer.answer.items.is_empty() => "there is none".to_owned(),
        None => "its end is missing".to_owned(),
        Some(end) if end.items != answer.answer.items.len() => {
            format!("{} of {} series arrived", answer.answer.items.len(), end.items)
        }
        Some(_) => return Ok(answer),
    };
    Err(Failure::work_help(
        format!(
            "the answer to shard {} of the site {} is incomplete: {missing}",
            shard.shard, shard.site
        ),
        "try again; if it happens again, read the standard error of the worker",
    ))
}

/// Returns the sites whose workers did not all read the same files and skip the same corrupt ones.
fn differing(shards: &[Shard], arrived: &BTreeMap<usize, Arrived>) -> BTreeSet<String> {
    type Read<'a> = (Option<&'a str>, Vec<&'a PathBuf>);
    let mut read: BTreeMap<&str, BTreeSet<Read<'_>>> = BTreeMap::new();
    for shard in shards {
        let Some(Arrived { answer, end: Some(end), .. }) = arrived.get(&shard.shard) else {
            continue;
        };
        let skipped = answer.skipped.keys().collect();
        read.entry(&shard.site).or_default().insert((end.files.as_deref(), skipped));
    }
    let differs =
        |read: &BTreeSet<Read<'_>>| read.len() > 1 || read.iter().any(|(files, _)| files.is_none());
    let sites = read.into_iter().filter(|(_, read)| differs(read));
    sites.map(|(site, _)| site.to_owned()).collect()
}

/// Lets all workers of a site skip the corrupt files that any of them has found: otherwise the
/// figures of some monitors would include a file that is missing in those of others.
fn leave_out(shards: &mut [Shard], sites: &BTreeSet<String>, arrived: &BTreeMap<usize, Arrived>) {
    let mut corrupt: BTreeMap<String, BTreeMap<PathBuf, String>> = BTreeMap::new();
    for shard in shards.iter().filter(|shard| sites.contains(&shard.site)) {
        let of_site = corrupt.entry(shard.site.clone()).or_default();
        for (path, reason) in arrived.get(&shard.shard).iter().flat_map(|it| &it.answer.skipped) {
            of_site.entry(path.clone()).or_insert_with(|| reason.clone());
        }
    }
    for shard in shards {
        if let Some(of_site) = corrupt.get(&shard.site) {
            shard.left_out.clone_from(of_site);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, path::Path};

    use mailqos_figures::{Calendar, Period};
    use mailqos_lake_tables::SeriesQuery;
    use mailqos_model::UtcMicros;

    use super::{
        super::shard::{PROTOCOL, Question, Work},
        *,
    };

    /// Returns prepared lines, one list per attempt.
    struct Prepared(RefCell<Vec<Vec<String>>>);

    impl Runner for Prepared {
        fn run(
            &self,
            _: &[&Shard],
            take: &mut dyn FnMut(&str) -> Result<(), Failure>,
            _: &(dyn Fn() + Sync),
        ) -> Result<(), Failure> {
            let lines = self.0.borrow_mut().remove(0);
            lines.iter().try_for_each(|line| take(line))
        }

        fn count(&self) -> usize {
            1
        }

        fn threads(&self) -> usize {
            1
        }
    }

    fn shards() -> Vec<Shard> {
        let calendar = Calendar::new(jiff::tz::TimeZone::UTC);
        let period = Period::new(UtcMicros(0), UtcMicros(1), calendar).expect("a period");
        let query = SeriesQuery::new(&period);
        let work = Work::Outages { long: false };
        let question = Question::new(&query, &period, UtcMicros(1), work).expect("a question");
        let shard = |shard: usize, site: &str| Shard {
            protocol: PROTOCOL,
            program: "1".into(),
            shard,
            data: "/nowhere".into(),
            config: None,
            site: site.into(),
            from: None,
            to: None,
            monitors: BTreeSet::new(),
            skip_corrupt: false,
            left_out: BTreeMap::new(),
            threads: 1,
            question: question.clone(),
        };
        vec![shard(0, "a"), shard(1, "a"), shard(2, "b")]
    }

    fn item(shard: usize) -> String {
        format!(
            r#"{{"shard":{shard},"content":{{"item":{{"outages":{{"empty":false,"rows":[]}}}}}}}}"#
        )
    }

    fn end(shard: usize, items: usize, files: &str) -> String {
        let files = if files.is_empty() { "null".to_owned() } else { format!("{files:?}") };
        format!(
            r#"{{"shard":{shard},"content":{{"end":{{"items":{items},"kinds":false,"files":{files}}}}}}}"#
        )
    }

    fn asked(attempts: Vec<Vec<String>>) -> Result<Vec<usize>, String> {
        // Only the paths of its files matter, and it has none.
        let lake = Lake::open(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a lake");
        let runner = Prepared(RefCell::new(attempts));
        let answers = all(&mut shards(), &runner, &lake, &|| {});
        let items = answers.map(|all| all.iter().map(|answer| answer.items.len()).collect());
        items.map_err(|failure| failure.text())
    }

    #[test]
    fn complete_answers_are_put_in_order() {
        let lines = vec![end(2, 0, "x"), item(1), item(0), item(0), end(1, 1, "y"), end(0, 2, "y")];
        assert_eq!(asked(vec![lines]), Ok(vec![2, 1, 0]));
    }

    #[test]
    fn an_incomplete_or_strange_answer_is_refused() {
        let rest = [end(0, 0, "y"), end(2, 0, "x")];
        let mut wrong = vec![
            // No end: the output was cut.
            vec![item(1)],
            // Nothing at all.
            vec![],
            // A series is missing.
            vec![end(1, 1, "y")],
            vec![item(1), item(1), end(1, 1, "y")],
            // Two attempts of the same task.
            vec![end(1, 0, "y"), end(1, 0, "y")],
            vec![end(1, 0, "y"), item(1)],
            // No one asked.
            vec![end(1, 0, "y"), end(7, 0, "y")],
        ];
        for garbage in ["", "null", "Picked up _JAVA_OPTIONS: -Xmx1g", "{\"shard\":1}"] {
            wrong.push(vec![end(1, 0, "y"), garbage.to_owned()]);
        }
        for lines in wrong {
            let all: Vec<String> = rest.iter().cloned().chain(lines).collect();
            assert!(asked(vec![all.clone()]).is_err(), "{all:?}");
        }
    }

    #[test]
    fn a_site_whose_files_changed_is_answered_again() {
        let first = vec![end(0, 0, "old"), end(1, 0, "new"), end(2, 0, "x")];
        let second = vec![item(0), end(0, 1, "new"), end(1, 0, "new")];
        assert_eq!(asked(vec![first.clone(), second.clone()]), Ok(vec![1, 0, 0]));
        // The only shard of a site noticed it itself.
        let during = vec![end(0, 0, "new"), end(1, 0, "new"), end(2, 0, "")];
        assert_eq!(asked(vec![during, vec![item(2), end(2, 1, "x")]]), Ok(vec![0, 0, 1]));
        let again = || vec![end(0, 0, "old"), end(1, 0, "new")];
        let error = asked(vec![first, again(), again(), again()]).expect_err("refused");
        assert!(error.contains("the files of the site a changed"), "{error}");
    }

    #[test]
    fn a_file_that_one_worker_skips_is_skipped_by_all() {
        let skipped = |shard: usize| {
            format!(r#"{{"shard":{shard},"content":{{"skipped":["samples/x","torn"]}}}}"#)
        };
        let first = vec![skipped(0), end(0, 0, "y"), end(1, 0, "y"), end(2, 0, "x")];
        let second = vec![skipped(0), item(0), end(0, 1, "z"), skipped(1), end(1, 0, "z")];
        assert_eq!(asked(vec![first, second]), Ok(vec![1, 0, 0]));
    }

    #[test]
    fn a_corrupt_file_is_reported_once_and_not_as_incomplete() {
        let corrupt = |shard: usize| {
            format!(
                r#"{{"shard":{shard},"content":{{"failed":{{"corrupt":["samples/x","torn"]}}}}}}"#
            )
        };
        let error = asked(vec![vec![corrupt(0), corrupt(1), end(2, 0, "x")]]).expect_err("refused");
        assert_eq!(error.matches("samples/x").count(), 1, "{error}");
    }
}
