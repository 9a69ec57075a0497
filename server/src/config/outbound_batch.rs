//! Section `outbound_batch`.

use std::time::Duration;

use crore_engine::Coalescing;

/// Section `outbound_batch`: what clients are sent that ask for batches.
#[derive(Clone, Copy, Debug)]
pub struct OutboundBatchConfig {
    /// Messages of one batch.
    pub messages_max: u32,
    /// How long the first of them waits for others.
    pub delay: Duration,
}

impl OutboundBatchConfig {
    /// The same for the engine.
    pub(crate) fn coalescing(&self) -> Coalescing {
        Coalescing {
            prefix: "{\"type\":\"batch\",\"messages\":[",
            separator: ",",
            suffix: "]}",
            messages_max: self.messages_max,
            delay: self.delay,
        }
    }
}

impl Default for OutboundBatchConfig {
    fn default() -> Self {
        Self { messages_max: 10, delay: Duration::from_millis(100) }
    }
}
