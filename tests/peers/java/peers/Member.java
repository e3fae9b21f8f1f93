package peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RetriableCommitFailedException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** A member of a group on a thread of its own. It commits each record before it looks at the next. */
final class Member extends Thread implements ConsumerRebalanceListener {
    /** One record that was read. */
    record Read(int partition, long offset, int number) {
    }

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final String topic;
    private final boolean leaves; // closing tells the coordinator
    private final Set<Integer> owned = new TreeSet<>();
    private final List<Read> read = new ArrayList<>();
    final AtomicInteger rebalances = new AtomicInteger();
    private volatile boolean leaving;
    private volatile Throwable error;

    Member(String group, String topic, String assignor, String... pairs) {
        super("member of " + group);
        String[] all = new String[pairs.length + 4];
        all[0] = "group.id";
        all[1] = group;
        all[2] = "partition.assignment.strategy";
        all[3] = "org.apache.kafka.clients.consumer." + assignor;
        System.arraycopy(pairs, 0, all, 4, pairs.length);
        this.consumer = Kit.consumer(all);
        this.topic = topic;
        this.leaves = !List.of(pairs).contains("group.instance.id");
        setDaemon(true);
    }

    static Member join(String group, String topic, String assignor, String... pairs) {
        Member m = new Member(group, topic, assignor, pairs);
        m.start();
        return m;
    }

    @Override
    public void run() {
        try {
            consumer.subscribe(List.of(topic), this);
            while (!leaving)
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(100)))
                    take(r);
        } catch (WakeupException e) {
            if (!leaving)
                error = e;
        } catch (Throwable e) {
            error = e;
        }
        try {
            consumer.close();
        } catch (RuntimeException e) {
            error = error == null ? e : error;
        }
    }

    private void take(ConsumerRecord<byte[], byte[]> r) {
        synchronized (this) {
            read.add(new Read(r.partition(), r.offset(), Kit.number(r.value())));
        }
        var at = Map.of(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1, "by " + getName()));
        while (true) {
            try {
                consumer.commitSync(at);
                return;
            } catch (RetriableCommitFailedException e) {
                if (leaving)
                    return;
            } catch (org.apache.kafka.clients.consumer.CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException e) {
                return; // the group moved on meanwhile: whoever owns the partition now reads it again
            }
        }
    }

    @Override
    public synchronized void onPartitionsAssigned(Collection<TopicPartition> added) {
        added.forEach(p -> owned.add(p.partition()));
        rebalances.incrementAndGet();
    }

    @Override
    public synchronized void onPartitionsRevoked(Collection<TopicPartition> gone) {
        gone.forEach(p -> owned.remove(p.partition()));
    }

    synchronized Set<Integer> owned() {
        return new TreeSet<>(owned);
    }

    synchronized List<Read> read() {
        return new ArrayList<>(read);
    }

    Throwable error() {
        return error;
    }

    void check() {
        if (error != null)
            throw new AssertionError("a member failed: " + error, error);
    }

    void leave() throws InterruptedException {
        end();
        check();
    }

    /** Like leave, of a member that may have failed. */
    void end() throws InterruptedException {
        leaving = true;
        join(60_000);
        T.that(!isAlive(), "a member does not end");
    }

    // ---- of all of a group's members

    static List<Read> all(List<Member> members) {
        List<Read> got = new ArrayList<>();
        for (Member m : members) {
            got.addAll(m.read());
        }
        return got;
    }

    static void untilRead(int count, List<Member> members) throws InterruptedException {
        T.until(count + " records read by the group, there are " + all(members).size(), 60, () -> {
            members.forEach(Member::check);
            return all(members).size() >= count;
        });
    }

    static void untilShared(int partitions, List<Member> members) throws InterruptedException {
        T.until(members.size() + " members share " + partitions + " partitions", 60, () -> {
            List<Integer> have = new ArrayList<>();
            for (Member m : members) {
                m.check();
                if (m.owned().isEmpty())
                    return false;
                have.addAll(m.owned());
            }
            return have.size() == partitions && new TreeSet<>(have).size() == partitions;
        });
    }
}
