//! A server that does what its clients tell it: `actor ADDRESS`. Where the others' clients see a close of the
//! server, and the subprotocol that it has chosen.

use std::sync::mpsc::channel;

use crore_engine::Engine;
use crore_tests::{Actor, limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("an address is missing")?;
    // Nobody listens to what it reports.
    let (reports, _) = channel();
    Ok(Engine::bind(address)?.limits(limits()).run(move |_core| Actor::new(reports.clone()))?)
}
