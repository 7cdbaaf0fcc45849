//! What a browser, a terminal and a spreadsheet are given.

use pinnace_proto::run::RunRecord;
use pinnace_report::{csv, csv_samples, html, summarize, text};

use crate::built::{OPENED_US, Plan, SECOND, run};

fn usual() -> RunRecord {
    run(&[
        Plan::named("amber").with(|plan| plan.job.direct = false),
        Plan::named("birch").with(|plan| {
            plan.wobble = true;
            plan.dies_us = Some(7 * SECOND);
        }),
        Plan::named("cedar").with(|plan| plan.deaf = 5..6),
    ])
}

/// A run whose every free text would like to be something else.
fn hostile() -> RunRecord {
    let evil = "<script>alert('1')</script>\"&\x1b[31m,\r\n=1+1";
    let mut record = run(&[Plan::named(evil).with(|plan| {
        plan.job.name = evil.to_owned();
        plan.job.solution = evil.to_owned();
        plan.job.workers[0].path = evil.to_owned();
        plan.host.hostname = evil.to_owned();
        plan.host.kernel = evil.to_owned();
        plan.host.os = Some(evil.to_owned());
        plan.path.path = evil.to_owned();
        plan.path.mount_options = Some(evil.to_owned());
        plan.path.device = Some(evil.to_owned());
        plan.dies_us = Some(3 * SECOND);
    })]);
    record.run.id = evil.to_owned();
    record.run.name = evil.to_owned();
    record.run.solution = evil.to_owned();
    record
}

/// Checks that tags are balanced and attributes quoted; hands back the tags' names.
fn tags(page: &str) -> Vec<String> {
    const VOID: [&str; 4] = ["meta", "br", "link", "img"];
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        assert!(
            !rest[..start].contains('>'),
            "a bare > before {}",
            &rest[start..][..20]
        );
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an open attribute: {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default().to_owned();
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric()),
            "no name: {tag}"
        );
        if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        all.push(name);
    }
    assert_eq!(open, Vec::<String>::new(), "left open");
    all
}

#[test]
fn the_checker_of_pages_sees_what_is_broken() {
    for broken in [
        "<p><b></p></b>",
        "<p>",
        "<p a=\"></p>",
        "a > b<p></p>",
        "</p>",
    ] {
        let page = format!("<!DOCTYPE html>\n{broken}");
        assert!(
            std::panic::catch_unwind(|| tags(&page)).is_err(),
            "{broken}"
        );
    }
}

#[test]
fn a_page_is_well_formed_and_asks_for_nothing() {
    let many: Vec<Plan> = (0..40).map(|n| Plan::named(&format!("c{n}"))).collect();
    let runs = [
        usual(),
        run(&[]),
        hostile(),
        run(&[Plan::named("a")]),
        run(&many),
    ];
    let summaries: Vec<_> = runs.iter().map(summarize).collect();
    let mut pages: Vec<String> = summaries
        .iter()
        .map(|s| html(std::slice::from_ref(s), OPENED_US))
        .collect();
    pages.push(html(&summaries, OPENED_US));
    pages.push(html(&[], OPENED_US));
    for page in pages {
        let tags = tags(&page);
        for loader in ["script", "link", "img", "iframe", "object"] {
            assert!(!tags.iter().any(|tag| tag == loader), "{loader}");
        }
        for reference in ["http:", "https:", "src=", "url(", "@import", "NaN", "inf\""] {
            assert!(!page.contains(reference), "{reference}");
        }
        assert_eq!(tags.iter().filter(|tag| *tag == "h1").count(), 1);
        assert!(page.contains("<title>") && page.contains("prefers-color-scheme:dark"));
    }
}

#[test]
fn text_from_a_run_is_only_text() {
    let summary = summarize(&hostile());
    let page = html(std::slice::from_ref(&summary), OPENED_US);
    assert!(!page.contains("<script") && !page.contains('\x1b'));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
    assert!(!text(&summary, 80, false).contains('\x1b'));
}

