-- Notes each change of a table's structure in the log, in its place among the changes of rows.
--
-- A note that cannot be made must not keep anybody from changing a table: it becomes a warning. That takes
-- a subtransaction (EXCEPTION), and a message of one counts from where it ends, which is where the next change
-- begins: the two may come in either order. So a second, empty one keeps them apart.
CREATE SCHEMA IF NOT EXISTS lifeboat_capture;
GRANT USAGE ON SCHEMA lifeboat_capture TO PUBLIC;

CREATE OR REPLACE FUNCTION lifeboat_capture.note_structure() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Values are printed as they are in changes of rows.
SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET extra_float_digits = 1
SET bytea_output = 'hex' AS $lifeboat$
DECLARE
    note jsonb;
BEGIN
    IF tg_event = 'ddl_command_end' THEN
        FOR note IN
            SELECT jsonb_build_object('event', 'altered', 'tag', tg_tag, 'oid', c.oid::int8,
                'table', format('%I.%I', n.nspname, c.relname),
                'root', (SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r
                    JOIN pg_namespace rn ON rn.oid = r.relnamespace
                    WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)),
                'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname,
                        'type', format_type(a.atttypid, a.atttypmod),
                        -- What rows hold that were there before the column: it is written into none of them.
                        'missing', CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END)
                        ORDER BY a.attnum), '[]')
                    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attgenerated = ''),
                -- What holds the rows of a partitioned table: a partition that comes with rows, or goes with them,
                -- is in no change of a row.
                'leaves', CASE WHEN c.relkind = 'p' OR c.relispartition THEN (
                    SELECT coalesce(jsonb_agg(jsonb_build_object('oid', l.oid::int8, 'file', l.relfilenode::int8,
                        'has_rows', pg_relation_size(l.oid) > 0) ORDER BY l.oid), '[]')
                    FROM pg_partition_tree(CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END) t
                        JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf AND l.relkind = 'r') END)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname !~ '^lifeboat_'
                AND (c.oid IN (SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass)
                    -- With the schema's name all of its tables' change.
                    OR tg_tag = 'ALTER SCHEMA' AND c.relnamespace IN (
                        SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_namespace'::regclass))
            ORDER BY c.oid
        LOOP
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', note::text);
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', '');
        END LOOP;
        -- Of what is no table what it is and, of an enumeration, its values: a schema may have to be made again with them.
        FOR note IN
            SELECT DISTINCT jsonb_build_object('event', 'other', 'tag', tg_tag, 'oid', 0, 'table', format('%I.%I', o.schema_name, '*'),
                'renames_values', tg_tag = 'ALTER TYPE' AND current_query() ~* 'rename\s+(value|attribute)',
                -- What was there is written as before: nothing but new values came, as far as the words say.
                'adds_values', tg_tag = 'ALTER TYPE' AND current_query() ~* 'add\s+value'
                    AND current_query() !~* '(rename|attribute|owner|schema\s)',
                'object', jsonb_build_object('kind', o.object_type, 'name', o.object_identity,
                    'values', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e
                        WHERE o.classid = 'pg_type'::regclass AND e.enumtypid = o.objid)))
            FROM (SELECT d.classid, d.objid, d.object_type, d.object_identity, d.in_extension, d.command_tag, coalesce(d.schema_name,
                    (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = coalesce(
                        (SELECT tgrelid FROM pg_trigger WHERE d.classid = 'pg_trigger'::regclass AND oid = d.objid),
                        (SELECT polrelid FROM pg_policy WHERE d.classid = 'pg_policy'::regclass AND oid = d.objid),
                        (SELECT ev_class FROM pg_rewrite WHERE d.classid = 'pg_rewrite'::regclass AND oid = d.objid)))) AS schema_name
                FROM pg_event_trigger_ddl_commands() d) o
            WHERE o.schema_name !~ '^(lifeboat_|pg_)' AND NOT o.in_extension
                -- A view that is filled anew, a sequence that is set: nothing was made.
                AND (o.classid <> 'pg_class'::regclass OR o.command_tag ~ '^(CREATE|ALTER)' AND o.command_tag <> 'ALTER SEQUENCE'
                    AND EXISTS (SELECT FROM pg_class c WHERE c.oid = o.objid AND c.relkind NOT IN ('r', 'p')
                        -- A table's primary key comes with its rows.
                        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype = 'p')))
        LOOP
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', note::text);
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', '');
        END LOOP;
    ELSIF tg_event = 'sql_drop' THEN
        FOR note IN
            SELECT jsonb_build_object('event', 'dropped', 'tag', tg_tag, 'oid', objid::int8,
                'table', format('%I.%I', address_names[1], address_names[2]), 'column', address_names[3])
            FROM pg_event_trigger_dropped_objects()
            WHERE object_type IN ('table', 'table column') AND NOT is_temporary AND schema_name !~ '^lifeboat_'
            ORDER BY objid, objsubid
        LOOP
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', note::text);
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', '');
        END LOOP;
        -- What went with a table or a schema is told by that.
        FOR note IN
            SELECT DISTINCT jsonb_build_object('event', 'other', 'tag', tg_tag, 'oid', 0, 'table', format('%I.%I', schema_name, '*'),
                'object', jsonb_build_object('kind', object_type, 'name', object_identity, 'is_dropped', true))
            FROM pg_event_trigger_dropped_objects()
            WHERE original AND object_type NOT IN ('table', 'table column', 'schema') AND NOT is_temporary
                AND schema_name !~ '^(lifeboat_|pg_)'
        LOOP
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', note::text);
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', '');
        END LOOP;
    ELSE
        FOR note IN
            SELECT jsonb_build_object('event', 'rewritten', 'tag', tg_tag, 'oid', c.oid::int8,
                'table', format('%I.%I', n.nspname, c.relname),
                'root', (SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r
                    JOIN pg_namespace rn ON rn.oid = r.relnamespace
                    WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)))
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = pg_event_trigger_table_rewrite_oid() AND c.relpersistence <> 't'
        LOOP
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', note::text);
            PERFORM pg_logical_emit_message(true, 'lifeboat.ddl', '');
        END LOOP;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'lifeboat could not note a change of structure: %', SQLERRM;
END
$lifeboat$;

DROP EVENT TRIGGER IF EXISTS lifeboat_capture_end;
DROP EVENT TRIGGER IF EXISTS lifeboat_capture_drop;
DROP EVENT TRIGGER IF EXISTS lifeboat_capture_rewrite;
CREATE EVENT TRIGGER lifeboat_capture_end ON ddl_command_end EXECUTE FUNCTION lifeboat_capture.note_structure();
CREATE EVENT TRIGGER lifeboat_capture_drop ON sql_drop EXECUTE FUNCTION lifeboat_capture.note_structure();
CREATE EVENT TRIGGER lifeboat_capture_rewrite ON table_rewrite EXECUTE FUNCTION lifeboat_capture.note_structure();
-- Also under session_replication_role = replica, which loads and restores use.
ALTER EVENT TRIGGER lifeboat_capture_end ENABLE ALWAYS;
ALTER EVENT TRIGGER lifeboat_capture_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER lifeboat_capture_rewrite ENABLE ALWAYS;
