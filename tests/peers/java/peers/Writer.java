package peers;

import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** NAME TOPIC PARTITIONS SEED: idempotent, acks=all. It never waits for an answer before it sends the next record; the records are those of
    librivulet/writer.c. */
final class Writer implements Clients.Body {
    private static final int PENDING_MAX = 5000; // records without an answer: then it waits
    private final String name;
    private final String topic;
    private final int[] next;
    private final Random random;
    private final Semaphore room = new Semaphore(PENDING_MAX);
    private final CountDownLatch stopped = new CountDownLatch(1);
    private final KafkaProducer<byte[], byte[]> producer;

    Writer(String name, List<String> args) {
        this.name = name;
        this.topic = args.get(0);
        this.next = new int[Integer.parseInt(args.get(1))];
        this.random = new Random(Long.parseLong(args.get(2)));
        this.producer = Kit.producer("client.id", name, "enable.idempotence", "true", "acks", "all", "compression.type", "lz4", "linger.ms", "2",
            "delivery.timeout.ms", "600000", "max.block.ms", "600000", "retry.backoff.ms", "20", "retry.backoff.max.ms", "100");
    }

    @Override
    public void stop() {
        stopped.countDown();
    }

    @Override
    public void run() throws InterruptedException {
        do {
            for (int left = 1 + random.nextInt(20); left > 0; left--)
                send(random.nextInt(next.length));
        } while (!stopped.await(1 + random.nextInt(40), TimeUnit.MILLISECONDS));
        producer.close(); // when all are answered
    }

    private void send(int partition) throws InterruptedException {
        room.acquire();
        int n = next[partition]++;
        String head = name + "/" + partition + "/" + n + "/";
        byte[] value = Kit.bytes(head.repeat(2 + 400 / head.length()).substring(0, head.length() + n * 37 % 400));
        producer.send(new ProducerRecord<>(topic, partition, Kit.bytes(name), value), (m, e) -> {
            room.release();
            Clients.say(e == null ? "ack " + name + " " + partition + " " + n + " " + (m.hasOffset() ? m.offset() : -1)
                                  : "failed " + name + " " + partition + " " + n + " " + e);
        });
    }
}
