//! The generated documents are those of this code.

use carp_tests::docs;

#[test]
fn generated_documents_are_up_to_date() {
    for (path, text) in docs::pages().unwrap() {
        let committed = std::fs::read_to_string(docs::root().join(path)).unwrap_or_default();
        assert!(committed == text, "{path} is stale: run `cargo run -p carp-tests --bin docs`");
    }
}
