package peers;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What tools and UIs ask of a broker. */
final class Admins {
    private static final int LIMIT_S = 30;

    private Admins() {
    }

    static void run() {
        T.check("admin: the cluster and its node", Admins::cluster);
        T.check("admin: create, describe and delete topics, by name and by id", Admins::topics);
        T.check("admin: what a topic cannot be is refused with its own error", Admins::refused);
        T.check("admin: settings of topics and of the broker", Admins::configs);
        T.check("admin: offsets by earliest, latest, time, newest time", Admins::offsets);
        T.check("admin: groups: list, describe, offsets altered and deleted, deleted", Admins::groups);
        T.check("admin: log directories", Admins::logDirs);
        T.check("admin: more partitions, and a group that takes them", Admins::morePartitions);
        T.check("admin: records deleted, and what readers see of it", Admins::deleteRecords);
        T.check("admin: elections, reassignments, producers, what has settings", Admins::oneReplica);
    }

    private static void cluster() throws Exception {
        try (Admin a = Kit.admin()) {
            var d = a.describeCluster();
            T.same(1, d.nodes().get(LIMIT_S, TimeUnit.SECONDS).size(), "nodes");
            T.same(T.broker, d.controller().get().host() + ":" + d.controller().get().port(), "address of the controller");
            T.that(!d.clusterId().get().isEmpty(), "no cluster id");
        }
    }

