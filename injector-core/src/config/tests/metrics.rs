//! Where metrics are served.

use super::*;

#[test]
fn metrics_are_off_by_default_and_listen_at_an_address_with_a_port() {
    let of = |metrics: &str| Config::parse(&format!("{BASE}{metrics}"), "lab.yaml").unwrap().metrics;
    assert_eq!(of(""), None);
    assert_eq!(of("metrics: { listen: 127.0.0.1:9464 }\n"), Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(of("metrics: { listen: \"[::1]:9464\" }\n"), Some("[::1]:9464".parse().unwrap()));
    for (listen, what, remedy) in [
        ("9464", "found the number 9464 where a text", "\"127.0.0.1:9464\""),
        ("localhost:9464", "not an address with a port", "a host name is not resolved"),
        ("127.0.0.1", "not an address with a port", "\"127.0.0.1:9464\""),
        ("\"::1\"", "not an address with a port", "\"[::1]:9464\""),
        ("127.0.0.1:0", "nobody knows where to read", "name a port"),
    ] {
        one_more(&format!("metrics: {{ listen: ¶{listen} }}\n"), "metrics.listen", what, remedy);
    }
    one_more("metrics: ¶127.0.0.1:9464\n", "metrics", "where a mapping", "{ listen:");
    one_more("metrics: { listen: 127.0.0.1:9464, ¶path: /m }\n", "metrics.path", "", "listen");
}
