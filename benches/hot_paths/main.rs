//! The code that every byte or every file goes through, alone and on one thread: cutting, naming, compressing,
//! sealing, opening, and the plans of large sites.
//!
//! ```console
//! $ cargo bench --bench hot_paths            # all of them
//! $ cargo bench --bench hot_paths -- open    # those whose name says so
//! ```
//!
//! Throughput is of plain bytes, or of chunks and files where these are what is handled. `rows` compress, `random` do not.
//! Without `--bench`, as `cargo test --benches` runs it, each runs once on little data.
//!
//! What is not here: anything that waits for a disk or a server (`benches/peers`).

mod bytes;
mod plans;
mod samples;

fn main() {
    divan::main();
}
