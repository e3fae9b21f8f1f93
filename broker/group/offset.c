/* Committed offsets: commits, deletion, expiry.
 *
 * A commit that is under way counts in its offset's `inflight`. Whatever wants to remove an offset
 * must know of it: what is asked to be deleted includes it, what expires does not (the tombstone
 * would come after it in the log, and undo it).
 */
#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

static size_t place_of(const struct group_topic *t, int32_t partition)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->offsets[middle]->partition < partition) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct group_offset *find(const struct group *g, struct str topic, int32_t partition,
                                 struct group_topic **ret_topic)
{
    struct group_topic *t = map_get_str(&g->topics, topic);
    if (!t) {
        return NULL;
    }
    *ret_topic = t;
    size_t at = place_of(t, partition);
    return at < t->count && t->offsets[at]->partition == partition ? t->offsets[at] : NULL;
}

static struct touched_offset find_or_make(struct group *g, struct str topic, int32_t partition)
{
    struct group_topic *t = NULL;
    struct group_offset *o = find(g, topic, partition, &t);
    if (o) {
        return (struct touched_offset){.topic = t, .offset = o};
    }
    if (!t) {
        t = mem_need_zero(1, sizeof *t + topic.len);
        memcpy((char *)(t + 1), topic.ptr ? topic.ptr : "", topic.len);
        t->name = (struct str){.ptr = (const char *)(t + 1), .len = topic.len};
        check(map_put_str(&g->topics, t->name, t) == OK);
        g->weight += weigh_topic(topic);
    }
    if (t->count == t->size) {
        t->size = t->size ? t->size * 2 : 1;
        t->offsets = mem_need_resize(t->offsets, t->size * sizeof(struct group_offset *));
    }
    o = mem_need_zero(1, sizeof *o);
    o->partition = partition;
    size_t at = place_of(t, partition);
    memmove(&t->offsets[at + 1], &t->offsets[at], (t->count - at) * sizeof(struct group_offset *));
    t->offsets[at] = o;
    t->count++;
    g->weight += weigh_offset(o->metadata);
    return (struct touched_offset){.topic = t, .offset = o};
}

static void topic_destroy(struct group_topic *t)
{
    for (size_t i = 0; i < t->count; i++) {
        str_disown(&t->offsets[i]->metadata);
        mem_free(t->offsets[i]);
    }
    mem_free(t->offsets);
    mem_free(t);
}

/* Forgets the entry when nothing is stored in it and nothing is on the way to it. */
static void drop_if_unused(struct group *g, struct group_topic *t, int32_t partition)
{
    size_t at = place_of(t, partition);
    struct group_offset *o = t->offsets[at];
    if (o->stored || o->inflight) {
        return;
    }
    g->weight -= weigh_offset(o->metadata);
    str_disown(&o->metadata);
    mem_free(o);
    t->count--;
    memmove(&t->offsets[at], &t->offsets[at + 1], (t->count - at) * sizeof(struct group_offset *));
    if (t->count == 0) {
        g->weight -= weigh_topic(t->name);
        map_remove_str(&g->topics, t->name);
        topic_destroy(t);
    }
}

void offsets_finish(struct group *g)
{
    for (struct map_entry *e = map_first(&g->topics); e; e = map_next(e)) {
        topic_destroy(map_value(e));
    }
    map_finish(&g->topics);
}

const struct group_offset *group_offset_find(const struct group *g, struct str topic,
                                             int32_t partition)
{
    struct group_topic *t;
    const struct group_offset *o = find(g, topic, partition, &t);
    return o && o->stored ? o : NULL;
}

void offset_apply(struct group *g, const struct group_record *record)
{
    if (record->kind == GROUP_RECORD_OFFSET_TOMBSTONE) {
        struct group_topic *t;
        struct group_offset *o = find(g, record->topic, record->partition, &t);
        if (o && o->stored) {
            o->stored = false;
            g->offset_count--;
            drop_if_unused(g, t, record->partition);
        }
        return;
    }
    struct group_offset *o = find_or_make(g, record->topic, record->partition).offset;
    g->offset_count += !o->stored;
    o->stored = true;
    o->offset = record->offset;
    o->leader_epoch = record->leader_epoch;
    g->weight += record->offset_metadata.len - o->metadata.len;
    str_replace(&o->metadata, record->offset_metadata);
    o->commit_ms = record->commit_ms;
    o->expire_ms = record->expire_ms;
    o->topic_id = record->topic_id;
}

