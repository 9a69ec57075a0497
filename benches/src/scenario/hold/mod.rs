//! Connections that are held: opened, weighed, pinged, published to by channel, asked, and closed by the server.
//!
//! ```text
//! open ─► heartbeats ─► weigh ─► subscribe ─► publish ─► request ─► drain ─► verdict
//! ```

mod load;
mod outcome;
mod plan;

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use self::load::Held;
use self::outcome::{Drain, Heartbeats, Publications, Requests, Subscriptions};
use self::plan::{PUBLISHER, Plan};
use super::weight::{Scale, per_connection};
use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::HoldOptions;
use crate::client::Client;
use crate::client::frame::{STAMP_BYTES, Shape, opcode};
use crate::client::payload::Payload;
use crate::measure::memory::ProcessMemory;
use crate::measure::usage::Observer;
pub(crate) use outcome::HoldOutcome;

/// Requests that wait for their answer at a time, and subscriptions.
const ASKED_MAX: u32 = 256;

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be reached or measured, refuses something, or stops answering.
pub(super) fn run(options: &HoldOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let connections = options.connections;
    let plan = Plan {
        connections,
        subscribe_every: options.subscribe_every,
        channels: options.channels,
        messages: options.messages,
        requests: options.requests.min(connections),
    };
    // The protocol has no binary messages: all that comes goes to the load.
    let shape = Shape { opcode: opcode::BINARY, payload_bytes: STAMP_BYTES, payload: Payload::Filler, channels: None };
    let mut config = run.client_config(&options.target, connections, shape)?;
    config.stall = options.stall;
    config.reset_at_end = !options.drain;
    let mut stage = Stage {
        options,
        plan,
        observer: Observer::new(options.target.server_pid, run.client_core),
        client: Client::new(config)?,
        held: Held::new(plan),
        progress,
    };
    let (memory, target) = (&options.memory, &options.target);
    let mut scale = Scale::new(memory, target.client.descriptors, target.server_pid, connections, progress)?;
    let before = stage.observer.look()?;
    let mut opening_seconds = stage.open(connections / 2)?;
    stage.rest(memory.settle / 2)?;
    scale.halfway(connections / 2)?;
    opening_seconds += stage.open(connections)?;
    let opening = stage.observer.usage_since(&before, u64::from(connections))?;
    stage.rest(memory.settle)?;
    let heartbeats = stage.heartbeats()?;
    let weight = scale.weigh(connections)?;
    let subscriptions = stage.subscribe()?;
    let publications = stage.publish()?;
    let requests = stage.request()?;
    let drain = options.drain.then(|| stage.drain()).transpose()?;

    let unit = "connection";
    let mut outcome = Outcome::new(unit, u64::from(connections), opening, &stage.held.opened, &stage.client);
    let failures = outcome::failures(options, &weight, &publications, &requests, drain.as_ref());
    outcome.idle = Some(weight);
    outcome.hold =
        Some(HoldOutcome { opening_seconds, heartbeats, subscriptions, publications, requests, drain, failures });
    Ok(outcome)
}

/// What every phase works on.
struct Stage<'run> {
    options: &'run HoldOptions,
    plan: Plan,
    observer: Observer,
    client: Client,
    held: Held,
    progress: &'run Progress,
}

