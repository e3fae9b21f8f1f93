/* The shard, and how it starts and stops.
 *
 *   start   directory -> identity -> logs and metadata -> groups -> listeners          blocking,
 * before the loop runs turn    callbacks; then, before the loop blocks, until nothing more happens:
 * requests start and answers are encoded (sessions_run), appends go to the writer
 * (log_manager_submit), output goes out (net_turn_end); the timer is set to the next deadline stop
 * no more connections and frames -> parked requests answer -> sessions end -> logs synced and
 * checkpointed -> clean mark -> handles closed
 */
#include "broker/server/server.h"

#include "base/check.h"
#include "base/mem.h"
#include "broker/api/session.h"
#include "broker/coord/coord.h"
#include "broker/log/manager.h"
#include "broker/meta/meta.h"
#include "broker/net/net.h"
#include "broker/server/identity.h"
#include "broker/server/room.h"
#include "broker/shard.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

enum {
    LISTENERS_MAX = CONFIG_ENDPOINTS_MAX * 4,
    SPARE_FILES = 64,     /* descriptors besides connections and segments */
    FILES_MIN = 16,       /* for segments, and for connections, however few there are */
    FREE_PORT_TRIES = 16, /* where one port must be free for several addresses */
};

struct bound {
    struct listener *listener; /* net's */
    char address[NET_ADDRESS_SIZE];
    char advertised[256]; /* host; "": what the client dialled */
    uint16_t advertised_port;
    bool open; /* others than this machine can reach it */
};

enum stage { STAGE_SERVING, STAGE_DRAINING, STAGE_SYNCING, STAGE_CLOSING, STAGE_ENDED };

struct server {
    struct server_options o;
    struct config *config; /* one reference */
    struct store own_store;
    struct store *store;
    bool store_is_own;
    struct identity identity;
    char *data_path; /* owned */

    uv_loop_t loop;
    uv_timer_t timer;
    uv_prepare_t turn;
    uv_poll_t wake;      /* workers have completions: on wake_fd, as a uv_async_t spins and yields
                            while its sender is in its system call, which here it always is */
    int wake_fd;         /* owned */
    uv_async_t stopping; /* server_stop */
    uv_signal_t signals[3];
    struct timers timers;
    struct timer stop_timer;
    struct room room;
    uint64_t turns;
    int64_t file_limit;     /* descriptors of the process */
    int64_t open_files_max; /* of them for segments */

    struct worker *writer;
    struct worker *syncer;
    struct worker *reader;
    struct budget budget;
    struct metrics metrics;
    struct batch_scratch scratch;
    struct rng rng;
    struct shards shards; /* of one: no message is ever on its way */
    struct log_manager *logs;
    struct meta *meta;
    struct coord *coord;
    struct net *net;
    struct sessions sessions;
    struct api_env env;
    struct bound bound[LISTENERS_MAX];
    int bound_count;
    enum stage stage;
    bool unsubmitted; /* appends wait for log_manager_submit */
    bool logs_stopped;
    bool handles_open;
    err result;
};

/* ---- from net to api and back */

static void on_wake(uv_poll_t *poll, int status, int events)
{
    struct server *s = poll->data;
    uint64_t count;
    check(status == 0 && events == UV_READABLE);
    check(read(s->wake_fd, &count, sizeof count) == sizeof count || errno == EAGAIN);
    worker_thread_poll(s->writer);
    worker_thread_poll(s->syncer);
    worker_thread_poll(s->reader);
}

static void wake_loop(void *ctx) /* on a worker's thread */
{
    struct server *s = ctx;
    const uint64_t one = 1;
    check(write(s->wake_fd, &one, sizeof one) == sizeof one);
}

