/* Changes to topics. One goes
 *
 *     submitted --append--> durable --> memory follows --> its logs are made / destroyed / told -->
 * done |                    |
 *         +-- refused          +-- a topic whose directories a crash left unmade gets them at the
 * next start
 *
 * and one that arrives while its topic is changing waits, in order.
 */
#include "base/check.h"
#include "base/mem.h"
#include "broker/meta/record.h"
#include "broker/meta/settings.h"
#include "broker/meta/state.h"

enum {
    LOGS_AT_ONCE = 64
}; /* creations or deletions of one topic's logs that are under way together */

enum change_kind { CHANGE_CREATE, CHANGE_DELETE, CHANGE_ALTER, CHANGE_ADD, CHANGE_ADD_UNDO };

struct change {
    struct meta *meta;
    enum change_kind kind;
    struct uuid id;          /* of the topic */
    struct entry *entry;     /* borrowed; while started */
    int32_t version;         /* alter, add: what the caller saw */
    int32_t partition_count; /* add: the new one */
    int64_t config_number;   /* create, add: which broker configuration its logs were made by */
    bool durable;            /* its record is in the metadata log */
    struct config_pair
        *pairs; /* alter: the new overrides; owned, names and values in the same block */
    int32_t pair_count;
    meta_done *done;
    void *ctx;               /* for done */
    struct meta_write write; /* its append to the metadata log */
    int32_t next_partition;  /* logs: the next one to ask for */
    int32_t outstanding;     /* logs: asked for and not answered */
    err result;              /* the first failure */
    struct list link;        /* in meta.waiting or meta.started */
};

/* ---- changes */

static void change_finish(struct change *c);
static void logs_go_on(struct change *c);

static void encode_change(struct change *c, struct meta_record *r)
{
    const struct topic *t = &c->entry->topic;
    bool raised = c->kind != CHANGE_CREATE && c->kind != CHANGE_DELETE;
    *r = (struct meta_record){.kind = META_RECORD_TOPIC,
                              .removed = c->kind == CHANGE_DELETE,
                              .topic_id = c->id,
                              .name = t->name,
                              .partition_count =
                                  c->kind == CHANGE_ADD ? c->partition_count : t->partition_count,
                              .version = t->version + raised,
                              .internal = t->internal};
    if (c->kind == CHANGE_ALTER) {
        r->overrides = c->pairs;
        r->override_count = c->pair_count;
    } else if (c->kind != CHANGE_DELETE) {
        r->overrides = topic_config_overrides(t->config, &r->override_count);
    }
}

/* The change is durable: memory follows (invariant 1), then the logs. */
static void change_durable(struct meta_write *w, err e)
{
    struct change *c = (struct change *)(void *)((char *)w - offsetof(struct change, write));
    struct meta *m = c->meta;
    struct topic *t = &c->entry->topic;
    if (e != OK) {
        c->result = c->result == OK ? e : c->result; /* what is undone says why */
        change_finish(c);
        return;
    }
    c->durable = true;
    switch (c->kind) {
    case CHANGE_CREATE:
        c->config_number = m->config_number;
        check(map_put(&m->by_id, t->id.b, sizeof t->id.b, c->entry) == OK);
        break;
    case CHANGE_DELETE: entry_hide(m, c->entry); break;
    case CHANGE_ALTER:
        topic_config_destroy(t->config);
        t->config =
            topic_config_restore(m->options.config, c->pairs, c->pair_count, m->options.diag);
        t->version++;
        break;
    case CHANGE_ADD:
        c->config_number = m->config_number;
        c->next_partition = t->partition_count;
        t->version++;
        break;
    case CHANGE_ADD_UNDO:
        t->version++;
        change_finish(c); /* its logs have gone before */
        return;
    }
    logs_go_on(c);
}

static int32_t added(const struct change *c)
{
    return c->partition_count - c->entry->topic.partition_count;
}

static err change_start(struct change *c)
{
    struct meta *m = c->meta;
    struct meta_record r;
    encode_change(c, &r);
    c->entry->changing = true;
    m->partition_count += c->kind == CHANGE_ADD ? added(c) : 0; /* nobody else may have them */
    list_push(&m->started, &c->link);
    err e = meta_write_submit(&c->write, m->log, m->options.clock, &r, change_durable);
    if (e != OK) {
        c->entry->changing = false;
        m->partition_count -= c->kind == CHANGE_ADD ? added(c) : 0;
        list_remove(&c->link);
    }
    return e;
}

static void change_free(struct change *c)
{
    mem_free(c->pairs);
    meta_write_finish(&c->write);
    mem_free(c);
}

