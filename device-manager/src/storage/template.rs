//! Templates and their attributes.

use std::collections::{BTreeSet, HashSet};

use common::{engine::sql::SqlError, wire::Tenant};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    Change, Store,
    statement::{Arg, Statement, insert},
};
use crate::domain::{
    attribute::{Attr, Metadata},
    device::Templates,
    input::TemplateInput,
    listing::{Filter, Page},
    template::{Template, Updated},
};

/// With more templates than this on one page of devices, all templates of the tenant are read.
const MANY: usize = 500;

const ATTRS: &str = "attrs (tenant, id, template_id, label, type, value_type, static_value, metadata,
    created_ms, updated_ms)";
const COLUMNS: &str = "t.id, t.label, t.created_ms, t.updated_ms, a.id AS attr_id, a.label AS attr_label,
    a.type AS kind, a.value_type, a.static_value, a.metadata, a.created_ms AS attr_created_ms,
    a.updated_ms AS attr_updated_ms";
const JOIN_ATTRS: &str = " LEFT JOIN attrs a ON a.tenant = $1 AND a.template_id = t.id";

impl Store {
    /// One template.
    pub(crate) async fn template(&self, tenant: &Tenant, id: i64) -> Result<Option<Template>, SqlError> {
        let mut found = read(&mut *self.connection().await?, tenant, [id]).await?;
        Ok(found.remove(&id))
    }

    /// Identifiers of a page of templates, and how many there are on all pages.
    pub(crate) async fn template_page(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        by_label: bool,
        page: Page,
    ) -> Result<(Vec<i64>, i64), SqlError> {
        let mut connection = self.connection().await?;
        let mut statement = Statement::new(tenant);
        let conditions = filter.on_templates(&mut statement);
        let order = if by_label { "t.label, t.id" } else { "t.id" };
        let (limit, offset) = (statement.arg(page.size), statement.arg(page.offset()));
        statement.push(&format!(
            "SELECT t.id FROM templates t WHERE t.tenant = $1{conditions} ORDER BY {order} LIMIT {limit} OFFSET {offset}"
        ));
        let rows = statement.fetch(&mut connection).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        if let Some(count) = page.count_if_last(ids.len()) {
            return Ok((ids, count));
        }
        let mut count = Statement::new(tenant);
        let conditions = filter.on_templates(&mut count);
        count.push("SELECT COUNT(*) FROM templates t WHERE t.tenant = $1").push(&conditions);
        let rows = count.fetch(&mut connection).await?;
        Ok((ids, rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default()))
    }

    /// These templates, in this order; those that do not exist are left out.
    pub(crate) async fn templates(&self, tenant: &Tenant, ids: &[i64]) -> Result<Vec<Template>, SqlError> {
        let mut found = read(&mut *self.connection().await?, tenant, ids.iter().copied()).await?;
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }
}

impl Change {
    /// Templates by identifier; those that do not exist are left out.
    pub(crate) async fn templates(
        &mut self,
        ids: impl IntoIterator<Item = i64>,
    ) -> Result<Templates, SqlError> {
        read(&mut self.transaction, &self.tenant, ids).await
    }

    /// All templates of the tenant.
    pub(crate) async fn all_templates(&mut self) -> Result<Templates, SqlError> {
        read_all(&mut self.transaction, &self.tenant).await
    }

    /// Adds a template.
    pub(crate) async fn insert_template(&mut self, input: TemplateInput) -> Result<Template, SqlError> {
        let template = Template::new(input, self.now_ms, &mut self.ids);
        sqlx::query("INSERT INTO templates (tenant, id, label, created_ms) VALUES ($1, $2, $3, $4)")
            .bind(self.tenant.as_str())
            .bind(template.id)
            .bind(&template.label)
            .bind(template.created_ms)
            .execute(&mut *self.transaction)
            .await?;
        self.insert_attrs(&template.attrs).await?;
        self.save_ids().await?;
        Ok(template)
    }

    /// Changes a template and removes the overrides of attributes that are gone.
    pub(crate) async fn update_template(
        &mut self,
        stored: &Template,
        input: TemplateInput,
    ) -> Result<Updated, SqlError> {
        let updated = stored.updated(input, self.now_ms, &mut self.ids);
        sqlx::query("UPDATE templates SET label = $3, updated_ms = $4 WHERE tenant = $1 AND id = $2")
            .bind(self.tenant.as_str())
            .bind(stored.id)
            .bind(&updated.template.label)
            .bind(updated.template.updated_ms)
            .execute(&mut *self.transaction)
            .await?;
        // Written anew as a whole: two attributes may have exchanged their labels.
        sqlx::query("DELETE FROM attrs WHERE tenant = $1 AND template_id = $2")
            .bind(self.tenant.as_str())
            .bind(stored.id)
            .execute(&mut *self.transaction)
            .await?;
        self.insert_attrs(&updated.template.attrs).await?;
        self.delete_overrides(&updated.removed).await?;
        self.save_ids().await?;
        Ok(updated)
    }

