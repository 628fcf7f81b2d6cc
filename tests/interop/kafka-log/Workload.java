import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/**
 * Workload produce BOOTSTRAP TOPIC [transactions]: creates the topic and fills it, every codec in turn.
 * Workload append BOOTSTRAP TOPIC: adds a few records to it.
 * Workload consume BOOTSTRAP TOPIC COUNT [ISOLATION]: prints so many records from the beginning, one a line:
 * partition, offset, timestamp, key, value, headers, with tabs between them.
 */
public class Workload {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static final int PARTITIONS = 2;
    static final long TIME = System.currentTimeMillis() - 3_600_000;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[1], topic = args[2];
        switch (args[0]) {
            case "produce" -> {
                create(bootstrap, topic);
                for (String codec : CODECS) {
                    produce(bootstrap, topic, codec, codec.equals("none") ? 2_000 : 400, null, false);
                }
                if (args.length > 3) {
                    produce(bootstrap, topic, "lz4", 20, "transaction-a", false);
                    produce(bootstrap, topic, "zstd", 20, "transaction-b", true);
                }
            }
            case "append" -> produce(bootstrap, topic, "lz4", 50, null, false);
            case "consume" -> consume(bootstrap, topic, Integer.parseInt(args[3]),
                args.length > 4 ? args[4] : "read_uncommitted");
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static void create(String bootstrap, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            NewTopic fresh = new NewTopic(topic, PARTITIONS, (short) 1);
            fresh.configs(Map.of("segment.bytes", "1048576", "index.interval.bytes", "2048"));
            admin.createTopics(List.of(fresh)).all().get();
        }
    }

    static void produce(String bootstrap, String topic, String codec, int count, String transactionalId, boolean abort)
            throws Exception {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", codec);
        config.put("batch.size", 20_000);
        config.put("linger.ms", 5);
        if (transactionalId != null) {
            config.put("transactional.id", transactionalId);
        }
        try (Producer<String, String> producer =
                new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            if (transactionalId != null) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            for (int i = 0; i < count; i++) {
                String key = i % 5 == 0 ? null : codec + "-key-" + i;
                String value = i % 17 == 3 ? null : (codec + "-value-" + i + ";").repeat(i * 31 % 190 + 1);
                var record = new ProducerRecord<>(topic, i % PARTITIONS, TIME + i * 10 - i % 3 * 100, key, value);
                for (int j = 0; j < i % 3; j++) {
                    record.headers().add("header-" + j, ("h" + i).getBytes());
                }
                producer.send(record);
            }
            producer.flush();
            if (transactionalId != null && abort) {
                producer.abortTransaction();
            } else if (transactionalId != null) {
                producer.commitTransaction();
            }
        }
    }

    static void consume(String bootstrap, String topic, int count, String isolation) {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", bootstrap, "enable.auto.commit", false, "isolation.level", isolation);
        List<String> lines = new ArrayList<>();
        try (Consumer<String, String> consumer =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int i = 0; i < PARTITIONS; i++) {
                partitions.add(new TopicPartition(topic, i));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            // Once the count is there, one more poll would show records that are one too many.
            for (boolean full = false; System.nanoTime() < deadline; full = lines.size() >= count) {
                var polled = consumer.poll(Duration.ofMillis(full ? 500 : 2_000));
                for (ConsumerRecord<String, String> record : polled) {
                    lines.add(line(record));
                }
                if (full && polled.isEmpty()) {
                    break;
                }
            }
        }
        lines.forEach(System.out::println);
    }

    static String line(ConsumerRecord<String, String> record) {
        StringJoiner headers = new StringJoiner(",");
        for (Header header : record.headers()) {
            headers.add(header.key() + "=" + new String(header.value()));
        }
        return record.partition() + "\t" + record.offset() + "\t" + record.timestamp() + "\t" + record.key() + "\t"
            + record.value() + "\t" + headers;
    }
}
