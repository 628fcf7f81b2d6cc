//! Finding the quotas of clients, and what they use of them.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn quotas() -> Quotas {
    let config = Config {
        quota_window_num: 11,
        quota_window_size_seconds: 1,
        ..Config::default()
    };
    Quotas::new(&config, Vec::new())
}

fn entity(user: Option<&str>, client_id: Option<&str>) -> QuotaEntity {
    let name = |name: &str| QuotaName::Named(name.to_owned());
    QuotaEntity {
        user: user.map(name),
        client_id: client_id.map(name),
        ip: None,
    }
}

fn set(quotas: &Quotas, entity: QuotaEntity, values: &[(Quota, f64)]) {
    let values = values
        .iter()
        .map(|(quota, value)| (quota.name().to_owned(), *value))
        .collect();
    quotas.apply(QuotaRow { entity, values }, Vec::new());
}

fn find(quotas: &Quotas, user: &str, client_id: &str) -> Option<Arc<ClientQuotas>> {
    quotas.of_client(&mut None, user, client_id, Duration::ZERO)
}

#[test]
fn the_generation_is_0_while_no_client_has_quotas() {
    let quotas = quotas();
    assert_eq!(quotas.generation(), 0);
    let user = || entity(Some("u"), None);
    set(&quotas, user(), &[(Quota::ProducerByteRate, 1.0)]);
    let first = quotas.generation();
    assert_ne!(first, 0);
    set(&quotas, user(), &[]);
    assert_eq!(quotas.generation(), 0);
    set(&quotas, user(), &[(Quota::ProducerByteRate, 1.0)]);
    assert!(quotas.generation() > first);
}

#[test]
fn each_quota_has_its_own_precedence() {
    let quotas = quotas();
    set(
        &quotas,
        entity(Some("u"), Some("c")),
        &[(Quota::ProducerByteRate, 10.0)],
    );
    set(
        &quotas,
        entity(None, Some("c")),
        &[(Quota::ConsumerByteRate, 20.0)],
    );
    let found = find(&quotas, "u", "c").unwrap();
    let limit = |metered: &Option<Metered<Rate>>| metered.as_ref().map(|it| it.limit.per_second);
    assert_eq!(limit(&found.produce), Some(10.0));
    assert_eq!(limit(&found.fetch), Some(20.0));
    assert_eq!(limit(&found.request), None);
    assert!(find(&quotas, "u", "other").is_none());
}

#[test]
fn connections_of_a_user_share_the_users_quota_whatever_their_client_id() {
    let quotas = quotas();
    set(
        &quotas,
        entity(Some("u"), None),
        &[(Quota::ProducerByteRate, 100.0)],
    );
    let [one, other] = ["a", "b"].map(|client_id| find(&quotas, "u", client_id).unwrap());
    assert_eq!(one.produced(1000, SECOND), Duration::ZERO);
    assert_eq!(other.produced(100, SECOND), SECOND);
    // Of a user and a client id, each has its own.
    set(
        &quotas,
        entity(Some("u"), Some("a")),
        &[(Quota::ProducerByteRate, 100.0)],
    );
    let own = find(&quotas, "u", "a").unwrap();
    assert_eq!(own.produced(1000, SECOND), Duration::ZERO);
}

#[test]
fn quotas_found_before_are_kept_until_they_change_and_keep_what_was_used() {
    let quotas = quotas();
    let user = || entity(Some("u"), None);
    set(&quotas, user(), &[(Quota::ProducerByteRate, 100.0)]);
    let mut known = None;
    let mut of = |quotas: &Quotas, client_id| quotas.of_client(&mut known, "u", client_id, SECOND);
    let first = of(&quotas, "c").unwrap();
    assert_eq!(first.produced(1000, SECOND), Duration::ZERO);
    assert!(Arc::ptr_eq(&first, &of(&quotas, "c").unwrap()));
    assert!(!Arc::ptr_eq(&first, &of(&quotas, "d").unwrap()));
    set(&quotas, user(), &[(Quota::ProducerByteRate, 50.0)]);
    let halved = of(&quotas, "c").unwrap();
    // 1000 bytes in 10 s are 100 a second, twice the quota.
    assert_eq!(halved.produced(0, SECOND), Duration::from_secs(10));
    set(&quotas, user(), &[]);
    assert!(of(&quotas, "c").is_none());
}

#[test]
fn a_fetch_that_is_not_sent_is_taken_back() {
    let quotas = quotas();
    set(
        &quotas,
        entity(None, Some("c")),
        &[(Quota::ConsumerByteRate, 100.0)],
    );
    let found = find(&quotas, "u", "c").unwrap();
    assert_eq!(found.fetch_bytes_max(), Some(1000.0));
    assert_eq!(found.fetched(2000, SECOND), Duration::from_secs(10));
    found.unfetched(2000, SECOND);
    assert_eq!(found.fetched(1000, SECOND), Duration::ZERO);
}

#[test]
fn request_time_is_a_percentage_of_one_thread_and_throttles_for_one_sample_at_most() {
    let quotas = quotas();
    set(
        &quotas,
        entity(None, Some("c")),
        &[(Quota::RequestPercentage, 50.0)],
    );
    let found = find(&quotas, "u", "c").unwrap();
    // Half of the ten seconds that count.
    assert_eq!(found.worked(5 * SECOND, SECOND), Duration::ZERO);
    let throttled = found.worked(Duration::from_millis(250), SECOND);
    assert_eq!(throttled, Duration::from_millis(500));
    assert_eq!(found.worked(60 * SECOND, SECOND), SECOND);
}

#[test]
fn quotas_of_addresses_do_not_concern_clients() {
    let quotas = quotas();
    let ip = QuotaEntity {
        ip: Some(QuotaName::Named("localhost".to_owned())),
        ..QuotaEntity::default()
    };
    let limit = |rate: &[f64]| QuotaRow {
        entity: ip.clone(),
        values: rate
            .iter()
            .map(|rate| (CONNECTION_CREATION_RATE.to_owned(), *rate))
            .collect(),
    };
    let address = IpAddr::from([127, 0, 0, 1]);
    quotas.apply(limit(&[1.0]), vec![address]);
    assert_eq!(quotas.generation(), 0);
    let admit = || quotas.admit_connection(address, SECOND);
    assert_eq!((0..50).filter(|_| admit().is_ok()).count(), 10);
    assert!(
        quotas
            .admit_connection(IpAddr::from([127, 0, 0, 2]), SECOND)
            .is_ok()
    );
    quotas.apply(limit(&[]), Vec::new());
    assert!(admit().is_ok());
    assert!(quotas.entities(|_| true).is_empty());
}

#[test]
fn addresses_are_given_as_such_or_by_name() {
    let v4 = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(addresses_of("127.0.0.1"), Some(vec![v4]));
    assert_eq!(addresses_of("::ffff:127.0.0.1"), Some(vec![v4]));
    assert!(addresses_of("localhost").is_some_and(|found| !found.is_empty()));
    assert_eq!(addresses_of("not a host"), None);
}
