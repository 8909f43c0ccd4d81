-- Rows of the sites that `made` names, `first` and on. Nothing is random: two runs make the same rows.
-- :made, :first and the numbers of rows are put in by the program.
INSERT INTO users (site_id, number, email, name, is_admin, settings)
    SELECT s.id, n, 'user' || n || '@' || s.id || '.example', 'User ' || n || ' of ' || s.name, n % 10 = 0,
        jsonb_build_object('theme', CASE n % 2 WHEN 0 THEN 'dark' ELSE 'light' END, 'rows', n % 50)
    FROM sites s, generate_series(:first, :first + :users - 1) n WHERE :made ORDER BY s.id, n;
INSERT INTO projects (id, site_id, number, key, name, lead)
    SELECT md5('project' || s.id || n)::uuid, s.id, n, 'P' || n, 'Project ' || n, u.id
    FROM sites s CROSS JOIN generate_series(:first, :first + :projects - 1) n
    JOIN users u ON u.site_id = s.id AND u.number = :first + n % :users WHERE :made ORDER BY s.id, n;
INSERT INTO labels (site_id, number, name, color)
    SELECT s.id, n, 'label ' || n, '#' || substr(md5(n::text), 1, 6)
    FROM sites s, generate_series(:first, :first + :labels - 1) n WHERE :made ORDER BY s.id, n;
INSERT INTO issues (site_id, number, project_id, title, body, state, reporter, created)
    SELECT s.id, n, p.id, 'Issue ' || n || ' of ' || s.name,
        'Seen by user ' || n % :users || ': ' || md5(s.id || n) || ' then ' || repeat(md5(n || s.id) || E'\n', 1 + n % 9),
        (ARRAY['open', 'in work', 'done'])[1 + n % 3], u.id, '2026-01-01'::timestamptz + n * interval '7 minutes'
    FROM sites s CROSS JOIN generate_series(:first, :first + :issues - 1) n
    JOIN projects p ON p.site_id = s.id AND p.number = :first + n % :projects
    JOIN users u ON u.site_id = s.id AND u.number = :first + n % :users WHERE :made ORDER BY s.id, n;
INSERT INTO comments (issue_id, author, body, created)
    SELECT i.id, CASE WHEN n % 7 > 0 THEN u.id END, 'Comment ' || n || ': ' || md5(s.id || n) || ' ' || md5(n || s.id),
        i.created + n * interval '11 seconds'
    FROM sites s CROSS JOIN generate_series(:first, :first + :comments - 1) n
    JOIN issues i ON i.site_id = s.id AND i.number = :first + n % :issues
    JOIN users u ON u.site_id = s.id AND u.number = :first + n % :users WHERE :made ORDER BY s.id, n;
INSERT INTO issue_labels (issue_id, label_id)
    SELECT DISTINCT i.id, l.id
    FROM sites s CROSS JOIN generate_series(:first, :first + :issue_labels - 1) n
    JOIN issues i ON i.site_id = s.id AND i.number = :first + n % :issues
    JOIN labels l ON l.site_id = s.id AND l.number = :first + (n + n / :issues) % :labels WHERE :made ORDER BY 1, 2;
INSERT INTO attachments (id, issue_id, path, size, sha256)
    SELECT md5('attachment' || s.id || n)::uuid, i.id, s.id || '/' || i.number || '/file-' || n || '.bin',
        100 + n % 900, sha256(convert_to(s.id || n, 'UTF8'))
    FROM sites s CROSS JOIN generate_series(:first, :first + :attachments - 1) n
    JOIN issues i ON i.site_id = s.id AND i.number = :first + n % :issues WHERE :made ORDER BY s.id, n;
INSERT INTO worklog (site_id, issue_id, user_id, seconds, note)
    SELECT s.id, i.id, u.id, 60 + n % 7200, CASE WHEN n % 3 = 0 THEN 'worked on ' || md5(n || s.id) END
    FROM sites s CROSS JOIN generate_series(:first, :first + :worklog - 1) n
    JOIN issues i ON i.site_id = s.id AND i.number = :first + n % :issues
    JOIN users u ON u.site_id = s.id AND u.number = :first + n % :users WHERE :made ORDER BY s.id, n;
INSERT INTO audit.events (site_id, at, actor, what)
    SELECT s.id, '2026-01-01'::timestamptz + n * interval '3 seconds', u.id, jsonb_build_object('did', 'login', 'n', n)
    FROM sites s CROSS JOIN generate_series(:first, :first + :events - 1) n
    JOIN users u ON u.site_id = s.id AND u.number = :first + n % :users WHERE :made ORDER BY s.id, n;
