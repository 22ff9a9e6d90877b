"""The tables of the state file, how those of earlier versions become them, and the questions that are not one line.

Columns are what is searched by; the record beside them is the whole noun as JSON. Instants are Unix seconds.
"""

from __future__ import annotations

VERSION = 3
APPLICATION_ID = 0x55424D53  # "UBMS": tells our files from other programs'

# An alert still fires, for its receiver, until the notification of its end is settled.
_EPISODES = """CREATE VIEW episodes AS SELECT *,
    kind != 'resolved' AND NOT one_shot AS opens,
    (SELECT max(ended.settled_at) FROM notifications AS ended
        WHERE ended.receiver = notifications.receiver AND ended.episode = notifications.episode
        AND ended.kind = 'resolved') AS end_settled_at
    FROM notifications"""
_SINCE_2 = (
    _EPISODES,
    "CREATE INDEX notifications_by_batch ON notifications (batch_id, created_at)",
    # What is about to be sent, in the form in which it is sent.
    "CREATE TABLE messages (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE mutes (batch_id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
)
# With a row id: a record is too long to lie in the index, and is written anew with each poll. Without one that
# costs six times as much.
_BATCHES = """CREATE TABLE batches (
        agent_id TEXT NOT NULL, batch_id TEXT NOT NULL, dropped_at REAL, record TEXT NOT NULL,
        PRIMARY KEY (agent_id, batch_id))"""
_WRITTEN_BY_US = (f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION}")
CREATE = (
    _BATCHES,
    "CREATE TABLE accounts (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE notifications (
        id TEXT PRIMARY KEY, receiver TEXT NOT NULL, episode TEXT NOT NULL, kind TEXT NOT NULL,
        one_shot INTEGER NOT NULL, created_at REAL NOT NULL, settled_at REAL,
        record TEXT NOT NULL, batch_id TEXT) WITHOUT ROWID""",
    "CREATE INDEX notifications_by_age ON notifications (created_at)",
    "CREATE INDEX notifications_by_episode ON notifications (receiver, episode)",
    *_SINCE_2,
    *_WRITTEN_BY_US,
)
FROM_1 = (
    "DROP VIEW episodes",
    "ALTER TABLE notifications ADD COLUMN batch_id TEXT",
    """UPDATE notifications SET batch_id = (
        SELECT json_extract(pair.value, '$[1]') FROM json_each(record, '$.alert.labels') AS pair
        WHERE json_extract(pair.value, '$[0]') = 'batch_id')""",
    # Schema 1 held no row for an end that nobody was told of. What fires is now read off these rows, so
    # that what has ended needs one.
    """INSERT INTO notifications
        SELECT id || '-end', receiver, episode, 'resolved', 0, settled_at, settled_at,
            json_set(record, '$.id', id || '-end', '$.kind', 'resolved', '$.delivered_at', NULL,
                '$.alert.ends_at', delivered_at, '$.created_at', delivered_at, '$.overtaken_at', delivered_at,
                '$.overtaken', 'the version before told no end of it'),
            batch_id
        FROM (SELECT *, json_extract(record, '$.delivered_at') AS delivered_at FROM notifications) AS told
        WHERE kind = 'firing' AND NOT one_shot AND delivered_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM notifications AS ended WHERE ended.receiver = told.receiver
            AND ended.episode = told.episode AND ended.kind = 'resolved')
        AND NOT EXISTS (
            SELECT 1 FROM (SELECT record FROM batches UNION ALL SELECT record FROM accounts) AS subject,
                json_each(subject.record, '$.alerts') AS alert
            WHERE json_extract(alert.value, '$.phase') = 'firing'
            AND json_extract(alert.value, '$.labels') = json_extract(told.record, '$.alert.labels')
            AND json_extract(alert.value, '$.since') = json_extract(told.record, '$.alert.starts_at'))""",
    *_SINCE_2,
)
FROM_2 = (
    "ALTER TABLE batches RENAME TO batches_of_2",
    _BATCHES,
    "INSERT INTO batches SELECT agent_id, batch_id, dropped_at, packed(record) FROM batches_of_2",
    "DROP TABLE batches_of_2",
    *_WRITTEN_BY_US,
)
"""`packed` is records.packed: curves were lists of points."""

UPSERT_BATCH = """
    INSERT INTO batches VALUES (?, ?, ?, ?)
    ON CONFLICT (agent_id, batch_id) DO UPDATE SET dropped_at = excluded.dropped_at, record = excluded.record"""

LOAD_NOTIFICATIONS = """
    SELECT record FROM episodes
    WHERE settled_at IS NULL OR settled_at >= :recently
    OR (opens AND (end_settled_at IS NULL OR end_settled_at >= :recently))
    OR id IN (SELECT id FROM notifications ORDER BY created_at DESC LIMIT :count)
    ORDER BY created_at"""

HISTORY = """
    SELECT record FROM notifications
    WHERE (:batch_id IS NULL OR instr(batch_id, :batch_id) = 1) AND (:receiver IS NULL OR receiver = :receiver)
    AND (:before IS NULL OR created_at < :before)
    ORDER BY created_at DESC, id LIMIT :count"""

PRUNE_NOTIFICATIONS = """
    DELETE FROM notifications WHERE id IN (
        SELECT id FROM episodes
        WHERE settled_at < :long_ago
        AND (NOT opens OR end_settled_at < :long_ago OR settled_at < :very_long_ago))"""
