/* Opening a view: its options, and whether what was kept can be gone on from. */
#include "client/view/view.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum {
    OPTIONS_MAX = 128,
    CHECK_MS = 60000, /* view.check.ms */
    OPEN_MS = 60000,  /* where the caller says -1 */
};

/* ---- options ---- */

struct own_options {
    const char *file;
    int64_t max_bytes, check_ms, at_ms;
    const char *key;
};

static int number_take(const struct rv_option *o, int64_t least, int64_t *ret_value,
                       struct rv_error *e)
{
    int64_t n;
    if (!o->value || str_to_int64(str_of(o->value), &n) != OK || n < least) {
        return view_fail(e, RV_E_OPTION, "option %s: '%.60s' is not a whole number from %lld on",
                         o->name, o->value ? o->value : "", (long long)least);
    }
    *ret_value = n;
    return RV_OK;
}

/* The view's own options, and the consumer's into `rest`. */
static int options_split(const struct rv_option *in, struct own_options *own,
                         struct rv_option rest[OPTIONS_MAX], struct rv_error *e)
{
    size_t n = 0;
    *own = (struct own_options){.check_ms = CHECK_MS};
    rest[n++] = (struct rv_option){"isolation.level", "read_committed"};
    for (int code = RV_OK; in && in->name; in++) {
        if (strcmp(in->name, "view.file") == 0) {
            own->file = in->value;
        } else if (strcmp(in->name, "view.key") == 0) {
            own->key = in->value;
        } else if (strcmp(in->name, "view.max.bytes") == 0) {
            code = number_take(in, 0, &own->max_bytes, e);
        } else if (strcmp(in->name, "view.check.ms") == 0) {
            code = number_take(in, 1, &own->check_ms, e);
        } else if (strcmp(in->name, "view.at.ms") == 0) {
            code = number_take(in, 0, &own->at_ms, e);
        } else if (n == OPTIONS_MAX - 4) {
            code = view_fail(e, RV_E_OPTION, "more than %d options", OPTIONS_MAX - 5);
        } else {
            rest[n++] = *in;
        }
        if (code != RV_OK) {
            return code;
        }
    }
    rest[n++] = (struct rv_option){"group.id", ""};
    rest[n++] = (struct rv_option){"auto.offset.reset", "earliest"};
    rest[n++] = (struct rv_option){"delivery", "manual"};
    rest[n] = (struct rv_option){NULL, NULL};
    return RV_OK;
}

/* ---- what was kept ---- */

enum { CLOCK_STEP_MS = 60000 }; /* a clock may be set back so far without more ado */

int view_away_check(struct rv_view *v, int64_t away_ms, int timeout_ms, struct rv_error *e)
{
    int64_t retention_ms = -1;
    int code = view_retention(v, timeout_ms, &retention_ms, e);
    if (code != RV_OK || retention_ms < 0) {
        return code;
    }
    if (away_ms > retention_ms) {
        view_rebuild_need(v,
                          "it was away for longer than delete.retention.ms: removals may be gone");
    } else if (away_ms < -CLOCK_STEP_MS) {
        view_rebuild_need(v, "the clock was set back, so nobody knows for how long it was away: "
                             "removals may be gone");
    }
    return RV_OK;
}

/* Whether what was kept can be gone on from. */
static int kept_check(struct rv_view *v, const struct rv_topic *t, int timeout_ms,
                      struct rv_error *e)
{
    const struct rv_view_state *s = &v->state;
    if (strcmp(t->id, s->topic_id) != 0 || t->partition_count < s->partition_count) {
        view_rebuild_need(v, "the topic was deleted and made again");
        return RV_OK;
    }
    for (size_t i = 0; i < s->partition_count; i++) {
        const struct rv_topic_partition *p = &t->partitions[i];
        int64_t offset = s->positions[i].offset;
        if (offset > p->end_offset) {
            view_rebuild_need(v, "the log was cut off before the stored position");
        } else if (offset >= 0 && offset < p->start_offset) {
            view_rebuild_need(v, "the log starts behind the stored position");
        }
    }
    return view_away_check(v, v->looked_ms - s->fresh_ms, timeout_ms, e);
}

