-- Last identifier given, per kind of thing; and what was done once (`bootstrap`).
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- A tenant is there for as long as it has users, or until it is removed when it was made on purpose.
CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    users BIGINT NOT NULL,
    -- 1 when it was made on purpose: it stays without users.
    stays BIGINT NOT NULL,
    -- Tells the tenants apart that have had this name one after the other.
    generation BIGINT NOT NULL
);

-- Services that may still keep data of a tenant that is gone. While there is a row, its name is not given again.
CREATE TABLE tenant_removals (
    tenant TEXT NOT NULL,
    generation BIGINT NOT NULL,
    service TEXT NOT NULL,
    PRIMARY KEY (tenant, service)
);

CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    email TEXT NOT NULL,
    profile TEXT NOT NULL,
    -- PHC text, or what dojot had: `$p5k2$3e8$`, its salt, `$` and its hash. NULL until the user has set a first password.
    password_hash TEXT,
    -- `iss` of the user's tokens: replacing it ends them all.
    credential_key TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_username ON users (username);
CREATE UNIQUE INDEX users_email ON users (LOWER(email));
CREATE INDEX users_tenant ON users (tenant);

-- The last passwords that users had before, so that nobody takes one of them again.
CREATE TABLE former_passwords (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Counts up.
    number BIGINT NOT NULL,
    password_hash TEXT NOT NULL,
    PRIMARY KEY (user_id, number)
);

-- Links with which users set a password without knowing the old one, one per user.
CREATE TABLE password_links (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256, base64url. The link itself is in the mail only.
    link_hash TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX password_links_hash ON password_links (link_hash);

-- Mails with such links that are still to be sent, one per user. The link is made when the mail leaves.
CREATE TABLE mails (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- activation or reset
    kind TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX mails_due ON mails (due_ms);

CREATE TABLE groups (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    created_ms BIGINT NOT NULL,
    created_by BIGINT NOT NULL
);
CREATE UNIQUE INDEX groups_name ON groups (name);

CREATE TABLE permissions (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    method TEXT NOT NULL,
    -- permit, deny or notApplicable
    permission TEXT NOT NULL,
    -- system, api or notApplicable
    type TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by BIGINT NOT NULL
);
CREATE UNIQUE INDEX permissions_name ON permissions (name);

CREATE TABLE user_groups (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX user_groups_group ON user_groups (group_id);

CREATE TABLE group_permissions (
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    permission_id BIGINT NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, permission_id)
);
CREATE INDEX group_permissions_permission ON group_permissions (permission_id);

CREATE TABLE user_permissions (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permission_id BIGINT NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, permission_id)
);
CREATE INDEX user_permissions_permission ON user_permissions (permission_id);

-- Keys that sign tokens; the newest signs, all verify.
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    -- PKCS #1, DER, base64.
    private_key TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
