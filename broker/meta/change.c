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

enum change_kind { CHANGE_CREATE, CHANGE_DELETE, CHANGE_ALTER };

struct change {
    struct meta *meta;
    enum change_kind kind;
    struct uuid id;        /* of the topic */
    struct entry *entry;   /* borrowed; while started */
    int32_t version;       /* alter: what the caller saw */
    int64_t config_number; /* create: which broker configuration its logs were made by */
    bool durable;          /* its record is in the metadata log */
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
    *r = (struct meta_record){.kind = META_RECORD_TOPIC,
                              .removed = c->kind == CHANGE_DELETE,
                              .topic_id = c->id,
                              .name = t->name,
                              .partition_count = t->partition_count,
                              .version = c->kind == CHANGE_ALTER ? t->version + 1 : t->version,
                              .internal = t->internal};
    if (c->kind == CHANGE_ALTER) {
        r->overrides = c->pairs;
        r->override_count = c->pair_count;
    } else if (c->kind == CHANGE_CREATE) {
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
        c->result = c->result == OK ? e : c->result; /* an undone creation says why it was undone */
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
    }
    logs_go_on(c);
}

static err change_start(struct change *c)
{
    struct meta *m = c->meta;
    struct meta_record r;
    encode_change(c, &r);
    c->entry->changing = true;
    list_push(&m->started, &c->link);
    err e = meta_write_submit(&c->write, m->log, m->options.clock, &r, change_durable);
    if (e != OK) {
        c->entry->changing = false;
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

static void logs_go_on(struct change *c)
{
    struct meta *m = c->meta;
    struct topic *t = &c->entry->topic;
    struct log_config config;
    topic_log_config(t->config, &config);
    if (c->kind == CHANGE_ALTER) {
        set_log_configs(m, t);
        change_finish(c);
        return;
    }
    bool stop = c->kind == CHANGE_CREATE && c->result != OK;
    while (!stop && c->outstanding < LOGS_AT_ONCE && c->next_partition < t->partition_count) {
        int32_t p = c->next_partition++;
        if (c->kind == CHANGE_DELETE && !log_manager_find(m->options.logs, t->id, p)) {
            continue; /* an undone creation did not come as far as this one */
        }
        c->outstanding++;
        if (c->kind == CHANGE_CREATE) {
            log_manager_create_log(m->options.logs, t->name, t->id, p, &config, log_done, c);
        } else {
            log_manager_destroy_log(m->options.logs, t->id, p, log_done, c);
        }
    }
    if (c->outstanding > 0) {
        return;
    }
    if (stop) {
        creation_undo(c);
    } else {
        change_finish(c);
    }
}

static void start_waiting(struct meta *m, struct uuid id);

static void change_finish(struct change *c)
{
    struct meta *m = c->meta;
    struct entry *e = c->entry;
    struct topic *topic = &e->topic;
    list_remove(&c->link);
    e->changing = false;
    if (c->kind == CHANGE_CREATE && c->result == OK) {
        entry_show(m, e);
        if (c->config_number != m->config_number) {
            set_log_configs(m, topic); /* the broker's settings changed meanwhile */
        }
    } else if (c->kind == CHANGE_CREATE || (c->kind == CHANGE_DELETE && c->durable)) {
        entry_destroy(m, e); /* refused before it was durable; or gone */
    }
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

/* Checks a change against what the topic is now. */
static err change_prepare(struct change *c, struct buf *text)
{
    struct meta *m = c->meta;
    c->entry = map_get(&m->by_id, c->id.b, sizeof c->id.b);
    if (!c->entry || !c->entry->ready) {
        return ERR_NOT_FOUND;
    }
    if (c->kind != CHANGE_ALTER) {
        return OK;
    }
    if (c->entry->topic.version != c->version) {
        return ERR_STALE;
    }
    return meta_check_settings(m, &c->entry->topic, c->pairs, c->pair_count, text);
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
    if (m->partition_count + partitions > config->partitions_max) {
        buf_printf(text, "rivulet.partitions.max=%lld would be passed",
                   (long long)config->partitions_max);
        return ERR_LIMIT;
    }
    struct topic_config *settings;
    err e = topic_settings_create(config, spec->overrides, spec->override_count, spec->internal,
                                  text, &settings);
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

void changes_finish(struct meta *m)
{
    struct list *lists[] = {&m->waiting, &m->started};
    for (int i = 0; i < 2; i++) {
        for (struct list *node; (node = list_pop(lists[i]));) {
            change_free(list_entry(node, struct change, link));
        }
    }
}
