import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Topics create BOOTSTRAP TOPIC PARTITIONS: creates a topic.
 * Topics write BOOTSTRAP TOPIC: writes the lines of its standard input, each KEY, tab, VALUE, with acks=all.
 * Topics read BOOTSTRAP TOPIC: prints the committed records up to the end of now, each PARTITION, OFFSET, KEY, VALUE.
 * Topics group BOOTSTRAP TOPIC GROUP: reads the topic to its end as a member of the group, and commits.
 * Topics offsets BOOTSTRAP GROUP: prints the committed offsets of the group, each TOPIC, PARTITION, OFFSET.
 * Topics open BOOTSTRAP: prints the ids of transactions that are not ended.
 */
public class Topics {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", args[1]));
        switch (args[0]) {
            case "create" -> {
                try (Admin admin = Admin.create(config)) {
                    admin.createTopics(List.of(new NewTopic(args[2], Integer.parseInt(args[3]), (short) 1))).all().get();
                }
            }
            case "write" -> write(config, args[2]);
            case "read" -> read(config, args[2]);
            case "group" -> group(config, args[2], args[3]);
            case "offsets" -> offsets(config, args[2]);
            case "open" -> open(config);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static void write(Map<String, Object> config, String topic) throws Exception {
        config.put("acks", "all");
        config.put("linger.ms", 5);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        try (Producer<String, String> producer =
                new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (String line; (line = input.readLine()) != null; ) {
                String[] fields = line.split("\t", 2);
                sent.add(producer.send(new ProducerRecord<>(topic, fields[0], fields[1])));
            }
            for (var each : sent) {
                each.get();
            }
        }
    }

    static void read(Map<String, Object> config, String topic) {
        config.put("isolation.level", "read_committed");
        try (Consumer<String, String> consumer =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(each -> new TopicPartition(topic, each.partition()))
                    .collect(Collectors.toList());
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            PrintStream out = new PrintStream(new BufferedOutputStream(System.out));
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, String> each : consumer.poll(Duration.ofMillis(200))) {
                    out.println(each.partition() + "\t" + each.offset() + "\t" + each.key() + "\t" + each.value());
                }
            }
            out.flush();
        }
    }

    static void group(Map<String, Object> config, String topic, String group) {
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        try (Consumer<String, String> consumer =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (consumer.assignment().isEmpty()) {
                consumer.poll(Duration.ofMillis(200));
            }
            Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                consumer.poll(Duration.ofMillis(200));
            }
            consumer.commitSync();
        }
    }

    static void offsets(Map<String, Object> config, String group) throws Exception {
        try (Admin admin = Admin.create(config)) {
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, offset) ->
                    System.out.println(partition.topic() + "\t" + partition.partition() + "\t" + offset.offset()));
        }
    }

    static void open(Map<String, Object> config) throws Exception {
        try (Admin admin = Admin.create(config)) {
            for (TransactionListing each : admin.listTransactions().all().get()) {
                if (each.state() != TransactionState.COMPLETE_COMMIT && each.state() != TransactionState.COMPLETE_ABORT
                        && each.state() != TransactionState.EMPTY) {
                    System.out.println(each.transactionalId() + "\t" + each.state());
                }
            }
        }
    }
}
