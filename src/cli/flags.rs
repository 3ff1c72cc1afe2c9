//! Flags and environment, laid over the configuration file.

use std::path::{Path, PathBuf};

use bailiwick::config::{Config, ConfigError, Layer, LogConfig, LogFormat, TlsFiles};
use clap::{Args, builder::BoolishValueParser};

/// Used if it exists and no other file is named.
const FILE_DEFAULT: &str = "/etc/bailiwick/bailiwick.toml";

/// Settings that can be given on the command line and in the environment; both go before the file.
#[derive(Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Configuration file (TOML). Default: /etc/bailiwick/bailiwick.toml if it exists.
    #[arg(long, global = true, env = "BAILIWICK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the database, the master key and the certificate live.
    #[arg(long, global = true, env = "BAILIWICK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, global = true, env = "BAILIWICK_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Serve without TLS: on loopback, or behind a named trusted proxy.
    #[arg(long, global = true, env = "BAILIWICK_PLAIN_HTTP", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    plain_http: Option<bool>,
    /// Certificate chain (PEM); without it a self-signed one is made.
    #[arg(long, global = true, env = "BAILIWICK_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, global = true, env = "BAILIWICK_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How people reach the console, for links: https://bailiwick.example.com
    #[arg(long, global = true, env = "BAILIWICK_BASE_URL", value_name = "URL")]
    base_url: Option<String>,
    /// Label of this appliance's location, part of every URN; fixed when the appliance is made.
    #[arg(long, global = true, env = "BAILIWICK_REGION")]
    region: Option<String>,
    /// Proxies whose X-Forwarded-For is believed (addresses or networks, separated by commas).
    #[arg(long, global = true, env = "BAILIWICK_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NET")]
    trusted_proxies: Option<Vec<String>>,
    /// Let cloud connectors reach private addresses (tests, national clouds behind proxies).
    #[arg(long, global = true, env = "BAILIWICK_ALLOW_PRIVATE_ENDPOINTS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    allow_private_endpoints: Option<bool>,
    /// Requests a minute that one API key may make; 0 for no limit. Default: 600.
    #[arg(long, global = true, env = "BAILIWICK_API_RATE_PER_MINUTE", value_name = "NUMBER")]
    api_rate_per_minute: Option<u32>,
    /// Format of the log on standard error.
    #[arg(long, global = true, env = "BAILIWICK_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged, for example info or bailiwick::directories=debug,info.
    #[arg(long, global = true, env = "BAILIWICK_LOG_LEVEL", value_name = "FILTER")]
    log_level: Option<String>,
}

impl Settings {
    /// For the demo: a folder of its own, loopback and plain HTTP; no file is read. Only the address and
    /// the rate of the API can be chosen.
    pub fn demo_config(self, data_dir: PathBuf) -> Result<Config, ConfigError> {
        let layer = Layer {
            data_dir: Some(data_dir),
            listen: Some(self.listen.unwrap_or_else(|| "127.0.0.1:8080".into())),
            plain_http: Some(true),
            api_rate_per_minute: self.api_rate_per_minute,
            ..Layer::default()
        };
        layer.finish()
    }

    /// The configuration after all sources are merged.
    pub fn config(self) -> Result<Config, ConfigError> {
        let file = match self.config {
            Some(path) => Layer::read(&path)?,
            None if Path::new(FILE_DEFAULT).exists() => Layer::read(Path::new(FILE_DEFAULT))?,
            None => Layer::default(),
        };
        let file_log = file.log.clone().unwrap_or_default();
        let log = LogConfig {
            format: self.log_format.unwrap_or(file_log.format),
            level: self.log_level.unwrap_or(file_log.level),
        };
        let tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        let upper = Layer {
            data_dir: self.data_dir,
            listen: self.listen,
            plain_http: self.plain_http,
            tls,
            base_url: self.base_url,
            region: self.region,
            trusted_proxies: self.trusted_proxies,
            allow_private_endpoints: self.allow_private_endpoints,
            api_rate_per_minute: self.api_rate_per_minute,
            log: Some(log),
        };
        file.under(upper).finish()
    }
}
