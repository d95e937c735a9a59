//! Any bytes as a call of XML-RPC, and as an answer: read or refused in bounds, and what is read is written as the same again.
#![no_main]

use carp_user::api::remote::{Access, METHODS, admit};
use carp_user::api::xmlrpc::{read_answer, read_call, write_call};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_answer(bytes);
    let Ok(call) = read_call(bytes) else { return };
    if let Ok(method) = admit(&call, Access::Read) {
        assert!(method.access == Access::Read && METHODS.iter().any(|known| known.name == method.name));
    }
    let Ok(text) = write_call(&call.method, call.params.clone()) else { return };
    if let Ok(again) = read_call(text.as_bytes()) {
        assert_eq!(again.params.len(), call.params.len());
    }
});
