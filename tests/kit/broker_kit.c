#include "tests/kit/broker_kit.h"

#include "base/check.h"
#include "base/slab.h"
#include "broker/log/internal.h"
#include "broker/store/extent.h"

#include <string.h>

/* ---- a connection ---- */

static void op_write(void *conn, const void *p, size_t size)
{
    buf_add(&((struct broker_kit_conn *)conn)->out, p, size);
}

static void op_write_extent(void *conn, struct extent *e)
{
    struct broker_kit_conn *c = conn;
    struct sim_store *sim = c->k->logs.sim;
    size_t got = 0;
    check(buf_reserve(&c->out, e->size));
    sim_store_pause(sim, true); /* the network's reading, not the log's */
    err failed = e->store->ops->read(e->store->ctx, e->file, c->out.ptr + c->out.len, e->size,
                                     e->position, &got);
    sim_store_pause(sim, false);
    check(failed || got == e->size); /* an extent is there while it is held */
    c->out.len += failed ? 0 : got;
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
    ((struct broker_kit_conn *)conn)->closed_by_broker = true;
    (void)reason;
}

static void op_finish(void *conn)
{
    ((struct broker_kit_conn *)conn)->closed_by_broker = true;
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

static void use_workers(struct broker_kit_shard *s, struct sim_worker *writer,
                        struct sim_worker *syncer, struct sim_worker *reader)
{
    s->workers[0] = writer;
    s->workers[1] = syncer;
    s->workers[2] = reader;
}

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
    k->shard_count = 1;
    list_init(&k->conns);
    for (int i = 0; i < BROKER_KIT_SHARDS; i++) {
        struct broker_kit_shard *s = &k->shard[i];
        for (int w = 0; w < BROKER_KIT_WORKERS; w++) {
            sim_worker_init(&s->own_workers[w]);
        }
        use_workers(s, &s->own_workers[0], &s->own_workers[1], &s->own_workers[2]);
        timers_init(&s->own_timers);
        s->timers = &s->own_timers;
    }
    use_workers(&k->shard[0], &k->logs.writer, &k->logs.syncer, &k->logs.reader);
    k->shard[0].timers = &k->logs.timers;
}

void broker_kit_finish(struct broker_kit *k)
{
    if (k->logs.m) {
        broker_kit_stop(k);
    }
    config_unref(k->config);
    broker_kit_conn_finish(&k->conn);
    for (int i = 0; i < BROKER_KIT_SHARDS; i++) {
        timers_finish(&k->shard[i].own_timers);
    }
    log_kit_finish(&k->logs);
}

static void fill_env(struct broker_kit *k, int32_t index)
{
    struct broker_kit_shard *s = &k->shard[index];
    s->budget = (struct budget){.limit_bytes = (size_t)k->config->memory_max_bytes};
    s->env = (struct api_env){
        .config = k->config,
        .meta = k->meta,
        .shard = &k->shards.list[index],
        .logs = s->m,
        .coord = s->coord,
        .store = sim_store_store(k->logs.sim),
        .reader = &s->workers[2]->worker,
        .clock = &k->logs.clock.clock,
        .timers = s->timers,
        .rng = &k->logs.rng,
        .diag = &k->logs.diag,
        .scratch = &s->scratch,
        .metrics = &s->metrics,
        .budget = &s->budget,
        .cluster_id = STR("cluster-of-the-kit-000"),
        .data_path = STR("/data"),
        .node_id = 1,
    };
}

/* ---- steps ---- */

enum { STEPS_MAX = BROKER_KIT_SHARDS * (2 * BROKER_KIT_WORKERS + BROKER_KIT_SHARDS) };

struct step {
    struct sim_worker *worker; /* NULL: a message */
    bool completes;
    int32_t to;
    int32_t from;
};

static int steps_of(struct broker_kit *k, struct step steps[STEPS_MAX])
{
    int n = 0;
    for (int32_t i = 0; i < k->shard_count; i++) {
        for (int w = 0; w < BROKER_KIT_WORKERS; w++) {
            struct sim_worker *worker = k->shard[i].workers[w];
            if (!list_empty(&worker->queue)) {
                steps[n++] = (struct step){.worker = worker};
            }
            if (!list_empty(&worker->finished)) {
                steps[n++] = (struct step){.worker = worker, .completes = true};
            }
        }
        for (int32_t from = 0; from < k->shard_count; from++) {
            if (!list_empty(&k->shards.list[i].inbox[from])) {
                steps[n++] = (struct step){.to = i, .from = from};
            }
        }
    }
    return n;
}

static void take_step(struct broker_kit *k, const struct step *s)
{
    log_kit_sabotage(&k->logs);
    if (!s->worker) {
        shard_deliver(&k->shards.list[s->to], s->from);
    } else if (s->completes) {
        sim_worker_complete(s->worker);
    } else {
        sim_worker_run(s->worker);
    }
}

