/* Replay: at the start, and of what was just made durable; one code for both. */
#include "broker/coord/internal.h"

enum { LOAD_BUFFER_SIZE = 1 << 20, BROKEN_LOGGED_MAX = 10 };

static struct coord_group *group_for(struct coord *c, struct str id, const struct group_record *r)
{
    struct coord_group *cg = coord_group_get(c, id);
    bool adds = r->kind == GROUP_RECORD_OFFSET || r->kind == GROUP_RECORD_METADATA;
    return cg || !adds ? cg : coord_group_make(c, id);
}

static void log_broken(struct coord *c, const struct record *record, int64_t count, err e)
{
    if (count <= BROKEN_LOGGED_MAX) {
        diag_log(c->diag, DIAG_WARN, "group_record_broken", "offset=%lld error=\"%s\"",
                 (long long)record->offset, err_text(e));
    }
}

static void apply_record(struct coord *c, const struct record *record, struct arena *arena,
                         struct coord_load_counts *counts)
{
    struct str group_id;
    struct group_record r;
    err e = coord_record_read(record, arena, &group_id, &r);
    counts->records++;
    if (e == ERR_UNSUPPORTED) {
        counts->unknown++;
        return;
    }
    if (e) {
        log_broken(c, record, ++counts->broken, e);
        return;
    }
    struct coord_group *cg = group_for(c, group_id, &r);
    if (cg) {
        cg->may_expire |= r.kind == GROUP_RECORD_OFFSET && r.expire_ms >= 0;
        group_apply(cg->g, &r);
        coord_group_weigh(cg);
    }
}

/* The batch's checksum was seen to be right; what its records say may still be nonsense, and is
 * counted. */
void coord_apply_batch(struct coord *c, const uint8_t *batch, size_t size,
                       struct coord_load_counts *counts)
{
    struct batch_iterator it;
    struct record record;
    struct arena arena;
    arena_init(&arena, SIZE_MAX); /* bounded by the batch: reset for each record */
    err e = batch_iterator_init(&it, batch, size, SIZE_MAX, &c->scratch);
    while (!e && !(e = batch_iterator_next(&it, &record))) {
        if (it.header.attributes & BATCH_ATTRIBUTE_CONTROL) {
            continue;
        }
        if (it.header.attributes & BATCH_ATTRIBUTE_TRANSACTIONAL) {
            counts->transactional++;
            continue;
        }
        apply_record(c, &record, &arena, counts);
        arena_reset(&arena);
    }
    arena_finish(&arena);
    if (e != ERR_NOT_FOUND) {
        counts->broken++;
        diag_log(c->diag, DIAG_WARN, "group_batch_broken", "offset=%lld error=\"%s\"",
                 (long long)it.header.base_offset, err_text(e));
    }
}

/* All batches in p; *ret_next is the offset after the last one. */
static err apply_batches(struct coord *c, const uint8_t *p, size_t size,
                         struct coord_load_counts *counts, int64_t *ret_next)
{
    while (size > 0) {
        struct batch_header header;
        err e = batch_header_read(p, size, &header);
        if (e || header.size > size) {
            return e ? e : ERR_CORRUPT;
        }
        coord_apply_batch(c, p, header.size, counts);
        *ret_next = header.base_offset + header.last_offset_delta + 1;
        p += header.size;
        size -= header.size;
    }
    return OK;
}

static err load_log(struct coord *c, struct log *log, struct buf *buf,
                    struct coord_load_counts *counts)
{
    int64_t next = log_start_offset(log);
    while (next < log_high_watermark(log)) {
        size_t size;
        err e = log_read_blocking(log, next, buf->ptr, buf->size, &size);
        if (e == ERR_LIMIT) {
            if (!buf_reserve(buf, buf->size * 2)) {
                return ERR_MEMORY;
            }
            continue;
        }
        if (!e && size == 0) {
            e = ERR_CORRUPT; /* the log has more, and does not give it */
        }
        if (!e) {
            e = apply_batches(c, (const uint8_t *)buf->ptr, size, counts, &next);
        }
        if (e) {
            return e;
        }
    }
    return OK;
}

/* What was read of a partition that could not be read to its end is forgotten again. */
static void refuse(struct coord *c, int32_t partition, err e)
{
    diag_log(c->diag, DIAG_ERROR, "groups_refused",
             "topic=" COORD_TOPIC " partition=%d error=\"%s\" reason=\"its groups are not served\"",
             partition, err_text(e));
    c->refused[partition] = true;
    c->refused_count++;
    list_each_safe(link, after, &c->order)
    {
        struct coord_group *cg = list_entry(link, struct coord_group, link);
        if (coord_partition_of(cg->g->id, c->partition_count) == partition) {
            coord_group_drop(cg);
        }
    }
}

static void loaded(struct coord *c)
{
    list_each_safe(link, after, &c->order)
    {
        coord_run(list_entry(link, struct coord_group, link),
                  &(struct group_event){.kind = GROUP_EVENT_LOADED});
    }
    coord_expiry_loaded(c);
    coord_drain(c);
}

err coord_load(struct coord *c)
{
    const struct topic *topic = meta_find(c->meta, STR(COORD_TOPIC));
    if (!topic) {
        return OK;
    }
    coord_adopt_topic(c, topic);
    struct buf buf = {0};
    struct coord_load_counts counts = {0};
    int64_t began_us = clock_mono_us(c->clock);
    err e = buf_reserve(&buf, LOAD_BUFFER_SIZE) ? OK : ERR_MEMORY;
    for (int32_t i = 0; i < c->partition_count && !e; i++) {
        if (shard_of_internal(c->shard->all, i) != c->shard->index) {
            continue;
        }
        struct log *log = log_manager_find(c->shard->logs, c->topic_id, i);
        err failed = log ? load_log(c, log, &buf, &counts) : ERR_NOT_FOUND;
        if (failed == ERR_MEMORY) {
            e = failed;
        } else if (failed) {
            refuse(c, i, failed);
        }
    }
    buf_finish(&buf);
    if (e) {
        return e;
    }
    loaded(c);
    if (counts.unknown || counts.broken || counts.transactional) {
        diag_log(c->diag, DIAG_WARN, "group_records_skipped",
                 "unknown=%lld broken=%lld transactional=%lld", (long long)counts.unknown,
                 (long long)counts.broken, (long long)counts.transactional);
    }
    diag_log(c->diag, DIAG_INFO, "groups_loaded", "groups=%zu records=%lld ms=%lld",
             map_count(&c->groups), (long long)counts.records,
             (long long)(clock_mono_us(c->clock) - began_us) / 1000);
    return OK;
}
