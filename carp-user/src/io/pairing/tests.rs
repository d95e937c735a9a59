use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(5);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn ends() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = listener.local_addr().expect("a place");
    let (one, other) = tokio::join!(TcpStream::connect(place), listener.accept());
    (one.expect("connected"), other.expect("connected").0)
}

async fn shaken(caller: &Code, listener: &Code) -> (Result<Line, Failure>, Result<Line, Failure>) {
    let own: IpAddr = [127, 0, 0, 1].into();
    let (mut here, mut there) = ends().await;
    let (called, heard) = (caller.key().into(), listener.key().into());
    let (one, other) = tokio::join!(
        async {
            let done = handshake::shake(&mut here, &called, Role::Caller, (own, own)).await;
            done.map(|(keys, _)| Line::new(here, keys))
        },
        async {
            let done = handshake::shake(&mut there, &heard, Role::Listener, (own, own)).await;
            done.map(|(keys, _)| Line::new(there, keys))
        }
    );
    (one, other)
}

#[test]
fn who_has_the_code_is_heard_and_a_large_message_comes_whole() {
    run(async {
        let code = Code::new().expect("drawn");
        let (Ok(mut one), Ok(mut other)) = shaken(&code, &code).await else { panic!("the same code") };
        let large = "x".repeat(3 * 1024 * 1024);
        let (said, heard) = tokio::join!(one.say(&large), other.hear::<String>(SOON));
        said.expect("said");
        assert!(heard.expect("heard") == large);
    });
}

#[test]
fn who_has_another_code_gets_no_answer() {
    run(async {
        let [one, other] = [Code::new().expect("drawn"), Code::new().expect("drawn")];
        let (Err(_), Err(Failure::Key)) = shaken(&one, &other).await else { panic!("different codes") };
    });
}

#[test]
fn a_relay_that_changes_a_byte_ends_it() {
    run(async {
        let code = Code::new().expect("drawn");
        let own: IpAddr = [127, 0, 0, 1].into();
        let ((mut here, mut near), (mut far, mut there)) = (ends().await, ends().await);
        let keys = code.key().into();
        let relay = async {
            let mut bytes = [0; 50];
            near.read_exact(&mut bytes).await.expect("the first message");
            bytes[20] ^= 1;
            far.write_all(&bytes).await.expect("passed on");
        };
        let (called, heard, ()) = tokio::join!(
            handshake::shake(&mut here, &keys, Role::Caller, (own, own)),
            async {
                let done = handshake::shake(&mut there, &keys, Role::Listener, (own, own)).await;
                drop(there);
                done
            },
            relay
        );
        assert!(called.is_err() && matches!(heard, Err(Failure::Key)));
    });
}
