/* The load of librivulet; see load.h. */
#include "load.h"

#include <rivulet.h>

static struct rv_error error;

static void must(int code, const char *what)
{
    if (code != RV_OK) {
        load_fail(what, error.text);
    }
}

static void delivered(void *ctx, const struct rv_delivery *d)
{
    if (d->error) {
        load_fail("delivery", d->error->text);
    }
    ++*(long *)ctx;
}

static struct rv_producer *producer_open(struct rv_client *client, const struct load *l)
{
    struct rv_producer *p;
    must(rv_producer_open(client,
                          RV_OPTIONS({"batch.size", l->batch_bytes}, {"linger.ms", "5"},
                                     {"acks", "all"}, {"enable.idempotence", "true"}),
                          &p, &error),
         "producer");
    return p;
}

static void produce(struct rv_client *client, const struct load *l)
{
    struct rv_producer *p = producer_open(client, l);
    const struct rv_message m = {
        .topic = l->topic, .value = {l->value, l->size}
    };
    long count = 0;
    for (long i = 0; i < l->records; i++) {
        must(rv_send(p, &m, delivered, &count, &error), "send");
    }
    must(rv_flush(p, -1, &error), "flush");
    if (count != l->records) {
        load_fail("produce", "not all were delivered");
    }
    rv_producer_close(p);
}

static void consume(struct rv_client *client, const struct load *l)
{
    struct rv_consumer *c;
    const struct rv_partition from = {.topic = l->topic, .offset = RV_START};
    const struct rv_record *records;
    size_t count, bytes = 0;
    must(rv_consumer_open(client, NULL, &c, &error), "consumer");
    must(rv_assign(c, &from, 1, &error), "assign");
    for (long n = 0; n < l->records; n += (long)count) {
        must(rv_poll(c, 30000, &records, &count, &error), "poll");
        for (size_t i = 0; i < count; i++) {
            bytes += records[i].value.size;
        }
    }
    if (bytes != (size_t)l->records * l->size) {
        load_fail("consume", "other bytes than were produced");
    }
    rv_consumer_close(c, 10000, NULL);
}

/* A service: one record each way through a group, then what it holds. */
static void idle(struct rv_client *client, const struct load *l)
{
    struct rv_producer *p = producer_open(client, l);
    struct rv_consumer *c;
    const struct rv_message m = {
        .topic = l->topic, .value = {l->value, l->size}
    };
    const struct rv_record *records;
    size_t count = 0;
    long delivered_count = 0;
    must(rv_consumer_open(
             client, RV_OPTIONS({"group.id", "idle-rivulet"}, {"auto.offset.reset", "earliest"}),
             &c, &error),
         "consumer");
    must(rv_subscribe(c, &l->topic, 1, &error), "subscribe");
    must(rv_send(p, &m, delivered, &delivered_count, &error), "send");
    must(rv_flush(p, -1, &error), "flush");
    while (count == 0) {
        must(rv_poll(c, 1000, &records, &count, &error), "poll");
    }
    must(rv_commit(c, NULL, 0, &error), "commit");
    load_report(l, seconds_now(), cpu_seconds());
    rv_consumer_close(c, 10000, NULL);
    rv_producer_close(p);
}

int main(int argc, char **argv)
{
    struct load l = load_parse(argc, argv);
    struct rv_client *client;
    must(rv_client_open(RV_OPTIONS({"bootstrap.servers", l.broker}), &client, &error), "client");
    double began = seconds_now();
    double cpu_before = cpu_seconds();
    if (strcmp(l.kind, "idle") == 0) {
        idle(client, &l);
    } else {
        (strcmp(l.kind, "produce") == 0 ? produce : consume)(client, &l);
        load_report(&l, began, cpu_before);
    }
    rv_client_close(client);
    free(l.value);
    return 0;
}
