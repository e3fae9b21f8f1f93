/* The load of librdkafka; see load.h. Its cheapest calls: rd_kafka_produce on a topic handle, and
 * records taken from the consumer's queue by the thousand. */
#include "load.h"

#include <librdkafka/rdkafka.h>

enum { A_BATCH = 500 }; /* as many as rv_poll gives by default */

static char text[512];

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        load_fail(name, text);
    }
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *ctx)
{
    (void)rk;
    if (m->err) {
        load_fail("delivery", rd_kafka_err2str(m->err));
    }
    ++*(long *)ctx;
}

static rd_kafka_t *producer_open(const struct load *l, long *count)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", l->broker);
    set(conf, "batch.size", l->batch_bytes);
    set(conf, "linger.ms", "5");
    set(conf, "acks", "all");
    set(conf, "enable.idempotence", "true");
    set(conf, "queue.buffering.max.kbytes", "32768"); /* as buffer.memory's default */
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set_opaque(conf, count);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk) {
        load_fail("producer", text);
    }
    return rk;
}

static void send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, const struct load *l)
{
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, l->value, l->size,
                            NULL, 0, NULL) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            load_fail("send", rd_kafka_err2str(rd_kafka_last_error()));
        }
        rd_kafka_poll(rk, 100);
    }
}

static void produce(const struct load *l)
{
    long count = 0;
    rd_kafka_t *rk = producer_open(l, &count);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, l->topic, NULL);
    for (long i = 0; i < l->records; i++) {
        send_one(rk, topic, l);
        if (i % 1000 == 0) {
            rd_kafka_poll(rk, 0);
        }
    }
    rd_kafka_flush(rk, 60000);
    if (count != l->records) {
        load_fail("produce", "not all were delivered");
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

static rd_kafka_t *consumer_open(const struct load *l, const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", l->broker);
    set(conf, "group.id", group);
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "check.crcs", "true"); /* as librivulet does */
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!rk) {
        load_fail("consumer", text);
    }
    rd_kafka_poll_set_consumer(rk);
    return rk;
}

static void consume(const struct load *l)
{
    rd_kafka_t *rk = consumer_open(l, "nobody");
    rd_kafka_topic_partition_list_t *from = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(from, l->topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, from);
    rd_kafka_topic_partition_list_destroy(from);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    static rd_kafka_message_t *messages[A_BATCH];
    size_t bytes = 0;
    for (long n = 0; n < l->records;) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 30, messages, A_BATCH);
        for (ssize_t i = 0; i < got; i++) {
            if (messages[i]->err) {
                load_fail("consume", rd_kafka_message_errstr(messages[i]));
            }
            bytes += messages[i]->len;
            rd_kafka_message_destroy(messages[i]);
        }
        n += got > 0 ? (long)got : 0;
    }
    if (bytes != (size_t)l->records * l->size) {
        load_fail("consume", "other bytes than were produced");
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

static void idle(const struct load *l)
{
    long count = 0;
    rd_kafka_t *rk = producer_open(l, &count);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, l->topic, NULL);
    rd_kafka_t *consumer = consumer_open(l, "idle-rdkafka");
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, l->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(consumer, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    send_one(rk, topic, l);
    rd_kafka_flush(rk, 60000);
    rd_kafka_message_t *m = NULL;
    while (!m || m->err) {
        if (m) {
            rd_kafka_message_destroy(m);
        }
        m = rd_kafka_consumer_poll(consumer, 1000);
    }
    rd_kafka_commit_message(consumer, m, 0);
    rd_kafka_message_destroy(m);
    load_report(l, seconds_now(), cpu_seconds());
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

int main(int argc, char **argv)
{
    struct load l = load_parse(argc, argv);
    double began = seconds_now();
    double cpu_before = cpu_seconds();
    if (strcmp(l.kind, "idle") == 0) {
        idle(&l);
    } else {
        (strcmp(l.kind, "produce") == 0 ? produce : consume)(&l);
        load_report(&l, began, cpu_before);
    }
    free(l.value);
    return 0;
}
