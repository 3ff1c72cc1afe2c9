//! Configuration: one TOML file, every key also as `BAILIWICK_…` and some as flags.
//!
//! Owns the names of the keys and their defaults. Precedence: flag, environment, file, default. An unknown key in the
//! file is an error, so that a typing mistake cannot silently switch a protection off.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::Deserialize;

/// Ten requests a second, for minutes on end, from one program.
const API_RATE_DEFAULT: u32 = 600;
const API_RATE_MAX: u32 = 1_000_000;

/// What the appliance runs with, after all sources are merged.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Serve HTTP without TLS: on loopback, or behind one of `trusted_proxies`.
    pub plain_http: bool,
    pub tls: Option<TlsFiles>,
    /// How people reach the console, for links in invitations and set-up texts; never taken from a request.
    pub base_url: Option<url::Url>,
    /// Label of this appliance's location, part of every URN; fixed at init.
    pub region: String,
    /// Peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Cloud connectors may be pointed at private addresses (tests, national clouds behind proxies).
    pub allow_private_endpoints: bool,
    /// Requests a minute that one API key may make; 0: as many as it likes.
    pub api_rate_per_minute: u32,
    pub log: LogConfig,
}

/// The certificate and key given by the administrator (PEM).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A `tracing` filter, for example `info` or `bailiwick::directories=debug,info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The file, and at the same time the layer that flags and environment are laid over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<String>,
    pub plain_http: Option<bool>,
    pub tls: Option<TlsFiles>,
    pub base_url: Option<String>,
    pub region: Option<String>,
    pub trusted_proxies: Option<Vec<String>>,
    pub allow_private_endpoints: Option<bool>,
    pub api_rate_per_minute: Option<u32>,
    pub log: Option<LogConfig>,
}

/// Why the configuration is refused; the message names the key and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{key}: {message}")]
    Value { key: &'static str, message: String },
}

impl Layer {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|e| ConfigError::Parse { path: path.to_owned(), message: e.to_string() })
    }

    /// This layer, with the keys of `upper` put over it.
    #[must_use]
    pub fn under(self, upper: Self) -> Self {
        Self {
            data_dir: upper.data_dir.or(self.data_dir),
            listen: upper.listen.or(self.listen),
            plain_http: upper.plain_http.or(self.plain_http),
            tls: upper.tls.or(self.tls),
            base_url: upper.base_url.or(self.base_url),
            region: upper.region.or(self.region),
            trusted_proxies: upper.trusted_proxies.or(self.trusted_proxies),
            allow_private_endpoints: upper.allow_private_endpoints.or(self.allow_private_endpoints),
            api_rate_per_minute: upper.api_rate_per_minute.or(self.api_rate_per_minute),
            log: upper.log.or(self.log),
        }
    }

    /// Checks every value and fills in the defaults.
    pub fn finish(self) -> Result<Config, ConfigError> {
        let value = |key, message: String| ConfigError::Value { key, message };
        let listen = self.listen.unwrap_or_else(|| "0.0.0.0:8443".into());
        let listen: SocketAddr = listen.parse().map_err(|_| {
            value("listen", format!("`{listen}` is not an address and port, such as 0.0.0.0:8443 or [::]:8443"))
        })?;
        let trusted_proxies = self
            .trusted_proxies
            .unwrap_or_default()
            .iter()
            .map(|text| {
                text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(|_| {
                    value(
                        "trusted_proxies",
                        format!("`{text}` is not an address or network, such as 10.0.0.5 or 10.0.0.0/24"),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let base_url = self
            .base_url
            .map(|text| {
                url::Url::parse(&text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some())
                    .ok_or_else(|| {
                        value("base_url", format!("`{text}` is not an address such as https://bailiwick.example.com"))
                    })
            })
            .transpose()?;
        let region = self.region.unwrap_or_else(|| "default".into());
        let region_ok = (1..=32).contains(&region.len())
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !region_ok {
            return Err(value("region", "1 to 32 lower-case letters, digits and hyphens".into()));
        }
        let api_rate_per_minute = self.api_rate_per_minute.unwrap_or(API_RATE_DEFAULT);
        if api_rate_per_minute > API_RATE_MAX {
            return Err(value("api_rate_per_minute", format!("0 (no limit) to {API_RATE_MAX}")));
        }
        let plain_http = self.plain_http.unwrap_or(false);
        if plain_http && !listen.ip().is_loopback() && trusted_proxies.is_empty() {
            return Err(value(
                "plain_http",
                "plain HTTP is served on loopback only, or behind a proxy named in trusted_proxies; \
                 listen on 127.0.0.1, name the proxy, or leave plain_http out to serve HTTPS"
                    .into(),
            ));
        }
        Ok(Config {
            data_dir: self.data_dir.unwrap_or_else(|| "/var/lib/bailiwick".into()),
            listen,
            plain_http,
            tls: self.tls,
            base_url,
            region,
            trusted_proxies,
            allow_private_endpoints: self.allow_private_endpoints.unwrap_or(false),
            api_rate_per_minute,
            log: self.log.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(text: &str) -> Result<Config, String> {
        let layer: Layer = toml::from_str(text).map_err(|e| e.to_string())?;
        layer.finish().map_err(|e| e.to_string())
    }

    #[test]
    fn plain_http_is_for_loopback_or_a_named_proxy() {
        assert!(finish("listen = \"127.0.0.1:8080\"\nplain_http = true").is_ok());
        assert!(finish("listen = \"0.0.0.0:8080\"\nplain_http = true").is_err_and(|e| e.contains("trusted_proxies")));
        assert!(finish("listen = \"0.0.0.0:8080\"\nplain_http = true\ntrusted_proxies = [\"10.0.0.5\"]").is_ok());
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(finish("plain_htpp = true").is_err_and(|e| e.contains("plain_htpp")));
        assert!(finish("region = \"Europe!\"").is_err());
        assert!(finish("base_url = \"bailiwick\"").is_err());
        assert!(finish("api_rate_per_minute = 1000001").is_err_and(|e| e.contains("api_rate_per_minute")));
        assert!(finish("listen = \"443\"").is_err_and(|e| e.contains("address and port")));
    }

    #[test]
    fn the_upper_layer_wins() {
        let file: Layer = toml::from_str("region = \"north\"\nlisten = \"127.0.0.1:1\"").expect("layer");
        let flags = Layer { listen: Some("127.0.0.1:2".into()), ..Layer::default() };
        let config = file.under(flags).finish().expect("config");
        assert_eq!((config.region.as_str(), config.listen.port()), ("north", 2));
    }
}
