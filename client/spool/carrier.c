/* Sending by client/sealed, over the network. */
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

static int by_identity(void *ctx, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                       struct rv_error *ret_error)
{
    const struct rv_spool *s = ctx;
    return sealed_identity(s->sealed, timeout_ms, ret_id, ret_epoch, ret_error);
}

static int by_partitions(void *ctx, const char *topic, int timeout_ms, int32_t *ret_count,
                         struct rv_error *ret_error)
{
    const struct rv_spool *s = ctx;
    return sealed_partitions(s->sealed, topic, timeout_ms, ret_count, ret_error);
}

static int by_ends(void *ctx, struct rv_partition *partitions, size_t count, int timeout_ms,
                   struct rv_error *ret_error)
{
    const struct rv_spool *s = ctx;
    return rv_offsets(s->client, partitions, count, RV_END, timeout_ms, ret_error);
}

static int by_send(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                   struct rv_error *ret_error)
{
    const struct rv_spool *s = ctx;
    return sealed_send(s->sealed, batches, count, timeout_ms, ret_error);
}

/* The client's other business goes on meanwhile. */
static void by_pause(void *ctx, int ms)
{
    const struct rv_spool *s = ctx;
    int64_t until_ms = clock_after_ms(s->clock, ms);
    int64_t left;
    while ((left = until_ms - clock_mono_ms(s->clock)) > 0) {
        struct rv_error e; /* what it says is of others, who hear of it by their own calls */
        (void)rv_wait(s->client, (int)left, &e);
    }
}

int carrier_attach(struct rv_spool *s, struct rv_client *client, struct carrier *ret_carrier,
                   struct rv_error *ret_error)
{
    if (s->client != client || !s->sealed) {
        struct sealed *fresh = sealed_create(client);
        if (!fresh) {
            return fail_memory(ret_error);
        }
        sealed_destroy(s->sealed);
        s->sealed = fresh;
        s->client = client;
        identity_drop(s); /* it may be of another cluster */
    }
    *ret_carrier = (struct carrier){.identity = by_identity,
                                    .partitions = by_partitions,
                                    .ends = by_ends,
                                    .send = by_send,
                                    .pause = by_pause,
                                    .ctx = s};
    return RV_OK;
}
