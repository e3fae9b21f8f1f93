package peers;

import java.io.PrintStream;
import java.util.HexFormat;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** usage: peers.Placement KEYS SEED COUNT[,COUNT]...       Random keys, and where Java's producer puts each among COUNT partitions.
    A line a key: the key in hex, then the partitions. The first keys are the shortest there are, of each kind of byte. */
public final class Placement {
    private static final int SIZE_MAX = 200;

    private Placement() {
    }

    public static void main(String[] args) {
        Random random = new Random(Long.parseLong(args[1]));
        String[] counts = args[2].split(",");
        PrintStream out = new PrintStream(System.out, false);
        for (int n = 0; n < Integer.parseInt(args[0]); n++) {
            byte[] key = new byte[n < 12 ? n : random.nextInt(SIZE_MAX + 1)];
            random.nextBytes(key);
            if (n % 5 == 0)
                java.util.Arrays.fill(key, (byte) 0xff); // every byte negative in Java
            out.print(HexFormat.of().formatHex(key));
            for (String count : counts)
                out.print("\t" + BuiltInPartitioner.partitionForKey(key, Integer.parseInt(count)));
            out.print("\n");
        }
        out.flush();
    }
}
