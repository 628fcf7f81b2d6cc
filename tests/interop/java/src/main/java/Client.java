import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate.UpgradeType;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.LogDirNotFoundException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.UnsupportedByAuthenticationException;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The scenario's client on Apache Kafka's own Java library. The line protocol is described in ../README.md. */
public final class Client {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[1];
        String topic = args[2];
        switch (args[0]) {
            case "create" -> create(bootstrap, topic, Integer.parseInt(args[3]));
            case "produce" -> produce(bootstrap, topic);
            case "consume" -> consume(bootstrap, topic, args[3]);
            case "offsets" -> offsets(bootstrap, topic, args[3]);
            case "admin" -> admin(bootstrap, topic, args[3]);
            case "delete" -> delete(bootstrap, topic);
            case "transactions" -> Transactions.run(bootstrap, topic);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static Admin adminClient(String bootstrap) {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    private static void create(String bootstrap, String topic, int partitions) throws Exception {
        try (Admin admin = adminClient(bootstrap)) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
    }

    private static void delete(String bootstrap, String topic) throws Exception {
        try (Admin admin = adminClient(bootstrap)) {
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }

    private static void produce(String bootstrap, String topic) throws Exception {
        Map<String, List<ProducerRecord<byte[], byte[]>>> byCodec = new LinkedHashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] field = line.split("\t", -1);
            List<Header> headers = new ArrayList<>();
            if (!field[5].isEmpty()) {
                for (String header : field[5].split(",")) {
                    String[] pair = header.split(":", 2);
                    headers.add(new RecordHeader(new String(bytes(pair[0]), StandardCharsets.UTF_8), bytes(pair[1])));
                }
            }
            byCodec.computeIfAbsent(field[0], codec -> new ArrayList<>())
                    .add(new ProducerRecord<>(topic, Integer.valueOf(field[1]), Long.valueOf(field[2]),
                            bytes(field[3]), bytes(field[4]), headers));
        }
        for (var entry : byCodec.entrySet()) {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", bootstrap);
            settings.put("acks", "all");
            settings.put("compression.type", entry.getKey());
            settings.put("linger.ms", "20");
            try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
                List<Future<RecordMetadata>> acknowledged = new ArrayList<>();
                for (var record : entry.getValue()) {
                    acknowledged.add(producer.send(record));
                }
                producer.flush();
                for (var future : acknowledged) {
                    RecordMetadata metadata = future.get();
                    say("acked", metadata.partition(), metadata.offset());
                }
            }
        }
    }

