//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.
//!
//! Topic configs can be read and changed. The server's own settings are shown with their effective values; those whose
//! change takes effect at once can be changed, for this broker or for all, and override file, environment and flags. Type, default and documentation of a setting are declared once, in `config`.

use std::collections::{BTreeMap, HashSet};

use super::Call;
use super::audit::{Audit, Name};
use super::refusal::{Refusal, error_fields};
use super::repetition::answer_each;
use crate::broker::{
    Broker, CLIENT_METRICS_CONFIGS, ConfigChange, ConfigEdit, ConfigOperation, NODE_ID, Operation,
    Resource, SettingScope, TopicError, check_name,
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
use crate::protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::protocol::messages::{alter_configs, incremental_alter_configs};

/// Events of the audit log for changed configs: of topics only, and of other resources too.
const TOPIC_CONFIGS_CHANGED: &str = "topic configs changed";
const CONFIGS_CHANGED: &str = "configs changed";

/// Kafka's numbers of the supported resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
/// Of groups, which have no configs here.
const GROUP: i8 = 32;

/// The first version of ListConfigResources that names types.
const RESOURCE_TYPES_FROM: i16 = 1;

/// Kafka's numbers of config sources.
const SET_FOR_TOPIC: i8 = 1;
const SET_FOR_BROKER: i8 = 2;
const SET_FOR_ALL_BROKERS: i8 = 3;
const SET_FOR_SERVER: i8 = 4;
const BY_DEFAULT: i8 = 5;
const SET_FOR_LOGGER: i8 = 6;
const SET_FOR_CLIENT_METRICS: i8 = 7;

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
            BROKER_LOGGER => describe_loggers(&call.broker, resource),
            CLIENT_METRICS => describe_client_metrics(&call.broker, resource, detail),
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
        BROKER | BROKER_LOGGER | CLIENT_METRICS => Resource::Cluster,
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
        sources.extend(server_sources(setting, server_name, broker));
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

/// Returns the sources of a server setting's value, the effective one first, the default last.
fn server_sources(setting: &Effective, name: &str, broker: &Broker) -> Vec<DescribeConfigsSynonym> {
    let source = |value: &str, source| DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(kafka_value(setting.setting.kind, value)),
        source,
    };
    let dynamic = [
        (SettingScope::Broker, SET_FOR_BROKER),
        (SettingScope::Default, SET_FOR_ALL_BROKERS),
    ];
    let mut sources: Vec<_> = dynamic
        .into_iter()
        .filter_map(|(scope, number)| Some(source(&broker.dynamic.value(scope, name)?, number)))
        .collect();
    match setting.origin {
        // The effective value rather than the declared default, which another setting may have changed.
        Origin::Default => sources.push(source(&setting.value, BY_DEFAULT)),
        _ => sources.extend([
            source(&setting.value, SET_FOR_SERVER),
            source(setting.setting.default, BY_DEFAULT),
        ]),
    }
    sources
}

fn describe_broker(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let scope = scope_of(&resource.resource_name)?;
    let described = broker.settings.iter().filter_map(|setting| {
        let name = setting.setting.dotted_name();
        if !is_wanted(resource, &name) {
            return None;
        }
        let mut sources = server_sources(setting, &name, broker);
        if scope == SettingScope::Default {
            sources.retain(|each| each.source == SET_FOR_ALL_BROKERS);
        }
        let effective = sources.first()?;
        Some(DescribeConfigsResourceResult {
            value: effective.value.clone(),
            read_only: !setting.setting.is_dynamic(),
            config_source: effective.source,
            is_sensitive: false,
            config_type: type_number(setting.setting.kind.config_type()),
            documentation: detail
                .documentation
                .then(|| setting.setting.help.to_owned()),
            synonyms: if detail.synonyms { sources } else { Vec::new() },
            name,
        })
    });
    Ok(described.collect())
}

fn describe_loggers(
    broker: &Broker,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    check_broker(&resource.resource_name)?;
    let levels = broker.loggers.levels();
    let wanted = levels.filter(|(name, _)| is_wanted(resource, name));
    let described = wanted.map(|(name, level)| DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(level),
        config_source: SET_FOR_LOGGER,
        ..DescribeConfigsResourceResult::default()
    });
    Ok(described.collect())
}

