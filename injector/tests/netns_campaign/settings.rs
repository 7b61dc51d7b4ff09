//! What decides whether two campaigns, or two parts of one, were made alike.

use injector_lab::{CLIENT, needs};

use super::lab::{Lab, Setup};

#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn another_place_of_probes_or_another_answer_is_another_campaign() {
    let lab = Lab::up(&Setup::default());
    let campaign = ["isolate", "n1", "--hold", "1s", "--trials", "1"];
    let (code, said) = lab.measure(&campaign);
    assert_eq!(code, 0, "{said}");
    assert!(!lab.path("run/open.json").exists(), "every trial has its record");
    let (code, said) = lab.measure(&["--resume"]);
    assert_eq!(code, 0, "{said}");

    let (client, n2) = (lab.netns(CLIENT), lab.netns("n2"));
    lab.reload(&format!("netns: {client}"), &format!("netns: {n2}"));
    lab.reload("http://{address}:8080/\"", "http://{address}:8080/\", expect: { status: [503, 200] }");
    lab.reload("port: 8080", "port: 8081");
    let differences = [
        format!("probes.ingress@n1.settings.netns: \"{client}\", \"{n2}\""),
        "probes.ingress@n1.settings.expect.status: \"2xx\", \"200 or 503\"".to_owned(),
        "probes.ingress@n1.settings.wire: \"port 8080, http\", \"port 8081, http\"".to_owned(),
    ];
    let (code, said) = lab.measure(&["--resume"]);
    assert_eq!(code, 64, "{said}");
    for difference in &differences {
        assert!(said.contains(difference), "{difference} in {said}");
    }

    let [a, b] = ["run", "other"].map(|name| lab.path(name).to_str().unwrap().to_owned());
    lab.run(&[&["measure"][..], &campaign, &["--out", &b]].concat());
    let output = lab.run(&["compare", &a, &b]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // Where they start is reported for runs that can be compared.
    for difference in &differences[1..] {
        assert!(said.contains(difference), "{difference} in {said}");
    }
    assert!(!said.contains("worded differently"), "{said}");
}
