/* Entries of the two files, each a chain:
 *
 *   D   number (8): all events up to it are done; entries (4) that belong to it: 1 when the D of
 *       a reset is followed by the plan that goes on
 *   P   a plan (plan.c)
 *   C   next number (8): a clean end, all below it is safe
 *   S   nothing more: the other file has taken over
 *
 * Invariants:
 *   N1  a reset writes the file that does not count, syncs it, and says so with an S in the one
 *       that did, which is synced too, before anything is written behind the reset
 *   N2  the file whose first entry has the higher number counts, if the entries that its reset
 *       wrote are all there; else the other one, whose state is the same, if it has no S: then the
 *       reset was cut short. With an S, what is not there has rotted
 *   N3  a plan begins behind what is done
 */
#include "client/spool/sending.h"

#include "base/check.h"
#include "client/sealed/fail.h"
#include "protocol/wire.h"

#include <string.h>

enum {
    KIND_DONE = 'D',
    KIND_PLAN = 'P',
    KIND_END = 'C',
    KIND_OVER = 'S',
    OVER_SIZE = CHAIN_HEAD_SIZE + 8, /* bytes that are kept free for an S */
};

/* What a reset writes, and a plan behind it, always have room. */
enum {
    BATCH_MOST = 32 + PLAN_TOPIC_SIZE, /* bytes of a batch in a plan */
    PLAN_MOST = CHAIN_HEAD_SIZE + 24 + PLAN_BATCHES * BATCH_MOST + PLAN_EVENTS,
};
_Static_assert(2 * PLAN_MOST + 256 < SENDING_FILE_SIZE, "two plans");

static const char *const names[2] = {"sending.0", "sending.1"};

/* ---- entries ---- */

static struct buf entry_begin(uint8_t kind)
{
    static const char room[CHAIN_HEAD_SIZE];
    struct buf b = {0};
    buf_add(&b, room, sizeof room);
    put_number(&b, kind, 1);
    return b;
}

static struct buf entry_done(uint64_t number, uint32_t with)
{
    struct buf b = entry_begin(KIND_DONE);
    put_number(&b, number, 8);
    put_number(&b, with, 4);
    return b;
}

static struct buf entry_plan(const struct plan *plan)
{
    struct buf b = entry_begin(KIND_PLAN);
    plan_encode(plan, &b);
    return b;
}

/* The other file takes over, with what is done and one more entry (NULL: none) (N1). */
static int reset(struct sending *s, struct buf *more, struct rv_error *ret_error)
{
    struct chain *from = &s->files[s->active];
    struct chain *to = &s->files[!s->active];
    uint64_t first = (from->next > to->next ? from->next : to->next) + 1;
    struct buf entries[2] = {entry_done(s->delivered, more ? 1 : 0)};
    if (more) {
        entries[1] = *more;
    }
    int code = chain_reset(to, first, entries, more ? 2 : 1, ret_error);
    buf_finish(&entries[0]);
    if (more) {
        *more = entries[1];
    }
    bool was_void = from->next == from->first; /* at the creation */
    if (code == RV_OK && !was_void) {
        struct buf over = entry_begin(KIND_OVER);
        code = chain_append(from, &over, ret_error);
        code = code == RV_OK ? chain_sync(from, ret_error) : code;
        buf_finish(&over);
    }
    if (code == RV_OK) {
        s->active = !s->active;
    }
    return code;
}

static bool has_room(const struct sending *s, const struct buf *entry)
{
    return s->files[s->active].end + chain_entry_size(entry->len - CHAIN_HEAD_SIZE) + OVER_SIZE <=
           SENDING_FILE_SIZE;
}

/* Appends it, in the other file when this one is full. */
static int put(struct sending *s, struct buf *entry, struct rv_error *ret_error)
{
    int code = entry->failed        ? fail_memory(ret_error)
               : has_room(s, entry) ? chain_append(&s->files[s->active], entry, ret_error)
                                    : reset(s, entry, ret_error);
    buf_finish(entry);
    return code;
}

/* ---- reading ---- */

struct scan {
    uint64_t delivered, vouched;
    uint64_t count;  /* entries */
    uint64_t needed; /* of them, by the first */
    bool is_over;    /* an S was there */
    struct plan *plan;
};

