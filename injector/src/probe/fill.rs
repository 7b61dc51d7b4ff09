//! Fills `{seq}`, `{peer}` and `{address}` in.

use std::net::IpAddr;

/// The peer that is probed, which is the same for all probes of an endpoint.
pub(super) struct ProbedPeer {
    pub peer: Option<String>,
    pub address: Option<IpAddr>,
}

/// The values that one probe's texts are filled with; a missing value becomes the empty text.
pub(super) struct Values<'a> {
    pub probed: &'a ProbedPeer,
    pub seq: u64,
}

impl Values<'_> {
    pub(super) fn peer(&self) -> &str {
        self.probed.peer.as_deref().unwrap_or_default()
    }

    pub(super) fn address(&self) -> String {
        self.probed.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// Fills a text whose address is a word by itself.
    pub(super) fn fill(&self, text: &str) -> String {
        self.fill_with(text, &self.address())
    }

    /// Fills a `host:port`, where an IPv6 address is in brackets.
    pub(super) fn fill_authority(&self, text: &str) -> String {
        match self.probed.address {
            Some(IpAddr::V6(address)) if !text.contains("[{address}]") => {
                self.fill_with(text, &format!("[{address}]"))
            }
            _ => self.fill(text),
        }
    }

    // Fills in a single pass, so that a filled-in value is never filled again.
    fn fill_with(&self, text: &str, address: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let name = ["{seq}", "{peer}", "{address}"].into_iter().find(|name| rest.starts_with(name));
            match name {
                Some("{seq}") => filled.push_str(&self.seq.to_string()),
                Some("{peer}") => filled.push_str(self.peer()),
                Some(_) => filled.push_str(address),
                None => filled.push('{'),
            }
            rest = &rest[name.map_or(1, str::len)..];
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(address: &str) -> ProbedPeer {
        ProbedPeer { peer: Some("n1".to_owned()), address: Some(address.parse().unwrap()) }
    }

    #[test]
    fn values_are_filled_once_and_unknown_braces_stay() {
        let probed = probed("10.0.0.1");
        let values = Values { probed: &probed, seq: 7 };
        assert_eq!(values.fill("/{peer}/{seq}?a={address}&{x}{"), "/n1/7?a=10.0.0.1&{x}{");
        let odd = ProbedPeer { peer: Some("{seq}".to_owned()), address: None };
        assert_eq!(Values { probed: &odd, seq: 7 }.fill("{peer}{address}{"), "{seq}{");
    }

    #[test]
    fn ipv6_wears_brackets_only_as_a_host() {
        let probed = probed("fd00::1");
        let values = Values { probed: &probed, seq: 0 };
        assert_eq!(values.fill_authority("{address}:80"), "[fd00::1]:80");
        assert_eq!(values.fill_authority("[{address}]:80"), "[fd00::1]:80");
        assert_eq!(values.fill("{address}"), "fd00::1");
    }
}
