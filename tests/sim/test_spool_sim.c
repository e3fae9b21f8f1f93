/* 24 hours in virtual time: three services publish through spools to a broker that is away and
 * comes back at random, loses requests and answers, and forgets its producers; the services are
 * killed, and their machines lose power. Everything that was accepted arrives once, in order; the
 * disk use of a spool stays within its bound, and is what it says.
 */
#include "tests/kit/spool_broker.h"
#include "tests/kit/spool_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SERVICES = 3,
    HOURS = 24,
    HOUR_MS = 3600000,
    EVENTS_MAX = 200000, /* of one service */
    NUMBERS = 1000000,   /* a service's numbers begin at its index times this */
    MAX_BYTES = 65536,   /* spool.max.bytes */
    BURST = 5,           /* events at once, at most */
    STEP_MS = 2000,      /* of publishing, on average */
    SEND_MS = 1500,
    MEAN_UP_MS = 12 * 60000,
    MEAN_AWAY_MS = 5 * 60000,
};

struct service {
    struct sim_store *store;
    struct rv_spool *spool;
    uint64_t next;     /* of its events */
    uint8_t *promised; /* owned; by number */
    uint8_t *unsure;
};

struct day {
    struct sim_clock clock;
    struct spool_broker broker;
    struct service services[SERVICES];
    struct rng rng;
    int64_t turns_ms; /* when the broker goes, or comes */
    int outages, long_outages, crashes, full, accepted;
    int64_t away_ms;
    int64_t disk_most; /* bytes */
};

static bool chance(struct day *d, uint64_t one_in)
{
    return rng_below(&d->rng, one_in) == 0;
}

