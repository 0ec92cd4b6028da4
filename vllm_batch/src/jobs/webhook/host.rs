//! Which addresses are anybody's to call?
//!
//! After IANA's registries of special-purpose addresses (RFC 6890 and its updates): what is not a public address of the
//! internet is refused, and so are the addresses at which clouds hand out credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// IPv4 networks that are not the public internet.
const NOT_PUBLIC_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared by carriers
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // Azure's host, which hands out credentials
    ([169, 254, 0, 0], 16),   // link-local, and the metadata of most clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // relays of 6to4
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
];

/// IPv6 networks within `2000::/3`, the public part, that are not the public internet or that hold IPv4 addresses.
const NOT_PUBLIC_V6: &[([u16; 3], u8)] = &[
    ([0x2001, 0, 0], 23),     // protocol assignments, Teredo
    ([0x2001, 0xdb8, 0], 32), // documentation
    ([0x2002, 0, 0], 16),     // 6to4
    ([0x3fff, 0, 0], 20),     // documentation
];

/// Whether an address is one of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    NOT_PUBLIC_V4.iter().all(|(network, prefix)| !is_in_v4(address, (*network).into(), *prefix))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(embedded) = address.to_ipv4_mapped().or_else(|| translated(address)) {
        return is_public_v4(embedded);
    }
    let is_in = |[a, b, c]: [u16; 3], prefix| is_in_v6(address, Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix);
    is_in([0x2000, 0, 0], 3) && NOT_PUBLIC_V6.iter().all(|(network, prefix)| !is_in(*network, *prefix))
}

/// The IPv4 address behind one of NAT64's well-known prefix (RFC 6052).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    is_in_v6(address, Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96).then(|| {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    })
}

fn is_in_v4(address: Ipv4Addr, network: Ipv4Addr, prefix: u8) -> bool {
    let differ = address.to_bits() ^ network.to_bits();
    differ.checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
}

fn is_in_v6(address: Ipv6Addr, network: Ipv6Addr, prefix: u8) -> bool {
    let differ = address.to_bits() ^ network.to_bits();
    differ.checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
}

/// A receiver that may be at an internal address: a name, an address, or a network such as `10.1.0.0/16`.
///
/// # Example
/// ```
/// use vllm_batch::jobs::AllowedHost;
///
/// let network: AllowedHost = "10.1.0.0/16".parse()?;
/// assert_eq!(network.to_string(), "10.1.0.0/16");
/// assert!("10.1.0.0/33".parse::<AllowedHost>().is_err());
/// # Ok::<(), vllm_batch::jobs::InvalidHost>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowedHost {
    /// A name, in lower case. Whatever it means when a message is sent is allowed.
    Name(String),
    /// Addresses that begin with so many bits of this one.
    Network {
        /// The address.
        address: IpAddr,
        /// The bits.
        prefix: u8,
    },
}

/// A text that is no host and no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of a host, no address, and no network such as 10.1.0.0/16")]
pub struct InvalidHost {
    /// The text.
    pub text: String,
}

impl AllowedHost {
    pub(super) fn is_name(&self, host: &str) -> bool {
        matches!(self, Self::Name(name) if name.eq_ignore_ascii_case(host))
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::Network { address: IpAddr::V4(network), prefix }, IpAddr::V4(address)) => {
                is_in_v4(address, *network, *prefix)
            }
            (Self::Network { address: IpAddr::V6(network), prefix }, IpAddr::V6(address)) => {
                is_in_v6(address, *network, *prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost { text: text.to_owned() };
        let (host, prefix) = text.split_once('/').map_or((text, None), |(host, prefix)| (host, Some(prefix)));
        if let Ok(address) = host.parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Ok(bits), str::parse).map_err(|_| invalid())?;
            return if prefix <= bits { Ok(Self::Network { address, prefix }) } else { Err(invalid()) };
        }
        match (url::Host::parse(host), prefix) {
            (Ok(url::Host::Domain(name)), None) => Ok(Self::Name(name)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Network { address, prefix } => write!(f, "{address}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2003::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ];
        let internal = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for (addresses, expected) in [(&public[..], true), (&internal[..], false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_networks() {
        let cases = [
            ("hooks.internal", Some("hooks.internal")),
            ("Hooks.Internal", Some("hooks.internal")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/x", None),
            ("name/8", None),
            ("", None),
            ("a b", None),
        ];
        for (text, expected) in cases {
            let host = text.parse::<AllowedHost>().ok();
            assert_eq!(host.map(|host| host.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn networks_have_their_addresses_also_as_mapped_ones() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "127.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::1", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ];
        for (host, address, expected) in cases {
            let host: AllowedHost = host.parse().unwrap();
            assert_eq!(host.has(address.parse().unwrap()), expected, "{host} {address}");
        }
    }
}
