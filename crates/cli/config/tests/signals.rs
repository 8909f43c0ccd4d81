//! Alarms, whoever is told of them, and metrics: what is taken, and what is refused.

use super::*;

#[test]
fn alarms_have_limits_and_drills_may_be_owed() {
    use lifeboat_control::alarms::{AlarmLimits, DiskFree};
    let usual = with_repository("").unwrap();
    assert_eq!(usual.alarms.limits, AlarmLimits::default());
    let text = "[alarms]\ncapture_lag = \"10m\"\ndisk_free = \"20GiB\"\nbackup_failures = 5\nrepeat = \"4h\"\n\
                restore_open = \"1h\"\nverified_within = \"7d\"\nproven_within = \"90d\"\n";
    let config = with_repository(text).unwrap();
    let limits = config.alarms.limits;
    assert_eq!((limits.disk_free, limits.backup_failures), (DiskFree::Bytes(20 << 30), 5));
    let hours = |duration: std::time::Duration| duration.as_secs() / 3_600;
    assert_eq!((hours(limits.restore_open), hours(limits.verified_within), hours(config.alarms.repeat)), (1, 168, 4));
    assert_eq!((limits.capture_lag.as_secs(), limits.proven_within.map(hours)), (600, Some(2_160)));
    assert_eq!(
        with_repository("[alarms]\ndisk_free = \"10%\"\n").unwrap().alarms.limits.disk_free,
        DiskFree::Percent(10)
    );
    refused(
        with_repository("[alarms]\nbackup_failures = 0\n"),
        5,
        "so many are not possible: key=`alarms.backup_failures`, count=`0`",
        "from 1 to 100, for example `backup_failures = 2`",
    );
    refused(
        with_repository("[alarms]\ndisk_free = \"101%\"\n"),
        5,
        "a text of another form instead of a share (a whole number from 1 to 100 and %): key=`alarms.disk_free`",
        "for example `disk_free = \"5%\"`",
    );
}

#[test]
fn whoever_is_told_has_one_way_and_no_secret_stands_here() {
    use lifeboat_control::alarms::Severity;
    let text = "[notify.oncall]\nwebhook = \"env:HOOK\"\ntoken = \"file:t\"\nmin_severity = \"critical\"\n\
                [notify.mail]\ncommand = [\"tell\", \"--all\"]\ntimeout = \"30s\"\n\
                [ping]\nurl = \"https://hc.example/x\"\nmethod = \"POST\"\non_breach = \"fail\"\n";
    let config = with_repository(text).unwrap();
    let [oncall, mail] = config.notify.as_slice() else { panic!("{:?}", config.notify) };
    assert_eq!((oncall.name.as_str(), oncall.min_severity), ("oncall", Severity::Critical));
    let NotifyWay::Webhook { url, token, signing_key } = &oncall.way else { panic!("{oncall:?}") };
    assert_eq!((url, signing_key), (&UrlRef::Secret(KeyRef::Env("HOOK".into())), &None));
    assert!(matches!(token, Some(KeyRef::File(path)) if path.ends_with("t")), "{token:?}");
    assert_eq!(mail.way, NotifyWay::Command(vec!["tell".into(), "--all".into()]));
    assert_eq!((mail.min_severity, mail.timeout.as_secs()), (Severity::Warning, 30));
    let ping = config.ping.unwrap();
    assert!(ping.is_post && ping.url == UrlRef::Here("https://hc.example/x".into()), "{ping:?}");

    let check = |text: &str, line: usize, detail: &str, hint: &str| refused(with_repository(text), line, detail, hint);
    check(
        "[notify.a]\nwebhook = \"hooks.example/s3cret\"\n",
        5,
        "not an address, and not the place of one: key=`notify.a.webhook`",
        "for example \"https://alerts.example/lifeboat\", or env:NAME or file:PATH where the address is a secret",
    );
    check(
        "[notify.a]\nwebhook = \"https://x\"\ntoken = \"s3cret\"\n",
        6,
        "a secret must not stand in the configuration: key=`notify.a.token`",
        "put it into a file of mode 0600 and write `token = \"file:PATH\"`, or env:NAME",
    );
    check(
        "[notify.a]\nmin_severity = \"warning\"\n",
        4,
        "a notifier without a way: key=`notify.a`",
        "write `webhook = \"https://alerts.example/lifeboat\"` or `command = [\"/usr/local/bin/tell\"]`",
    );
    check(
        "[notify.a]\nwebhook = \"https://x\"\ncommand = [\"x\"]\n",
        6,
        "one notifier tells in one way: key=`notify.a.command`",
        "write two: [notify.NAME] with `webhook`, and another one with `command`",
    );
    check(
        "[notify.ping]\nwebhook = \"https://x\"\n",
        4,
        "the name is taken: key=`notify.ping`",
        "the ping is written as [ping]; give this one another name",
    );
    check(
        "[notify.a]\nwebhook = \"https://x\"\nmin_severity = \"bad\"\n",
        6,
        "a text of another form instead of one of \"critical\", \"warning\", \"notice\": key=`notify.a.min_severity`",
        "for example `min_severity = \"critical\"`",
    );
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let listening = |text: &str| with_repository(&format!("[metrics]\nsite_series_max = 200\n{text}"));
    let config = listening("listen = \"127.0.0.1:9464\"\n").unwrap();
    assert_eq!((config.metrics.site_series_max, config.metrics.listen.unwrap().port()), (200, 9464));
    assert!(listening("listen = \"0.0.0.0:9464\"\ntoken = \"env:TOKEN\"\n").is_ok());
    refused(
        listening("listen = \"0.0.0.0:9464\"\n"),
        6,
        "an address that other hosts can reach needs a token: key=`metrics.listen`",
        "set `token = \"file:metrics.token\"`, or listen on 127.0.0.1 and put a proxy before it",
    );
}
