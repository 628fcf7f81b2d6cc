//! Authorisation of requests.
//!
//! Each handler asks for the operations that Kafka requires of its API, before it does anything and before it discloses that
//! a named resource exists; ids are not secret, as in Kafka. `authorize/tests.rs` has the table of them.

use super::Session;
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;

impl Session {
    /// Returns the code with which to refuse an operation that the client may not perform.
    #[inline]
    pub(super) fn authorize(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), ErrorCode> {
        if self.allows(operation, resource) {
            return Ok(());
        }
        Err(self.deny(operation, resource))
    }

    /// Returns whether the client may perform an operation. For lists that omit what is denied, and where another permission
    /// would do; all else asks [`Self::authorize`].
    #[inline]
    pub(super) fn allows(&self, operation: Operation, resource: Resource<'_>) -> bool {
        match &self.broker.authorizer {
            None => true,
            Some(rules) => rules.allows(&self.principal, self.peer.ip(), operation, resource),
        }
    }

    /// Returns whether the client may create a topic, by a permission on the cluster or on the topic.
    pub(super) fn authorize_creation(&self, topic: &str) -> Result<(), ErrorCode> {
        if self.allows(Operation::Create, Resource::Cluster) {
            return Ok(());
        }
        self.authorize(Operation::Create, Resource::Topic(topic))
    }

    /// Removes the topics on which the client may not perform an operation, and returns them.
    pub(super) fn split_denied<T>(
        &self,
        operation: Operation,
        topics: &mut Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Vec<T> {
        let is_denied = |topic: &mut T| {
            let resource = Resource::Topic(name(topic));
            self.authorize(operation, resource).is_err()
        };
        topics.extract_if(.., is_denied).collect()
    }

    #[cold]
    fn deny(&self, operation: Operation, resource: Resource<'_>) -> ErrorCode {
        tracing::debug!(
            principal = %self.principal,
            listener = &*self.listener,
            peer = %self.peer,
            software = self.software().map(tracing::field::display),
            ?operation,
            ?resource,
            "operation denied"
        );
        match resource {
            Resource::Topic(_) | Resource::AnyTopic => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Resource::Group(_) => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Resource::TransactionalId(_) => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Resource::Cluster => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        }
    }
}

#[cfg(test)]
mod tests;