/* False: nothing is under way. */
static bool step_under_way(struct broker_kit *k)
{
    struct step steps[STEPS_MAX];
    int n = steps_of(k, steps);
    if (n > 0) {
        take_step(k, &steps[rng_below(&k->logs.rng, (uint64_t)n)]);
    }
    return n > 0;
}

static bool turn(struct broker_kit *k, int32_t shard)
{
    bool any = sessions_run(&k->shard[shard].sessions);
    log_manager_submit(k->shard[shard].m);
    return any;
}

static bool close_what_the_broker_closed(struct broker_kit *k)
{
    bool any = false;
    list_each_safe(link, after, &k->conns)
    {
        struct broker_kit_conn *c = list_entry(link, struct broker_kit_conn, link);
        if (c->closed_by_broker) {
            broker_kit_close(c);
            any = true;
        }
    }
    return any;
}

bool broker_kit_step(struct broker_kit *k)
{
    struct step steps[STEPS_MAX];
    uint64_t under_way = (uint64_t)steps_of(k, steps);
    uint64_t chosen = rng_below(&k->logs.rng, under_way + (uint64_t)k->shard_count);
    if (chosen < under_way) {
        take_step(k, &steps[chosen]);
        return true;
    }
    bool any = turn(k, (int32_t)(chosen - under_way));
    any = close_what_the_broker_closed(k) || any;
    return under_way > 0 || any || steps_of(k, steps) > 0;
}

void broker_kit_pass(struct broker_kit *k, int64_t ms)
{
    sim_clock_advance_ms(&k->logs.clock, ms);
    for (int32_t i = 0; i < k->shard_count; i++) {
        timers_run(k->shard[i].timers, clock_mono_ms(&k->logs.clock.clock));
    }
}

/* Lets the time pass that a sync without a descriptor waits. False: none waits. */
static bool sync_again(struct broker_kit *k)
{
    bool waits = false;
    for (int32_t i = 0; i < k->shard_count; i++) {
        waits = waits || timer_armed(&k->shard[i].m->sync_again);
    }
    if (waits) {
        broker_kit_pass(k, 100);
    }
    return waits;
}

void broker_kit_settle(struct broker_kit *k)
{
    bool busy = true;
    for (int again = 0; busy;) {
        check(again < 100);
        busy = false;
        for (int32_t i = 0; i < k->shard_count; i++) {
            busy = turn(k, i) || busy;
        }
        while (step_under_way(k)) {
            busy = true;
        }
        busy = close_what_the_broker_closed(k) || busy;
        /* A process that has ended tries nothing again. */
        if (!sim_store_is_down(k->logs.sim) && sync_again(k)) {
            busy = true;
            again++;
        }
    }
}

static int64_t next_timer_ms(const struct broker_kit *k)
{
    int64_t next = INT64_MAX;
    for (int32_t i = 0; i < k->shard_count; i++) {
        int64_t at = timers_next_ms(k->shard[i].timers);
        next = at < next ? at : next;
    }
    return next;
}

void broker_kit_advance(struct broker_kit *k, int64_t ms)
{
    int64_t end = clock_mono_ms(&k->logs.clock.clock) + ms;
    for (;;) {
        int64_t next = next_timer_ms(k);
        int64_t now = clock_mono_ms(&k->logs.clock.clock);
        if (next > end) {
            sim_clock_advance_ms(&k->logs.clock, end - now);
            return;
        }
        broker_kit_pass(k, next > now ? next - now : 0);
        broker_kit_settle(k);
    }
}

/* ---- start and stop ---- */

static void logs_stopped(void *ctx)
{
    *(bool *)ctx = true;
}

static void stop_logs(struct broker_kit *k)
{
    bool done[BROKER_KIT_SHARDS] = {0};
    for (int32_t i = 0; i < k->shard_count; i++) {
        log_manager_stop(k->shard[i].m, logs_stopped, &done[i]);
    }
    for (int again = 0; again < 10; again++) {
        while (step_under_way(k)) {
        }
        if (!sync_again(k)) {
            break;
        }
    }
    k->logs.stopped_clean = log_manager_stopped_clean(k->logs.m);
    for (int32_t i = 0; i < k->shard_count; i++) {
        check(done[i]);
        log_manager_destroy(k->shard[i].m);
        k->shard[i].m = NULL;
    }
    k->logs.m = NULL;
}

static void destroy(struct broker_kit *k)
{
    stop_logs(k); /* what was under way has ended for the others too */
    for (int32_t i = 0; i < k->shard_count; i++) {
        struct broker_kit_shard *s = &k->shard[i];
        sessions_finish(&s->sessions);
        coord_destroy(s->coord);
        s->coord = NULL;
        batch_scratch_finish(&s->scratch);
    }
    meta_destroy(k->meta);
    k->coord = NULL;
    k->meta = NULL;
    shards_finish(&k->shards);
}

