package peers;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Clients with the settings that all checks share, and records that can be compared byte for byte. */
final class Kit {
    /** Times of records: of the past, which must not matter to what a broker knows of their producer. To Kafka they do:
        it takes the newest for the producer's last use, and forgets the producer when it is killed and starts again. */
    static final long BASE_MS = T.rivulet ? 1767225600000L : System.currentTimeMillis();

    private Kit() {
    }

    static Properties common(String... pairs) {
        Properties p = new Properties();
        p.put("bootstrap.servers", T.broker);
        p.put("reconnect.backoff.ms", "50");
        p.put("reconnect.backoff.max.ms", "200");
        p.put("request.timeout.ms", "20000");
        p.put("default.api.timeout.ms", "30000");
        for (int n = 0; n < pairs.length; n += 2)
            p.put(pairs[n], pairs[n + 1]);
        return p;
    }

    static KafkaProducer<byte[], byte[]> producer(String... pairs) {
        Properties p = common("delivery.timeout.ms", "60000", "max.block.ms", "30000");
        for (int n = 0; n < pairs.length; n += 2)
            p.put(pairs[n], pairs[n + 1]);
        p.remove("default.api.timeout.ms");
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String... pairs) {
        Properties p = common("auto.offset.reset", "earliest", "enable.auto.commit", "false", "fetch.max.wait.ms", "100",
            "session.timeout.ms", "10000", "heartbeat.interval.ms", "300");
        for (int n = 0; n < pairs.length; n += 2)
            p.put(pairs[n], pairs[n + 1]);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Admin admin() {
        return Admin.create(common());
    }

    static void create(Admin admin, String topic, int partitions, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get(30, TimeUnit.SECONDS);
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int p = 0; p < partitions; p++)
            ends.put(new TopicPartition(topic, p), OffsetSpec.latest());
        // In Kafka a topic is created before its partitions have a leader that answers.
        T.until("the partitions of " + topic + " are led", 30, () -> {
            try {
                return admin.listOffsets(ends).all().get(30, TimeUnit.SECONDS).size() == partitions;
            } catch (Exception e) {
                return false;
            }
        });
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] b) {
        return b == null ? null : new String(b, StandardCharsets.UTF_8);
    }

    /** Records "N sent", to partition N % partitions, all acknowledged when this returns. */
    static void sendNumbers(KafkaProducer<byte[], byte[]> p, String topic, int partitions, int first, int count) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int n = first; n < first + count; n++)
            sent.add(p.send(new ProducerRecord<>(topic, n % partitions, null, bytes(n + " sent"))));
        p.flush();
        for (Future<RecordMetadata> f : sent)
            f.get(30, TimeUnit.SECONDS);
    }

    static int number(byte[] value) {
        return Integer.parseInt(text(value).split(" ")[0]);
    }

    /** Records that hold what trips brokers: null and empty keys and values, all byte values, headers, big ones. */
    static List<ProducerRecord<byte[], byte[]>> records(String topic, int partitions, int count, long seed) {
        Random random = new Random(seed);
        List<ProducerRecord<byte[], byte[]>> made = new ArrayList<>();
        for (int n = 0; n < count; n++) {
            byte[] key = switch (n % 7) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> randomBytes(random, 1 + random.nextInt(300));
                default -> bytes("key-" + n);
            };
            byte[] value = switch (n % 11) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> randomBytes(random, random.nextInt(20000));
                case 3 -> bytes("the same words again and again; ".repeat(random.nextInt(500)));
                default -> bytes("value " + n + " " + random.nextLong());
            };
            List<Header> headers = new ArrayList<>();
            for (int h = 0; h < n % 3; h++)
                headers.add(new RecordHeader("h" + h, h == 1 ? null : randomBytes(random, n % 50)));
            made.add(new ProducerRecord<>(topic, n % partitions, BASE_MS + n * 1000L, key, value, headers));
        }
        return made;
    }

    private static byte[] randomBytes(Random random, int size) {
        byte[] b = new byte[size];
        random.nextBytes(b);
        return b;
    }

    static void sameRecord(ProducerRecord<byte[], byte[]> want, ConsumerRecord<byte[], byte[]> got, String what) {
        T.sameBytes(want.key(), got.key(), what + " key");
        T.sameBytes(want.value(), got.value(), what + " value");
        T.same(want.timestamp(), got.timestamp(), what + " timestamp");
        Header[] a = want.headers().toArray();
        Header[] b = got.headers().toArray();
        T.same(a.length, b.length, what + " headers");
        for (int h = 0; h < a.length; h++) {
            T.same(a[h].key(), b[h].key(), what + " header key");
            T.sameBytes(a[h].value(), b[h].value(), what + " header value");
        }
    }

    /** Reads `count` records of a topic from the start, by partition. */
    static Map<Integer, List<ConsumerRecord<byte[], byte[]>>> read(String topic, int partitions, int count, String... pairs) {
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> got = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> c = consumer(pairs)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < partitions; p++) {
                all.add(new TopicPartition(topic, p));
                got.put(p, new ArrayList<>());
            }
            c.assign(all);
            c.seekToBeginning(all);
            int seen = 0;
            long deadline = System.nanoTime() + 30_000_000_000L;
            while (seen < count) {
                T.that(System.nanoTime() < deadline, "only %d of %d records of %s came", seen, count, topic);
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                    got.get(r.partition()).add(r);
                    seen++;
                }
            }
            T.same(count, seen, "records of " + topic);
        }
        return got;
    }
}
