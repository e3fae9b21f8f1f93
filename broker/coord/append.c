/* From a group's wish to records on disk, and back. */
#include "broker/coord/internal.h"

#include <stdio.h>

/* Its records are in the log, or will never be. The group hears of it when all earlier ones of it
 * have ended too. */
static void ended(struct coord_append *a, err e)
{
    a->ended = true;
    a->result = e;
    struct coord_group *cg = a->group;
    if (!cg) {
        list_remove(&a->wait);
        buf_finish(&a->batch);
        mem_free(a);
        return;
    }
    if (!list_linked(&cg->settle)) {
        list_push(&a->coord->settling, &cg->settle);
    }
}

static void durable(struct log_append *log, err e)
{
    struct coord_append *a = list_entry(log, struct coord_append, log);
    struct coord *c = a->coord;
    ended(a, e);
    coord_drain(c);
}

void coord_appends_forget(struct coord_group *cg)
{
    for (struct list *link; (link = list_pop(&cg->appends));) {
        struct coord_append *a = list_entry(link, struct coord_append, link);
        a->group = NULL;
        if (a->ended) {
            buf_finish(&a->batch);
            mem_free(a);
        }
    }
}

static enum group_error error_of(err e)
{
    return e == OK ? GROUP_OK : e == ERR_LIMIT ? GROUP_TOO_LARGE : GROUP_NOT_AVAILABLE;
}

bool coord_settle(struct coord_group *cg)
{
    struct coord *c = cg->coord;
    for (bool alive = true; alive && !list_empty(&cg->appends);) {
        struct coord_append *a = list_entry(cg->appends.next, struct coord_append, link);
        if (!a->ended) {
            break;
        }
        list_remove(&a->link);
        if (a->result == OK) {
            struct coord_load_counts counts = {0};
            coord_apply_batch(c, (const uint8_t *)a->batch.ptr, a->batch.len, &counts);
            check(counts.broken == 0 && counts.unknown == 0); /* we wrote it */
        } else {
            char id[DIAG_ESCAPED_SIZE];
            diag_log(c->diag, DIAG_WARN, "group_append_refused", "group=%s error=\"%s\"%s",
                     diag_escape(cg->g->id, id), err_text(a->result),
                     a->result == ERR_LIMIT ? " limit=message.max.bytes" : "");
        }
        struct group_event event = {
            .kind = GROUP_EVENT_APPENDED,
            .appended = {.write_id = a->write_id, .error = error_of(a->result)}
        };
        buf_finish(&a->batch);
        mem_free(a);
        alive = coord_run(cg, &event);
        if (!alive) {
            return false;
        }
    }
    return true;
}

/* ---- the topic ---- */

void coord_adopt_topic(struct coord *c, const struct topic *topic)
{
    check(c->partition_count == 0);
    c->topic_id = topic->id;
    c->partition_count = topic->partition_count;
    c->refused = mem_need_zero((size_t)topic->partition_count, sizeof *c->refused);
}

static err submit(struct coord_append *a)
{
    struct coord *c = a->coord;
    struct log *log = log_manager_find(c->shard->logs, c->topic_id,
                                       coord_partition_of(a->group->g->id, c->partition_count));
    return log ? log_append(log, &a->log) : ERR_NOT_FOUND;
}

static void submit_or_end(struct coord_append *a)
{
    err e = submit(a);
    if (e) {
        ended(a, e);
    }
}

static void topic_there(struct coord *c, err e, const struct topic *topic)
{
    if (topic && c->partition_count == 0) {
        coord_adopt_topic(c, topic);
    }
    for (struct list *link; (link = list_pop(&c->waiting));) {
        struct coord_append *a = list_entry(link, struct coord_append, wait);
        if (!a->group) {
            ended(a, OK);
        } else if (c->partition_count) {
            submit_or_end(a);
        } else {
            ended(a, e);
        }
    }
}

static void topic_go_on(struct coord *c)
{
    c->creating = false;
    topic_there(c, c->call_result, meta_find(c->meta, STR(COORD_TOPIC)));
}

static void call_back(struct message *m)
{
    struct coord *c = list_entry(m, struct coord, call);
    topic_go_on(c);
    coord_drain(c);
}

/* At the first shard, as what follows. */
static void topic_made(void *ctx, err e, struct topic *topic)
{
    struct coord *first = ctx;
    struct list wanted;
    (void)topic;
    first->making = false;
    if (e) {
        diag_log(first->diag, DIAG_ERROR, "offsets_topic_failed", "error=\"%s\"", err_text(e));
    }
    list_init(&wanted);
    list_splice(&wanted, &first->wanted);
    for (struct list *link; (link = list_pop(&wanted));) {
        struct message *m = list_entry(link, struct message, link);
        list_entry(m, struct coord, call)->call_result = e;
        message_return(m);
    }
}

