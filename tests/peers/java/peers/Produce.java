package peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.record.TimestampType;

/** Producing and reading back: codecs, acks, idempotence, sizes, times. */
final class Produce {
    private Produce() {
    }

    static void run() {
        int topic = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
            for (String acks : List.of("0", "1", "all")) {
                String name = "java-codec-" + codec + "-" + acks;
                int seed = topic++;
                T.check("produce " + codec + " acks=" + acks, () -> roundTrip(name, codec, acks, seed));
            }
        T.check("idempotent producer keeps 20,000 records in order, once", Produce::idempotent);
        T.check("record of 900 KB goes, of 1.2 MB is refused", Produce::sizes);
        T.check("LogAppendTime stamps records with the broker's time", Produce::appendTime);
        T.check("offsetsForTimes, beginning and end offsets, seek", Produce::times);
        T.check("auto-created topic takes its first record", Produce::autoCreate);
        T.check("long poll: an empty topic delivers a record soon after it is written", Produce::longPoll);
        if (T.rivulet)
            T.check("transactional producer is refused at once", Produce::noTransactions);
    }

    private static void roundTrip(String topic, String codec, String acks, int seed) throws Exception {
        int partitions = 3;
        List<ProducerRecord<byte[], byte[]>> sent = Kit.records(topic, partitions, 300, seed);
        try (Admin a = Kit.admin()) {
            Kit.create(a, topic, partitions, Map.of());
        }
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> p = Kit.producer("compression.type", codec, "acks", acks, "linger.ms", "5",
            "batch.size", "20000", "enable.idempotence", acks.equals("all") ? "true" : "false")) {
            for (ProducerRecord<byte[], byte[]> r : sent)
                futures.add(p.send(r));
            p.flush();
        }
        long[] next = new long[partitions];
        for (int n = 0; n < sent.size(); n++) {
            RecordMetadata m = futures.get(n).get(30, TimeUnit.SECONDS);
            if (!acks.equals("0"))
                T.same(next[m.partition()]++, m.offset(), "offset of record " + n);
        }
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> got = Kit.read(topic, partitions, sent.size());
        int[] at = new int[partitions];
        for (ProducerRecord<byte[], byte[]> r : sent) {
            ConsumerRecord<byte[], byte[]> back = got.get(r.partition()).get(at[r.partition()]);
            T.same((long) at[r.partition()]++, back.offset(), "offset");
            T.same(TimestampType.CREATE_TIME, back.timestampType(), "timestamp type");
            Kit.sameRecord(r, back, topic + "-" + r.partition() + "@" + back.offset());
        }
    }

    private static void idempotent() throws Exception {
        String topic = "java-idempotent";
        int count = 20000;
        try (Admin a = Kit.admin()) {
            Kit.create(a, topic, 4, Map.of());
        }
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> p = Kit.producer("batch.size", "2000")) {
            for (int n = 0; n < count; n++)
                futures.add(p.send(new ProducerRecord<>(topic, n % 4, null, Kit.bytes("" + n))));
            p.flush();
        }
        for (Future<RecordMetadata> f : futures)
            f.get(30, TimeUnit.SECONDS);
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> got = Kit.read(topic, 4, count);
        for (int p = 0; p < 4; p++)
            for (int n = 0; n < count / 4; n++)
                T.same("" + (n * 4 + p), Kit.text(got.get(p).get(n).value()), "record " + n + " of partition " + p);
    }

    private static void sizes() throws Exception {
        String topic = "java-sizes";
        byte[] big = new byte[900_000];
        big[0] = 1;
        big[big.length - 1] = 2;
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("max.request.size", "5000000")) {
            Kit.create(a, topic, 1, Map.of());
            p.send(new ProducerRecord<>(topic, big)).get(30, TimeUnit.SECONDS);
            T.fails(RecordTooLargeException.class,
                () -> p.send(new ProducerRecord<>(topic, new byte[1_200_000])).get(30, TimeUnit.SECONDS));
            RecordMetadata m = p.send(new ProducerRecord<>(topic, Kit.bytes("after"))).get(30, TimeUnit.SECONDS);
            T.same(1L, m.offset(), "offset after the refused record");
        }
        // A reader with limits far below the record's size must get it all the same.
        var got = Kit.read(topic, 1, 2, "max.partition.fetch.bytes", "1000", "fetch.max.bytes", "1000").get(0);
        T.sameBytes(big, got.get(0).value(), "the big record");
        T.same("after", Kit.text(got.get(1).value()), "the record after it");
    }

    private static void appendTime() throws Exception {
        String topic = "java-append-time";
        long before = System.currentTimeMillis();
        for (String codec : List.of("none", "lz4"))
            try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("compression.type", codec)) {
                Kit.create(a, topic + codec, 1, Map.of("message.timestamp.type", "LogAppendTime"));
                for (int n = 0; n < 10; n++) {
                    RecordMetadata m = p.send(new ProducerRecord<>(topic + codec, 0, 1000L, null, Kit.bytes("x" + n)))
                        .get(30, TimeUnit.SECONDS);
                    T.that(m.timestamp() >= before && m.timestamp() <= System.currentTimeMillis() + 1, "time in the answer: %d",
                        m.timestamp());
                }
                for (ConsumerRecord<byte[], byte[]> r : Kit.read(topic + codec, 1, 10).get(0)) {
                    T.same(TimestampType.LOG_APPEND_TIME, r.timestampType(), "timestamp type");
                    T.that(r.timestamp() >= before && r.timestamp() <= System.currentTimeMillis() + 1, "time: %d", r.timestamp());
                }
            }
    }

    private static void times() throws Exception {
        String topic = "java-times";
        TopicPartition tp = new TopicPartition(topic, 0);
        TopicPartition empty = new TopicPartition(topic, 1);
        try (Admin a = Kit.admin()) {
            Kit.create(a, topic, 2, Map.of());
        }
        try (KafkaProducer<byte[], byte[]> p = Kit.producer("compression.type", "gzip", "linger.ms", "20")) {
            for (int n = 0; n < 1000; n++)
                p.send(new ProducerRecord<>(topic, 0, Kit.BASE_MS + n * 1000L, null, Kit.bytes("at " + n)));
        }
        try (KafkaConsumer<byte[], byte[]> c = Kit.consumer()) {
            T.same(0L, c.beginningOffsets(List.of(tp)).get(tp), "beginning");
            T.same(1000L, c.endOffsets(List.of(tp)).get(tp), "end");
            T.same(0L, c.endOffsets(List.of(empty)).get(empty), "end of the empty partition");
            for (int n : new int[] {0, 1, 17, 499, 998, 999}) {
                OffsetAndTimestamp exact = c.offsetsForTimes(Map.of(tp, Kit.BASE_MS + n * 1000L)).get(tp);
                T.same((long) n, exact.offset(), "offset of the exact time");
                T.same(Kit.BASE_MS + n * 1000L, exact.timestamp(), "time of the exact time");
                OffsetAndTimestamp between = c.offsetsForTimes(Map.of(tp, Kit.BASE_MS + n * 1000L - 999)).get(tp);
                T.same((long) n, between.offset(), "offset of a time between two records");
            }
            T.same(null, c.offsetsForTimes(Map.of(tp, Kit.BASE_MS + 1_000_000L)).get(tp), "a time after the last record");
            T.same(null, c.offsetsForTimes(Map.of(empty, 0L)).get(empty), "a time in an empty partition");
            c.assign(List.of(tp));
            for (int n : new int[] {999, 0, 500}) {
                c.seek(tp, c.offsetsForTimes(Map.of(tp, Kit.BASE_MS + n * 1000L)).get(tp).offset());
                ConsumerRecord<byte[], byte[]> first = null;
                long deadline = System.nanoTime() + 20_000_000_000L;
                while (first == null) {
                    T.that(System.nanoTime() < deadline, "nothing at the sought place");
                    for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
                        first = r;
                        break;
                    }
                }
                T.same("at " + n, Kit.text(first.value()), "record at the sought time");
            }
            c.seek(tp, 5000); // out of range: auto.offset.reset=earliest brings it back to the start
            long deadline = System.nanoTime() + 20_000_000_000L;
            long back = -1;
            while (back < 0 && System.nanoTime() < deadline)
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
                    back = r.offset();
                    break;
                }
            T.same(0L, back, "place after a seek out of range");
        }
    }

    private static void autoCreate() throws Exception {
        try (KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            T.same(0L, p.send(new ProducerRecord<>("java-auto", Kit.bytes("x"))).get(30, TimeUnit.SECONDS).offset(), "offset");
        }
    }

    private static void longPoll() throws Exception {
        String topic = "java-poll";
        try (Admin a = Kit.admin();
             KafkaProducer<byte[], byte[]> p = Kit.producer();
             KafkaConsumer<byte[], byte[]> c = Kit.consumer("fetch.max.wait.ms", "15000", "request.timeout.ms", "25000")) {
            Kit.create(a, topic, 1, Map.of());
            c.assign(List.of(new TopicPartition(topic, 0)));
            c.poll(Duration.ofMillis(500)); // now a fetch waits in the broker, for up to 15 s
            p.send(new ProducerRecord<>(topic, Kit.bytes("woken"))).get(30, TimeUnit.SECONDS);
            int got = c.poll(Duration.ofSeconds(10)).count(); // below the fetch's own wait
            T.same(1, got, "records that came before the wait was over");
            c.close(CloseOptions.timeout(Duration.ZERO)); // not for the next fetch, which waits as well
        }
    }

    private static void noTransactions() {
        Map<String, Object> seen = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> p = Kit.producer("transactional.id", "t", "max.block.ms", "20000")) {
            long start = System.nanoTime();
            try {
                p.initTransactions();
                seen.put("outcome", "succeeded");
            } catch (org.apache.kafka.common.errors.TimeoutException e) {
                seen.put("outcome", "hung for " + (System.nanoTime() - start) / 1e9 + " s");
            } catch (KafkaException e) {
                seen.put("outcome", "refused");
            }
        }
        T.same("refused", seen.get("outcome"), "initTransactions");
    }
}
