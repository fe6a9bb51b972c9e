//! `chronotick man`: the manual pages, made from the same declarations as `--help`.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Failure, Outcome, line, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write one page for the program and one for each command into this folder (made if it is not there); without it, the
    /// program's page goes to the output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// As a JSON object: the page, or the files that were written.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let program = super::Arguments::command();
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        if arguments.json {
            return line(serde_json::json!({ "page": String::from_utf8_lossy(&page) }));
        }
        return text(&page);
    };
    let write = || -> std::io::Result<Vec<String>> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(program, folder)?;
        let names = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut pages: Vec<_> = names.filter(|name| name.starts_with("chronotick") && name.ends_with(".1")).collect();
        pages.sort();
        Ok(pages)
    };
    let pages = write().map_err(|error| Failure::to_write("the pages", folder, &error))?;
    if arguments.json {
        return line(serde_json::json!({ "dir": folder.display().to_string(), "pages": pages }));
    }
    line(format_args!("{}: read them with `man -l {}`", folder.display(), folder.join("chronotick.1").display()))
}
