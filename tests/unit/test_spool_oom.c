/* Every allocation of a spool fails in turn: RV_E_MEMORY, nothing leaks, and what was appended is
 * sent once when there is memory again. */
#include "client/spool/internal.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { EVENTS = 4, SEND_MS = 60000 };

struct taker { /* a broker that takes everything */
    int records;
};

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
    *ret_count = 2;
    return RV_OK;
}

static int ends(void *ctx, struct rv_partition *p, size_t count, int timeout_ms,
                struct rv_error *ret_error)
{
    (void)ctx, (void)p, (void)count, (void)timeout_ms, (void)ret_error;
    return RV_OK;
}

/* What is for the topic "refused" is. */
static int take(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                struct rv_error *ret_error)
{
    struct taker *t = ctx;
    (void)timeout_ms, (void)ret_error;
    for (size_t i = 0; i < count; i++) {
        bool is_refused = strcmp(batches[i].topic, "refused") == 0;
        batches[i].fate = is_refused ? SEALED_REFUSED : SEALED_STORED;
        batches[i].code = is_refused ? 29 : 0;
        t->records += is_refused ? 0 : batches[i].count;
    }
    return RV_OK;
}

static void pause_none(void *ctx, int ms)
{
    (void)ctx, (void)ms;
}

static int open_it(const char *dir, struct rv_spool **ret_spool)
{
    struct rv_error e;
    return rv_spool_open(RV_OPTIONS({"spool.dir", dir}), ret_spool, &e);
}

/* RV_OK or RV_E_MEMORY. */
static bool is_good(int code)
{
    assert_true(code == RV_OK || code == RV_E_MEMORY);
    return code == RV_OK;
}

static void look(void *ctx, const struct rv_spool_event *e)
{
    (void)e;
    ++*(int *)ctx;
}

/* False: no allocation failed, there are fewer. */
static bool run(long k)
{
    char dir[TEMP_DIR_SIZE];
    struct taker taker = {0};
    const struct carrier c = {identity, partitions, ends, take, pause_none, &taker};
    const struct rv_header header = {rv_str("h"), rv_str("v")};
    struct rv_spool *spool = NULL;
    struct rv_spool_status st;
    struct rv_error e;
    int appended = 0, shown = 0;
    temp_dir_make(dir);
    long alive = mem_alive();
    mem_fail_at(k);
    bool opened = is_good(open_it(dir, &spool));
    for (int i = 0; i < EVENTS; i++) {
        if (!opened) {
            assert_int_equal(open_it(dir, &spool), RV_OK);
            opened = true;
        }
        const struct rv_message m = {.topic = i == 1 ? "refused" : "b",
                                     .key = rv_str(i % 2 ? "k" : "l"),
                                     .value = rv_str("v"),
                                     .headers = &header,
                                     .header_count = 1};
        while (!is_good(rv_spool_append(spool, &m, NULL, &e))) {
        }
        appended++;
    }
    while (!is_good(spool_send_by(spool, &c, SEND_MS, &e))) {
    }
    (void)is_good(rv_spool_show(dir, look, &shown, &st, &e));
    while (!is_good(rv_spool_retry(spool, NULL, false, NULL, &e))) {
    }
    while (!is_good(spool_send_by(spool, &c, SEND_MS, &e))) {
    }
    appended++; /* it is set aside once more */
    bool closed = is_good(rv_spool_close(spool, &e));
    bool was_hit = mem_asked() > k;
    mem_fail_at(-1);
    assert_int_equal(mem_alive(), alive);
    assert_int_equal(taker.records, appended - 2);
    assert_int_equal(open_it(dir, &spool), RV_OK);
    rv_spool_status(spool, &st);
    assert_int_equal(st.events, 0);
    assert_int_equal(st.refused, 1);
    assert_int_equal(st.delivered, appended);
    assert_int_equal(rv_spool_close(spool, &e), RV_OK);
    assert_true(closed || was_hit);
    temp_dir_remove(dir);
    return was_hit;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long k = 0;
    while (run(k)) {
        k++;
    }
    printf("%ld allocations\n", k);
    assert_true(k > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
