use super::*;

#[test]
fn a_storm_strikes_the_share_it_says_with_every_kind_and_the_same_again_from_its_seed() {
    let storm = Storm { seed: 7, per_mille: 50, delay_max: Duration::from_secs(4) };
    let mut struck = BTreeMap::<Blow, u32>::new();
    for number in 0..100_000 {
        let Some((blow, wait)) = storm.strikes(number) else { continue };
        assert_eq!(storm.strikes(number), Some((blow, wait)));
        assert!((Duration::from_secs(1)..=Duration::from_secs(4)).contains(&wait), "{wait:?}");
        *struck.entry(blow).or_default() += 1;
    }
    let all: u32 = struck.values().sum();
    assert!((4_700..5_300).contains(&all), "{all}");
    assert!(struck.len() == Blow::ALL.len() && struck.values().all(|count| *count > all / 8), "{struck:?}");
    let other = Storm { seed: 8, ..storm };
    assert!((0..1_000).any(|number| storm.strikes(number) != other.strikes(number)));
}

#[test]
fn an_answer_is_cut_within_its_body_or_else_within_its_head() {
    assert_eq!(cut(b"HTTP/1.1 200 OK\r\n\r\nabcd"), b"HTTP/1.1 200 OK\r\n\r\nab".len());
    assert!(cut(b"HTTP/1.1 200 OK\r\n\r\n") < b"HTTP/1.1 200 OK".len());
}

/// A server of one answer, through a proxy under a storm of this kind alone: what a client hears, and what came.
fn asked_in(wanted: Blow) -> (io::Result<String>, String) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::before(&format!("http://{}", server.local_addr().unwrap()));
    let all = |seed| Storm { seed, per_mille: 1000, delay_max: Duration::from_millis(40) };
    let storm = (0..).map(all).find(|storm| storm.strikes(0).is_some_and(|(blow, _)| blow == wanted)).unwrap();
    proxy.blow(storm);
    let (tell, came) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Ok((mut connection, _)) = server.accept() else { return };
        let mut bytes = [0; 512];
        let len = connection.read(&mut bytes).unwrap_or(0);
        let _ = tell.send(String::from_utf8_lossy(&bytes[..len]).into_owned());
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall well");
    });
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    client.write_all(b"GET /bucket/object HTTP/1.1\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    let heard = client.read_to_end(&mut heard).map(|_| String::from_utf8_lossy(&heard).into_owned());
    assert_eq!(proxy.weather().struck, BTreeMap::from([(wanted, 1)]));
    let came = came.recv_timeout(Duration::from_millis(300)).unwrap_or_default();
    (heard, came)
}

#[test]
fn each_blow_is_felt_as_what_it_says() {
    let seen = "GET /bucket/object HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (heard, came) = asked_in(Blow::SlowDown);
    assert!(heard.unwrap().contains("<Code>SlowDown</Code>") && came.is_empty(), "{came}");
    let (heard, came) = asked_in(Blow::InternalError);
    assert!(heard.unwrap().starts_with("HTTP/1.1 500 ") && came.is_empty(), "{came}");
    let (heard, came) = asked_in(Blow::ResetBefore);
    assert!(heard.unwrap_err().kind() == io::ErrorKind::ConnectionReset && came.is_empty(), "{came}");
    let (heard, came) = asked_in(Blow::AnswerLost);
    assert_eq!((heard.unwrap_err().kind(), came.as_str()), (io::ErrorKind::ConnectionReset, seen));
    let (heard, came) = asked_in(Blow::AnswerCut);
    assert!(heard.unwrap().ends_with("\r\n\r\nall ") && came == seen, "{came}");
    let (heard, came) = asked_in(Blow::Delay);
    assert!(heard.unwrap().ends_with("all well") && came == seen, "{came}");
}
