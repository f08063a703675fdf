CREATE TABLE authority (
    name TEXT PRIMARY KEY,
    key_pem TEXT NOT NULL,
    certificate_pem TEXT NOT NULL
);

CREATE TABLE certificates (
    tenant TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    pem TEXT NOT NULL,
    subject_dn TEXT NOT NULL,
    serial TEXT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    device TEXT,
    -- Which of the tenants that have had this name; 0 when nobody knows.
    generation BIGINT NOT NULL,
    PRIMARY KEY (tenant, fingerprint)
);
CREATE UNIQUE INDEX certificates_by_fingerprint ON certificates (fingerprint);
CREATE INDEX certificates_by_age ON certificates (tenant, created_ms, fingerprint);
CREATE INDEX certificates_by_device ON certificates (tenant, device);

CREATE TABLE revoked (
    serial TEXT PRIMARY KEY,
    revoked_ms BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL
);

CREATE TABLE reserved_names (
    name TEXT PRIMARY KEY
);
