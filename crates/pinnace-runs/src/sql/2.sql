-- Schema 2: the events as tables, for people's own queries.
CREATE VIEW samples AS
SELECT e.run, e.client, w.value ->> 'worker' AS worker,
       (e.document ->> 'from_us') / 1e6 AS from_s, (e.document ->> 'to_us') / 1e6 AS to_s,
       w.value ->> 'bytes' AS bytes,
       w.value -> 'writes' ->> 'count' AS writes,
       (w.value -> 'writes' ->> 'sum_ns') / 1e6 AS write_ms,
       (w.value -> 'writes' ->> 'max_ns') / 1e6 AS write_max_ms,
       w.value -> 'syncs' ->> 'count' AS syncs,
       (w.value -> 'syncs' ->> 'sum_ns') / 1e6 AS sync_ms
FROM events e, json_each(e.document, '$.workers') w WHERE e.event = 'sample';

CREATE VIEW rollovers AS
SELECT run, client, document ->> 'worker' AS worker, document ->> 'number' AS number,
       elapsed_us / 1e6 AS at_s, document ->> 'file' AS file, document ->> 'bytes' AS bytes,
       (document ->> 'file_us') / 1e6 AS file_s, (document ->> 'sync_us') / 1e3 AS sync_ms
FROM events WHERE event = 'rollover';

CREATE VIEW heartbeats AS
SELECT e.run, e.client, e.elapsed_us / 1e6 AS at_s, w.value ->> 'worker' AS worker,
       w.value ->> 'answered' AS answered, (w.value ->> 'after_us') / 1e3 AS after_ms,
       w.value ->> 'activity' AS activity
FROM events e, json_each(e.document, '$.workers') w WHERE e.event = 'heartbeat';

CREATE VIEW resources AS
SELECT e.run, e.client, e.elapsed_us / 1e6 AS at_s, e.document ->> 'rss_bytes' AS rss_bytes,
       w.value ->> 'worker' AS worker, w.value ->> 'state' AS state,
       w.value ->> 'cpu_share' AS cpu_share, w.value ->> 'buffer_bytes' AS buffer_bytes,
       w.value ->> 'voluntary_switches' AS voluntary_switches
FROM events e, json_each(e.document, '$.workers') w WHERE e.event = 'resources';
