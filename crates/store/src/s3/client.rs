//! The S3 client: whose credentials, which certificates, which time-outs.
//!
//! The SDK's own retries are off (there is one place that retries, [`crate::Retry`]). In-memory
//! bodies are signed with their SHA-256, so that no transfer framing and no trailer is used: the
//! servers that store such framing as content are many.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Config, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

use super::faults::no_credentials;
use crate::{Error, S3Address};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that does not move at all for so long is given up.
const STALL_GRACE: Duration = Duration::from_secs(20);

/// An access key given by the caller in place of the AWS chain.
#[derive(Clone)]
pub struct S3Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// What an address does not say.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `None`: the usual AWS chain (environment, profile, credential process, web identity,
    /// container or instance role).
    pub credentials: Option<S3Credentials>,
    /// Larger bodies are sent in parts.
    pub multipart_from_bytes: u64,
    /// Bytes of one part; S3 takes none below 5 MiB but the last.
    pub part_bytes: u64,
    /// Parts of one body on their way at once.
    pub parts_parallel: usize,
    /// How long one request may take, besides the time its bytes need at a slow but living link.
    pub request_timeout: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            credentials: None,
            multipart_from_bytes: 64 << 20,
            part_bytes: 16 << 20,
            parts_parallel: 4,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Builds the client and finds the credentials, so that missing ones are named before any work.
pub async fn build(address: &S3Address, options: &S3Options) -> Result<aws_sdk_s3::Client, Error> {
    let http = http_client(address.endpoint.as_deref())?;
    let (region, credentials) = match &options.credentials {
        Some(given) => {
            let token = given.session_token.clone();
            let credentials =
                Credentials::new(&given.access_key_id, &given.secret_access_key, token, None, "lifeboat-options");
            (address.region.clone().map(Region::new), SharedCredentialsProvider::new(credentials))
        }
        None => from_chain(address).await?,
    };
    let region = match (region, &address.endpoint) {
        (Some(region), _) => region,
        // Servers of one's own take any region; this is the one they expect if they check.
        (None, Some(_)) => Region::new("us-east-1"),
        (None, None) => {
            return Err(Error::BadAddress {
                detail: format!("no region is known for the bucket: bucket=`{}`", address.bucket),
                hint: format!("add ?region=eu-central-1 (yours) to s3://{}, or set AWS_REGION", address.bucket),
            });
        }
    };
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().build();
    let stalls = StalledStreamProtectionConfig::enabled().grace_period(STALL_GRACE).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
        .credentials_provider(credentials)
        .force_path_style(address.path_style)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(address.endpoint.clone());
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// The usual AWS chain, asked once here: a chain that finds nothing takes its time, and says so now.
async fn from_chain(address: &S3Address) -> Result<(Option<Region>, SharedCredentialsProvider), Error> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(None)?);
    match &address.region {
        Some(region) => loader = loader.region(Region::new(region.clone())),
        // Else the chain asks the instance metadata service, which outside AWS only costs time.
        None if address.endpoint.is_some() => loader = loader.region(Region::new("us-east-1")),
        None => {}
    }
    let config = loader.load().await;
    let provider = config.credentials_provider().ok_or_else(|| no_credentials("the AWS chain is empty"))?;
    provider.provide_credentials().await.map_err(|error| no_credentials(&super::faults::chain(&error)))?;
    Ok((config.region().cloned(), provider))
}

/// `endpoint` is `None` for AWS itself.
fn http_client(endpoint: Option<&str>) -> Result<SharedHttpClient, Error> {
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    // Without TLS no certificates are needed, and a host may have none.
    let trust = if is_plain { TrustStore::empty() } else { trust_store()? };
    let tls = TlsContext::builder().with_trust_store(trust).build().map_err(|error| Error::Refused {
        detail: format!("TLS cannot be set up: {}", super::faults::chain(&error)),
        hint: "check SSL_CERT_FILE and AWS_CA_BUNDLE".to_owned(),
    })?;
    let is_local = endpoint.is_some_and(is_loopback);
    Ok(Builder::new().pool_idle_timeout(Duration::from_secs(20)).build_with_connector_fn(
        move |settings, components| {
            let proxy = if is_local { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
            let mut connector = Connector::builder()
                .proxy_config(proxy)
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(tls.clone());
            connector.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            connector.build()
        },
    ))
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}

/// The system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` honoured) and those of
/// `AWS_CA_BUNDLE`, which the AWS tools read for servers of one's own.
fn trust_store() -> Result<TrustStore, Error> {
    let mut trust = TrustStore::default();
    let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) else { return Ok(trust) };
    let bundle = std::fs::read_to_string(&path).map_err(|error| Error::Refused {
        detail: format!("the file named by AWS_CA_BUNDLE cannot be read: {error}: path=`{}`", path.display()),
        hint: "name a readable PEM file in AWS_CA_BUNDLE, or unset it".to_owned(),
    })?;
    for certificate in usable_certificates(&bundle) {
        trust.add_pem_certificate(certificate);
    }
    Ok(trust)
}

/// The certificates of a PEM file that TLS can use. The others are left out here, because the HTTP
/// client panics on one.
fn usable_certificates(bundle: &str) -> Vec<&str> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut usable = Vec::new();
    let mut rest = bundle;
    while let Some(begin) = rest.find(BEGIN) {
        rest = &rest[begin..];
        let Some(end) = rest.find(END) else { break };
        let (block, tail) = rest.split_at(end + END.len());
        let parsed = CertificateDer::from_pem_slice(block.as_bytes());
        if parsed.is_ok_and(|certificate| rustls::RootCertStore::empty().add(certificate).is_ok()) {
            usable.push(block);
        }
        rest = tail;
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_certificate_in_a_bundle_is_left_out() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(usable_certificates("").is_empty());
        assert!(usable_certificates(broken).is_empty());
        assert!(usable_certificates(&broken[..40]).is_empty());
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let credentials = S3Credentials {
            access_key_id: "testak".into(),
            secret_access_key: "hidden-one".into(),
            session_token: Some("hidden-two".into()),
        };
        let text = format!("{:?}", S3Options { credentials: Some(credentials), ..S3Options::default() });
        assert!(text.contains("testak") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn only_this_host_is_reached_around_a_proxy() {
        let check = |endpoint: &str, want: bool| assert_eq!(is_loopback(endpoint), want, "{endpoint}");
        check("http://127.0.0.1:9000", true);
        check("https://localhost", true);
        check("http://[::1]:9000", true);
        check("https://s3.example.org", false);
    }
}
