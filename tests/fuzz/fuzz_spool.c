/* A spool's directory as somebody else, or a crash, left it: opening it says what is wrong or
 * works; then everything can be sent, and what is appended afterwards stays.
 *
 *   uint8 how, then files: uint8 which (names below) · uint16 size · bytes
 *   how & 1: checksums are set right   how & 2: some batches are refused   how & 4: some are lost
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "client/spool/internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/kit/sim_clock.h"
#include "tests/kit/spool_disk.h"

enum { SET_RIGHT = 1, REFUSE = 2, LOSE = 4, FILES_MAX = 8, SEND_MS = 100000 };

static const char *const names[] = {"sending.0", "sending.1", "00000000000000000001.events",
                                    "00000000000000000003.events", "refused"};

struct fuzzed {
    struct sim_store *store;
    struct sim_clock clock;
    uint8_t how;
    int turn;
};

/* As chain.c has them. */
static void set_right(uint8_t *p, size_t size)
{
    if (size < CHAIN_FILE_HEAD_SIZE) {
        return;
    }
    put_be32(p + 28, crc32c(p, 28));
    for (size_t at = CHAIN_FILE_HEAD_SIZE; at + CHAIN_HEAD_SIZE <= size;) {
        size_t body = get_be32(p + at + 4);
        if (body > size - at - CHAIN_HEAD_SIZE) {
            return;
        }
        uint32_t crc = crc32c(p + 8, 8);
        put_be32(p + at, crc32c_more(crc, p + at + 4, CHAIN_HEAD_SIZE - 4 + body));
        at += (size_t)chain_entry_size(body);
    }
}

static void put_file(struct sim_store *store, size_t which, struct bytes content, bool right)
{
    struct disk d = spool_disk(store);
    struct disk_file *f;
    size_t size = which < 2 ? SENDING_FILE_SIZE : content.len;
    uint8_t *copy = mem_need_zero(1, size ? size : 1);
    memcpy(copy, content.ptr, content.len);
    if (right) {
        set_right(copy, content.len);
    }
    if (d.ops->open(d.ctx, names[which], DISK_CREATE, &f) == OK) { /* the first one counts */
        check(d.ops->write(d.ctx, f, copy, size, 0) == OK);
        check(d.ops->sync(d.ctx, f) == OK);
        check(d.ops->close(d.ctx, f) == OK);
    }
    mem_free(copy);
}

/* ---- a broker that takes what it gets */

static int identity(void *ctx, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                    struct rv_error *ret_error)
{
    (void)ctx, (void)timeout_ms, (void)ret_error;
    *ret_id = 1;
    *ret_epoch = 0;
    return RV_OK;
}

static int partitions(void *ctx, const char *topic, int timeout_ms, int32_t *ret_count,
                      struct rv_error *ret_error)
{
    (void)ctx, (void)topic, (void)timeout_ms, (void)ret_error;
    *ret_count = 3;
    return RV_OK;
}

static int ends(void *ctx, struct rv_partition *p, size_t count, int timeout_ms,
                struct rv_error *ret_error)
{
    (void)ctx, (void)p, (void)count, (void)timeout_ms, (void)ret_error;
    return RV_OK; /* all at 0 */
}

static int send_some(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                     struct rv_error *ret_error)
{
    struct fuzzed *z = ctx;
    (void)timeout_ms, (void)ret_error;
    for (size_t i = 0; i < count; i++) {
        struct sealed_batch *b = &batches[i];
        struct batch_scratch scratch = {0};
        struct batch_info info;
        enum batch_flaw flaw;
        check(batch_validate(b->bytes, b->size, 64 << 20, &scratch, &info, &flaw) == OK);
        check(info.count == b->count && info.base_sequence == b->base_sequence);
        batch_scratch_finish(&scratch);
        int turn = z->turn++;
        b->fate = z->how & LOSE && turn % 3 == 1     ? SEALED_UNKNOWN
                  : z->how & REFUSE && turn % 3 == 2 ? SEALED_REFUSED
                                                     : SEALED_STORED;
        b->code = b->fate == SEALED_REFUSED ? 10 + turn % 2 * 19 : 0;
        b->unsure = b->fate == SEALED_UNKNOWN;
        b->why[0] = 0;
    }
    return RV_OK;
}

static void pause_some(void *ctx, int ms)
{
    struct fuzzed *z = ctx;
    sim_clock_advance_ms(&z->clock, ms);
}

static int open_it(struct fuzzed *z, struct rv_spool **ret_spool)
{
    struct rv_error e;
    return spool_open_on(spool_disk(z->store), &z->clock.clock,
                         RV_OPTIONS({"spool.dir", "sim"}, {"spool.segment.bytes", "4096"}),
                         ret_spool, &e);
}

static void go_on(struct fuzzed *z, struct rv_spool *spool)
{
    const struct carrier c = {identity, partitions, ends, send_some, pause_some, z};
    const struct rv_message m = {.topic = "a", .key = rv_str("k"), .value = rv_str("v")};
    struct rv_error e;
    struct rv_spool_status st;
    uint64_t number = 0;
    int sent = spool_send_by(spool, &c, SEND_MS, &e);
    int appended = rv_spool_append(spool, &m, &number, &e);
    check(appended == RV_OK);
    sim_store_cut_at(z->store, sim_store_operations(z->store), SIM_CUT_LOSE);
    (void)rv_spool_close(spool, &e);
    sim_store_restart(z->store, SIM_CUT_LOSE);
    check(open_it(z, &spool) == RV_OK);
    rv_spool_status(spool, &st);
    check(st.next_number == number + 1);
    if (sent == RV_OK) {
        check(st.events >= 1);
        check(spool_send_by(spool, &c, SEND_MS, &e) == RV_OK);
    } else {
        check(e.code == RV_OK || sent == RV_E_CORRUPT || sent == RV_E_TIMED_OUT);
    }
    (void)spool_show_on(spool_disk(z->store), NULL, NULL, &st, &e);
    check(rv_spool_close(spool, &e) == RV_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    struct fuzzed z = {.store = sim_store_create(1), .how = input_byte(&in)};
    struct rv_spool *spool = NULL;
    struct rv_spool_status st;
    struct rv_error e;
    sim_clock_init(&z.clock, 1700000000000);
    for (int i = 0; i < FILES_MAX && input_left(&in) > 0; i++) {
        size_t which = input_byte(&in) % (sizeof names / sizeof *names);
        put_file(z.store, which, input_bytes(&in, input_short(&in)), z.how & SET_RIGHT);
    }
    struct disk d = spool_disk(z.store);
    check(d.ops->sync_names(d.ctx) == OK);
    (void)spool_show_on(spool_disk(z.store), NULL, NULL, &st, &e);
    int code = open_it(&z, &spool);
    if (code == RV_OK) {
        go_on(&z, spool);
    } else {
        check(code == RV_E_CORRUPT || code == RV_E_VERSION);
    }
    sim_store_destroy(z.store);
    return 0;
}
