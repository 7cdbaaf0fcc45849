//! Changes that are mirrored as they happen.

use std::fs;

use crate::pair::Pair;

#[test]
fn changes_follow_as_they_happen() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at("d/a"), "a").unwrap();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    pair.assert_equal();
    let check = |what: &str, change: &dyn Fn()| {
        change();
        pair.shares
            .wait("s")
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        pair.assert_equal();
    };
    check("write", &|| fs::write(at("d/new"), "n").unwrap());
    check("save", &|| {
        fs::write(at("d/.a.tmp"), "better").unwrap();
        fs::rename(at("d/.a.tmp"), at("d/a")).unwrap();
    });
    check("tree", &|| {
        fs::create_dir_all(at("x/y/z")).unwrap();
        fs::write(at("x/y/z/w"), "w").unwrap();
    });
    check("move", &|| fs::rename(at("x/y"), at("d/y")).unwrap());
    check("below", &|| fs::write(at("d/y/z/w"), "other").unwrap());
    check("delete", &|| fs::remove_dir_all(at("d/y")).unwrap());
    check("link", &|| fs::hard_link(at("d/a"), at("d/b")).unwrap());
    check("in place", &|| fs::write(at("d/b"), "both").unwrap());
    check("again", &|| {
        fs::remove_dir_all(at("d/e")).unwrap();
        fs::create_dir(at("d/e")).unwrap();
        fs::write(at("d/e/late"), "l").unwrap();
    });
    let verdict = pair.shares.verify("s", true).unwrap();
    assert!(verdict.equal, "{verdict:?}");
}

#[test]
fn a_cut_connection_is_made_again() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for round in 0..20 {
        for number in 0..20 {
            fs::write(at(&format!("{number}")), format!("{round}")).unwrap();
        }
        live.cut();
        fs::write(at("after"), format!("{round}")).unwrap();
        live.wait_for("Connected");
    }
    live.wait_for("synced");
    while pair.shares.wait("s").is_err() {
        std::thread::yield_now();
    }
    pair.assert_equal();
}
