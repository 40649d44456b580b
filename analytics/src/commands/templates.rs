//! `mailqos-analytics templates`: lists, shows, creates and validates report templates.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use mailqos_config::{Config, Problem, Problems, reference::schema};
use mailqos_model::Name;
use mailqos_report::{
    definitions,
    media::{self, specimen},
    reference::{FILES, REPORTS},
    sections, theme,
};

use super::{Failure, Global, print};

/// Options of `templates`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List templates; yours override built-in ones of the same name.
    List,
    /// Print a template, as a starting point for your own.
    Show {
        /// Name of the template.
        name: String,
    },
    /// Create a template in the configuration's folder as a copy of another.
    New {
        /// Name of the template.
        name: String,
        /// Template to copy.
        #[arg(long, value_name = "NAME", default_value = "executive-summary")]
        from: String,
        /// Also create layouts for HTML, print and mail that extend the built-in ones.
        #[arg(long)]
        layout: bool,
    },
    /// Create a theme: colours, logo, fonts, header, footer, language and formats in one file.
    Theme {
        /// Name of the theme; `house` applies to every report that names no other.
        #[arg(default_value = theme::HOUSE)]
        name: String,
    },
    /// List the kinds of sections for templates and definitions.
    Sections,
    /// Print the JSON Schema of a kind of file for editors.
    Schema {
        /// Kind of file.
        #[arg(value_name = "KIND", default_value = FILES[0], value_parser = FILES)]
        file: String,
    },
    /// Validate templates and definitions [default: all configured].
    Check {
        /// Names of templates or files of definitions.
        names: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// There is no such template, or one is invalid.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    // The built-in templates need no configuration.
    let config = if global.config.is_some() || global.config_file().is_file() {
        Some(global.load()?)
    } else {
        None
    };
    let config = config.as_ref();
    match args.action {
        Action::List => {
            let mut text = String::new();
            for name in definitions::template_names(config) {
                let mut problems = Problems::default();
                let about = definitions::template(config, &name, &mut problems).map_or_else(
                    || "invalid: see `templates check`".to_owned(),
                    |template| template.description,
                );
                text.push_str(&format!("{name}  {about}\n"));
            }
            print(text)?;
        }
        Action::Show { name } => {
            let (_, text) = definitions::template_text(config, &name).map_err(|problem| {
                let mut problems = Problems::default();
                problems.push(problem);
                Failure::Configuration(problems)
            })?;
            print(text)?;
        }
        Action::Theme { name } => {
            let name = file_name(&name)?;
            let folder = theme::folder(config);
            let file = folder.join(format!("{name}.toml"));
            begin(&file, theme::EXAMPLE)?;
        }
        Action::New { name, from, layout } => {
            let name = file_name(&name)?;
            let (_, text) = definitions::template_text(config, &from).map_err(|problem| {
                let mut problems = Problems::default();
                problems.push(problem);
                Failure::Configuration(problems)
            })?;
            let folder = config
                .map_or_else(|| PathBuf::from("templates"), |config| config.templates.clone());
            let file = folder.join(format!("{name}.toml"));
            if !layout {
                begin(&file, &text)?;
            } else {
                // Keys of the template itself must precede its first section.
                begin(&file, &format!("layout = \"{name}\"\n{text}"))?;
                for (path, text) in media::new_layout(name.as_str()) {
                    begin(&folder.join(path), text)?;
                }
            }
        }
        Action::Sections => {
            let mut text = String::new();
            for (kind, shows) in sections::kinds() {
                text.push_str(&format!("{kind}  {shows}\n"));
            }
            print(text)?;
        }
        Action::Schema { file } => {
            let text =
                serde_json::to_string_pretty(&schema(&REPORTS, &file)).map_err(Failure::work)?;
            print(text + "\n")?;
        }
        Action::Check { names } => check(names, config)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the problems of templates and definitions: the named ones, or all of the configuration's.
fn check(names: Vec<String>, config: Option<&Config>) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let mut checked = 0;
    let (mut templates, mut files) = (Vec::new(), Vec::new());
    if names.is_empty() {
        templates.extend(definitions::template_names(config));
        if let Some(config) = config {
            files.extend(definitions::files(config)?);
        }
    }
    for name in names {
        let file = definitions::find(config, &name);
        if file.is_file() {
            files.push(file);
        } else {
            templates.push(name);
        }
    }
    // Layouts and partials are tested on a document with a block of every kind, once for each one
    // in use.
    let mut tried = BTreeMap::new();
    let mut definitions = Vec::new();
    let found = templates
        .iter()
        .map(|name| definitions::of_template(config, name))
        .chain(files.iter().map(|file| definitions::load(config, file)));
    for found in found {
        checked += 1;
        match found {
            Ok(definition) => {
                let layout = definition.template.layout.clone();
                tried.entry(layout).or_insert_with(|| definition.theme.clone());
                definitions.push(definition);
            }
            Err(found) => problems.append(found),
        }
    }
    if let Some(config) = config {
        for (_, found) in mailqos_report::among(&definitions, config) {
            problems.append(found);
        }
    }
    if let Some(config) = config {
        let mut said = BTreeSet::new();
        for (layout, theme) in &tried {
            for error in specimen::check(&theme.resolve(), layout.as_deref(), &config.templates) {
                // A problem with a partial would appear for every layout.
                if said.insert(error.to_string()) {
                    problems.push(Problem::error(error.to_string()));
                }
            }
        }
    }
    if problems.has_errors() {
        return Err(Failure::Configuration(problems));
    }
    eprintln!("{checked} checked, no problems");
    Ok(())
}

fn file_name(name: &str) -> Result<Name, Failure> {
    name.parse().map_err(|error| {
        Failure::usage(
            format!("{name:?}: {error}"),
            "use the template's file name without extension, such as head-office",
        )
    })
}

/// Creates a file and prints its path; existing files are never overwritten.
fn begin(file: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let created = std::fs::File::options().write(true).create_new(true).open(file);
    let mut created = created.map_err(|error| {
        Failure::work_help(format!("{}: {error}", file.display()), "choose another name")
    })?;
    std::io::Write::write_all(&mut created, text.as_bytes())?;
    print(format!("{}\n", file.display()))
}
