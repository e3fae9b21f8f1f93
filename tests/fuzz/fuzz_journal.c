/* The journal's replay. Whatever its files, the segments and the checkpoints say, a start comes to
 * its end; what is served has a good checksum; what anything readable calls durable keeps its
 * offsets and its bytes; and the logs go on from there.
 *
 *   uint8 how
 *     how & 1: checksums of the journal's headers and groups are set right, and that of the durable
 *              ends
 *     how & 2: those of batches too, in segments and groups
 *     how & 4: first real logs with a real journal, then how & 8: and then the power goes, not
 *              the process alone:  uint8 count of appends, and for each
 *              uint8: its log (& 1), the short way (& 2), without a sync of its own (& 4), size
 *   changes: uint8 which (names below) · uint16 position · uint16 size · bytes
 *
 * Without how & 1 nobody but chance makes a group out of changed bytes: the salt of a real journal
 * is new in each run, so the fuzzer cannot learn its checksums.
 */
#include "base/mem.h"
#include "tests/fuzz/fuzz_log.h"

#include <stddef.h>

enum {
    SEALED = 1,
    SET_RIGHT = 2,
    REAL = 4,
    POWER_CUT = 8,

    LOGS = 2,
    APPENDS_MAX = 24,
    CHANGES_MAX = 24,
    FILE_MAX = 1 << 16,
    SEGMENTS = 4,     /* index of the logs' first in the names */
    NEXT = 6,         /* index of log 0's second segment */
    NEXT_BASE = 3,    /* its base */
    WORD = 10,        /* index of the durable ends */
    RECORDS_MAX = 64, /* of a group, whose batches are set right */
};

static const char *const names[] = {
    JOURNAL_NAME "0",
    JOURNAL_NAME "1",
    JOURNAL_NAME "2",
    JOURNAL_NAME "7", /* one too many */
    "t0-0/00000000000000000000.log",
    "t1-0/00000000000000000000.log",
    "t0-0/00000000000000000003.log",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "t0-0/leader-epoch-checkpoint",
    "durable-offset-checkpoint",
};

static bool is_journal(const char *name)
{
    return memcmp(name, JOURNAL_NAME, sizeof JOURNAL_NAME - 1) == 0;
}

static bool is_segment(const char *name)
{
    return strcmp(name + strlen(name) - 4, ".log") == 0;
}

/* ---- what was acknowledged */

struct told {
    uint32_t crc[LOGS][2 * APPENDS_MAX]; /* by offset: of the batch it is in */
    int64_t end[LOGS];
    bool all;          /* nothing may be missing */
    bool genuine;      /* nothing else may be served below the end */
    bool within[LOGS]; /* the checkpoint's recovery point is no batch's end: the next start, which
                          has only that, may fence the log */
};

static void append(struct log_kit *k, struct log_kit_append *a, struct told *told, uint8_t what)
{
    int which = what & 1;
    int32_t count = 1 + (what >> 7);
    int64_t from = told->end[which];
    log_kit_batch(a, count, 8 + (size_t)(what >> 3 & 15) * 40, (uint64_t)from, 1700000000000 + from,
                  -1, -1, -1);
    check(!(what & 2 ? log_kit_append_durable(k, which, a) : log_kit_append(k, which, a)));
    for (int32_t i = 0; i < count; i++) {
        told->crc[which][told->end[which]++] = get_be32(a->bytes.ptr + 17);
    }
    if (!(what & 4)) {
        log_kit_drain(k);
    }
}

static void make_real(struct log_kit *k, struct input *in, bool power_cut, struct told *told)
{
    struct log_kit_append appends[APPENDS_MAX];
    int n = input_byte(in) % (APPENDS_MAX + 1);
    check(log_kit_start(k, LOGS, false) == OK);
    for (int i = 0; i < n; i++) {
        append(k, &appends[i], told, input_byte(in));
    }
    log_kit_drain(k);
    for (int i = 0; i < n; i++) {
        check(appends[i].durable == 1 && appends[i].durable_result == OK);
        log_kit_append_finish(&appends[i]);
    }
    log_kit_crash(k, power_cut ? SIM_CUT_LOSE : SIM_KILL);
}