fn describe_client_metrics(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    if resource.resource_name.is_empty() {
        return Err(invalid_request(
            "the name of a subscription to client metrics is empty",
        ));
    }
    let configs = broker.client_metrics.configs(&resource.resource_name);
    let wanted = CLIENT_METRICS_CONFIGS
        .iter()
        .filter(|each| is_wanted(resource, each.name));
    let described = wanted.map(|each| {
        let (value, config_source) = match configs.get(each.name) {
            Some(value) => (value.as_str(), SET_FOR_CLIENT_METRICS),
            None => (each.default, BY_DEFAULT),
        };
        let value = Some(value.to_owned());
        let synonym = DescribeConfigsSynonym {
            name: each.name.to_owned(),
            value: value.clone(),
            source: config_source,
        };
        let config_type = match each.is_list {
            true => ConfigType::List,
            false => ConfigType::Int,
        };
        DescribeConfigsResourceResult {
            name: each.name.to_owned(),
            value,
            read_only: false,
            config_source,
            is_sensitive: false,
            config_type: type_number(config_type),
            documentation: detail.documentation.then(|| each.doc.to_owned()),
            synonyms: Vec::from_iter(detail.synonyms.then_some(synonym)),
        }
    });
    Ok(described.collect())
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

/// Returns the brokers that a resource's name stands for.
fn scope_of(name: &str) -> Result<SettingScope, Refusal> {
    if name.is_empty() {
        return Ok(SettingScope::Default);
    }
    if name.parse() == Ok(NODE_ID) {
        return Ok(SettingScope::Broker);
    }
    Err(invalid_request(format!(
        "unknown broker '{name}': expected {NODE_ID}, or an empty name for the settings of all brokers"
    )))
}

/// Checks that a name is that of this broker.
fn check_broker(name: &str) -> Result<(), Refusal> {
    match name.parse() == Ok(NODE_ID) {
        true => Ok(()),
        false => Err(invalid_request(format!(
            "unknown broker '{name}': expected {NODE_ID}"
        ))),
    }
}

fn no_such_type(resource_type: i8) -> Refusal {
    invalid_request(format!(
        "resource type {resource_type} has no configs: supported are topics ({TOPIC}), brokers ({BROKER}), their loggers ({BROKER_LOGGER}) and client metrics ({CLIENT_METRICS})"
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

pub(super) async fn list(
    call: Call,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let refuse = |error_code| ListConfigResourcesResponse {
        error_code,
        ..ListConfigResourcesResponse::default()
    };
    if let Err(denied) = call.authorize(Operation::DescribeConfigs, Resource::Cluster) {
        return refuse(denied);
    }
    let listed: &[i8] = match call.version >= RESOURCE_TYPES_FROM {
        true => &[CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC],
        false => &[CLIENT_METRICS],
    };
    let asked: HashSet<i8> = request.resource_types.into_iter().collect();
    // Groups have no configs of their own, so there are none to list.
    if asked
        .iter()
        .any(|each| !listed.contains(each) && *each != GROUP)
    {
        return refuse(ErrorCode::UNSUPPORTED_VERSION);
    }
    let wanted = listed.iter();
    let wanted = wanted.filter(|each| asked.is_empty() || asked.contains(each));
    let resources = wanted.flat_map(|resource_type| {
        let names = names_of(&call.broker, *resource_type).into_iter();
        names.map(|resource_name| ConfigResource {
            resource_name,
            resource_type: *resource_type,
        })
    });
    ListConfigResourcesResponse {
        config_resources: resources.collect(),
        ..ListConfigResourcesResponse::default()
    }
}

/// Returns the names of all resources of a type.
fn names_of(broker: &Broker, resource_type: i8) -> Vec<String> {
    match resource_type {
        TOPIC => {
            let topics = broker.topics.list();
            topics
                .iter()
                .map(|topic| topic.name().to_string())
                .collect()
        }
        BROKER | BROKER_LOGGER => vec![NODE_ID.to_string()],
        CLIENT_METRICS => broker.client_metrics.names(),
        _ => Vec::new(),
    }
}

pub(super) async fn alter(
    call: Call,
    request: alter_configs::AlterConfigsRequest,
) -> alter_configs::AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let types = request.resources.iter().map(|each| each.resource_type);
    let mut audit = call.audit(event(types)).unless(request.validate_only);
    for resource in request.resources {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let change = replace(&call, resource, request.validate_only);
        let what = resource_label(resource_type, &resource_name);
        let done = audit.attempt(what, change).await;
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
    let target = check_alterable(call, resource.resource_type, &resource.resource_name)?;
    check_named_once(resource.configs.iter().map(|each| &each.name))?;
    let mut configs = BTreeMap::new();
    for config in resource.configs {
        // Null means the default in Kafka, the same as leaving the config out.
        if let Some(value) = config.value {
            configs.insert(config.name, value);
        }
    }
    let name = resource.resource_name;
    let broker = &call.broker;
    match target {
        Target::Topic => Ok(broker.replace_configs(name, configs, validate_only).await?),
        Target::Broker(scope) => {
            let replacing = broker.replace_settings(scope, configs, validate_only);
            Ok(replacing.await?)
        }
        Target::Loggers => Err(invalid_request(
            "levels of loggers can only be changed with IncrementalAlterConfigs",
        )),
        Target::ClientMetrics => {
            let replacing = broker.replace_client_metrics(name, configs, validate_only);
            Ok(replacing.await?)
        }
    }
}

pub(super) async fn alter_incrementally(
    call: Call,
    request: incremental_alter_configs::IncrementalAlterConfigsRequest,
) -> incremental_alter_configs::IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let types = request.resources.iter().map(|each| each.resource_type);
    let mut audit = call.audit(event(types)).unless(request.validate_only);
    for resource in request.resources {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let change = edit(&call, resource, request.validate_only);
        let what = resource_label(resource_type, &resource_name);
        let done = audit.attempt(what, change).await;
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
    let target = check_alterable(call, resource.resource_type, &resource.resource_name)?;
    check_named_once(resource.configs.iter().map(|each| &each.name))?;
    let edits = resource
        .configs
        .into_iter()
        .map(edit_of)
        .collect::<Result<Vec<_>, _>>()?;
    let name = resource.resource_name;
    let broker = &call.broker;
    match target {
        Target::Topic => Ok(broker.edit_configs(name, edits, validate_only).await?),
        Target::Broker(scope) => {
            let editing = broker.edit_settings(scope, edits, validate_only);
            Ok(editing.await?)
        }
        Target::Loggers => Ok(broker.loggers.edit(edits, validate_only)?),
        Target::ClientMetrics => {
            let editing = broker.edit_client_metrics(name, edits, validate_only);
            Ok(editing.await?)
        }
    }
}

/// Returns the event of the audit log for changes of resources of these types.
fn event(mut types: impl Iterator<Item = i8>) -> &'static str {
    match types.all(|each| each == TOPIC) {
        true => TOPIC_CONFIGS_CHANGED,
        false => CONFIGS_CHANGED,
    }
}

/// Returns how the audit log names a resource.
fn resource_label(resource_type: i8, name: &str) -> String {
    match (resource_type, name) {
        (BROKER, "") => "brokers".to_owned(),
        (BROKER, id) => format!("broker {}", Name(id)),
        (BROKER_LOGGER, id) => format!("loggers of broker {}", Name(id)),
        (CLIENT_METRICS, name) => format!("client metrics {}", Name(name)),
        (_, name) => Name(name).to_string(),
    }
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

/// Resource whose configs a request changes.
enum Target {
    Topic,
    Broker(SettingScope),
    Loggers,
    ClientMetrics,
}

fn check_alterable(call: &Call, resource_type: i8, resource_name: &str) -> Result<Target, Refusal> {
    authorize(call, Operation::AlterConfigs, resource_type, resource_name)?;
    match resource_type {
        TOPIC if resource_name.is_empty() => {
            Err(invalid_request("there are no configs of all topics"))
        }
        TOPIC => {
            check_name(resource_name)?;
            Ok(Target::Topic)
        }
        BROKER => Ok(Target::Broker(scope_of(resource_name)?)),
        BROKER_LOGGER => check_broker(resource_name).map(|()| Target::Loggers),
        CLIENT_METRICS => Ok(Target::ClientMetrics),
        other => Err(no_such_type(other)),
    }
}
