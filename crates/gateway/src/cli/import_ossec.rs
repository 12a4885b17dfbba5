//! `import-ossec`: reads `ossec.conf`, prints a configuration, and puts secrets into files.
//!
//! Promises: nothing is written when anything is at fault; a secret's file has mode 0600 from its
//! first byte, and one that holds another secret is replaced only when that is asked for; no secret
//! is printed.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use clap::Args;
use holdfast_model::Secret;

use super::{Exit, output};
use crate::import_ossec::{File, Imported, Settings, convert};

/// Longest `ossec.conf`, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest secret that is compared with one that is there, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One `ossec.conf` or several, read as one; `-` is standard input.
    #[arg(required = true, num_args = 1..=100)]
    files: Vec<PathBuf>,
    /// The folder for keys and addresses, one file each with mode 0600. Made with mode 0700.
    #[arg(long)]
    secrets_dir: PathBuf,
    /// Replace files in that folder that hold something else.
    #[arg(long)]
    replace_secrets: bool,
    /// Wazuh's folder.
    #[arg(long, default_value = "/var/ossec")]
    wazuh_home: String,
    /// Print the summary on standard error as JSON.
    #[arg(long)]
    json: bool,
}

/// Why secrets cannot be kept.
#[derive(Debug, thiserror::Error)]
enum SecretsError {
    #[error("cannot make the folder {0}: {1}")]
    Folder(PathBuf, io::Error),
    #[error(
        "{0} is there already and holds something else; nothing was written. Give --replace-secrets, or another --secrets-dir"
    )]
    Taken(PathBuf),
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} cannot be written: {1}")]
    Unwritable(PathBuf, io::Error),
}

pub(crate) fn run(options: &Options) -> Exit {
    let folder = std::path::absolute(&options.secrets_dir).ok();
    let Some(secrets_dir) = folder.as_deref().and_then(Path::to_str) else {
        output::complain(format_args!("--secrets-dir must be a path in UTF-8"));
        return Exit::Usage;
    };
    if !options.wazuh_home.starts_with('/') {
        output::complain(format_args!("--wazuh-home must begin with `/`"));
        return Exit::Usage;
    }
    let mut files = Vec::new();
    for path in &options.files {
        match read(path) {
            Ok(text) => files.push(File { name: path.display().to_string(), text }),
            Err(error) => {
                output::complain(format_args!("{}: {error}", path.display()));
                return Exit::Failed;
            }
        }
    }
    let settings = Settings { secrets_dir, wazuh_home: &options.wazuh_home };
    let imported = match convert(&files, &settings) {
        Ok(imported) => imported,
        Err(faults) => {
            for fault in &faults {
                output::complain(format_args!("{}", output::plain(&fault.to_string())));
            }
            output::complain(format_args!("nothing was written"));
            return Exit::Configuration;
        }
    };
    if let Err(error) = keep(Path::new(secrets_dir), &imported.secrets, options.replace_secrets) {
        output::complain(format_args!("{error}"));
        return Exit::Failed;
    }
    output::line(format_args!("{}", imported.toml.trim_end()));
    summary(&imported, secrets_dir, options.json);
    Exit::Done
}

fn summary(imported: &Imported, folder: &str, json: bool) {
    let Imported { destinations, left_out, secrets, .. } = imported;
    let files = secrets.len();
    let said = if json {
        serde_json::json!({
            "destinations": destinations, "left_out": left_out, "secrets": files, "secrets_dir": folder,
        })
        .to_string()
    } else {
        format!(
            "destinations: {destinations}; only as comments: {left_out}; secrets: {files} in {folder}"
        )
    };
    // A reader that has gone away is no error.
    writeln!(io::stderr().lock(), "{said}").ok();
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    } else {
        fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Writes the secrets that are not there yet. All are looked at before the first is written.
fn keep(folder: &Path, secrets: &[(String, Secret)], replace: bool) -> Result<(), SecretsError> {
    if secrets.is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| SecretsError::Folder(folder.to_owned(), error))?;
    let mut wanted = Vec::new();
    for (name, secret) in secrets {
        let path = folder.join(name);
        let text = format!("{}\n", secret.expose());
        match held(&path) {
            Ok(None) => wanted.push((path, text)),
            Ok(Some(there)) if there == text.as_bytes() && is_private(&path) => {}
            Ok(Some(_)) if replace => wanted.push((path, text)),
            Ok(Some(_)) => return Err(SecretsError::Taken(path)),
            Err(error) => return Err(SecretsError::Unreadable(path, error)),
        }
    }
    for (path, text) in wanted {
        write(folder, &path, &text).map_err(|error| SecretsError::Unwritable(path, error))?;
    }
    Ok(())
}

/// What a file holds; `None` when there is none.
fn held(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(SECRET_BYTES_MAX + 2).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o077 == 0)
}

/// Writes beside the place and renames, so that a file is whole or as it was. Root gives it to the
/// folder's owner, who is to read it.
fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        if rustix::process::geteuid().is_root() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        // What is left beside is of no use.
        fs::remove_file(&beside).ok();
    }
    written
}