    private static void topics() throws Exception {
        String topic = "java-admin-topics";
        try (Admin a = Kit.admin()) {
            var made = a.createTopics(List.of(new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "7200000"))));
            made.all().get(LIMIT_S, TimeUnit.SECONDS);
            T.same(3, made.numPartitions(topic).get(), "partitions in the answer");
            T.same("7200000", made.config(topic).get().get("retention.ms").value(), "a setting in the answer");
            Uuid id = made.topicId(topic).get();
            TopicDescription byName = a.describeTopics(List.of(topic)).allTopicNames().get(LIMIT_S, TimeUnit.SECONDS).get(topic);
            TopicDescription byId = a.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get(LIMIT_S, TimeUnit.SECONDS).get(id);
            T.same(id, byName.topicId(), "id by name");
            T.same(topic, byId.name(), "name by id");
            T.same(List.of(0, 1, 2), byName.partitions().stream().map(p -> p.partition()).toList(), "partitions");
            byName.partitions().forEach(p -> T.that(p.leader() != null && p.isr().size() == 1, "partition %d has no leader", p.partition()));
            T.that(a.listTopics().names().get(LIMIT_S, TimeUnit.SECONDS).contains(topic), "the topic is not listed");
            a.createTopics(List.of(new NewTopic("java-admin-asked", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all()
                .get(LIMIT_S, TimeUnit.SECONDS);
            T.that(!a.listTopics().names().get(LIMIT_S, TimeUnit.SECONDS).contains("java-admin-asked"), "a validated topic was made");
            a.createTopics(List.of(new NewTopic("java-admin-given", Map.of(0, List.of(byName.partitions().get(0).leader().id()))))).all()
                .get(LIMIT_S, TimeUnit.SECONDS);
            a.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get(LIMIT_S, TimeUnit.SECONDS);
            a.deleteTopics(List.of("java-admin-given")).all().get(LIMIT_S, TimeUnit.SECONDS);
            T.until("deleted topics are not listed", LIMIT_S, () -> {
                try {
                    Set<String> names = a.listTopics().names().get(LIMIT_S, TimeUnit.SECONDS);
                    return !names.contains(topic) && !names.contains("java-admin-given");
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
            });
            T.fails(UnknownTopicOrPartitionException.class, () -> a.deleteTopics(List.of(topic)).all().get(LIMIT_S, TimeUnit.SECONDS));
            T.fails(UnknownTopicIdException.class,
                () -> a.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get(LIMIT_S, TimeUnit.SECONDS));
            var remade = a.createTopics(List.of(new NewTopic(topic, 1, (short) 1)));
            T.that(!remade.topicId(topic).get(LIMIT_S, TimeUnit.SECONDS).equals(id), "the new topic has the old one's id");
        }
    }

    private static void refused() throws Exception {
        try (Admin a = Kit.admin()) {
            Kit.create(a, "java-admin-there", 1, Map.of());
            creating(a, TopicExistsException.class, new NewTopic("java-admin-there", 1, (short) 1));
            creating(a, InvalidTopicException.class, new NewTopic("not a name", 1, (short) 1));
            creating(a, InvalidPartitionsException.class, new NewTopic("java-admin-none", 0, (short) 1));
            creating(a, InvalidReplicationFactorException.class, new NewTopic("java-admin-many", 1, (short) 3));
            creating(a, InvalidConfigurationException.class, new NewTopic("java-admin-bad", 1, (short) 1).configs(Map.of("retention.ms", "soon")));
            creating(a, InvalidConfigurationException.class, new NewTopic("java-admin-odd", 1, (short) 1).configs(Map.of("no.such.setting", "1")));
        }
    }

    private static void creating(Admin a, Class<? extends Throwable> fails, NewTopic topic) throws Exception {
        T.fails(fails, () -> a.createTopics(List.of(topic)).all().get(LIMIT_S, TimeUnit.SECONDS));
    }

    private static void configs() throws Exception {
        String topic = "java-admin-configs";
        ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("compression.type", "none")) {
            Kit.create(a, topic, 1, Map.of("segment.bytes", "2097152"));
            T.same("2097152", config(a, r).get("segment.bytes").value(), "given at creation");
            T.same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config(a, r).get("segment.bytes").source(), "its source");
            T.same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, config(a, r).get("max.message.bytes").source(), "source of one that was not given");
            a.incrementalAlterConfigs(Map.of(r, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "3000"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("segment.bytes", null), AlterConfigOp.OpType.DELETE)))).all().get(LIMIT_S, TimeUnit.SECONDS);
            T.same("3000", config(a, r).get("max.message.bytes").value(), "set");
            T.same("1073741824", config(a, r).get("segment.bytes").value(), "deleted: the default again");
            T.fails(org.apache.kafka.common.errors.RecordTooLargeException.class,
                () -> p.send(new ProducerRecord<>(topic, new byte[5000])).get(LIMIT_S, TimeUnit.SECONDS));
            p.send(new ProducerRecord<>(topic, new byte[2000])).get(LIMIT_S, TimeUnit.SECONDS);
            T.fails(InvalidConfigurationException.class, () -> a.incrementalAlterConfigs(Map.of(r, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "-7"), AlterConfigOp.OpType.SET)))).all().get(LIMIT_S, TimeUnit.SECONDS));
            T.same("3000", config(a, r).get("max.message.bytes").value(), "after a change that was refused");
            int id = a.describeCluster().nodes().get().iterator().next().id();
            ConfigResource node = new ConfigResource(ConfigResource.Type.BROKER, "" + id);
            T.that(config(a, node).get("log.retention.ms") != null, "the broker has no log.retention.ms");
        }
    }

    private static Config config(Admin a, ConfigResource r) throws Exception {
        return a.describeConfigs(List.of(r)).all().get(LIMIT_S, TimeUnit.SECONDS).get(r);
    }

    private static void offsets() throws Exception {
        String topic = "java-admin-offsets";
        TopicPartition tp = new TopicPartition(topic, 0);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, 1, Map.of());
            long[] times = {100, 300, 900, 200, 400};
            for (long t : times)
                p.send(new ProducerRecord<>(topic, 0, Kit.BASE_MS + t, null, Kit.bytes("x"))).get(LIMIT_S, TimeUnit.SECONDS);
            T.same(0L, offset(a, tp, OffsetSpec.earliest()).offset(), "earliest");
            T.same(5L, offset(a, tp, OffsetSpec.latest()).offset(), "latest");
            T.same(2L, offset(a, tp, OffsetSpec.maxTimestamp()).offset(), "newest time");
            T.same(Kit.BASE_MS + 900, offset(a, tp, OffsetSpec.maxTimestamp()).timestamp(), "the newest time itself");
            T.same(1L, offset(a, tp, OffsetSpec.forTimestamp(Kit.BASE_MS + 150)).offset(), "first of that time or later");
            T.same(-1L, offset(a, tp, OffsetSpec.forTimestamp(Kit.BASE_MS + 901)).offset(), "none of that time or later");
        }
    }

    private static void morePartitions() throws Exception {
        String topic = "java-admin-more";
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("metadata.max.age.ms", "200");
             KafkaConsumer<byte[], byte[]> c = Kit.consumer("group.id", topic, "metadata.max.age.ms", "200")) {
            Kit.create(a, topic, 1, Map.of());
            Kit.sendNumbers(p, topic, 1, 0, 10);
            c.subscribe(List.of(topic));
            Set<Integer> read = new TreeSet<>(); // a rebalance may bring some twice
            T.until("the group reads what is there", LIMIT_S, () -> readTo(c, read) >= 10);
            growing(a, InvalidPartitionsException.class, topic, NewPartitions.increaseTo(1));
            growing(a, InvalidReplicaAssignmentException.class, topic, NewPartitions.increaseTo(3, List.of(List.of(77), List.of(77))));
            growing(a, UnknownTopicOrPartitionException.class, "java-admin-nobody-made-it", NewPartitions.increaseTo(2));
            a.createPartitions(Map.of(topic, NewPartitions.increaseTo(4)), new CreatePartitionsOptions().validateOnly(true)).all()
                .get(LIMIT_S, TimeUnit.SECONDS);
            T.same(1, count(a, topic), "partitions after a validation");
            a.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get(LIMIT_S, TimeUnit.SECONDS);
            T.until("the topic has 4 partitions", LIMIT_S, () -> count(a, topic) == 4);
            T.until("the producer knows them", LIMIT_S, () -> p.partitionsFor(topic).size() == 4);
            Kit.sendNumbers(p, topic, 4, 10, 40);
            T.until("the group reads the new partitions too", LIMIT_S, () -> readTo(c, read) >= 50);
            T.same(50, read.size(), "records");
            T.same(4, c.assignment().size(), "partitions of the only member");
        }
    }

    private static int readTo(KafkaConsumer<byte[], byte[]> c, Set<Integer> read) {
        c.poll(Duration.ofMillis(100)).forEach(r -> read.add(Kit.number(r.value())));
        return read.size();
    }

    private static int count(Admin a, String topic) {
        try {
            return a.describeTopics(List.of(topic)).allTopicNames().get(LIMIT_S, TimeUnit.SECONDS).get(topic).partitions().size();
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    private static void growing(Admin a, Class<? extends Throwable> fails, String topic, NewPartitions to) throws Exception {
        T.fails(fails, () -> a.createPartitions(Map.of(topic, to)).all().get(LIMIT_S, TimeUnit.SECONDS));
    }

    private static void deleteRecords() throws Exception {
        String topic = "java-admin-delete";
        TopicPartition tp = new TopicPartition(topic, 0);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer();
             KafkaConsumer<byte[], byte[]> c = Kit.consumer("auto.offset.reset", "none")) {
            Kit.create(a, topic, 1, Map.of());
            Kit.sendNumbers(p, topic, 1, 0, 20);
            T.same(6L, deleted(a, tp, 6), "low watermark");
            T.same(6L, deleted(a, tp, 3), "low watermark when less is asked for");
            T.same(6L, offset(a, tp, OffsetSpec.earliest()).offset(), "earliest");
            T.fails(OffsetOutOfRangeException.class, () -> deleted(a, tp, 21));
            c.assign(List.of(tp));
            c.seek(tp, 5);
            T.fails(org.apache.kafka.clients.consumer.OffsetOutOfRangeException.class, () -> {
                for (int n = 0; n < 300; n++)
                    c.poll(Duration.ofMillis(100));
            });
            c.seek(tp, 6);
            int[] read = {0};
            T.until("the rest is read", LIMIT_S, () -> (read[0] += c.poll(Duration.ofMillis(100)).count()) >= 14);
            T.same(14, read[0], "records that are left");
            T.same(20L, deleted(a, tp, -1), "low watermark after all of it");
            T.same(20L, offset(a, tp, OffsetSpec.earliest()).offset(), "earliest");
            Kit.sendNumbers(p, topic, 1, 20, 1);
            T.same(21L, offset(a, tp, OffsetSpec.latest()).offset(), "latest");
        }
    }

    private static long deleted(Admin a, TopicPartition tp, long before) throws Exception {
        return a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(before))).lowWatermarks().get(tp).get(LIMIT_S, TimeUnit.SECONDS)
            .lowWatermark();
    }

    private static void oneReplica() throws Exception {
        String topic = "java-admin-replica";
        TopicPartition tp = new TopicPartition(topic, 0);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, 1, Map.of());
            Kit.sendNumbers(p, topic, 1, 0, 3);
            for (ElectionType type : ElectionType.values()) {
                var elected = a.electLeaders(type, Set.of(tp)).partitions().get(LIMIT_S, TimeUnit.SECONDS);
                T.that(elected.get(tp).get() instanceof ElectionNotNeededException, "%s election: %s", type, elected.get(tp));
                T.same(Map.of(), a.electLeaders(type, null).partitions().get(LIMIT_S, TimeUnit.SECONDS), "elections of all topics");
            }
            T.same(Map.of(), a.listPartitionReassignments().reassignments().get(LIMIT_S, TimeUnit.SECONDS), "reassignments");
            T.same(Map.of(), a.listPartitionReassignments(Set.of(tp)).reassignments().get(LIMIT_S, TimeUnit.SECONDS), "of a partition");
            var producers = a.describeProducers(List.of(tp)).partitionResult(tp).get(LIMIT_S, TimeUnit.SECONDS).activeProducers();
            T.same(1, producers.size(), "producers");
            T.same(2, producers.get(0).lastSequence(), "last sequence number");
            T.that(producers.get(0).currentTransactionStartOffset().isEmpty(), "a transaction is open");
            var resources = a.listConfigResources().all().get(LIMIT_S, TimeUnit.SECONDS);
            T.that(resources.contains(new ConfigResource(ConfigResource.Type.TOPIC, topic)), "the topic is not listed: %s", resources);
            T.that(resources.stream().anyMatch(r -> r.type() == ConfigResource.Type.BROKER), "the broker is not listed: %s", resources);
            T.same(List.of(), List.copyOf(a.listConfigResources(Set.of(ConfigResource.Type.GROUP), new ListConfigResourcesOptions()).all()
                .get(LIMIT_S, TimeUnit.SECONDS)), "groups with settings");
        }
    }

    private static ListOffsetsResultInfo offset(Admin a, TopicPartition tp, OffsetSpec spec) throws Exception {
        return a.listOffsets(Map.of(tp, spec)).partitionResult(tp).get(LIMIT_S, TimeUnit.SECONDS);
    }

    private static void groups() throws Exception {
        String topic = "java-admin-groups";
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer()) {
            Kit.create(a, topic, 2, Map.of());
            Kit.sendNumbers(p, topic, 2, 0, 20);
            Member m = Member.join(topic, topic, "RangeAssignor", "client.id", "the-one");
            Member.untilRead(20, List.of(m));
            ConsumerGroupDescription d = describe(a, topic);
            T.same(GroupState.STABLE, d.groupState(), "state");
            T.same("range", d.partitionAssignor(), "assignor");
            T.same(List.of("the-one"), d.members().stream().map(x -> x.clientId()).toList(), "members");
            T.same(Set.of(zero, one), d.members().iterator().next().assignment().topicPartitions(), "assignment");
            T.that(d.members().iterator().next().host().contains("127.0.0.1"), "host: %s", d.members().iterator().next().host());
            T.fails(GroupNotEmptyException.class, () -> a.deleteConsumerGroups(List.of(topic)).all().get(LIMIT_S, TimeUnit.SECONDS));
            T.fails(GroupSubscribedToTopicException.class,
                () -> a.deleteConsumerGroupOffsets(topic, Set.of(zero)).all().get(LIMIT_S, TimeUnit.SECONDS));
            m.leave();
            T.same(GroupState.EMPTY, describe(a, topic).groupState(), "state after the last has left");
            T.that(listed(a).contains(topic), "the group is not listed");
            a.alterConsumerGroupOffsets(topic, Map.of(zero, new OffsetAndMetadata(4))).all().get(LIMIT_S, TimeUnit.SECONDS);
            a.deleteConsumerGroupOffsets(topic, Set.of(one)).all().get(LIMIT_S, TimeUnit.SECONDS);
            Map<TopicPartition, OffsetAndMetadata> have = a.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get(LIMIT_S, TimeUnit.SECONDS);
            T.same(Set.of(zero), have.keySet(), "partitions with an offset");
            T.same(4L, have.get(zero).offset(), "the altered offset");
            a.deleteConsumerGroups(List.of(topic)).all().get(LIMIT_S, TimeUnit.SECONDS);
            T.that(!listed(a).contains(topic), "the deleted group is listed");
            T.fails(GroupIdNotFoundException.class, () -> a.deleteConsumerGroups(List.of(topic)).all().get(LIMIT_S, TimeUnit.SECONDS));
        }
    }

    private static ConsumerGroupDescription describe(Admin a, String group) throws Exception {
        return a.describeConsumerGroups(List.of(group)).all().get(LIMIT_S, TimeUnit.SECONDS).get(group);
    }

    private static Set<String> listed(Admin a) throws Exception {
        return a.listGroups().all().get(LIMIT_S, TimeUnit.SECONDS).stream().map(g -> g.groupId()).collect(Collectors.toSet());
    }

    private static void logDirs() throws Exception {
        String topic = "java-admin-dirs";
        try (Admin a = Kit.admin(); KafkaProducer<byte[], byte[]> p = Kit.producer("compression.type", "none")) {
            Kit.create(a, topic, 1, Map.of());
            p.send(new ProducerRecord<>(topic, new byte[100_000])).get(LIMIT_S, TimeUnit.SECONDS);
            Collection<Integer> ids = a.describeCluster().nodes().get().stream().map(n -> n.id()).toList();
            for (var dirs : a.describeLogDirs(ids).allDescriptions().get(LIMIT_S, TimeUnit.SECONDS).values()) {
                T.same(1, dirs.size(), "directories");
                var dir = dirs.values().iterator().next();
                T.same(null, dir.error(), "error of the directory");
                T.that(dir.replicaInfos().get(new TopicPartition(topic, 0)).size() >= 100_000, "size of the partition");
                T.that(dir.totalBytes().getAsLong() > 0 && dir.usableBytes().getAsLong() >= 0, "space of the disk");
            }
        }
    }
}
