//! Reads the key `deliver` of a definition, and detects runs that would write the same file.

use std::collections::BTreeSet;

use mailqos_config::{
    Config, Node, Problem, Problems, Table, did_you_mean, foreign_variable,
    key::{Defaulted, Optional, Required, key, only_words},
    keys,
    reference::{Key, ValueKind},
};
use mailqos_model::Name;

use super::{
    definition::{Definition, Delivery, Format, Grouping},
    naming::{Clash, NameError, Writes},
    sections::strings,
};

keys! {
    DELIVER: DeliverKeys {
        /// A `[target.NAME]` of the configuration.
        target: Required<Name> = key();
        /// Folders below the target's own.
        path: Defaulted<String> = key().default("\"\"");
        /// The files' name, without the extension.
        name: Optional<String> = key().otherwise("the name of the report's files");
        /// Allow runs to share a name: the newest report replaces the previous one.
        overwrite: Defaulted<bool> = key().default("false");
        /// Only these formats.
        formats: Key = Key::new("", ValueKind::SomeOf(FORMATS), "")
            .otherwise("all; by mail, all except the page, which is the mail itself");
    }
}

/// Formats by their words.
pub(super) const FORMATS: &[&str] = &only_words(&Format::ALL);

/// Reads the deliveries, with the position of each in the file: tables, or just names of targets.
pub(super) fn read(
    table: &mut Table,
    key: &Key,
    config: Option<&Config>,
    each: Grouping,
    problems: &mut Problems,
) -> (Vec<Delivery>, Vec<Node>) {
    let Some(node) = table.list(key) else {
        return (Vec::new(), Vec::new());
    };
    let read = node.as_names().into_iter().filter_map(|item| {
        let delivery = match item.as_table() {
            Some(table) => delivery(table, config, each, problems),
            None => shorthand(&item, config, problems),
        };
        delivery.map(|delivery| (delivery, item))
    });
    read.unzip()
}

/// Reads `deliver = ["people", "archive"]`, the names of targets without further options.
fn shorthand(node: &Node, config: Option<&Config>, problems: &mut Problems) -> Option<Delivery> {
    let target: Name = node.read(problems)?;
    known(node, &target, config, problems);
    Some(Delivery {
        target,
        path: String::new(),
        name: String::new(),
        formats: BTreeSet::new(),
        overwrite: false,
    })
}

fn delivery(
    mut delivery: Table,
    config: Option<&Config>,
    each: Grouping,
    problems: &mut Problems,
) -> Option<Delivery> {
    let target: Option<Name> = delivery.require(
        &DELIVER.target,
        "the name of a [target.NAME] in the configuration",
        problems,
    );
    if let (Some(target), Some(node)) = (&target, delivery.node(&DELIVER.target)) {
        known(&node, target, config, problems);
    }
    let path = delivery.read(&DELIVER.path, problems);
    let name = delivery.read(&DELIVER.name, problems).unwrap_or_default();
    let overwrite = delivery.read(&DELIVER.overwrite, problems);
    if path.split(['/', '\\']).any(|part| part.trim() == "..") {
        problems.push(delivery.problem(
            &DELIVER.path,
            "the folder would be outside the target's folder",
            "here",
        ));
    }
    let names: [(&Key, &String); 2] = [(&DELIVER.path, &path), (&DELIVER.name, &name)];
    for (key, text) in names {
        if let Some(sign) = foreign_variable(text) {
            problems.push(
                delivery
                    .problem(
                        key,
                        format!("{sign} is not a variable here and would appear literally in the name"),
                        "not a variable",
                    )
                    .help("use variables such as {{ period.year }}-{{ period.month }}; see docs/delivery.md"),
            );
        }
    }
    if !name.is_empty()
        && each != Grouping::All
        && !(name.contains("report.stem") || path.contains("report.stem"))
    {
        problems.push(
            delivery
                .problem(&DELIVER.name, "several reports would have the same name", "here")
                .help("add {{ report.stem }}, which differs between reports"),
        );
    }
    let formats = formats_of(&mut delivery, &DELIVER.formats, problems);
    delivery.finish(problems);
    Some(Delivery { target: target?, path, name, formats, overwrite })
}

