#include "tests/kit/spool_rig.h"

#include "tests/kit/spool_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct spool_rig *spool_rig_create(uint64_t seed)
{
    struct spool_rig *r = calloc(1, sizeof *r);
    r->store = sim_store_create(seed);
    sim_clock_init(&r->clock, 1700000000000);
    spool_broker_init(&r->broker, &r->clock, seed);
    spool_broker_topic(&r->broker, "a", 3);
    spool_broker_topic(&r->broker, "b", 1);
    spool_rig_option(r, "spool.dir", "sim");
    r->next = 1;
    return r;
}

void spool_rig_destroy(struct spool_rig *r)
{
    spool_rig_close(r);
    sim_store_destroy(r->store);
    spool_broker_finish(&r->broker);
    free(r);
}

void spool_rig_option(struct spool_rig *r, const char *name, const char *value)
{
    assert_true(r->option_count + 1 < RIG_OPTIONS_MAX);
    r->options[r->option_count++] = (struct rv_option){name, value};
}

int spool_rig_open(struct spool_rig *r)
{
    assert_null(r->spool);
    return spool_open_on(spool_disk(r->store), &r->clock.clock, r->options, &r->spool, &r->error);
}

void spool_rig_close(struct spool_rig *r)
{
    if (r->spool) {
        assert_int_equal(rv_spool_close(r->spool, &r->error), RV_OK);
        r->spool = NULL;
        sim_store_restart(r->store, SIM_KILL); /* frees the lock */
    }
}

/* Nothing that is written to the disk from here on stays. */
static void forget(struct spool_rig *r)
{
    if (r->spool) {
        struct rv_error e;
        (void)rv_spool_close(r->spool, &e);
        r->spool = NULL;
    }
}

void spool_rig_crash(struct spool_rig *r, enum sim_cut how)
{
    if (!sim_store_is_down(r->store)) {
        sim_store_cut_at(r->store, sim_store_operations(r->store), how);
    }
    forget(r);
    sim_store_restart(r->store, how);
}

int spool_rig_append_to(struct spool_rig *r, const char *topic, size_t size)
{
    uint64_t number = r->next++;
    char value[24], key[24];
    assert_true(number < RIG_EVENTS_MAX);
    int n = snprintf(value, sizeof value, "%llu", (unsigned long long)number);
    snprintf(key, sizeof key, "k%llu", (unsigned long long)(number % 5));
    char *filler = calloc(1, size + 1);
    memset(filler, 'x', size);
    const struct rv_header headers[] = {
        {rv_str("filler"), {filler, size}},
        {rv_str("null"),   {NULL, 0}     },
    };
    struct rv_message m = {
        .topic = topic,
        .value = {value, (size_t)n},
        .headers = headers,
        .header_count = number % 3 ? 2 : 0,
        .to_partition = number % 4 == 1,
        .timestamp_ms = number % 2 ? 0 : 5
    };
    if (size) {
        m.header_count = 2;
    }
    if (number % 4 != 3) {
        m.key = rv_str(key);
    }
    int code = rv_spool_append(r->spool, &m, NULL, &r->error);
    free(filler);
    if (code == RV_OK) {
        r->promised[number] = 1;
    } else if (r->error.flags & RV_UNSURE) {
        r->unsure[number] = 1;
    }
    return code;
}

int spool_rig_append(struct spool_rig *r)
{
    return spool_rig_append_to(r, r->next % 3 ? "a" : "b", 0);
}

int spool_rig_send(struct spool_rig *r, int timeout_ms)
{
    struct carrier c = spool_broker_carrier(&r->broker);
    return spool_send_by(r->spool, &c, timeout_ms, &r->error);
}

struct rv_spool_status spool_rig_status(struct spool_rig *r)
{
    struct rv_spool_status st;
    rv_spool_status(r->spool, &st);
    return st;
}

void spool_rig_check(struct spool_rig *r, bool (*is_aside)(void *ctx, uint64_t number), void *ctx)
{
    static uint8_t stored[RIG_EVENTS_MAX];
    memset(stored, 0, sizeof stored);
    for (size_t i = 0; i < r->broker.place_count; i++) {
        const struct spool_broker_place *p = &r->broker.places[i];
        for (size_t j = 0; j < p->count; j++) {
            assert_true(p->numbers[j] > 0 && p->numbers[j] < r->next);
            stored[p->numbers[j]]++;
            if (j > 0 && p->numbers[j] <= p->numbers[j - 1]) {
                fail_msg("%s-%d: %llu after %llu", p->topic, (int)p->partition,
                         (unsigned long long)p->numbers[j], (unsigned long long)p->numbers[j - 1]);
            }
        }
    }
    for (uint64_t n = 1; n < r->next; n++) {
        bool is_gone = is_aside && is_aside(ctx, n);
        int least = r->promised[n] && !is_gone;
        int most = (r->promised[n] || r->unsure[n]) && !is_gone;
        if (stored[n] < least || stored[n] > most) {
            fail_msg("event %llu is stored %d times: promised %d, unsure %d, set aside %d",
                     (unsigned long long)n, stored[n], r->promised[n], r->unsure[n], is_gone);
        }
    }
}
