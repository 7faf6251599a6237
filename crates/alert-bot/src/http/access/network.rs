//! Whose connections are trusted to read.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// Who may read without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadAccess {
    /// Connections from this host itself.
    Loopback,
    /// These, and the networks that are named as trusted.
    Networks,
    /// Nobody.
    Token,
}

/// Addresses that are trusted to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// All addresses that begin with the same `prefix` bits.
    Cidr {
        /// One of them.
        ip: IpAddr,
        /// How many bits count.
        prefix: u8,
    },
    /// The default gateway: where Docker lets a published port's connections come from.
    DockerHost,
}

/// A list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Network>);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "docker-host" {
            return Ok(Self::DockerHost);
        }
        let wrong = || format!("'{text}' is neither a network such as 10.0.0.0/8 nor 'docker-host'");
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), str::parse).map_err(|_| wrong())?;
        if prefix > bits { Err(wrong()) } else { Ok(Self::Cidr { ip, prefix }) }
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr { ip, prefix } => write!(f, "{ip}/{prefix}"),
            Self::DockerHost => f.write_str("docker-host"),
        }
    }
}

fn within(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    fn same<const N: usize>(a: [u8; N], b: [u8; N], prefix: u8) -> bool {
        let mut left = prefix;
        a.iter().zip(b).all(|(a, b)| {
            let bits = left.min(8);
            left -= bits;
            // Shifting a byte by eight is not possible in a byte.
            u16::from(a ^ b) >> (8 - bits) == 0
        })
    }
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.octets(), b.octets(), prefix),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.octets(), b.octets(), prefix),
        _ => false,
    }
}

/// Answers whether an address is trusted.
pub struct Trusted {
    networks: Networks,
    routes: fn() -> String,
}

impl Trusted {
    /// By the routes of this machine, or container.
    pub fn new(networks: Networks) -> Self {
        // Looked at when asked: networks can be joined while running.
        Self { networks, routes: || std::fs::read_to_string("/proc/net/route").unwrap_or_default() }
    }

    /// Whether it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.networks.0.iter().any(|network| match *network {
            Network::Cidr { ip: of, prefix } => within(ip, of, prefix),
            Network::DockerHost => gateways(&(self.routes)()).any(|gateway| IpAddr::V4(gateway) == ip),
        })
    }
}

/// The gateways of default routes, from the text of `/proc/net/route`.
fn gateways(routes: &str) -> impl Iterator<Item = Ipv4Addr> {
    routes.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (destination, gateway, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let flags = u16::from_str_radix(flags, 16).ok()?;
        // RTF_UP and RTF_GATEWAY; the number is in the machine's own byte order.
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|_| destination == "00000000" && flags & 3 == 3)?;
        Some(Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("172.16.0.0/12", "172.31.0.9", "172.32.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("fd00::/8", "fd12::1", "fe80::1"),
        ] {
            let trusted = Trusted::new(network.parse().unwrap());
            assert!(trusted.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!trusted.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        assert!(Trusted::new("0.0.0.0/0".parse().unwrap()).contains("198.51.100.1".parse().unwrap()));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "everybody", "::/129", "10.0.0.0/x"] {
            assert!(wrong.parse::<Networks>().is_err(), "{wrong}");
        }
        assert_eq!("".parse::<Networks>(), Ok(Networks::default()));
    }

    #[test]
    fn a_published_port_s_connections_come_from_the_default_gateway() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\n\
                      eth0\t00000000\t010012AC\t0003\t0\n\
                      eth0\t000012AC\t00000000\t0001\t0\n";
        assert_eq!(gateways(routes).collect::<Vec<_>>(), [Ipv4Addr::new(172, 18, 0, 1)]);
        assert_eq!(gateways("").count(), 0);
    }
}
