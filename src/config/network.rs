//! Networks that notifications may come from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation, or one address. Kept canonical: IPv4 stays IPv4 even if it was written or arrives as
/// IPv4-mapped IPv6, and the bits of the host part are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

/// A text that is neither a network nor an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a network like \"10.0.0.0/8\" nor an address")]
pub struct NotANetwork(String);

impl Network {
    /// Whether the network holds the address. A sender that a dual-stack socket shows as `::ffff:10.1.2.3` is 10.1.2.3.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        masked(addr.to_canonical(), self.prefix) == Some(self.addr)
            && addr.to_canonical().is_ipv4() == self.addr.is_ipv4()
    }
}

/// The address with everything behind the prefix zeroed; `None` if it has fewer bits than that.
fn masked(addr: IpAddr, prefix: u8) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => {
            let host = 32_u32.checked_sub(prefix.into())?;
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv4Addr::from_bits(addr.to_bits() & mask).into())
        }
        IpAddr::V6(addr) => {
            let host = 128_u32.checked_sub(prefix.into())?;
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv6Addr::from_bits(addr.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotANetwork(text.to_owned());
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let bits: u8 = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // u8's parser would take a sign
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        let network = masked(addr, prefix).ok_or_else(wrong)?;
        match (network, network.to_canonical()) {
            (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if prefix >= 96 => {
                Ok(Self { addr: canonical, prefix: prefix - 96 })
            }
            _ => Ok(Self { addr: network, prefix }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, addr: &str) -> bool {
        network.parse::<Network>().unwrap().contains(addr.parse().unwrap())
    }

    #[test]
    fn holds_its_addresses_and_no_others() {
        for (network, addr, expected) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.200.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::1/128", "::2", false),
        ] {
            assert_eq!(contains(network, addr), expected, "{addr} in {network}");
        }
    }

    #[test]
    fn ipv4_mapped_senders_and_networks_are_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!contains("10.0.0.0/8", "::ffff:11.1.2.3"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(contains("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"));
        assert_eq!("::ffff:10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
    }

    #[test]
    fn refuses_anything_else() {
        for text in
            ["", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/129", "::/999", "host", " ::1"]
        {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork(text.to_owned())), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".*", prefix in "[0-9]{0,4}", addr: u128) {
            let _ = text.parse::<Network>();
            let addr = Ipv6Addr::from_bits(addr);
            if let Ok(network) = format!("{addr}/{prefix}").parse::<Network>() {
                assert!(network.contains(addr.into()));
            }
        }
    }
}
