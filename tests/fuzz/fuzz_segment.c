/* A partition's directory as somebody else, or a crash, left it: opening it never fails for what
 * the files say, what is served has a good checksum, and the log goes on from there.
 *
 *   uint8 how, then files: uint8 which (names below) · uint16 size · bytes
 *   how & 1: the last stop was clean   how & 2: checksums of batches and snapshots are set right
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "tests/fuzz/fuzz_log.h"

enum { CLEAN = 1, SET_RIGHT = 2, FILES_MAX = 12 };

static const char *const names[] = {
    "t0-0/00000000000000000000.log",
    "t0-0/00000000000000000000.index",
    "t0-0/00000000000000000000.timeindex",
    "t0-0/00000000000000000004.log",
    "t0-0/00000000000000000004.index",
    "t0-0/00000000000000000004.timeindex",
    "t0-0/00000000000000000004.snapshot",
    "t0-0/leader-epoch-checkpoint",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "t0-0/partition.metadata",
    "t0-0/00000000000000000009.snapshot",
    "rivulet.scrub",
};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static void put_file(struct store *s, const char *name, struct bytes content, bool set_right)
{
    uint8_t *copy = mem_need_dup(content.ptr, content.len);
    struct iovec v = {copy, content.len};
    struct store_file *f;
    if (set_right && ends_with(name, ".log")) {
        log_file_set_right(copy, content.len);
    } else if (set_right && ends_with(name, ".snapshot") && content.len >= 10) {
        put_be32(copy + 2, crc32c(copy + 6, content.len - 6));
    }
    check(s->ops->open(s->ctx, name, STORE_CREATE, &f) == OK);
    check(s->ops->truncate(s->ctx, f, 0) == OK);
    check(!content.len || s->ops->write(s->ctx, f, &v, 1, 0) == OK);
    check(s->ops->sync(s->ctx, f) == OK);
    s->ops->close(s->ctx, f);
    mem_free(copy);
}

static void look_up(struct log_kit *k)
{
    static const int64_t times[] = {0, 1, 1700000000000, INT64_MAX};
    int64_t offset;
    int64_t time;
    int32_t epoch;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        err e = log_kit_find_time(k, 0, times[i], &offset, &time);
        check(e || offset == -1 || time >= times[i]);
    }
    (void)log_kit_max_time(k, 0, &offset, &time);
    for (int32_t i = -1; i < 4; i++) {
        log_epoch_end(log_kit_log(k, 0), i, &epoch, &offset);
    }
}

/* A start found that the files contradict the recovery point: nothing is removed, nothing is
 * written behind what is wrong. */
static bool is_fenced(struct log_kit *k)
{
    return log_kit_log(k, 0)->fenced;
}

/* What is durable behind nothing but good batches stays. */
static void append_and_restart(struct log_kit *k, bool good)
{
    struct log_kit_append a;
    log_kit_batch(&a, 2, 20, 1, 1700000000000, 5, 0, 0);
    err e = log_kit_append(k, 0, &a);
    log_kit_drain(k);
    bool appended = good && !e && a.durable == 1 && a.durable_result == OK && !a.a.duplicate;
    int64_t at = a.a.base_offset;
    log_kit_append_finish(&a);
    log_kit_crash(k, SIM_CUT_LOSE);
    check(log_kit_start(k, 1, false) == OK);
    appended = appended && !is_fenced(k);
    check(!appended || log_high_watermark(log_kit_log(k, 0)) >= at + 2);
    good = log_read_all(k, 0);
    check(!appended || good);
    log_kit_stop(k);
    check(log_kit_start(k, 1, true) == OK);
    check(!appended || log_high_watermark(log_kit_log(k, 0)) >= at + 2);
    check(!appended || log_read_all(k, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    struct log_kit *k = mem_need(sizeof *k);
    uint8_t how = input_byte(&in);
    log_kit_init(k, 1);
    k->config.index_interval_bytes = 100;
    k->scrub_bytes_per_s = 1; /* or its file is not read */
    k->scrub_interval_ms = 1000;
    struct store *s = sim_store_store(k->sim);
    check(s->ops->make_dir(s->ctx, "t0-0") == OK);
    for (int i = 0; i < FILES_MAX && input_left(&in) > 0; i++) {
        const char *name = names[input_byte(&in) % (sizeof names / sizeof *names)];
        put_file(s, name, input_bytes(&in, input_short(&in)), how & SET_RIGHT);
    }
    check(s->ops->sync_dir(s->ctx, "t0-0") == OK && s->ops->sync_dir(s->ctx, "") == OK);
    check(log_kit_start(k, 1, how & CLEAN) == OK);
    bool good = log_read_all(k, 0);
    look_up(k);
    append_and_restart(k, good);
    log_kit_finish(k);
    mem_free(k);
    return 0;
}
