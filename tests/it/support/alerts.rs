//! Alerts with numbers: Wazuh's samples, each with a first key `number` by which it is known again.

use std::sync::LazyLock;

use rand::{RngExt, rngs::StdRng};

static SAMPLES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("../../data/alerts.ndjson").lines().collect());

/// Rules of the samples differ, so neighbours are of different rules.
pub(crate) fn alert(number: u64) -> String {
    let sample = SAMPLES[(number % SAMPLES.len() as u64) as usize];
    format!("{{\"number\":{number},{}", &sample[1..])
}

/// One that no compression makes small, of about `bytes`.
pub(crate) fn incompressible(number: u64, bytes: usize, dice: &mut StdRng) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let noise: String =
        (0..bytes).map(|_| LETTERS[dice.random_range(0..LETTERS.len())] as char).collect();
    format!("{{\"number\":{number},\"rule\":{{\"id\":\"1\",\"level\":3}},\"noise\":\"{noise}\"}}")
}

/// NDJSON of a stretch of numbers.
pub(crate) fn ndjson(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        text.push_str(&alert(number));
        text.push('\n');
    }
    text
}

/// The number of one alert.
pub(crate) fn number(alert: &[u8]) -> Option<u64> {
    let digits = alert.strip_prefix(b"{\"number\":")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The numbers of a body, a line each.
pub(crate) fn numbers(body: &[u8]) -> Vec<u64> {
    body.split(|b| *b == b'\n').filter_map(number).collect()
}

pub(crate) fn sample_count() -> usize {
    SAMPLES.len()
}
