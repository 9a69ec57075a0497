//! Another configuration for a server that runs.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crore_engine::{CoreId, EngineHandle, Notice, Untold};

use crate::channel::ChannelRules;
use crate::config::{Change, Config, ConfigError, Sources};
use crate::policy::Policy;
use crate::{log, service};

/// How long the cores may take to go over. Each does between two messages; only a handler that blocks makes it wait.
const TAKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts at a core that has too many commands waiting.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A policy on its way to a core.
pub(crate) struct NewPolicy {
    policy: Arc<Policy>,
    taken: Sender<CoreId>,
}

impl NewPolicy {
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// The core has gone over.
    pub(crate) fn note_taken(self, core: CoreId) {
        // Nobody listens any more where it has taken too long, which has been said.
        let _ = self.taken.send(core);
    }
}

/// The configuration that holds, and where the next one comes from.
pub(crate) struct Reloader {
    config: Config,
    /// Rules of channels that some cores may still go by.
    leaving: Vec<ChannelRules>,
    sources: Option<Sources>,
    handle: EngineHandle,
}

impl Reloader {
    pub(crate) const fn new(config: Config, sources: Option<Sources>, handle: EngineHandle) -> Self {
        Self { config, leaving: Vec::new(), sources, handle }
    }

    /// What holds now.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Reads the configuration again, lets count what can be changed, and says what can't. If anything is wrong with it,
    /// nothing changes; nor if it was made by the program and came from nowhere.
    pub(crate) fn reload(&mut self) {
        let Some(sources) = &self.sources else { return };
        service::say_reloading();
        let status = match sources.load() {
            Ok(wanted) => self.go_over(&wanted),
            Err(errors) => refuse(errors.iter()),
        };
        service::say_reloaded(&status);
    }

    fn go_over(&mut self, wanted: &Config) -> String {
        let Change { config, applied, kept } = self.config.change_to(wanted);
        // What can be changed now may contradict what can't.
        if let Err(error) = config.check() {
            return refuse([&error]);
        }
        let before = self.config.doubts();
        if self.config.channels != config.channels {
            self.leaving.push(ChannelRules::new(self.config.channels.clone()));
        }
        self.config = config;
        self.tell_cores(TAKEN_TIMEOUT);
        for setting in &applied {
            tracing::info!(setting, "changed");
        }
        for setting in &kept {
            tracing::warn!(setting, "has another value now, which counts after a restart");
        }
        for doubt in self.config.doubts().iter().filter(|doubt| !before.contains(doubt)) {
            tracing::warn!("{doubt}");
        }
        let (changed, waiting) = (applied.len(), kept.len());
        tracing::info!(changed, waiting, "the configuration has been read again");
        // At last, so that the old level decides who learns of the change.
        if applied.contains(&"log.level") && !log::set_level(&self.config.log.level) {
            tracing::warn!(setting = "log.level", "has no effect: this program's logs were set up by itself");
        }
        format!("configuration read again: settings changed: {changed}, waiting for a restart: {waiting}")
    }

    /// Hands every core what follows from the configuration. Also where nothing has changed, so that to reload again
    /// helps where a core was not told. Where the rules of channels have changed, the cores go over in two steps: only
    /// when all have the new rules nobody needs to mind the old ones.
    fn tell_cores(&mut self, patience: Duration) {
        let all = self.hand_over(Policy::new(&self.config).beside(self.leaving.clone()), patience);
        if self.leaving.is_empty() {
            return;
        }
        if all {
            self.leaving.clear();
            self.hand_over(Policy::new(&self.config), patience);
        } else {
            tracing::warn!("a channel whose `history` was set or removed keeps nothing before the next reload");
        }
    }

    /// Hands every core a policy, and waits until they have it. False: some have not.
    fn hand_over(&self, policy: Policy, patience: Duration) -> bool {
        let policy = Arc::new(policy);
        let deadline = Instant::now() + patience;
        let (taken, cores_taken) = channel();
        let (mut told, mut untold) = (Vec::new(), 0);
        for core in (0..=u16::MAX).take(self.handle.cores()).map(CoreId) {
            let policy = NewPolicy { policy: Arc::clone(&policy), taken: taken.clone() };
            if self.tell_core(core, Box::new(policy), deadline) {
                told.push(core);
            } else {
                untold += 1;
                tracing::error!(%core, "has too many commands waiting to be told of the configuration: reload again");
            }
        }
        drop(taken);
        while !told.is_empty() {
            // Cores that end have nothing more to say.
            let Ok(core) = cores_taken.recv_timeout(deadline.saturating_duration_since(Instant::now())) else { break };
            told.retain(|other| *other != core);
        }
        for core in &told {
            tracing::warn!(%core, "has not gone over to the configuration yet: a handler keeps it, or the core has ended");
        }
        told.is_empty() && untold == 0
    }

    /// Tells a core, as soon as that takes more commands. False: it did not until the deadline.
    fn tell_core(&self, core: CoreId, mut notice: Notice, deadline: Instant) -> bool {
        while let Err(untold) = self.handle.tell_core(core, notice) {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(RETRY_INTERVAL);
            Untold { notice, .. } = untold;
        }
        true
    }
}