static void *conn_opened(void *ctx, struct conn *c)
{
    struct server *s = ctx;
    char peer_host[NET_ADDRESS_SIZE];
    char host[NET_ADDRESS_SIZE];
    char peer[NET_ADDRESS_SIZE];
    uint16_t peer_port;
    uint16_t port;
    net_format_address(conn_peer(c), peer_host, &peer_port);
    net_format_address(conn_local(c), host, &port);
    net_format_peer(conn_peer(c), peer);
    struct session_options o = {.conn = c,
                                .peer = peer,
                                .peer_host = peer_host,
                                .host = host,
                                .port = port,
                                .listener = "PLAINTEXT"};
    for (int i = 0; i < s->bound_count; i++) {
        if (s->bound[i].listener == conn_listener(c) && s->bound[i].advertised[0]) {
            o.host = s->bound[i].advertised;
            o.port = s->bound[i].advertised_port;
        }
    }
    return session_create(&s->sessions, &o);
}

static void conn_frame(void *owner, struct slab *slab, const uint8_t *bytes, size_t size,
                       int64_t arrived_us)
{
    session_frame(owner, slab, bytes, size, arrived_us);
}

static void conn_partial(void *owner, struct slab_partial *p, int64_t arrived_us)
{
    session_partial(owner, p, arrived_us);
}

static void conn_drained(void *owner)
{
    session_drained(owner);
}

static void conn_closed(void *owner)
{
    session_closed(owner);
}

static void op_write(void *conn, const void *p, size_t size)
{
    conn_write(conn, p, size);
}

static void op_write_extent(void *conn, struct extent *e)
{
    conn_write_extent(conn, e);
}

static size_t op_output_bytes(void *conn)
{
    return conn_output_bytes(conn);
}

static void op_pause(void *conn)
{
    conn_pause(conn);
}

static void op_resume(void *conn)
{
    conn_resume(conn);
}

static void op_set_busy(void *conn, bool busy)
{
    conn_set_busy(conn, busy);
}

static void op_close(void *conn, const char *reason)
{
    conn_close(conn, CONN_END_BROKEN, reason);
}

static void op_finish(void *conn)
{
    conn_finish(conn);
}

static const struct session_ops session_ops = {
    .write = op_write,
    .write_extent = op_write_extent,
    .output_bytes = op_output_bytes,
    .pause = op_pause,
    .resume = op_resume,
    .set_busy = op_set_busy,
    .close = op_close,
    .finish = op_finish,
};

/* ---- stopping */

static void handles_closed(void *ctx)
{
    struct server *s = ctx;
    s->stage = STAGE_ENDED;
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->turn, NULL);
    uv_close((uv_handle_t *)&s->wake, NULL);
    uv_close((uv_handle_t *)&s->stopping, NULL);
    for (int i = 0; s->o.signals && i < 3; i++) {
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    }
    s->handles_open = false;
}

static void logs_stopped(void *ctx)
{
    struct server *s = ctx;
    s->logs_stopped = true;
    bool clean = log_manager_stopped_clean(s->logs);
    s->result = clean ? identity_mark_clean(s->store) : ERR_IO;
    if (!clean) { /* no mark: the next start looks at the logs, as after a crash */
        diag_log(s->o.diag, DIAG_ERROR, "stopped", "clean=false");
    } else if (s->result) {
        diag_log(s->o.diag, DIAG_ERROR, "stop_failed",
                 "what=\"the mark of a clean stop\" error=\"%s\"", err_text(s->result));
    } else {
        diag_log(s->o.diag, DIAG_INFO, "stopped",
                 "clean=true memory_peak=%zu partial_memory_peak=%zu produce_parts=%llu",
                 s->budget.peak_bytes, net_partial_peak_bytes(s->net),
                 (unsigned long long)s->metrics.produce_parts);
    }
    s->stage = STAGE_CLOSING;
    net_close(s->net, handles_closed, s);
}

static void stop_patience_over(struct timer *timer)
{
    struct server *s = list_entry(timer, struct server, stop_timer);
    sessions_close(&s->sessions, "the broker stops");
}

static void room_is_there(void *ctx)
{
    struct server *s = ctx;
    log_manager_stop(s->logs, logs_stopped, s);
}

