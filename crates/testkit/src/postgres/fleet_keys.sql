-- After the rows: checking each of them on its way in takes several times as long.
CREATE UNIQUE INDEX ON users (site_id, number);
CREATE UNIQUE INDEX ON users (site_id, lower(email));
CREATE UNIQUE INDEX ON projects (site_id, number);
ALTER TABLE projects ADD UNIQUE (site_id, key);
CREATE UNIQUE INDEX ON labels (site_id, number);
ALTER TABLE issues ADD UNIQUE (site_id, number);
CREATE INDEX ON issues (project_id);
CREATE INDEX ON comments (issue_id);
CREATE INDEX ON issue_labels (label_id);
CREATE INDEX ON attachments (issue_id);
ALTER TABLE attachments ADD UNIQUE (path);
CREATE INDEX ON worklog (site_id);
CREATE INDEX ON worklog (issue_id);
CREATE INDEX ON audit.events (site_id, at);
ALTER TABLE users ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE;
ALTER TABLE projects ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE,
    ADD FOREIGN KEY (lead) REFERENCES users ON DELETE SET NULL;
ALTER TABLE labels ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE;
ALTER TABLE issues ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE,
    ADD FOREIGN KEY (project_id) REFERENCES projects ON DELETE CASCADE,
    ADD FOREIGN KEY (reporter) REFERENCES users ON DELETE SET NULL;
ALTER TABLE comments ADD FOREIGN KEY (issue_id) REFERENCES issues ON DELETE CASCADE,
    ADD FOREIGN KEY (author) REFERENCES users ON DELETE SET NULL;
ALTER TABLE issue_labels ADD FOREIGN KEY (issue_id) REFERENCES issues ON DELETE CASCADE,
    ADD FOREIGN KEY (label_id) REFERENCES labels ON DELETE CASCADE;
ALTER TABLE attachments ADD FOREIGN KEY (issue_id) REFERENCES issues ON DELETE CASCADE;
ALTER TABLE worklog ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE,
    ADD FOREIGN KEY (issue_id) REFERENCES issues ON DELETE CASCADE,
    ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL;
