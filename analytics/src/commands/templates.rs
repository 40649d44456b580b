//! `mailqos-analytics templates`: lists, shows and checks report templates.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use mailqos_core::{config::Problems, model::Name};

use super::{Failure, Global, print};
use crate::report::{definition, sections};

/// Options of `templates`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The templates there are, the user's own first among equals.
    List,
    /// The text of a template, to begin one's own with.
    Show {
        /// Its name.
        name: String,
    },
    /// Begins a template of one's own in the configuration's folder, as a copy of one that there is.
    New {
        /// Its name.
        name: String,
        /// The template that is copied.
        #[arg(long, value_name = "NAME", default_value = "executive-summary")]
        from: String,
    },
    /// The kinds of sections that a template or a definition can be composed of.
    Sections,
    /// Says what is wrong with templates and definitions; all of the configuration's unless some are named.
    Check {
        /// Names of templates, or files of definitions.
        names: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// There is no such template, or one is wrong.
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
            for name in definition::template_names(config) {
                let mut problems = Problems::default();
                let about = definition::template(config, &name, &mut problems).map_or_else(
                    || "wrong: see `templates check`".to_owned(),
                    |template| template.description,
                );
                text.push_str(&format!("{name}  {about}\n"));
            }
            print(text)?;
        }
        Action::Show { name } => {
            let (_, text) = definition::template_text(config, &name).map_err(|problem| {
                let mut problems = Problems::default();
                problems.push(problem);
                Failure::Configuration(problems)
            })?;
            print(text)?;
        }
        Action::New { name, from } => {
            let name: Name = name.parse().map_err(|error| {
                Failure::usage(
                    format!("{name:?}: {error}"),
                    "a template's name is that of its file, such as head-office",
                )
            })?;
            let (_, text) = definition::template_text(config, &from).map_err(|problem| {
                let mut problems = Problems::default();
                problems.push(problem);
                Failure::Configuration(problems)
            })?;
            let folder = config.map_or_else(|| PathBuf::from("templates"), |config| config.templates.clone());
            std::fs::create_dir_all(&folder)?;
            let file = folder.join(format!("{name}.toml"));
            // What is there is never written over.
            let created = std::fs::File::options().write(true).create_new(true).open(&file);
            let mut created = created
                .map_err(|error| Failure::work_help(format!("{}: {error}", file.display()), "take another name"))?;
            std::io::Write::write_all(&mut created, text.as_bytes())?;
            print(format!("{}\n", file.display()))?;
        }
        Action::Sections => {
            let mut text = String::new();
            for (kind, shows) in sections::kinds() {
                text.push_str(&format!("{kind}  {shows}\n"));
            }
            print(text)?;
        }
        Action::Check { names } => {
            let mut problems = Problems::default();
            let mut checked = 0;
            let (mut templates, mut files) = (Vec::new(), Vec::new());
            if names.is_empty() {
                templates.extend(definition::template_names(config));
                if let Some(config) = config {
                    files.extend(definition::files(config)?);
                }
            }
            for name in names {
                let file = definition::find(config, &name);
                if file.is_file() {
                    files.push(file);
                } else {
                    templates.push(name);
                }
            }
            for name in templates {
                let mut found = Problems::default();
                definition::template(config, &name, &mut found);
                problems.append(found);
                checked += 1;
            }
            for file in files {
                if let Err(found) = definition::load(config, &file) {
                    problems.append(found);
                }
                checked += 1;
            }
            if problems.has_errors() {
                return Err(Failure::Configuration(problems));
            }
            eprintln!("{checked} checked: nothing wrong");
        }
    }
    Ok(ExitCode::SUCCESS)
}