static void begin_stop(struct server *s)
{
    if (s->stage != STAGE_SERVING) { /* asked twice: at once, and without the mark */
        diag_log(s->o.diag, DIAG_WARN, "stopped", "clean=false");
        _exit(1);
    }
    diag_log(s->o.diag, DIAG_INFO, "stopping", "connections=%d", net_connection_count(s->net));
    s->stage = STAGE_DRAINING;
    s->env.stopping = true;
    net_stop_listening(s->net);
    net_stop_reading(s->net);
    coord_stop(s->coord);
    sessions_stop(&s->sessions);
    timer_arm(&s->timers, &s->stop_timer, clock_mono_ms(s->o.clock) + s->config->stop_timeout_ms);
}

static void on_stop(uv_async_t *async)
{
    begin_stop(async->data);
}

static void reload(struct server *s)
{
    struct buf kept = {0};
    struct config *fresh = s->o.reload ? s->o.reload(s->o.ctx) : NULL;
    if (!fresh) {
        diag_log(s->o.diag, DIAG_WARN, "configuration_kept", "reason=\"the new one was refused\"");
        return;
    }
    config_keep_static(fresh, s->config, &kept);
    struct config *old = s->config;
    if (fresh->retention_check_ms != old->retention_check_ms) {
        log_manager_set_retention_check(s->logs, fresh->retention_check_ms);
    }
    s->config = fresh;
    s->env.config = fresh;
    meta_set_config(s->meta, fresh);
    coord_set_config(s->coord, fresh);
    net_set_config(s->net, fresh);
    s->room.config = fresh;
    config_unref(old);
    diag_log(s->o.diag, DIAG_INFO, "configuration_reloaded", "needs_restart=\"%s\"",
             buf_text(&kept));
    buf_finish(&kept);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (number == SIGHUP) {
        if (s->stage == STAGE_SERVING) {
            reload(s);
        }
    } else {
        begin_stop(s);
    }
}

/* ---- the turn */

static void on_timer(uv_timer_t *timer)
{
    struct server *s = timer->data;
    timers_run(&s->timers, clock_mono_ms(s->o.clock));
}

static void set_timer(struct server *s)
{
    int64_t next_ms = timers_next_ms(&s->timers);
    if (next_ms == INT64_MAX) {
        uv_timer_stop(&s->timer);
        return;
    }
    int64_t delay_ms = next_ms - clock_mono_ms(s->o.clock);
    uv_update_time(&s->loop);
    uv_timer_start(&s->timer, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 1, 0);
}

static void on_turn(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;
    s->turns++;
    bool more = true;
    while (more) {
        more = sessions_run(&s->sessions);
        more = worker_thread_poll(s->syncer) || more; /* quiet ones: they did not wake the loop */
        if (s->unsubmitted) {
            s->unsubmitted = false;
            log_manager_submit(s->logs);
        }
        more = net_turn_end(s->net) || more || sessions_wait(&s->sessions);
    }
    if (s->stage == STAGE_DRAINING && s->sessions.session_count == 0 &&
        s->sessions.request_count == 0) {
        s->stage = STAGE_SYNCING;
        timer_disarm(&s->timers, &s->stop_timer);
        room_stop(&s->room, room_is_there, s);
    }
    if (s->handles_open) {
        set_timer(s);
    }
}

static void appends_wait(void *ctx)
{
    struct server *s = ctx;
    s->unsubmitted = true;
}

static void budget_freed(void *ctx)
{
    struct server *s = ctx;
    net_memory_freed(s->net);
    sessions_memory_freed(&s->sessions);
}

/* ---- starting */

static int64_t raise_file_limit(const struct diag *diag)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) {
        return 1024;
    }
    if (r.rlim_cur < r.rlim_max) {
        rlim_t before = r.rlim_cur;
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r)) {
            r.rlim_cur = before;
            diag_log(diag, DIAG_WARN, "file_limit_kept", "limit=%llu", (unsigned long long)before);
        }
    }
    return r.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)r.rlim_cur;
}