/* ---- changes */

static void set_group_right(uint8_t *p, const struct journal_group *g)
{
    size_t at = sizeof *g;
    for (uint32_t i = 0; i < g->count && i < RECORDS_MAX; i++) {
        struct journal_record r;
        if (g->size - at < sizeof r) {
            return;
        }
        memcpy(&r, p + at, sizeof r);
        at += sizeof r;
        if (r.size > g->size - at) {
            return;
        }
        log_file_set_right(p + at, r.size);
        at += r.size;
    }
}

/* Header and groups get their checksums, whatever else they say. */
static void seal_journal(uint8_t *p, size_t size, int how)
{
    struct journal_header h;
    if (size < JOURNAL_BLOCK) {
        return;
    }
    memcpy(&h, p, sizeof h);
    h.magic = journal_file_magic;
    h.version = JOURNAL_VERSION;
    h.crc = crc32c(&h.use, sizeof h - offsetof(struct journal_header, use));
    memcpy(p, &h, sizeof h);
    for (size_t at = JOURNAL_BLOCK; size - at >= JOURNAL_BLOCK; at += JOURNAL_BLOCK) {
        struct journal_group g;
        memcpy(&g, p + at, sizeof g);
        if (g.magic == JOURNAL_GROUP_MAGIC && g.size >= sizeof g && g.size <= size - at) {
            if (how & SET_RIGHT) {
                set_group_right(p + at, &g);
            }
            g.crc = journal_crc(h.salt, p + at, g.size);
            memcpy(p + at, &g, sizeof g);
        }
    }
}

/* The last line gets the checksum, if it is as long as one. */
static void seal_word(uint8_t *p, size_t size)
{
    const size_t line = sizeof "crc32c 00000000\n" - 1;
    struct buf text = {0};
    if (size > line && p[0] == '1') {
        buf_add(&text, p, size - line);
        offsets_text_seal(&text);
        check(text.len == size);
        memcpy(p, text.ptr, size);
        buf_finish(&text);
    }
}

static void change(struct store *s, const char *name, size_t position, struct bytes bytes, int how)
{
    struct buf file = {0};
    struct store_file *f;
    err e = store_read_file(s, name, FILE_MAX, &file);
    check(!e || e == ERR_NOT_FOUND);
    size_t size = position + bytes.len > file.len ? position + bytes.len : file.len;
    if (is_journal(name)) { /* whole blocks, as all that we write */
        size = (size + JOURNAL_BLOCK - 1) / JOURNAL_BLOCK * JOURNAL_BLOCK;
    }
    uint8_t *image = mem_need_zero(1, size + 1);
    memcpy(image, buf_text(&file), file.len);
    memcpy(image + position, bytes.ptr, bytes.len);
    if (how & SEALED && is_journal(name)) {
        seal_journal(image, size, how);
    } else if (how & SEALED && name == names[WORD]) {
        seal_word(image, size);
    } else if (how & SET_RIGHT && is_segment(name)) {
        log_file_set_right(image, size);
    }
    struct iovec v = {image, size};
    check(s->ops->open(s->ctx, name, STORE_CREATE, &f) == OK);
    check(size == 0 || s->ops->write(s->ctx, f, &v, 1, 0) == OK);
    check(s->ops->sync(s->ctx, f) == OK);
    s->ops->close(s->ctx, f);
    mem_free(image);
    buf_finish(&file);
}

/* What the durable ends say; ERR_CORRUPT: nothing that counts. */
static err read_word(struct store *s, int64_t ret_ends[LOGS])
{
    struct map ends;
    map_init(&ends, 1);
    err e = durable_offsets_read(s, names[WORD], &ends);
    for (int i = 0; i < LOGS; i++) {
        ret_ends[i] = checkpoint_value(&ends, i ? "t1-0" : "t0-0", 0);
    }
    map_finish(&ends);
    return e;
}

