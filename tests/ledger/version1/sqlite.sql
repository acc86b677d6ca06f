BEGIN TRANSACTION;
CREATE TABLE attempts (
	number INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	store TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	content TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	error TEXT NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (id)
);
INSERT INTO "attempts" VALUES(1,'c50fbd4aa5624428aa54c596bbad5227','18428e43372248998edb2880a5016c95','memory://bucket','2026-11-19T05:00:00.000000Z','{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":1,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','succeeded','');
INSERT INTO "attempts" VALUES(2,'113e4882e6e243f69d80f0101e5d0cc0','10d7353fcba4460493e08966be26cf69','memory://bucket','2026-11-19T05:00:00.000000Z','{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":0,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','succeeded','');
INSERT INTO "attempts" VALUES(3,'84f95499c7c544bdb99d0c99f233b475','fd2714333ca94c4ba9944f2cce968567','memory://bucket','2026-11-19T09:00:00.000000Z','{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":0,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','unknown','the answer was lost');
CREATE TABLE bad_records (
	number INTEGER NOT NULL, 
	"plan" TEXT NOT NULL, 
	id TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	length BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "bad_records" VALUES(1,'18428e43372248998edb2880a5016c95','7','its time cannot be read',5,X'00FF0A0D27');
CREATE TABLE exports (
	name TEXT NOT NULL, 
	account TEXT NOT NULL, 
	claim TEXT NOT NULL, 
	"begin" TEXT NOT NULL, 
	begin_seal TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	stamp_time TEXT, 
	stamp_number INTEGER, 
	names_from TEXT, 
	repeats_until TEXT, 
	paused BOOLEAN NOT NULL, 
	stopped TEXT NOT NULL, 
	alarm TEXT NOT NULL, 
	tries INTEGER NOT NULL, 
	blocked_until TEXT, 
	failure TEXT, 
	failure_hint TEXT, 
	failed_at TEXT, 
	delivered_at TEXT, 
	object_name TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "exports" VALUES('acme','acme','memory://bucket/audit/acme','2026-11-19T00:00:00.000000Z','{"horizon":0}',5,3,'2026-11-19T12:00:00.000000Z',3,NULL,NULL,0,'','',1,'2026-11-19T10:00:00.000000Z','the answer was lost','look','2026-11-19T09:00:00.000000Z','2026-11-19T05:00:00.000000Z','audit/acme/2.zip');
INSERT INTO "exports" VALUES('globex','acme','memory://bucket/audit/globex','2026-11-19T00:00:00.000000Z','{"horizon":0}',0,0,NULL,NULL,NULL,NULL,1,'','',0,NULL,NULL,NULL,NULL,NULL,'');
CREATE TABLE lanes (
	export TEXT NOT NULL, 
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	watermark TEXT NOT NULL, 
	seal TEXT NOT NULL, 
	open_end TEXT, 
	open_seal TEXT, 
	last_key TEXT, 
	start TEXT, 
	until TEXT, 
	sequences TEXT NOT NULL, 
	requested TEXT NOT NULL, 
	redeliver BOOLEAN NOT NULL, 
	done BOOLEAN NOT NULL, 
	PRIMARY KEY (export, id)
);
INSERT INTO "lanes" VALUES('acme','live','live','2026-11-19T08:00:00.000000Z','{"horizon":102}','2026-11-19T12:00:00.000000Z','{"horizon":103}',NULL,NULL,NULL,'[]','[]',0,0);
INSERT INTO "lanes" VALUES('globex','live','live','2026-11-19T00:00:00.000000Z','{"horizon":0}',NULL,NULL,NULL,NULL,NULL,'[]','[]',0,0);
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('version','1');
INSERT INTO "meta" VALUES('ledger_id','f736c42b298f4d5bbc18f2ffa31d0e83');
CREATE TABLE plans (
	id TEXT NOT NULL, 
	export TEXT NOT NULL, 
	lane TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	account TEXT NOT NULL, 
	window_start TEXT NOT NULL, 
	window_end TEXT NOT NULL, 
	previous_seal TEXT, 
	seal TEXT NOT NULL, 
	first_window BOOLEAN NOT NULL, 
	after_key TEXT, 
	last_key TEXT, 
	final BOOLEAN NOT NULL, 
	repeats BOOLEAN NOT NULL, 
	rendering TEXT NOT NULL, 
	name TEXT NOT NULL, 
	stamp_time TEXT NOT NULL, 
	stamp_number INTEGER NOT NULL, 
	content TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	bad_not_whole BIGINT NOT NULL, 
	delivered_at TEXT, 
	hashes TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "plans" VALUES('18428e43372248998edb2880a5016c95','acme','live',1,'delivered','acme','2026-11-19T00:00:00.000000Z','2026-11-19T04:00:00.000000Z','{"horizon":0}','{"horizon":101}',0,NULL,'["2026-11-19T04:00:00+00:00",9]',1,0,'{"archive":"zip","body":"ndjson","fields":[["Date","instant","time"],["Email","string",null]],"format":"standard","max_record_bytes":4000000}','audit/acme/1.zip','2026-11-19T04:00:00.000000Z',1,'{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":1,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','2026-11-19T00:00:00.000000Z',0,'2026-11-19T05:00:00.000000Z','["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]');
INSERT INTO "plans" VALUES('10d7353fcba4460493e08966be26cf69','acme','live',2,'delivered','acme','2026-11-19T04:00:00.000000Z','2026-11-19T08:00:00.000000Z','{"horizon":101}','{"horizon":102}',0,NULL,'["2026-11-19T08:00:00+00:00",9]',1,0,'{"archive":"gzip","body":"ndjson","fields":null,"format":"native","max_record_bytes":4000000}','audit/acme/2.zip','2026-11-19T08:00:00.000000Z',2,'{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":0,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','2026-11-19T05:00:00.000000Z',0,'2026-11-19T05:00:00.000000Z','["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]');
INSERT INTO "plans" VALUES('fd2714333ca94c4ba9944f2cce968567','acme','live',3,'open','acme','2026-11-19T08:00:00.000000Z','2026-11-19T12:00:00.000000Z','{"horizon":102}','{"horizon":103}',0,NULL,'["2026-11-19T12:00:00+00:00",9]',0,0,'{"archive":"zip","body":"ndjson","fields":[["Date","instant","time"],["Email","string",null]],"format":"standard","max_record_bytes":4000000}','audit/acme/3.zip','2026-11-19T12:00:00.000000Z',3,'{"archive_bytes":120,"archive_sha256":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","bad":0,"content_bytes":300,"content_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","count":3,"late":1}','2026-11-19T09:00:00.000000Z',0,NULL,'[]');
CREATE TABLE runs (
	id TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	finished_at TEXT, 
	delivered BIGINT NOT NULL, 
	failing BIGINT NOT NULL, 
	error TEXT NOT NULL, 
	hint TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE windows (
	number INTEGER NOT NULL, 
	export TEXT NOT NULL, 
	"end" TEXT NOT NULL, 
	seal TEXT NOT NULL, 
	committed_at TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "windows" VALUES(1,'acme','2026-11-19T04:00:00.000000Z','{"horizon":101}','2026-11-19T05:00:00.000000Z');
INSERT INTO "windows" VALUES(2,'acme','2026-11-19T08:00:00.000000Z','{"horizon":102}','2026-11-19T05:00:00.000000Z');
CREATE UNIQUE INDEX one_claim ON exports (claim);
CREATE UNIQUE INDEX one_open_plan ON plans (export) WHERE state = 'open';
CREATE INDEX plans_by_sequence ON plans (export, sequence);
CREATE INDEX ix_attempts_plan ON attempts ("plan");
CREATE INDEX windows_by_commit ON windows (export, committed_at);
CREATE INDEX ix_bad_records_plan ON bad_records ("plan");
CREATE INDEX ix_runs_started_at ON runs (started_at);
COMMIT;