static void open_handles(struct server *s)
{
    static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
    check(!uv_loop_init(&s->loop));
    check(!uv_timer_init(&s->loop, &s->timer));
    check(!uv_prepare_init(&s->loop, &s->turn));
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    check(s->wake_fd >= 0);
    check(!uv_poll_init(&s->loop, &s->wake, s->wake_fd));
    check(!uv_poll_start(&s->wake, UV_READABLE, on_wake));
    check(!uv_async_init(&s->loop, &s->stopping, on_stop));
    s->timer.data = s->turn.data = s->wake.data = s->stopping.data = s;
    for (int i = 0; s->o.signals && i < 3; i++) {
        check(!uv_signal_init(&s->loop, &s->signals[i]));
        s->signals[i].data = s;
        check(!uv_signal_start(&s->signals[i], on_signal, numbers[i]));
    }
    check(!uv_prepare_start(&s->turn, on_turn));
    s->handles_open = true;
    timers_init(&s->timers);
    timer_init(&s->stop_timer, stop_patience_over);
}

/* One shard would leave the others' journals unread, and cut what they alone have. */
static err check_shards(const struct server *s)
{
    char file[DIR_NAME_SIZE];
    char shown[DIAG_QUOTED_SIZE];
    err e = log_dir_others(s->store, file);
    if (!e && file[0]) {
        diag_log(s->o.diag, DIAG_ERROR, "data_directory_refused",
                 "file=%s reason=\"it is of a shard that this build does not have\"",
                 diag_quote(file, shown));
        e = ERR_UNSUPPORTED;
    }
    return e;
}

static err open_store(struct server *s)
{
    err e = OK;
    s->store = s->o.store;
    if (!s->store) {
        e = store_open_posix(s->config->log_dirs, &s->own_store);
        s->store = &s->own_store;
        s->store_is_own = !e;
    }
    if (e) {
        char dir[DIAG_QUOTED_SIZE];
        diag_log(s->o.diag, DIAG_ERROR, "data_directory_refused", "dir=%s reason=\"%s\"",
                 diag_quote(s->config->log_dirs, dir),
                 e == ERR_INVALID     ? "it is another user's, or others may write to it"
                 : e == ERR_EXISTS    ? "it is not a directory"
                 : e == ERR_NOT_FOUND ? "the directory that it would be in is not there"
                                      : err_text(e));
        return e;
    }
    char path[PATH_MAX];
    bool known = !s->o.store && realpath(s->config->log_dirs, path);
    const char *shown = known ? path : s->config->log_dirs;
    s->data_path = mem_need_dup(shown, strlen(shown) + 1);
    e = identity_lock(s->store, s->o.diag);
    e = e ? e : check_shards(s);
    if (!e) {
        s->room = (struct room){.store = s->store,
                                .reader = s->reader,
                                .timers = &s->timers,
                                .clock = s->o.clock,
                                .diag = s->o.diag,
                                .config = s->config};
        room_init(&s->room);
        e = room_begin(&s->room);
    }
    return e ? e : identity_open(s->store, (int32_t)s->config->node_id, s->o.diag, &s->identity);
}

