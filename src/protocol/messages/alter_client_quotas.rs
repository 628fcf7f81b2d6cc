//! AlterClientQuotas: sets and removes quotas of users, client ids and IP addresses (KIP-546).

use crate::protocol::error_code::ErrorCode;

api!(AlterClientQuotas: AlterClientQuotasRequest => AlterClientQuotasResponse, versions 0..=1);

messages! {
    AlterClientQuotasRequest {
        entries: Vec<EntryData>;
        validate_only: bool;
    }

    EntryData {
        entity: Vec<EntityData>;
        ops: Vec<OpData>;
    }

    EntityData {
        entity_type: String;
        /// Null for the default.
        entity_name: Option<String> = Some(String::new());
    }

    OpData {
        key: String;
        /// Ignored if the quota is removed.
        value: f64;
        remove: bool;
    }
}

messages! {
    AlterClientQuotasResponse {
        throttle_time_ms: i32;
        entries: Vec<EntryResult>;
    }

    EntryResult {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        entity: Vec<EntityData>;
    }
}
