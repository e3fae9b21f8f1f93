/* Looking at a directory that may be in use: nothing is locked, nothing is written, and what is
 * removed or added meanwhile is no error. */
#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct look {
    struct disk disk;
    rv_spool_event_fn *fn;
    void *ctx;
    struct rv_spool_status status;
    uint64_t *segments; /* owned: first numbers, ascending */
    size_t segment_count;
    size_t segment_room;
    uint64_t *gone; /* owned: entries of `refused` that went into the spool again, ascending */
    size_t gone_count;
    size_t gone_room;
    bool no_memory;
};

static void name_take(void *arg, const char *name)
{
    struct look *k = arg;
    uint64_t first;
    if (!segment_number(name, &first)) {
        return;
    }
    if (k->segment_count == k->segment_room) {
        size_t room = k->segment_room ? k->segment_room * 2 : 16;
        uint64_t *more = mem_resize(k->segments, room * sizeof *more);
        if (!more) {
            k->no_memory = true;
            return;
        }
        k->segments = more;
        k->segment_room = room;
    }
    k->segments[k->segment_count++] = first;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int give(struct look *k, struct rv_spool_event *out, const struct event *e,
                struct rv_error *ret_error)
{
    char topic[EVENT_TOPIC_LIMIT + 1];
    struct rv_header *headers = NULL;
    if (!k->fn) {
        return RV_OK;
    }
    if (event_message(e, topic, &out->message, &headers) != OK) {
        return fail_memory(ret_error);
    }
    out->appended_ms = e->appended_ms;
    k->fn(k->ctx, out);
    mem_free(headers);
    return RV_OK;
}

static int event_take(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error)
{
    struct look *k = ctx;
    struct event e;
    if (event_decode(entry->body, &e) != OK) {
        return fail_set(ret_error, RV_E_CORRUPT, "event %" PRIu64 " makes no sense", entry->number);
    }
    k->status.next_number = entry->number + 1;
    if (entry->number <= k->status.delivered) {
        return RV_OK;
    }
    if (k->status.events++ == 0) {
        k->status.oldest_ms = e.appended_ms;
    }
    struct rv_spool_event out = {.number = entry->number, .why = ""};
    return give(k, &out, &e, ret_error);
}

/* Which entries of `refused` went into the spool again: those whose new numbers are there. */
static int again_note(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error)
{
    struct look *k = ctx;
    struct again a;
    if (!again_decode(entry->body, &a)) {
        return RV_OK;
    }
    for (uint32_t i = 0; i < a.count && a.first + i < k->status.next_number; i++) {
        if (k->gone_count == k->gone_room) {
            size_t room = k->gone_room ? k->gone_room * 2 : 16;
            uint64_t *more = mem_resize(k->gone, room * sizeof *more);
            if (!more) {
                return fail_memory(ret_error);
            }
            k->gone = more;
            k->gone_room = room;
        }
        k->gone[k->gone_count++] = get_be64(a.entries + i * sizeof(uint64_t));
    }
    return RV_OK;
}

static int refusal_take(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error)
{
    struct look *k = ctx;
    struct refusal r;
    struct event e;
    struct again a;
    bool is_gone = k->gone_count &&
                   bsearch(&entry->number, k->gone, k->gone_count, sizeof *k->gone, by_number);
    if (is_gone || again_decode(entry->body, &a)) {
        return RV_OK;
    }
    if (refusal_decode(entry->body, &r) != OK || event_decode(r.event, &e) != OK) {
        return fail_set(ret_error, RV_E_CORRUPT, "file refused: entry %" PRIu64 " makes no sense",
                        entry->number);
    }
    k->status.refused++;
    char why[sizeof ret_error->text];
    snprintf(why, sizeof why, "%.*s", STR_ARG(r.why));
    struct rv_spool_event out = {
        .number = r.number, .code = r.code, .unsure = r.is_unsure, .why = why};
    return give(k, &out, &e, ret_error);
}

/* All entries of a file. `vouched`: entries below it must be there. */
static int file_look(struct look *k, const char *name, enum chain_kind kind, uint64_t vouched,
                     chain_each *each, struct rv_error *ret_error)
{
    struct chain c = {0};
    int64_t size = 0;
    int code = chain_open(&k->disk, name, kind, DISK_READ, &c, ret_error);
    if (code == RV_E_ABSENT) {
        return RV_OK; /* removed meanwhile, or just being made */
    }
    code = code == RV_OK ? chain_scan(&c, vouched, each, k, ret_error) : code;
    if (code == RV_OK && k->disk.ops->size(k->disk.ctx, c.file, &size) == OK) {
        k->status.bytes += size;
    }
    chain_close(&c);
    return code;
}

static int look_at(struct look *k, struct rv_error *ret_error)
{
    struct sending sending = {0};
    struct plan *plan = mem_alloc(sizeof *plan);
    if (!plan) {
        return fail_memory(ret_error);
    }
    int code = sending_open(&k->disk, DISK_READ, &sending, plan, ret_error);
    sending_close(&sending);
    mem_free(plan);
    if (code != RV_OK) {
        return code;
    }
    k->status.delivered = sending.delivered;
    k->status.next_number = sending.delivered + 1;
    k->status.bytes = 2 * SENDING_FILE_SIZE;
    err e = k->disk.ops->list(k->disk.ctx, name_take, k);
    if (e != OK || k->no_memory) {
        return k->no_memory ? fail_memory(ret_error)
                            : fail_set(ret_error, RV_E_IO, "the directory: %s", err_text(e));
    }
    if (k->segment_count) {
        qsort(k->segments, k->segment_count, sizeof *k->segments, by_number);
    }
    for (size_t i = 0; i < k->segment_count && code == RV_OK; i++) {
        char name[CHAIN_NAME_SIZE];
        bool is_last = i + 1 == k->segment_count;
        segment_name(k->segments[i], name);
        code = file_look(k, name, CHAIN_EVENTS, is_last ? sending.vouched : k->segments[i + 1],
                         event_take, ret_error);
    }
    int64_t bytes = k->status.bytes;
    code = code == RV_OK ? file_look(k, "refused", CHAIN_REFUSED, 0, again_note, ret_error) : code;
    if (k->gone_count) {
        qsort(k->gone, k->gone_count, sizeof *k->gone, by_number);
    }
    k->status.bytes = bytes; /* it is looked at twice */
    return code == RV_OK ? file_look(k, "refused", CHAIN_REFUSED, 0, refusal_take, ret_error)
                         : code;
}

int spool_show_on(struct disk disk, rv_spool_event_fn *fn, void *ctx,
                  struct rv_spool_status *ret_status, struct rv_error *ret_error)
{
    struct look k = {
        .disk = disk,
        .fn = fn,
        .ctx = ctx,
        .status = {.limit_bytes = -1, .oldest_ms = -1, .failing_ms = -1}
    };
    int code = look_at(&k, ret_error);
    if (code == RV_OK) {
        *ret_status = k.status;
    }
    k.disk.ops->finish(k.disk.ctx);
    mem_free(k.segments);
    mem_free(k.gone);
    return code;
}

int rv_spool_show(const char *dir, rv_spool_event_fn *fn, void *ctx,
                  struct rv_spool_status *ret_status, struct rv_error *ret_error)
{
    struct disk disk;
    err e = disk_open_posix(dir, false, &disk);
    if (e != OK) {
        return fail_set(ret_error,
                        e == ERR_NOT_FOUND ? RV_E_ABSENT
                        : e == ERR_MEMORY  ? RV_E_MEMORY
                                           : RV_E_IO,
                        "spool %s: %s", dir, err_text(e));
    }
    return spool_show_on(disk, fn, ctx, ret_status, ret_error);
}