#[test]
fn every_chart_speaks() {
    let page = html(&[summarize(&usual())], OPENED_US);
    for svg in page.split("<svg ").skip(1) {
        let tag = &svg[..svg.find('>').unwrap()];
        let label = tag
            .split("aria-label=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let spoken = label.is_some_and(|label| label.len() > 20) && tag.contains("role=\"img\"");
        assert!(spoken || tag.contains("aria-hidden=\"true\""), "{tag}");
    }
    for expected in [
        "✕ birch lost",
        "class=\"hatch\"",
        "p99.9",
        "Do it again",
        "--file-size 128M",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn a_page_is_small_enough_to_forward() {
    let page = html(&[summarize(&usual())], OPENED_US);
    assert!(page.len() < 150_000, "{}", page.len());
    let fleet: Vec<Plan> = (0..40)
        .map(|n| {
            Plan::named(&format!("c{n}")).with(|plan| {
                plan.wobble = true;
                plan.job.run_time_us = 600 * SECOND;
                plan.bytes_per_second = 4 << 20;
            })
        })
        .collect();
    // A fifth of 200 clients over 10 minutes, and a fifth of 3 MB.
    let page = html(&[summarize(&run(&fleet))], OPENED_US);
    assert!(page.len() < 600_000, "{}", page.len());
}

/// Relative luminance of `#rrggbb`.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
        let value = f64::from(value) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn colours_have_the_contrast_that_wcag_asks_for() {
    let page = html(&[], 0);
    let schemes: Vec<&str> = page
        .split(":root{")
        .skip(1)
        .map(|s| s.split('}').next().unwrap())
        .collect();
    for scheme in &schemes[..2] {
        let colour = |name: &str| {
            let value = scheme.split(&format!("--{name}:")).nth(1);
            value.unwrap_or_else(|| panic!("no --{name}"))[..7].to_owned()
        };
        let ratio = |a: &str, b: &str| {
            let (a, b) = (luminance(&colour(a)), luminance(&colour(b)));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for back in ["bg", "card", "soft"] {
            for front in ["ink", "muted", "accent", "bad"] {
                assert!(
                    ratio(front, back) >= 4.5,
                    "{front} on {back}: {}",
                    ratio(front, back)
                );
            }
        }
        for pair in ["good", "warn", "bad", "info"] {
            assert!(ratio(pair, &format!("{pair}-bg")) >= 4.5, "{pair}");
        }
        for line in 1..=8 {
            assert!(ratio(&format!("c{line}"), "soft") >= 3.0, "c{line}");
        }
    }
}

#[test]
fn no_line_of_text_is_wider_than_the_terminal() {
    let long = Plan::named("a-client-with-a-very-long-name-that-does-not-fit-anywhere")
        .with(|plan| plan.job.name = "x".repeat(300));
    let wide = Plan::named("日本語の名前がとても長いクライアント");
    for record in [usual(), hostile(), run(&[long, wide]), run(&[])] {
        let summary = summarize(&record);
        for width in [0, 60, 80, 120, 1_000] {
            for line in text(&summary, width, false).lines() {
                let doubled = line
                    .chars()
                    .filter(|c| (0x2e80..0xffe6).contains(&(*c as u32)));
                let columns = line.chars().count() + doubled.count();
                assert!(
                    columns <= width.clamp(60, 160),
                    "{columns} at {width}: {line}"
                );
            }
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let summary = summarize(&usual());
    let mut bare = text(&summary, 80, true);
    assert!(bare.contains("\x1b["));
    while let Some(start) = bare.find("\x1b[") {
        let end = start + bare[start..].find('m').unwrap();
        bare.replace_range(start..=end, "");
    }
    let trimmed = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(trimmed(&bare), trimmed(&text(&summary, 80, false)));
}

/// Reads CSV after RFC 4180.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match (letter, quoted) {
            ('"', true) if letters.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', _) => quoted = !quoted,
            (',', false) => row.push(std::mem::take(&mut field)),
            ('\r', false) => {
                assert_eq!(letters.next(), Some('\n'));
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (letter, _) => field.push(letter),
        }
    }
    assert!(!quoted && field.is_empty() && row.is_empty());
    rows
}

#[test]
fn csv_reads_back_as_the_figures_it_was_made_of() {
    for record in [usual(), hostile(), run(&[])] {
        let summary = summarize(&record);
        let rows = read_csv(&csv(&summary));
        let workers: usize = summary
            .clients
            .iter()
            .map(|client| client.workers.len())
            .sum();
        assert_eq!(rows.len(), 2 + summary.clients.len() + workers);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
        let column = |name: &str| rows[0].iter().position(|head| head == name).unwrap();
        assert_eq!(rows[1][column("kind")], "run");
        assert_eq!(rows[1][column("name")], summary.run.name);
        assert_eq!(rows[1][column("bytes")], summary.totals.bytes.to_string());
        let by_client: u64 = rows
            .iter()
            .filter(|row| row[column("kind")] == "client")
            .map(|row| row[column("bytes")].parse::<u64>().unwrap())
            .sum();
        assert_eq!(by_client, summary.totals.bytes);
        let p99 = summary
            .writes
            .p99_ns
            .map_or(String::new(), |p99| p99.to_string());
        assert_eq!(rows[1][column("write_p99_ns")], p99);

        let samples = read_csv(&csv_samples(&record));
        assert!(samples.iter().all(|row| row.len() == samples[0].len()));
        let bytes = samples
            .iter()
            .skip(1)
            .map(|row| row[7].parse::<u64>().unwrap());
        assert_eq!(bytes.sum::<u64>(), summary.totals.bytes);
    }
}

#[test]
fn json_is_strict_and_keeps_its_names() {
    let json = serde_json::to_value(summarize(&usual())).unwrap();
    assert_eq!(json["v"], 1);
    assert_eq!(json["run"]["state"], "partial");
    assert_eq!(json["clients"][1]["lost"]["reason"], "heartbeats");
    assert_eq!(json["promise"]["outcome"], "held");
    assert!(json["writes"]["p99_9_ns"].is_u64() && json["coverage"]["share"].is_f64());
    assert_eq!(json["warnings"][0]["code"], "client_lost");
    assert_eq!(json["warnings"][0]["grade"], "serious");
}