/* ---- commit ---- */

static enum group_error check_commit(struct group *g, const struct group_commit *c,
                                     const struct group_env *env)
{
    if (c->generation < 0 && g->state == GROUP_EMPTY) {
        return GROUP_OK; /* only stores offsets: a simple consumer, or an administrator */
    }
    if (c->generation < 0 && c->member_id.len == 0 && !c->instance_id.ptr) {
        return GROUP_UNKNOWN_MEMBER;
    }
    struct group_member *m;
    enum group_error error = member_validate(g, c->member_id, c->instance_id, &m);
    if (error) {
        return error;
    }
    if (c->generation != g->generation) {
        return GROUP_ILLEGAL_GENERATION;
    }
    member_touch(g, m, env);
    return g->state == GROUP_COMPLETING ? GROUP_REBALANCING : GROUP_OK;
}

/* -1: the group's own rule. Clients may ask for all the time there is. */
static int64_t expiry_of(int64_t wall_ms, int64_t retention_ms)
{
    int64_t expire_ms;
    if (retention_ms < 0) {
        return -1;
    }
    return __builtin_add_overflow(wall_ms, retention_ms, &expire_ms) ? INT64_MAX : expire_ms;
}

void step_commit(struct group *g, const struct group_event *e, const struct group_env *env,
                 struct group_effects *fx)
{
    const struct group_commit *c = &e->commit;
    enum group_error error = check_commit(g, c, env);
    if (error || c->offset_count == 0) {
        fx_answer(fx, e->token, error);
        return;
    }
    struct group_record *records = fx_alloc(fx, c->offset_count * sizeof *records);
    struct touched_offset *touched = mem_need(c->offset_count * sizeof *touched);
    struct str topic = {0}, copy = {0};
    for (size_t i = 0; i < c->offset_count; i++) {
        const struct group_commit_offset *o = &c->offsets[i];
        if (i == 0 || !str_eq(o->topic, topic)) {
            topic = o->topic;
            copy = fx_str(fx, topic);
        }
        touched[i] = find_or_make(g, topic, o->partition);
        touched[i].offset->inflight++;
        records[i] = (struct group_record){
            .kind = GROUP_RECORD_OFFSET,
            .topic = copy,
            .partition = o->partition,
            .offset = o->offset,
            .leader_epoch = o->leader_epoch,
            .offset_metadata = o->metadata.ptr ? fx_str(fx, o->metadata) : STR(""),
            .commit_ms = env->wall_ms,
            .expire_ms = expiry_of(env->wall_ms, c->retention_ms),
            .topic_id = o->topic_id,
        };
    }
    struct group_write *w = fx_append(g, fx, WRITE_COMMIT, e->token, records, c->offset_count);
    w->touched = touched;
    w->touched_count = c->offset_count;
}

void commit_ended(struct group *g, struct group_write *w)
{
    for (size_t i = 0; i < w->touched_count; i++) {
        struct touched_offset *t = &w->touched[i];
        check(t->offset->inflight > 0);
        t->offset->inflight--;
        drop_if_unused(g, t->topic, t->offset->partition); /* a first commit that was refused */
    }
}

/* ---- deletion ---- */

static struct group_record tombstone(struct str topic, int32_t partition)
{
    return (struct group_record){
        .kind = GROUP_RECORD_OFFSET_TOMBSTONE, .topic = topic, .partition = partition};
}

enum group_error group_may_delete_offsets(const struct group *g)
{
    return g->state != GROUP_EMPTY && !str_eq(g->protocol_type, STR("consumer")) ? GROUP_NOT_EMPTY
                                                                                 : GROUP_OK;
}

void step_delete_offsets(struct group *g, const struct group_event *e, struct group_effects *fx)
{
    const struct group_delete_offsets *d = &e->delete_offsets;
    struct group_record *records = fx_alloc(fx, d->offset_count * sizeof *records);
    size_t n = 0;
    for (size_t i = 0; i < d->offset_count; i++) {
        struct group_topic *t;
        if (find(g, d->offsets[i].topic, d->offsets[i].partition, &t)) {
            records[n++] = tombstone(fx_str(fx, d->offsets[i].topic), d->offsets[i].partition);
        }
    }
    if (n) {
        fx_append(g, fx, WRITE_DELETE, e->token, records, n);
    } else {
        fx_answer_if(fx, e->token, GROUP_OK);
    }
}

