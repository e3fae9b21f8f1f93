package peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Groups: sharing, rebalancing, static members, commits. */
final class Groups {
    private Groups() {
    }

    static void run() {
        for (String assignor : List.of("RangeAssignor", "RoundRobinAssignor", "StickyAssignor", "CooperativeStickyAssignor"))
            T.check("group: members join and leave, " + assignor, () -> comeAndGo(assignor));
        T.check("group: static members come back without a rebalance, and are fenced", Groups::staticMembers);
        T.check("group: a member that stops polling loses its partitions", Groups::slowMember);
        T.check("commits: metadata, resume, auto-commit on close", Groups::commits);
        T.check("group: a pattern subscription follows a new topic", Groups::pattern);
    }

    /** Each record is committed before the next is read, so that the group reads each once. */
    private static void comeAndGo(String assignor) throws Exception {
        String topic = "java-group-" + assignor;
        int partitions = 6;
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, partitions, Map.of());
            Kit.sendNumbers(p, topic, partitions, 0, 120);
            Member one = Member.join(topic, topic, assignor);
            Member.untilRead(120, List.of(one));
            Member two = Member.join(topic, topic, assignor);
            Member three = Member.join(topic, topic, assignor);
            Member.untilShared(partitions, List.of(one, two, three));
            Kit.sendNumbers(p, topic, partitions, 120, 300);
            Member.untilRead(420, List.of(one, two, three));
            T.that(!two.read().isEmpty() && !three.read().isEmpty(), "a member that owns partitions read nothing");
            one.leave();
            Member.untilShared(partitions, List.of(two, three));
            Kit.sendNumbers(p, topic, partitions, 420, 120);
            Member.untilRead(540, List.of(one, two, three));
            two.leave();
            three.leave();
            Member four = Member.join(topic, topic, assignor);
            Kit.sendNumbers(p, topic, partitions, 540, 60);
            Member.untilRead(600, List.of(one, two, three, four));
            four.leave();
            once(600, List.of(one, two, three, four));
            for (var at : a.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().entrySet()) {
                T.same(100L, at.getValue().offset(), "committed offset of " + at.getKey());
                T.same("by member of " + topic, at.getValue().metadata(), "metadata of the commit");
            }
        }
    }

    private static void once(int count, List<Member> members) {
        List<Integer> numbers = new ArrayList<>(Member.all(members).stream().map(Member.Read::number).sorted().toList());
        for (int n = 0; n < count; n++)
            T.same(n, n < numbers.size() ? numbers.get(n) : null, "number " + n + " of what the group read, sorted");
        T.same(count, numbers.size(), "records read by the group");
        for (Member m : members) {
            Map<Integer, Long> last = new TreeMap<>();
            for (Member.Read r : m.read()) {
                T.that(last.getOrDefault(r.partition(), -1L) < r.offset(), "partition %d goes back to %d", r.partition(), r.offset());
                last.put(r.partition(), r.offset());
            }
        }
    }

    private static void staticMembers() throws Exception {
        String topic = "java-static";
        int partitions = 4;
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, partitions, Map.of());
            Member one = Member.join(topic, topic, "RangeAssignor", "group.instance.id", "one");
            Member two = Member.join(topic, topic, "RangeAssignor", "group.instance.id", "two");
            Member.untilShared(partitions, List.of(one, two));
            Kit.sendNumbers(p, topic, partitions, 0, 80);
            Member.untilRead(80, List.of(one, two));
            Set<Integer> before = one.owned();
            int seen = two.rebalances.get();
            one.leave();
            Member again = Member.join(topic, topic, "RangeAssignor", "group.instance.id", "one");
            T.until("the member that came back owns its partitions", 60, () -> {
                again.check();
                return again.owned().equals(before);
            });
            Kit.sendNumbers(p, topic, partitions, 80, 80);
            Member.untilRead(160, List.of(one, two, again));
            T.same(seen, two.rebalances.get(), "rebalances that the other member saw");
            Member usurper = Member.join(topic, topic, "RangeAssignor", "group.instance.id", "two");
            T.until("the first of two members with one name is fenced", 60, () -> two.error() != null);
            T.same(FencedInstanceIdException.class, T.root(two.error()).getClass(), "how the member was fenced");
            two.end();
            T.until("the second owns the partitions", 60, () -> !usurper.owned().isEmpty());
            usurper.leave();
            again.leave();
            once(160, List.of(one, two, again, usurper));
        }
    }

    private static void slowMember() throws Exception {
        String topic = "java-slow";
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, 2, Map.of());
            Kit.sendNumbers(p, topic, 2, 0, 20);
            KafkaConsumer<byte[], byte[]> slow = Kit.consumer("group.id", topic, "max.poll.interval.ms", "1500");
            slow.subscribe(List.of(topic));
            T.until("the slow member has partitions", 60, () -> {
                slow.poll(Duration.ofMillis(100));
                return slow.assignment().size() == 2;
            });
            Member other = Member.join(topic, topic, "RangeAssignor"); // and nobody polls the slow one any more
            Member.untilShared(2, List.of(other));
            Member.untilRead(20, List.of(other));
            T.fails(org.apache.kafka.clients.consumer.CommitFailedException.class,
                () -> slow.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1))));
            slow.close();
            other.leave();
            once(20, List.of(other));
        }
    }

    private static void commits() throws Exception {
        String topic = "java-commits";
        TopicPartition tp = new TopicPartition(topic, 0);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, 1, Map.of());
            Kit.sendNumbers(p, topic, 1, 0, 50);
        }
        try (KafkaConsumer<byte[], byte[]> c = Kit.consumer("group.id", topic)) {
            c.assign(List.of(tp));
            T.same(null, c.committed(Set.of(tp)).get(tp), "committed before the first commit");
            c.commitSync(Map.of(tp, new OffsetAndMetadata(17, "a note with \u00fc and \u2603")));
            T.same(new OffsetAndMetadata(17, "a note with \u00fc and \u2603"), c.committed(Set.of(tp)).get(tp), "committed");
        }
        int first = -1;
        try (KafkaConsumer<byte[], byte[]> c = Kit.consumer("group.id", topic, "enable.auto.commit", "true", "auto.commit.interval.ms",
            "600000", "max.poll.records", "10")) {
            c.subscribe(List.of(topic));
            int count = 0;
            long deadline = System.nanoTime() + 60_000_000_000L;
            while (count < 20) {
                T.that(System.nanoTime() < deadline, "nothing came");
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
                    first = first < 0 ? Kit.number(r.value()) : first;
                    count++;
                }
            }
            T.same(20, count, "records read in tens");
        } // closing commits what was returned
        T.same(17, first, "first record after the commit");
        try (KafkaConsumer<byte[], byte[]> c = Kit.consumer("group.id", topic)) {
            T.same(37L, c.committed(Set.of(tp)).get(tp).offset(), "what closing committed");
        }
    }

    private static void pattern() throws Exception {
        try (Admin a = Kit.admin();
             KafkaProducer<byte[], byte[]> p = Kit.producer();
             KafkaConsumer<byte[], byte[]> c = Kit.consumer("group.id", "java-pattern", "metadata.max.age.ms", "200")) {
            Kit.create(a, "java-pattern-a", 1, Map.of());
            c.subscribe(Pattern.compile("java-pattern-.*"));
            T.until("the first topic is assigned", 60, () -> {
                c.poll(Duration.ofMillis(50));
                return c.assignment().size() == 1;
            });
            Kit.create(a, "java-pattern-b", 2, Map.of());
            Kit.sendNumbers(p, "java-pattern-b", 2, 0, 10);
            Set<Integer> got = new TreeSet<>();
            T.until("the records of a topic that came later", 60, () -> {
                c.poll(Duration.ofMillis(50)).forEach(r -> got.add(Kit.number(r.value())));
                return got.size() == 10;
            });
        }
    }
}
