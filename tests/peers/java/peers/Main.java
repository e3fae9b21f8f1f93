package peers;

import java.util.List;

/** usage: peers.Main BROKER CONTROL_URL KIND clients|tools */
public final class Main {
    private Main() {
    }

    public static void main(String[] args) {
        T.broker = args[0];
        T.control = args[1];
        T.rivulet = !args[2].equals("kafka");
        for (String suite : List.of(args[3].split(","))) {
            switch (suite) {
                case "clients" -> {
                    Produce.run();
                    Groups.run();
                    Admins.run();
                    Restarts.run();
                }
                case "tools" -> Tools.run();
                default -> throw new IllegalArgumentException(suite);
            }
        }
        int code = T.finish();
        Runtime.getRuntime().halt(code); // no thread of a client may keep the program alive
    }
}
