//! DescribeClientQuotas: lists the quotas of users, client ids and IP addresses (KIP-546).

use crate::protocol::error_code::ErrorCode;

api!(
    DescribeClientQuotas: DescribeClientQuotasRequest => DescribeClientQuotasResponse,
    versions 0..=1
);

messages! {
    DescribeClientQuotasRequest {
        components: Vec<ComponentData>;
        /// Excludes entities with components that the filter does not name.
        strict: bool;
    }

    ComponentData {
        entity_type: String;
        /// 0: the given name; 1: the default; 2: any name and the default.
        match_type: i8;
        r#match: Option<String> = Some(String::new());
    }
}

messages! {
    DescribeClientQuotasResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        entries: Option<Vec<EntryData>> = Some(Vec::new());
    }

    EntryData {
        entity: Vec<EntityData>;
        values: Vec<ValueData>;
    }

    EntityData {
        entity_type: String;
        /// Null for the default.
        entity_name: Option<String> = Some(String::new());
    }

    ValueData {
        key: String;
        value: f64;
    }
}
