package peers;

/** usage: peers.Main BROKER CONTROL_URL rivulet|kafka [TEST] */
public final class Main {
    private Main() {
    }

    public static void main(String[] args) {
        T.broker = args[0];
        T.control = args[1];
        T.rivulet = !args[2].equals("kafka");
        T.only = args.length > 3 ? args[3] : "";
        Produce.run();
        Groups.run();
        Admins.run();
        Restarts.run();
        int code = T.finish();
        Runtime.getRuntime().halt(code); // no thread of a client may keep the program alive
    }
}
