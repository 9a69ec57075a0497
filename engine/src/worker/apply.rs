//! The actions of a handler, and the commands of other cores and threads.

use std::sync::Arc;

use bytes::Bytes;

use super::Worker;
use super::connection::Phase;
use super::inbound::InPlace;
use super::variants::Variants;
use crate::driver::{Driver, FrameBytes, SharedBytes};
use crate::handle::Command;
use crate::handler::{Action, CloseCause, CoreContext, Handler, Publication, Words};
use crate::id::{ConnectionId, CoreId, TopicId};

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Applies what a handler has asked for while it was called for the connection in `slot`.
    #[inline]
    pub(super) fn apply(&mut self, slot: u32, mut at_hand: Option<InPlace<'_>>) {
        if let ([Action::Echo], Some(in_place)) = (self.actions.list.as_slice(), &mut at_hand) {
            self.actions.list.clear();
            if self.actions.spawned.is_empty() {
                self.echo(slot, in_place);
                return;
            }
            self.actions.list.push(Action::Echo);
        }
        if !self.actions.is_empty() {
            self.apply_all(Some(slot), at_hand);
        }
    }

    /// Applies all of it, whether the handler was called for a connection or without one.
    fn apply_all(&mut self, slot: Option<u32>, mut at_hand: Option<InPlace<'_>>) {
        let (mut list, words) = self.actions.take();
        self.spawned.append(&mut self.actions.spawned);
        for action in list.drain(..) {
            if let Action::Echo = action {
                if let (Some(slot), Some(in_place)) = (slot, &mut at_hand)
                    && self.connections.at(slot).phase == Phase::Open
                {
                    self.flush_joined(slot);
                    self.echo(slot, in_place);
                }
                continue;
            }
            if let (Some(slot), Some(in_place)) = (slot, &mut at_hand) {
                // Something else may follow the echoes so far: they keep their place.
                self.flush_echo(slot, in_place.source, in_place.echo);
            }
            self.apply_one(slot, action, &words);
        }
        self.actions.give_back(list, words);
    }

    /// Calls the handler without a connection, and applies what it asks for.
    pub(super) fn call_core(&mut self, call: impl FnOnce(&mut H, &mut CoreContext<'_>)) {
        self.actions.set_current(None);
        let mut context = CoreContext {
            core: self.core,
            now: self.clock.now(),
            handle: &self.handle,
            topics: &self.topics,
            actions: &mut self.actions,
        };
        call(&mut self.handler, &mut context);
        if !self.actions.is_empty() {
            self.apply_all(None, None);
        }
    }

    /// Applies an action. Only a [`Context`](crate::Context), which has a connection, has those that need a slot.
    fn apply_one(&mut self, slot: Option<u32>, action: Action, words: &Words) {
        match (action, slot) {
            (Action::Send { to, frame }, _) => self.send_to(to, words.frame(&frame), self.waits(slot)),
            (Action::SendToEach { to, frame }, _) => self.send_to_each(&to, words.frame(&frame), self.waits(slot)),
            (Action::Publish { topic, frame, publication }, _) => {
                self.publish(slot, words.text(&topic), words.frame(&frame), publication);
            }
            (Action::Broadcast { frame, except }, _) => {
                self.broadcast(words.frame(&frame), except, self.waits(slot));
            }
            (Action::Close { to, code, reason }, _) => {
                let reason = words.text(&reason).into();
                self.pass_on(to.core(), Command::Close { to, code, reason }, self.waits(slot));
            }
            (Action::Terminate { to }, _) => self.pass_on(to.core(), Command::Terminate { to }, self.waits(slot)),
            // Not now, if it is for this core: the handler is told when it has returned from all that it is called for.
            (Action::Tell { to, notice }, _) => self.leave_for(to.core(), Command::Tell { to, notice }),
            (Action::TellCore { core, notice }, _) => self.leave_for(core, Command::TellCore { notice }),
            (Action::WakeCore { after }, _) => {
                self.wakes.wake_core(self.clock.now().saturating_add(after));
            }
            (Action::RaiseInterest { topic }, _) => {
                self.interest_counts.raise(self.interest.hash(words.text(&topic)));
            }
            (Action::LowerInterest { topic }, _) => {
                self.interest_counts.lower(self.interest.hash(words.text(&topic)));
            }
            (Action::Subscribe { topic }, Some(slot)) => self.subscribe(slot, words.text(&topic)),
            (Action::Unsubscribe { topic }, Some(slot)) => self.unsubscribe(slot, words.text(&topic)),
            (Action::HearBroadcasts { hears }, Some(slot)) => self.connections.at(slot).hears_broadcasts = hears,
            (Action::Coalesce { on }, Some(slot)) => self.coalesce(slot, on),
            (Action::Wake { after }, Some(slot)) => {
                // What is over is not woken, and nothing would forget its time.
                if self.connections.at(slot).phase != Phase::Ended {
                    self.wakes.wake(slot, self.clock.now(), after);
                }
            }
            // An echo has been done by now, or its connection is not open any more.
            (Action::Echo, _) => {}
            (Action::Pause, Some(slot)) => self.stop_input(slot),
            (Action::Resume, Some(slot)) => self.restart_input(slot),
            (
                Action::Subscribe { .. }
                | Action::Unsubscribe { .. }
                | Action::HearBroadcasts { .. }
                | Action::Coalesce { .. }
                | Action::Wake { .. }
                | Action::Pause
                | Action::Resume,
                None,
            ) => {
                debug_assert!(false, "asked for without a connection");
            }
        }
    }

    /// Whether what is asked for on this core is left for its next commands: without a connection at hand it comes
    /// behind what this core has told itself, as on another core.
    fn waits(&self, slot: Option<u32>) -> bool {
        slot.is_none() && (self.own_taken > 0 || !self.batches[self.core.index()].is_empty())
    }

    /// Does what a core is asked to do, if it is this one and that does not wait; else leaves it for the core.
    fn pass_on(&mut self, core: CoreId, command: Command, waits: bool) {
        if core == self.core && !waits {
            self.obey(command);
        } else {
            self.leave_for(core, command);
        }
    }

    /// Puts a command among those that a core, perhaps this one, is to take.
    fn leave_for(&mut self, core: CoreId, command: Command) {
        // An identifier that the engine did not make names no core: like a connection that has gone.
        if let Some(batch) = self.batches.get_mut(core.index()) {
            batch.push(command);
        }
    }

    /// Does what another core or thread asks for.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Publish { topic, hash, frame, publication } => {
                if let Some(topic) = self.topics.find_hashed(&topic, hash) {
                    self.publish_here(topic, &frame, &publication);
                }
            }
            Command::Broadcast { frame, except } => {
                self.broadcast_here(SharedBytes::new(FrameBytes::Foreign(frame)), except);
            }
            Command::Send { to, frame } => self.send_to(to, &frame, false),
            Command::Close { to, code, reason } => {
                if let Some(slot) = self.open_slot(to) {
                    self.begin_close(slot, code, &reason, CloseCause::Application);
                }
            }
            Command::Terminate { to } => {
                if let Some(slot) = self.connections.slot_of(to) {
                    self.cut(slot, CloseCause::Application);
                }
            }
            Command::Tell { to, notice } => match self.open_slot(to) {
                Some(slot) => self.call(slot, |handler, context, state| handler.on_told(context, state, notice)),
                None => self.call_core(|handler, context| handler.on_untold(context, to, notice)),
            },
            Command::TellCore { notice } => self.call_core(|handler, context| handler.on_core_told(context, notice)),
            Command::Survey { survey, answer } => answer(self.survey(survey)),
            Command::Drain(terms) => self.drain(terms),
        }
    }

    /// `waits`: it is left for the core's next commands, even if that is this one.
    fn send_to(&mut self, to: ConnectionId, frame: &[u8], waits: bool) {
        if to.core() == self.core && !waits {
            if let Some(slot) = self.open_slot(to) {
                self.append_message(slot, frame);
            }
        } else {
            self.leave_for(to.core(), Command::Send { to, frame: Bytes::copy_from_slice(frame) });
        }
    }

    /// `waits`: as with [`Self::send_to`].
    fn send_to_each(&mut self, to: &[ConnectionId], frame: &[u8], waits: bool) {
        let frame = Bytes::copy_from_slice(frame);
        let mut variants = Variants::new(SharedBytes::new(FrameBytes::Foreign(frame.clone())));
        for to in to {
            if to.core() != self.core || waits {
                self.leave_for(to.core(), Command::Send { to: *to, frame: frame.clone() });
            } else if let Some(slot) = self.open_slot(*to) {
                self.deliver_ahead(slot);
                self.hand_whole(slot, &mut variants);
            }
        }
        variants.recycle(&mut self.corks);
    }

    fn subscribe(&mut self, slot: u32, name: &str) {
        if self.connections.at(slot).phase != Phase::Open {
            return;
        }
        let hash = self.interest.hash(name);
        if let Some(topic) = self.topics.find_hashed(name, hash) {
            self.deliver_before_change(topic);
        }
        let subscription = self.topics.subscribe_hashed(name, hash, slot);
        if subscription.first {
            self.interest_counts.raise(hash);
            self.stats.topics += 1;
        }
        if subscription.new {
            self.connections.at(slot).add_topic(subscription.topic, &mut self.held);
        }
    }

    fn unsubscribe(&mut self, slot: u32, name: &str) {
        let hash = self.interest.hash(name);
        let Some(topic) = self.topics.find_hashed(name, hash) else { return };
        self.connections.at(slot).remove_topic(topic, &mut self.held);
        self.leave(slot, topic);
    }

    /// Takes a connection out of a topic's subscribers.
    pub(super) fn leave(&mut self, slot: u32, topic: TopicId) {
        self.deliver_before_change(topic);
        let hash = self.topics.hash(topic);
        let left = self.topics.unsubscribe(topic, slot);
        if left.last {
            self.interest_counts.lower(hash);
            self.stats.topics -= 1;
        }
    }

    fn publish(&mut self, slot: Option<u32>, name: &str, frame: &[u8], publication: Publication) {
        let waits = self.waits(slot);
        // Most publish to what they subscribe to: with one topic that is found without the table of names.
        let own = slot.and_then(|slot| self.connections.at(slot).only_topic());
        let own = own.filter(|topic| self.topics.name(*topic) == name);
        let hash = own.map_or_else(|| self.interest.hash(name), |topic| self.topics.hash(topic));
        if !waits && let Some(topic) = own.or_else(|| self.topics.find_hashed(name, hash)) {
            self.publish_here(topic, frame, &publication);
        }
        if self.batches.len() == 1 && !waits {
            return;
        }
        let mut shared: Option<(Arc<str>, Bytes)> = None;
        for core in self.interest.cores_interested(hash) {
            if (core != self.core || waits) && core.index() < self.batches.len() {
                let (topic, frame) =
                    shared.get_or_insert_with(|| (Arc::from(name), Bytes::copy_from_slice(frame))).clone();
                self.batches[core.index()].push(Command::Publish { topic, hash, frame, publication });
            }
        }
    }

    /// `waits`: as with [`Self::send_to`].
    fn broadcast(&mut self, frame: &[u8], except: Option<ConnectionId>, waits: bool) {
        let frame = Bytes::copy_from_slice(frame);
        for core in (0..=u16::MAX).map(CoreId).take(self.batches.len()) {
            if core != self.core || waits {
                self.batches[core.index()].push(Command::Broadcast { frame: frame.clone(), except });
            }
        }
        if !waits {
            self.broadcast_here(SharedBytes::new(FrameBytes::Foreign(frame)), except);
        }
    }
}
