//! The server's program, and the one place that knows its allocator.

use std::hint::black_box;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More bytes than any address space has.
const UNAVAILABLE_BYTES: usize = 1 << 62;

fn main() -> ExitCode {
    crore_server::cli::run(collect)
}

/// Makes mimalloc return to the kernel what is free on this thread.
///
/// By itself it keeps an empty page of each size class for blocks to come (up to 4 MiB each, and 30 classes have such
/// pages), and looks at it only after thousands of further allocations: on a core that has become quiet, never. What
/// does it at once is `mi_collect(true)`, and mimalloc calls that itself before it refuses a block for want of memory
/// (`_mi_malloc_generic` in its page.c). So it is asked for a block that nobody can have.
fn collect() {
    let _ = black_box(Vec::<u8>::new()).try_reserve_exact(black_box(UNAVAILABLE_BYTES));
}
