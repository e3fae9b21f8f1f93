package peers;

import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Arrays;
import java.util.Objects;
import java.util.function.BooleanSupplier;

/** The small kit of the Java checks: one line a check on standard output, as the runner reads it. */
final class T {
    interface Body {
        void run() throws Exception;
    }

    static final PrintStream OUT = System.out;
    static String broker;                      // HOST:PORT
    static String control;                     // base URL of the runner's control server
    static String only = "";                   // tests whose names contain this
    static boolean rivulet;                    // false: a real Kafka is being measured
    private static int checks;
    private static int failed;

    private T() {
    }

    static void check(String name, Body body) {
        if (!name.contains(only))
            return;
        checks++;
        long start = System.nanoTime();
        try {
            body.run();
            OUT.printf("ok %s (%.1f s)%n", name, (System.nanoTime() - start) / 1e9);
        } catch (Throwable e) {
            failed++;
            OUT.printf("not ok %s (%.1f s) | %s%n", name, (System.nanoTime() - start) / 1e9, oneLine(e));
            for (Throwable c = e; c != null; c = c.getCause())
                for (StackTraceElement at : c.getStackTrace())
                    if (at.getClassName().startsWith("peers."))
                        OUT.printf("#   at %s%n", at);
        }
        OUT.flush();
    }

    static int finish() {
        OUT.printf("done %d%n", checks);
        OUT.flush();
        return failed == 0 ? 0 : 1;
    }

    static Throwable root(Throwable e) {
        while (e.getCause() != null)
            e = e.getCause();
        return e;
    }

    private static String oneLine(Throwable e) {
        String text = e == root(e) ? e.toString() : e + " / " + root(e);
        return text.replace('\n', ' ');
    }

    static void that(boolean holds, String format, Object... args) {
        if (!holds)
            throw new AssertionError(String.format(format, args));
    }

    static void same(Object want, Object got, String what) {
        if (!Objects.equals(want, got))
            throw new AssertionError(what + ": want " + want + ", got " + got);
    }

    static void sameBytes(byte[] want, byte[] got, String what) {
        if (!Arrays.equals(want, got))
            throw new AssertionError(what + ": bytes differ (" + (want == null ? "null" : want.length) + " sent, "
                + (got == null ? "null" : got.length) + " came back)");
    }

    /** The body must fail, with that exception at the root of what it throws. */
    static void fails(Class<? extends Throwable> with, Body body) throws Exception {
        try {
            body.run();
        } catch (Throwable e) {
            for (Throwable c = e; c != null; c = c.getCause())
                if (with.isInstance(c))
                    return;
            throw new AssertionError("want " + with.getSimpleName() + ", got " + root(e), e);
        }
        throw new AssertionError("want " + with.getSimpleName() + ", but it succeeded");
    }

    static void until(String what, int seconds, BooleanSupplier holds) throws InterruptedException {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (!holds.getAsBoolean()) {
            that(System.nanoTime() < deadline, "not within %d s: %s", seconds, what);
            Thread.sleep(10);
        }
    }

    /** how: "kill" (kill -9) or "term"; returns when the broker listens again. */
    static void restart(String how) throws Exception {
        HttpResponse<String> r = HttpClient.newHttpClient().send(
            HttpRequest.newBuilder(URI.create(control + "/" + how)).timeout(Duration.ofSeconds(120)).build(),
            HttpResponse.BodyHandlers.ofString());
        that(r.statusCode() == 200, "restart failed: %s", r.body());
    }
}
