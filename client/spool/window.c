/* Reading the events of a window from the segments. */
#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

#include <string.h>

struct place { /* where reading is */
    struct chain chain;
    size_t segment;
    int64_t position;
};

static size_t segment_of(const struct rv_spool *s, uint64_t first)
{
    size_t i = 0;
    while (i < s->segment_count && s->segments[i].first != first) {
        i++;
    }
    check(i < s->segment_count);
    return i;
}

static int place_open(struct rv_spool *s, struct place *p, struct rv_error *ret_error)
{
    char name[CHAIN_NAME_SIZE];
    segment_name(s->segments[p->segment].first, name);
    int code = chain_open(&s->disk, name, CHAIN_EVENTS, DISK_READ, &p->chain, ret_error);
    if (code == RV_E_ABSENT) {
        code = fail_set(ret_error, RV_E_CORRUPT, "file %s: it is not there", name);
    }
    return code;
}

/* The entry `number`, wherever it is. */
static int place_read(struct rv_spool *s, struct place *p, uint64_t number, struct buf *into,
                      struct chain_entry *ret_entry, struct rv_error *ret_error)
{
    int code = RV_OK;
    if (p->segment + 1 < s->segment_count && s->segments[p->segment + 1].first == number) {
        chain_close(&p->chain);
        p->segment++;
        p->position = CHAIN_FILE_HEAD_SIZE;
    }
    if (!p->chain.file) {
        code = place_open(s, p, ret_error);
    }
    return code == RV_OK ? chain_read(&p->chain, &p->position, number, into, ret_entry, ret_error)
                         : code;
}

/* The bodies are all there now and stay where they are. */
static int window_decode(struct window *w, const size_t *ends, struct rv_error *ret_error)
{
    size_t from = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct bytes body = {(const uint8_t *)w->bytes.ptr + from, ends[i] - from};
        if (event_decode(body, &w->events[i]) != OK) {
            return fail_set(ret_error, RV_E_CORRUPT, "event %llu makes no sense",
                            (unsigned long long)w->first + i);
        }
        from = ends[i];
    }
    return RV_OK;
}

int window_load(struct rv_spool *s, uint64_t first, size_t most, bool whole,
                struct rv_error *ret_error)
{
    struct window *w = &s->window;
    struct place p = {.segment = segment_of(s, s->from_first), .position = s->from_position};
    struct buf into = {0};
    size_t ends[PLAN_EVENTS];
    int code = RV_OK;
    check(most <= PLAN_EVENTS);
    if (!w->events) {
        w->events = mem_zero(PLAN_EVENTS, sizeof *w->events);
        code = w->events ? RV_OK : fail_memory(ret_error);
    }
    w->bytes.len = 0;
    w->count = 0;
    w->first = first;
    while (code == RV_OK && w->count < most && first + w->count < spool_next(s)) {
        struct chain_entry entry;
        int64_t before = p.position;
        size_t segment = p.segment;
        code = place_read(s, &p, first + w->count, &into, &entry, ret_error);
        if (code == RV_OK && !whole && w->count > 0 &&
            w->bytes.len + entry.body.len > WINDOW_BYTES) {
            p.position = p.segment == segment ? before : CHAIN_FILE_HEAD_SIZE;
            break;
        }
        if (code == RV_OK) {
            buf_add(&w->bytes, entry.body.ptr, entry.body.len);
            ends[w->count++] = w->bytes.len;
        }
    }
    if (code == RV_OK && w->bytes.failed) {
        w->bytes.failed = false;
        code = fail_memory(ret_error);
    }
    code = code == RV_OK ? window_decode(w, ends, ret_error) : code;
    w->after_first = s->segments[p.segment].first;
    w->after_position = p.position;
    if (code != RV_OK) {
        w->count = 0;
    }
    chain_close(&p.chain);
    buf_finish(&into);
    return code;
}
