//! The command line itself: help, settings and their origins, wrong words.

use crate::support::{pinnace, run};

#[test]
fn help_describes_every_command_and_wrong_words_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"]).expect(0, &[]);
    for command in [
        "demo", "serve", "bench", "runs", "pub", "sub", "topics", "clients", "config",
    ] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{command}"
        );
        run(folder.path(), &[command, "--help"]).expect(0, &[]);
    }
    run(folder.path(), &["bech"]).expect(2, &["bench"]);
    run(folder.path(), &["serve", "--htpp", "x"]).expect(2, &["--http"]);
    run(folder.path(), &[]).expect(2, &["Usage"]);
    assert!(
        run(folder.path(), &["--version"])
            .stdout
            .starts_with("pinnace ")
    );
}

#[test]
fn each_setting_says_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = "server: {http: 127.0.0.1:1}\nclient: {heartbeat: 2s}\njob: {run_time: 9s}\n";
    std::fs::write(folder.path().join("pinnace.yaml"), file).unwrap();
    let output = pinnace(folder.path())
        .args(["--server", "http://h:1", "config", "show", "--origin"])
        .env("PINNACE_HEARTBEAT", "3s")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for (setting, value, origin) in [
        ("client.server", "http://h:1", "--server"),
        ("client.heartbeat", "3s", "PINNACE_HEARTBEAT"),
        ("server.http", "127.0.0.1:1", "pinnace.yaml"),
        ("job.file_size", "64M", "default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(setting)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [setting, value, origin], "{text}");
    }
    run(folder.path(), &["config", "check"]).expect(0, &[]);
    let shown = run(folder.path(), &["--json", "config", "show"])
        .expect(0, &[])
        .json();
    assert_eq!(shown["job.run_time"]["value"], "9s");
}

#[test]
fn wrong_settings_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.yaml");
    for (text, parts) in [
        (
            "server:\n  data: x\n  htpp: y\n",
            ["c.yaml line 3", "did you mean `http`"],
        ),
        (
            "job: {run_time: soon}\n",
            ["job.run_time from c.yaml", "`soon`"],
        ),
        (
            "job: {chunk_size: 10Q}\n",
            ["job.chunk_size from c.yaml", "`Q`"],
        ),
        (
            "client: {server: 'https://x'}\n",
            ["https://x", "http://HOST:PORT"],
        ),
        (
            "server: {http: here}\n",
            ["server.http from c.yaml", "no address"],
        ),
        ("job: {min_free: 120%}\n", ["job.min_free", "percentage"]),
    ] {
        std::fs::write(&config, text).unwrap();
        run(folder.path(), &["--config", "c.yaml", "config", "check"]).expect(2, &parts);
    }
    run(
        folder.path(),
        &["--config", "absent.yaml", "config", "check"],
    )
    .expect(2, &["absent.yaml"]);
    let output = pinnace(folder.path())
        .args(["config", "check"])
        .env("PINNACE_RUN_TIME", "never")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PINNACE_RUN_TIME"));
}

#[test]
fn without_a_server_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago and that nobody listens on now.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    for command in [
        &["runs", "list"][..],
        &["pub", "a", "b"],
        &["topics"],
        &["clients"],
    ] {
        let mut arguments = vec!["--server", &url];
        arguments.extend(command);
        run(folder.path(), &arguments).expect(1, &[&url, "pinnace serve"]);
    }
    let path = folder.path().to_str().unwrap();
    run(folder.path(), &["--server", &url, "bench", "--path", path]).expect(1, &["pinnace serve"]);
}