    /// Label and type of all attributes that devices of this template have from other templates.
    pub(crate) async fn names_beside(
        &mut self,
        template: i64,
    ) -> Result<HashSet<(String, String)>, SqlError> {
        let rows = sqlx::query(
            "SELECT DISTINCT a.label, a.type FROM attrs a
             WHERE a.tenant = $1 AND a.template_id IN (
                 SELECT other.template_id FROM device_templates mine
                 JOIN device_templates other ON other.tenant = mine.tenant AND other.device_id = mine.device_id
                 WHERE mine.tenant = $1 AND mine.template_id = $2 AND other.template_id <> $2)",
        )
        .bind(self.tenant.as_str())
        .bind(template)
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Whether devices use a template, or any template when none is named.
    pub(crate) async fn is_in_use(&mut self, template: Option<i64>) -> Result<bool, SqlError> {
        let mut statement = Statement::new(&self.tenant);
        statement.push("SELECT 1 FROM device_templates WHERE tenant = $1");
        if let Some(id) = template {
            let id = statement.arg(id);
            statement.push(" AND template_id = ").push(&id);
        }
        statement.push(" LIMIT 1");
        Ok(!statement.fetch(&mut self.transaction).await?.is_empty())
    }

    /// Removes a template, or all when none is named. Attributes go with it.
    pub(crate) async fn delete_templates(&mut self, template: Option<i64>) -> Result<(), SqlError> {
        let mut statement = Statement::new(&self.tenant);
        statement.push("DELETE FROM templates WHERE tenant = $1");
        if let Some(id) = template {
            let id = statement.arg(id);
            statement.push(" AND id = ").push(&id);
        }
        statement.fetch(&mut self.transaction).await.map(drop)
    }

    async fn insert_attrs(&mut self, attrs: &[Attr]) -> Result<(), SqlError> {
        let rows = attrs.iter().map(attr_row).collect::<Result<Vec<_>, SqlError>>()?;
        insert(&mut self.transaction, &self.tenant, ATTRS, &rows, "").await.map(drop)
    }

    async fn save_ids(&mut self) -> Result<(), SqlError> {
        sqlx::query("UPDATE counters SET last_template_id = $2, last_attr_id = $3 WHERE tenant = $1")
            .bind(self.tenant.as_str())
            .bind(self.ids.last_template)
            .bind(self.ids.last_attr)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

/// Templates by identifier, in one statement.
pub(super) async fn read(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Templates, SqlError> {
    let ids: BTreeSet<i64> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(Templates::new());
    }
    if ids.len() > MANY {
        let mut all = read_all(connection, tenant).await?;
        all.retain(|id, _| ids.contains(id));
        return Ok(all);
    }
    let mut statement = Statement::new(tenant);
    let ids: Vec<String> = ids.into_iter().map(|id| statement.arg(id)).collect();
    statement.push(&format!(
        "SELECT {COLUMNS} FROM templates t{JOIN_ATTRS} WHERE t.tenant = $1 AND t.id IN ({}) ORDER BY t.id, a.id",
        ids.join(", ")
    ));
    let found = group(&statement.fetch(connection).await?)?;
    Ok(found.into_iter().map(|template| (template.id, template)).collect())
}

async fn read_all(connection: &mut AnyConnection, tenant: &Tenant) -> Result<Templates, SqlError> {
    let mut statement = Statement::new(tenant);
    statement.push(&format!(
        "SELECT {COLUMNS} FROM templates t{JOIN_ATTRS} WHERE t.tenant = $1 ORDER BY t.id, a.id"
    ));
    let found = group(&statement.fetch(connection).await?)?;
    Ok(found.into_iter().map(|template| (template.id, template)).collect())
}

/// Rows of one template are next to each other, one for each attribute.
fn group(rows: &[AnyRow]) -> Result<Vec<Template>, SqlError> {
    let mut templates: Vec<Template> = Vec::new();
    for row in rows {
        let id = row.try_get("id")?;
        if templates.last().is_none_or(|last| last.id != id) {
            templates.push(Template {
                id,
                label: row.try_get("label")?,
                created_ms: row.try_get("created_ms")?,
                updated_ms: row.try_get("updated_ms")?,
                attrs: Vec::new(),
            });
        }
        let attr_id: Option<i64> = row.try_get("attr_id")?;
        if let (Some(attr_id), Some(template)) = (attr_id, templates.last_mut()) {
            template.attrs.push(attr(row, attr_id, id)?);
        }
    }
    Ok(templates)
}

fn attr(row: &AnyRow, id: i64, template_id: i64) -> Result<Attr, SqlError> {
    let metadata: &str = row.try_get("metadata")?;
    let metadata: Vec<Metadata> =
        serde_json::from_str(metadata).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Attr {
        id,
        template_id,
        label: row.try_get("attr_label")?,
        kind: row.try_get("kind")?,
        value_type: row.try_get("value_type")?,
        static_value: row.try_get("static_value")?,
        metadata,
        created_ms: row.try_get("attr_created_ms")?,
        updated_ms: row.try_get("attr_updated_ms")?,
    })
}

fn attr_row(attr: &Attr) -> Result<Vec<Arg>, SqlError> {
    let metadata =
        serde_json::to_string(&attr.metadata).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(vec![
        attr.id.into(),
        attr.template_id.into(),
        attr.label.as_str().into(),
        attr.kind.as_str().into(),
        attr.value_type.as_str().into(),
        Arg::MaybeText(attr.static_value.clone()),
        Arg::Text(metadata),
        attr.created_ms.into(),
        Arg::MaybeNumber(attr.updated_ms),
    ])
}
