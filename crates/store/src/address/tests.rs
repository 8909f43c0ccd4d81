use super::*;

fn parsed(url: &str) -> Address {
    Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn a_directory_is_an_absolute_path() {
    let check = |url: &str, want: &str| assert_eq!(parsed(url), Address::Directory { path: want.into() }, "{url}");
    check("file:///var/backups/lifeboat", "/var/backups/lifeboat");
    check("file:/var/backups", "/var/backups");
    check("file://localhost/var/backups", "/var/backups");
    check("file:///with%20space/100%25/%c3%a9", "/with space/100%/\u{e9}");
    check("file:///with space", "/with space");
}

#[test]
fn a_bucket_may_have_a_prefix_an_endpoint_and_a_region() {
    let check = |url: &str, want: (&str, &str, Option<&str>, Option<&str>, bool)| {
        let Address::S3(got) = parsed(url) else { panic!("{url}") };
        let got_parts = (&*got.bucket, &*got.prefix, got.endpoint.as_deref(), got.region.as_deref(), got.path_style);
        assert_eq!(got_parts, want, "{url}");
    };
    check("s3://my-bucket", ("my-bucket", "", None, None, false));
    check("s3://my-bucket/", ("my-bucket", "", None, None, false));
    check("s3://my-bucket/a/b/?region=eu-central-1", ("my-bucket", "a/b/", None, Some("eu-central-1"), false));
    let local = Some("http://127.0.0.1:9000");
    check(
        "s3://b-1/p?endpoint=http://127.0.0.1:9000&region=us-east-1&path_style=true",
        ("b-1", "p/", local, Some("us-east-1"), true),
    );
    check("s3://b-1/p?endpoint=http%3A%2F%2F127.0.0.1%3A9000/", ("b-1", "p/", local, None, true));
    check("s3://b-1/p?path_style=false&endpoint=http://127.0.0.1:9000", ("b-1", "p/", local, None, false));
}

#[test]
fn every_malformed_address_is_named_and_has_a_hint() {
    let check = |url: &str, detail: &str, hint: &str| match Address::parse(url) {
        Err(Error::BadAddress { detail: got, hint: got_hint }) => {
            assert!(got.contains(detail), "{url}: detail `{got}`");
            assert!(got_hint.contains(hint), "{url}: hint `{got_hint}`");
        }
        other => panic!("{url}: {other:?}"),
    };
    check("", "empty", "file:///");
    check(" s3://bucket", "space", "s3://");
    check("/var/backups", "no scheme", "write file:///var/backups");
    check("backups", "no scheme", "file:///");
    check("ftp://host/path", "scheme=`ftp`", "s3://bucket");
    check("S3://bucket", "scheme=`S3`", "s3://bucket");
    check("https://s3.example.org/bucket", "scheme=`https`", "endpoint=");
    check("file://", "path is missing", "file:///absolute");
    check("file:backups", "relative: path=`backups`", "path/to/backups");
    check("file://./backups", "relative", "whole path");
    check("file:///a?endpoint=x", "takes no options", "write file:///a ");
    check("file:///a%2", "two hexadecimal digits", "%25");
    check("file:///a%00b", "zero byte", "file:///");
    check("s3:bucket", "`//` is missing", "s3://bucket/prefix");
    check("s3://", "bucket is missing", "s3://bucket");
    check("s3:///prefix", "bucket is missing", "s3://bucket");
    check("s3://127.0.0.1:9000/bucket", "in place of the bucket", "endpoint=http://127.0.0.1:9000");
    check("s3://ab", "not a bucket's name", "3 to 63");
    check("s3://my bucket/a", "not a bucket's name", "letters");
    check("s3://bucket/a//b", "prefix=`a//b`", "empty names");
    check("s3://bucket/../b", "prefix", "`..`");
    check("s3://bucket/p?endpiont=http://h:1", "option=`endpiont`", "did you mean `endpoint`?");
    check("s3://bucket/p?pathstyle=true", "option=`pathstyle`", "`path_style`");
    check("s3://bucket/p?xyz=1", "option=`xyz`", "endpoint, region, path_style");
    check("s3://bucket/p?endpoint=127.0.0.1:9000", "endpoint=`127.0.0.1:9000`", "http://127.0.0.1:9000");
    check("s3://bucket/p?endpoint=http://", "endpoint=", "http://127.0.0.1:9000");
    check("s3://bucket/p?endpoint=http://h:1/path", "endpoint=", "http://");
    check("s3://bucket/p?region=", "region is empty", "us-east-1");
    check("s3://bucket/p?path_style=yes", "path_style=`yes`", "path_style=true");
}

#[test]
fn a_secret_in_an_address_is_refused_and_not_repeated() {
    for url in ["s3://testak:hidden@bucket/p", "s3://bucket/p?endpoint=http://testak:hidden@127.0.0.1:9000"] {
        let text = format!("{:?}", Address::parse(url).unwrap_err());
        assert!(text.contains("AWS_ACCESS_KEY_ID") && !text.contains("hidden"), "{text}");
    }
}
