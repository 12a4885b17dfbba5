//! `top` on a terminal of its own.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::support::{Config, Gateway, Receiver, eventually, wait::holds};

/// A terminal with somebody in front of it.
struct Terminal {
    keyboard: File,
    line: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let (master, seen) = (File::from(master), Arc::new(Mutex::new(Vec::new())));
        let (mut screen, sink) = (master.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { keyboard: master, line: line.into(), seen }
    }

    fn start(&self, gateway: &Gateway, arguments: &[&str]) -> Child {
        let side = || Stdio::from(self.line.try_clone().unwrap());
        let mut command = gateway.cli_command(arguments);
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm").spawn().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(text, || holds(self.text().contains(text)));
    }

    /// Lines are read whole and echoed, as a shell wants it.
    fn is_restored(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

#[test]
fn top_shows_the_lanes_and_gives_the_terminal_back() {
    let receiver = Receiver::willing();
    let mut gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), ""));
    for end in [b"q".as_slice(), b"\x03"] {
        let mut terminal = Terminal::new();
        let mut top = terminal.start(&gateway, &["top", "--every", "200ms"]);
        terminal.shows("siem");
        terminal.shows("1 of 1 lanes active");
        assert!(!terminal.is_restored(), "keys come at once");
        terminal.keyboard.write_all(end).unwrap();
        assert_eq!(top.wait().unwrap().code(), Some(0));
        terminal.shows("\u{1b}[?25h\u{1b}[?1049l");
        assert!(terminal.is_restored());
    }
    // Without a terminal it says what to use instead.
    let said = gateway.cli(&["top"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("holdfast status"), "{}", said.err);
    gateway.finish();
}

#[test]
fn top_outlives_its_gateway_and_ends_when_it_is_told_to() {
    let mut gateway = Gateway::start(Config::new());
    let terminal = Terminal::new();
    let mut top = terminal.start(&gateway, &["top", "--every", "200ms"]);
    terminal.shows("no destinations");
    gateway.finish();
    terminal.shows("cannot reach the gateway");
    let pid = rustix::process::Pid::from_raw(top.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(top.wait().unwrap().code(), Some(0));
    assert!(terminal.is_restored());
}

#[test]
fn tail_is_coloured_on_a_terminal_and_not_with_no_color() {
    let config = Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"");
    let mut gateway = Gateway::start(config);
    gateway.accept("{\"rule\":{\"id\":\"1\",\"level\":13,\"description\":\"worst\"}}");
    let arguments = ["tail", "--start", "oldest", "--no-follow"];
    let terminal = Terminal::new();
    assert_eq!(terminal.start(&gateway, &arguments).wait().unwrap().code(), Some(0));
    terminal.shows("\u{1b}[1;31m");
    let plain = Terminal::new();
    let side = || Stdio::from(plain.line.try_clone().unwrap());
    let mut command = gateway.cli_command(&arguments);
    let mut child = command.env("NO_COLOR", "1").stdout(side()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    plain.shows("worst");
    assert!(!plain.text().contains('\u{1b}'), "{:?}", plain.text());
    gateway.finish();
}
