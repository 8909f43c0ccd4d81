-- What one site of a product has in a schema or a database of its own, :schema, with :rows issues.
SET search_path = :schema, public;
CREATE TYPE :schema.mood AS ENUM ('calm', 'so so', 'angry');
CREATE DOMAIN :schema.short AS text CHECK (length(VALUE) < 200);
CREATE SEQUENCE :schema.invoice_numbers START 1000 INCREMENT 5;
CREATE TABLE :schema.users (
    id bigserial PRIMARY KEY, email :schema.short NOT NULL UNIQUE, mood :schema.mood NOT NULL DEFAULT 'calm',
    settings jsonb NOT NULL DEFAULT '{}');
CREATE TABLE :schema."Issue List" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reporter bigint NOT NULL REFERENCES :schema.users ON DELETE CASCADE,
    parent bigint REFERENCES :schema."Issue List" DEFERRABLE INITIALLY DEFERRED, title text NOT NULL,
    size int GENERATED ALWAYS AS (length(title)) STORED, changes int NOT NULL DEFAULT 0);
CREATE TABLE :schema.events (at date NOT NULL, what text, amount numeric(20, 5)) PARTITION BY RANGE (at);
CREATE TABLE :schema.events_2025 PARTITION OF :schema.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE :schema.events_later PARTITION OF :schema.events DEFAULT;
CREATE TABLE :schema.nothing (id int);
CREATE INDEX ON :schema."Issue List" (reporter);
CREATE INDEX by_word ON :schema."Issue List" USING gin (to_tsvector('simple', title));
CREATE VIEW :schema.titles AS SELECT id, title FROM :schema."Issue List";
COMMENT ON TABLE :schema.users IS 'people; it''s "them"';
INSERT INTO :schema.users (email, mood, settings)
    SELECT 'user' || n || E'@example.com\t\\n', (enum_range(NULL::mood))[1 + n % 3], jsonb_build_object('n', n)
    FROM generate_series(1, 20) n;
INSERT INTO :schema."Issue List" (reporter, parent, title)
    SELECT 1 + n % 20, nullif(n - 1, 0), 'Title ' || n || repeat('.', n % 50) FROM generate_series(1, :rows) n;
INSERT INTO :schema.events SELECT '2025-06-01'::date + n, CASE WHEN n % 7 > 0 THEN 'event ' || n END, n / 3.0
    FROM generate_series(1, 400) n;
SELECT nextval('invoice_numbers'), nextval('invoice_numbers');
CREATE MATERIALIZED VIEW :schema.asleep AS SELECT count(*) AS people FROM :schema.users WITH NO DATA;
CREATE MATERIALIZED VIEW :schema.totals AS SELECT mood, count(*) AS people FROM :schema.users GROUP BY mood;
-- Nobody can fill it again without this setting, which is the session's.
SET app.people = '20';
CREATE MATERIALIZED VIEW :schema.forgetful AS SELECT pg_catalog.current_setting('app.people') AS people;
-- It would change every row that a restore writes.
CREATE FUNCTION :schema.count_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.changes := NEW.changes + 1; RETURN NEW; END $$;
CREATE TRIGGER counting BEFORE INSERT OR UPDATE ON :schema."Issue List"
    FOR EACH ROW EXECUTE FUNCTION :schema.count_change();
ALTER TABLE :schema.users ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON :schema.users USING (true);
GRANT SELECT ON :schema.users TO pg_monitor;
