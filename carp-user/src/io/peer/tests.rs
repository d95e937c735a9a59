use super::handshake::{MESSAGE, shake};
use super::*;
use crate::config::SYNC_KEY_LEN;
use crate::io::clock;
use std::net::{IpAddr, Ipv4Addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const LISTENER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Nothing in these tests takes as long when it works.
const LONG: Duration = Duration::from_secs(20);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.expect("it hangs") })
}

fn key(byte: u8) -> SyncKeys {
    let mut bytes = [byte; SYNC_KEY_LEN];
    bytes[0] = 1;
    SyncKey::from(bytes).into()
}

/// The first is tried first.
fn two(first: u8, next: u8) -> SyncKeys {
    SyncKeys { next: Some(key(next).key), ..key(first) }
}

/// A port of the loopback device that is free.
fn port() -> u16 {
    std::net::TcpListener::bind((LISTENER, 0)).unwrap().local_addr().unwrap().port()
}

fn places(port: u16) -> (Place, Place) {
    let place = |local, peer| Place {
        local: SocketAddr::new(local, port),
        peer: SocketAddr::new(peer, port),
        device: None,
    };
    (place(CALLER, LISTENER), place(LISTENER, CALLER))
}

async fn frame(peer: &mut Peer) -> Vec<u8> {
    let heard = peer.heard().await;
    let Happening::Frame(frame) = heard else { panic!("{heard:?}") };
    frame
}

#[test]
fn two_ends_with_one_key_carry_frames_of_any_length_both_ways_in_order() {
    run(async {
        let (caller, listener) = places(port());
        let (mut a, mut b) = (Peer::open(caller, key(7)), Peer::open(listener, key(7)));
        assert_eq!(a.heard().await, Happening::Connected);
        assert_eq!(b.heard().await, Happening::Connected);
        for length in [0, 1, 17, 16_384, MAX_MESSAGE] {
            a.send(vec![1; length]);
            b.send(vec![2; length]);
        }
        for length in [0, 1, 17, 16_384, MAX_MESSAGE] {
            assert_eq!(frame(&mut b).await, vec![1; length]);
            assert_eq!(frame(&mut a).await, vec![2; length]);
        }
    });
}

#[test]
fn a_connection_that_one_end_gives_up_is_made_anew() {
    run(async {
        let (caller, listener) = places(port());
        let (mut a, mut b) = (Peer::open(caller, key(7)), Peer::open(listener, key(7)));
        for end in 0..4 {
            assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
            a.send(vec![end]);
            assert_eq!(frame(&mut b).await, [end]);
            let gives_up = if end % 2 == 0 { &mut a } else { &mut b };
            gives_up.disconnect();
            assert_eq!(
                (a.heard().await, b.heard().await),
                (Happening::Disconnected, Happening::Disconnected)
            );
        }
    });
}

