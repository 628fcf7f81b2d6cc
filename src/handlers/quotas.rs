//! DescribeClientQuotas, AlterClientQuotas.
//!
//! Entities of a request are independent: one that is refused does not affect the others. The quotas of an entity change
//! together or not at all.

use std::collections::{BTreeMap, HashMap};

use super::Call;
use super::audit::{Audit, Change, Name};
use super::refusal::{Refusal, error_fields};
use crate::broker::{Operation, QuotaChange, QuotaError, Resource};
use crate::catalog::{QuotaEntity, QuotaName, QuotaRow};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::alter_client_quotas::{
    self, AlterClientQuotasRequest, AlterClientQuotasResponse, EntryResult, OpData,
};
use crate::protocol::messages::describe_client_quotas::{
    self, ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, ValueData,
};

/// Kafka's types of the components of an entity.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// Kafka's numbers of the ways in which a filter matches a component.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

pub(super) async fn describe(
    call: Call,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let found = call
        .authorize(Operation::DescribeConfigs, Resource::Cluster)
        .map_err(Refusal::denied)
        .and_then(|()| Filter::new(request))
        .map(|filter| call.broker.quotas.entities(|entity| filter.matches(entity)));
    match found {
        Ok(rows) => DescribeClientQuotasResponse {
            error_message: None,
            entries: Some(rows.into_iter().map(entry).collect()),
            ..DescribeClientQuotasResponse::default()
        },
        Err(refusal) => DescribeClientQuotasResponse {
            error_code: refusal.code,
            error_message: Some(refusal.message),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    }
}

fn entry(row: QuotaRow) -> describe_client_quotas::EntryData {
    let components = components(row.entity);
    describe_client_quotas::EntryData {
        entity: components
            .map(|(entity_type, name)| describe_client_quotas::EntityData {
                entity_type: entity_type.to_owned(),
                entity_name: named(name),
            })
            .collect(),
        values: row
            .values
            .into_iter()
            .map(|(key, value)| ValueData { key, value })
            .collect(),
    }
}

/// Returns the components that an entity has, by Kafka's type.
fn components(entity: QuotaEntity) -> impl Iterator<Item = (&'static str, QuotaName)> {
    let QuotaEntity {
        user,
        client_id,
        ip,
    } = entity;
    let all = [(USER, user), (CLIENT_ID, client_id), (IP, ip)];
    all.into_iter()
        .filter_map(|(entity_type, name)| Some((entity_type, name?)))
}

/// Returns a name as in requests and responses, where the default has none.
fn named(name: QuotaName) -> Option<String> {
    match name {
        QuotaName::Default => None,
        QuotaName::Named(name) => Some(name),
    }
}

/// A condition on the components of an entity.
struct Filter {
    /// Expected component by type; `None` stands for any name and the default.
    components: BTreeMap<&'static str, Option<QuotaName>>,
    strict: bool,
}

impl Filter {
    fn new(request: DescribeClientQuotasRequest) -> Result<Filter, Refusal> {
        let mut components = BTreeMap::new();
        for component in request.components {
            let entity_type = known_type(&component.entity_type)?;
            if components
                .insert(entity_type, expected(component)?)
                .is_some()
            {
                return Err(invalid(format!(
                    "the filter names entity type {entity_type} more than once"
                )));
            }
        }
        if components.contains_key(IP) && components.len() > 1 {
            return Err(invalid("a filter of ip cannot name other entity types"));
        }
        Ok(Filter {
            components,
            strict: request.strict,
        })
    }

    fn matches(&self, entity: &QuotaEntity) -> bool {
        let all = [
            (USER, &entity.user),
            (CLIENT_ID, &entity.client_id),
            (IP, &entity.ip),
        ];
        all.into_iter().all(
            |(entity_type, name)| match self.components.get(entity_type) {
                None => !self.strict || name.is_none(),
                Some(None) => name.is_some(),
                Some(expected) => name == expected,
            },
        )
    }
}

fn known_type(name: &str) -> Result<&'static str, Refusal> {
    if name.is_empty() {
        return Err(invalid("an entity type is empty"));
    }
    let known = [USER, CLIENT_ID, IP]
        .into_iter()
        .find(|known| *known == name);
    known.ok_or_else(|| {
        let message = format!("unknown entity type '{name}'");
        Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message)
    })
}

