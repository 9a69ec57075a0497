//! What is allowed and may still not be meant.

use std::net::IpAddr;

use super::{Config, ProxySetting};

impl Config {
    /// What an operator should look at twice: a sentence for each, with what to do about it.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let listen = self.listen;
        if is_public(listen.ip()) {
            doubts.push(format!(
                "`listen`: {listen} can be reached from other networks, and what is said there is not encrypted: \
                 listen on 127.0.0.1 or a private address, behind a proxy that speaks TLS (wss://)"
            ));
        }
        if self.proxy_protocol == ProxySetting::Required && self.trusted_proxies.is_empty() {
            doubts.push(
                "`proxy_protocol`: without `trusted_proxies` nobody may send the header that is required, and everyone \
                 is cut: name the proxy there"
                    .to_owned(),
            );
        }
        if self.proxy_protocol == ProxySetting::Required && self.identity.trust_user_header {
            doubts.push(
                "`identity.trust_user_header`: a proxy that forwards TCP as it comes replaces no header, and its clients \
                 could be any user: let it speak HTTP and set X-User-ID, or set this to false"
                    .to_owned(),
            );
        }
        let api = self.api.listen;
        if self.api.enabled && self.api.key.is_some() && !api.ip().to_canonical().is_loopback() {
            doubts.push(format!(
                "`api.listen`: {api} can be reached from other machines, and the key is sent there as it is, for whoever \
                 hears it to use: listen on 127.0.0.1, behind a proxy that speaks TLS, or on a network that is nobody \
                 else's"
            ));
        }
        if self.http.metrics && is_public(listen.ip()) {
            doubts.push(format!(
                "`http.metrics`: whoever reaches {listen} sees them: let the proxy refuse /metrics, or switch them off"
            ));
        }
        doubts.extend(self.auth.doubts());
        doubts.extend(self.webhook.doubts());
        doubts.extend(self.doubts_of_channels());
        doubts
    }
}

/// Whether other networks may reach the address, as far as the address tells.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !(address.is_loopback() || address.is_private() || address.is_link_local()),
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthMode;

    #[test]
    fn the_defaults_leave_no_doubt() {
        assert_eq!(Config::default().doubts(), [""; 0]);
    }

    #[test]
    fn a_public_address_is_doubtful_and_more_so_with_trust_in_a_header() {
        let mut config = Config::default();
        for (listen, doubts) in [
            ("0.0.0.0:80", 1),
            ("[::]:80", 1),
            ("203.0.113.7:80", 1),
            ("[2001:db8::1]:80", 1),
            ("127.0.0.2:80", 0),
            ("10.1.2.3:80", 0),
            ("[fd00::1]:80", 0),
            ("[::ffff:127.0.0.1]:80", 0),
        ] {
            config.listen = listen.parse().unwrap();
            assert_eq!(config.doubts().len(), doubts, "{listen}");
        }
        config.listen = "0.0.0.0:80".parse().unwrap();
        config.http.metrics = true;
        assert_eq!(config.doubts().len(), 2);
    }

    // capability: 9
    #[test]
    fn whoever_could_name_users_without_a_proxy_is_refused_off_loopback() {
        let mut config = Config::default();
        config.identity.trust_user_header = true;
        for listen in ["127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            config.listen = listen.parse().unwrap();
            assert!(config.check().is_ok() && config.doubts().is_empty(), "{listen}");
        }
        for listen in ["10.1.2.3:80", "0.0.0.0:80", "[fd00::1]:80"] {
            config.listen = listen.parse().unwrap();
            let problem = config.check().unwrap_err().to_string();
            assert!(problem.contains("`identity.trust_user_header`") && problem.contains(listen), "{problem}");
            assert!(problem.contains("`trusted_proxies`"), "{problem}");
        }
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        assert!(config.check().is_ok());
        config.proxy_protocol = ProxySetting::Required;
        assert!(config.doubts().iter().any(|doubt| doubt.starts_with("`identity.trust_user_header`")));
    }

    // capability: 7 80
    #[test]
    fn a_key_that_others_may_overhear_is_doubtful() {
        let mut config = Config::default();
        config.api.key = Some("0123456789abcdef".parse().unwrap());
        for (enabled, listen, doubts) in [
            (false, "0.0.0.0:8081", 0),
            (true, "127.0.0.1:8081", 0),
            (true, "[::ffff:127.0.0.1]:8081", 0),
            (true, "0.0.0.0:8081", 1),
            (true, "10.1.2.3:8081", 1),
        ] {
            (config.api.enabled, config.api.listen) = (enabled, listen.parse().unwrap());
            let found = config.doubts();
            assert_eq!(found.iter().filter(|doubt| doubt.starts_with("`api.listen`")).count(), doubts, "{listen}");
        }
    }

    #[test]
    fn to_require_what_nobody_may_send_is_doubtful() {
        let mut config = Config { proxy_protocol: ProxySetting::Required, ..Config::default() };
        assert!(config.doubts()[0].starts_with("`proxy_protocol`"));
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(config.doubts(), [""; 0]);
    }

    // capability: 53
    #[test]
    fn keys_that_come_later_than_anybody_waits_for_them_are_doubtful() {
        let mut config = Config::default();
        config.auth.mode = AuthMode::Required;
        config.auth.jwks_url = Some("https://id.example.com/keys".to_owned());
        assert_eq!(config.doubts(), [""; 0]);
        config.auth.timeout = config.auth.jwks_refresh_min;
        assert!(config.doubts()[0].starts_with("`auth.jwks_refresh_min`"));
    }
}