static err open_logs(struct server *s)
{
    const struct log_manager_options logs = {
        .store = s->store,
        .clock = s->o.clock,
        .diag = s->o.diag,
        .timers = &s->timers,
        .writer = s->writer,
        .syncer = s->syncer,
        .reader = s->reader,
        .leader_epoch = s->identity.start_number,
        .journal_file_bytes = s->config->journal_file_bytes,
        .journal_files = (int)s->config->journal_files,
        .max_open_files = (int)s->open_files_max,
        .producer_id_expiration_ms = s->config->producer_id_expiration_ms,
        .retention_check_interval_ms = s->config->retention_check_ms,
        .checkpoint_interval_ms = s->config->checkpoint_ms,
        .scrub_bytes_per_s = s->config->scrub_bytes_per_s,
        .scrub_interval_ms = s->config->scrub_interval_ms,
        .compact_memory_bytes = s->config->compact_memory_bytes,
        .unsubmitted = appends_wait,
        .ctx = s,
    };
    s->logs = log_manager_create(&logs);
    struct shard *shard = &s->shards.list[0];
    shard->logs = s->logs;
    shard->env = &s->env;
    const struct meta_options meta = {
        .store = s->store,
        .shards = &s->shards,
        .clock = s->o.clock,
        .diag = s->o.diag,
        .config = s->config,
        .seed = rng_next(&s->rng),
        .clean = s->identity.clean,
    };
    err e = meta_open(&meta, &s->meta);
    if (e) {
        diag_log(s->o.diag, DIAG_ERROR, "start_failed", "what=metadata error=\"%s\"", err_text(e));
        return e;
    }
    const struct coord_options coord = {
        .config = s->config,
        .meta = s->meta,
        .shard = shard,
        .clock = s->o.clock,
        .timers = &s->timers,
        .diag = s->o.diag,
        .seed = rng_next(&s->rng),
    };
    s->coord = coord_create(&coord);
    shard->coord = s->coord;
    e = coord_load(s->coord);
    if (e) {
        diag_log(s->o.diag, DIAG_ERROR, "start_failed", "what=groups error=\"%s\"", err_text(e));
    } else {
        log_manager_start_scrub(s->logs);
    }
    return e;
}

static void fill_env(struct server *s)
{
    s->env = (struct api_env){
        .config = s->config,
        .meta = s->meta,
        .shard = &s->shards.list[0],
        .logs = s->logs,
        .coord = s->coord,
        .store = s->store,
        .reader = s->reader,
        .clock = s->o.clock,
        .timers = &s->timers,
        .rng = &s->rng,
        .diag = s->o.diag,
        .scratch = &s->scratch,
        .metrics = &s->metrics,
        .budget = &s->budget,
        .cluster_id = str_of(s->identity.cluster_id),
        .data_path = str_of(s->data_path),
        .node_id = s->identity.node_id,
    };
}

static err listen_one(struct server *s, const struct sockaddr_storage *address,
                      const struct config_endpoint *advertised, uint16_t *ret_port)
{
    struct bound *b = &s->bound[s->bound_count];
    socklen_t size =
        address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (s->bound_count == LISTENERS_MAX) {
        return ERR_LIMIT;
    }
    err e = net_listen(s->net, (const struct sockaddr *)address, size, &b->listener, b->address,
                       ret_port);
    if (e) {
        return e;
    }
    b->advertised[0] = 0;
    if (advertised) {
        snprintf(b->advertised, sizeof b->advertised, "%s", advertised->host);
        b->advertised_port = advertised->port ? advertised->port : *ret_port;
    }
    b->open = !net_is_loopback(address);
    s->bound_count++;
    return OK;
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)a)->sin_port = htons(port);
    }
}

/* One line, however many there are. */
static void warn_of_open_listeners(const struct server *s)
{
    struct buf open = {0};
    for (int i = 0; i < s->bound_count; i++) {
        if (s->bound[i].open) {
            buf_printf(&open, "%s%s", open.len ? ", " : "", s->bound[i].address);
        }
    }
    if (open.len) {
        diag_log(s->o.diag, DIAG_WARN, "open_listener",
                 "addr=\"%s\" reason=\"anybody who can reach it can read and write everything\"",
                 buf_text(&open));
    }
    buf_finish(&open);
}

static err listen_failed(struct server *s, const char *host, uint16_t port, err e)
{
    char text[DIAG_QUOTED_SIZE];
    diag_log(s->o.diag, DIAG_ERROR, "listen_failed", "host=%s port=%u reason=\"%s\"",
             diag_quote(host, text), port,
             e == ERR_BUSY        ? "the port is in use"
             : e == ERR_NOT_FOUND ? "no such address on this machine"
                                  : err_text(e));
    return e;
}

