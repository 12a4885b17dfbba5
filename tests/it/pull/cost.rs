//! What readers that wait cost: memory. Printed; the assertion is the promise of issue 6.

use std::{io::Read, net::TcpStream, thread, time::Duration};

use super::kept;
use crate::support::{Gateway, alerts, eventually, wait::holds};

const STREAMS: usize = 200;
const POLLS: usize = 50;
const MIB: u64 = 1 << 20;

fn resident(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.pid());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn two_hundred_idle_streams_and_fifty_long_polls_cost_less_than_20_mib() {
    let mut gateway = Gateway::start(kept());
    // Before anything came in: what was used and is free again would hide what they cost.
    let before = resident(&gateway);
    let mut streams: Vec<TcpStream> =
        (0..STREAMS).map(|_| gateway.call("GET", "/v1/alerts/stream").begin(0).unwrap()).collect();
    for stream in &mut streams {
        let mut some = [0; 64];
        assert!(stream.read(&mut some).unwrap() > 0, "each has begun");
    }
    let polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let call = gateway.call("GET", "/v1/alerts?start=newest&wait=60s");
            thread::spawn(move || call.send().unwrap())
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let cost = resident(&gateway).saturating_sub(before);
    assert!(cost > 0, "it was measured");
    eprintln!("{STREAMS} streams and {POLLS} long polls cost {} KiB", cost / 1024);
    assert!(cost < 20 * MIB, "{cost} bytes");
    gateway.accept(&alerts::ndjson(10_000..10_001));
    for poll in polls {
        assert!(poll.join().unwrap().text.contains("10000"));
    }
    eventually("every stream has it", || {
        let mut piece = [0; 4096];
        streams.retain_mut(|stream| {
            let read = stream.read(&mut piece).unwrap();
            !String::from_utf8_lossy(&piece[..read]).contains("10000")
        });
        holds(streams.is_empty())
    });
    gateway.finish();
}
