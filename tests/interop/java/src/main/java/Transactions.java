import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions of Apache Kafka's own Java library, which follows version 2 of the protocol if the server finalizes it. Prints
 * one line per check; exits with an error at the first one that fails.
 */
public final class Transactions {
    private final String bootstrap;
    private final String topic;

    private Transactions(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.topic = topic;
    }

    static void run(String bootstrap, String topic) throws Exception {
        Transactions scenario = new Transactions(bootstrap, topic);
        try (Admin admin = scenario.admin()) {
            for (String name : List.of(topic, topic + "-out")) {
                admin.createTopics(List.of(new NewTopic(name, 2, (short) 1))).all().get();
            }
        }
        scenario.commitsAndAborts();
        scenario.offsetsAreCommittedWithTheRecords();
        scenario.aNewProducerFencesTheOldOne();
        scenario.transactionsAreListedAndEnded();
        scenario.aHangingTransactionIsFoundAndAborted();
    }

    private Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    private KafkaProducer<String, String> producer(String id) {
        KafkaProducer<String, String> producer = new KafkaProducer<>(
                Map.of(
                        ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap,
                        ProducerConfig.TRANSACTIONAL_ID_CONFIG, id,
                        ProducerConfig.LINGER_MS_CONFIG, 5),
                new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private KafkaConsumer<String, String> consumer(String group, String isolation) {
        return new KafkaConsumer<>(
                Map.of(
                        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap,
                        ConsumerConfig.GROUP_ID_CONFIG, group,
                        ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                        ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false",
                        ConsumerConfig.ISOLATION_LEVEL_CONFIG, isolation),
                new StringDeserializer(), new StringDeserializer());
    }

    private void send(KafkaProducer<String, String> producer, String to, String name, int count) {
        for (int number = 0; number < count; number++) {
            producer.send(new ProducerRecord<>(to, number % 2, name, name + "-" + number));
        }
        producer.flush();
    }

    /** Returns the values of a topic that a reader sees, sorted. */
    private List<String> read(String from, String isolation) {
        List<String> values = new ArrayList<>();
        try (var consumer = consumer("reader", isolation)) {
            List<TopicPartition> partitions = List.of(new TopicPartition(from, 0), new TopicPartition(from, 1));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(it -> consumer.position(it) < ends.get(it))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    values.add(record.value());
                }
            }
        }
        values.sort(null);
        return values;
    }

    private static List<String> numbered(String name, int count) {
        return IntStream.range(0, count).mapToObj(number -> name + "-" + number).sorted().toList();
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
        System.out.println("ok\t" + what);
    }

    private void commitsAndAborts() {
        List<String> expected = new ArrayList<>();
        try (var producer = producer("payments")) {
            for (int round = 0; round < 5; round++) {
                producer.beginTransaction();
                send(producer, topic, "commit" + round, 10);
                producer.commitTransaction();
                expected.addAll(numbered("commit" + round, 10));
                producer.beginTransaction();
                send(producer, topic, "abort" + round, 10);
                producer.abortTransaction();
                // Empty ones.
                producer.beginTransaction();
                producer.commitTransaction();
                producer.beginTransaction();
                producer.abortTransaction();
            }
        }
        expected.sort(null);
        check(read(topic, "read_committed").equals(expected), "committed records are read, aborted ones are not");
        check(read(topic, "read_uncommitted").size() == 100, "read_uncommitted shows all of them");
    }