/* From the storage, or from the start. */
static int kept_take(struct rv_view *v, int timeout_ms, struct rv_error *e)
{
    struct rv_view_state kept = {0};
    int64_t deadline = clock_after_ms(&clock_real, timeout_ms);
    int code = v->storage.load(v->storage.ctx, v->topic, &kept, e);
    if (code == RV_E_CORRUPT) {
        snprintf(v->why, sizeof v->why, "%.150s: read from the start", e->text);
    } else if (code != RV_OK) {
        return code;
    } else if (kept.partition_count) {
        size_t size = kept.partition_count * sizeof *kept.positions;
        v->state = kept;
        v->state.positions = mem_dup(kept.positions, size);
        v->ends = mem_zero(kept.partition_count, sizeof *v->ends);
        if (!v->state.positions || !v->ends) {
            v->state.partition_count = 0;
            return view_fail(e, RV_E_MEMORY, "out of memory");
        }
    }
    v->begins = v->state.partition_count == 0;
    struct rv_topics *topics;
    code = view_topic_look(v, timeout_ms, &topics, e);
    if (code != RV_OK) {
        return code;
    }
    int64_t left = deadline - clock_mono_ms(&clock_real);
    code = v->begins ? RV_OK : kept_check(v, topics->items, left > 0 ? (int)left : 0, e);
    if (code == RV_OK && v->begins) {
        code = view_generation_begin(v, topics->items, e);
    } else if (code == RV_OK) {
        code = view_partitions_take(v, topics->items, e);
        v->state.is_complete = false; /* until it has caught up with what is there now */
        v->assigns = true;
        if (code == RV_OK) {
            view_ends_take(v, topics->items);
        }
    }
    v->check_at_ms = clock_after_ms(&clock_real, v->check_ms);
    rv_free(topics);
    return code;
}

/* ---- open and close ---- */

static int storage_take(struct rv_view *v, const struct rv_view_storage *storage,
                        const struct own_options *own, struct rv_error *e)
{
    if (storage) {
        v->storage = *storage;
        v->is_loaded = true;
        if (own->max_bytes || own->file) {
            return view_fail(e, RV_E_OPTION, "view.file and view.max.bytes are of views in memory");
        }
        return RV_OK;
    }
    uint64_t limit = own->max_bytes ? (uint64_t)own->max_bytes : UINT64_MAX;
    int code = memory_create(v->topic, own->file, limit, &v->memory, e);
    if (code == RV_OK) {
        v->storage = memory_storage(v->memory);
        v->is_loaded = true;
    }
    return code;
}

/* What the options say; the storage is taken over whatever comes of it. */
static int view_init(struct rv_view *v, const struct rv_option *options,
                     const struct rv_view_storage *storage, struct rv_error *e)
{
    struct own_options own;
    struct rv_option rest[OPTIONS_MAX];
    int code = options_split(options, &own, rest, e);
    int taken = storage_take(v, storage, &own, e);
    if (code != RV_OK || taken != RV_OK) {
        return code != RV_OK ? code : taken;
    }
    if ((own.at_ms || own.key) && (storage || own.file)) {
        return view_fail(e, RV_E_OPTION, "view.at.ms and view.key are for what is not kept");
    }
    v->check_ms = own.check_ms;
    v->at_ms = own.at_ms;
    if (own.key) {
        v->only.size = strlen(own.key);
        v->only.ptr = mem_dup(own.key, v->only.size + 1);
        if (!v->only.ptr) {
            return view_fail(e, RV_E_MEMORY, "out of memory");
        }
    }
    code = rv_consumer_open(v->client, rest, &v->consumer, e);
    if (code == RV_OK) {
        rv_consumer_on_event(v->consumer, view_event, v);
    }
    return code;
}

int rv_view_open(struct rv_client *client, const char *topic, const struct rv_option *options,
                 const struct rv_view_storage *storage, int timeout_ms, struct rv_view **ret_view,
                 struct rv_error *ret_error)
{
    struct rv_error ignored;
    struct rv_error *e = ret_error ? ret_error : &ignored;
    struct rv_view *v = mem_zero(1, sizeof *v);
    char *name = mem_dup(topic, strlen(topic) + 1);
    if (!v || !name) {
        mem_free(v);
        mem_free(name);
        if (storage) {
            storage->close(storage->ctx);
        }
        return view_fail(e, RV_E_MEMORY, "out of memory");
    }
    v->client = client;
    v->topic = name;
    int code = view_init(v, options, storage, e);
    code = code == RV_OK ? kept_take(v, timeout_ms < 0 ? OPEN_MS : timeout_ms, e) : code;
    if (code != RV_OK) {
        rv_view_close(v);
        return code;
    }
    *ret_view = v;
    return RV_OK;
}

void rv_view_close(struct rv_view *view)
{
    if (!view) {
        return;
    }
    rv_consumer_close(view->consumer, 0, NULL); /* of no group: there is nobody to tell */
    if (view->is_loaded) {
        view->storage.close(view->storage.ctx);
    }
    mem_free(view->state.positions);
    mem_free(view->ends);
    mem_free((void *)view->only.ptr);
    mem_free(view->topic);
    mem_free(view);
}
