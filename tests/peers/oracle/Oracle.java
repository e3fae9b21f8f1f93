// The oracle of the codec: Apache's own generated message classes.
//
//   java -cp 'JARS/*' Oracle.java write LIST FILE SEED ROUNDS
//       writes ROUNDS random messages of every kind and version in LIST to FILE
//   java -cp 'JARS/*' Oracle.java read FILE
//       decodes every message of FILE and encodes it again; the bytes must be the same
//
// LIST has a line for each kind: the name of our C struct (offset_fetch_request, group_metadata_value), the first and
// the last version. FILE is gzip; big-endian; an entry is
//
//   int16 length, name | int16 version | int32 length, bytes as Java writes them
//   | int32 length, the same message with unknown tagged fields in it (0: none)
//
// Which fields a version has, and which may be null, is read from the SCHEMA_n constants of the classes.
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;

public class Oracle {
    static final String[] PACKAGES = {
        "org.apache.kafka.common.message.", "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.server.log.remote.metadata.storage.generated."};
    static final int[] CODE_POINTS = {'a', 'Z', '7', '-', '.', '_', 0xe9, 0x20ac, 0x1f30a};

    static String camel(String snake) {
        StringBuilder s = new StringBuilder();
        for (String part : snake.split("_"))
            s.append(Character.toUpperCase(part.charAt(0))).append(part.substring(1));
        return s.toString();
    }

    static Class<?> classOf(String name) {
        String wanted = camel(name);
        if (name.equals("control_record_key"))
            wanted = "ControlRecordTypeSchema";
        if (name.endsWith("_request") || name.endsWith("_response"))
            wanted += "Data";
        for (String p : PACKAGES) {
            try {
                return Class.forName(p + wanted);
            } catch (ClassNotFoundException e) {
                // the next package
            }
        }
        throw new IllegalArgumentException("no class for " + name);
    }

    static byte[] write(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        if (buffer.hasRemaining())
            throw new IllegalStateException("size and write disagree");
        return buffer.array();
    }

    // ---- random messages ----

    final Random random;
    boolean someUnknown; // were unknown tagged fields put into the message being made?

    Oracle(long seed) {
        random = new Random(seed);
    }

    int length() {
        return random.nextInt(random.nextInt(16) == 0 ? 300 : 12);
    }

    String text() {
        StringBuilder s = new StringBuilder();
        for (int n = length(); n > 0; n--)
            s.appendCodePoint(CODE_POINTS[random.nextInt(CODE_POINTS.length)]);
        return s.toString();
    }

    byte[] bytes() {
        byte[] b = new byte[length()];
        random.nextBytes(b);
        return b;
    }

    static Method setter(Class<?> owner, String field) {
        String wanted = "set" + field.replace("_", "");
        for (Method m : owner.getMethods())
            if (m.getParameterCount() == 1 && m.getName().equalsIgnoreCase(wanted))
                return m;
        throw new IllegalStateException("no setter of " + owner + " for " + field);
    }

    Object value(Type type, String wireType, short version) throws Exception {
        Class<?> raw = (Class<?>) (type instanceof ParameterizedType p ? p.getRawType() : type);
        if (Collection.class.isAssignableFrom(raw)) {
            Type element;
            Collection<Object> all;
            if (raw == List.class) {
                element = ((ParameterizedType) type).getActualTypeArguments()[0];
                all = new ArrayList<>();
            } else {
                element = ((ParameterizedType) raw.getGenericSuperclass()).getActualTypeArguments()[0];
                @SuppressWarnings("unchecked")
                Collection<Object> made = (Collection<Object>) raw.getDeclaredConstructor().newInstance();
                all = made;
            }
            for (int n = random.nextInt(4); n > 0; n--)
                all.add(value(element, "", version));
            return all;
        }
        if (raw == boolean.class || raw == Boolean.class)
            return random.nextBoolean();
        if (raw == byte.class || raw == Byte.class)
            return (byte) random.nextInt();
        if (raw == short.class || raw == Short.class)
            return (short) random.nextInt();
        if (raw == int.class || raw == Integer.class)
            return wireType.equals("UINT16") ? random.nextInt(65536) : random.nextInt();
        if (raw == long.class || raw == Long.class)
            return wireType.equals("UINT32") ? random.nextLong() & 0xffffffffL : random.nextLong();
        if (raw == double.class)
            return random.nextInt() / 16.0;
        if (raw == String.class)
            return text();
        if (raw == byte[].class)
            return bytes();
        if (raw == ByteBuffer.class)
            return ByteBuffer.wrap(bytes());
        if (raw == Uuid.class)
            return new Uuid(random.nextLong(), random.nextLong());
        if (raw.getSimpleName().equals("BaseRecords"))
            return Class.forName(raw.getPackageName() + ".MemoryRecords").getMethod("readableRecords", ByteBuffer.class)
                .invoke(null, ByteBuffer.wrap(bytes()));
        Message m = (Message) raw.getDeclaredConstructor().newInstance();
        fill(m, version);
        return m;
    }

