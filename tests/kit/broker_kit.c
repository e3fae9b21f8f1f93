#include "tests/kit/broker_kit.h"

#include "base/check.h"
#include "base/slab.h"
#include "broker/log/internal.h"
#include "broker/store/extent.h"

#include <string.h>

/* ---- the connection: its `conn` is the kit ---- */

static void op_write(void *conn, const void *p, size_t size)
{
    buf_add(&((struct broker_kit *)conn)->out, p, size);
}

static void op_write_extent(void *conn, struct extent *e)
{
    struct broker_kit *k = conn;
    size_t got = 0;
    check(buf_reserve(&k->out, e->size));
    sim_store_pause(k->logs.sim, true); /* the network's reading, not the log's */
    err failed = e->store->ops->read(e->store->ctx, e->file, k->out.ptr + k->out.len, e->size,
                                     e->position, &got);
    sim_store_pause(k->logs.sim, false);
    check(failed || got == e->size); /* an extent is there while it is held */
    k->out.len += failed ? 0 : got;
    extent_release(e);
}

static size_t op_output_bytes(void *conn)
{
    (void)conn;
    return 0;
}

static void op_nothing(void *conn)
{
    (void)conn;
}

static void op_set_busy(void *conn, bool busy)
{
    (void)conn;
    (void)busy;
}

static void op_close(void *conn, const char *reason)
{
    struct broker_kit *k = conn;
    k->closed_by_broker = true;
    (void)reason;
}

static void op_finish(void *conn)
{
    ((struct broker_kit *)conn)->closed_by_broker = true;
}

static const struct session_ops ops = {
    .write = op_write,
    .write_extent = op_write_extent,
    .output_bytes = op_output_bytes,
    .pause = op_nothing,
    .resume = op_nothing,
    .set_busy = op_set_busy,
    .close = op_close,
    .finish = op_finish,
};

/* ---- life ---- */

void broker_kit_init(struct broker_kit *k, uint64_t seed, const char *const *sets)
{
    struct buf why = {0};
    struct config_input input = {.sets = sets};
    memset(k, 0, sizeof *k);
    while (sets && sets[input.set_count]) {
        input.set_count++;
    }
    log_kit_init(&k->logs, seed);
    check(config_load(&input, NULL, &why, &k->config) == OK);
    buf_finish(&why);
    k->logs.compact_memory_bytes = k->config->compact_memory_bytes;
}

void broker_kit_finish(struct broker_kit *k)
{
    if (k->logs.m) {
        broker_kit_stop(k);
    }
    config_unref(k->config);
    buf_finish(&k->out);
    log_kit_finish(&k->logs);
}

static void fill_env(struct broker_kit *k)
{
    k->budget = (struct budget){.limit_bytes = (size_t)k->config->memory_max_bytes};
    k->env = (struct api_env){
        .config = k->config,
        .meta = k->meta,
        .logs = k->logs.m,
        .coord = k->coord,
        .store = sim_store_store(k->logs.sim),
        .reader = &k->logs.reader.worker,
        .clock = &k->logs.clock.clock,
        .timers = &k->logs.timers,
        .rng = &k->logs.rng,
        .diag = &k->logs.diag,
        .scratch = &k->scratch,
        .metrics = &k->metrics,
        .budget = &k->budget,
        .cluster_id = STR("cluster-of-the-kit-000"),
        .data_path = STR("/data"),
        .node_id = 1,
    };
}

static void destroy(struct broker_kit *k)
{
    log_kit_stop(&k->logs); /* what was under way has ended for the others too */
    sessions_finish(&k->sessions);
    coord_destroy(k->coord);
    meta_destroy(k->meta);
    k->coord = NULL;
    k->meta = NULL;
    batch_scratch_finish(&k->scratch);
}

