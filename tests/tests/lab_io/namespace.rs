//! A network namespace on a thread, and `ip` in it.

use std::process::Command;
use std::time::Duration;

/// Longest wait for something that the kernel does at once; the machine may be busy.
pub const SOON: Duration = Duration::from_secs(10);

/// Runs `work` on a thread in a fresh network namespace that has a veth pair, `a0` and `b0`, both up,
/// `a0` with 10.9.0.2/24 and fd09::2/64 (and link-local addresses, without duplicate address detection).
pub fn with_pair<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let body = move || {
        enter_fresh();
        for key in ["accept_dad", "router_solicitations"] {
            set_sysctl(&format!("ipv6/conf/default/{key}"), "0");
        }
        ip("link set lo up");
        ip("link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b");
        ip("address add 10.9.0.2/24 dev a0");
        ip("address add fd09::2/64 dev a0");
        ip("link set a0 up");
        ip("link set b0 up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // The kernel makes the link-local addresses a moment after it has found the carrier.
            until(|| ip("-6 address show scope link").matches("fe80::").count() == 2).await;
            work().await;
        });
    };
    // The namespace ends with the last thread and socket in it.
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until it is so, but not for ever.
pub async fn until(so: impl Fn() -> bool) {
    let settle = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(settle).await;
}

/// Waits for `future`, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing happened in time")
}

/// Runs `ip` with these words and returns what it printed.
pub fn ip(words: &str) -> String {
    run("ip", words)
}

/// Runs a program in this thread's namespace.
pub fn run(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sets `/proc/sys/net/KEY`.
pub fn set_sysctl(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
}

/// A file of `/proc/net`, as this thread sees it.
pub fn proc_net(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()
}

#[expect(unsafe_code, reason = "unshare(2) has no safe interface")]
fn enter_fresh() {
    // SAFETY: a new network namespace shares no memory and no descriptor table: only what this thread
    // opens from now on is different.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "these tests need root: {}", std::io::Error::last_os_error());
}
