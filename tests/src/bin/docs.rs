//! Writes the generated documents anew: `cargo run -p carp-tests --bin docs`.

use carp_tests::docs;

fn main() -> std::io::Result<()> {
    for (path, text) in docs::pages()? {
        std::fs::write(docs::root().join(path), text)?;
    }
    Ok(())
}
