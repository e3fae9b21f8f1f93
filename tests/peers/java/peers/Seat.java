package peers;

import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RetriableCommitFailedException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** usage: peers.Seat BROKER GROUP TOPIC[,TOPIC]... [OPTION=VALUE]...       A member as librivulet/member.c is one, with the same lines. */
public final class Seat implements ConsumerRebalanceListener {
    private static final Map<String, String> ASSIGNORS = Map.of("range", "RangeAssignor", "roundrobin", "RoundRobinAssignor",
        "cooperative-sticky", "CooperativeStickyAssignor");
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Map<TopicPartition, Long> pending = new HashMap<>(); // read and not committed: the next offset
    private final StringBuilder out = new StringBuilder();

    private Seat(KafkaConsumer<byte[], byte[]> consumer) {
        this.consumer = consumer;
    }

    public static void main(String[] args) {
        T.broker = args[0];
        T.rivulet = true;
        List<String> pairs = new ArrayList<>(List.of("group.id", args[1], "heartbeat.interval.ms", "200", "max.poll.records", "10"));
        for (int n = 3; n < args.length; n++) {
            String[] pair = args[n].split("=", 2);
            pairs.add(pair[0]);
            pairs.add(pair[0].equals("partition.assignment.strategy") ? classesOf(pair[1]) : pair[1]);
        }
        new Seat(Kit.consumer(pairs.toArray(new String[0]))).run(List.of(args[2].split(",")));
    }

    static String classesOf(String names) {
        StringJoiner classes = new StringJoiner(",");
        for (String name : names.split(","))
            classes.add("org.apache.kafka.clients.consumer." + ASSIGNORS.get(name));
        return classes.toString();
    }

    private void run(List<String> topics) {
        consumer.subscribe(topics, this);
        Thread input = new Thread(Seat::readInput);
        input.setDaemon(true);
        input.start();
        while (input.isAlive()) {
            for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(50))) {
                say("read", r.topic() + "/" + r.partition() + " " + r.offset() + " " + Kit.text(r.value()));
                pending.put(new TopicPartition(r.topic(), r.partition()), r.offset() + 1);
            }
            commit();
            flush();
        }
        consumer.close();
        say("bye", "RV_OK");
        flush();
        Runtime.getRuntime().halt(0);
    }

    /** Until its end: then the member leaves. */
    private static void readInput() {
        try {
            while (System.in.read() >= 0)
                continue;
        } catch (IOException e) {
            System.err.println("standard input: " + e);
        }
    }

    private void commit() {
        if (pending.isEmpty())
            return;
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        StringJoiner places = new StringJoiner(" ");
        pending.forEach((p, offset) -> {
            offsets.put(p, new OffsetAndMetadata(offset, "by Java"));
            places.add(p.topic() + "/" + p.partition() + ":" + offset);
        });
        say("try", places.toString());
        try {
            consumer.commitSync(offsets);
            pending.clear();
            say("done", "");
        } catch (CommitFailedException | RebalanceInProgressException | RetriableCommitFailedException e) {
            say("refused", e.getClass().getSimpleName() + " " + e.getMessage());
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> added) {
        tell("own", added);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> gone) {
        commit();
        try {
            Thread.sleep(Long.parseLong(System.getenv().getOrDefault("MEMBER_GIVE_MS", "0")));
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        tell("give", gone);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> gone) {
        tell("lost", gone);
    }

    private void tell(String what, Collection<TopicPartition> partitions) {
        StringJoiner places = new StringJoiner(" ");
        partitions.forEach(p -> places.add(p.topic() + "/" + p.partition() + ":-1"));
        if (!what.equals("own"))
            partitions.forEach(pending::remove);
        say(what, places.toString());
        flush();
    }

    private void say(String what, String rest) {
        out.append(what).append(' ').append(System.nanoTime()).append(' ').append(rest.replace('\n', ' ')).append('\n');
    }

    private void flush() {
        System.out.print(out);
        System.out.flush();
        out.setLength(0);
    }
}
