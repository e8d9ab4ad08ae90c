//! Which addresses the operator calls for others.
//!
//! Canaries, templates and alert providers name addresses, so whoever writes them could make the
//! operator speak to what only it can reach. Addresses are judged after their names are resolved,
//! at connect time, so that a name cannot change its meaning in between.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Which addresses the operator calls for others.
///
/// Cluster networks are allowed: Prometheus and webhooks live there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Whether the operator's own host may be called.
    pub loopback: bool,
}

impl Egress {
    /// Whether an IP address may be called.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => self.allows_v6(address),
        }
    }

    fn allows_v4(self, address: Ipv4Addr) -> bool {
        /// Metadata services outside the link-local range: Alibaba Cloud and Oracle Cloud.
        const METADATA: [Ipv4Addr; 2] = [
            Ipv4Addr::new(100, 100, 100, 200),
            Ipv4Addr::new(192, 0, 0, 192),
        ];
        if address.is_loopback() {
            return self.loopback;
        }
        !(address.octets()[0] == 0
            || address.is_link_local()
            || address.is_multicast()
            || address.octets()[0] >= 240
            || METADATA.contains(&address))
    }

    fn allows_v6(self, address: Ipv6Addr) -> bool {
        if address == Ipv6Addr::LOCALHOST {
            return self.loopback;
        }
        let segments = address.segments();
        let [.., a, b, c, d] = address.octets();
        let inner = Ipv4Addr::new(a, b, c, d);
        let embeds_v4 = matches!(
            segments,
            // IPv4-compatible, IPv4-mapped, NAT64
            [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _]
        );
        if embeds_v4 {
            return self.allows_v4(inner);
        }
        if segments[0] == 0x2002 {
            // 6to4
            let [_, _, a, b, c, d, ..] = address.octets();
            return self.allows_v4(Ipv4Addr::new(a, b, c, d));
        }
        !(address.is_multicast()
            || address.is_unicast_link_local()
            // AWS metadata, time and DNS services
            || segments[..2] == [0xfd00, 0x0ec2])
    }

    /// Reads an address for a call; hosts that are IP addresses are judged here, names when they
    /// are resolved.
    ///
    /// # Errors
    /// A sentence that names the problem, not the address.
    pub(super) fn url(self, text: &str) -> Result<Url, Refusal> {
        let url = Url::parse(text).map_err(|error| {
            Refusal::Invalid(format!(
                "the address cannot be read: {error}; write http://HOST:PORT/PATH or https://…"
            ))
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Invalid(format!(
                "the address has the scheme {:?}; use http or https",
                url.scheme().chars().take(20).collect::<String>()
            )));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match literal.parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(Refusal::Denied(denied(address))),
            Ok(_) | Err(_) => Ok(url),
        }
    }
}

/// Why an address cannot be called.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Invalid(String),
    /// It may not be called.
    Denied(String),
}

fn denied(address: IpAddr) -> String {
    let what = if address.is_loopback() {
        "the operator's own host"
    } else {
        "link-local, metadata, multicast or reserved"
    };
    format!("the address is {what}, which the operator does not call; use a Service's name")
}

/// Marks an error as a refusal among the errors of resolution.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DeniedAddress(String);

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found
                .iter()
                .copied()
                .filter(|address| egress.allows(address.ip()))
                .collect();
            match (found.first(), allowed.is_empty()) {
                (Some(address), true) => Err(DeniedAddress(denied(address.ip())).into()),
                (None, _) => Err(io::Error::other("the name has no address").into()),
                (Some(_), false) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_inside_the_operators_reach_alone_is_denied() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.170.2/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://[::]/",
            "http://0.0.0.0/",
            "http://0/",
            "http://0.1.2.3/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://240.0.0.1/",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://user:pass@127.0.0.1:8080/",
            "https://①⑥⑨.254.169.254/",
        ] {
            assert!(
                matches!(Egress::default().url(url), Err(Refusal::Denied(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn address_that_is_not_http_is_invalid() {
        for url in [
            "file:///etc/passwd",
            "gopher://x/",
            "ftp://x/",
            "unix:/run/x",
            "javascript:0",
            "prometheus:9090",
            "//x/",
            "",
            "http://",
            "http://a b/",
            "http://x:99999/",
        ] {
            assert!(
                matches!(Egress::default().url(url), Err(Refusal::Invalid(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn address_of_a_cluster_or_the_internet_is_allowed() {
        for url in [
            "http://prometheus:9090",
            "https://hooks.example.com/x",
            "http://10.0.0.1:9090",
            "http://172.16.0.1",
            "http://192.168.1.1",
            "http://100.64.0.1",
            "http://[fd12::1]:80/",
            "http://[2001:db8::1]/",
        ] {
            assert!(Egress::default().url(url).is_ok(), "{url}");
        }
        assert!(Egress { loopback: true }.url("http://127.0.0.1:1").is_ok());
        assert!(Egress { loopback: true }.url("http://[::1]:1").is_ok());
        assert!(
            Egress { loopback: true }
                .url("http://169.254.169.254")
                .is_err()
        );
    }

    #[tokio::test]
    async fn name_that_resolves_to_a_denied_address_is_refused() {
        let Ok(name) = "localhost".parse::<Name>() else {
            unreachable!("a name")
        };
        let refused = Egress::default().resolve(name).await;
        assert!(refused.is_err_and(|error| error.is::<DeniedAddress>()));
    }
}