    private void offsetsAreCommittedWithTheRecords() {
        String out = topic + "-out";
        try (var consumer = consumer("transformer", "read_committed"); var producer = producer("transformer-0")) {
            consumer.subscribe(List.of(topic));
            List<String> transformed = new ArrayList<>();
            for (boolean commits : new boolean[] {false, true}) {
                List<ConsumerRecord<String, String>> input = new ArrayList<>();
                while (input.size() < 50) {
                    consumer.poll(Duration.ofMillis(100)).forEach(input::add);
                }
                producer.beginTransaction();
                transformed.clear();
                for (var record : input) {
                    transformed.add(commits + record.value());
                    producer.send(new ProducerRecord<>(out, record.partition(), null, commits + record.value()));
                }
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (TopicPartition partition : consumer.assignment()) {
                    offsets.put(partition, new OffsetAndMetadata(consumer.position(partition)));
                }
                ConsumerGroupMetadata group = consumer.groupMetadata();
                producer.sendOffsetsToTransaction(offsets, group);
                if (commits) {
                    producer.commitTransaction();
                    check(consumer.committed(offsets.keySet()).equals(offsets), "offsets are committed");
                } else {
                    producer.abortTransaction();
                    check(consumer.committed(offsets.keySet()).values().stream().allMatch(it -> it == null),
                            "offsets of an aborted transaction are not committed");
                    consumer.seekToBeginning(consumer.assignment());
                }
            }
            transformed.sort(null);
            check(read(out, "read_committed").equals(transformed), "records are transformed exactly once");
        }
    }

    private void aNewProducerFencesTheOldOne() {
        try (var first = producer("fenced")) {
            first.beginTransaction();
            send(first, topic, "zombie", 2);
            try (var second = producer("fenced")) {
                second.beginTransaction();
                send(second, topic, "new", 2);
                boolean fenced = false;
                try {
                    first.commitTransaction();
                } catch (ProducerFencedException | InvalidProducerEpochException error) {
                    fenced = true;
                }
                check(fenced, "the old producer is fenced");
                second.commitTransaction();
            } finally {
                first.close(Duration.ZERO);
            }
        }
        List<String> values = read(topic, "read_committed");
        check(values.contains("new-0") && !values.contains("zombie-0"), "its transaction is aborted");
    }

    private void transactionsAreListedAndEnded() throws Exception {
        try (var admin = admin(); var producer = producer("hanging")) {
            producer.beginTransaction();
            send(producer, topic, "hanging", 2);
            var options = new ListTransactionsOptions().filterStates(List.of(TransactionState.ONGOING));
            var listed = admin.listTransactions(options).all().get();
            check(listed.size() == 1 && listed.iterator().next().transactionalId().equals("hanging"),
                    "the open transaction is listed");
            var described = admin.describeTransactions(List.of("hanging")).description("hanging").get();
            check(described.state() == TransactionState.ONGOING, "its state is described");
            check(described.topicPartitions().size() == 2, "its partitions are described");
            admin.forceTerminateTransaction("hanging").result().get();
            listed = admin.listTransactions(options).all().get();
            check(listed.isEmpty(), "it is terminated");
            boolean refused = false;
            try {
                producer.commitTransaction();
            } catch (KafkaException error) {
                refused = true;
            }
            check(refused, "its producer cannot commit it");
            try {
                admin.describeTransactions(List.of("missing")).description("missing").get();
                check(false, "a missing transactional id is not described");
            } catch (ExecutionException missing) {
                check(true, "a missing transactional id is not described");
            }
            producer.close(Duration.ZERO);
        }
    }

    private void aHangingTransactionIsFoundAndAborted() throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var admin = admin(); var producer = producer("lost")) {
            producer.beginTransaction();
            send(producer, topic, "lost", 1);
            var active = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
            var open = active.stream().filter(it -> it.currentTransactionStartOffset().isPresent()).toList();
            check(open.size() == 1, "the producer of the open transaction is described");
            admin.abortTransaction(new AbortTransactionSpec(partition, open.get(0).producerId(),
                    (short) open.get(0).producerEpoch(), open.get(0).coordinatorEpoch().orElse(0))).all().get();
            active = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
            check(active.stream().noneMatch(it -> it.currentTransactionStartOffset().isPresent()),
                    "its transaction is aborted in the partition");
            producer.abortTransaction();
            check(!read(topic, "read_committed").contains("lost-0"), "its records are not read");
        }
    }
}
