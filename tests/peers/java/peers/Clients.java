package peers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** usage: peers.Clients BROKER       What the kill loop has of Apache Kafka's own clients, all in one process: standard input tells which come and
    go, standard output what they are told. tests/killloop/clients.py, class Host, says the lines. */
public final class Clients {
    /** Each on a thread of its own. */
    interface Body {
        void run() throws Exception;

        void stop();
    }

    private Clients() {
    }

    public static void main(String[] args) throws IOException, InterruptedException {
        T.broker = args[0];
        T.rivulet = true;
        Map<String, Body> bodies = new HashMap<>();
        Map<String, Thread> threads = new HashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            List<String> words = Arrays.asList(line.split(" "));
            String name = words.get(1);
            if (words.get(0).equals("stop")) {
                bodies.get(name).stop();
                continue;
            }
            Body body = make(words.get(0), name, words.subList(2, words.size()));
            bodies.put(name, body);
            Thread thread = new Thread(() -> run(name, body), name);
            threads.put(name, thread);
            thread.start();
        }
        for (Thread t : threads.values())
            t.join();
    }

    private static Body make(String kind, String name, List<String> args) {
        return switch (kind) {
            case "write" -> new Writer(name, args);
            case "follow" -> new Follower(name, args);
            case "join" -> new LoopMember(name, args);
            default -> throw new IllegalArgumentException(kind);
        };
    }

    private static void run(String name, Body body) {
        try {
            body.run();
            say("bye " + name);
        } catch (Throwable e) {
            say("died " + name + " " + e + " / " + T.root(e));
        }
    }

    /** A line at once: who reads the pipe has what was told, whenever this process is killed. */
    static void say(String line) {
        byte[] bytes = Kit.bytes(line.replace('\n', ' ') + '\n');
        synchronized (System.out) {
            System.out.write(bytes, 0, bytes.length);
            System.out.flush();
        }
    }
}
