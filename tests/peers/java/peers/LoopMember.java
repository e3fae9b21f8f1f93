package peers;

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.StringJoiner;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RetriableCommitFailedException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TimeoutException;

/** NAME GROUP STRATEGY SESSION_MS HEARTBEAT_MS TOPIC...: a member of a group. What was read it commits, and waits for the answer. */
final class LoopMember implements Clients.Body, ConsumerRebalanceListener {
    private final String name;
    private final List<String> topics;
    private final Random random = new Random();
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>(); // read and not committed: the next offset
    private volatile boolean stopped;

    LoopMember(String name, List<String> args) {
        this.name = name;
        this.topics = args.subList(4, args.size());
        this.consumer = Kit.consumer("client.id", name, "group.id", args.get(0), "session.timeout.ms", args.get(2),
            "heartbeat.interval.ms", args.get(3), "retry.backoff.ms", "20",
            "retry.backoff.max.ms", "100", "partition.assignment.strategy", Seat.classesOf(args.get(1)));
    }

    @Override
    public void stop() {
        stopped = true;
    }

    @Override
    public void run() {
        consumer.subscribe(topics, this);
        long due = System.nanoTime();
        while (!stopped) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
            Follower.tellRead(name, records);
            for (ConsumerRecord<byte[], byte[]> r : records)
                pending.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1, r.leaderEpoch(), ""));
            if (System.nanoTime() - due > 0) {
                commit();
                due = System.nanoTime() + (20 + random.nextInt(180)) * 1_000_000L;
            }
        }
        consumer.close(); // it gives up what it has, and so commits
    }

    /** What is refused is tried again with the next one, unless it is somebody else's by then. */
    private void commit() {
        if (pending.isEmpty())
            return;
        Clients.say("try " + name + offsets());
        try {
            consumer.commitSync(new HashMap<>(pending));
            Clients.say("done " + name + " " + System.nanoTime() + offsets());
            pending.clear();
        } catch (CommitFailedException | RebalanceInProgressException | RetriableCommitFailedException | TimeoutException e) {
            Clients.say("refused " + name + " " + e.getClass().getSimpleName() + " " + e.getMessage());
        }
    }

    private String offsets() {
        StringJoiner places = new StringJoiner(" ", " ", "");
        pending.forEach((p, at) -> places.add(p.topic() + "/" + p.partition() + ":" + at.offset()));
        return places.toString();
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> added) {
        Clients.say("own " + name + " " + System.nanoTime() + places(added));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> gone) {
        commit();
        giveUp(gone);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> gone) {
        giveUp(gone);
    }

    private void giveUp(Collection<TopicPartition> gone) {
        gone.forEach(pending::remove);
        Clients.say("give " + name + places(gone));
    }

    private static String places(Collection<TopicPartition> partitions) {
        StringJoiner places = new StringJoiner(" ", " ", "");
        partitions.forEach(p -> places.add(p.topic() + "/" + p.partition()));
        return places.toString();
    }
}
