//! A disk that is full, and then is not.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::support::{Answer, Config, Gateway, Receiver, Reply, alerts, eventually, wait::holds};

/// A small file system of its own; unmounted when it is dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None` when this machine does not let us mount.
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=200m", "holdfast-it"])
            .arg(&path)
            .output()
            .expect("run mount");
        if output.status.success() {
            return Some(Self { path });
        }
        println!("SKIPPED: cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr));
        None
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes what is free now, but for so many bytes; the reserve is not free yet.
    fn fill_but(&self, rest: u64) {
        let space = rustix::fs::statvfs(&self.path).unwrap();
        let bytes = (space.f_bavail * space.f_frsize).saturating_sub(rest);
        let ballast = File::create(self.ballast()).unwrap();
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }

    /// Takes every byte that is left, and the reserve when it is given up.
    fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![b'x'; size];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a killed gateway may not be quite gone.
        Command::new("umount").arg("-l").arg(&self.path).status().ok();
    }
}

fn config_on(config: Config, disk: &Path) -> Config {
    config.queue(&format!(
        "path = \"{}/queue\"\nreserve = \"16MiB\"\nretention = \"0s\"\nmax_size = \"1GiB\"",
        disk.display()
    ))
}

fn post(gateway: &Gateway, numbers: std::ops::Range<u64>) -> Answer {
    let call = gateway.call("POST", "/v1/alerts").ndjson(alerts::ndjson(numbers));
    call.send().expect("an answer")
}

fn sorted(receiver: &Receiver) -> Vec<u64> {
    let mut taken = receiver.taken();
    taken.sort_unstable();
    taken
}

fn verify(gateway: &mut Gateway, disk: &Disk) {
    gateway.balanced();
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    let said = crate::support::binary::queue("verify", &disk.path.join("queue"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[test]
fn a_disk_that_fills_while_ingesting_refuses_input_and_loses_nothing() {
    let config = Config::new();
    let Some(disk) = Disk::mount(config.file("disk")) else { return };
    let receiver = Receiver::willing();
    let config = config_on(config, &disk.path).webhook("all", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/all/pause", &json!({}));
    for n in 0..10 {
        assert_eq!(post(&gateway, n * 100..n * 100 + 100).status, 202);
    }
    disk.fill_but(8 << 20);
    let mut accepted: Vec<u64> = (0..1000).collect();
    let refusal = eventually("input is refused", || {
        let from = accepted.len() as u64;
        let answer = post(&gateway, from..from + 100);
        if answer.status == 202 {
            accepted.extend(from..from + 100);
            return None;
        }
        Some(answer)
    });
    assert_eq!((refusal.status, refusal.problem().as_str()), (507, "disk-full"), "{refusal:?}");
    assert!(refusal.header("retry-after").is_some());
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("disk is full"), "{}", ready.text);

    gateway.post("/v1/destinations/all/resume", &json!({}));
    gateway.wait_for_term("all", "delivered", accepted.len() as u64);
    assert_eq!(sorted(&receiver), accepted, "it delivers with the disk full");

    disk.free();
    eventually("ready again", || holds(gateway.get("/readyz").status == 200));
    let more = accepted.len() as u64;
    let answer = eventually("input is taken again", || {
        Some(post(&gateway, more..more + 10)).filter(|answer| answer.status == 202)
    });
    assert_eq!(answer.json()["accepted"], 10);
    gateway.wait_for_term("all", "delivered", more + 10);
    verify(&mut gateway, &disk);
}

#[test]
fn a_disk_that_fills_while_settling_is_settled_on_from_the_reserve() {
    fills_while_settling(|disk| disk.fill_but(8 << 20), true);
}

#[test]
fn a_disk_without_a_byte_left_stops_settling_until_it_is_freed_and_loses_nothing() {
    fills_while_settling(Disk::fill, false);
}

fn fills_while_settling(fill: impl Fn(&Disk), goes_on: bool) {
    let config = Config::new();
    let Some(disk) = Disk::mount(config.file("disk")) else { return };
    let receiver = Receiver::start(|request| match request.number % 4 {
        0 => Reply::status(500),
        1 if request.number % 32 == 1 => Reply::status(400),
        _ => Reply::ok(),
    });
    let keys = "poison_limit = 1000\nretry = { initial = \"20ms\", max = \"200ms\" }\n\
                breaker = { failures = 1000, ratio = 1 }";
    let config = config_on(config, &disk.path).webhook("all", &receiver.url("/"), keys);
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/all/pause", &json!({}));
    for n in 0..20 {
        assert_eq!(post(&gateway, n * 100..n * 100 + 100).status, 202);
    }
    gateway.post("/v1/destinations/all/resume", &json!({}));
    eventually("it settles", || holds(receiver.count() > 100));
    fill(&disk);
    let filled_at = receiver.count();
    if goes_on {
        eventually("it settles from the reserve", || holds(receiver.count() > filled_at + 200));
    } else {
        eventually("it says that it stands still", || {
            let ready = gateway.get("/readyz");
            holds(ready.status == 503 && ready.text.contains("disk is full"))
        });
    }
    gateway.kill();
    gateway.spawn();
    if goes_on {
        eventually("it answers with the disk full", || gateway.call("GET", "/livez").send().ok());
        disk.free();
    } else {
        // It may refuse to start without any room, but must not lose anything by trying.
        eventually("it answers or has ended", || {
            let ended = gateway.exited().is_some();
            holds(ended || gateway.call("GET", "/livez").send().is_ok())
        });
        disk.free();
        gateway.kill();
        gateway.restart();
    }
    gateway.wait_for_lane("all", "settled all", |lane| lane["ledger"]["pending"] == 0);
    let lane = gateway.lane("all");
    let (delivered, dead) = (&lane["ledger"]["delivered"], &lane["ledger"]["dead"]);
    assert_eq!(delivered.as_u64().unwrap() + dead.as_u64().unwrap(), 2000, "{lane}");
    let mut all = sorted(&receiver);
    let dead = gateway.dead_letters("limit=1000");
    all.extend(dead.iter().filter_map(|letter| letter["event"]["alert"]["number"].as_u64()));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    verify(&mut gateway, &disk);
}
