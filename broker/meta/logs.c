/* Topics are meta's, their logs the shards': what is to be done with a log is an order, a message
 * to the shard that has it. */
#include "broker/meta/settings.h"
#include "broker/meta/state.h"

#include "base/mem.h"

struct log_order {
    struct message message;
    struct list link;          /* in meta.orders */
    const struct topic *topic; /* borrowed; of a creation: it stays until that is over */
    struct uuid id;
    int32_t partition;
    struct log_config config;
    log_order_done *done;
    void *ctx;  /* for done */
    err result; /* of the shard */
};

int32_t topic_shard(const struct topic *t, int32_t partition, const struct shards *shards)
{
    return t->internal ? shard_of_internal(shards, partition)
                       : shard_of_partition(shards, t->id, partition);
}

struct shard *home_shard(const struct meta *m)
{
    return &m->options.shards->list[0];
}

static void order_free(struct log_order *o)
{
    list_remove(&o->link);
    mem_free(o);
}

static void order_back(struct message *m)
{
    struct log_order *o = list_entry(m, struct log_order, message);
    struct log_order ended = *o;
    order_free(o);
    if (ended.done) {
        ended.done(ended.ctx, ended.result);
    }
}

static bool order_send(struct meta *m, const struct topic *t, int32_t partition,
                       bool (*run)(struct message *m), log_order_done *done, void *ctx)
{
    struct log_order *o = mem_need_zero(1, sizeof *o);
    struct shards *all = m->options.shards;
    *o = (struct log_order){
        .message = {.run = run, .done = order_back},
        .topic = t,
        .id = t->id,
        .partition = partition,
        .done = done,
        .ctx = ctx
    };
    topic_log_config(t->config, t->internal, &o->config);
    list_push(&m->orders, &o->link);
    bool dealt_with =
        message_send(&o->message, home_shard(m), &all->list[topic_shard(t, partition, all)]);
    if (dealt_with) {
        order_free(o);
    }
    return dealt_with;
}

void log_orders_finish(struct meta *m)
{
    for (struct list *node; (node = list_pop(&m->orders));) {
        mem_free(list_entry(node, struct log_order, link));
    }
}

/* ---- at the log's shard */

static void ended(void *ctx, err e)
{
    struct log_order *o = ctx;
    o->result = e;
    message_return(&o->message);
}

static bool create_run(struct message *m)
{
    struct log_order *o = list_entry(m, struct log_order, message);
    log_manager_create_log(m->to->logs, o->topic->name, o->id, o->partition, &o->config, ended, o);
    return false;
}

static bool destroy_run(struct message *m)
{
    struct log_order *o = list_entry(m, struct log_order, message);
    if (!log_manager_find(m->to->logs, o->id, o->partition)) {
        return true; /* what is undone did not come as far as this one */
    }
    log_manager_destroy_log(m->to->logs, o->id, o->partition, ended, o);
    return false;
}

static bool configure_run(struct message *m)
{
    struct log_order *o = list_entry(m, struct log_order, message);
    struct log *log = log_manager_find(m->to->logs, o->id, o->partition);
    if (log) { /* else it is being deleted */
        log_set_config(log, &o->config);
    }
    return true;
}

/* ---- orders */

bool log_order_create(struct meta *m, const struct topic *t, int32_t partition,
                      log_order_done *done, void *ctx)
{
    return order_send(m, t, partition, create_run, done, ctx);
}

bool log_order_destroy(struct meta *m, const struct topic *t, int32_t partition,
                       log_order_done *done, void *ctx)
{
    return order_send(m, t, partition, destroy_run, done, ctx);
}

void set_log_configs(struct meta *m, const struct topic *t)
{
    for (int32_t p = 0; p < t->partition_count; p++) {
        order_send(m, t, p, configure_run, NULL, NULL);
    }
}