static void make_changes(struct store *s, struct input *in, int how, struct told *told)
{
    for (int i = 0; i < CHANGES_MAX && input_left(in) > 0; i++) {
        const char *name = names[input_byte(in) % (sizeof names / sizeof *names)];
        size_t position = input_short(in);
        struct bytes bytes = input_bytes(in, input_short(in));
        /* With the header's salt kept; one of a seed's brings groups of its own. */
        bool unsealed =
            is_journal(name) && !(how & SEALED) && position >= sizeof(struct journal_header);
        if (position + bytes.len <= FILE_MAX) {
            int64_t ignored[LOGS];
            change(s, name, position, bytes, how);
            if (name == names[WORD]) { /* rotten, it costs nothing of what is there */
                bool rotten = read_word(s, ignored) == ERR_CORRUPT;
                told->all = told->all && rotten;
                told->genuine = told->genuine && rotten;
                continue;
            }
            /* The segments still have all, and no group can be invented. After a power cut what
             * rotted may have been the only place. */
            told->all = told->all && unsealed && !(how & POWER_CUT);
            told->genuine = told->genuine && unsealed;
        }
    }
    check(s->ops->sync_dir(s->ctx, "") == OK);
    check(s->ops->sync_dir(s->ctx, "t0-0") == OK && s->ops->sync_dir(s->ctx, "t1-0") == OK);
}

/* ---- what must hold */

/* The bytes of a first segment up to which its batches follow each other and are below `end`.
 * *ret_within: `end` is within one. */
static size_t durable_size(const struct buf *file, int64_t end, bool *ret_within)
{
    struct batch_header h;
    int64_t next = 0;
    size_t at = 0;
    while (next < end && at < file->len && !batch_header_read(file->ptr + at, file->len - at, &h) &&
           batch_is_in_place(&h, next, INT64_MAX) && h.size <= file->len - at) {
        next = h.base_offset + h.last_offset_delta + 1;
        at += h.size;
    }
    *ret_within = next > end;
    return next <= end ? at : at - h.size;
}

static void read_segment(struct log_kit *k, int which, struct buf *out)
{
    err e = store_read_file(sim_store_store(k->sim), names[SEGMENTS + which], 4 * FILE_MAX, out);
    check(!e || e == ERR_NOT_FOUND);
}

/* Good batches, one behind the other, from the base of log 0's second segment up to `end`. */
static bool next_has(struct log_kit *k, int which, int64_t end)
{
    struct buf file = {0};
    struct batch_header h;
    int64_t next = NEXT_BASE;
    err e = which == 0 ? store_read_file(sim_store_store(k->sim), names[NEXT], 4 * FILE_MAX, &file)
                       : ERR_NOT_FOUND;
    for (size_t at = 0; !e && at < file.len && next < end; at += h.size) {
        if (batch_header_read(file.ptr + at, file.len - at, &h) || h.size > file.len - at ||
            !batch_is_in_place(&h, next, INT64_MAX) || !batch_crc_is_right(file.ptr + at, h.size)) {
            break;
        }
        next = h.base_offset + h.last_offset_delta + 1;
    }
    buf_finish(&file);
    return !e && next >= end;
}

/* What the journal calls durable; asked of it alone, so that the logs' recovery has no part in it.
 * True: it has rotted. */
static bool durable_ends(struct log_kit *k, int64_t ret_ends[LOGS], bool ret_batches[LOGS])
{
    struct journal j;
    journal_init(&j, sim_store_store(k->sim), &k->diag, 0, k->journal_file_bytes);
    check(journal_open(&j, false) == OK);
    for (int i = 0; i < LOGS; i++) {
        const struct journal_log *log =
            journal_find(&j, (struct journal_id){.topic = k->ids[i], .partition = 0});
        ret_ends[i] = log ? log->durable_end : 0;
        ret_batches[i] = log && log->count > 0;
    }
    bool rotten = j.replay && j.replay->rotten;
    journal_finish(&j);
    return rotten;
}

