//! RELP: syslog whose receiver acknowledges each message.

use holdfast_model::{DeliveryError, Reason, Receipt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    time::{Instant, timeout_at},
};

use super::transport::{Stream, broken};

/// Frames on their way without an answer: librelp's own window.
const WINDOW: usize = 128;

/// An answer's data is a code and a few words.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Digits of a number and letters of a command.
const WORD_BYTES_MAX: usize = 32;

/// librelp speaks 0, although its text says 1.
const OFFER: &str = concat!(
    "relp_version=0\nrelp_software=holdfast,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
);

type Results = Vec<Result<Receipt, DeliveryError>>;

/// Sends every line; what was acknowledged before a connection broke stays delivered.
pub(super) async fn send(
    stream: Stream,
    lines: &[&[u8]],
    deadline: Instant,
) -> Result<Results, DeliveryError> {
    let mut stream = BufReader::new(stream);
    let opened = timeout_at(deadline, open(&mut stream)).await;
    opened.map_err(|late| DeliveryError::caused_by(Reason::ServerFault, late))??;
    let mut results = Vec::with_capacity(lines.len());
    let sent = timeout_at(deadline, exchange(&mut stream, lines, &mut results)).await;
    let error = match sent {
        Ok(Ok(())) => {
            let bye = frame(lines.len() + 2, "close", b"");
            // Everything is acknowledged; whether the goodbye arrives changes nothing.
            drop(timeout_at(deadline, stream.write_all(&bye)).await);
            return Ok(results);
        }
        Ok(Err(error)) => error,
        Err(late) => DeliveryError::caused_by(Reason::InDoubt, late),
    };
    let reason = error.reason;
    results.push(Err(error));
    let rest = lines.len().saturating_sub(results.len());
    results.extend((0..rest).map(|_| Err(DeliveryError::new(reason))));
    Ok(results)
}

pub(super) fn frame(number: usize, command: &str, data: &[u8]) -> Vec<u8> {
    let mut out = format!("{number} {command} {}", data.len()).into_bytes();
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
    out
}

async fn open(stream: &mut BufReader<Stream>) -> Result<(), DeliveryError> {
    let unsent = |error| broken(error, Reason::ServerFault);
    stream.write_all(&frame(1, "open", OFFER.as_bytes())).await.map_err(unsent)?;
    stream.flush().await.map_err(unsent)?;
    let data = answer(stream, 1, Reason::ServerFault).await?;
    let takes = data.lines().any(|line| {
        let commands = line.strip_prefix("commands=");
        commands.is_some_and(|list| list.split(',').any(|word| word.trim() == "syslog"))
    });
    if data.starts_with("200") && takes {
        return Ok(());
    }
    Err(DeliveryError::new(Reason::Misconfigured).with_excerpt(data))
}

async fn exchange(
    stream: &mut BufReader<Stream>,
    lines: &[&[u8]],
    results: &mut Results,
) -> Result<(), DeliveryError> {
    let lost = |error| broken(error, Reason::InDoubt);
    for window in lines.chunks(WINDOW) {
        let first = results.len() + 2;
        let mut body = Vec::new();
        for (at, line) in window.iter().enumerate() {
            body.extend_from_slice(&frame(first + at, "syslog", line));
        }
        stream.write_all(&body).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        for at in 0..window.len() {
            let data = answer(stream, first + at, Reason::InDoubt).await?;
            let code = data.get(..3).and_then(|code| code.parse().ok());
            results.push(match code {
                Some(200) => Ok(Receipt { status: code, ..Receipt::default() }),
                _ => Err(DeliveryError::new(Reason::BadAnswer).with_excerpt(data)),
            });
        }
    }
    Ok(())
}

/// The answer to one frame: answers come in the order of the commands.
async fn answer(
    stream: &mut BufReader<Stream>,
    number: usize,
    lost: Reason,
) -> Result<String, DeliveryError> {
    let odd = |what: &str| DeliveryError::new(lost).with_excerpt(what);
    let (txnr, _) = word(stream, lost).await?;
    let (command, _) = word(stream, lost).await?;
    let (length, end) = word(stream, lost).await?;
    let length: usize = length.parse().map_err(|_| odd("not a RELP answer"))?;
    if length > ANSWER_BYTES_MAX {
        return Err(odd("a RELP answer that is too long"));
    }
    let mut data = vec![0; length];
    if end == b' ' {
        // The data and its line break.
        stream.read_exact(&mut data).await.map_err(|error| broken(error, lost))?;
        stream.read_u8().await.map_err(|error| broken(error, lost))?;
    }
    if command != "rsp" || txnr != number.to_string() {
        return Err(odd(&format!("expected the answer to {number}, got `{txnr} {command}`")));
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}

async fn word(stream: &mut BufReader<Stream>, lost: Reason) -> Result<(String, u8), DeliveryError> {
    let mut word = String::new();
    while word.len() <= WORD_BYTES_MAX {
        let byte = stream.read_u8().await.map_err(|error| broken(error, lost))?;
        if matches!(byte, b' ' | b'\n') {
            return Ok((word, byte));
        }
        word.push(char::from(byte));
    }
    Err(DeliveryError::new(lost).with_excerpt("not a RELP answer"))
}
