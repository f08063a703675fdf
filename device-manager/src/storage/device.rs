//! Devices, their templates and their overrides.

use std::collections::{BTreeMap, HashMap, HashSet};

use common::{engine::sql::SqlError, wire::Tenant};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    Change, Store,
    statement::{Arg, Statement, insert},
    template,
};
use crate::domain::{
    device::{Device, Templates, random_id},
    listing::{Filter, Page},
};

const DEVICES: &str = "devices (tenant, id, label, created_ms)";
const TEMPLATES: &str = "device_templates (tenant, device_id, template_id)";
const OVERRIDES: &str = "overrides (tenant, device_id, attr_id, static_value)";
const UNLESS_TAKEN: &str = " ON CONFLICT (tenant, id) DO NOTHING RETURNING id";

/// How often new identifiers are tried for devices whose random one is taken.
const ATTEMPTS: usize = 50;

/// Which devices are wanted.
#[derive(Default)]
pub(crate) struct Selection<'a> {
    /// What they have in common.
    pub(crate) filter: Filter,
    /// This one only.
    pub(crate) id: Option<&'a str>,
    /// These only, if there are any.
    pub(crate) ids: &'a [String],
    /// Those after this one, in the order of identifiers.
    pub(crate) after: Option<&'a str>,
    /// Sorted by label, else by identifier.
    pub(crate) by_label: bool,
    /// A part of them.
    pub(crate) page: Option<Page>,
}

/// Devices with the templates they are made of.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) list: Vec<Device>,
    pub(crate) templates: Templates,
}

impl Store {
    /// One device with its templates: two statements.
    pub(crate) async fn device(
        &self,
        tenant: &Tenant,
        id: &str,
    ) -> Result<Option<(Device, Templates)>, SqlError> {
        let mut devices = self.devices(tenant, &Selection { id: Some(id), ..Selection::default() }).await?;
        Ok(devices.list.pop().map(|device| (device, devices.templates)))
    }

    /// Devices with their templates: two statements, however many devices.
    pub(crate) async fn devices(
        &self,
        tenant: &Tenant,
        selection: &Selection<'_>,
    ) -> Result<Devices, SqlError> {
        read(&mut *self.connection().await?, tenant, selection).await
    }

