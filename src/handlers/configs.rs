//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
//!
//! Topic configs can be read and changed. The server's own settings are shown with their effective values, read-only: they
//! come from its file, environment and flags. Type, default and documentation of a setting are declared once, in `config`.

use std::collections::{BTreeMap, HashSet};

use super::Call;
use super::audit::{Audit, Name};
use super::refusal::{Refusal, error_fields};
use super::repetition::answer_each;
use crate::broker::{
    Broker, ConfigChange, ConfigEdit, ConfigOperation, NODE_ID, Operation, Resource, TopicError,
    check_name,
};
use crate::config::{
    ConfigType, Effective, Kind, Origin, TOPIC_CONFIGS, TopicConfig, TopicConfigDef,
};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::create_topics::CreatableTopicConfigs;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::{alter_configs, incremental_alter_configs};

/// Event of the audit log for changed configs.
const CONFIGS_CHANGED: &str = "topic configs changed";

/// Kafka's numbers of the supported resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Kafka's numbers of config sources.
const SET_FOR_TOPIC: i8 = 1;
const SET_FOR_SERVER: i8 = 4;
const BY_DEFAULT: i8 = 5;

/// Kafka's numbers of the operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn invalid_request(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

pub(super) async fn describe(
    call: Call,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let describe = |resource: &DescribeConfigsResource| {
        let name = &resource.resource_name;
        let described = authorize(
            &call,
            Operation::DescribeConfigs,
            resource.resource_type,
            name,
        )
        .and_then(|()| match resource.resource_type {
            TOPIC => describe_topic(&call.broker, resource, detail),
            BROKER => describe_broker(&call.broker, resource, detail),
            other => Err(no_such_type(other)),
        });
        let (configs, refusal) = match described {
            Ok(configs) => (configs, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let (error_code, error_message) = error_fields(refusal);
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        }
    };
    DescribeConfigsResponse {
        results: answer_each(
            request.resources,
            |each| (each.resource_type, each.resource_name.clone()),
            describe,
            size_of_result,
            |each| DescribeConfigsResult {
                error_code: ErrorCode::INVALID_REQUEST,
                resource_type: each.resource_type,
                resource_name: each.resource_name,
                ..DescribeConfigsResult::default()
            },
        ),
        ..DescribeConfigsResponse::default()
    }
}

/// Refuses an operation on the configs of a resource that the client may not perform.
fn authorize(
    call: &Call,
    operation: Operation,
    resource_type: i8,
    name: &str,
) -> Result<(), Refusal> {
    let resource = match resource_type {
        TOPIC => Resource::Topic(name),
        BROKER => Resource::Cluster,
        _ => return Ok(()),
    };
    call.authorize(operation, resource).map_err(Refusal::denied)
}

fn size_of_result(result: &DescribeConfigsResult) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let configs = result.configs.iter().map(|config| {
        let synonyms = config.synonyms.iter().map(|synonym| {
            size_of::<DescribeConfigsSynonym>() + synonym.name.len() + text(&synonym.value)
        });
        size_of::<DescribeConfigsResourceResult>()
            + config.name.len()
            + text(&config.value)
            + text(&config.documentation)
            + synonyms.sum::<usize>()
    });
    size_of::<DescribeConfigsResult>()
        + result.resource_name.len()
        + text(&result.error_message)
        + configs.sum::<usize>()
}

/// Optional details of each config.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        // Java clients up to 2.x request all with an empty list, which Kafka accepts.
        None => true,
        Some(keys) => keys.is_empty() || keys.iter().any(|key| key == name),
    }
}

fn describe_topic(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = &resource.resource_name;
    let unknown = || Refusal::from(TopicError::Unknown(name.clone()));
    check_name(name)?;
    let topic = broker.topics.get(name).ok_or_else(unknown)?;
    let config = topic.config();
    let described = TOPIC_CONFIGS
        .iter()
        .filter(|definition| is_shown(definition, &config))
        .filter(|definition| is_wanted(resource, definition.name))
        .map(|definition| {
            let sources = sources(definition, &config, broker);
            DescribeConfigsResourceResult {
                name: definition.name.to_owned(),
                value: Some(definition.value(&config)),
                read_only: false,
                config_source: effective_source(&sources),
                is_sensitive: false,
                config_type: type_number(definition.kind.config_type()),
                documentation: detail.documentation.then(|| definition.doc.to_owned()),
                synonyms: if detail.synonyms { sources } else { Vec::new() },
            }
        });
    Ok(described.collect())
}

fn is_shown(definition: &TopicConfigDef, config: &TopicConfig) -> bool {
    !definition.is_internal() || config.overrides.contains_key(definition.name)
}