/* All addresses of one endpoint; with port 0 the first one's port goes for all that follow. */
static err listen_endpoint(struct server *s, const struct config_endpoint *where,
                           const struct config_endpoint *advertised, uint16_t *port)
{
    struct sockaddr_storage addresses[16];
    int count = 0;
    int before = s->bound_count;
    err e = net_resolve(where->host, where->port, addresses, 16, &count);
    for (int i = 0; !e && i < count; i++) {
        uint16_t got = 0;
        if (where->port == 0) {
            set_port(&addresses[i], *port);
        }
        err le = listen_one(s, &addresses[i], advertised, &got);
        if (!le) {
            *port = where->port == 0 ? got : *port;
        } else if (where->host[0] || le == ERR_BUSY) { /* of all addresses, some may not be there */
            e = le;
        }
    }
    if (!e && s->bound_count == before) {
        e = ERR_NOT_FOUND;
    }
    return e;
}

static err listen_default(struct server *s, const struct config_endpoint *advertised)
{
    static const struct config_endpoint v4 = {.host = "127.0.0.1", .port = 9092};
    static const struct config_endpoint v6 = {.host = "::1", .port = 9092};
    uint16_t port = 0;
    err e = listen_endpoint(s, &v4, advertised, &port);
    if (e) {
        return listen_failed(s, v4.host, v4.port, e);
    }
    e = listen_endpoint(s, &v6, advertised, &port);
    return e == ERR_BUSY ? listen_failed(s, v6.host, v6.port, e)
                         : OK; /* many machines have no IPv6 */
}

struct doors {
    struct config_endpoint where[CONFIG_ENDPOINTS_MAX];
    struct config_endpoint advertised[CONFIG_ENDPOINTS_MAX];
    int count;
    int advertised_count;
};

/* `ret_failed`: the endpoint that an error is of. */
static err listen_each(struct server *s, const struct doors *d, int *ret_failed)
{
    uint16_t port = 0;
    err e = OK;
    for (int i = 0; !e && i < d->count; i++) {
        const struct config_endpoint *told =
            d->advertised_count == 0 ? NULL : &d->advertised[i < d->advertised_count ? i : 0];
        e = listen_endpoint(s, &d->where[i], told, &port);
        *ret_failed = i;
    }
    return e;
}

static err listen_all(struct server *s)
{
    struct doors d = {0};
    struct buf why = {0};
    err e = config_parse_endpoints(str_of(s->config->listeners), d.where, &d.count, &why);
    e = e ? e
          : config_parse_endpoints(str_of(s->config->advertised_listeners), d.advertised,
                                   &d.advertised_count, &why);
    if (e) {
        char text[DIAG_QUOTED_SIZE];
        diag_log(s->o.diag, DIAG_ERROR, "listen_failed", "reason=%s",
                 diag_quote(buf_text(&why), text));
    } else if (d.count == 0) {
        e = listen_default(s, d.advertised_count ? d.advertised : NULL);
    } else {
        int failed = 0;
        e = listen_each(s, &d, &failed);
        for (int i = 0; i < FREE_PORT_TRIES && e == ERR_BUSY && d.where[failed].port == 0; i++) {
            net_stop_listening(s->net); /* the port that was free for one is taken for another */
            s->bound_count = 0;
            e = listen_each(s, &d, &failed);
        }
        if (e) {
            listen_failed(s, d.where[failed].host, d.where[failed].port, e);
        }
    }
    buf_finish(&why);
    return e;
}

/* Segments get what rivulet.open.files.max says, but no more than half of what there is: else they
 * would take what connections need. */
static void divide_files(struct server *s)
{
    int64_t half = (s->file_limit - SPARE_FILES) / 2;
    s->open_files_max = s->config->open_files_max;
    if (s->open_files_max > half) {
        s->open_files_max = half > FILES_MIN ? half : FILES_MIN;
        diag_log(s->o.diag, DIAG_WARN, "few_files",
                 "limit=%lld segments=%lld reason=\"rivulet.open.files.max does not fit into the "
                 "limit of open files (ulimit -n)\"",
                 (long long)s->file_limit, (long long)s->open_files_max);
    }
}

