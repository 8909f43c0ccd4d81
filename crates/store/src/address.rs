//! The address of a repository: `file:///path` or `s3://bucket/prefix?key=value`.

use std::fmt;
use std::path::PathBuf;

use crate::{Error, ObjectName};

/// A parsed repository URL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    Directory { path: PathBuf },
    S3(S3Address),
}

/// Where a repository lies in S3 or in a server that speaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    pub bucket: String,
    /// Empty, or ends with `/`.
    pub prefix: String,
    /// `http://host:port` or `https://…`; `None`: AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `endpoint/bucket/key` in place of `bucket.endpoint/key`.
    pub path_style: bool,
}

const S3_KEYS: [&str; 3] = ["endpoint", "region", "path_style"];
const FORMS: &str = "write file:///absolute/path or s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1";

impl Address {
    /// # Errors
    /// [`Error::BadAddress`], with the form that was probably meant.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if let Some(rest) = url.strip_prefix("file:") {
            return parse_file(rest);
        }
        if let Some(rest) = url.strip_prefix("s3:") {
            return parse_s3(rest).map(Address::S3);
        }
        let (detail, hint) = match url.split_once(':') {
            _ if url.trim() != url => ("it begins or ends with a space".to_owned(), FORMS.to_owned()),
            _ if url.is_empty() => ("it is empty".to_owned(), FORMS.to_owned()),
            _ if url.starts_with('/') => ("it has no scheme".to_owned(), format!("write file://{url}")),
            Some((scheme, _)) if matches!(scheme, "http" | "https") => (
                format!("the scheme is not known: scheme=`{scheme}`"),
                "for a server that speaks S3 write s3://bucket/prefix?endpoint=http://host:port".to_owned(),
            ),
            Some((scheme, rest)) if scheme.len() < 20 && rest.starts_with("//") => {
                (format!("the scheme is not known: scheme=`{scheme}`"), FORMS.to_owned())
            }
            _ => ("it has no scheme".to_owned(), FORMS.to_owned()),
        };
        Err(bad(detail, hint))
    }
}

impl fmt::Display for S3Address {
    /// As a person writes it; there are no secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, "?endpoint={endpoint}")?;
        }
        Ok(())
    }
}

fn bad(detail: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::BadAddress { detail: detail.into(), hint: hint.into() }
}

/// `rest` is what follows `file:`.
fn parse_file(rest: &str) -> Result<Address, Error> {
    use std::os::unix::ffi::OsStringExt;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    // file://localhost/path is the long form of file:///path.
    let path = path.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(path);
    if path.is_empty() {
        return Err(bad("the path is missing", "write file:///absolute/path"));
    }
    if !path.starts_with('/') {
        return Err(bad(
            format!("the path is relative: path=`{path}`"),
            format!("a schedule runs elsewhere than you do, so write the whole path: file:///absolute/path/to/{path}"),
        ));
    }
    if let Some((path, query)) = path.split_once('?') {
        return Err(bad(
            format!("a directory takes no options: options=`{query}`"),
            format!("write file://{path} (a `?` in a name is written %3F)"),
        ));
    }
    let bytes = percent_decode(path)?;
    if bytes.contains(&0) {
        return Err(bad("the path contains a zero byte", "write file:///absolute/path"));
    }
    Ok(Address::Directory { path: PathBuf::from(std::ffi::OsString::from_vec(bytes)) })
}

/// `rest` is what follows `s3:`.
fn parse_s3(rest: &str) -> Result<S3Address, Error> {
    const FORM: &str = "write s3://bucket/prefix";
    let rest = rest.strip_prefix("//").ok_or_else(|| bad("`//` is missing after `s3:`", FORM))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.contains('@') {
        // Not repeated in the message: it may hold a secret.
        return Err(bad(
            "credentials do not belong into the address",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and write s3://bucket/prefix",
        ));
    }
    if bucket.is_empty() {
        return Err(bad("the bucket is missing", FORM));
    }
    if bucket.contains(':') {
        return Err(bad(
            format!("a host and port stand in place of the bucket: bucket=`{bucket}`"),
            format!("write s3://bucket/prefix?endpoint=http://{bucket}"),
        ));
    }
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if !(3..=63).contains(&bucket.len()) || !bucket.to_ascii_lowercase().bytes().all(is_plain) {
        return Err(bad(
            format!("not a bucket's name: bucket=`{bucket}`"),
            "bucket names are 3 to 63 letters, digits, dots and hyphens",
        ));
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|s| matches!(s, "" | "." | "..") || s.contains(char::is_whitespace))
    {
        return Err(bad(
            format!("the prefix is not a path of plain names: prefix=`{prefix}`"),
            "write s3://bucket/some/prefix, without spaces, empty names, `.` or `..`",
        ));
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let mut address = S3Address { bucket: bucket.to_owned(), prefix, endpoint: None, region: None, path_style: false };
    parse_options(&mut address, query)?;
    Ok(address)
}

fn parse_options(address: &mut S3Address, query: &str) -> Result<(), Error> {
    let mut path_style = None;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let value = String::from_utf8(percent_decode(value)?)
            .map_err(|_| bad(format!("not UTF-8: option=`{key}`"), "write it without percent signs"))?;
        match key {
            "endpoint" => address.endpoint = Some(endpoint(value)?),
            "region" if value.is_empty() => return Err(bad("the region is empty", "write region=us-east-1")),
            "region" => address.region = Some(value),
            "path_style" => path_style = Some(yes_or_no(&value)?),
            _ => return Err(unknown_option(key)),
        }
    }
    // Servers of one's own seldom have a name in DNS for each bucket.
    address.path_style = path_style.unwrap_or(address.endpoint.is_some());
    Ok(())
}

fn endpoint(value: String) -> Result<String, Error> {
    let value = value.trim_end_matches('/').to_owned();
    let host = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    match host {
        Some(host) if host.contains('@') => Err(bad(
            "credentials do not belong into the endpoint",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )),
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => Ok(value),
        _ => Err(bad(
            format!("the endpoint is not http://host:port or https://host:port: endpoint=`{value}`"),
            "write for example endpoint=http://127.0.0.1:9000",
        )),
    }
}

fn yes_or_no(value: &str) -> Result<bool, Error> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(
            format!("neither true nor false: path_style=`{value}`"),
            "write path_style=true or path_style=false",
        )),
    }
}

fn unknown_option(key: &str) -> Error {
    let nearest = S3_KEYS.into_iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
    let near = nearest.filter(|nearest| strsim::jaro(nearest, key) > 0.7);
    let hint = match near {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the options are {}", S3_KEYS.join(", ")),
    };
    bad(format!("unknown option: option=`{key}`"), hint)
}

/// Decodes `%XX`; every other byte stands for itself.
fn percent_decode(text: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok());
        let Some(decoded) = digits else {
            return Err(bad(
                format!("`%` without two hexadecimal digits: in=`{text}`"),
                "a percent sign itself is written %25",
            ));
        };
        bytes.extend(decoded);
        rest = &tail[2..];
    }
    Ok(bytes)
}

impl S3Address {
    /// The name of an object as a key of this bucket.
    pub(crate) fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
