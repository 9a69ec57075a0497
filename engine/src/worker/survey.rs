//! A look at some of the connections, for somebody outside.

use super::Worker;
use super::connection::Phase;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::survey::{Survey, Surveyed};

impl<D: Driver, H: Handler> Worker<D, H> {
    pub(super) fn survey(&mut self, survey: Survey) -> Surveyed {
        let touched = self.connections.touched();
        let end = survey.from.saturating_add(survey.places_max).min(touched);
        let mut connections = Vec::new();
        for place in survey.from..end {
            let slot = u32::try_from(place).expect("fewer slots than connections_max, a u32");
            let Some(connection) = self.connections.in_use(slot) else { continue };
            let queued = connection.outbox_bytes();
            if connection.phase != Phase::Open || queued < survey.queued_bytes_min {
                continue;
            }
            if connections.len() == survey.connections_max {
                return Surveyed { connections, next: Some(place) };
            }
            connections.push((self.connections.id_at(slot), queued));
        }
        Surveyed { connections, next: (end < touched).then_some(end) }
    }
}