/// Returns the sources of a topic config's value, the effective one first, the default last. Empty, as in Kafka, for a
/// config that has no server-wide default and is not set.
fn sources(
    definition: &TopicConfigDef,
    config: &TopicConfig,
    broker: &Broker,
) -> Vec<DescribeConfigsSynonym> {
    let mut sources = Vec::with_capacity(3);
    if let Some(value) = config.overrides.get(definition.name) {
        sources.push(DescribeConfigsSynonym {
            name: definition.name.to_owned(),
            value: Some(value.clone()),
            source: SET_FOR_TOPIC,
        });
    }
    let Some(server_name) = definition.server.name() else {
        return sources;
    };
    let server_wide = broker
        .settings
        .iter()
        .find(|each| is_spelled(each.setting.name, server_name));
    if let Some(setting) = server_wide {
        sources.extend(server_sources(setting, server_name));
    } else {
        sources.push(DescribeConfigsSynonym {
            name: server_name.to_owned(),
            value: Some(definition.default.to_owned()),
            source: BY_DEFAULT,
        });
    }
    sources
}

/// Returns Kafka's number of the source of the effective value.
fn effective_source(sources: &[DescribeConfigsSynonym]) -> i8 {
    sources.first().map_or(BY_DEFAULT, |each| each.source)
}

fn server_sources(setting: &Effective, name: &str) -> Vec<DescribeConfigsSynonym> {
    let source = |value: &str, source| DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(kafka_value(setting.setting.kind, value)),
        source,
    };
    match setting.origin {
        // The effective value rather than the declared default, which another setting may have changed.
        Origin::Default => vec![source(&setting.value, BY_DEFAULT)],
        _ => vec![
            source(&setting.value, SET_FOR_SERVER),
            source(setting.setting.default, BY_DEFAULT),
        ],
    }
}

fn describe_broker(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    check_broker(&resource.resource_name)?;
    if resource.resource_name.is_empty() {
        // An empty name requests the dynamic defaults of all brokers, which do not exist here.
        return Ok(Vec::new());
    }
    let described = broker
        .settings
        .iter()
        .filter(|setting| is_wanted(resource, &kafka_name(setting)))
        .map(|setting| {
            let name = kafka_name(setting);
            let sources = server_sources(setting, &name);
            DescribeConfigsResourceResult {
                value: sources[0].value.clone(),
                read_only: true,
                config_source: sources[0].source,
                is_sensitive: false,
                config_type: type_number(setting.setting.kind.config_type()),
                documentation: detail
                    .documentation
                    .then(|| setting.setting.help.to_owned()),
                synonyms: if detail.synonyms { sources } else { Vec::new() },
                name,
            }
        });
    Ok(described.collect())
}

/// Returns Kafka's name of a server setting, or for a setting unknown to Kafka its own name with dots.
fn kafka_name(setting: &Effective) -> String {
    match setting.setting.kafka_name {
        Some(name) => name.to_owned(),
        None => setting.setting.name.replace('_', "."),
    }
}

/// Returns a value as Kafka clients parse it: a boolean is only `true` or `false`.
fn kafka_value(kind: Kind, value: &str) -> String {
    let normalized = (kind == Kind::Switch).then(|| kind.normalize(value));
    normalized.flatten().unwrap_or_else(|| value.to_owned())
}

/// Returns whether `setting` is `kafka_name` with underscores instead of dots.
fn is_spelled(setting: &str, kafka_name: &str) -> bool {
    let undotted = |byte| if byte == b'.' { b'_' } else { byte };
    setting.bytes().eq(kafka_name.bytes().map(undotted))
}

fn check_broker(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.parse() == Ok(NODE_ID) {
        return Ok(());
    }
    Err(invalid_request(format!(
        "unknown broker '{name}': expected {NODE_ID}, or an empty name for the settings of all brokers"
    )))
}

fn no_such_type(resource_type: i8) -> Refusal {
    invalid_request(format!(
        "resource type {resource_type} has no configs: supported are topics ({TOPIC}) and brokers ({BROKER})"
    ))
}

fn type_number(config_type: ConfigType) -> i8 {
    match config_type {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
    }
}

/// Returns the configs of a new topic for the response of CreateTopics.
pub(super) fn created(config: &TopicConfig, broker: &Broker) -> Vec<CreatableTopicConfigs> {
    TOPIC_CONFIGS
        .iter()
        .filter(|definition| is_shown(definition, config))
        .map(|definition| CreatableTopicConfigs {
            name: definition.name.to_owned(),
            value: Some(definition.value(config)),
            read_only: false,
            config_source: effective_source(&sources(definition, config, broker)),
            is_sensitive: false,
        })
        .collect()
}