#[test]
fn a_node_that_starts_again_takes_the_place_of_the_one_that_vanished() {
    run(async {
        let (caller, listener) = places(port());
        let mut b = Peer::open(listener, key(7));
        for _ in 0..2 {
            let mut a = Peer::open(caller.clone(), key(7));
            assert_eq!(a.heard().await, Happening::Connected);
            while b.heard().await != Happening::Connected {}
            a.send(vec![9]);
            assert_eq!(frame(&mut b).await, [9]);
        }
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_back_and_loses_nothing() {
    run(async {
        let (caller, listener) = places(port());
        let (mut a, mut b) = (Peer::open(caller, key(7)), Peer::open(listener, key(7)));
        assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
        let length = |at: usize| 1 + at * 97 % 5000;
        for at in 0..OUTGOING {
            a.send(vec![0; length(at)]);
        }
        // All of them are on the way before the first is looked at.
        tokio::time::sleep(Duration::from_millis(50)).await;
        for at in 0..OUTGOING {
            assert_eq!(frame(&mut b).await.len(), length(at));
        }
        b.send(vec![1]);
        assert_eq!(frame(&mut a).await, [1]);
    });
}

/// What the listener says, as the very bytes, and how its handshake ends.
async fn asked(words: &[u8]) -> (Vec<u8>, Failure) {
    let (mut here, mut there) = duplex(1024);
    let talk = async {
        here.write_all(words).await.unwrap();
        here.shutdown().await.unwrap();
        let mut answer = Vec::new();
        here.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let listen = async {
        let failure = shake(&mut there, &key(7), Role::Listener, (LISTENER, CALLER)).await.err();
        drop(there);
        failure.expect("words that are no handshake")
    };
    tokio::join!(talk, listen)
}

/// The first message of a caller with this key, with its length.
async fn first_message(key: SyncKeys) -> Vec<u8> {
    let (mut here, mut there) = duplex(1024);
    let call = shake(&mut here, &key, Role::Caller, (CALLER, LISTENER));
    let hear = async {
        let mut said = vec![0; 2 + MESSAGE];
        there.read_exact(&mut said).await.unwrap();
        drop(there);
        said
    };
    tokio::join!(call, hear).1
}

#[test]
fn without_the_key_nothing_is_answered() {
    run(async {
        let (answer, failure) = asked(&first_message(key(8)).await).await;
        assert!(answer.is_empty() && matches!(failure, Failure::Key), "{answer:?} {failure}");
        // The right key, one bit changed on the way.
        let right = first_message(key(7)).await;
        for at in 2..right.len() {
            let mut words = right.clone();
            words[at] ^= 4;
            let (answer, failure) = asked(&words).await;
            assert!(answer.is_empty() && matches!(failure, Failure::Key), "byte {at}: {answer:?} {failure}");
        }
        for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 200], &[255; 200], &[0, 48]] {
            let (answer, failure) = asked(words).await;
            let is_refused = matches!(failure, Failure::Key | Failure::Closed);
            assert!(answer.is_empty() && is_refused, "{words:?}: {answer:?} {failure}");
        }
    });
}

#[test]
fn a_recorded_first_message_gets_an_answer_that_is_of_no_use_and_no_connection() {
    run(async {
        let (answer, failure) = asked(&first_message(key(7)).await).await;
        assert_eq!(answer.len(), 2 + MESSAGE);
        assert!(matches!(failure, Failure::Closed), "{failure}");
        // Nor with any proof that who does not have the key can make.
        let words = [&first_message(key(7)).await[..], &[0, 16], &[0; 16]].concat();
        let (_, failure) = asked(&words).await;
        assert!(matches!(failure, Failure::Key), "{failure}");
    });
}

#[test]
fn a_handshake_of_one_connection_is_none_of_another() {
    run(async {
        let (mut here, mut there) = duplex(1024);
        let secret = key(7);
        let call = shake(&mut here, &secret, Role::Caller, (CALLER, STRANGER));
        let listen = async {
            let ended = shake(&mut there, &key(7), Role::Listener, (LISTENER, CALLER)).await.map(drop);
            drop(there);
            ended
        };
        let (called, listened) = tokio::join!(call, listen);
        assert!(called.is_err());
        assert!(matches!(listened, Err(Failure::Key)), "{listened:?}");
    });
}

#[test]
fn one_who_says_nothing_is_given_up() {
    run(async {
        let (_here, mut there) = duplex(1024);
        let ended = shake(&mut there, &key(7), Role::Listener, (LISTENER, CALLER)).await.map(drop);
        assert!(matches!(ended, Err(Failure::Slow)), "{ended:?}");
    });
}

/// A pair of keys, and the wire between them.
async fn connected() -> ((DuplexStream, snow::TransportState), (DuplexStream, snow::TransportState)) {
    let (mut here, mut there) = duplex(1 << 20);
    let secret = key(7);
    let call = shake(&mut here, &secret, Role::Caller, (CALLER, LISTENER));
    let listen = shake(&mut there, &secret, Role::Listener, (LISTENER, CALLER));
    let (called, listened) = tokio::join!(call, listen);
    let ((called, _), (listened, _)) = (called.unwrap(), listened.unwrap());
    ((here, called), (there, listened))
}

#[test]
fn what_was_not_sealed_ends_the_connection_and_nothing_of_it_is_handed_on() {
    run(async {
        let mut sealed = vec![0; 2 + 5 + 16];
        sealed[1] = 21;
        for forge in [
            (|_: &mut Vec<u8>| {}) as fn(&mut Vec<u8>),
            |sealed| sealed[4] ^= 1,
            |sealed| sealed[22] ^= 1,
            |sealed| *sealed = [&sealed[..], &sealed[..]].concat(),
            |sealed| sealed[..2].copy_from_slice(&[0xff, 0xff]),
            |sealed| sealed[1] = 20,
            |sealed| sealed[1] = 3,
            |sealed| drop(sealed.splice(.., [0, 0])),
            |sealed| sealed.truncate(10),
        ] {
            let ((mut here, mut keys), (there, other)) = connected().await;
            keys.write_message(b"hello", &mut sealed[2..]).unwrap();
            let mut words = sealed.clone();
            forge(&mut words);
            let honest = words == sealed;
            let twice = words.len() == 2 * sealed.len();
            here.write_all(&words).await.unwrap();
            here.shutdown().await.unwrap();
            let (incoming, mut heard) = mpsc::channel(4);
            let (_line, outgoing) = mpsc::channel(4);
            let ended = channel::carry(there, other, outgoing, &incoming).await;
            drop(incoming);
            let mut frames = Vec::new();
            while let Some(Heard::Frame(frame)) = heard.recv().await {
                frames.push(frame);
            }
            let expected: &[&[u8]] = if honest || twice { &[b"hello"] } else { &[] };
            assert_eq!(frames, expected, "{words:?}");
            // Cut short or longer than what came, it is only the end of the connection.
            let is_cut = words.len() < 23 && words.len() > 2 || words[0] == 0xff;
            assert_eq!(ended.is_ok(), honest || is_cut, "{words:?}: {ended:?}");
        }
    });
}

#[test]
fn another_key_or_address_connects_nobody_and_the_right_one_still_does() {
    run(async {
        let (caller, listener) = places(port());
        let mut b = Peer::open(listener.clone(), key(7));
        let wrong = Peer::open(caller.clone(), key(8));
        // From another address nothing is read: the connection just ends.
        let from = SocketAddr::new(STRANGER, 0);
        let mut stranger = loop {
            match socket::call(from, listener.local, None).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(FIRST_PAUSE).await,
            }
        };
        let mut answer = Vec::new();
        let _ = stranger.write_all(&first_message(key(7)).await).await;
        let _ = stranger.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(b.waiting(), None);
        drop(wrong);
        let mut a = Peer::open(caller, key(7));
        assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
    });
}

#[test]
fn a_flood_of_recorded_first_messages_is_answered_no_faster_than_the_rate() {
    run(async {
        let (caller, listener) = places(port());
        let _b = Peer::open(listener.clone(), key(7));
        let words = first_message(key(7)).await;
        let (begun, mut answered) = (clock::now(), 0);
        for _ in 0..60 {
            let from = SocketAddr::new(caller.local.ip(), 0);
            let Ok(mut stream) = socket::call(from, listener.local, None).await else {
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            };
            let _ = stream.write_all(&words).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answered += u64::from(answer.len() == 2 + MESSAGE);
        }
        let seconds = clock::now().since(begun).as_millis() / 1000;
        // Ten a second, and those of the seconds at both ends.
        let most = 10 * (seconds + 2);
        assert!((5..=most).contains(&answered), "{answered} answers in {seconds} s");
    });
}

#[test]
fn of_two_keys_the_one_that_both_have_makes_a_connection() {
    run(async {
        for (ours, theirs, made) in [
            (two(7, 8), key(8), 8),
            (two(7, 8), key(7), 7),
            (key(8), two(7, 8), 8),
            (two(7, 8), two(8, 7), 7),
            (two(9, 8), two(8, 7), 8),
        ] {
            let (caller, listener) = places(port());
            let (mut a, mut b) = (Peer::open(caller, ours), Peer::open(listener, theirs));
            assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
            let made = Some(&key(made).key);
            assert!(a.key() == made && b.key() == made);
        }
    });
}

#[test]
fn a_connection_outlives_a_change_of_keys_until_its_own_is_taken_away() {
    run(async {
        let (caller, listener) = places(port());
        let (mut a, mut b) = (Peer::open(caller, key(7)), Peer::open(listener, key(7)));
        assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
        a.set_keys(two(8, 7));
        a.send(vec![1]);
        assert_eq!(frame(&mut b).await, [1]);
        b.set_keys(key(8));
        b.send(vec![2]);
        assert_eq!((a.heard().await, b.heard().await), (Happening::Disconnected, Happening::Disconnected));
        assert_eq!((a.heard().await, b.heard().await), (Happening::Connected, Happening::Connected));
        assert_eq!(b.key(), Some(&key(8).key));
        a.set_keys(key(8));
        a.send(vec![3]);
        assert_eq!(frame(&mut b).await, [3]);
    });
}

#[test]
fn a_connection_whose_key_is_taken_away_before_anybody_looks_at_it_is_none() {
    run(async {
        let (caller, listener) = places(port());
        let (mut a, mut b) = (Peer::open(caller, key(7)), Peer::open(listener, key(7)));
        assert_eq!(a.heard().await, Happening::Connected);
        b.set_keys(key(8));
        assert_eq!(b.heard().await, Happening::Disconnected);
        assert_eq!((a.heard().await, b.key()), (Happening::Disconnected, None));
    });
}
