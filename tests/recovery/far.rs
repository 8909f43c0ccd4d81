//! Recoveries from a real S3 server: one that refuses, one that is read again after a kill, and another host that goes on.

use std::time::Duration;

use lifeboat_testkit::postgres::Postgres;
use lifeboat_testkit::s3_proxy::Proxy;
use lifeboat_testkit::s3_server::S3Server;
use lifeboat_testkit::world::noise;

use crate::incident::{Incident, done};

/// An incident whose repository is on S3, behind a proxy.
fn incident(test: &str, sites: u32, lost: u32) -> Option<(Incident, Proxy)> {
    let (s3, server) = (S3Server::shared_or_skip(test)?, Postgres::shared_or_skip(test)?);
    let proxy = Proxy::before(&s3.endpoint());
    let url = proxy.url(&s3.fresh_url().unwrap());
    let incident = Incident::with(server, Some(&url), (sites, lost), |shop, site| {
        let number = u64::from(site);
        std::fs::write(shop.attachment(site, "scan.bin"), noise(number, 400_000)).unwrap();
    });
    Some((incident, proxy))
}

/// In the paths of all that is stored of a site: found by what a listing of its points asks for.
fn handle_of(incident: &Incident, proxy: &Proxy, site: &str) -> String {
    proxy.note();
    incident.shop.ok(&["points", site]);
    let paths = proxy.noted();
    let found = paths.iter().find_map(|path| path.split("sites%2F").nth(1).or(path.split("/sites/").nth(1)));
    let rest = found.unwrap_or_else(|| panic!("no request for the site: {paths:?}")).replace("%2F", "/");
    rest.split('/').nth(1).unwrap().to_owned()
}

#[test]
fn a_store_that_refuses_one_sites_objects_fails_that_case_alone_and_stray_refusals_none() {
    let Some((incident, proxy)) = incident("a_store_that_refuses_one_sites_objects", 10, 8) else { return };
    let planned = incident.plan(&[]);
    let refused = &incident.lost[4];
    let handle = handle_of(&incident, &proxy, refused);
    proxy.refuse(Some(&format!("/{handle}/")));
    proxy.refuse_every(9);
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 11, "{said:?}");
    let cases = incident.cases(&planned);
    for (site, case) in &cases {
        let want = if site == refused { "failed" } else { "restored" };
        assert_eq!(case["state"], want, "{site}: {case}");
    }
    assert!(cases[refused]["message"].as_str().unwrap().contains("503"), "{}", cases[refused]);
    assert!(proxy.refusals() > 20, "{}", proxy.refusals());
    assert_eq!(done(&said)["failed"][0]["site"], refused.as_str(), "{said:?}");
    // The store is well again.
    proxy.refuse(None);
    incident.shop.ok(&["recover", "retry", &planned.id]);
    assert_eq!(incident.run(&planned, &[]).code, 0);
    assert_eq!(incident.shop.picture(), incident.whole);
}

#[test]
fn whoever_goes_on_after_a_kill_reads_at_most_a_tenth_again_and_needs_bucket_and_key_alone() {
    let Some((mut incident, proxy)) = incident("whoever_goes_on_after_a_kill", 30, 28) else { return };
    let planned = incident.plan(&[]);
    proxy.bytes_read();
    assert_eq!(incident.run(&planned, &["--parallel", "2"]).code, 0);
    let undisturbed = proxy.bytes_read();
    assert!(undisturbed > 28 * 400_000, "{undisturbed}");
    assert_eq!(incident.shop.picture(), incident.whole);
    for (number, wait) in [(1, 500), (2, 900), (3, 1_400)] {
        incident.strike();
        let planned = incident.plan(&[]);
        proxy.bytes_read();
        let args = ["--json", "recover", "run", &planned.id, "--plan", &planned.hash, "--parallel", "2"];
        let mut child = incident.shop.start(&incident.shop.url, &args);
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        child.wait().unwrap();
        incident.shop.wait_until_alone();
        let before = done(&incident.shop.ok(&["--json", "recover", "status", &planned.id]));
        // Another host: the same configuration and key, and nothing of what the first one remembered.
        let elsewhere = incident.shop.another_host();
        // It may have been killed before it had written that the plan is approved.
        let said = elsewhere.run(&args);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(done(&said)["restored"], 28, "{said:?}");
        let read = proxy.bytes_read();
        println!("kill {number}: {} restored before it; read {read}, undisturbed {undisturbed}", before["restored"]);
        assert!(read * 10 <= undisturbed * 11, "{read} of {undisturbed}");
        assert_eq!(incident.shop.picture(), incident.whole);
    }
}