static err make_topic(struct coord *first)
{
    char segment_bytes[24];
    int n = snprintf(segment_bytes, sizeof segment_bytes, "%lld",
                     (long long)first->config->offsets_topic_segment_bytes);
    struct config_pair overrides[] = {
        {.name = STR("cleanup.policy"), .value = STR("compact")                          },
        {.name = STR("segment.bytes"),  .value = {.ptr = segment_bytes, .len = (size_t)n}},
    };
    struct topic_spec spec = {
        .name = STR(COORD_TOPIC),
        .partition_count = (int32_t)first->config->offsets_topic_partitions,
        .overrides = overrides,
        .override_count = sizeof overrides / sizeof *overrides,
        .internal = true,
    };
    struct buf text = {0};
    err e = meta_create_topic(first->meta, &spec, &text, topic_made, first);
    if (e) {
        diag_log(first->diag, DIAG_ERROR, "offsets_topic_failed", "error=\"%s\" reason=\"%s\"",
                 err_text(e), buf_text(&text));
    }
    buf_finish(&text);
    return e;
}

static bool call_run(struct message *m)
{
    struct coord *first = m->to->coord;
    struct coord *c = list_entry(m, struct coord, call);
    c->call_result = OK;
    if (meta_find(first->meta, STR(COORD_TOPIC))) {
        return true;
    }
    if (!first->making) {
        c->call_result = make_topic(first);
        first->making = c->call_result == OK;
    }
    if (first->making) {
        list_push(&first->wanted, &m->link);
    }
    return !first->making;
}

/* Nothing here calls back at once: what is refused goes to the settling list, which somebody up the
 * stack empties. */
static void want_topic(struct coord *c)
{
    if (c->creating) {
        return;
    }
    c->creating = true;
    c->call.run = call_run;
    c->call.done = call_back;
    if (message_send(&c->call, c->shard, &c->shard->all->list[0])) {
        topic_go_on(c);
    }
}

/* ---- appending ---- */

/* Deletions may be as large as they get: refusing them would keep what is to go. */
static size_t size_limit(const struct coord *c, const struct group_append *a)
{
    for (size_t i = 0; i < a->record_count; i++) {
        enum group_record_kind kind = a->records[i].kind;
        if (kind == GROUP_RECORD_OFFSET || kind == GROUP_RECORD_METADATA) {
            return (size_t)c->config->max_message_bytes;
        }
    }
    return (size_t)INT32_MAX / 2;
}

static err build(struct coord *c, struct coord_append *to, struct str group_id,
                 const struct group_append *a)
{
    int64_t now_ms = clock_wall_ms(c->clock);
    size_t limit = size_limit(c, a);
    err e = OK;
    batch_builder_reset(&c->builder);
    for (size_t i = 0; i < a->record_count && !e; i++) {
        e = coord_record_add(&c->builder, &c->writer, group_id, &a->records[i], now_ms);
        if (!e && batch_builder_size(&c->builder) > limit) {
            e = ERR_LIMIT;
        }
    }
    if (e) {
        return e;
    }
    e = batch_builder_seal(&c->builder, &batch_seal_plain, &to->batch);
    if (e) {
        return e;
    }
    to->log = (struct log_append){
        .batch = (uint8_t *)to->batch.ptr,
        .size = to->batch.len,
        .info = {.count = (int32_t)a->record_count,
                 .last_offset_delta = (int32_t)a->record_count - 1,
                 .codec = CODEC_NONE,
                 .min_timestamp = now_ms,
                 .max_timestamp = now_ms,
                 .producer_id = -1,
                 .producer_epoch = -1,
                 .base_sequence = -1},
        .durable = durable,
    };
    return OK;
}

void coord_append_submit(struct coord_group *cg, const struct group_append *a)
{
    struct coord *c = cg->coord;
    struct coord_append *append = mem_need_zero(1, sizeof *append);
    append->coord = c;
    append->group = cg;
    append->write_id = a->write_id;
    list_push(&cg->appends, &append->link);
    err e = build(c, append, cg->g->id, a);
    if (e) {
        check(e ==
              ERR_LIMIT); /* anything else would be a record that no format can say, or no memory */
        ended(append, e);
    } else if (c->stopping) {
        ended(append, ERR_CLOSED);
    } else if (c->partition_count) {
        submit_or_end(append);
    } else {
        list_push(&c->waiting, &append->wait);
        want_topic(c);
    }
}