fn refuse<'e>(errors: impl IntoIterator<Item = &'e ConfigError>) -> String {
    for error in errors {
        tracing::error!("{error}");
    }
    tracing::error!(
        "the configuration is wrong, nothing has been changed; `crore check-config` says whether it is mended"
    );
    "configuration refused: the log says why; nothing has been changed".to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU16;

    use serde_json::{Value, json};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::Server;
    use crate::channel::{ChannelOptions, ChannelRule};
    use crate::test_support::{Client, Stall};

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_core_that_a_handler_keeps_goes_over_when_that_has_returned() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen, cores: NonZeroU16::new(1), ..Config::default() };
        let (server, stall) = Stall::on(Server::new(config.clone()), PATIENCE);
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        let mut client = Client::on_core(running.address(), '0', PATIENCE);
        stall.begin(&mut client);
        config.clients.broadcast = false;
        let mut reloader = Reloader::new(config, None, running.handle().clone());
        // It is not waited for longer than this.
        reloader.tell_cores(Duration::from_millis(50));
        stall.end();
        reloader.tell_cores(PATIENCE);
        client.say(&json!({"type": "broadcast", "data": 1}));
        let answer = client.next().to_string();
        assert!(answer.contains("`clients.broadcast` is off"), "{answer}");
        drop(client);
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }

    /// What is wrong waits as it is. By the time that it is looked at again it may be right.
    #[test]
    fn a_batch_that_has_become_shorter_than_it_may_be_keeps_its_order() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut before = Config { listen, cores: NonZeroU16::new(1), ..Config::default() };
        before.limits.batch_messages_max = 2;
        let mut after = before.clone();
        after.limits.batch_messages_max = 3;
        let gate = Arc::new(Semaphore::new(0));
        let inner = Arc::clone(&gate);
        let server = Server::new(before).on("slow", move |call| {
            let gate = Arc::clone(&inner);
            call.wait(async move { gate.acquire().await.unwrap().forget() }, |call, ()| {
                call.reply("response", |reply| reply);
                Ok(())
            })
        });
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        let mut client = Client::on_core(running.address(), '0', PATIENCE);
        client.say(&json!({"type": "slow", "id": 1}));
        let messages = json!([{"type": "slow", "id": 2}, {"type": "connect", "id": 3}, {"type": "connect", "id": 4}]);
        client.say(&json!({"type": "batch", "messages": messages}));
        client.say(&json!({"type": "connect", "id": 5}));
        client.say(&json!({"type": "ping"}));
        assert_eq!(client.next()["type"], "pong", "the others wait by now");
        Reloader::new(after, None, running.handle().clone()).tell_cores(PATIENCE);
        gate.add_permits(1);
        assert_eq!(client.next()["id"], 1);
        client.say(&json!({"type": "ping"}));
        assert_eq!(client.next()["type"], "pong", "what is behind the second slow one waits for it");
        gate.add_permits(1);
        assert_eq!([(); 4].map(|()| client.next()["id"].clone()), [2, 3, 4, 5].map(Value::from));
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }

    // capability: 85
    #[test]
    fn while_a_core_goes_by_the_old_rules_no_history_has_a_hole() {
        let rules = |pattern: &str| {
            let options = ChannelOptions { history: Some(10), ..ChannelOptions::default() };
            vec![ChannelRule { pattern: pattern.parse().unwrap(), options, ..ChannelRule::default() }]
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let before = Config { listen, cores: NonZeroU16::new(2), channels: rules("loses:*"), ..Config::default() };
        let after = Config { channels: rules("gains:*"), ..before.clone() };
        let (server, stall) = Stall::on(Server::new(before.clone()), PATIENCE);
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        let mut client = Client::on_core(running.address(), '0', PATIENCE);
        let mut other = Client::on_core(running.address(), '1', PATIENCE);
        let publish = |channel: &str| json!({"type": "publish", "id": channel, "channel": channel, "data": 1});
        // One whose home is the client's core, or two cores would have to answer.
        let at_home = |client: &mut Client, kind: &str| {
            (0..32).for_each(|number| client.say(&publish(&format!("{kind}:{number}"))));
            let mut answered = std::iter::repeat_with(|| client.next()["id"].as_str().unwrap().to_owned());
            answered.find(|channel| channel.starts_with(kind)).unwrap()
        };
        stall.begin(&mut other);
        let loses = at_home(&mut client, "loses");
        let kept = client.ask(&publish(&loses));
        let mut reloader = Reloader::new(after, None, running.handle().clone());
        reloader.leaving.push(ChannelRules::new(before.channels));
        reloader.tell_cores(Duration::from_millis(50));
        // The other core would let the home publish to the one, and would publish to the other one itself.
        let gains = at_home(&mut client, "gains");
        for channel in [&loses, &gains] {
            let [one, two] = [(); 2].map(|()| client.ask(&publish(channel)));
            assert!(one["data"]["epoch"].is_string() && one["data"]["epoch"] != two["data"]["epoch"], "{one} {two}");
            assert_ne!(one["data"]["epoch"], kept["data"]["epoch"]);
        }
        stall.end();
        reloader.tell_cores(PATIENCE);
        assert!(client.ask(&publish(&loses))["data"].get("offset").is_none());
        let [one, two] = [(); 2].map(|()| client.ask(&publish(&gains)));
        assert_eq!(one["data"]["epoch"], two["data"]["epoch"]);
        assert_eq!((&one["data"]["offset"], &two["data"]["offset"]), (&json!(1), &json!(2)));
        drop((client, other));
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }
}