    void set(Message m, Field f, short version, boolean nullable) throws Exception {
        if (random.nextInt(8) == 0)
            return; // the default
        Method s = setter(m.getClass(), f.name);
        Object v = nullable && random.nextInt(4) == 0
            ? null : value(s.getGenericParameterTypes()[0], f.type.toString(), version);
        s.invoke(m, v);
    }

    void fill(Message m, short version) throws Exception {
        Schema schema = ((Schema[]) m.getClass().getField("SCHEMAS").get(null))[version];
        for (BoundField b : schema.fields()) {
            if (!(b.def.type instanceof TaggedFields tagged)) {
                set(m, b.def, version, b.def.type.isNullable());
                continue;
            }
            for (Field f : tagged.fields().values())
                if (random.nextBoolean())
                    set(m, f, version, f.type.isNullable());
        }
    }

    // Puts unknown tagged fields into this message and the ones below it.
    void addUnknown(Message m, short version) throws Exception {
        Schema schema = ((Schema[]) m.getClass().getField("SCHEMAS").get(null))[version];
        for (BoundField b : schema.fields()) {
            if (b.def.type instanceof TaggedFields) {
                if (random.nextInt(2) == 0) {
                    m.unknownTaggedFields().add(new RawTaggedField(100 + random.nextInt(100), bytes()));
                    m.unknownTaggedFields().add(new RawTaggedField(100000, bytes()));
                    someUnknown = true;
                }
                continue;
            }
            Method s = setter(m.getClass(), b.def.name);
            Object v = m.getClass().getMethod(Character.toLowerCase(s.getName().charAt(3)) + s.getName().substring(4))
                .invoke(m);
            if (v instanceof Collection<?> all) {
                for (Object o : all)
                    if (o instanceof Message below)
                        addUnknown(below, version);
            } else if (v instanceof Message below) {
                addUnknown(below, version);
            }
        }
    }

    void writeAll(String list, String file, int rounds) throws Exception {
        int count = 0;
        try (DataOutputStream out = new DataOutputStream(
            new BufferedOutputStream(new GZIPOutputStream(new FileOutputStream(file))))) {
            for (String line : Files.readAllLines(Path.of(list))) {
                String[] words = line.trim().split(" ");
                Class<?> c = classOf(words[0]);
                for (short v = Short.parseShort(words[1]); v <= Short.parseShort(words[2]); v++) {
                    for (int i = 0; i < rounds; i++) {
                        Message m = (Message) c.getDeclaredConstructor().newInstance();
                        if (i > 0) // the first one has only defaults
                            fill(m, v);
                        byte[] plain = write(m, v);
                        someUnknown = false;
                        addUnknown(m, v);
                        byte[] more = someUnknown ? write(m, v) : new byte[0];
                        byte[] name = words[0].getBytes(StandardCharsets.UTF_8);
                        out.writeShort(name.length);
                        out.write(name);
                        out.writeShort(v);
                        out.writeInt(plain.length);
                        out.write(plain);
                        out.writeInt(more.length);
                        out.write(more);
                        count++;
                    }
                }
            }
        }
        System.out.println("oracle: Java wrote " + count + " messages");
    }

    static void readAll(String file) throws Exception {
        Map<String, Class<?>> classes = new HashMap<>();
        int count = 0;
        try (DataInputStream in = new DataInputStream(
            new BufferedInputStream(new GZIPInputStream(new FileInputStream(file))))) {
            while (true) {
                byte[] name;
                try {
                    name = new byte[in.readShort()];
                } catch (EOFException e) {
                    break;
                }
                in.readFully(name);
                String kind = new String(name, StandardCharsets.UTF_8);
                short version = in.readShort();
                byte[] bytes = new byte[in.readInt()];
                in.readFully(bytes);
                in.skipNBytes(in.readInt());
                Message m = (Message) classes.computeIfAbsent(kind, Oracle::classOf).getDeclaredConstructor().newInstance();
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                m.read(new ByteBufferAccessor(buffer), version);
                if (buffer.hasRemaining())
                    throw new IllegalStateException(kind + " v" + version + ": " + buffer.remaining() + " bytes left");
                if (!Arrays.equals(write(m, version), bytes))
                    throw new IllegalStateException(kind + " v" + version + ": other bytes, " + m);
                count++;
            }
        }
        if (count == 0)
            throw new IllegalStateException("no messages in " + file);
        System.out.println("oracle: Java read " + count + " messages");
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write"))
            new Oracle(Long.parseLong(args[3])).writeAll(args[1], args[2], Integer.parseInt(args[4]));
        else
            readAll(args[1]);
    }
}