    private static void consume(String bootstrap, String topic, String group) throws Exception {
        AtomicBoolean stop = new AtomicBoolean();
        Thread watcher = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (IOException closed) {
                // The end of the input, however it comes, means stop.
            }
            stop.set(true);
        });
        watcher.setDaemon(true);
        watcher.start();

        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("group.id", group);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", "10000");
        settings.put("heartbeat.interval.ms", "500");
        settings.put("fetch.max.wait.ms", "200");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Set<Integer> assigned = new TreeSet<>();
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    partitions.forEach(partition -> assigned.add(partition.partition()));
                    report();
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    partitions.forEach(partition -> assigned.remove(partition.partition()));
                    report();
                }

                private void report() {
                    say("assigned", assigned.stream().map(String::valueOf).collect(Collectors.joining(",")));
                }
            });
            while (!stop.get()) {
                var records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    List<String> headers = new ArrayList<>();
                    for (Header header : record.headers()) {
                        headers.add(text(header.key().getBytes(StandardCharsets.UTF_8)) + ":" + text(header.value()));
                    }
                    say("record", record.partition(), record.offset(), record.timestamp(), text(record.key()),
                            text(record.value()), String.join(",", headers));
                }
                if (!records.isEmpty()) {
                    try {
                        consumer.commitSync();
                    } catch (RebalanceInProgressException | CommitFailedException moved) {
                        System.err.println("not committed: " + moved.getMessage());
                    }
                }
            }
        }
        say("closed");
    }

    private static void offsets(String bootstrap, String topic, String group) throws Exception {
        try (Admin admin = adminClient(bootstrap)) {
            for (var entry : committed(admin, group).entrySet()) {
                if (entry.getKey().topic().equals(topic)) {
                    say("offset", entry.getKey().partition(), entry.getValue().offset());
                }
            }
        }
    }

    private static Map<TopicPartition, OffsetAndMetadata> committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    /** What an operator asks through AdminClient: each answer is checked here, the lag is handed on. */
    private static void admin(String bootstrap, String topic, String group) throws Exception {
        try (Admin admin = adminClient(bootstrap)) {
            var cluster = admin.describeCluster();
            require(cluster.nodes().get().size() == 1, "one node");
            require(cluster.clusterId().get() != null, "a cluster id");
            require(admin.listTopics().names().get().contains(topic), "the topic is listed");

            TopicDescription described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            require(described.topicId() != null, "a topic id");
            described.partitions().forEach(partition -> require(partition.leader() != null, "a leader"));

            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var change = new AlterConfigOp(new ConfigEntry("retention.ms", "86400000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            ConfigEntry retention = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms");
            require(retention.value().equals("86400000"), "retention.ms is " + retention.value());
            require(retention.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source " + retention.source());

            changeServer(admin);

            require(admin.listGroups().all().get().stream().anyMatch(listed -> listed.groupId().equals(group)),
                    "the group is listed");
            ConsumerGroupDescription groupDescribed =
                    admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            require(groupDescribed.groupState() == GroupState.EMPTY, "the group is " + groupDescribed.groupState());

            Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
            for (int partition = 0; partition < described.partitions().size(); partition++) {
                latest.put(new TopicPartition(topic, partition), OffsetSpec.latest());
            }
            var ends = admin.listOffsets(latest).all().get();
            var committed = committed(admin, group);
            for (var entry : ends.entrySet()) {
                say("lag", entry.getKey().partition(), entry.getValue().offset() - committed.get(entry.getKey()).offset());
            }

            long onDisk = 0;
            for (var directories : admin.describeLogDirs(List.of(1)).allDescriptions().get().values()) {
                for (var directory : directories.values()) {
                    for (var replica : directory.replicaInfos().entrySet()) {
                        onDisk += replica.getKey().topic().equals(topic) ? replica.getValue().size() : 0;
                    }
                }
            }
            say("size", onDisk);
            oneBroker(admin, topic);
        }
    }

    /** Requests about brokers and replicas, of which there is one each: the answers are those of Kafka with one broker. */
    private static void oneBroker(Admin admin, String topic) throws Exception {
        TopicPartition first = new TopicPartition(topic, 0);
        var elected = admin.electLeaders(ElectionType.PREFERRED, Set.of(first)).partitions().get();
        require(elected.get(first).orElseThrow() instanceof ElectionNotNeededException, "no election is needed");

        var here = Optional.of(new NewPartitionReassignment(List.of(1)));
        admin.alterPartitionReassignments(Map.of(first, here)).all().get();
        var elsewhere = Optional.of(new NewPartitionReassignment(List.of(2)));
        refused(InvalidReplicaAssignmentException.class,
                admin.alterPartitionReassignments(Map.of(first, elsewhere)).all());
        require(admin.listPartitionReassignments().reassignments().get().isEmpty(), "no reassignment");

        var directories = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1);
        String directory = directories.keySet().iterator().next();
        TopicPartitionReplica replica = new TopicPartitionReplica(topic, 0, 1);
        admin.alterReplicaLogDirs(Map.of(replica, directory)).all().get();
        refused(LogDirNotFoundException.class, admin.alterReplicaLogDirs(Map.of(replica, "/elsewhere")).all());

        QuorumInfo quorum = admin.describeMetadataQuorum().quorumInfo().get();
        require(quorum.leaderId() == 1 && quorum.voters().size() == 1, "a quorum of one");
        refused(BrokerIdNotRegisteredException.class, admin.unregisterBroker(7).all());

        var levels = admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        short level = levels.get("metadata.version").maxVersionLevel();
        admin.updateFeatures(Map.of("metadata.version", new FeatureUpdate(level, UpgradeType.UPGRADE)),
                new UpdateFeaturesOptions().validateOnly(true)).all().get();
        refused(InvalidUpdateVersionException.class, admin.updateFeatures(
                Map.of("nothing", new FeatureUpdate((short) 1, UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).all());

        refused(SecurityDisabledException.class, admin.describeAcls(AclBindingFilter.ANY).values());
        refused(UnsupportedByAuthenticationException.class, admin.describeDelegationToken().delegationTokens());

        // A page for each partition.
        var paged = new DescribeTopicsOptions().partitionSizeLimitPerResponse(1);
        int partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        require(admin.describeTopics(List.of(topic), paged).allTopicNames().get().get(topic).partitions().size()
                == partitions, "all pages");

        var pending = Map.of(first, OffsetSpec.earliestPendingUpload());
        require(admin.listOffsets(pending).all().get().get(first).offset() == -1, "nothing to upload");
        NewTopic assigned = new NewTopic(topic + "-assigned", Map.of(0, List.of(1), 1, List.of(1)));
        admin.createTopics(List.of(assigned), new CreateTopicsOptions().validateOnly(true)).all().get();
        refused(InvalidReplicaAssignmentException.class, admin.createTopics(
                List.of(new NewTopic(topic + "-assigned", Map.of(0, List.of(2))))).all());
    }

    private static void refused(Class<? extends Exception> expected, Future<?> request) throws Exception {
        try {
            request.get();
        } catch (ExecutionException failure) {
            require(expected.isInstance(failure.getCause()), expected.getSimpleName() + ", not " + failure.getCause());
            return;
        }
        throw new IllegalStateException("not refused: " + expected.getSimpleName());
    }

    /** Quotas, and configs of resources other than topics. All are left as they were. */
    private static void changeServer(Admin admin) throws Exception {
        var entity = new ClientQuotaEntity(new HashMap<>(Map.of(ClientQuotaEntity.CLIENT_ID, "limited")));
        setQuota(admin, entity, 1_000_000.0);
        var quotas = admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get();
        require(quotas.equals(Map.of(entity, Map.of("producer_byte_rate", 1_000_000.0))), "one quota, not " + quotas);
        setQuota(admin, entity, null);
        require(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().isEmpty(), "no quotas");

        var brokers = new ConfigResource(ConfigResource.Type.BROKER, "");
        set(admin, brokers, "log.roll.ms", "3600000");
        var broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        ConfigEntry roll = admin.describeConfigs(List.of(broker)).all().get().get(broker).get("log.roll.ms");
        require(roll.value().equals("3600000"), "log.roll.ms is " + roll.value());
        require(roll.source() == ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, "source " + roll.source());
        set(admin, brokers, "log.roll.ms", null);

        var loggers = new ConfigResource(ConfigResource.Type.BROKER_LOGGER, "1");
        ConfigEntry root = admin.describeConfigs(List.of(loggers)).all().get().get(loggers).get("root");
        set(admin, loggers, "root", root.value());

        var metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "mine");
        set(admin, metrics, "interval.ms", "60000");
        require(admin.listConfigResources(Set.of(), new ListConfigResourcesOptions()).all().get()
                .containsAll(List.of(broker, loggers, metrics)), "all resources are listed");
        set(admin, metrics, "interval.ms", null);
    }

    private static void setQuota(Admin admin, ClientQuotaEntity entity, Double bytesPerSecond) throws Exception {
        var op = new ClientQuotaAlteration.Op("producer_byte_rate", bytesPerSecond);
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(op)))).all().get();
    }

    private static void set(Admin admin, ConfigResource resource, String name, String value) throws Exception {
        var type = value == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
        var change = new AlterConfigOp(new ConfigEntry(name, value), type);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException("expected: " + what);
        }
    }

    private static byte[] bytes(String field) {
        return field.equals("-") ? null : Base64.getDecoder().decode(field);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }

    private static synchronized void say(Object... fields) {
        List<String> words = new ArrayList<>();
        for (Object field : fields) {
            words.add(String.valueOf(field));
        }
        System.out.println(String.join("\t", words));
        System.out.flush();
    }
}
