-- Two roles for Lifeboat on one database: one that reads, one that also puts rows back. PostgreSQL 15 or newer.
--
--   psql -v backup=lifeboat_backup -v restore=lifeboat_restore -f postgres-roles.sql "$ADMIN_DATABASE_URL"
--
-- Run it as a superuser, in the database to be backed up; again at any time. It sets no passwords: afterwards
-- `\password lifeboat_backup` and `\password lifeboat_restore`.

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'backup', :'restore']) role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

-- Row security must not hide rows from a backup: one that silently lacks rows is worse than none.
ALTER ROLE :"backup" NOSUPERUSER BYPASSRLS;
ALTER ROLE :"restore" NOSUPERUSER BYPASSRLS;

-- Reading: every table and sequence, those of tomorrow too.
GRANT pg_read_all_data TO :"backup", :"restore";

-- Putting back: rows and sequences; a schema for staging; triggers and cascades kept from firing.
GRANT pg_write_all_data TO :"restore";
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'restore') \gexec
GRANT SET ON PARAMETER session_replication_role TO :"restore";
