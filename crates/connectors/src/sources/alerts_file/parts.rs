//! The names of rotated files, and which comes after which. Pure.
//!
//! Wazuh names parts by local date: `2026/Mar/ossec-alerts-10.json`, and on the same day
//! `ossec-alerts-10-001.json` and so on; `monitord` makes `.json.gz` of them. Elsewhere `logrotate`
//! renames `alerts.json` to `alerts.json.1` (a larger number is older) or `alerts.json-20260310`, and
//! so does osquery, which makes `.zst` of all but the newest.

use std::{cmp::Reverse, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const STEM: &str = "ossec-alerts-";

/// A dated part. Its order is the order in which Wazuh wrote the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Part {
    year: u16,
    /// From 1.
    month: u8,
    day: u8,
    /// 0: the day's first part, which has no number in its name.
    number: u32,
}

/// The text does not name a dated part.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a dated part: expected YYYY/Mmm/ossec-alerts-DD[-NNN]")]
pub(super) struct NoPart;

/// Where a renamed file stands among its like. The oldest is the smallest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Dated(String),
    Numbered(Reverse<u32>),
}

/// A file beside the current one that bears its name and an addition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sibling {
    age: Age,
    pub(super) name: String,
}

/// The year that a folder's name stands for.
pub(super) fn year(folder: &str) -> Option<u16> {
    digits(folder).filter(|_| folder.len() == 4)
}

/// The month, from 1, that a folder's name stands for.
pub(super) fn month(folder: &str) -> Option<u8> {
    (1..).zip(MONTHS).find(|(_, name)| *name == folder).map(|(month, _)| month)
}

/// The siblings of `current` among `names`, oldest first.
pub(super) fn siblings(current: &str, names: impl IntoIterator<Item = String>) -> Vec<Sibling> {
    let age = |name: &str| {
        let addition = name.strip_prefix(current)?;
        let plain = Packing::ENDINGS.iter().find_map(|(end, _)| addition.strip_suffix(end));
        let stamp = plain.unwrap_or(addition).strip_prefix(['.', '-'])?;
        match digits::<u32>(stamp) {
            Some(number) if stamp.len() < 8 => Some(Age::Numbered(Reverse(number))),
            _ => {
                let clean = stamp.bytes().all(|b| b.is_ascii_digit() || b"-._T".contains(&b));
                let dated = clean && stamp.starts_with(|c: char| c.is_ascii_digit());
                dated.then(|| Age::Dated(stamp.to_owned()))
            }
        }
    };
    let mut found: Vec<_> =
        names.into_iter().filter_map(|name| Some(Sibling { age: age(&name)?, name })).collect();
    found.sort();
    found
}

/// How a file is compressed, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

// === impl Packing ===

impl Packing {
    const ENDINGS: [(&str, Self); 2] = [(".gz", Self::Gzip), (".zst", Self::Zstd)];

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ENDINGS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, packing)| *packing)
    }
}

// === impl Part ===

impl Part {
    /// Reads a file's name, plain or compressed, in the folder of a month.
    pub(super) fn from_file_name(year: u16, month: u8, name: &str) -> Option<Self> {
        let name = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".json")?;
        Self::from_stem(year, month, name)
    }

    fn from_stem(year: u16, month: u8, stem: &str) -> Option<Self> {
        let rest = stem.strip_prefix(STEM)?;
        let (day, number) = match rest.split_once('-') {
            None => (rest, 0),
            // Three digits at least, as Wazuh writes them; more after the 999th.
            Some((day, number)) if number.len() >= 3 => {
                (day, digits(number).filter(|number| *number > 0)?)
            }
            Some(_) => return None,
        };
        let day = digits(day).filter(|d| day.len() == 2 && (1..=31).contains(d))?;
        Some(Self { year, month, day, number })
    }

    /// The months' folders that can hold this part or a later one.
    pub(super) fn is_at_most_in(self, year: u16, month: u8) -> bool {
        (self.year, self.month) <= (year, month)
    }

    /// The plain file, under the folder that holds the years.
    pub(super) fn plain(self) -> PathBuf {
        format!("{self}.json").into()
    }

    pub(super) fn packed(self) -> PathBuf {
        format!("{self}.json.gz").into()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, number } = self;
        let month = MONTHS[usize::from(*month) - 1];
        write!(f, "{year:04}/{month}/{STEM}{day:02}")?;
        if *number > 0 { write!(f, "-{number:03}") } else { Ok(()) }
    }
}

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let mut folders = text.splitn(3, '/');
        let mut next = || folders.next().ok_or(NoPart);
        let (year, month) =
            (self::year(next()?).ok_or(NoPart)?, self::month(next()?).ok_or(NoPart)?);
        Self::from_stem(year, month, next()?).ok_or(NoPart)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_ordered_across_parts_days_months_and_years() {
        let written = [
            "2025/Dec/ossec-alerts-31",
            "2025/Dec/ossec-alerts-31-001",
            "2026/Jan/ossec-alerts-01",
            "2026/Mar/ossec-alerts-09-999",
            "2026/Mar/ossec-alerts-09-1000",
            "2026/Mar/ossec-alerts-10",
            "2026/Apr/ossec-alerts-01",
        ];
        let parts: Vec<Part> = written.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parts.is_sorted(), "{parts:?}");
        for (part, text) in parts.iter().zip(written) {
            assert_eq!(part.to_string(), text);
            let [plain, packed] = [format!("{text}.json"), format!("{text}.json.gz")];
            assert_eq!(
                [part.plain(), part.packed()],
                [PathBuf::from(&plain), packed.clone().into()]
            );
            for name in [plain, packed] {
                let file = name.rsplit('/').next().unwrap();
                let read = Part::from_file_name(part.year, part.month, file);
                assert_eq!(read, Some(*part), "{name}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_part_is_none() {
        for name in [
            "ossec-alerts-10.log",
            "ossec-alerts-10.json.sum",
            "ossec-alerts-10.json.gz.part",
            "ossec-alerts-1.json",
            "ossec-alerts-32.json",
            "ossec-alerts-00.json",
            "ossec-alerts-10-1.json",
            "ossec-alerts-10-000.json",
            "ossec-alerts-10-abc.json",
            "ossec-alerts-+1.json",
            "ossec-archive-10.json",
        ] {
            assert_eq!(Part::from_file_name(2026, 3, name), None, "{name}");
        }
        for text in ["", "2026", "2026/Mar", "26/Mar/ossec-alerts-10", "2026/3/ossec-alerts-10"] {
            assert_eq!(text.parse::<Part>(), Err(NoPart), "{text}");
        }
    }

    #[test]
    fn siblings_are_ordered_oldest_first_and_strangers_are_left_out() {
        let names = [
            "alerts.json",
            "alerts.json.1",
            "alerts.json.2.gz",
            "alerts.json.10.gz",
            "alerts.json.11.zst",
            "alerts.json.bak",
            "alerts.json-20260309.gz",
            "alerts.json-20260310",
            "alerts.json.sum",
            "alerts.log.1",
        ];
        let found = siblings("alerts.json", names.map(str::to_owned));
        let order: Vec<_> = found.iter().map(|sibling| sibling.name.as_str()).collect();
        let expected = [
            "alerts.json-20260309.gz",
            "alerts.json-20260310",
            "alerts.json.11.zst",
            "alerts.json.10.gz",
            "alerts.json.2.gz",
            "alerts.json.1",
        ];
        assert_eq!(order, expected);
    }
}