pub(super) async fn alter(
    call: Call,
    request: alter_configs::AlterConfigsRequest,
) -> alter_configs::AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut audit = call.audit(CONFIGS_CHANGED).unless(request.validate_only);
    for resource in request.resources {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let change = replace(&call, resource, request.validate_only);
        let done = audit.attempt(Name(&resource_name), change).await;
        let done = done.map(|changes| audit_changes(&mut audit, &changes));
        let (error_code, error_message) = error_fields(done.err());
        responses.push(alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    alter_configs::AlterConfigsResponse {
        responses,
        ..alter_configs::AlterConfigsResponse::default()
    }
}

async fn replace(
    call: &Call,
    resource: alter_configs::AlterConfigsResource,
    validate_only: bool,
) -> Result<Vec<ConfigChange>, Refusal> {
    check_alterable(call, resource.resource_type, &resource.resource_name)?;
    check_named_once(resource.configs.iter().map(|each| &each.name))?;
    let mut configs = BTreeMap::new();
    for config in resource.configs {
        // Null means the default in Kafka, the same as leaving the config out.
        if let Some(value) = config.value {
            configs.insert(config.name, value);
        }
    }
    let name = resource.resource_name;
    Ok(call
        .broker
        .replace_configs(name, configs, validate_only)
        .await?)
}

pub(super) async fn alter_incrementally(
    call: Call,
    request: incremental_alter_configs::IncrementalAlterConfigsRequest,
) -> incremental_alter_configs::IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut audit = call.audit(CONFIGS_CHANGED).unless(request.validate_only);
    for resource in request.resources {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let change = edit(&call, resource, request.validate_only);
        let done = audit.attempt(Name(&resource_name), change).await;
        let done = done.map(|changes| audit_changes(&mut audit, &changes));
        let (error_code, error_message) = error_fields(done.err());
        responses.push(incremental_alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    incremental_alter_configs::IncrementalAlterConfigsResponse {
        responses,
        ..incremental_alter_configs::IncrementalAlterConfigsResponse::default()
    }
}

async fn edit(
    call: &Call,
    resource: incremental_alter_configs::AlterConfigsResource,
    validate_only: bool,
) -> Result<Vec<ConfigChange>, Refusal> {
    check_alterable(call, resource.resource_type, &resource.resource_name)?;
    check_named_once(resource.configs.iter().map(|each| &each.name))?;
    let edits = resource
        .configs
        .into_iter()
        .map(edit_of)
        .collect::<Result<Vec<_>, _>>()?;
    let name = resource.resource_name;
    Ok(call.broker.edit_configs(name, edits, validate_only).await?)
}

/// Adds the config changes to the resource listed last in the audit log.
fn audit_changes(audit: &mut Audit, changes: &[ConfigChange]) {
    if changes.is_empty() {
        return audit.withdraw();
    }
    for change in changes {
        let side = |value: &Option<String>| match value {
            Some(value) => Name(value).to_string(),
            None => "default".to_owned(),
        };
        let (before, after) = (side(&change.before), side(&change.after));
        audit.amend(format_args!("{}={before}→{after}", change.name));
    }
}

fn edit_of(config: incremental_alter_configs::AlterableConfig) -> Result<ConfigEdit, Refusal> {
    let name = config.name;
    let operation = match (config.config_operation, config.value) {
        (DELETE, _) => ConfigOperation::Delete,
        (SET, Some(value)) => ConfigOperation::Set(value),
        (APPEND, Some(value)) => ConfigOperation::Append(value),
        (SUBTRACT, Some(value)) => ConfigOperation::Subtract(value),
        (SET | APPEND | SUBTRACT, None) => {
            return Err(invalid_request(format!("config {name} has no value")));
        }
        (other, _) => {
            return Err(invalid_request(format!(
                "config {name}: unknown operation {other}"
            )));
        }
    };
    Ok(ConfigEdit { name, operation })
}

/// Refuses a request that names a config twice, as Kafka does: any choice between the values would be a guess.
fn check_named_once<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(invalid_request(format!(
                "config {name} occurs more than once in the request"
            )));
        }
    }
    Ok(())
}

fn check_alterable(call: &Call, resource_type: i8, resource_name: &str) -> Result<(), Refusal> {
    authorize(call, Operation::AlterConfigs, resource_type, resource_name)?;
    match resource_type {
        TOPIC if resource_name.is_empty() => {
            Err(invalid_request("there are no configs of all topics"))
        }
        TOPIC => Ok(check_name(resource_name)?),
        BROKER => {
            check_broker(resource_name)?;
            Err(Refusal::new(
                ErrorCode::INVALID_CONFIG,
                "broker configs cannot be changed at run time: change the config file, environment or flags, and restart",
            ))
        }
        other => Err(no_such_type(other)),
    }
}
