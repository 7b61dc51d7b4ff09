//! Where metrics are served.

use super::*;

#[test]
fn metrics_are_off_by_default_and_listen_at_an_address_with_a_port() {
    let of = |metrics: &str| Config::parse(&format!("{BASE}{metrics}"), "lab.yaml").unwrap().metrics;
    assert_eq!(of(""), None);
    assert_eq!(of("metrics: { listen: 127.0.0.1:9464 }\n"), Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(of("metrics: { listen: \"[::1]:9464\" }\n"), Some("[::1]:9464".parse().unwrap()));
}