static void service_open(struct day *d, struct service *s)
{
    struct rv_error e = {0};
    char most[24];
    snprintf(most, sizeof most, "%d", MAX_BYTES);
    if (spool_open_on(spool_disk(s->store), &d->clock.clock,
                      RV_OPTIONS({"spool.dir", "sim"}, {"spool.max.bytes", most}), &s->spool,
                      &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static void service_crash(struct day *d, struct service *s)
{
    static const enum sim_cut hows[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    enum sim_cut how = hows[rng_below(&d->rng, 3)];
    struct rv_error e;
    if (!sim_store_is_down(s->store)) {
        sim_store_cut_at(s->store, sim_store_operations(s->store), how);
    }
    (void)rv_spool_close(s->spool, &e); /* nothing of it comes to the disk */
    sim_store_restart(s->store, how);
    sim_store_count_from_zero(s->store);
    d->crashes++;
    service_open(d, s);
}

static void publish(struct day *d, int index)
{
    struct service *s = &d->services[index];
    uint64_t n = s->next++;
    uint64_t number = (uint64_t)index * NUMBERS + n;
    char value[24], key[24];
    struct rv_error e = {0};
    assert_true(n < EVENTS_MAX);
    snprintf(value, sizeof value, "%llu", (unsigned long long)number);
    snprintf(key, sizeof key, "user-%d", (int)rng_below(&d->rng, 50));
    const struct rv_message m = {
        .topic = n % 3 ? "a" : "b", .key = rv_str(key), .value = rv_str(value)};
    int code = rv_spool_append(s->spool, &m, NULL, &e);
    if (code == RV_OK) {
        s->promised[n] = 1;
        d->accepted++;
    } else if (code == RV_E_FULL) {
        d->full++;
    } else {
        s->unsure[n] = 1;
        service_crash(d, s);
    }
}

static void broker_turn(struct day *d)
{
    if (d->clock.wall_ms < d->turns_ms) {
        return;
    }
    d->broker.is_away = !d->broker.is_away;
    int64_t mean = d->broker.is_away ? MEAN_AWAY_MS : MEAN_UP_MS;
    int64_t ms = (int64_t)rng_below(&d->rng, (uint64_t)mean * 2);
    if (d->broker.is_away) {
        d->outages++;
        if (chance(d, 8)) {
            ms += HOUR_MS;
            d->long_outages++;
        }
        d->away_ms += ms;
        if (chance(d, 3)) { /* longer than producer.id.expiration.ms */
            spool_broker_forget(&d->broker);
        }
    }
    d->turns_ms = d->clock.wall_ms + ms;
}

static void service_turn(struct day *d, int index)
{
    struct service *s = &d->services[index];
    struct carrier c = spool_broker_carrier(&d->broker);
    struct rv_error e = {0};
    for (uint64_t i = rng_below(&d->rng, BURST); i > 0; i--) {
        publish(d, index);
    }
    if (chance(d, 4000)) { /* in the middle of whatever comes next */
        sim_store_cut_at(s->store, sim_store_operations(s->store) + rng_below(&d->rng, 12),
                         (enum sim_cut)rng_below(&d->rng, 3));
    }
    int code = spool_send_by(s->spool, &c, SEND_MS, &e);
    if (code == RV_E_CORRUPT) {
        fail_msg("%s", e.text);
    }
    if (code != RV_OK && code != RV_E_TIMED_OUT) {
        service_crash(d, s);
    }
    struct rv_spool_status st;
    rv_spool_status(s->spool, &st);
    assert_true(sim_store_used(s->store) <= st.bytes);
    assert_true(st.bytes <= MAX_BYTES + 2 * SENDING_FILE_SIZE);
    d->disk_most = st.bytes > d->disk_most ? st.bytes : d->disk_most;
}

/* Per partition the numbers of a service ascend, and each is there as often as it should be. */
static size_t check_all(struct day *d)
{
    size_t stored = 0;
    for (size_t i = 0; i < d->broker.place_count; i++) {
        const struct spool_broker_place *p = &d->broker.places[i];
        uint64_t last[SERVICES] = {0};
        for (size_t j = 0; j < p->count; j++) {
            uint64_t index = p->numbers[j] / NUMBERS, n = p->numbers[j] % NUMBERS;
            struct service *s = &d->services[index];
            assert_true(index < SERVICES && n > 0 && n < s->next);
            assert_true(n > last[index]);
            last[index] = n;
            assert_true(s->promised[n] || s->unsure[n]); /* once: 2 is neither */
            s->promised[n] = s->unsure[n] = 0;
            stored++;
        }
    }
    for (int i = 0; i < SERVICES; i++) {
        for (uint64_t n = 1; n < d->services[i].next; n++) {
            if (d->services[i].promised[n]) {
                fail_msg("event %llu of service %d is missing", (unsigned long long)n, i);
            }
        }
    }
    return stored;
}

static void run_day(uint64_t seed, int hours)
{
    struct day *d = calloc(1, sizeof *d);
    fprintf(stderr, "SEED=%llu\n", (unsigned long long)seed);
    rng_init(&d->rng, seed);
    sim_clock_init(&d->clock, 1700000000000);
    spool_broker_init(&d->broker, &d->clock, seed);
    spool_broker_topic(&d->broker, "a", 3);
    spool_broker_topic(&d->broker, "b", 1);
    d->broker.lose_answer = d->broker.lose_request = 3;
    int64_t end_ms = d->clock.wall_ms + (int64_t)hours * HOUR_MS;
    for (int i = 0; i < SERVICES; i++) {
        struct service *s = &d->services[i];
        s->store = sim_store_create(seed + (uint64_t)i);
        s->next = 1;
        s->promised = calloc(1, EVENTS_MAX);
        s->unsure = calloc(1, EVENTS_MAX);
        service_open(d, s);
    }
    while (d->clock.wall_ms < end_ms) {
        sim_clock_advance_ms(&d->clock, (int64_t)rng_below(&d->rng, STEP_MS * 2 / SERVICES));
        broker_turn(d);
        service_turn(d, (int)rng_below(&d->rng, SERVICES));
    }
    d->broker.is_away = false;
    d->broker.lose_answer = d->broker.lose_request = 0;
    for (int i = 0; i < SERVICES; i++) {
        struct service *s = &d->services[i];
        struct carrier c = spool_broker_carrier(&d->broker);
        struct rv_error e = {0};
        sim_store_count_from_zero(s->store);
        if (spool_send_by(s->spool, &c, HOUR_MS, &e) != RV_OK) {
            fail_msg("SEED=%llu: %s", (unsigned long long)seed, e.text);
        }
    }
    size_t stored = check_all(d);
    printf(
        "seed %llu: %d hours, %d services, %d outages (%d longer than an hour, %lld minutes in "
        "all), %d crashes: %d events accepted, %d refused because the spool was full, %zu stored "
        "once and in order; %d batches were found by reading back; a spool had %lld bytes at most "
        "(spool.max.bytes=%d and %d)\n",
        (unsigned long long)seed, hours, SERVICES, d->outages, d->long_outages,
        (long long)d->away_ms / 60000, d->crashes, d->accepted, d->full, stored, d->broker.found,
        (long long)d->disk_most, MAX_BYTES, 2 * SENDING_FILE_SIZE);
    assert_true(d->outages > hours && d->broker.found > 0 && d->crashes > 0 && d->full > 0);
    for (int i = 0; i < SERVICES; i++) {
        struct rv_error e;
        assert_int_equal(rv_spool_close(d->services[i].spool, &e), RV_OK);
        sim_store_destroy(d->services[i].store);
        free(d->services[i].promised);
        free(d->services[i].unsure);
    }
    spool_broker_finish(&d->broker);
    free(d);
}

/* A day is long: one a run, of the seed that is asked for (tests/sim/run). */
static void a_day_with_a_broker_that_comes_and_goes(void **state)
{
    (void)state;
    const char *seed = getenv("SEED");
    seed = seed ? seed : getenv("FIRST");
    run_day(seed ? strtoull(seed, NULL, 10) : 1, HOURS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_day_with_a_broker_that_comes_and_goes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