    /// Identifiers of devices: one statement.
    pub(crate) async fn device_ids(
        &self,
        tenant: &Tenant,
        selection: &Selection<'_>,
    ) -> Result<Vec<String>, SqlError> {
        let rows = selection.ids(tenant).fetch(&mut *self.connection().await?).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

impl Store {
    /// Identifiers of devices, and how many there are on all pages.
    pub(crate) async fn device_page(
        &self,
        tenant: &Tenant,
        selection: &Selection<'_>,
    ) -> Result<(Vec<String>, i64), SqlError> {
        let ids = self.device_ids(tenant, selection).await?;
        let known = selection.page.and_then(|page| page.count_if_last(ids.len()));
        let count = if let Some(count) = known {
            count
        } else {
            let rows = selection.count(tenant).fetch(&mut *self.connection().await?).await?;
            rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default()
        };
        Ok((ids, count))
    }
}

impl Change {
    /// One device with its templates.
    pub(crate) async fn device(&mut self, id: &str) -> Result<Option<(Device, Templates)>, SqlError> {
        let mut devices = self.devices(&Selection { id: Some(id), ..Selection::default() }).await?;
        Ok(devices.list.pop().map(|device| (device, devices.templates)))
    }

    /// Devices with their templates.
    pub(crate) async fn devices(&mut self, selection: &Selection<'_>) -> Result<Devices, SqlError> {
        read(&mut self.transaction, &self.tenant, selection).await
    }

    /// How many devices the tenant has.
    pub(crate) async fn count_devices(&mut self) -> Result<i64, SqlError> {
        let mut statement = Statement::new(&self.tenant);
        statement.push("SELECT COUNT(*) FROM devices WHERE tenant = $1");
        let rows = statement.fetch(&mut self.transaction).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// Adds a device under its identifier. Returns whether that was free.
    pub(crate) async fn insert_device(&mut self, device: &Device) -> Result<bool, SqlError> {
        let devices = [device];
        if self.insert_rows(&devices).await?.is_empty() {
            return Ok(false);
        }
        self.insert_parts(&devices).await?;
        Ok(true)
    }

    /// Adds devices; those whose identifier is taken get another. Returns whether all found a free one.
    pub(crate) async fn insert_devices(&mut self, devices: &mut [Device]) -> Result<bool, SqlError> {
        let mut waiting: Vec<usize> = (0..devices.len()).collect();
        for _ in 0..ATTEMPTS {
            // Among themselves too: the engines report which rows went in, not which of two equal ones.
            let mut distinct = HashSet::new();
            let (tried, mut again): (Vec<usize>, Vec<usize>) =
                waiting.into_iter().partition(|index| distinct.insert(devices[*index].id.clone()));
            let rows: Vec<&Device> = tried.iter().map(|index| &devices[*index]).collect();
            let inserted = self.insert_rows(&rows).await?;
            again.extend(tried.into_iter().filter(|index| !inserted.contains(&devices[*index].id)));
            if again.is_empty() {
                self.insert_parts(&devices.iter().collect::<Vec<_>>()).await?;
                return Ok(true);
            }
            for index in &again {
                devices[*index].id = random_id();
            }
            waiting = again;
        }
        Ok(false)
    }

    /// Replaces label, templates and overrides of a device.
    pub(crate) async fn update_device(&mut self, device: &Device) -> Result<(), SqlError> {
        sqlx::query("UPDATE devices SET label = $3, updated_ms = $4 WHERE tenant = $1 AND id = $2")
            .bind(self.tenant.as_str())
            .bind(&device.id)
            .bind(&device.label)
            .bind(device.updated_ms)
            .execute(&mut *self.transaction)
            .await?;
        for delete in [
            "DELETE FROM device_templates WHERE tenant = $1 AND device_id = $2",
            "DELETE FROM overrides WHERE tenant = $1 AND device_id = $2",
        ] {
            sqlx::query(delete)
                .bind(self.tenant.as_str())
                .bind(&device.id)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.insert_parts(&[device]).await
    }

    /// Removes a device, or all when none is named. Templates, overrides and credentials go with it.
    pub(crate) async fn delete_devices(&mut self, id: Option<&str>) -> Result<(), SqlError> {
        let mut statement = Statement::new(&self.tenant);
        statement.push("DELETE FROM devices WHERE tenant = $1");
        if let Some(id) = id {
            let id = statement.arg(id);
            statement.push(" AND id = ").push(&id);
        }
        statement.fetch(&mut self.transaction).await.map(drop)
    }

    /// Removes the overrides of attributes and metadata items that are gone, of all devices.
    pub(super) async fn delete_overrides(&mut self, attrs: &[i64]) -> Result<(), SqlError> {
        for attrs in attrs.chunks(1000) {
            let mut statement = Statement::new(&self.tenant);
            let ids: Vec<String> = attrs.iter().map(|id| statement.arg(*id)).collect();
            statement
                .push("DELETE FROM overrides WHERE tenant = $1 AND attr_id IN (")
                .push(&ids.join(", "))
                .push(")");
            statement.fetch(&mut self.transaction).await?;
        }
        Ok(())
    }

    /// Returns the identifiers that were free and are taken now.
    async fn insert_rows(&mut self, devices: &[&Device]) -> Result<HashSet<String>, SqlError> {
        let rows: Vec<Vec<Arg>> = devices
            .iter()
            .map(|device| {
                vec![device.id.as_str().into(), device.label.as_str().into(), device.created_ms.into()]
            })
            .collect();
        let inserted = insert(&mut self.transaction, &self.tenant, DEVICES, &rows, UNLESS_TAKEN).await?;
        inserted.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn insert_parts(&mut self, devices: &[&Device]) -> Result<(), SqlError> {
        let mut templates: Vec<Vec<Arg>> = Vec::new();
        let mut overrides: Vec<Vec<Arg>> = Vec::new();
        for device in devices {
            let id = || Arg::from(device.id.as_str());
            templates.extend(device.template_ids.iter().map(|template| vec![id(), (*template).into()]));
            let own = device.overrides.iter();
            overrides.extend(own.map(|(attr, value)| vec![id(), (*attr).into(), value.as_str().into()]));
        }
        insert(&mut self.transaction, &self.tenant, TEMPLATES, &templates, "").await?;
        insert(&mut self.transaction, &self.tenant, OVERRIDES, &overrides, "").await?;
        Ok(())
    }
}

async fn read(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    selection: &Selection<'_>,
) -> Result<Devices, SqlError> {
    let rows = selection.statement(tenant).fetch(connection).await?;
    let list = assemble(&rows)?;
    let ids = list.iter().flat_map(|device| device.template_ids.iter().copied());
    let templates = template::read(connection, tenant, ids).await?;
    Ok(Devices { list, templates })
}

/// What a row of [`Selection::statement`] is about.
const DEVICE: i64 = 0;
const TEMPLATE: i64 = 1;
const OVERRIDE: i64 = 2;

impl Selection<'_> {
    /// Devices, their templates and their overrides, in one statement: all parts are of one moment.
    fn statement(&self, tenant: &Tenant) -> Statement {
        let mut statement = Statement::new(tenant);
        let conditions = self.conditions(&mut statement);
        let order = self.order();
        let limit = self.limit(&mut statement);
        statement.push(&format!(
            "WITH page AS (SELECT d.id, d.label, d.created_ms, d.updated_ms,
                 ROW_NUMBER() OVER (ORDER BY {order}) AS place
                 FROM devices d WHERE d.tenant = $1{conditions}{limit})
             SELECT {DEVICE} AS part, id, label AS content, created_ms AS number, updated_ms, place FROM page
             UNION ALL
             SELECT {TEMPLATE}, page.id, CAST(NULL AS TEXT), t.template_id, CAST(NULL AS BIGINT), place FROM page
                 JOIN device_templates t ON t.tenant = $1 AND t.device_id = page.id
             UNION ALL
             SELECT {OVERRIDE}, page.id, o.static_value, o.attr_id, CAST(NULL AS BIGINT), place FROM page
                 JOIN overrides o ON o.tenant = $1 AND o.device_id = page.id"
        ));
        statement.push(" ORDER BY part, place, number");
        statement
    }

    /// The identifiers alone.
    fn ids(&self, tenant: &Tenant) -> Statement {
        let mut statement = Statement::new(tenant);
        let conditions = self.conditions(&mut statement);
        let limit = self.limit(&mut statement);
        statement.push(&format!("SELECT d.id FROM devices d WHERE d.tenant = $1{conditions}{limit}"));
        statement
    }

    /// How many there are, on all pages.
    fn count(&self, tenant: &Tenant) -> Statement {
        let mut statement = Statement::new(tenant);
        let conditions = self.conditions(&mut statement);
        statement.push(&format!("SELECT COUNT(*) FROM devices d WHERE d.tenant = $1{conditions}"));
        statement
    }

    fn order(&self) -> &'static str {
        if self.by_label { "d.label, d.id" } else { "d.id" }
    }

    fn limit(&self, statement: &mut Statement) -> String {
        let Some(page) = self.page else { return String::new() };
        let (limit, offset) = (statement.arg(page.size), statement.arg(page.offset()));
        format!(" ORDER BY {} LIMIT {limit} OFFSET {offset}", self.order())
    }

    fn conditions(&self, statement: &mut Statement) -> String {
        let filter = self.filter.on_devices(statement);
        let id = self.id.map(|id| format!(" AND d.id = {}", statement.arg(id)));
        let after = self.after.map(|after| format!(" AND d.id > {}", statement.arg(after)));
        let ids: Vec<String> = self.ids.iter().map(|id| statement.arg(id.as_str())).collect();
        let ids = (!ids.is_empty()).then(|| format!(" AND d.id IN ({})", ids.join(", ")));
        filter + &id.unwrap_or_default() + &ids.unwrap_or_default() + &after.unwrap_or_default()
    }
}

fn assemble(rows: &[AnyRow]) -> Result<Vec<Device>, SqlError> {
    let mut devices: Vec<Device> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in rows {
        let id: &str = row.try_get("id")?;
        let number: i64 = row.try_get("number")?;
        match row.try_get::<i64, _>("part")? {
            DEVICE => {
                places.insert(id.to_owned(), devices.len());
                devices.push(Device {
                    id: id.to_owned(),
                    label: row.try_get("content")?,
                    created_ms: number,
                    updated_ms: row.try_get("updated_ms")?,
                    template_ids: Vec::new(),
                    overrides: BTreeMap::new(),
                });
            }
            part => {
                let Some(device) = places.get(id).and_then(|place| devices.get_mut(*place)) else { continue };
                if part == TEMPLATE {
                    device.template_ids.push(number);
                } else {
                    device.overrides.insert(number, row.try_get("content")?);
                }
            }
        }
    }
    Ok(devices)
}
