//! Statements whose length depends on the request. All values are bound; only placeholders are written.

use common::{engine::sql::SqlError, wire::Tenant};
use sqlx::{
    Any, AnyConnection, AssertSqlSafe,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use crate::domain::listing::Filter;

/// Most values that one statement binds; both engines take more.
const MAX_VALUES: usize = 8000;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    Text(String),
    MaybeText(Option<String>),
    Number(i64),
    MaybeNumber(Option<i64>),
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A statement being written. `$1` is always the tenant.
pub(super) struct Statement {
    pub(super) text: String,
    args: Vec<Arg>,
}

impl Statement {
    pub(super) fn new(tenant: &Tenant) -> Self {
        Self { text: String::new(), args: vec![tenant.as_str().into()] }
    }

    /// Binds a value and gives its placeholder.
    pub(super) fn arg(&mut self, value: impl Into<Arg>) -> String {
        self.args.push(value.into());
        format!("${}", self.args.len())
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn query(self) -> Query<'static, Any, AnyArguments> {
        // The text is made of constants and placeholders.
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.args.into_iter().fold(query, |query, arg| match arg {
            Arg::Text(text) => query.bind(text),
            Arg::MaybeText(text) => query.bind(text),
            Arg::Number(number) => query.bind(number),
            Arg::MaybeNumber(number) => query.bind(number),
        })
    }

    pub(super) async fn fetch(self, connection: &mut AnyConnection) -> Result<Vec<AnyRow>, SqlError> {
        Ok(self.query().fetch_all(connection).await?)
    }
}

/// Inserts rows with few statements. `into` is the table with its columns, `then` what follows the values.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    into: &'static str,
    rows: &[Vec<Arg>],
    then: &'static str,
) -> Result<Vec<AnyRow>, SqlError> {
    let Some(columns) = rows.first().map(Vec::len) else { return Ok(Vec::new()) };
    let mut returned = Vec::new();
    for rows in rows.chunks(MAX_VALUES / columns.max(1)) {
        let mut statement = Statement::new(tenant);
        let values: Vec<String> = rows
            .iter()
            .map(|row| {
                let row: Vec<String> = row.iter().map(|value| statement.arg(value.clone())).collect();
                format!("($1, {})", row.join(", "))
            })
            .collect();
        statement.push("INSERT INTO ").push(into).push(" VALUES ").push(&values.join(", ")).push(then);
        returned.extend(statement.fetch(connection).await?);
    }
    Ok(returned)
}

impl Filter {
    /// Conditions on devices `d`, each beginning with `AND`.
    pub(super) fn on_devices(&self, statement: &mut Statement) -> String {
        const ATTRS: &str = " AND EXISTS (SELECT 1 FROM device_templates t
            JOIN attrs a ON a.tenant = t.tenant AND a.template_id = t.template_id
            LEFT JOIN overrides o ON o.tenant = t.tenant AND o.device_id = t.device_id AND o.attr_id = a.id
            WHERE t.tenant = d.tenant AND t.device_id = d.id";
        let template = self.template.map(|template| {
            let template = statement.arg(template);
            format!(
                " AND EXISTS (SELECT 1 FROM device_templates t
                  WHERE t.tenant = d.tenant AND t.device_id = d.id AND t.template_id = {template})"
            )
        });
        let value = "COALESCE(o.static_value, a.static_value)";
        self.on_label("d", statement)
            + &template.unwrap_or_default()
            + &self.on_attrs(ATTRS, value, statement)
    }

    /// Conditions on templates `t`, each beginning with `AND`.
    pub(super) fn on_templates(&self, statement: &mut Statement) -> String {
        const ATTRS: &str =
            " AND EXISTS (SELECT 1 FROM attrs a WHERE a.tenant = t.tenant AND a.template_id = t.id";
        self.on_label("t", statement) + &self.on_attrs(ATTRS, "a.static_value", statement)
    }

    fn on_label(&self, table: &str, statement: &mut Statement) -> String {
        let Some(label) = &self.label else { return String::new() };
        let label = statement.arg(label.as_str());
        // LIKE ignores case on one engine and has wildcards on both: what contains the text changes without it.
        format!(" AND REPLACE({table}.label, {label}, '') <> {table}.label")
    }

    fn on_attrs(&self, exists: &str, value: &str, statement: &mut Statement) -> String {
        let mut conditions = Vec::with_capacity(self.attrs.len() + self.attr_types.len());
        for (label, wanted) in &self.attrs {
            let (label, wanted) = (statement.arg(label.as_str()), statement.arg(wanted.as_str()));
            conditions.push(format!("{exists} AND a.label = {label} AND {value} = {wanted})"));
        }
        for value_type in &self.attr_types {
            let value_type = statement.arg(value_type.as_str());
            conditions.push(format!("{exists} AND a.value_type = {value_type})"));
        }
        conditions.concat()
    }
}
