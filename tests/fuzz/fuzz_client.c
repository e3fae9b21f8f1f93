/* librivulet against brokers that say anything: a producer, a consumer and an admin call, on
 * answers that are changed on their way (client_net.c). Time is simulated.
 *
 *   uint8 how (below) · uint8 which admin call · what becomes of each answer (client_net.c)
 *
 * What must hold: every call ends; each record that was handed over has one fate; records come in
 * order; and where nothing was changed, all of it is as it should be.
 */
#include "base/crc32c.h"
#include "client/client.h"
#include "tests/fuzz/client_net.h"

#include <string.h>

enum { SUBSCRIBES = 1, COMMITTED_ONLY = 2, TRUSTS_CRCS = 4, TRANSACTIONAL = 8, COMPRESSES = 16 };

enum { RECORDS = 6, POLLS = 8, SHORT_MS = 500, PATIENCE_MS = 5000 };

/* What fails need not be wrong. The broker has no transactions: only what is made up goes on. */
static bool anything_goes(int how)
{
    return client_net_changed() || how & TRANSACTIONAL;
}

struct fates {
    int ended;
    int delivered;
};

static void on_delivery(void *ctx, const struct rv_delivery *d)
{
    struct fates *f = ctx;
    f->ended++;
    f->delivered += d->error == NULL;
    check(f->ended <= RECORDS);
}

static void produce(struct rv_client *client, int how)
{
    struct fates fates = {0};
    struct rv_error e;
    struct rv_producer *p = NULL;
    const struct rv_option options[] = {
        {"max.block.ms",                                  "500"                            },
        {"delivery.timeout.ms",                           "2000"                           },
        {"linger.ms",                                     "0"                              },
        {"compression.type",                              how & COMPRESSES ? "lz4" : "none"},
        {how & TRANSACTIONAL ? "transactional.id" : NULL, "x"                              },
        {NULL,                                            NULL                             }
    };
    check(rv_producer_open(client, options, &p, &e) == RV_OK);
    bool open = !(how & TRANSACTIONAL);
    if (!open) {
        int code = rv_txn_init(p, PATIENCE_MS, &e);
        open = code == RV_OK && rv_txn_begin(p, &e) == RV_OK;
    }
    int sent = 0;
    for (int i = 0; i < RECORDS && open; i++) {
        const struct rv_header h = {RV_STR("name"), RV_STR("v")};
        const struct rv_message m = {.topic = "t",
                                     .key = i % 2 ? RV_STR("key") : (struct rv_bytes){0},
                                     .value = RV_STR("some value"),
                                     .headers = &h,
                                     .header_count = (size_t)i % 2};
        sent += rv_send(p, &m, on_delivery, &fates, &e) == RV_OK;
    }
    int code = !open                 ? RV_OK
               : how & TRANSACTIONAL ? rv_txn_commit(p, PATIENCE_MS, &e)
                                     : rv_flush(p, PATIENCE_MS, &e);
    check(anything_goes(how) || (code == RV_OK && fates.delivered == RECORDS));
    rv_producer_close(p);
    check(fates.ended == sent);
}

/* Every byte that was lent can be read. */
static uint32_t touch(const struct rv_record *r)
{
    uint32_t sum = crc32c(r->key.ptr, r->key.size);
    sum ^= crc32c(r->value.ptr, r->value.size);
    for (size_t i = 0; i < r->header_count; i++) {
        sum ^= crc32c(r->headers[i].name.ptr, r->headers[i].name.size);
        sum ^= crc32c(r->headers[i].value.ptr, r->headers[i].value.size);
    }
    return sum;
}

struct reader_state {
    int64_t next;  /* no record below comes */
    int got;       /* records */
    uint32_t seen; /* so that what is read is needed */
};

static void on_event(void *ctx, const struct rv_event *event)
{
    struct reader_state *s = ctx;
    if (event->kind != RV_CAUGHT_UP && event->kind != RV_FELL_BEHIND) {
        s->next = 0; /* it came again, or jumped */
    }
}

