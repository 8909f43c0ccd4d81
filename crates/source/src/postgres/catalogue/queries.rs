//! The questions asked of the system catalogue. They work on 14 to 18, whatever the search path is.

/// Which database this is, and who we are in it.
pub const SERVER: &str = "
    SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
        current_setting('server_version_num')::int, pg_encoding_to_char(d.encoding)::text, pg_is_in_recovery(),
        current_user::text, r.rolsuper, r.rolbypassrls
    FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user";

/// The tables and sequences that concern us, as a CTE for the questions below. `$1`: of this schema
/// alone, with the tables that foreign keys tie to it; NULL: of all schemas.
macro_rules! ours {
    () => {
        "WITH ours AS (
            SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS name
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                AND n.nspname !~ '^(pg_temp_|pg_toast_temp_|lifeboat_stage_[0-9a-f]{16}$)'
                AND NOT EXISTS (SELECT FROM pg_description d WHERE d.objoid = n.oid
                    AND d.classoid = 'pg_catalog.pg_namespace'::regclass AND d.objsubid = 0
                    AND d.description LIKE 'lifeboat: copy of %')
                AND ($1::text IS NULL OR n.nspname = $1 OR c.oid IN (
                    SELECT unnest(ARRAY[k.conrelid, k.confrelid]) FROM pg_constraint k
                    JOIN pg_class x ON x.oid IN (k.conrelid, k.confrelid)
                    WHERE k.contype = 'f' AND x.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1))))"
    };
}

/// One row a table. The last three: its partition root; the tables it inherits from; its schema.
pub const TABLES: &str = concat!(
    ours!(),
    "SELECT c.oid, c.name, c.relkind::text, c.relispartition, c.relrowsecurity, c.relpersistence = 'u',
        c.reltuples::int8,
        ARRAY[has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
            has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE')],
        ARRAY(SELECT tgname::text FROM pg_trigger
                WHERE tgrelid = c.oid AND NOT tgisinternal AND tgenabled IN ('A', 'R')
            UNION ALL SELECT rulename::text FROM pg_rewrite
                WHERE ev_class = c.oid AND rulename <> '_RETURN' AND ev_enabled IN ('A', 'R') ORDER BY 1),
        (SELECT name FROM ours r WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)),
        ARRAY(SELECT p.name FROM pg_inherits i JOIN ours p ON p.oid = i.inhparent
            WHERE i.inhrelid = c.oid AND NOT c.relispartition ORDER BY i.inhseqno),
        c.nspname::text
    FROM ours c WHERE c.relkind IN ('r', 'p', 'f')"
);

/// One row a column, in the order of the table. A domain compares as the type below it.
pub const COLUMNS: &str = concat!(
    ours!(),
    ", types AS (
        WITH RECURSIVE down AS (
            SELECT oid AS type, oid AS base, typtype, typbasetype FROM pg_type
            UNION ALL
            SELECT d.type, t.oid, t.typtype, t.typbasetype FROM down d JOIN pg_type t ON t.oid = d.typbasetype
            WHERE d.typtype = 'd')
        SELECT type, base FROM down WHERE typtype <> 'd'),
    operators AS (
        SELECT k.opcintype AS type, format('OPERATOR(%I.%s)', n.nspname, o.oprname) AS equals
        FROM pg_opclass k JOIN pg_am a ON a.oid = k.opcmethod AND a.amname = 'btree'
        JOIN pg_amop p ON p.amopfamily = k.opcfamily AND p.amopstrategy = 3
            AND p.amoplefttype = k.opcintype AND p.amoprighttype = k.opcintype
        JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE k.opcdefault AND n.nspname <> 'pg_catalog')
    SELECT a.attrelid, a.attnum, a.attname::text, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.attgenerated <> '', a.attidentity::text, a.attcollation <> 0, t.base = 'pg_catalog.oid'::regtype,
        coalesce((SELECT min(o.equals) FROM operators o WHERE o.type = t.base), '=')
    FROM pg_attribute a JOIN ours c ON c.oid = a.attrelid JOIN types t ON t.type = a.atttypid
    WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum"
);

/// Unique indexes over plain columns and all rows, the primary key among them. Included columns are no key.
pub const KEYS: &str = concat!(
    ours!(),
    "SELECT i.indrelid, x.relname::text, i.indisprimary, (i.indkey::int2[])[0:i.indnkeyatts - 1],
        coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), NOT i.indimmediate
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN ours c ON c.oid = i.indrelid
    WHERE (i.indisunique OR i.indisprimary) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indrelid, x.relname"
);

/// Declared foreign keys. Those of a partition stand for its rows only, or are copies of the root's.
pub const FOREIGN_KEYS: &str = concat!(
    ours!(),
    "SELECT k.conname::text, c.name, p.name,
        ARRAY(SELECT quote_ident(a.attname) FROM unnest(k.conkey) WITH ORDINALITY u(n, at)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.at),
        ARRAY(SELECT quote_ident(a.attname) FROM unnest(k.confkey) WITH ORDINALITY u(n, at)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.at),
        (SELECT bool_and(a.attnotnull) FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)),
        k.confmatchtype = 'f', k.convalidated
    FROM pg_constraint k JOIN ours c ON c.oid = k.conrelid JOIN ours p ON p.oid = k.confrelid
    WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT c.relispartition
    ORDER BY c.name, k.conname"
);

/// Sequences, with the column that each belongs to.
pub const SEQUENCES: &str = concat!(
    ours!(),
    "SELECT c.name, t.name, d.refobjsubid::int2, s.seqincrement
    FROM ours c JOIN pg_sequence s ON s.seqrelid = c.oid
    LEFT JOIN (pg_depend d JOIN ours t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p', 'f'))
        ON d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    ORDER BY c.name"
);

/// Schemas that may be somebody's: no system ones, none of an extension, none that a restore stages in.
pub const SCHEMAS: &str = "
    SELECT n.nspname::text FROM pg_namespace n
    WHERE n.nspname !~ '^(pg_|lifeboat_stage_[0-9a-f]{16}$)' AND n.nspname <> 'information_schema'
        AND coalesce(obj_description(n.oid, 'pg_namespace'), '') NOT LIKE 'lifeboat: copy of %'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass
            AND d.objid = n.oid AND d.deptype = 'e')
    ORDER BY n.nspname COLLATE \"C\"";

/// Databases that may be somebody's: no copies. The connected one is the door to the others, and nobody's.
pub const DATABASES: &str = "
    SELECT d.datname::text FROM pg_database d
    WHERE NOT d.datistemplate AND d.datallowconn AND d.datname <> current_database() AND d.datname !~ '^lifeboat_stage_[0-9a-f]{16}$'
        AND coalesce(shobj_description(d.oid, 'pg_database'), '') NOT LIKE 'lifeboat: copy of %'
    ORDER BY d.datname COLLATE \"C\"";

pub const VIEWS: &str = concat!(ours!(), "SELECT c.name FROM ours c WHERE c.relkind IN ('v', 'm') ORDER BY c.name");