static void log_done(void *ctx, err e)
{
    struct change *c = ctx;
    c->outstanding--;
    if (e != OK && e != ERR_NOT_FOUND && c->result == OK) {
        c->result = e;
    }
    logs_go_on(c);
}

/* A topic whose logs could not be made is taken back: removed from the metadata log, what was made
 * is destroyed. When not even that can be written, it stays unseen, its name taken, and the next
 * start makes its logs. */
static void creation_undo(struct change *c)
{
    struct meta *m = c->meta;
    char text[DIAG_ESCAPED_SIZE];
    err why = c->result;
    diag_log(m->options.diag, DIAG_ERROR, "topic_not_created", "topic=%s error=\"%s\"",
             diag_escape(c->entry->topic.name, text), err_text(why));
    c->kind = CHANGE_DELETE;
    c->durable = false;
    c->next_partition = 0;
    list_remove(&c->link);
    meta_write_finish(&c->write);
    if (change_start(c) != OK) {
        change_finish(c);
    }
}

/* Partitions of which not all could be made: those that were are destroyed, nobody has seen them,
 * then the old number is written again. When that cannot be written, the metadata log keeps the new
 * one, and the next start makes them. */
static void addition_undo(struct change *c)
{
    char text[DIAG_ESCAPED_SIZE];
    diag_log(c->meta->options.diag, DIAG_ERROR, "partitions_not_added", "topic=%s error=\"%s\"",
             diag_escape(c->entry->topic.name, text), err_text(c->result));
    c->kind = CHANGE_ADD_UNDO;
    c->next_partition = c->entry->topic.partition_count;
    logs_go_on(c);
}

static void addition_unwrite(struct change *c)
{
    list_remove(&c->link);
    meta_write_finish(&c->write);
    if (change_start(c) != OK) {
        change_finish(c);
    }
}

static bool makes_logs(const struct change *c)
{
    return c->kind == CHANGE_CREATE || c->kind == CHANGE_ADD;
}

static bool adds(const struct change *c)
{
    return c->kind == CHANGE_ADD || c->kind == CHANGE_ADD_UNDO;
}

/* All logs of the change have been answered for. */
static void logs_done(struct change *c)
{
    if (c->kind == CHANGE_CREATE && c->result != OK) {
        creation_undo(c);
    } else if (c->kind == CHANGE_ADD && c->result != OK) {
        addition_undo(c);
    } else if (c->kind == CHANGE_ADD_UNDO) {
        addition_unwrite(c);
    } else {
        change_finish(c);
    }
}

static void logs_go_on(struct change *c)
{
    struct meta *m = c->meta;
    struct topic *t = &c->entry->topic;
    if (c->kind == CHANGE_ALTER) {
        set_log_configs(m, t);
        change_finish(c);
        return;
    }
    bool stop = makes_logs(c) && c->result != OK;
    int32_t end = adds(c) ? c->partition_count : t->partition_count;
    while (!stop && c->outstanding < LOGS_AT_ONCE && c->next_partition < end) {
        int32_t p = c->next_partition++;
        bool done = makes_logs(c) ? log_order_create(m, t, p, log_done, c)
                                  : log_order_destroy(m, t, p, log_done, c);
        c->outstanding += !done;
    }
    if (c->outstanding == 0) {
        logs_done(c);
    }
}

static void start_waiting(struct meta *m, struct uuid id);

/* What memory follows last: topics and partitions are shown when their logs are there. */
static void change_settle(struct change *c)
{
    struct meta *m = c->meta;
    struct entry *e = c->entry;
    if (adds(c) && c->result != OK) {
        m->partition_count -= added(c);
    } else if (c->kind == CHANGE_ADD) {
        e->topic.partition_count = c->partition_count;
    } else if (c->kind == CHANGE_CREATE && c->result == OK) {
        entry_show(m, e);
    }
    if (makes_logs(c) && c->result == OK && c->config_number != m->config_number) {
        set_log_configs(m, &e->topic); /* the broker's settings changed meanwhile */
    }
    if ((c->kind == CHANGE_CREATE && c->result != OK) || (c->kind == CHANGE_DELETE && c->durable)) {
        entry_destroy(m, e); /* refused before it was durable; or gone */
    }
}

static void change_finish(struct change *c)
{
    struct meta *m = c->meta;
    struct entry *e = c->entry;
    struct topic *topic = &e->topic;
    list_remove(&c->link);
    e->changing = false;
    change_settle(c);
    topic = c->kind != CHANGE_DELETE && c->result == OK ? topic : NULL;
    struct uuid id = c->id;
    meta_done *done = c->done;
    void *ctx = c->ctx;
    err result = c->result;
    change_free(c);
    done(ctx, result, topic);
    start_waiting(m, id);
}