static int scan_done(struct scan *q, struct reader *r)
{
    q->delivered = (uint64_t)reader_int64(r);
    uint32_t with = (uint32_t)reader_int32(r);
    if (q->count == 0) {
        q->needed = 1 + (uint64_t)with;
    }
    if (q->vouched <= q->delivered) {
        q->vouched = q->delivered + 1;
    }
    q->plan->event_count = 0;
    return r->error == OK && reader_left(r) == 0 && q->delivered < INT64_MAX ? RV_OK : RV_E_CORRUPT;
}

static int scan_plan(struct scan *q, struct reader *r)
{
    struct bytes body = {r->next, reader_left(r)};
    if (plan_decode(body, q->plan) != OK || q->plan->first != q->delivered + 1) { /* N3 */
        return RV_E_CORRUPT;
    }
    if (q->vouched <= plan_last(q->plan)) {
        q->vouched = plan_last(q->plan) + 1;
    }
    return RV_OK;
}

static int scan_end(struct scan *q, struct reader *r)
{
    uint64_t next = (uint64_t)reader_int64(r);
    q->vouched = next > q->vouched ? next : q->vouched;
    return r->error == OK && reader_left(r) == 0 && next <= INT64_MAX ? RV_OK : RV_E_CORRUPT;
}

static int scan_entry(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error)
{
    struct scan *q = ctx;
    struct reader r;
    reader_init(&r, entry->body.ptr, entry->body.len);
    int code = RV_E_CORRUPT;
    switch (reader_int8(&r)) {
    case KIND_DONE: code = scan_done(q, &r); break;
    case KIND_PLAN: code = q->count ? scan_plan(q, &r) : RV_E_CORRUPT; break;
    case KIND_END: code = q->count ? scan_end(q, &r) : RV_E_CORRUPT; break;
    case KIND_OVER:
        code = q->count && !q->is_over ? RV_OK : RV_E_CORRUPT;
        q->is_over = true;
        break;
    }
    q->count++;
    return code == RV_OK
               ? RV_OK
               : fail_set(ret_error, code, "sending: entry %llu at position %lld makes no sense",
                          (unsigned long long)entry->number, (long long)entry->position);
}

/* Reads file `i` if its reset is complete. RV_E_ABSENT: it is not. RV_E_CORRUPT: another one has
 * taken over, though `counts` says that this one does. */
static int scan_file(struct sending *s, int i, bool counts, struct plan *plan,
                     struct rv_error *ret_error)
{
    struct scan q = {.plan = plan, .vouched = 1, .needed = 1};
    plan->event_count = 0;
    int code = chain_scan(&s->files[i], 0, scan_entry, &q, ret_error);
    if (code == RV_OK && q.count < q.needed) {
        code = fail_set(ret_error, RV_E_ABSENT, "file %s: its beginning is not complete", names[i]);
    }
    if (code == RV_OK && counts && q.is_over) {
        code =
            fail_set(ret_error, RV_E_CORRUPT,
                     "file %s: it is damaged: %s says that it has taken over", names[!i], names[i]);
    }
    if (code == RV_OK) {
        s->active = i;
        s->delivered = q.delivered;
        s->vouched = q.vouched;
    }
    return code;
}

/* N2 */
static int scan_files(struct sending *s, const int codes[2], struct plan *plan,
                      struct rv_error *ret_error)
{
    bool is_good[2] = {codes[0] == RV_OK, codes[1] == RV_OK};
    int newer = is_good[1] && (!is_good[0] || s->files[1].first > s->files[0].first);
    if (!is_good[newer]) { /* a void one besides: the creation was cut short, or there are events */
        return codes[0] == RV_E_CORRUPT && codes[1] == RV_E_CORRUPT
                   ? fail_set(ret_error, RV_E_CORRUPT,
                              "sending: the heads of its files are damaged")
                   : RV_E_ABSENT;
    }
    int code = scan_file(s, newer, !is_good[!newer], plan, ret_error);
    if (code == RV_E_ABSENT && is_good[!newer]) {
        code = scan_file(s, !newer, true, plan, ret_error);
    }
    return code;
}

