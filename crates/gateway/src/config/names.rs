//! Names that people gave, and types that they chose.

use holdfast_model::{
    Name,
    settings::{Section, Setting},
};

/// A name, or a fault at `key`.
pub(super) fn check(section: &Section<'_>, key: &str, text: &str) -> Option<Name> {
    match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            section.fault(key, format!("\"{text}\" does not fit: {error}"));
            None
        }
    }
}

/// The entry of a catalogue that `type` names, or a fault.
pub(super) fn choose<K>(
    section: &Section<'_>,
    setting: &Setting,
    catalog: &'static [K],
    name: fn(&K) -> &'static str,
) -> Option<&'static K> {
    let all = catalog.iter().map(|kind| format!("\"{}\"", name(kind)));
    let all = all.collect::<Vec<_>>().join(", ");
    if section.node(setting.name).is_none() {
        section.fault("", format!("`{}` is missing: one of {all}", setting.name));
        return None;
    }
    let given = section.text(setting)?;
    let found = catalog.iter().find(|kind| name(kind) == given);
    if found.is_none() {
        section.fault(setting.name, format!("\"{given}\" is not one of {all}"));
    }
    found
}