/// Reads a list of formats.
pub(super) fn formats_of(
    table: &mut Table,
    key: &Key,
    problems: &mut Problems,
) -> BTreeSet<Format> {
    let words: Vec<String> = strings(table, key, problems);
    words
        .iter()
        // `formats = "pdf, html"`.
        .flat_map(|word| word.split(','))
        .filter_map(|word| {
            let word = word.trim().trim_start_matches('.').to_lowercase();
            let meant = match word.as_str() {
                "excel" | "xls" | "workbook" => Some("xlsx"),
                "htm" | "web" => Some("html"),
                _ => None,
            };
            let known = Format::ALL.iter().find(|(name, _)| *name == word);
            if known.is_none() {
                let all: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
                problems.push(
                    table.problem(key, format!("{word:?} is not a report format"), "unknown").help(
                        match meant {
                            Some(meant) => format!("did you mean {meant:?}?"),
                            None => format!("use one or more of: {}", all.join(", ")),
                        },
                    ),
                );
            }
            if let Some((name, _)) = known.filter(|(_, format)| !format.is_built_in()) {
                problems.push(
                    table
                        .problem(key, format!("this build cannot write {name}"), "not built in")
                        .help(format!(
                            "build it with the cargo feature {name:?}, or omit the format"
                        )),
                );
            }
            known.map(|(_, format)| *format)
        })
        .collect()
}

fn known(node: &Node, target: &Name, config: Option<&Config>, problems: &mut Problems) {
    let Some(config) = config.filter(|config| !config.targets.contains_key(target)) else {
        return;
    };
    let known = config.targets.keys().map(Name::as_str);
    let help = did_you_mean(target.as_str(), known.clone(), || {
        format!("available: {}", known.collect::<Vec<_>>().join(", "))
    });
    problems
        .push(node.problem(format!("unknown target {:?}", target.as_str()), "unknown").help(help));
}

/// Reports file names that two runs of the definition would share, and invalid name templates.
pub(super) fn check(
    definition: &Definition,
    places: &[Node],
    config: &Config,
    problems: &mut Problems,
) {
    if problems.has_errors() {
        return;
    }
    let at = |number: usize, message: String| match places.get(number) {
        Some(node) => node.problem(message, "here"),
        None => Problem::error(message),
    };
    match Writes::new().add(definition, config) {
        Ok(clashes) => {
            for clash in clashes {
                problems.push(at(clash.delivery, clash.to_string()).help(clash.help()));
            }
        }
        Err(error) => {
            let is_it = |delivery: &Delivery| is_of(&error, delivery);
            let number = definition.deliveries.iter().position(is_it).unwrap_or(0);
            problems
                .push(at(number, error.to_string()).help("see docs/delivery.md for the variables"));
        }
    }
}

fn is_of(error: &NameError, delivery: &Delivery) -> bool {
    delivery.name == error.template
        || delivery.path == error.template
        || error.key == format!("the path of target.{}", delivery.target)
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, file, runs, other, .. } = self;
        match other {
            Some(other) => write!(
                f,
                "the run of {} would overwrite {file:?} in the target {target}, which the definition {other} \
                 also writes",
                runs.1
            ),
            None => write!(
                f,
                "the run of {} would overwrite {file:?} in the target {target}, which the run of {} has written",
                runs.1, runs.0
            ),
        }
    }
}

impl Clash {
    /// Returns the remedy.
    pub(super) fn help(&self) -> &'static str {
        match self.other {
            Some(_) => {
                "add {{ report.slug }} to the name or the path, or set overwrite = true to allow this"
            }
            None => {
                "add {{ period.stem }}, which differs between periods, to the name or the path, or set \
                 overwrite = true to let each report replace the previous one"
            }
        }
    }
}