static void consume(struct rv_client *client, int how)
{
    struct rv_error e;
    struct rv_consumer *c = NULL;
    struct reader_state s = {0};
    const struct rv_partition all = {.topic = "t", .partition = 0, .offset = RV_START};
    const char *const topics[] = {"t"};
    const struct rv_option options[] = {
        {"group.id",          "g"                                                         },
        {"auto.offset.reset", "earliest"                                                  },
        {"check.crcs",        how & TRUSTS_CRCS ? "false" : "true"                        },
        {"isolation.level",   how & COMMITTED_ONLY ? "read_committed" : "read_uncommitted"},
        {NULL,                NULL                                                        }
    };
    check(rv_consumer_open(client, options, &c, &e) == RV_OK);
    rv_consumer_on_event(c, on_event, &s);
    int code = how & SUBSCRIBES ? rv_subscribe(c, topics, 1, &e) : rv_assign(c, &all, 1, &e);
    check(code == RV_OK);
    for (int i = 0; i < POLLS && (anything_goes(how) || s.got < RECORDS); i++) {
        const struct rv_record *records;
        size_t count = 0;
        (void)rv_poll(c, how & SUBSCRIBES ? PATIENCE_MS : SHORT_MS, &records, &count, &e);
        for (size_t n = 0; n < count; n++) {
            s.seen ^= touch(&records[n]);
            check(records[n].offset >= s.next);
            s.next = records[n].offset + 1;
            s.got++;
        }
    }
    check(anything_goes(how) || (s.got == RECORDS && rv_lag(c, "t", 0) == 0));
    code = rv_commit(c, NULL, 0, &e);
    check(code == RV_OK || anything_goes(how));
    (void)rv_consumer_close(c, PATIENCE_MS, &e);
}

static void administer(struct rv_client *client, int how, uint8_t which)
{
    struct rv_error e;
    void *result = NULL;
    struct rv_partition p = {.topic = "t", .partition = 0};
    int code = RV_OK;
    switch (which % 9) {
    case 0: code = rv_topic_list(client, PATIENCE_MS, (struct rv_topics **)&result, &e); break;
    case 1:
        code = rv_topic_describe(client, "t", PATIENCE_MS, (struct rv_topics **)&result, &e);
        break;
    case 2: code = rv_offsets(client, &p, 1, RV_END, PATIENCE_MS, &e); break;
    case 3:
        code = rv_config_get(client, RV_TOPIC, "t", PATIENCE_MS, (struct rv_configs **)&result, &e);
        break;
    case 4: code = rv_group_list(client, PATIENCE_MS, (struct rv_groups **)&result, &e); break;
    case 5:
        code = rv_group_describe(client, "g", PATIENCE_MS, (struct rv_group **)&result, &e);
        break;
    case 6: code = rv_topic_create(client, "u", 2, NULL, PATIENCE_MS, &e); break;
    case 7: code = rv_cluster(client, PATIENCE_MS, (struct rv_cluster **)&result, &e); break;
    default: code = rv_group_set_offsets(client, "g", &p, 1, PATIENCE_MS, &e); break;
    }
    check(code == RV_OK || anything_goes(how));
    rv_free(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    const struct rv_option options[] = {
        {"bootstrap.servers",      "broker:9092"},
        {"request.timeout.ms",     "1000"       },
        {"default.api.timeout.ms", "5000"       },
        {NULL,                     NULL         }
    };
    struct input in = {p, p + size};
    int how = input_byte(&in);
    uint8_t admin = input_byte(&in);
    struct rv_client *client = NULL;
    struct rv_error e;
    client_net_start(&in);
    check(rv_client_open(options, &client, &e) == RV_OK);
    client->clock = client_net_clock();
    rng_init(&client->rng, 1);
    produce(client, how);
    consume(client, how);
    administer(client, how, admin);
    rv_client_close(client);
    client_net_stop();
    return 0;
}