/// Returns the component that a filter expects; `None` for any.
fn expected(component: ComponentData) -> Result<Option<QuotaName>, Refusal> {
    match (component.match_type, component.r#match) {
        (EXACT, Some(name)) => Ok(Some(QuotaName::Named(name))),
        (DEFAULT, None) => Ok(Some(QuotaName::Default)),
        (SPECIFIED, None) => Ok(None),
        (EXACT, None) => Err(invalid("a filter of an exact name has no name")),
        (DEFAULT | SPECIFIED, Some(_)) => {
            Err(invalid("a filter that is not of an exact name has one"))
        }
        (other, _) => Err(invalid(format!("unknown match type {other}"))),
    }
}

pub(super) async fn alter(
    call: Call,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut audit = call.audit("quotas changed").unless(request.validate_only);
    let denied = call.authorize(Operation::AlterConfigs, Resource::Cluster);
    let mut entries = Vec::new();
    for (components, ops) in by_entity(request.entries) {
        let done = match denied {
            Ok(()) => alter_one(&call, &components, ops, request.validate_only, &mut audit).await,
            Err(code) => Err(Refusal::denied(code)),
        };
        let (error_code, error_message) = error_fields(done.err());
        entries.push(EntryResult {
            error_code,
            error_message,
            entity: components
                .into_iter()
                .map(
                    |(entity_type, entity_name)| alter_client_quotas::EntityData {
                        entity_type,
                        entity_name,
                    },
                )
                .collect(),
        });
    }
    AlterClientQuotasResponse {
        entries,
        ..AlterClientQuotasResponse::default()
    }
}

/// Components of an entity by type. A type that is given twice has the last name, as in Kafka.
type Components = BTreeMap<String, Option<String>>;

/// Returns the operations of each entity, in the order of the request. `None` for an entity that occurs more than once.
fn by_entity(
    entries: Vec<alter_client_quotas::EntryData>,
) -> impl Iterator<Item = (Components, Option<Vec<OpData>>)> {
    let mut positions = HashMap::new();
    let mut distinct: Vec<(Components, Option<Vec<OpData>>)> = Vec::new();
    for entry in entries {
        let components: Components = entry
            .entity
            .into_iter()
            .map(|component| (component.entity_type, component.entity_name))
            .collect();
        let position = *positions
            .entry(components.clone())
            .or_insert(distinct.len());
        match distinct.get_mut(position) {
            Some((_, ops)) => *ops = None,
            None => distinct.push((components, Some(entry.ops))),
        }
    }
    distinct.into_iter()
}

async fn alter_one(
    call: &Call,
    components: &Components,
    ops: Option<Vec<OpData>>,
    validate_only: bool,
    audit: &mut Audit,
) -> Result<(), Refusal> {
    let ops = ops.ok_or_else(|| invalid("the entity occurs more than once in the request"))?;
    let mut values: BTreeMap<String, Option<f64>> = BTreeMap::new();
    for op in ops {
        let value = (!op.remove).then_some(op.value);
        if values.contains_key(&op.key) {
            let message = format!("quota {} occurs more than once for the entity", op.key);
            return Err(invalid(message));
        }
        values.insert(op.key, value);
    }
    let entity = entity_of(components)?;
    let what = described(&entity);
    let values = values.into_iter().collect();
    let change = call.broker.change_quotas(entity, values, validate_only);
    let changes = audit.attempt(what, change).await?;
    list(&changes, audit);
    Ok(())
}

/// Describes an entity for the audit log.
fn described(entity: &QuotaEntity) -> String {
    let components = components(entity.clone()).map(|(entity_type, name)| {
        let name = named(name);
        let name = name.map_or("default".to_owned(), |name| Name(&name).to_string());
        format!("{entity_type}={name}")
    });
    components.collect::<Vec<_>>().join(" ")
}

/// Adds the changes to the entity listed last in the audit log.
fn list(changes: &[QuotaChange], audit: &mut Audit) {
    if changes.is_empty() {
        return audit.withdraw();
    }
    for QuotaChange { key, before, after } in changes {
        audit.amend(format_args!("{}={}", Name(key), Change(*before, *after)));
    }
}

fn entity_of(components: &Components) -> Result<QuotaEntity, Refusal> {
    let mut entity = QuotaEntity::default();
    for (entity_type, name) in components {
        let component = match entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return Err(invalid(format!("unknown entity type '{other}'"))),
        };
        *component = Some(match name {
            None => QuotaName::Default,
            Some(name) if name.is_empty() => {
                return Err(invalid(format!("the name of the {entity_type} is empty")));
            }
            Some(name) => QuotaName::Named(name.clone()),
        });
    }
    Ok(entity)
}

impl From<QuotaError> for Refusal {
    fn from(error: QuotaError) -> Self {
        Refusal::new(super::error::of_quota_change(&error), error.to_string())
    }
}
