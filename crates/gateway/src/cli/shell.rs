//! `completions` and `man`: made from the commands themselves, so they cannot lag behind.

use std::{fs, io::Write, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, output};

pub(crate) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut script);
    // A reader that has gone away is no error.
    std::io::stdout().lock().write_all(&script).ok();
    Exit::Done
}

pub(crate) fn man(folder: &Path) -> Exit {
    let written = fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .and_then(|()| Ok(fs::read_dir(folder)?.count()));
    match written {
        Ok(pages) => {
            output::line(format_args!("{pages} pages in {}", folder.display()));
            Exit::Done
        }
        Err(error) => {
            output::complain(format_args!("cannot write to {}: {error}", folder.display()));
            Exit::Failed
        }
    }
}
