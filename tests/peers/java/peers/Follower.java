package peers;

import java.time.Duration;
import java.util.List;
import java.util.zip.CRC32;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** NAME TOPIC/PARTITION...: reads each from 0 on, without a group, and never accepts to be put anywhere else. */
final class Follower implements Clients.Body {
    private final String name;
    private final List<TopicPartition> partitions;
    private volatile boolean stopped;

    Follower(String name, List<String> places) {
        this.name = name;
        this.partitions = places.stream().map(Follower::partition).toList();
    }

    private static TopicPartition partition(String place) {
        String[] at = place.split("/");
        return new TopicPartition(at[0], Integer.parseInt(at[1]));
    }

    @Override
    public void stop() {
        stopped = true;
    }

    @Override
    public void run() {
        try (KafkaConsumer<byte[], byte[]> c = Kit.consumer("client.id", name, "auto.offset.reset", "none", "retry.backoff.ms", "20",
                 "retry.backoff.max.ms", "100")) {
            c.assign(partitions);
            partitions.forEach(p -> c.seek(p, 0));
            while (!stopped)
                tellRead(name, c.poll(Duration.ofMillis(100)));
        } catch (InvalidOffsetException e) { // out of range, or a log that was cut
            Clients.say("reset " + name + " " + e);
        }
    }

    /** What one poll brought: a line for each run of offsets without a gap. */
    static void tellRead(String name, ConsumerRecords<byte[], byte[]> records) {
        for (TopicPartition p : records.partitions()) {
            StringBuilder line = new StringBuilder();
            long next = -1;
            for (ConsumerRecord<byte[], byte[]> r : records.records(p)) {
                if (r.offset() != next && line.length() > 0) {
                    Clients.say(line.toString());
                    line.setLength(0);
                }
                if (line.length() == 0)
                    line.append("read ").append(name).append(' ').append(p.topic()).append('/').append(p.partition()).append(' ').append(r.offset());
                CRC32 crc = new CRC32();
                crc.update(r.value());
                line.append(' ').append(Long.toHexString(crc.getValue()));
                next = r.offset() + 1;
            }
            Clients.say(line.toString());
        }
    }
}