static void open_net(struct server *s)
{
    int64_t room = s->file_limit - s->open_files_max - SPARE_FILES;
    const struct net_options o = {
        .loop = &s->loop,
        .clock = s->o.clock,
        .diag = s->o.diag,
        .timers = &s->timers,
        .budget = &s->budget,
        .metrics = &s->metrics,
        .config = s->config,
        .connections_max = room > FILES_MIN ? room : FILES_MIN,
        .events = {conn_opened, conn_frame, conn_partial, conn_drained, conn_closed},
        .ctx = s,
    };
    s->net = net_create(&o);
}

err server_start(const struct server_options *options, struct server **ret_server)
{
    struct server *s = mem_need_zero(1, sizeof *s);
    uint64_t seed = options->seed;
    s->o = *options;
    s->config = config_ref(options->config);
    if (!seed) {
        rand_system(&seed, sizeof seed);
    }
    rng_init(&s->rng, seed);
    s->file_limit = raise_file_limit(options->diag);
    divide_files(s);
    s->budget = (struct budget){
        .limit_bytes = (size_t)s->config->memory_max_bytes, .freed = budget_freed, .ctx = s};
    open_handles(s);
    shards_init(&s->shards, 1);
    s->writer = worker_thread_create("writer", wake_loop, s);
    s->syncer = worker_thread_create("syncer", wake_loop, s);
    s->reader = worker_thread_create("reader", wake_loop, s);
    open_net(s);
    sessions_init(&s->sessions, &s->env, &session_ops);
    err e = open_store(s);
    e = e ? e : open_logs(s);
    e = e ? e : room_open(&s->room, s->logs);
    fill_env(s);
    e = e ? e : listen_all(s);
    if (e) {
        server_destroy(s);
        return e;
    }
    for (int i = 0; i < s->bound_count; i++) {
        diag_log(options->diag, DIAG_INFO, "listening", "addr=%s", s->bound[i].address);
    }
    warn_of_open_listeners(s);
    *ret_server = s;
    return OK;
}

err server_run(struct server *s)
{
    while (uv_run(&s->loop, UV_RUN_DEFAULT)) {
    }
    check(s->stage == STAGE_ENDED);
    return s->result;
}

void server_stop(struct server *s)
{
    uv_async_send(&s->stopping);
}

static void ignore(void *ctx)
{
    *(bool *)ctx = true;
}

/* Lets what is under way in the logs end; no loop runs any more, or none ever ran. */
static void settle_logs(struct server *s)
{
    bool done = false;
    if (!s->logs || s->logs_stopped) {
        return;
    }
    log_manager_stop(s->logs, ignore, &done);
    while (!done) {
        uv_run(&s->loop, UV_RUN_ONCE);
    }
}

void server_destroy(struct server *s)
{
    if (!s) {
        return;
    }
    s->stage = s->stage == STAGE_ENDED ? STAGE_ENDED : STAGE_CLOSING;
    room_drop(&s->room);
    settle_logs(s);
    if (s->handles_open) {
        net_close(s->net, handles_closed, s);
        while (uv_run(&s->loop, UV_RUN_DEFAULT)) {
        }
    }
    coord_destroy(s->coord);
    meta_destroy(s->meta);
    log_manager_destroy(s->logs);
    shards_finish(&s->shards);
    worker_thread_destroy(s->writer);
    worker_thread_destroy(s->syncer);
    worker_thread_destroy(s->reader);
    sessions_finish(&s->sessions);
    net_destroy(s->net);
    batch_scratch_finish(&s->scratch);
    timers_finish(&s->timers);
    check(!uv_loop_close(&s->loop));
    close(s->wake_fd);
    if (s->store_is_own) {
        store_close_posix(&s->own_store);
    }
    mem_free(s->data_path);
    config_unref(s->config);
    mem_free(s);
}

int server_listener_count(const struct server *s)
{
    return s->bound_count;
}

const char *server_address(const struct server *s, int listener)
{
    return s->bound[listener].address;
}

uint16_t server_port(const struct server *s)
{
    const char *colon = s->bound_count ? strrchr(s->bound[0].address, ':') : NULL;
    return colon ? (uint16_t)atoi(colon + 1) : 0;
}

uint64_t server_turns(const struct server *s)
{
    return s->turns;
}