err meta_check_settings(const struct meta *m, const struct topic *t,
                        const struct config_pair *overrides, int32_t override_count,
                        struct buf *text)
{
    struct topic_config *settings;
    err e = topic_settings_create(m->options.config, overrides, override_count, t->internal, text,
                                  &settings);
    if (e == OK) {
        topic_config_destroy(settings);
    }
    return e;
}

/* What is left of a full disk is not for new logs. */
static err check_room(const struct meta *m, struct buf *text)
{
    if (log_manager_is_tight(home_shard(m)->logs)) {
        buf_printf(text, "the disk is full");
        return ERR_NO_SPACE;
    }
    return OK;
}

static err check_partition_limit(const struct meta *m, int32_t more, struct buf *text)
{
    int64_t most = m->options.config->partitions_max;
    if (m->partition_count + more > most) {
        buf_printf(text, "rivulet.partitions.max=%lld would be passed", (long long)most);
        return ERR_LIMIT;
    }
    return OK;
}

err meta_check_partitions(const struct meta *m, const struct topic *t, int32_t partition_count,
                          struct buf *text)
{
    if (partition_count == t->partition_count) { /* Kafka's words, both */
        buf_printf(text, "Topic already has %d partition(s).", t->partition_count);
        return ERR_RANGE;
    }
    if (partition_count < t->partition_count) {
        buf_printf(text,
                   "The topic %.*s currently has %d partition(s); %d would not be an increase.",
                   STR_ARG(t->name), t->partition_count, partition_count);
        return ERR_RANGE;
    }
    err e = check_partition_limit(m, partition_count - t->partition_count, text);
    return e == OK ? check_room(m, text) : e;
}

/* Checks a change against what the topic is now. */
static err change_prepare(struct change *c, struct buf *text)
{
    struct meta *m = c->meta;
    c->entry = map_get(&m->by_id, c->id.b, sizeof c->id.b);
    if (!c->entry || !c->entry->ready) {
        return ERR_NOT_FOUND;
    }
    if (c->kind == CHANGE_DELETE) {
        return OK;
    }
    const struct topic *t = &c->entry->topic;
    if (t->version != c->version) {
        return ERR_STALE;
    }
    return c->kind == CHANGE_ADD ? meta_check_partitions(m, t, c->partition_count, text)
                                 : meta_check_settings(m, t, c->pairs, c->pair_count, text);
}

static struct change *first_waiting(const struct meta *m, struct uuid id)
{
    list_each(node, &m->waiting)
    {
        struct change *c = list_entry(node, struct change, link);
        if (uuid_eq(c->id, id)) {
            return c;
        }
    }
    return NULL;
}

/* The topic is free again: starts the next change that waits for it. One that has become impossible
 * is told so; what it submits in its place goes before the others that wait. */
static void start_waiting(struct meta *m, struct uuid id)
{
    for (struct change *c; (c = first_waiting(m, id));) {
        struct entry *e = map_get(&m->by_id, id.b, sizeof id.b);
        if (e && e->changing) {
            return; /* invariant 2 */
        }
        struct buf text = {0};
        list_remove(&c->link);
        err refused = change_prepare(c, &text);
        refused = refused == OK ? change_start(c) : refused;
        buf_finish(&text);
        if (refused != OK) {
            meta_done *done = c->done;
            void *ctx = c->ctx;
            change_free(c);
            done(ctx, refused, NULL);
        }
    }
}

static err change_submit(struct change *c, struct buf *text)
{
    err e = change_prepare(c, text);
    if (e == OK && c->entry->changing) {
        list_push(&c->meta->waiting, &c->link);
        return OK;
    }
    if (e == OK) {
        e = change_start(c);
    }
    if (e != OK) {
        if (!text->len) {
            buf_printf(text, "the change is refused: %s", err_text(e));
        }
        change_free(c);
    }
    return e;
}

/* ---- creation */

