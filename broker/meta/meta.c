/* Start and end: the replay of the metadata log, and the logs of every topic that it names. */
#include "broker/meta/meta.h"

#include "base/check.h"
#include "base/mem.h"
#include "broker/meta/record.h"
#include "broker/meta/settings.h"
#include "broker/meta/state.h"

enum { READ_SIZE = 1 << 20 }; /* a piece of the metadata log */

static const char meta_log_name[] = "__cluster_metadata";
static const struct uuid meta_log_id = {
    {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
};

/* ---- start and end */

static err apply(struct meta *m, const struct meta_record *r)
{
    if (r->kind == META_RECORD_PRODUCER_IDS) {
        m->next_producer_id = m->reserved_producer_id = r->next_producer_id;
        return OK;
    }
    struct entry *old = map_get(&m->by_id, r->topic_id.b, sizeof r->topic_id.b);
    if (old) {
        entry_destroy(m, old);
    }
    if (r->removed) {
        return OK;
    }
    if (meta_check_name(r->name) != OK || entry_find_twin(m, r->name)) {
        return ERR_CORRUPT; /* no change of ours leaves two topics of one name */
    }
    struct topic_config *settings =
        topic_config_restore(m->options.config, r->overrides, r->override_count, m->options.diag);
    struct entry *e =
        entry_create(m, r->name, r->topic_id, r->partition_count, r->internal, settings);
    e->topic.version = r->version;
    check(map_put(&m->by_id, r->topic_id.b, sizeof r->topic_id.b, e) == OK);
    return OK;
}

static err replay_batch(struct meta *m, const uint8_t *batch, size_t size,
                        struct config_pair *pairs)
{
    struct meta_read read;
    struct bytes key, value;
    err e = meta_read_init(&read, batch, size);
    while (e == OK && (e = meta_read_next(&read, &key, &value)) == OK) {
        struct meta_record r;
        e = meta_record_decode(key, value, pairs, &r);
        e = e == OK ? apply(m, &r) : e;
    }
    meta_read_finish(&read);
    return e == ERR_NOT_FOUND ? OK : e;
}

static err replay(struct meta *m)
{
    struct config_pair *pairs = mem_need(META_OVERRIDES_MAX * sizeof *pairs);
    uint8_t *piece = mem_need(READ_SIZE);
    int64_t offset = log_start_offset(m->log);
    err e = OK;
    while (e == OK && offset < log_end_offset(m->log)) {
        size_t size;
        e = log_read_blocking(m->log, offset, piece, READ_SIZE, &size);
        for (size_t at = 0; e == OK && at < size;) {
            size_t batch_bytes;
            e = meta_batch_end(piece + at, size - at, &batch_bytes, &offset);
            if (e == OK) {
                e = replay_batch(m, piece + at, batch_bytes, pairs);
                at += batch_bytes;
            }
        }
    }
    mem_free(piece);
    mem_free(pairs);
    if (e != OK) {
        diag_log(m->options.diag, DIAG_ERROR, "metadata_log_unreadable", "offset=%lld error=\"%s\"",
                 (long long)offset, err_text(e));
    }
    return e;
}

static err open_logs(struct meta *m)
{
    const struct shards *all = m->options.shards;
    struct map_entry *at = map_first(&m->by_id);
    for (; at; at = map_next(at)) {
        struct entry *e = map_value(at);
        struct log_config config;
        topic_log_config(e->topic.config, e->topic.internal, &config);
        for (int32_t p = 0; p < e->topic.partition_count; p++) {
            struct log_manager *logs = all->list[topic_shard(&e->topic, p, all)].logs;
            log_manager_expect_log(logs, e->topic.name, e->topic.id, p, &config);
        }
    }
    err failed = OK;
    for (int32_t i = 0; i < all->count && failed == OK; i++) {
        failed = log_manager_open_expected(all->list[i].logs, m->options.clean);
    }
    for (at = map_first(&m->by_id); at && failed == OK; at = map_next(at)) {
        entry_show(m, map_value(at));
    }
    return failed;
}

/* Directories come after the record that names their topic: where there is no record, nobody's
 * directories are ours to remove. */
static err end_start(struct meta *m)
{
    const struct shards *all = m->options.shards;
    struct log_manager **logs = mem_need((size_t)all->count * sizeof(struct log_manager *));
    for (int32_t i = 0; i < all->count; i++) {
        logs[i] = all->list[i].logs;
    }
    err e = log_end_offset(m->log) > 0 ? log_manager_remove_strays(logs, all->count) : OK;
    for (int32_t i = 0; i < all->count && e == OK; i++) {
        e = log_manager_opened(logs[i]);
    }
    mem_free(logs);
    return e;
}

err meta_open(const struct meta_options *options, struct meta **ret_meta)
{
    struct meta *m = mem_need_zero(1, sizeof *m);
    m->options = *options;
    rng_init(&m->rng, options->seed);
    map_init(&m->by_name, rng_next(&m->rng));
    map_init(&m->by_id, rng_next(&m->rng));
    map_init(&m->folded, rng_next(&m->rng));
    list_init(&m->waiting);
    list_init(&m->started);
    list_init(&m->orders);
    list_init(&m->id_waits);
    struct log_config config;
    struct log_manager *logs = home_shard(m)->logs;
    meta_log_config(options->config, &config);
    err e =
        log_manager_open_log(logs, str_of(meta_log_name), meta_log_id, 0, &config, options->clean);
    if (e == OK) {
        m->log = log_manager_find(logs, meta_log_id, 0);
        e = replay(m);
    }
    e = e == OK ? open_logs(m) : e;
    e = e == OK ? end_start(m) : e;
    if (e != OK) {
        meta_destroy(m);
        return e;
    }
    *ret_meta = m;
    return OK;
}

void meta_destroy(struct meta *m)
{
    if (!m) {
        return;
    }
    changes_finish(m);
    ids_finish(m);
    for (struct map_entry *at; (at = map_first(&m->by_name));) {
        entry_destroy(m, map_value(at));
    }
    map_finish(&m->by_name);
    map_finish(&m->by_id);
    map_finish(&m->folded);
    mem_free(m->sorted);
    mem_free(m);
}

void meta_set_config(struct meta *m, const struct config *config)
{
    m->options.config = config;
    m->config_number++;
    for (struct map_entry *at = map_first(&m->by_name); at; at = map_next(at)) {
        struct entry *e = map_value(at);
        int32_t count;
        const struct config_pair *pairs = topic_config_overrides(e->topic.config, &count);
        struct topic_config *fresh = topic_config_restore(config, pairs, count, m->options.diag);
        topic_config_destroy(e->topic.config);
        e->topic.config = fresh;
        if (e->ready) {
            set_log_configs(m, &e->topic);
        }
    }
}
