//! Who may import whom. Cargo enforces what is written in the manifests; this keeps the manifests.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Each crate with the workspace crates it may build on.
const HOUSE: &[(&str, &[&str])] = &[
    ("holdfast-model", &[]),
    ("holdfast-queue", &["holdfast-model"]),
    ("holdfast-connectors", &["holdfast-model"]),
    ("holdfast-pipeline", &["holdfast-model", "holdfast-queue"]),
    ("holdfast", &["holdfast-connectors", "holdfast-model", "holdfast-pipeline", "holdfast-queue"]),
    ("holdfast-tests", &[]),
];

/// What a crate must never be built on: the outside world where only decisions are made.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("holdfast-model", &["tokio", "reqwest", "sled", "axum", "hyper"]),
    ("holdfast-queue", &["reqwest", "axum", "hyper", "prometheus"]),
    // A source may be a server, so axum is theirs, too.
    ("holdfast-connectors", &["sled"]),
    ("holdfast-pipeline", &["reqwest", "axum", "hyper", "sled"]),
];

#[derive(Debug, Default)]
struct Imports {
    /// In the crate itself and its build script.
    normal: Vec<String>,
    /// In its tests as well.
    all: Vec<String>,
}

fn imports() -> BTreeMap<String, Imports> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), of(package))).collect()
}

fn of(package: &Value) -> Imports {
    let mut imports = Imports::default();
    for dependency in package["dependencies"].as_array().expect("dependencies") {
        let name = text(&dependency["name"]);
        if dependency["kind"] != "dev" {
            imports.normal.push(name.clone());
        }
        imports.all.push(name);
    }
    imports
}

fn text(value: &Value) -> String {
    value.as_str().expect("a name").to_owned()
}

#[test]
fn the_crates_import_each_other_in_one_direction() {
    let imports = imports();
    let known: Vec<&str> = HOUSE.iter().map(|(name, _)| *name).collect();
    assert_eq!(imports.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut sorted = known.clone();
        sorted.sort_unstable();
        sorted
    });
    for (name, allowed) in HOUSE {
        let ours = imports[*name].all.iter().filter(|import| known.contains(&import.as_str()));
        // A crate's tests may switch on its own features by naming itself.
        let strangers: Vec<_> =
            ours.filter(|import| *import != name && !allowed.contains(&import.as_str())).collect();
        assert!(strangers.is_empty(), "{name} must not import {strangers:?}");
    }
}

#[test]
fn a_crate_that_decides_cannot_reach_the_outside_world() {
    let imports = imports();
    for (name, forbidden) in FORBIDDEN {
        let found: Vec<_> =
            imports[*name].normal.iter().filter(|i| forbidden.contains(&i.as_str())).collect();
        assert!(found.is_empty(), "{name} must not import {found:?}");
    }
}