/// Detects files that two definitions would write to the same target, and returns the later
/// definition of each pair with its problem.
pub fn among(definitions: &[Definition], config: &Config) -> Vec<(usize, Problems)> {
    let mut writes = Writes::new();
    let mut wrong = Vec::new();
    for (number, definition) in definitions.iter().enumerate() {
        let clashes = writes.add(definition, config).unwrap_or_default();
        let mut problems = Problems::default();
        for clash in clashes.iter().filter(|clash| clash.other.is_some()) {
            problems
                .push(Problem::error(format!("{}: {clash}", definition.slug)).help(clash.help()));
        }
        if problems.has_errors() {
            wrong.push((number, problems));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::definitions;

    const TARGETS: &str = "site = \"here\"\ntimezone = \"Europe/Berlin\"\n\
        [target.archive]\nkind = \"folder\"\npath = \"archive\"\n\
        [target.dated]\nkind = \"folder\"\npath = \"dated/{{ period.year }}/{{ period.month }}/{{ period.day }}\"\n\
        [mail_server.a]\nserver = \"a.example.com\"\nfrom = \"reports@example.com\"\n\
        [target.people]\nkind = \"email\"\nto = \"anna@example.com\"\n\
        [target.linked]\nkind = \"email\"\nto = \"anna@example.com\"\nlink_to = \"archive\"\n";

    fn config(folder: &Path) -> Config {
        let file = folder.join("mailqos.toml");
        std::fs::write(&file, TARGETS).expect("written");
        mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Returns the problem of a definition with these lines, or an empty text.
    fn wrong(lines: &str, schedule: &str, deliver: &str) -> String {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let file = folder.path().join("r.toml");
        let text = format!(
            "title = \"x\"\n{lines}\n{deliver}\n[schedule]\n{schedule}\n[[section]]\nkind = \"phases\"\n"
        );
        std::fs::write(&file, text).expect("written");
        definitions::load(Some(&config), &file)
            .map_or_else(|problems| problems.to_string(), |_| String::new())
    }

    #[test]
    fn names_that_two_runs_would_share_are_refused() {
        let hourly = ("period = \"last-hour\"", "cron = \"0 * * * *\"");
        let daily = ("period = \"yesterday\"", "every = \"day\"");
        let weekly = ("period = \"last-week\"", "every = \"week\"");
        let monthly = ("period = \"last-month\"", "every = \"month\"");
        let yearly = ("period = \"last-year\"", "every = \"year\"");
        for ((period, schedule), deliver, shared) in [
            // The default name contains the hour.
            (hourly, "deliver = \"archive\"", false),
            (hourly, "deliver = { target = \"archive\", name = \"{{ period.from }}\" }", true),
            (
                hourly,
                "deliver = { target = \"archive\", name = \"{{ period.from }}-{{ period.hour }}\" }",
                false,
            ),
            (
                hourly,
                "deliver = { target = \"archive\", path = \"{{ period.hour }}\", name = \"{{ period.from }}\" }",
                false,
            ),
            // 2029 begins and ends with week 1.
            (
                weekly,
                "deliver = { target = \"archive\", name = \"{{ period.year }}-W{{ period.week }}\" }",
                true,
            ),
            (
                weekly,
                "deliver = { target = \"archive\", name = \"{{ period.week_year }}-W{{ period.week }}\" }",
                false,
            ),
            (hourly, "deliver = { target = \"archive\", name = \"{{ period.stem }}\" }", false),
            (
                hourly,
                "deliver = { target = \"archive\", name = \"{{ report.date }}-{{ report.time }}\" }",
                false,
            ),
            (hourly, "deliver = { target = \"archive\", name = \"{{ period.hour }}\" }", true),
            (daily, "deliver = { target = \"archive\", name = \"{{ period.day }}\" }", true),
            (
                daily,
                "deliver = { target = \"archive\", name = \"{{ period.month }}-{{ period.day }}\" }",
                true,
            ),
            (daily, "deliver = { target = \"archive\", name = \"{{ period.from }}\" }", false),
            (
                daily,
                "deliver = { target = \"archive\", name = \"{{ period.year }}-{{ period.week }}\" }",
                true,
            ),
            (monthly, "deliver = { target = \"archive\", name = \"{{ period.month }}\" }", true),
            (monthly, "deliver = { target = \"archive\", name = \"{{ period.year }}\" }", true),
            (
                monthly,
                "deliver = { target = \"archive\", name = \"{{ period.year }}-{{ period.month }}\" }",
                false,
            ),
            (monthly, "deliver = { target = \"archive\", name = \"latest\" }", true),
            (
                monthly,
                "deliver = { target = \"archive\", name = \"latest\", overwrite = true }",
                false,
            ),
            (yearly, "deliver = { target = \"archive\", name = \"{{ period.year }}\" }", false),
            (yearly, "deliver = { target = \"archive\", name = \"{{ report.slug }}\" }", true),
            // The path of the target may or may not distinguish them.
            (daily, "deliver = { target = \"dated\", name = \"r\" }", false),
            (hourly, "deliver = { target = \"dated\", name = \"r\" }", true),
            // A mail is not a file, but the files that it links to are.
            (daily, "deliver = { target = \"people\", name = \"r\" }", false),
            (daily, "deliver = { target = \"linked\", name = \"r\" }", true),
            // A newer report on the same period replaces the previous one.
            (("period = \"current-month\"", "every = \"day\""), "deliver = \"archive\"", false),
            (("period = \"last-24h\"", "cron = \"0 * * * *\""), "deliver = \"archive\"", false),
        ] {
            let said = wrong(period, schedule, deliver);
            assert_eq!(said.contains("would overwrite"), shared, "{schedule} {deliver}: {said}");
            assert_eq!(said.is_empty(), !shared, "{schedule} {deliver}: {said}");
        }
    }

    #[test]
    fn the_short_form_names_targets() {
        let monthly = "every = \"month\"\non = 1";
        let fine = |deliver: &str| wrong("period = \"last-month\"", monthly, deliver);
        assert_eq!(fine("deliver = [\"people\", \"archive\"]"), "");
        assert_eq!(fine("deliver = \"people\""), "");
        assert_eq!(fine("deliver = \"people, archive\""), "");
        assert_eq!(fine("deliver = [\"people\", { target = \"archive\", path = \"x\" }]"), "");
        assert_eq!(fine("delivers = \"people\""), "");
        let said = fine("deliver = [\"people\", \"archiv\"]");
        assert!(
            said.contains("unknown target \"archiv\"")
                && said.contains("did you mean \"archive\"?"),
            "{said}"
        );
        assert!(fine("deliver = 1").contains("expected a name"));
        let said = fine("deliver = { target = \"archive\", path = \"{{ periode.year }}\" }");
        assert!(said.contains("deliver.path \"{{ periode.year }}\""), "{said}");
        for sign in ["%Y", "{year}"] {
            let said = fine(&format!("deliver = {{ target = \"archive\", path = \"{sign}\" }}"));
            assert!(
                said.contains(&format!(
                    "{sign} is not a variable here and would appear literally in the name"
                )),
                "{said}"
            );
        }
    }

    #[test]
    fn schedules_are_read_as_people_write_them() {
        for (schedule, problem) in [
            ("every = \"month\"\non = 1", ""),
            ("every = \"month\"\non = \"1\"", ""),
            ("every = \"Month\"\non = \"Last\"", ""),
            ("every = \"month\"\non = \"first monday\"", ""),
            ("every = \"week\"\non = \"Monday\"", ""),
            ("every = \"week\"\non = \"Fri\"\nat = 06:30:00", ""),
            ("every = \"day\"\nat = \"7:00\"", ""),
            ("every = \"months\"\non = \"1st\"", ""),
            ("every = \"month\"\non = \"1.\"", ""),
            ("every = \"month\"\non = \"Last day\"", ""),
            ("every = \"month\"\non = \"first\"", ""),
            ("every = \"week\"\non = \"Mondays\"\nat = \"7 am\"", ""),
            ("every = \"day\"\nat = \"7.30 Uhr\"", ""),
            ("every = \"day\"\nat = \"12:15 p.m.\"", ""),
            ("every = \"day\"\nat = \"13:15 pm\"", "is not a time of day"),
            ("every = \"day\"\nat = [\"07:00\", \"19:00\"]", "cron = \"0 7,19 * * *\""),
            ("every = \"month\"\non = [1, 15]", "cron = \"0 7 1,15 * *\""),
            ("every = \"day\"\ncatch_up = true", "use one of: all, latest, none"),
            ("every = \"day\"\ngrace = 30", "\"30m\" for minutes"),
            ("every = \"day\"\nat = 7\ngrace = \"30 minutes\"", ""),
            ("every = \"month\"\non = 32", "is not a day of the month"),
        ] {
            let said = wrong(
                "period = \"last-month\"\nformat = \"PDF, .html\"\nmonitor = \"*\"",
                schedule,
                "deliver = \"people\"",
            );
            assert_eq!(said.is_empty(), problem.is_empty(), "{schedule}: {said}");
            assert!(said.contains(problem), "{schedule}: {said}");
        }
    }

    #[test]
    fn two_definitions_that_write_one_file_are_found() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let load = |name: &str, period: &str, file_name: &str| {
            let file = folder.path().join(name);
            let text = format!(
                "title = \"x\"\nperiod = \"{period}\"\n[schedule]\nevery = \"month\"\n[[section]]\nkind = \"phases\"\n\
                 [[deliver]]\ntarget = \"archive\"\nname = \"{file_name}\"\n"
            );
            std::fs::write(&file, text).expect("written");
            definitions::load(Some(&config), &file).unwrap_or_else(|problems| panic!("{problems}"))
        };
        let stem = "{{ report.stem }}";
        let apart = [load("a.toml", "last-month", stem), load("b.toml", "last-month", stem)];
        assert!(among(&apart, &config).is_empty());
        let name = "mail-{{ period.stem }}";
        let same = [
            load("a.toml", "last-month", name),
            load("b.toml", "last-month", "Mail-{{ period.stem }}"),
        ];
        let found = among(&same, &config);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 1);
        let said = found[0].1.to_string();
        assert!(said.contains("which the definition a also writes"), "{said}");
    }

    #[test]
    fn reports_for_each_monitor_that_have_another_reports_name_are_found() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("mailqos.toml");
        let monitor = "from = \"a@b.example\"\nto = \"a@b.example\"\npickup = { protocol = \"pop3\", account = \"a\" }\n\
            smtp = { port = 25, tls = \"none\" }\n";
        let text = format!(
            "{TARGETS}[account.a]\nuser = \"a\"\npassword = {{ env = \"A\" }}\n[object.mail1]\naddress = \"mail.example.com\"\n\
             [monitor.berlin]\nobject = \"mail1\"\n{monitor}[monitor.x-berlin]\nobject = \"mail1\"\n{monitor}"
        );
        std::fs::write(&file, text).expect("written");
        let config = mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let load = |slug: &str, lines: &str| {
            let file = folder.path().join(format!("{slug}.toml"));
            let text = format!(
                "title = \"x\"\nperiod = \"last-month\"\ndeliver = \"archive\"\n{lines}\n[schedule]\nevery = \"month\"\n\
                 [[section]]\nkind = \"phases\"\n"
            );
            std::fs::write(&file, text).expect("written");
            definitions::load(Some(&config), &file).unwrap_or_else(|problems| panic!("{problems}"))
        };
        let each = "each = \"monitor\"";
        for (first, second, clashes) in [
            // Both generate mail-x-berlin.
            (("mail", each), ("mail-x", each), true),
            (("mail", each), ("mail-berlin", ""), true),
            (("mail", each), ("MAIL-BERLIN", ""), true),
            (("mail", each), ("mail-paris", ""), false),
            (("mail", each), ("post", each), false),
            (("mail", "each = \"monitor\"\nmonitors = \"x-*\""), ("mail-berlin", ""), false),
        ] {
            let both = [load(first.0, first.1), load(second.0, second.1)];
            let found = among(&both, &config);
            assert_eq!(!found.is_empty(), clashes, "{first:?} {second:?}");
        }
    }
}
