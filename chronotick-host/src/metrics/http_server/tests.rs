//! The server against clients that behave and clients that do not.

use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const ANY: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

fn echo(path: &str) -> Answer {
    Answer { code: if path == "/no" { 404 } else { 200 }, kind: "text/path", text: path.to_owned() }
}

fn server() -> HttpServer {
    HttpServer::start(ANY, "chronotick-test", echo).expect("loopback")
}

fn client(server: &HttpServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(2 * PATIENCE)).expect("a socket");
    stream
}

fn answer(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer, and then the end");
    text
}

fn ask(server: &HttpServer, request: &str) -> String {
    let mut stream = client(server);
    stream.write_all(request.as_bytes()).expect("it reads");
    answer(&stream)
}

#[test]
fn requests_are_answered_and_nonsense_is_refused() {
    let server = server();
    let whole = "HTTP/1.1 200 OK\r\nContent-Type: text/path\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(&server, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"), format!("{whole}/a"));
    assert_eq!(ask(&server, "GET /a?b=c HTTP/1.0\r\n\r\n"), format!("{whole}/a"));
    assert_eq!(ask(&server, "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"), whole);
    let long = format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(LONGEST_HEAD));
    for (request, code) in [
        ("GET /no HTTP/1.1\r\n\r\n", 404),
        ("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("BREW /a HTTP/1.1\r\n\r\n", 405),
        ("GET /a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\n\r\n", 400),
        ("GET /a SSH/2.0\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nno header\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("GET /a HTTP/2.0\r\n\r\n", 505),
        (&long, 400),
    ] {
        let told = ask(&server, request);
        assert!(told.starts_with(&format!("HTTP/1.1 {code} ")), "{request:.40}: {told}");
    }
    assert_eq!(understand(b"GET /\xff HTTP/1.1"), Err(400));
}

#[test]
fn one_who_never_ends_the_request_costs_no_memory_and_one_who_never_reads_nobody_else() {
    let server = server();
    let mut endless = client(&server);
    let refused = std::iter::repeat_with(|| endless.write_all(&[b'A'; 1 << 16])).take(1 << 14).find_map(Result::err);
    assert!(refused.is_some(), "a gigabyte was taken");
    let mut greedy = client(&server);
    greedy.set_nonblocking(true).expect("a socket");
    while greedy.write_all(&b"GET /a HTTP/1.1\r\n\r\n".repeat(1000)).is_ok() {}
    assert!(ask(&server, "GET /b HTTP/1.1\r\n\r\n").ends_with("/b"));
}

#[test]
fn only_so_many_connect_and_who_is_silent_gives_way() {
    let server = server();
    let idle: Vec<_> = (0..MOST_CONNECTIONS).map(|_| client(&server)).collect();
    let started = Instant::now();
    for _ in 0..MOST_CONNECTIONS / 2 {
        assert!(ask(&server, "GET /a HTTP/1.1\r\n\r\n").ends_with("/a"));
    }
    // At once, and not when the others' time was over.
    assert!(started.elapsed() < PATIENCE);
    let told = (&idle[0]).read(&mut [0]).map_err(|cause| cause.kind());
    assert!(
        matches!(told, Ok(0) | Err(io::ErrorKind::ConnectionReset)),
        "the first has been silent for longest: {told:?}"
    );
    drop(idle);
}

#[test]
fn a_connection_has_so_much_time_in_all_and_what_the_answers_take_is_not_counted() {
    let listener = TcpListener::bind(ANY).expect("loopback");
    let mut connections = Vec::new();
    let now = Instant::now();
    let mut slow = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    listener.set_nonblocking(true).expect("a socket");
    assert!(poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).is_ok());
    let_in(&listener, &mut connections, now).expect("it listens");
    // A byte every second is no excuse.
    for second in 0..PATIENCE.as_secs() {
        slow.write_all(b"A").expect("it reads");
        turn(&mut connections, now + Duration::from_secs(second), &mut echo);
        assert_eq!(connections.len(), 1);
    }
    turn(&mut connections, now + PATIENCE, &mut echo);
    assert!(connections.is_empty());
}

#[test]
fn it_goes_on_when_somebody_could_not_be_let_in() {
    let listener = TcpListener::bind(ANY).expect("loopback");
    listener.set_nonblocking(true).expect("a socket");
    let (sign, over) = UnixStream::pair().expect("descriptors");
    // From now on it is readable and lets nobody in, as when there are no descriptors left.
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("a socket");
    let now = Instant::now();
    assert!(let_in(&listener, &mut Vec::new(), now).is_err());
    // It is not waited for: what ends this wait is the rest.
    let rest = Duration::from_millis(20);
    assert!(!wait(&listener, &over, &[], Some(now + rest)));
    assert!(now.elapsed() >= rest);
    drop(sign);
    assert!(wait(&listener, &over, &[], None));
}

#[test]
fn dropped_it_gives_the_address_back_even_while_it_looks_for_an_answer() {
    let (asked, question): (Sender<()>, Receiver<()>) = channel();
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let server = HttpServer::start(ANY, "chronotick-test", move |path| {
        asked.send(()).expect("the test waits");
        let _ = released.recv();
        echo(path)
    })
    .expect("loopback");
    let address = server.address();
    let mut waiting = client(&server);
    waiting.write_all(b"GET /a HTTP/1.1\r\n\r\n").expect("it reads");
    question.recv().expect("a question");
    drop(server);
    let other = HttpServer::start(address, "chronotick-test", echo).expect("the address is free");
    assert!(ask(&other, "GET /b HTTP/1.1\r\n\r\n").ends_with("/b"));
    drop(release);
    assert_eq!(waiting.read(&mut [0]).unwrap_or(0), 0);
}
