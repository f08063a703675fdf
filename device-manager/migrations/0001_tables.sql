-- Identifiers of templates and of attributes count up per tenant; attributes and metadata items share one sequence.
-- A change of a tenant's data locks the tenant's row first.
CREATE TABLE counters (
    tenant TEXT PRIMARY KEY,
    last_template_id BIGINT NOT NULL,
    last_attr_id BIGINT NOT NULL
);

CREATE TABLE templates (
    tenant TEXT NOT NULL,
    id BIGINT NOT NULL,
    label TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT,
    PRIMARY KEY (tenant, id)
);

-- `metadata` is a JSON array: it is always read and written together with its attribute.
CREATE TABLE attrs (
    tenant TEXT NOT NULL,
    id BIGINT NOT NULL,
    template_id BIGINT NOT NULL,
    label TEXT NOT NULL,
    type TEXT NOT NULL,
    value_type TEXT NOT NULL,
    static_value TEXT,
    metadata TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, template_id, type, label),
    FOREIGN KEY (tenant, template_id) REFERENCES templates (tenant, id) ON DELETE CASCADE
);
CREATE INDEX attrs_by_label ON attrs (tenant, label);

CREATE TABLE devices (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    label TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX devices_by_label ON devices (tenant, label, id);

CREATE TABLE device_templates (
    tenant TEXT NOT NULL,
    device_id TEXT NOT NULL,
    template_id BIGINT NOT NULL,
    PRIMARY KEY (tenant, device_id, template_id),
    FOREIGN KEY (tenant, device_id) REFERENCES devices (tenant, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant, template_id) REFERENCES templates (tenant, id)
);
CREATE INDEX device_templates_by_template ON device_templates (tenant, template_id, device_id);

-- `attr_id` names an attribute or a metadata item.
CREATE TABLE overrides (
    tenant TEXT NOT NULL,
    device_id TEXT NOT NULL,
    attr_id BIGINT NOT NULL,
    static_value TEXT NOT NULL,
    PRIMARY KEY (tenant, device_id, attr_id),
    FOREIGN KEY (tenant, device_id) REFERENCES devices (tenant, id) ON DELETE CASCADE
);
CREATE INDEX overrides_by_attr ON overrides (tenant, attr_id);

CREATE TABLE credentials (
    tenant TEXT NOT NULL,
    device_id TEXT NOT NULL,
    hash TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- Which of the tenants that have had this name; 0 when nobody knows.
    generation BIGINT NOT NULL,
    PRIMARY KEY (tenant, device_id),
    FOREIGN KEY (tenant, device_id) REFERENCES devices (tenant, id) ON DELETE CASCADE
);
