use super::*;

fn with(roles: &str) -> Result<Config, String> {
    Config::parse(&format!("{BASE}{roles}"), "lab.yaml").map_err(|errors| errors.to_string())
}

fn role(text: &str) -> RoleSource {
    with(&format!("roles: {{ leader: {text} }}")).unwrap().roles.remove("leader").unwrap()
}

#[test]
fn a_role_is_asked_by_a_command_or_over_http() {
    let source = role("{ exec: [./who-leads, --quick] }");
    let RoleKind::Exec { command, user, env } = source.kind else { panic!() };
    assert_eq!((command, user, env.len()), (vec!["./who-leads".into(), "--quick".into()], None, 0));
    assert_eq!((source.timeout, source.netns), (Span::secs(2), None));

    let source =
        role("{ exec: { command: [who], user: nobody, env: { A: b } }, timeout: 5s, netns: client }");
    assert_eq!(source.kind.command_user(), Some(Some("nobody")));
    assert_eq!((source.timeout, source.netns), (Span::secs(5), Some(Netns::Name("client".into()))));

    let source = role("{ http: { url: \"http://10.0.0.1/x\", pointer: /leader, names: { a7: n2 } } }");
    let RoleKind::Http { request, answer } = source.kind else { panic!() };
    assert_eq!((request.http.method.as_str(), request.peers.len()), ("GET", 0));
    let names = BTreeMap::from([("a7".to_owned(), PeerId(2))]);
    assert_eq!(answer, RoleAnswer { pointer: "/leader".into(), meaning: RoleMeaning::Names(names) });
}

#[test]
fn placeholders_ask_each_peer() {
    let text = format!(
        "{}roles: {{ leader: {{ http: {{ url: \"http://{{address}}:1/{{peer}}\", pointer: /s, equals: 7 }} }} }}",
        BASE.replace("  net: { addresses: [10.2.0.0/16] }\n", "")
    );
    let config = Config::parse(&text, "lab.yaml").unwrap();
    let RoleKind::Http { request, answer } = &config.roles["leader"].kind else { panic!() };
    let asked: Vec<&str> = request.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(asked, ["n1", "n2"]);
    assert_eq!(request.peers[1].address, Some("10.0.0.2".parse().unwrap()));
    assert_eq!(answer.meaning, RoleMeaning::Equals("7".into()));
    let some = role("{ http: { url: \"http://{address}/\", peers: [n2], pointer: \"\", same_as: /me } }");
    let RoleKind::Http { request, answer } = some.kind else { panic!() };
    assert_eq!((request.peers.len(), answer.meaning), (1, RoleMeaning::SameAs("/me".into())));
}

#[test]
fn faults_have_a_place_and_a_remedy() {
    for (roles, expected) in [
        (
            "roles: { leader: { exec: [x] , http: { url: \"http://10.0.0.1/\", pointer: /a } } }",
            "two sources",
        ),
        ("roles: { leader: {} }", "the role has no source; write it as: leader: { exec: [./who-leads] }"),
        ("roles: { \"@leader\": { exec: [x] } }", "leave out the @"),
        ("roles: { \"a b\": { exec: [x] } }", "can't be the name of a role"),
        ("roles: [leader]", "found a list where a mapping is expected"),
        ("roles: { leader: { exec: [] } }", "the command is empty"),
        ("roles: { leader: { exec: [x, \"${env:T}\"] } }", "every user of this host can read a command line"),
        (
            "roles: { leader: { exec: [x, \"{address}\"] } }",
            "{address} is replaced by a peer, and no peers are named",
        ),
        ("roles: { leader: { exec: [x], timeout: 6s } }", "6s is too long; write at most 5s"),
        (
            "roles: { leader: { exec: [x], interval: 1s } }",
            "unknown key \"interval\"; known here: exec, http, timeout",
        ),
        ("roles: { leader: { http: { url: \"http://10.0.0.1/\" } } }", "\"pointer\" is missing"),
        (
            "roles: { leader: { http: { url: \"http://10.0.0.1/\", pointer: leader } } }",
            "\"leader\" is not a JSON pointer",
        ),
        ("roles: { leader: { http: { url: \"ftp://10.0.0.1/\", pointer: /a } } }", "scheme"),
        (
            "roles: { leader: { http: { url: \"http://10.0.0.1/\", pointer: /a, equals: x } } }",
            "no peer is asked that could speak for itself; write {address} in the URL",
        ),
        (
            "roles: { leader: { http: { url: \"http://{address}/\", peers: [n1], pointer: /a, equals: x, names: {} } } }",
            "the answer has two meanings",
        ),
        ("roles: { leader: { http: { url: \"http://{address}/\", pointer: /a } } }", "peer \"net\" has none"),
        (
            "roles: { leader: { http: { url: \"http://10.0.0.1/\", pointer: /a, names: { x: n9 } } } }",
            "unknown peer \"n9\"",
        ),
        (
            "roles: { leader: { http: { url: \"http://10.0.0.1/\", pointer: /a, expect: {} } } }",
            "unknown key \"expect\"",
        ),
        (
            "roles: { leader: { exec: [x] } }\npresets: { p: { isolate: [\"@boss\"] } }",
            "preset \"p\" can't be built: unknown role \"@boss\"; known roles: leader",
        ),
        ("presets: { p: { isolate: [\"@boss\"] } }", "the config has no roles"),
        (
            "roles: { leader: { exec: [x] } }\npresets: { p: { between: [[\"@leader\"], [n9]] } }",
            "preset \"p\" can't be built: unknown peer \"n9\"",
        ),
    ] {
        let error = with(roles).unwrap_err();
        assert!(error.contains(expected) && error.starts_with("lab.yaml:"), "{roles}: {error}");
    }
    let good = "roles: { leader: { exec: [x] } }\npresets: { p: { between: [[\"@leader\"], [n1]] } }";
    with(good).unwrap();
}

#[test]
fn secrets_of_roles_are_fetched_and_named_where_they_are_missing() {
    let text = "roles: { leader: { exec: { command: [x], env: { T: \"${env:NO_SUCH_TOKEN}\" } } } }";
    let errors = with(text).unwrap().fetch_secrets("lab.yaml").unwrap_err().to_string();
    assert!(errors.contains("roles.leader") && errors.contains("NO_SUCH_TOKEN is not in"), "{errors}");
}