int sending_open(const struct disk *disk, enum disk_open how, struct sending *ret_sending,
                 struct plan *ret_plan, struct rv_error *ret_error)
{
    struct sending s = {.active = 0};
    int codes[2] = {RV_OK, RV_OK};
    int code = RV_OK;
    for (int i = 0; i < 2 && code == RV_OK; i++) {
        codes[i] = chain_open(disk, names[i], CHAIN_SENDING, how, &s.files[i], ret_error);
        code = codes[i] == RV_E_ABSENT || codes[i] == RV_E_CORRUPT ? RV_OK : codes[i];
    }
    code = code == RV_OK ? scan_files(&s, codes, ret_plan, ret_error) : code;
    for (int i = 0; i < 2 && code == RV_OK; i++) {
        if (!s.files[i].file || s.files[i].size_bytes != SENDING_FILE_SIZE) {
            code = fail_set(ret_error, RV_E_CORRUPT, "file %s: it is not there, or was cut short",
                            names[i]);
        }
    }
    if (code != RV_OK) {
        sending_close(&s);
        return code == RV_E_ABSENT ? fail_set(ret_error, code, "sending: there is nothing in it")
                                   : code;
    }
    *ret_sending = s;
    return RV_OK;
}

/* ---- writing ---- */

int sending_create(const struct disk *disk, struct sending *ret_sending, struct rv_error *ret_error)
{
    struct sending s = {.active = 1};
    int code = RV_OK;
    for (int i = 0; i < 2 && code == RV_OK; i++) {
        err e = disk->ops->unlink(disk->ctx, names[i]); /* of a creation that was cut short */
        code = e == OK || e == ERR_NOT_FOUND
                   ? chain_create(disk, names[i], CHAIN_SENDING, 1, SENDING_FILE_SIZE, &s.files[i],
                                  ret_error)
                   : fail_set(ret_error, RV_E_IO, "file %s: %s", names[i], err_text(e));
    }
    if (code == RV_OK) {
        err e = disk->ops->sync_names(disk->ctx);
        code = e == OK ? RV_OK : fail_set(ret_error, RV_E_IO, "the directory: %s", err_text(e));
    }
    code = code == RV_OK ? reset(&s, NULL, ret_error) : code;
    if (code != RV_OK) {
        sending_close(&s);
        return code;
    }
    s.vouched = 1;
    *ret_sending = s;
    return RV_OK;
}

int sending_renew(struct sending *s, const struct plan *plan, struct rv_error *ret_error)
{
    struct buf entry = {0};
    if (plan) {
        entry = entry_plan(plan);
    }
    int code = reset(s, plan ? &entry : NULL, ret_error);
    buf_finish(&entry);
    return code;
}

int sending_plan(struct sending *s, const struct plan *plan, struct rv_error *ret_error)
{
    check(plan->first == s->delivered + 1); /* N3 */
    struct buf entry = entry_plan(plan);
    int code = put(s, &entry, ret_error);
    code = code == RV_OK ? sending_sync(s, ret_error) : code;
    if (code == RV_OK && s->vouched <= plan_last(plan)) {
        s->vouched = plan_last(plan) + 1;
    }
    return code;
}

int sending_done(struct sending *s, uint64_t number, struct rv_error *ret_error)
{
    struct buf entry = entry_done(number, 0);
    uint64_t before = s->delivered;
    s->delivered = number;
    int code = entry.failed          ? fail_memory(ret_error)
               : has_room(s, &entry) ? chain_append(&s->files[s->active], &entry, ret_error)
                                     : reset(s, NULL, ret_error);
    buf_finish(&entry);
    if (code != RV_OK) {
        s->delivered = before;
    }
    return code;
}

int sending_end(struct sending *s, uint64_t next, struct rv_error *ret_error)
{
    struct buf entry = entry_begin(KIND_END);
    put_number(&entry, next, 8);
    int code = put(s, &entry, ret_error);
    return code == RV_OK ? sending_sync(s, ret_error) : code;
}

int sending_sync(struct sending *s, struct rv_error *ret_error)
{
    return chain_sync(&s->files[s->active], ret_error);
}

void sending_close(struct sending *s)
{
    chain_close(&s->files[0]);
    chain_close(&s->files[1]);
}