err broker_kit_start(struct broker_kit *k, bool clean)
{
    log_kit_create(&k->logs, clean);
    const struct meta_options meta = {
        .store = sim_store_store(k->logs.sim),
        .logs = k->logs.m,
        .clock = &k->logs.clock.clock,
        .diag = &k->logs.diag,
        .config = k->config,
        .seed = rng_next(&k->logs.rng),
        .clean = clean,
    };
    err e = meta_open(&meta, &k->meta);
    if (!e) {
        const struct coord_options coord = {
            .config = k->config,
            .meta = k->meta,
            .logs = k->logs.m,
            .clock = &k->logs.clock.clock,
            .timers = &k->logs.timers,
            .diag = &k->logs.diag,
            .seed = rng_next(&k->logs.rng),
        };
        k->coord = coord_create(&coord);
        e = coord_load(k->coord);
    }
    if (e) {
        destroy(k);
        return e;
    }
    fill_env(k);
    sessions_init(&k->sessions, &k->env, &ops);
    return OK;
}

static void close_session(struct broker_kit *k)
{
    if (k->session) {
        struct session *s = k->session;
        k->session = NULL;
        session_closed(s);
    }
}

void broker_kit_stop(struct broker_kit *k)
{
    k->env.stopping = true;
    coord_stop(k->coord);
    sessions_stop(&k->sessions);
    broker_kit_settle(k);
    close_session(k);
    broker_kit_settle(k); /* what still held a request comes back, or with the end of the logs */
    destroy(k);
}

void broker_kit_crash(struct broker_kit *k, enum sim_cut how)
{
    struct sim_store *sim = k->logs.sim;
    if (!sim_store_is_down(sim)) {
        sim_store_count_from_zero(sim);
        sim_store_cut_at(sim, 0, how);
        (void)sim_store_store(sim)->ops->sync_dir(sim_store_store(sim)->ctx, "");
    }
    if (k->logs.m) {
        broker_kit_stop(k);
    }
    sim_store_restart(sim, how);
    sim_store_count_from_zero(sim);
}

/* ---- the client ---- */

void broker_kit_connect(struct broker_kit *k)
{
    const struct session_options o = {.conn = k,
                                      .peer = "127.0.0.1:50000",
                                      .peer_host = "127.0.0.1",
                                      .host = "127.0.0.1",
                                      .port = 9092,
                                      .listener = "PLAINTEXT"};
    check(!k->session);
    k->closed_by_broker = false;
    k->session = session_create(&k->sessions, &o);
}

void broker_kit_hang_up(struct broker_kit *k)
{
    close_session(k);
    broker_kit_settle(k);
}

void broker_kit_send(struct broker_kit *k, const void *frame, size_t size)
{
    check(k->session);
    struct slab *slab = slab_create(&k->budget, size ? size : 1);
    memcpy(slab->data, frame, size);
    session_frame(k->session, slab, slab->data, size, clock_mono_us(&k->logs.clock.clock));
    slab_unref(slab);
    broker_kit_settle(k);
}

static bool busy_workers(struct sim_worker *const all[3])
{
    return !sim_worker_idle(all[0]) || !sim_worker_idle(all[1]) || !sim_worker_idle(all[2]);
}

void broker_kit_settle(struct broker_kit *k)
{
    struct sim_worker *const all[] = {&k->logs.writer, &k->logs.syncer, &k->logs.reader};
    bool busy = true;
    for (int again = 0; busy;) {
        check(again < 100);
        busy = sessions_run(&k->sessions);
        log_manager_submit(k->logs.m);
        busy = busy_workers(all) || busy;
        log_kit_work(&k->logs);
        if (k->closed_by_broker && k->session) {
            close_session(k);
            busy = true;
        }
        /* A process that has ended tries nothing again. */
        bool ended = sim_store_is_down(k->logs.sim);
        busy = busy || (timer_armed(&k->logs.m->sync_again) && !ended);
        again += !ended && log_kit_sync_again(&k->logs);
    }
}

void broker_kit_advance(struct broker_kit *k, int64_t ms)
{
    int64_t end = clock_mono_ms(&k->logs.clock.clock) + ms;
    for (;;) {
        int64_t next = timers_next_ms(&k->logs.timers);
        int64_t now = clock_mono_ms(&k->logs.clock.clock);
        if (next > end) {
            sim_clock_advance_ms(&k->logs.clock, end - now);
            return;
        }
        sim_clock_advance_ms(&k->logs.clock, next > now ? next - now : 0);
        timers_run(&k->logs.timers, clock_mono_ms(&k->logs.clock.clock));
        broker_kit_settle(k);
    }
}
