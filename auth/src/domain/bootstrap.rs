//! What is there at the first start, as dojot has it (dojot-api.md 2.9). Dashboards know these texts: they stay as
//! they are, typing mistakes included.

/// A permission of the first start. All of them permit and are of type `system`.
pub(crate) struct FirstPermission {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
}

const fn permission(name: &'static str, path: &'static str, method: &'static str) -> FirstPermission {
    FirstPermission { name, path, method }
}

const ANY: &str = "(.*)";

/// Name of the group whose members may do everything.
pub(crate) const ADMIN_GROUP: &str = "admin";
/// Identifier of that group.
pub(crate) const ADMIN_GROUP_ID: i64 = 1;
/// Login name of the first user, and name of its tenant.
pub(crate) const ADMIN: &str = "admin";

/// The e-mail address of that user, until somebody sets another.
pub(crate) const NOBODYS_EMAIL: &str = "admin@noemail.com";

/// Groups by name and description; their identifiers count from 1.
pub(crate) const GROUPS: [(&str, &str); 2] = [
    (ADMIN_GROUP, "Group with the highest access privilege"),
    ("user", "This groups can do anything, except manage users"),
];

/// Permissions; their identifiers count from 1.
pub(crate) const PERMISSIONS: [FirstPermission; 22] = [
    permission("all_all", "/(.*)", ANY),
    permission("all_template", "/template/(.*)", ANY),
    permission("ro_template", "/template/(.*)", "GET"),
    permission("all_device", "/device/(.*)", ANY),
    permission("ro_device", "/device/(.*)", "GET"),
    permission("all_flows", "/flows/(.*)", ANY),
    permission("ro_flows", "/flows/(.*)", "GET"),
    permission("ro_history", "/history/(.*)", "GET"),
    permission("all_user", "/auth/user/(.*)", ANY),
    permission("ro_user", "/auth/user/(.*)", "GET"),
    permission("all_pap", "/auth/pap/(.*)", ANY),
    permission("ro_pap", "/auth/pap/(.*)", "GET"),
    permission("all_x509_ca", "/x509/v1/ca/(.*)", ANY),
    permission("ro_x509_ca", "/x509/v1/ca/(.*)", "GET"),
    permission("all_x509_certificates", "/x509/v1/certificates/(.*)", ANY),
    permission("ro_x509_certificates", "/x509/v1/certificates/(.*)", "GET"),
    permission("ro_socketio", "/stream/socketio/", "GET"),
    permission("wo_import", "/import/(.*)", "POST"),
    permission("ro_export", "/export/(.*)", "GET"),
    permission("ro_image", "/fw-image/(.*)", "GET"),
    permission("all_image", "/fw-image/(.*)", ANY),
    permission("all_backstage", "/graphql/(.*)", ANY),
];

/// Permissions of each group.
pub(crate) const GROUP_PERMISSIONS: [(&str, &[&str]); 2] = [
    (ADMIN_GROUP, &["all_all"]),
    (
        "user",
        &[
            "all_template",
            "all_device",
            "all_flows",
            "ro_history",
            "all_x509_ca",
            "ro_x509_ca",
            "all_x509_certificates",
            "ro_x509_certificates",
            "ro_socketio",
            "wo_import",
            "ro_export",
            "all_backstage",
            "all_image",
        ],
    ),
];