static void create_logs(struct broker_kit *k, bool clean)
{
    log_kit_create(&k->logs, clean);
    k->shard[0].m = k->logs.m;
    for (int32_t i = 1; i < k->shard_count; i++) {
        struct broker_kit_shard *s = &k->shard[i];
        struct log_manager_options o = log_kit_options(&k->logs);
        o.shard = i;
        o.timers = s->timers;
        o.writer = &s->workers[0]->worker;
        o.syncer = &s->workers[1]->worker;
        o.reader = &s->workers[2]->worker;
        s->m = log_manager_create(&o);
    }
    shards_init(&k->shards, k->shard_count);
    for (int32_t i = 0; i < k->shard_count; i++) {
        k->shards.list[i].logs = k->shard[i].m;
        k->shards.list[i].env = &k->shard[i].env;
    }
}

static err create_coord(struct broker_kit *k, int32_t index)
{
    struct broker_kit_shard *s = &k->shard[index];
    const struct coord_options o = {
        .config = k->config,
        .meta = k->meta,
        .shard = &k->shards.list[index],
        .clock = &k->logs.clock.clock,
        .timers = s->timers,
        .diag = &k->logs.diag,
        .seed = rng_next(&k->logs.rng),
    };
    s->coord = coord_create(&o);
    k->shards.list[index].coord = s->coord;
    return coord_load(s->coord);
}

err broker_kit_start(struct broker_kit *k, bool clean)
{
    create_logs(k, clean);
    const struct meta_options meta = {
        .shards = &k->shards,
        .clock = &k->logs.clock.clock,
        .diag = &k->logs.diag,
        .config = k->config,
        .seed = rng_next(&k->logs.rng),
        .clean = clean,
    };
    err e = meta_open(&meta, &k->meta);
    for (int32_t i = 0; i < k->shard_count && !e; i++) {
        e = create_coord(k, i);
    }
    if (e) {
        destroy(k);
        return e;
    }
    k->coord = k->shard[0].coord;
    for (int32_t i = 0; i < k->shard_count; i++) {
        fill_env(k, i);
        sessions_init(&k->shard[i].sessions, &k->shard[i].env, &ops);
    }
    return OK;
}

void broker_kit_stop(struct broker_kit *k)
{
    for (int32_t i = 0; i < k->shard_count; i++) {
        k->shard[i].env.stopping = true;
        coord_stop(k->shard[i].coord);
        sessions_stop(&k->shard[i].sessions);
    }
    broker_kit_settle(k);
    list_each_safe(link, after, &k->conns)
    {
        broker_kit_close(list_entry(link, struct broker_kit_conn, link));
    }
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

/* ---- clients ---- */

void broker_kit_open(struct broker_kit *k, struct broker_kit_conn *c, int32_t shard)
{
    const struct session_options o = {.conn = c,
                                      .peer = "127.0.0.1:50000",
                                      .peer_host = "127.0.0.1",
                                      .host = "127.0.0.1",
                                      .port = 9092,
                                      .listener = "PLAINTEXT"};
    check(!c->session);
    c->k = k;
    c->shard = shard;
    c->closed_by_broker = false;
    c->session = session_create(&k->shard[shard].sessions, &o);
    list_push(&k->conns, &c->link);
}

void broker_kit_close(struct broker_kit_conn *c)
{
    if (c->session) {
        struct session *s = c->session;
        c->session = NULL;
        list_remove(&c->link);
        session_closed(s);
    }
}

void broker_kit_conn_finish(struct broker_kit_conn *c)
{
    broker_kit_close(c);
    buf_finish(&c->out);
}

void broker_kit_put(struct broker_kit_conn *c, const void *frame, size_t size)
{
    struct broker_kit *k = c->k;
    check(c->session);
    struct slab *slab = slab_create(&k->shard[c->shard].budget, size ? size : 1);
    memcpy(slab->data, frame, size);
    session_frame(c->session, slab, slab->data, size, clock_mono_us(&k->logs.clock.clock));
    slab_unref(slab);
}

void broker_kit_connect(struct broker_kit *k)
{
    int32_t shard =
        k->shard_count > 1 ? (int32_t)rng_below(&k->logs.rng, (uint64_t)k->shard_count) : 0;
    broker_kit_open(k, &k->conn, shard);
}

void broker_kit_hang_up(struct broker_kit *k)
{
    broker_kit_close(&k->conn);
    broker_kit_settle(k);
}

void broker_kit_send(struct broker_kit *k, const void *frame, size_t size)
{
    broker_kit_put(&k->conn, frame, size);
    broker_kit_settle(k);
}

struct log *broker_kit_log(struct broker_kit *k, const struct topic *t, int32_t partition)
{
    return log_manager_find(k->shard[topic_shard(t, partition, &k->shards)].m, t->id, partition);
}

struct coord *broker_kit_coord(struct broker_kit *k, struct str group_id)
{
    return k->shard[coord_shard_of(k->coord, group_id)].coord;
}
