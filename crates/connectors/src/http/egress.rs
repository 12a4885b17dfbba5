//! Which addresses may be reached: the operator's list, checked where a connection is made.
//!
//! Promises: with a list, no byte goes to an address that is not in it, whatever a name resolved to
//! before (DNS rebinding), because the address that is dialled is the one that was judged; a name in
//! the list never leads to this machine, a link-local or a multicast address, unless those are
//! listed too. Does not promise anything about where a proxy connects to: there only names that are
//! listed are let through.

use std::{fmt, net::IpAddr, sync::Arc};

use holdfast_model::settings::{Section, Setting};
use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

pub(super) const ALLOW_ADDRESSES: Setting = Setting::optional(
    "allow_addresses",
    "[\"203.0.113.0/24\", \"*.example.com\"]",
    "Where connections may go: addresses, networks (CIDR) and host names (`*.` for all under one). \
     Checked against the resolved address each time a connection is made. A name lets through what \
     it resolves to, but no loopback, link-local or multicast address. Without it everything may be \
     reached. Every destination over HTTP takes it.",
);

/// Most entries of one list.
const ENTRIES_MAX: usize = 1000;

/// The operator's list.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    networks: Vec<IpNet>,
    names: Vec<Pattern>,
}

/// A host's name, or all names under one.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    /// With the dot before it.
    Under(String),
}

/// Why a connection is not made. It does not name the host, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Forbidden {
    #[error("it leads to {0}, which `allow_addresses` does not let through")]
    Address(Addresses),
    #[error("its name is not in `allow_addresses`, and behind a proxy its address is not known")]
    Unseen,
}

#[derive(Debug)]
pub(super) struct Addresses(Vec<IpAddr>);

/// Resolves names and hands out only addresses that may be dialled.
pub(super) struct Guard {
    allowed: Arc<Allowed>,
    /// The operator's proxy needs no entry.
    proxy: Option<String>,
    lookup: Arc<dyn Resolve>,
}

/// The machine's own way to resolve names.
pub(super) struct System;

// === impl Allowed ===

impl Allowed {
    /// Reads the list and reports entries that make no sense; `None` when there are such. Without
    /// the key the inner one is `None`.
    pub(super) fn read(section: &Section<'_>) -> Option<Option<Self>> {
        let given = section.has(ALLOW_ADDRESSES.name);
        let Some(entries) = section.texts(&ALLOW_ADDRESSES) else {
            return (!given).then_some(None);
        };
        if entries.len() > ENTRIES_MAX {
            section.fault(ALLOW_ADDRESSES.name, format!("it has more than {ENTRIES_MAX} entries"));
            return None;
        }
        let mut allowed = Self::default();
        let mut all_good = true;
        for entry in entries {
            if let Err(problem) = allowed.add(&entry) {
                section.fault(ALLOW_ADDRESSES.name, format!("\"{entry}\" {problem}"));
                all_good = false;
            }
        }
        all_good.then_some(Some(allowed))
    }

    fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        if let Ok(network) = entry.parse::<IpNet>() {
            if network.addr() != network.network() {
                return Err("has bits behind its prefix; give the network's first address");
            }
            self.networks.push(network);
            return Ok(());
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            self.networks.push(address.into());
            return Ok(());
        }
        let name = entry.trim_end_matches('.').to_ascii_lowercase();
        let (bare, pattern) = match name.strip_prefix('*') {
            Some(under) => {
                (under.strip_prefix('.').unwrap_or(""), Pattern::Under(under.to_owned()))
            }
            None => (name.as_str(), Pattern::Exactly(name.clone())),
        };
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let label = |label: &str| !label.is_empty() && label.chars().all(letter);
        // Digits alone would be an address that was written wrong.
        let a_name = bare.split('.').all(label) && bare.contains(|c: char| c.is_ascii_alphabetic());
        if !a_name {
            return Err("is no address, network or host name");
        }
        self.names.push(pattern);
        Ok(())
    }

    fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.names.iter().any(|pattern| match pattern {
            Pattern::Exactly(name) => host == *name,
            Pattern::Under(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        })
    }

    fn lists(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether `host` may be reached at this address.
    fn admits(&self, host: &str, address: IpAddr) -> bool {
        self.lists(address) || (self.names(host) && !is_near(address.to_canonical()))
    }

    /// Judges what no resolver sees: an address written as it is, and a name that a proxy resolves.
    pub(super) fn permits(&self, url: &Url, proxied: bool) -> Result<(), Forbidden> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.lists(address) => Err(Forbidden::address(address)),
            Err(_) if proxied && !self.names(host) => Err(Forbidden::Unseen),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// This machine, its link, or many at once: nothing that a name from outside may lead to.
fn is_near(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

// === impl Forbidden ===

impl Forbidden {
    fn address(address: IpAddr) -> Self {
        Self::Address(Addresses(vec![address]))
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many as a person reads.
        const SHOWN: usize = 4;
        let shown: Vec<_> = self.0.iter().take(SHOWN).map(ToString::to_string).collect();
        f.write_str(&shown.join(", "))
    }
}

// === impl Guard ===

impl Guard {
    pub(super) fn new(
        allowed: Arc<Allowed>,
        proxy: Option<&Url>,
        lookup: Arc<dyn Resolve>,
    ) -> Self {
        let proxy = proxy.and_then(Url::host_str).map(str::to_owned);
        Self { allowed, proxy, lookup }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let exempt = self.proxy.as_deref() == Some(host.as_str());
        let (allowed, found) = (Arc::clone(&self.allowed), self.lookup.resolve(name));
        Box::pin(async move {
            let found: Vec<_> = found.await?.collect();
            let admitted: Vec<_> = found
                .iter()
                .copied()
                .filter(|address| exempt || allowed.admits(&host, address.ip()))
                .collect();
            if admitted.is_empty() && !found.is_empty() {
                let addresses = found.iter().map(|address| address.ip()).collect();
                return Err(Forbidden::Address(Addresses(addresses)).into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> Allowed {
        let mut allowed = Allowed::default();
        for entry in entries {
            allowed.add(entry).unwrap();
        }
        allowed
    }

    #[test]
    fn a_list_of_networks_and_names_admits_these_only() {
        let list = allowed(&[
            "10.1.0.0/16",
            "192.0.2.7",
            "2001:db8::/32",
            "hooks.example",
            "*.corp.example",
        ]);
        #[rustfmt::skip]
        let table = [
            ("any.test", "10.1.2.3", true),
            ("any.test", "10.2.2.3", false),
            ("any.test", "192.0.2.7", true),
            ("any.test", "192.0.2.8", false),
            ("any.test", "::ffff:10.1.2.3", true),
            ("any.test", "2001:db8::1", true),
            ("any.test", "2001:db9::1", false),
            ("hooks.example", "203.0.113.5", true),
            ("HOOKS.example.", "203.0.113.5", true),
            ("hooks.example", "172.16.0.1", true),
            ("hooks.example", "127.0.0.1", false),
            ("hooks.example", "169.254.169.254", false),
            ("hooks.example", "::ffff:127.0.0.1", false),
            ("hooks.example", "fe80::1", false),
            ("hooks.example", "::1", false),
            ("hooks.example", "0.0.0.0", false),
            ("hooks.example", "224.0.0.1", false),
            ("x.hooks.example", "203.0.113.5", false),
            ("a.corp.example", "203.0.113.5", true),
            ("corp.example", "203.0.113.5", false),
            ("evilcorp.example", "203.0.113.5", false),
        ];
        for (host, address, expected) in table {
            assert_eq!(list.admits(host, address.parse().unwrap()), expected, "{host} {address}");
        }
    }

    #[test]
    fn what_no_resolver_sees_is_judged_too() {
        let list = allowed(&["10.0.0.0/8", "fd00::/8", "hooks.example"]);
        #[rustfmt::skip]
        let table = [
            ("http://10.1.1.1/x", false, true),
            ("http://127.0.0.1/x", false, false),
            ("http://0x7f000001/x", false, false), // The same address in another dress.
            ("http://[fd00::1]:8/x", false, true),
            ("http://[::1]/x", true, false),
            ("http://any.test/x", false, true), // The resolver judges it.
            ("http://any.test/x", true, false),
            ("http://hooks.example/x", true, true),
        ];
        for (url, proxied, expected) in table {
            let verdict = list.permits(&url.parse().unwrap(), proxied);
            assert_eq!(verdict.is_ok(), expected, "{url}: {verdict:?}");
        }
    }

    #[test]
    fn entries_that_make_no_sense_are_refused() {
        for entry in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "1.2.3",
            "*",
            "*.",
            "a b",
            "http://x",
            "x/24",
            "*x.example",
        ] {
            assert!(Allowed::default().add(entry).is_err(), "{entry}");
        }
    }
}