impl Stage<'_> {
    /// Gives back how many seconds it took.
    fn open(&mut self, wanted: u32) -> Result<f64, ScenarioError> {
        let begin = Instant::now();
        let (progress, step) = (self.progress, self.plan.connections.div_ceil(10));
        progress.counted("opening", self.plan.connections);
        let mut noted = None;
        self.client.open_up_to(wanted, &mut self.held, |open| {
            progress.at(open);
            if noted.replace(open / step).is_some_and(|tenths| tenths < open / step) {
                progress.note(&format!("{open} connections are open"));
            }
        })?;
        self.check()?;
        Ok(begin.elapsed().as_secs_f64())
    }

    fn rest(&mut self, time: Duration) -> Result<(), ScenarioError> {
        super::load_for("settling", time, &mut self.client, &mut self.held, self.progress)?;
        self.check()
    }

    fn heartbeats(&mut self) -> Result<Heartbeats, ScenarioError> {
        let (rounds, connections) = (self.options.heartbeats, self.plan.connections);
        self.held.count_pings(rounds, self.client.now_ns());
        let before = self.observer.look()?;
        let done = self.wait("pinging", connections, Held::pinged_enough)?;
        if done < connections {
            return Err(ScenarioError::NotPinged { done, connections, rounds, stall: self.options.stall });
        }
        self.progress.note(&format!("each was pinged {rounds} times"));
        let (pings, busiest_second) = self.held.pings();
        let usage = self.observer.usage_since(&before, pings)?;
        Ok(Heartbeats::new(rounds, pings, busiest_second, connections, &usage))
    }

    fn subscribe(&mut self) -> Result<Subscriptions, ScenarioError> {
        let (begin, before) = (Instant::now(), self.user_bytes()?);
        let subscribers = self.plan.subscribers();
        let mut sent = 0;
        loop {
            while sent < subscribers && sent - self.held.subscribed < ASKED_MAX {
                let slot = self.plan.subscriber_slot(sent);
                self.client.say(&self.held, slot, self.plan.subscribe(sent).as_bytes());
                sent += 1;
            }
            let wanted = if sent == subscribers { subscribers } else { sent - ASKED_MAX / 2 };
            if self.wait("subscribing", wanted, |held| held.subscribed)? < wanted {
                return Err(ScenarioError::NotSubscribed { done: self.held.subscribed, subscribers });
            }
            if wanted == subscribers {
                break;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.progress.note(&format!("{subscribers} are subscribed"));
        self.rest(self.options.memory.settle)?;
        let user_bytes_per_subscriber =
            before.zip(self.user_bytes()?).map(|(before, after)| per_connection(before, after, subscribers));
        let channels = self.plan.channels.min(subscribers);
        Ok(Subscriptions { subscribers, channels, seconds, user_bytes_per_subscriber })
    }

    /// One message to every channel, then the next; afterwards a rest, in which nothing more may come.
    fn publish(&mut self) -> Result<Publications, ScenarioError> {
        let begin = Instant::now();
        let Plan { channels, messages, .. } = self.plan;
        for number in 0..messages {
            for channel in 0..channels {
                self.client.say(&self.held, PUBLISHER, plan::publish(channel, number).as_bytes());
            }
            let due = self.plan.subscribers() * (number + 1);
            // What is lost is counted at the end.
            self.wait("publishing", due, |held| u32::try_from(held.delivered).unwrap_or(u32::MAX))?;
            let confirmed = channels * (number + 1);
            let done = self.wait("publishing", confirmed, |held| held.published)?;
            if done < confirmed {
                return Err(ScenarioError::NotConfirmed { done, published: confirmed });
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.progress.note(&format!("{} deliveries have come", self.held.delivered));
        self.rest(self.options.memory.settle)?;
        Ok(Publications::new(self.plan, channels * messages, self.held.delivered, self.held.faults, seconds))
    }

    fn request(&mut self) -> Result<Requests, ScenarioError> {
        let requests = self.plan.requests;
        let mut sent = 0;
        while sent < requests {
            let batch = ASKED_MAX.min(requests - sent);
            for request in sent..sent + batch {
                let slot = self.plan.request_slot(request);
                self.held.asks(request, self.client.now_ns());
                self.client.say(&self.held, slot, plan::request(slot).as_bytes());
            }
            sent += batch;
            if self.wait("asking", sent, |held| held.answered)? < sent {
                break;
            }
        }
        self.progress.note(&format!("{} requests are answered", self.held.answered));
        let unanswered = requests - self.held.answered;
        Ok(Requests { count: requests, unanswered, latency: self.held.answers.summary() })
    }

    fn drain(&mut self) -> Result<Drain, ScenarioError> {
        let begin = Instant::now();
        self.held.expect_drain();
        let pid = self.options.target.server_pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|errno| ScenarioError::Signal(errno.into()))?;
        }
        let closed = self.wait("draining", self.plan.connections, |held| held.closed)?;
        Ok(Drain { closed, codes: self.held.goodbyes.clone(), seconds: begin.elapsed().as_secs_f64() })
    }

    /// Keeps the connections going until `count` has come to `wanted`, or nothing has come for as long as the options
    /// say. Gives back what it has come to.
    fn wait(&mut self, phase: &'static str, wanted: u32, count: impl Fn(&Held) -> u32) -> Result<u32, ScenarioError> {
        self.progress.counted(phase, wanted);
        let mut last = (self.held.progress, Instant::now());
        while count(&self.held) < wanted {
            self.client.turn(&mut self.held)?;
            self.check()?;
            self.progress.at(count(&self.held));
            if self.held.progress != last.0 {
                last = (self.held.progress, Instant::now());
            } else if last.1.elapsed() > self.options.stall {
                break;
            }
        }
        Ok(count(&self.held))
    }

    /// Fails if the server has said what it should not.
    fn check(&mut self) -> Result<(), ScenarioError> {
        match self.held.refused.take() {
            Some((slot, text)) => Err(ScenarioError::Refused { slot, text }),
            None => Ok(()),
        }
    }

    fn user_bytes(&self) -> Result<Option<u64>, ScenarioError> {
        let memory = self.options.target.server_pid.map(ProcessMemory::read).transpose()?;
        Ok(memory.map(|memory| memory.rss_bytes))
    }
}
