//! The JSON Schemas of all documents, generated from their types.

use schemars::{Schema, schema_for};

/// Every published document: file name under `docs/schemas/` and its schema.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("backup.json", schema_for!(crate::upkeep::Backup)),
        ("client.json", schema_for!(crate::event::Presence)),
        ("event.json", schema_for!(crate::Event)),
        ("finished.json", schema_for!(crate::event::Finished)),
        ("health.json", schema_for!(crate::api::Health)),
        ("info.json", schema_for!(crate::api::Info)),
        ("message.json", schema_for!(crate::api::MessageLine)),
        ("problem.json", schema_for!(crate::api::Problem)),
        ("query-rows.json", schema_for!(crate::api::Rows)),
        ("roster.json", schema_for!(crate::api::Clients)),
        ("run.json", schema_for!(crate::run::RunRecord)),
        ("runs.json", schema_for!(crate::api::Runs)),
        ("share.json", schema_for!(crate::sync::ShareInfo)),
        ("share-changed.json", schema_for!(crate::sync::Changed)),
        ("share-halted.json", schema_for!(crate::sync::Halted)),
        ("share-synced.json", schema_for!(crate::sync::Synced)),
        ("shares.json", schema_for!(crate::sync::Shares)),
        ("sync-answer.json", schema_for!(crate::sync::Answer)),
        ("sync-ask.json", schema_for!(crate::sync::Ask)),
        ("sync-attach.json", schema_for!(crate::sync::Attach)),
        ("sync-hello.json", schema_for!(crate::sync::Hello)),
        ("sync-refused.json", schema_for!(crate::sync::Refused)),
        ("sync-state.json", schema_for!(crate::sync::ClientState)),
        ("sync-welcome.json", schema_for!(crate::sync::Welcome)),
        ("trash.json", schema_for!(crate::sync::Trash)),
        ("verdict.json", schema_for!(crate::sync::Verdict)),
        ("waited.json", schema_for!(crate::sync::Waited)),
        ("topics.json", schema_for!(crate::api::Topics)),
        ("topics-check.json", schema_for!(crate::upkeep::TopicsCheck)),
    ]
}
