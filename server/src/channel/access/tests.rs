use super::*;
use crate::channel::ChannelRule;

fn audience(words: &str) -> Option<Audience> {
    Some(Audience::from_words(words.split(", ")).unwrap())
}

fn rule(pattern: &str, access: Access) -> ChannelRule {
    ChannelRule { pattern: pattern.parse().unwrap(), access, ..ChannelRule::default() }
}

/// Rules that all say the same of everything, but who may subscribe.
fn rules(patterns: &[(&str, &str)]) -> ChannelRules {
    let rules = patterns.iter().map(|(pattern, words)| {
        let all = || audience(words);
        rule(pattern, Access { subscribe: all(), publish: all(), presence: all(), history: all() })
    });
    ChannelRules::new(rules.collect())
}

fn user(name: &str) -> Identity<'_> {
    Identity { user: Some(name), ..Identity::default() }
}

// capability: 64
#[test]
fn without_rules_anyone_may_publish_and_subscribers_see() {
    let stranger = Identity::default();
    for rules in [ChannelRules::default(), rules(&[("other:*", "nobody")])] {
        assert_eq!(Action::ALL.map(|action| rules.may(action, &stranger, "chat")), [true, true, false, false]);
        let subscriber = Identity { is_subscribed: true, ..stranger };
        assert_eq!(Action::ALL.map(|action| rules.may(action, &subscriber, "chat")), [true; 4]);
    }
}

// capability: 64
#[test]
fn a_token_is_taken_for_whatever_may_be_done_by_one() {
    let token = || audience("users, token");
    for (access, takes) in [
        (Access { subscribe: token(), ..Access::default() }, true),
        (Access { publish: token(), ..Access::default() }, true),
        (Access { presence: token(), ..Access::default() }, true),
        (Access { history: token(), ..Access::default() }, true),
        (Access { publish: audience("users"), ..Access::default() }, false),
    ] {
        let rules = ChannelRules::new(vec![rule("chat:*", access)]);
        assert_eq!(rules.takes_token("chat:1"), takes);
        assert!(!rules.takes_token("lobby"));
    }
}

// capability: 64
#[test]
fn each_word_means_those_it_says() {
    let grants = Grants {
        channels: ["chat:1".parse().unwrap(), "team:*".parse().unwrap()].into(),
        roles: ["editor".into(), "admin".into()].into(),
    };
    let stranger = Identity::default();
    let granted = Identity { grants: Some(&grants), ..user("bob") };
    let subscriber = Identity { is_subscribed: true, ..stranger };
    let holder = Identity { has_token: true, ..stranger };
    let who = [stranger, user("ann"), granted, subscriber, holder];
    for (pattern, words, channel, may) in [
        ("*", "anyone", "chat:1", [true; 5]),
        ("*", "nobody", "chat:1", [false; 5]),
        ("*", "users", "chat:1", [false, true, true, false, false]),
        ("inbox:{user}", "owner", "inbox:ann", [false, true, false, false, false]),
        ("inbox:{user}", "owner", "inbox:eve", [false; 5]),
        ("inbox:{user}:*", "owner", "inbox:bob:7", [false, false, true, false, false]),
        ("*", "granted", "chat:1", [false, false, true, false, false]),
        ("*", "granted", "chat:2", [false; 5]),
        ("*", "granted", "team:red", [false, false, true, false, false]),
        ("*", "role:admin", "chat:1", [false, false, true, false, false]),
        ("*", "role:adm", "chat:1", [false; 5]),
        ("*", "token", "chat:1", [false, false, false, false, true]),
        ("inbox:{user}", "owner, role:editor, token", "inbox:ann", [false, true, true, false, true]),
    ] {
        let rules = rules(&[(pattern, words)]);
        for action in Action::ALL {
            assert_eq!(who.map(|who| rules.may(action, &who, channel)), may, "{pattern}: {words}, {action:?}");
        }
    }
    let rules = ChannelRules::new(vec![rule("*", Access { publish: audience("subscribers"), ..Access::default() })]);
    assert_eq!(who.map(|who| rules.may(Action::Publish, &who, "a")), [false, false, false, true, false]);
}

#[test]
fn who_has_no_name_owns_nothing() {
    let rules = rules(&[("inbox:{user}", "owner"), ("inbox:*", "owner")]);
    assert!(!rules.may(Action::Subscribe, &Identity::default(), "inbox:ann"));
    // Where there is no place for a name nobody's stands: not that of somebody without one, either.
    assert!(!rules.may(Action::Subscribe, &Identity::default(), "inbox:"));
}

// capability: 64
#[test]
fn the_most_specific_rule_counts_and_what_it_does_not_say_the_next_one_does() {
    let rules = ChannelRules::new(vec![
        rule("*", Access { subscribe: audience("nobody"), publish: audience("users"), ..Access::default() }),
        rule("chat:*", Access { subscribe: audience("anyone"), ..Access::default() }),
        rule("chat:staff", Access { subscribe: audience("role:staff"), ..Access::default() }),
    ]);
    let may = |action, who: &Identity<'_>, channel| rules.may(action, who, channel);
    let stranger = Identity::default();
    assert!(may(Action::Subscribe, &stranger, "chat:1") && !may(Action::Subscribe, &stranger, "news"));
    assert!(!may(Action::Subscribe, &user("ann"), "chat:staff"));
    for channel in ["chat:1", "chat:staff", "news"] {
        assert!(!may(Action::Publish, &stranger, channel) && may(Action::Publish, &user("ann"), channel), "{channel}");
    }
}

#[test]
fn a_token_is_asked_for_where_the_rule_that_counts_takes_one() {
    let rules = rules(&[("private:*", "token"), ("private:open", "anyone"), ("public", "users")]);
    assert!(rules.takes_token("private:1") && !rules.takes_token("private:open") && !rules.takes_token("chat"));
}

#[test]
fn words_are_checked() {
    let refused = |words: &[&str]| Audience::from_words(words.iter().copied()).unwrap_err();
    assert_eq!(refused(&[]), AccessError::Nobody);
    assert_eq!(refused(&["users", "nobody"]), AccessError::Nobody);
    for word in ["everyone", "role:", "role", "Users", ""] {
        assert_eq!(refused(&["users", word]), AccessError::Unknown(word.to_owned()));
    }
    for words in ["nobody", "anyone", "users, owner, granted, role:a b, subscribers, token"] {
        let written: Vec<String> = audience(words).unwrap().words().collect();
        assert_eq!(written.join(", "), words);
    }
}

#[test]
fn what_makes_no_sense_with_a_pattern_is_refused() {
    let owner = Access { history: audience("users, owner"), ..Access::default() };
    assert_eq!(owner.check(&"inbox:*".parse().unwrap()), Err(AccessError::NoOwner));
    assert_eq!(owner.check(&"inbox:{user}".parse().unwrap()), Ok(()));
    let circular = Access { subscribe: audience("subscribers"), ..Access::default() };
    assert_eq!(circular.check(&Pattern::default()), Err(AccessError::Circular));
    let fine = Access { publish: audience("subscribers"), ..Access::default() };
    assert_eq!(fine.check(&Pattern::default()), Ok(()));
}