/* Is the group's metadata in the log, or on its way there? */
static bool has_metadata(const struct group *g)
{
    if (g->metadata) {
        return true;
    }
    list_each(link, &g->writes)
    {
        enum write_kind kind = list_entry(link, struct group_write, link)->kind;
        if (kind == WRITE_EMPTY || kind == WRITE_SYNC || kind == WRITE_STATIC) {
            return true;
        }
    }
    return false;
}

static size_t count_entries(const struct group *g)
{
    size_t n = 0;
    for (struct map_entry *e = map_first(&g->topics); e; e = map_next(e)) {
        n += ((const struct group_topic *)map_value(e))->count;
    }
    return n;
}

void step_delete(struct group *g, const struct group_event *e, struct group_effects *fx)
{
    if (g->state != GROUP_EMPTY) {
        fx_answer_if(fx, e->token, GROUP_NOT_EMPTY);
        return;
    }
    struct group_record *records = fx_alloc(fx, (count_entries(g) + 1) * sizeof *records);
    size_t n = 0;
    for (struct map_entry *at = map_first(&g->topics); at; at = map_next(at)) {
        const struct group_topic *t = map_value(at);
        struct str name = fx_str(fx, t->name);
        for (size_t i = 0; i < t->count; i++) {
            records[n++] = tombstone(name, t->offsets[i]->partition);
        }
    }
    if (has_metadata(g)) {
        records[n++] = (struct group_record){.kind = GROUP_RECORD_METADATA_TOMBSTONE};
    }
    if (n) {
        fx_append(g, fx, WRITE_DELETE, e->token, records, n);
    } else {
        fx_answer_if(fx, e->token, GROUP_OK);
    }
}

/* ---- expiry ---- */

/* Since when the offset's retention runs; -1: not at all now. */
static int64_t retention_start(const struct group *g, const struct group_topic *t,
                               const struct group_offset *o)
{
    if (g->protocol_type.len == 0) {
        return o->commit_ms; /* no member ever: a simple consumer */
    }
    if (g->state == GROUP_EMPTY) {
        return g->state_ms >= 0 && g->state_ms > o->commit_ms ? g->state_ms : o->commit_ms;
    }
    if (g->state == GROUP_STABLE && g->subscribed_known &&
        str_eq(g->protocol_type, STR("consumer")) && !map_get_str(&g->subscribed, t->name)) {
        return o->commit_ms;
    }
    return -1;
}

static bool is_expired(const struct group *g, const struct group_topic *t,
                       const struct group_offset *o, const struct group_env *env)
{
    if (!o->stored || o->inflight) {
        return false;
    }
    int64_t start = retention_start(g, t, o);
    if (start < 0) {
        return false;
    }
    if (o->expire_ms >= 0) {
        return env->wall_ms >= o->expire_ms;
    }
    int64_t keep = env->config->offsets_retention_ms;
    return keep >= 0 && env->wall_ms - start >= keep;
}

void step_expire(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    struct group_record *records = fx_alloc(fx, (count_entries(g) + 1) * sizeof *records);
    size_t n = 0;
    for (struct map_entry *at = map_first(&g->topics); at; at = map_next(at)) {
        const struct group_topic *t = map_value(at);
        for (size_t i = 0; i < t->count; i++) {
            if (is_expired(g, t, t->offsets[i], env)) {
                records[n++] = tombstone(fx_str(fx, t->name), t->offsets[i]->partition);
            }
        }
    }
    bool empty = g->state == GROUP_EMPTY && list_empty(&g->writes);
    if (empty && g->metadata && n == count_entries(g) && map_count(&g->pending) == 0) {
        records[n++] = (struct group_record){.kind = GROUP_RECORD_METADATA_TOMBSTONE};
    } else if (empty && g->metadata && g->metadata->member_count > 0) {
        write_empty(g, fx); /* the log still has members: saying that they left was refused then */
    }
    if (n) {
        fx_append(g, fx, WRITE_EXPIRE, 0, records, n);
    }
}