/* Below the acknowledged end: what was acknowledged, and nothing else. */
static void compare(struct log_kit *k, int which, const struct told *told)
{
    struct log *log = log_kit_log(k, which);
    struct buf out = {0};
    struct batch_header h;
    int64_t next = log_start_offset(log);
    check(log_end_offset(log) <= told->end[which]);
    err e = next < log_high_watermark(log) ? log_kit_read(k, which, next, FILE_MAX, &out) : OK;
    for (size_t at = 0; !e && at < out.len && !batch_header_read(out.ptr + at, out.len - at, &h);
         at += h.size) {
        check(h.base_offset == next && h.base_offset < told->end[which]);
        check(told->crc[which][h.base_offset] == get_be32(out.ptr + at + 17));
        next = h.base_offset + h.last_offset_delta + 1;
    }
    check(!told->all || (!e && next == told->end[which] && !log->fenced));
    buf_finish(&out);
}

static void start(struct log_kit *k, struct told *told)
{
    int64_t durable[LOGS];
    int64_t word[LOGS];
    bool batches[LOGS]; /* of the journal: it may have others, and shorter ones */
    struct buf before[LOGS] = {{0}, {0}};
    bool unsure = durable_ends(k, durable, batches);
    unsure = read_word(sim_store_store(k->sim), word) == ERR_CORRUPT || unsure;
    for (int i = 0; i < LOGS; i++) {
        read_segment(k, i, &before[i]);
    }
    check(log_kit_start(k, LOGS, false) == OK);
    for (int i = 0; i < LOGS; i++) {
        struct log *log = log_kit_log(k, i);
        struct buf after = {0};
        int64_t end = durable[i] > log->saved_point ? durable[i] : log->saved_point;
        end = word[i] > end ? word[i] : end;
        end = log_end_offset(log) == 0 && durable[i] <= 0 ? 0 : end; /* another's, of its name */
        check(log_end_offset(log) >= end);
        read_segment(k, i, &after);
        /* What was durable is where it was, or in the next segment. A fence cuts nothing. */
        size_t kept = durable_size(&before[i], end, &told->within[i]);
        bool moved = next_has(k, i, end > NEXT_BASE ? end : NEXT_BASE + 1);
        check(batches[i] || moved || after.len >= kept);
        (void)durable_size(&after, log->saved_point, &told->within[i]);
        check(after.len >= before[i].len || moved || !log->fenced);
        check(after.len >= before[i].len || moved || !unsure || batches[i]);
        (void)log_read_all(k, i);
        if (told->genuine) {
            compare(k, i, told);
        }
        buf_finish(&after);
        buf_finish(&before[i]);
    }
}

/* Logs that are not fenced take records, which a power cut does not take back. */
static void go_on(struct log_kit *k, const struct told *told)
{
    int64_t end[LOGS];
    for (int i = 0; i < LOGS; i++) {
        struct log_kit_append a;
        log_kit_batch(&a, 2, 20, 1, 1700000000000, -1, -1, -1);
        err e = log_kit_append(k, i, &a);
        log_kit_drain(k);
        bool good = !e && a.durable == 1 && a.durable_result == OK;
        end[i] = good ? a.a.base_offset + 2 : 0;
        check(e || !log_kit_log(k, i)->fenced);
        log_kit_append_finish(&a);
    }
    log_kit_crash(k, SIM_CUT_LOSE);
    check(log_kit_start(k, LOGS, false) == OK);
    for (int i = 0; i < LOGS; i++) {
        check(log_end_offset(log_kit_log(k, i)) >= end[i] || told->within[i]);
        (void)log_read_all(k, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    struct log_kit *k = mem_need(sizeof *k);
    struct told told = {0};
    uint8_t how = input_byte(&in);
    log_kit_init(k, 1);
    struct store *s = sim_store_store(k->sim);
    if (how & REAL) {
        told.all = told.genuine = true;
        make_real(k, &in, how & POWER_CUT, &told);
    } else {
        check(s->ops->make_dir(s->ctx, "t0-0") == OK && s->ops->make_dir(s->ctx, "t1-0") == OK);
    }
    make_changes(s, &in, how, &told);
    start(k, &told);
    go_on(k, &told);
    log_kit_finish(k);
    mem_free(k);
    return 0;
}
