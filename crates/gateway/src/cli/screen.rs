//! The whole terminal for a while: raw keys, another screen, and everything as it was at the end.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
const HOME: &[u8] = b"\x1b[H";
const CLEAR_LINE_REST: &[u8] = b"\x1b[K\r\n";
const CLEAR_BELOW: &[u8] = b"\x1b[J";
const KEYS_MAX: usize = 16;
const SIZE_DEFAULT: (usize, usize) = (80, 24);

/// See the module header. Dropping it restores the terminal, also when something panics.
pub(crate) struct Screen {
    before: Termios,
}

impl Screen {
    /// `None` when there is no terminal on both sides.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let screen = Self { before };
        let mut out = io::stdout().lock();
        out.write_all(ENTER)?;
        out.flush()?;
        Ok(Some(screen))
    }

    /// Columns and rows, asked anew so that a resize shows at the next frame.
    pub(crate) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => SIZE_DEFAULT,
        }
    }

    /// Draws a frame over the one before, without a flicker: in one write, nothing cleared first.
    pub(crate) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut frame = HOME.to_vec();
        let (_, rows) = self.size();
        for (index, line) in lines.iter().take(rows).enumerate() {
            frame.extend_from_slice(line.as_bytes());
            // The last row has no line below to go to.
            let end = if index + 1 == rows { &CLEAR_LINE_REST[..3] } else { CLEAR_LINE_REST };
            frame.extend_from_slice(end);
        }
        if lines.len() < rows {
            frame.extend_from_slice(CLEAR_BELOW);
        }
        let mut out = io::stdout().lock();
        out.write_all(&frame)?;
        out.flush()
    }

    /// The keys that are pressed. The thread that reads them ends with the process.
    pub(crate) fn keys(&self) -> mpsc::Receiver<u8> {
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        std::thread::spawn(move || {
            for key in io::stdin().lock().bytes() {
                let Ok(key) = key else { return };
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        keys
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        out.write_all(LEAVE).and_then(|()| out.flush()).ok();
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).ok();
    }
}
