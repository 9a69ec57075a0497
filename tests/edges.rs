//! Ordinary use at its edges, and peers at theirs: limits that stand for "never", requests that are refused,
//! ends in the middle of something.

use std::time::Duration;

use crore_engine::Limits;
use crore_tests::{limits, on_each_kind};

#[test]
fn times_may_stand_for_never() {
    on_each_kind(|setup| {
        let never = Duration::MAX;
        let limits = Limits { handshake_timeout: never, ping_interval: never, close_timeout: never, ..limits() };
        let server = setup.start_with(1, limits);
        // Slots whose first heartbeat is spread over the whole interval, and slots used again.
        for _ in 0..2 {
            let clients: Vec<_> = (0..50).map(|_| server.client()).collect();
            clients.into_iter().for_each(crore_tests::Client::close);
            server.wait_until_empty();
        }
        let mut client = server.client();
        server.handle().drain(never);
        assert_eq!(client.frame().close().0, Some(1001));
        client.send(crore_tests::frame::close(1001, ""));
        client.ended();
        server.join();
    });
}