static err check_topic(const struct meta *m, const struct topic_spec *spec, struct buf *text,
                       int32_t *ret_partitions, struct topic_config **ret_config)
{
    const struct config *config = m->options.config;
    if (meta_check_name(spec->name) != OK) {
        buf_printf(text, "a topic's name has 1 to 249 of the characters a-z A-Z 0-9 . _ - "
                         "and is not . or ..");
        return ERR_INVALID;
    }
    struct entry *twin = entry_find_twin(m, spec->name);
    if (twin && str_eq(twin->topic.name, spec->name)) {
        buf_printf(text, "topic '%s' exists already", twin->name);
        return ERR_EXISTS;
    }
    if (twin) {
        buf_printf(text, "the name collides with topic '%s' ('.' and '_' count as one)",
                   twin->name);
        return ERR_INVALID;
    }
    int32_t partitions =
        spec->partition_count == -1 ? (int32_t)config->num_partitions : spec->partition_count;
    if (partitions < 1) {
        buf_printf(text, "a topic has at least 1 partition, not %d", partitions);
        return ERR_RANGE;
    }
    if ((int64_t)map_count(&m->by_name) >= config->topics_max) {
        buf_printf(text, "rivulet.topics.max=%lld is reached", (long long)config->topics_max);
        return ERR_LIMIT;
    }
    err e = check_partition_limit(m, partitions, text);
    e = e == OK && !spec->internal ? check_room(m, text) : e;
    if (e != OK) {
        return e;
    }
    struct topic_config *settings;
    e = topic_settings_create(config, spec->overrides, spec->override_count, spec->internal, text,
                              &settings);
    if (e != OK) {
        return e;
    }
    *ret_partitions = partitions;
    *ret_config = settings;
    return OK;
}

err meta_check_topic(const struct meta *m, const struct topic_spec *spec, struct buf *text)
{
    int32_t partitions;
    struct topic_config *settings;
    err e = check_topic(m, spec, text, &partitions, &settings);
    if (e == OK) {
        topic_config_destroy(settings);
    }
    return e;
}

static struct uuid new_id(struct meta *m)
{
    for (;;) {
        struct uuid id;
        char text[UUID_TEXT_SIZE];
        rng_bytes(&m->rng, id.b, sizeof id.b);
        id.b[6] = (uint8_t)((id.b[6] & 0x0F) | 0x40); /* RFC 4122, version 4 */
        id.b[8] = (uint8_t)((id.b[8] & 0x3F) | 0x80);
        uuid_to_text(id, text);
        if (text[0] != '-' && !map_get(&m->by_id, id.b, sizeof id.b)) {
            return id;
        }
    }
}

err meta_create_topic(struct meta *m, const struct topic_spec *spec, struct buf *text,
                      meta_done *done, void *ctx)
{
    int32_t partitions;
    struct topic_config *settings;
    err e = check_topic(m, spec, text, &partitions, &settings);
    if (e != OK) {
        return e;
    }
    struct change *c = mem_need_zero(1, sizeof *c);
    *c = (struct change){
        .meta = m, .kind = CHANGE_CREATE, .id = new_id(m), .done = done, .ctx = ctx};
    c->entry = entry_create(m, spec->name, c->id, partitions, spec->internal, settings);
    e = change_start(c);
    if (e != OK) {
        buf_printf(text, "the change is refused: %s", err_text(e));
        entry_destroy(m, c->entry);
        change_free(c);
    }
    return e;
}

err meta_delete_topic(struct meta *m, struct uuid id, struct buf *text, meta_done *done, void *ctx)
{
    struct change *c = mem_need_zero(1, sizeof *c);
    *c = (struct change){.meta = m, .kind = CHANGE_DELETE, .id = id, .done = done, .ctx = ctx};
    return change_submit(c, text);
}

err meta_alter_topic(struct meta *m, struct uuid id, int32_t version,
                     const struct config_pair *overrides, int32_t override_count, struct buf *text,
                     meta_done *done, void *ctx)
{
    struct change *c = mem_need_zero(1, sizeof *c);
    *c = (struct change){.meta = m,
                         .kind = CHANGE_ALTER,
                         .id = id,
                         .version = version,
                         .pairs = config_pairs_copy(overrides, override_count),
                         .pair_count = override_count,
                         .done = done,
                         .ctx = ctx};
    return change_submit(c, text);
}

err meta_add_partitions(struct meta *m, struct uuid id, int32_t version, int32_t partition_count,
                        struct buf *text, meta_done *done, void *ctx)
{
    struct change *c = mem_need_zero(1, sizeof *c);
    *c = (struct change){.meta = m,
                         .kind = CHANGE_ADD,
                         .id = id,
                         .version = version,
                         .partition_count = partition_count,
                         .done = done,
                         .ctx = ctx};
    return change_submit(c, text);
}

void changes_finish(struct meta *m)
{
    struct list *lists[] = {&m->waiting, &m->started};
    for (int i = 0; i < 2; i++) {
        for (struct list *node; (node = list_pop(lists[i]));) {
            change_free(list_entry(node, struct change, link));
        }
    }
    log_orders_finish(m);
}
