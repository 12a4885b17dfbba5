//! Addresses that no command is given.
//!
//! When this machine's own addresses or the manager's cannot be told, nothing is done: the event is
//! tried again.

use std::net::{IpAddr, Ipv6Addr};

use holdfast_model::{DeliveryError, Reason};
use ipnet::IpNet;
use tokio::{fs, net};

use super::refusal::Refusal;

/// The kernel's own lists. Not under `/proc/net`, which a hardened unit may not see.
const IPV4: &str = "/proc/self/net/fib_trie";
const IPV6: &str = "/proc/self/net/if_inet6";

/// Whether a command may be given this address.
pub(super) async fn check(
    address: IpAddr,
    never: &[IpNet],
    manager: (String, u16),
) -> Result<(), DeliveryError> {
    let spared = |why: &str| Refusal::Spared { address, why: why.to_owned() };
    if let Some(why) = never_a_target(address) {
        return Err(spared(why).into());
    }
    if let Some(network) = never.iter().find(|network| network.contains(&address)) {
        return Err(spared(&format!("it is in {network}")).into());
    }
    if own().await?.contains(&address) {
        return Err(spared("it is this machine's own").into());
    }
    let found = net::lookup_host(manager).await;
    let mut found = found.map_err(|error| DeliveryError::caused_by(Reason::Dns, error))?;
    if found.any(|found| found.ip().to_canonical() == address) {
        return Err(spared("it is the manager's").into());
    }
    Ok(())
}

pub(super) fn never_a_target(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() => Some("it is a loopback address"),
        _ if address.is_unspecified() => Some("it is no address of a host"),
        _ if address.is_multicast() => Some("it is a multicast address"),
        _ if link_local => Some("it is a link-local address"),
        _ => None,
    }
}

/// This machine's addresses.
async fn own() -> Result<Vec<IpAddr>, DeliveryError> {
    let failed = |error| DeliveryError::caused_by(Reason::ServerFault, error);
    let mut all = local_v4(&fs::read_to_string(IPV4).await.map_err(failed)?);
    // Absent where IPv6 is off.
    if let Ok(text) = fs::read_to_string(IPV6).await {
        all.extend(local_v6(&text));
    }
    Ok(all)
}

/// `|-- 192.0.2.1` with `/32 host LOCAL` on the next line.
pub(super) fn local_v4(trie: &str) -> Vec<IpAddr> {
    let mut last: Option<IpAddr> = None;
    let mut found = Vec::new();
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

/// 32 hexadecimal digits first on each line.
pub(super) fn local_v6(table: &str) -> Vec<IpAddr> {
    let one = |line: &str| {
        let digits = line.split_whitespace().next()?;
        u128::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
    };
    table.lines().filter_map(one).collect()
}
