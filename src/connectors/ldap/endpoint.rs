//! Addresses of LDAP servers as an administrator writes them: `ldap://host:389`, `ldaps://[2001:db8::1]`.
//!
//! Owns the reading of a server line of the settings. It must never accept what it would silently ignore: a path, a
//! query, credentials in the URL, another scheme.

use std::fmt;

use rustls::pki_types::ServerName;

/// One server of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `ldaps://`: TLS from the first byte.
    pub is_ldaps: bool,
    /// A DNS name in lower case, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// Longest server line that is looked at. A DNS name has at most 253 characters.
const SERVER_LINE_MAX: usize = 300;

impl Endpoint {
    /// Reads a server line. The error is a sentence for the form field.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("The server address is empty; write it like ldaps://ldap.example.com:636.".to_owned());
        }
        if text.len() > SERVER_LINE_MAX {
            return Err(format!("The server address is longer than {SERVER_LINE_MAX} characters."));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("The server address holds a space or a control character.".to_owned());
        }
        let (is_ldaps, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ldaps") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ldap") => (false, rest),
            Some((scheme, _)) => {
                return Err(format!("The scheme {scheme}:// is not known here; use ldaps:// or ldap://."));
            }
            None => return Err("The server address needs a scheme: write ldaps://host or ldap://host.".to_owned()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("The server address must not hold credentials; they have fields of their own.".to_owned());
        }
        if rest.contains(['/', '?', '#']) {
            return Err(
                "The server address must end after the port; base DN and filter have fields of their own.".to_owned()
            );
        }
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or("The IPv6 address lacks its closing bracket.")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("[{host}] is not an IPv6 address."));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("After the IPv6 address only a port may follow, as in [::1]:636.".to_owned()),
            }
        } else {
            match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("An IPv6 address must stand in brackets, as in ldaps://[2001:db8::1]:636.".to_owned());
                }
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() {
            return Err("The server address has no host name.".to_owned());
        }
        let port = match port {
            None => {
                if is_ldaps {
                    636
                } else {
                    389
                }
            }
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 && port.to_string().len() == rest_len(rest, host) => port,
                _ => return Err(format!("{port:?} is not a port number between 1 and 65535.")),
            },
        };
        let host = host.to_ascii_lowercase();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(format!("{host:?} is not a host name; write names with other letters in their xn-- form."));
        }
        Ok(Self { is_ldaps, host, port })
    }

    /// The name that the server's certificate must carry.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }
}

/// How many characters follow `host:` (so that `+636` and `0636` are refused, which `parse` takes).
fn rest_len(rest: &str, host: &str) -> usize {
    let brackets = if rest.starts_with('[') { 2 } else { 0 };
    rest.len().saturating_sub(host.len() + brackets + 1)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_ldaps { "ldaps" } else { "ldap" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn server_lines_are_read_as_people_write_them() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Endpoint::parse(text).map(|e| e.to_string()).as_deref(), Ok(expected), "{text}");
        };
        check("ldaps://ldap.example.com", "ldaps://ldap.example.com:636");
        check("ldap://ldap.example.com", "ldap://ldap.example.com:389");
        check("LDAPS://LDAP.Example.COM:1636/", "ldaps://ldap.example.com:1636");
        check("ldaps://[2001:db8::1]", "ldaps://[2001:db8::1]:636");
        check("ldap://[::1]:10389", "ldap://[::1]:10389");
        check("ldap://127.0.0.1:3892", "ldap://127.0.0.1:3892");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for text in [
            "",
            "ldap.example.com",
            "http://x",
            "ldap://",
            "ldap://:389",
            "ldap://h:0",
            "ldap://h:65536",
            "ldap://h:+1",
            "ldap://h:0389",
            "ldap://h:",
            "ldap://h/dc=example",
            "ldap://h?x",
            "ldap://u:p@h",
            "ldap://2001:db8::1",
            "ldap://[::1",
            "ldap://[h]:1",
            "ldap://[::1]x",
            "ldap://a b",
            "ldap://h\0",
            "ldap://h\n",
            "ldapi://%2Fs",
            "ldap://exa mple",
            "ldap://münchen.example",
            "ldap://-",
            "ldap://a..b",
            "ldap://h#f",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
        assert!(Endpoint::parse(&format!("ldap://{}", "a".repeat(400))).is_err());
    }

    proptest! {
        #[test]
        fn a_parsed_address_reads_back_the_same(text in "\\PC{0,40}") {
            for scheme in ["ldap://", "ldaps://", ""] {
                if let Ok(endpoint) = Endpoint::parse(&format!("{scheme}{text}")) {
                    prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
                }
            }
        }
    }
}
