//! The image and the composition, read as text: no engine runs here. Files that they name are
//! there, and ports, users and paths are the same everywhere.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{read, shipped};
use crate::support::{Config, binary, config::write_private};

const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const COMPOSE: &str = "deploy/docker/compose.yaml";
const CONFIG: &str = "deploy/docker/holdfast.toml";

/// The arguments of an instruction, in order.
fn instructions<'a>(file: &'a str, name: &str) -> Vec<&'a str> {
    file.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
}

#[test]
fn the_image_builds_what_is_committed_and_runs_as_nobody_special() {
    let file = read(DOCKERFILE);
    assert!(file.contains("cargo build --release --locked -p holdfast"));
    assert!(shipped("Cargo.lock").is_file());
    // The compiler is at least the one that the workspace asks for.
    let manifest = read("Cargo.toml");
    let wanted = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    let stages = instructions(&file, "FROM");
    assert_eq!(stages[0], format!("rust:{wanted}-bookworm AS build"));
    assert_eq!(stages.len(), 2);
    let user = instructions(&file, "USER");
    assert_eq!(user, ["10470:10470"]);
    assert!(file.contains("useradd --system --uid 10470"));
    assert_eq!(instructions(&file, "STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(instructions(&file, "EXPOSE"), ["9470"]);
    assert!(file.contains("http://127.0.0.1:9470/livez"));
    assert!(file.contains("HEALTHCHECK") && file.contains("ca-certificates curl"));
    // The entry is where the build puts it, and the command is one that it has.
    assert_eq!(instructions(&file, "ENTRYPOINT"), ["[\"/usr/local/bin/holdfast\"]"]);
    assert!(file.contains("COPY --from=build /out/holdfast /usr/local/bin/holdfast"));
    let command = "[\"run\", \"--config\", \"/etc/holdfast/holdfast.toml\"]";
    assert!(instructions(&file, "CMD").contains(&command));
}

#[test]
fn nothing_that_the_build_reads_is_left_out() {
    let ignored = read(".dockerignore");
    let left_out: Vec<&str> =
        ignored.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    for needed in ["Cargo.toml", "Cargo.lock", "crates", "tests", "config", "docs"] {
        assert!(shipped(needed).exists(), "{needed}");
        assert!(!left_out.contains(&needed), "{needed}");
    }
    assert!(left_out.contains(&"target") && left_out.contains(&".git"));
    // Secrets of a composition never get into an image, nor into a commit.
    assert!(left_out.contains(&"deploy"));
    assert!(read(".gitignore").contains("/deploy/docker/secrets"));
}

#[test]
fn the_composition_names_files_ports_and_users_that_are_there() {
    let compose = read(COMPOSE);
    let folder = shipped("deploy/docker");
    let mut mounted = 0;
    for line in compose.lines().map(str::trim) {
        let Some(mount) = line.strip_prefix("- ").filter(|mount| mount.starts_with('.')) else {
            continue;
        };
        let source = mount.split(':').next().unwrap();
        assert!(folder.join(source).is_file(), "{source} is not there");
        assert!(mount.ends_with(":ro"), "{mount}");
        mounted += 1;
    }
    assert_eq!(mounted, 3);
    let dockerfile = compose.split("dockerfile: ").nth(1).unwrap().lines().next().unwrap();
    assert!(folder.join("../..").join(dockerfile).is_file());
    assert!(compose.contains("\"127.0.0.1:9470:9470\"") && !compose.contains("0.0.0.0"));
    assert!(compose.contains("uid=10470,gid=10470,mode=0700"));
    for limit in ["read_only: true", "- ALL", "no-new-privileges:true", "stop_grace_period: 90s"] {
        assert!(compose.contains(limit), "{limit}");
    }
    // Prometheus asks the service by its name, at the port that the gateway listens on, and the
    // gateway knows that name.
    let (scrape, config) = (read("deploy/docker/prometheus.yml"), read(CONFIG));
    assert!(scrape.contains("targets: [\"holdfast:9470\"]"));
    assert!(config.contains("listen = \"0.0.0.0:9470\"") && config.contains("\"holdfast\"]"));
    // Each secret that is read is one that is mounted.
    for text in [&config, &scrape] {
        for name in text.split("/run/secrets/").skip(1) {
            let end = |character: char| !character.is_ascii_alphanumeric() && character != '-';
            let name = name.split(end).next().unwrap();
            assert!(name.is_empty() || compose.contains(&format!("file: ./secrets/{name}")));
        }
    }
    assert!(scrape.contains("credentials_file: /run/secrets/read-token"));
}

#[test]
fn the_composition_s_configuration_has_no_fault() {
    let folder = Config::new();
    let secrets = folder.file("secrets");
    fs::create_dir(&secrets).unwrap();
    for (name, text) in [
        ("admin-token", "admin-token-0123456789"),
        ("read-token", "read-token-0123456789"),
        ("soc-url", "https://soc.example/alerts"),
    ] {
        write_private(&secrets.join(name), text);
    }
    let text = read(CONFIG).replace("/run/secrets", secrets.to_str().unwrap());
    let path = folder.file("docker.toml");
    write_private(&path, &text);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let said = binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:#?}");
}
