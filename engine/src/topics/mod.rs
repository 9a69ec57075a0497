//! Topics: who gets what is published.
//!
//! Each core has its own [`Topics`], of its own connections alone, and touches no other core's. What
//! cores share is one [`Interest`]: which of them have subscribers of a name, so that a publish goes
//! to those only.
//!
//! A worker hashes a name once ([`Interest::hash`]) and uses the number for both:
//!
//! ```
//! use std::sync::Arc;
//! use crore_engine::id::CoreId;
//! use crore_engine::topics::{Interest, InterestCounts, Topics};
//!
//! let interest = Arc::new(Interest::new(2));
//! let mut counts = InterestCounts::new(Arc::clone(&interest), CoreId(1));
//! let mut topics = Topics::new(interest.topic_hash());
//!
//! let hash = interest.hash("news");
//! let subscription = topics.subscribe_hashed("news", hash, 7);
//! if subscription.first {
//!     counts.raise(hash);
//! }
//! assert_eq!(interest.cores_interested(hash).collect::<Vec<_>>(), [CoreId(1)]);
//! assert_eq!(topics.subscribers(subscription.topic), [7]);
//!
//! let unsubscription = topics.unsubscribe(subscription.topic, 7);
//! if unsubscription.last {
//!     counts.lower(unsubscription.hash);
//! }
//! assert_eq!(interest.cores_interested(hash).next(), None);
//! ```

#![forbid(unsafe_code)]

mod interest;
mod registry;
mod subscribers;

pub use interest::{INTEREST_BUCKETS, Interest, InterestCounts, InterestedCores, TopicHash};
pub use registry::{NO_MARK, Subscription, Topics, Unsubscription};
pub use subscribers::Subscribers;
