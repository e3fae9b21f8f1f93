package peers;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** Clients that live while their broker goes away and comes back. */
final class Restarts {
    private static final int TURNS = 3;
    private static final int EACH = 400;

    private Restarts() {
    }

    static void run() {
        T.check("clients live through SIGTERM of the broker", () -> live("term"));
        T.check("clients live through kill -9 of the broker", () -> live("kill"));
    }

    private static void live(String how) throws Exception {
        String topic = "java-restart-" + how;
        int partitions = 3;
        int total = TURNS * EACH;
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("batch.size", "1000", "compression.type", "zstd")) {
            Kit.create(a, topic, partitions, Map.of());
            List<Member> members = List.of(Member.join(topic, topic, "CooperativeStickyAssignor"),
                Member.join(topic, topic, "CooperativeStickyAssignor"));
            Member.untilShared(partitions, members);
            Map<Integer, Long> committed = new TreeMap<>();
            for (int turn = 0; turn < TURNS; turn++) {
                send(p, topic, partitions, turn * EACH, EACH / 2, sent);
                T.restart(how);
                send(p, topic, partitions, turn * EACH + EACH / 2, EACH / 2, sent);
                p.flush();
                int all = (turn + 1) * EACH;
                T.until("all that was sent so far has been read", 60, () -> {
                    members.forEach(Member::check);
                    return numbers(members).size() >= all;
                });
                a.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS).forEach((tp, at) -> {
                    T.that(at.offset() >= committed.getOrDefault(tp.partition(), 0L), "the offset of %s went back to %d", tp, at.offset());
                    committed.put(tp.partition(), at.offset());
                });
            }
            for (Member m : members)
                m.leave();
            T.same(total, numbers(members).size(), "different records read by the group");
        }
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> got = Kit.read(topic, partitions, total);
        for (int n = 0; n < total; n++) {
            RecordMetadata at = sent.get(n).get(1, TimeUnit.SECONDS);
            T.same((long) (n / partitions), at.offset(), "offset that was answered for record " + n);
            T.same(n, Kit.number(got.get(n % partitions).get(n / partitions).value()), "record at its offset");
        }
    }

    private static Set<Integer> numbers(List<Member> members) {
        Set<Integer> seen = new TreeSet<>();
        Member.all(members).forEach(r -> seen.add(r.number()));
        return seen;
    }

    private static void send(KafkaProducer<byte[], byte[]> p, String topic, int partitions, int first, int count,
        List<Future<RecordMetadata>> sent) {
        for (int n = first; n < first + count; n++)
            sent.add(p.send(new ProducerRecord<>(topic, n % partitions, Kit.BASE_MS + n, null, Kit.bytes(n + " sent"))));
    }
}
