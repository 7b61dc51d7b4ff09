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
    let RoleKind::Exec(ExecCommand { command, user, env }) = source.kind else { panic!() };
    assert_eq!((command, user, env.len()), (vec!["./who-leads".into(), "--quick".into()], None, 0));
    assert_eq!((source.timeout, source.netns), (Span::secs(2), None));

    let source =
        role("{ exec: { command: [who], user: nobody, env: { A: b } }, timeout: 5s, netns: client }");
    assert_eq!(source.kind.command().unwrap().user.as_deref(), Some("nobody"));
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
fn presets_take_roles() {
    with("roles: { leader: { exec: [x] } }\npresets: { p: { between: [[\"@leader\"], [n1]] } }").unwrap();
}

#[test]
fn secrets_of_roles_are_fetched_and_named_where_they_are_missing() {
    let text = "roles: { leader: { exec: { command: [x], env: { T: \"${env:NO_SUCH_TOKEN}\" } } } }";
    let errors = with(text).unwrap().fetch_secrets("lab.yaml").unwrap_err().to_string();
    assert!(errors.contains("roles.leader") && errors.contains("NO_SUCH_TOKEN is not in"), "{errors}");
}
