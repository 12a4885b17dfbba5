//! A configuration file in a folder of its own.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The administrator's token of every test that does not bring its own.
pub(crate) const TOKEN: &str = "it-admin-token-0123456789abcdef";

/// What a test says about its gateway; the rest is small and fast.
#[derive(Debug)]
pub(crate) struct Config {
    folder: TempDir,
    node: String,
    server: String,
    queue: String,
    rest: String,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
            node: String::new(),
            server: format!(
                "tokens = [{{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }}]\n"
            ),
            queue: "reserve = \"1MiB\"\nretention = \"0s\"\n".to_owned(),
            rest: String::new(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.file("state")
    }

    /// More keys of `[node]`.
    pub(crate) fn node(mut self, keys: &str) -> Self {
        self.node = format!("{keys}\n");
        self
    }

    /// Instead of the one token.
    pub(crate) fn server(mut self, keys: &str) -> Self {
        self.server = format!("{keys}\n");
        self
    }

    /// Instead of the small reserve without retention.
    pub(crate) fn queue(mut self, keys: &str) -> Self {
        self.queue = format!("{keys}\n");
        self
    }

    /// Tables of their own.
    pub(crate) fn table(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }

    /// Instead of all tables of its own.
    pub(crate) fn set_tables(&mut self, text: &str) {
        text.clone_into(&mut self.rest);
    }

    /// A webhook that retries soon. Keys given as `{…}` of TOML must stand in `keys`.
    pub(crate) fn webhook(self, name: &str, url: &str, keys: &str) -> Self {
        let retry = if keys.contains("retry") {
            ""
        } else {
            "retry = { initial = \"20ms\", max = \"500ms\" }"
        };
        self.table(&format!(
            "[destinations.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\n{retry}\n{keys}"
        ))
    }

    /// A source that follows a file, from its beginning.
    pub(crate) fn tail(self, path: &Path) -> Self {
        self.table(&format!(
            "[sources.tail]\ntype = \"alerts_file\"\npath = \"{}\"\nstart = \"beginning\"",
            path.display()
        ))
    }

    /// A file that only its owner can read, as Holdfast wants its secrets.
    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        write_private(&path, text);
        path
    }

    /// Writes the file for a port.
    pub(crate) fn write(&self, port: u16) -> PathBuf {
        let Self { node, server, queue, rest, .. } = self;
        let state = self.state();
        let text = format!(
            "[node]\nname = \"it\"\nstate = \"{}\"\n{node}\n[server]\n\
             listen = \"127.0.0.1:{port}\"\n{server}\n[queue]\n{queue}\n{rest}",
            state.display()
        );
        let path = self.file("holdfast.toml");
        write_private(&path, &text);
        path
    }
}

/// Replaces a file, for its owner alone.
pub(crate) fn write_private(path: &Path, text: &str) {
    fs::remove_file(path).ok();
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("write a private file");
}

/// One that was free a moment ago; who uses it must be ready to find it taken.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}
