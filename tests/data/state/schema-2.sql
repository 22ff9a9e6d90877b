PRAGMA application_id = 1430408531;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE accounts (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "accounts" VALUES('main','{"name":"main","watched_since":"2026-11-21T12:00:00Z","last_success_at":"2026-11-23T12:00:00Z","failing":null,"alerts":[],"active_calls":3,"allowed_concurrent_calls":5}');
CREATE TABLE batches (
        agent_id TEXT NOT NULL, batch_id TEXT NOT NULL, dropped_at REAL, record TEXT NOT NULL,
        PRIMARY KEY (agent_id, batch_id)) WITHOUT ROWID;
INSERT INTO "batches" VALUES('7f6a0000-0000-4000-8000-000000000001','3c900000-0000-4000-8000-000000000001',NULL,'{"key":{"agent_id":"7f6a0000-0000-4000-8000-000000000001","batch_id":"3c900000-0000-4000-8000-000000000001"},"account":"main","batch":"spring-renewals","progress":{"first_seen_at":"2026-11-23T12:00:00Z","last":{"at":"2026-11-23T12:00:00Z","created":"2026-11-23T10:00:00Z","total":400,"completed":118,"ended_at":null,"window_start":"2026-11-23T11:00:00Z","window_end":"2026-11-23T14:00:00Z","paused":false,"throttle":null},"best_completed":118,"last_progress_at":"2026-11-23T12:00:00Z","clock_started_at":"2026-11-23T12:00:00Z","fresh_since":null,"paused_since":null,"end_seen":0,"expected_seconds":60.0,"samples":[{"expected_seconds":0.0,"completed":100},{"expected_seconds":60.0,"completed":118}],"paused_seconds":0.0,"marks":[]},"failing":{"since":"2026-11-23T12:00:00Z","count":2,"not_found":0,"reason":"timeout","message":"account main: get_batch: no full answer within 10 s","not_found_since":null},"last_success_at":"2026-11-23T12:00:00Z","alerts":[{"name":"BatchStalled","phase":"firing","since":"2026-11-23T12:00:00Z","severity":"warning","clear_since":null,"notified_at":null,"occurrence":null,"labels":[["account","main"],["alertname","BatchStalled"],["batch_id","b1"],["severity","warning"]],"annotations":[],"receivers":[]}],"dropped_at":null,"outcomes":{"at":"2026-11-23T12:00:00Z","future":282,"pending":5,"success":100,"expired":0,"error":13}}');
CREATE TABLE messages (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "messages" VALUES('m2','{"id":"603add497be92f7d5588d37dc8183147","receiver":"crm","created_at":"2026-11-24T12:00:00Z","group":[["account","main"],["alertname","BatchStalled"]],"entries":[{"kind":"firing","alert":{"labels":[["account","main"],["alertname","BatchStalled"],["batch_id","b2"],["severity","warning"]],"annotations":[["summary","message 2"]],"starts_at":"2026-11-23T12:00:00Z","ends_at":null},"settles":["id-2"],"superseded_by":null,"belated":false}],"still":[],"left_out":0,"external_url":null,"attempts":0,"next_attempt_at":null}');
CREATE TABLE mutes (batch_id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "mutes" VALUES('b2',1795446000.0);
CREATE TABLE notifications (
        id TEXT PRIMARY KEY, receiver TEXT NOT NULL, episode TEXT NOT NULL, kind TEXT NOT NULL,
        one_shot INTEGER NOT NULL, created_at REAL NOT NULL, settled_at REAL,
        record TEXT NOT NULL, batch_id TEXT) WITHOUT ROWID;
INSERT INTO "notifications" VALUES('id-1','crm','account=''main'',alertname=''BatchStalled'',batch_id=''b1'',severity=''warning''@2026-11-23T12:00:00+00:00','firing',0,1795435200.0,1795435200.0,'{"id":"id-1","receiver":"crm","kind":"firing","alert":{"labels":[["account","main"],["alertname","BatchStalled"],["batch_id","b1"],["severity","warning"]],"annotations":[["summary","message 1"]],"starts_at":"2026-11-23T12:00:00Z","ends_at":null},"created_at":"2026-11-23T12:00:00Z","one_shot":false,"superseded_by":null,"attempts":0,"next_attempt_at":null,"held_until":null,"message_id":null,"delivered_at":"2026-11-23T12:00:00Z","dropped_at":null,"overtaken_at":null,"overtaken":null,"last_error":null}','b1');
INSERT INTO "notifications" VALUES('id-2','crm','account=''main'',alertname=''BatchStalled'',batch_id=''b2'',severity=''warning''@2026-11-23T12:00:00+00:00','firing',0,1795435200.0,NULL,'{"id":"id-2","receiver":"crm","kind":"firing","alert":{"labels":[["account","main"],["alertname","BatchStalled"],["batch_id","b2"],["severity","warning"]],"annotations":[["summary","message 2"]],"starts_at":"2026-11-23T12:00:00Z","ends_at":null},"created_at":"2026-11-23T12:00:00Z","one_shot":false,"superseded_by":null,"attempts":0,"next_attempt_at":null,"held_until":null,"message_id":null,"delivered_at":null,"dropped_at":null,"overtaken_at":null,"overtaken":null,"last_error":null}','b2');
CREATE INDEX notifications_by_age ON notifications (created_at);
CREATE INDEX notifications_by_episode ON notifications (receiver, episode);
CREATE VIEW episodes AS SELECT *,
    kind != 'resolved' AND NOT one_shot AS opens,
    (SELECT max(ended.settled_at) FROM notifications AS ended
        WHERE ended.receiver = notifications.receiver AND ended.episode = notifications.episode
        AND ended.kind = 'resolved') AS end_settled_at
    FROM notifications;
CREATE INDEX notifications_by_batch ON notifications (batch_id, created_at);
COMMIT;
