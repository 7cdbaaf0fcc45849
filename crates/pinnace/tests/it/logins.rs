//! Who the command line says it is: from the environment and the configuration, for every command that
//! talks to a server, over both doors.

use crate::support::{Done, Server, pinnace, signal, wait_for};

const USERS: &str = r#"
server:
  auth:
    token: t0ken
    users:
      - {user: admin, password: "s3:c@r/et"}
      - user: narrow
        password: n
        permissions:
          publish: {allow: [ok.>]}
          subscribe: {allow: [ok.>, _INBOX.>]}
"#;

const TOKEN: &[(&str, &str)] = &[("PINNACE_TOKEN", "t0ken")];
const ADMIN: &[(&str, &str)] = &[("PINNACE_USER", "admin"), ("PINNACE_PASSWORD", "s3:c@r/et")];
const NARROW: &[(&str, &str)] = &[("PINNACE_USER", "narrow"), ("PINNACE_PASSWORD", "n")];

/// Runs the program with more in its environment, away from the server's configuration.
fn run(server: &Server, environment: &[(&str, &str)], arguments: &[&str]) -> Done {
    let folder = server.folder.path().join("client");
    std::fs::create_dir_all(&folder).unwrap();
    let output = pinnace(&folder)
        .envs(environment.iter().copied())
        .args(["--server", &server.url()])
        .args(arguments)
        .output()
        .unwrap();
    Done::of(&output, arguments)
}

#[test]
fn every_command_logs_in_and_says_how_to_when_it_is_refused() {
    let server = Server::configured(USERS);
    let bench = [
        "bench",
        "--path",
        ".",
        "--engine",
        "null",
        "--run-time",
        "1s",
        "--force",
        "-q",
        "--file-size",
        "1M",
        "--chunk-size",
        "1M",
        "--rate",
        "20M",
    ];
    let chat = ["chat", "--name", "me"];
    let commands: &[&[&str]] = &[
        &["pub", "ok.a", "hi"],
        &["sub", "ok.a", "--count", "0"],
        &["sub", "ok.a", "--queue", "q", "--count", "0"],
        &["request", "$PN.topics", "{}"],
        &["send", "me", "hi"],
        &chat,
        &bench,
        &["topics"],
        &["topics", "check"],
        &["topics", "backup", "b"],
        &["clients"],
        &["runs", "list"],
    ];
    for command in commands {
        // Whom it is sent to is known by then.
        let code = i32::from(command[0] == "send");
        for login in [TOKEN, ADMIN] {
            run(&server, login, command).expect(code, &[]);
        }
        for login in [&[][..], &[("PINNACE_TOKEN", "wrong")]] {
            run(&server, login, command).expect(6, &["PINNACE_PASSWORD", "client.token"]);
        }
    }
}

#[test]
fn what_a_user_may_not_do_ends_with_a_word() {
    let server = Server::configured(USERS);
    let allowed: &[&[&str]] = &[
        &["pub", "ok.a", "hi"],
        &["sub", "ok.a", "--count", "0"],
        &["topics"],
    ];
    for command in allowed {
        run(&server, NARROW, command).expect(0, &[]);
    }
    let refused: &[&[&str]] = &[
        &["pub", "else", "hi"],
        &["sub", "else"],
        &["sub", "else", "--queue", "q"],
        &["request", "else", "hi"],
        &["topics", "check"],
        &["topics", "backup", "b"],
    ];
    for command in refused {
        run(&server, NARROW, command).expect(6, &["log in as somebody who may"]);
    }
    let left = std::fs::read_dir(server.folder.path().join("client")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_login_may_stand_in_the_configuration_and_is_never_shown() {
    let server = Server::configured(USERS);
    let folder = server.folder.path().join("configured");
    std::fs::create_dir(&folder).unwrap();
    let yaml = format!(
        "client: {{server: '{}', user: admin, password: 's3:c@r/et'}}",
        server.url()
    );
    std::fs::write(folder.join("pinnace.yaml"), yaml).unwrap();
    let said = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = pinnace(&folder);
        command.envs(environment.iter().copied()).args(arguments);
        Done::of(&command.output().unwrap(), arguments)
    };
    said(&[], &["topics"]).expect(0, &[]);
    said(&[("PINNACE_TOKEN", "wrong")], &["topics"]).expect(6, &[]);
    for arguments in [
        &["config", "show", "--origin"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["--log", "trace", "topics"],
        &["--log", "trace", "sub", "a", "--count", "0"],
    ] {
        let done = said(&[("PINNACE_TOKEN", "t0ken")], arguments).expect(0, &[]);
        let all = done.stdout + &done.stderr;
        assert!(!all.contains("s3:c") && !all.contains("t0ken"), "{all}");
    }
    said(
        &[
            ("PINNACE_PASSWORD", "x"),
            ("PINNACE_USER", "y"),
            ("PINNACE_TOKEN", "z"),
        ],
        &["topics"],
    )
    .expect(2, &["client.token from PINNACE_TOKEN"]);
}

#[test]
fn a_clients_login_is_on_no_command_line() {
    let server = Server::configured(USERS);
    let folder = server.folder.path();
    let mut bench = pinnace(folder);
    bench.envs(TOKEN.iter().copied()).args([
        "--server",
        &server.url(),
        "bench",
        "--path",
        ".",
        "--engine",
        "null",
        "--clients",
        "2",
        "--force",
        "--file-size",
        "1M",
        "--chunk-size",
        "64k",
        "--run-time",
        "120s",
        "--rate",
        "1M",
        "-q",
    ]);
    let mut bench = bench.stdout(std::process::Stdio::null()).spawn().unwrap();
    let token = [("Authorization", "Bearer t0ken")];
    wait_for("both clients", || {
        let roster = server.http("GET", "/-/clients", &token, b"").json();
        let clients = roster["clients"].as_array().unwrap().iter();
        clients.filter(|client| client["kind"] == "bench").count() == 2
    });
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    for process in all {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&line).contains("t0ken"),
            "{line:?}"
        );
    }
    // In order, so that its clients end with it.
    signal(bench.id(), "INT");
    bench.wait().unwrap();
}
