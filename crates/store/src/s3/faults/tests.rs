use lifeboat_model::{Fault, Faulty};

use super::*;

fn fault_of(action: &'static str, status: u16, code: &str) -> Error {
    let address =
        S3Address { bucket: "my-bucket".into(), prefix: "p/".into(), endpoint: None, region: None, path_style: false };
    let asked = Asked { address: &address, action, name: "a/b" };
    asked.fault_of(&Answer { status, code, message: "words", retry_after: Some(Duration::from_secs(7)) })
}

#[test]
fn every_answer_says_what_to_do() {
    let check = |action: &'static str, status: u16, code: &str, want: Fault, hint: &str| {
        let error = fault_of(action, status, code);
        assert_eq!(error.fault(), want, "{status} {code}: {error}");
        let got = error.hint().unwrap_or_default();
        assert!(got.contains(hint), "{status} {code}: hint `{got}`");
    };
    check("get", 403, "AccessDenied", Fault::Operator, "AWS_ACCESS_KEY_ID");
    check("get", 403, "SignatureDoesNotMatch", Fault::Operator, "AWS_PROFILE");
    check("get", 403, "InvalidAccessKeyId", Fault::Operator, "role");
    check("get", 400, "ExpiredToken", Fault::Operator, "AWS_PROFILE");
    check("get", 403, "RequestTimeTooSkewed", Fault::Operator, "clock");
    check("get", 404, "NoSuchBucket", Fault::Operator, "create the bucket `my-bucket`");
    check("create", 404, "", Fault::Operator, "speaks S3");
    check("list", 404, "NoSuchKey", Fault::Operator, "speaks S3");
    check("get", 301, "PermanentRedirect", Fault::Operator, "region");
    check("get", 400, "AuthorizationHeaderMalformed", Fault::Operator, "region");
    check("create", 507, "", Fault::Operator, "free some space");
    check("create", 403, "QuotaExceeded", Fault::Operator, "");
    check("create", 501, "NotImplemented", Fault::Operator, "If-None-Match");
    check("get", 404, "NoSuchKey", Fault::Damage, "");
    check("create", 412, "PreconditionFailed", Fault::Fenced, "");
    for (status, code) in [
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
        (429, ""),
        (500, "InternalError"),
        (502, ""),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (504, ""),
        (400, "RequestTimeout"),
        (408, ""),
        (404, "NoSuchUpload"),
        (200, ""),
    ] {
        check("create", status, code, Fault::Retry, "endpoint");
    }
    check("create", 400, "InvalidRequest", Fault::Operator, "speaks S3");
}

#[test]
fn full_is_told_apart_from_refused() {
    assert!(matches!(fault_of("create", 507, ""), Error::Full { .. }));
    assert!(matches!(fault_of("create", 500, "XMinioStorageFull"), Error::Full { .. }));
}

#[test]
fn the_wait_the_server_asks_for_is_passed_on() {
    let Error::Unavailable { after, detail } = fault_of("get", 503, "SlowDown") else { panic!("not unavailable") };
    assert_eq!(after, Some(Duration::from_secs(7)));
    assert!(detail.contains("words: status=`503`, code=`SlowDown`, action=`get`, object=`a/b`"), "{detail}");
    assert_eq!(retry_after("5"), Some(Duration::from_secs(5)));
    assert_eq!(retry_after("99999999"), Some(RETRY_AFTER_MAX));
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
}
