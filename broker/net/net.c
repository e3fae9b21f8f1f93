/* What connections share: memory, the end of a turn, the end of all. */
#include "base/mem.h"
#include "base/rand.h"
#include "broker/net/internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

struct net *net_create(const struct net_options *options)
{
    struct net *net = mem_need_zero(1, sizeof *net);
    net->options = *options;
    net->config = options->config;
    partial_memory_init(net);
    list_init(&net->conns);
    list_init(&net->closed);
    list_init(&net->listeners);
    list_init(&net->partials);
    list_init(&net->waiters);
    list_init(&net->dirty);
    list_init(&net->out_pool);
    uint64_t seed;
    rand_system(&seed, sizeof seed);
    map_init(&net->per_ip, seed);
    net->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return net;
}

void net_destroy(struct net *net)
{
    if (!net) {
        return;
    }
    check(net->handles == 0 && list_empty(&net->closed));
    while (!list_empty(&net->out_pool)) {
        mem_free(list_entry(list_pop(&net->out_pool), struct out_piece, link));
    }
    slab_unref(net->read_slab);
    map_finish(&net->per_ip);
    if (net->reserve_fd >= 0) {
        close(net->reserve_fd);
    }
    mem_free(net);
}

void net_set_config(struct net *net, const struct config *config)
{
    net->config = config;
    net_arm_all(net);
}

void net_memory_freed(struct net *net)
{
    net->memory_freed = true;
    net->spent_ms = 0;
}

size_t net_partial_peak_bytes(const struct net *net)
{
    return net->partial_memory.peak_bytes;
}

int net_connection_count(const struct net *net)
{
    return net->count;
}

/* ---- connections of an address */

static const void *address_key(const struct sockaddr_storage *address, size_t *ret_size)
{
    if (address->ss_family == AF_INET6) {
        *ret_size = sizeof(struct in6_addr);
        return &((const struct sockaddr_in6 *)address)->sin6_addr;
    }
    *ret_size = sizeof(struct in_addr);
    return &((const struct sockaddr_in *)address)->sin_addr;
}

bool net_ip_take(struct net *net, const struct sockaddr_storage *address)
{
    size_t size;
    const void *key = address_key(address, &size);
    struct ip_count *ip = map_get(&net->per_ip, key, size);
    if (ip && ip->count >= net->config->connections_max_per_ip) {
        return false;
    }
    if (!ip) {
        ip = mem_need_zero(1, sizeof *ip);
        check(map_put(&net->per_ip, key, size, ip) == OK);
    }
    ip->count++;
    return true;
}

void net_ip_release(struct net *net, const struct sockaddr_storage *address)
{
    size_t size;
    const void *key = address_key(address, &size);
    struct ip_count *ip = map_get(&net->per_ip, key, size);
    check(ip && ip->count > 0);
    if (--ip->count == 0) {
        map_remove(&net->per_ip, key, size);
        mem_free(ip);
    }
}

/* ---- the end of a turn */

static void try_waiter(struct conn *c)
{
    list_remove(&c->waiting);
    c->progress_ms =
        clock_mono_ms(c->net->options.clock); /* the time that it had to wait is not its fault */
    conn_update(c);
    conn_arm(c);
}

void net_arm_all(struct net *net)
{
    list_each(link, &net->conns)
    {
        conn_arm(list_entry(link, struct conn, link));
    }
}

void net_note_spent(struct net *net)
{
    if (net->spent_ms) {
        return;
    }
    net->spent_ms = clock_mono_ms(net->options.clock);
    net->options.metrics->memory_waits++;
    diag_log(net->options.diag, DIAG_WARN, "memory_spent",
             "limit=rivulet.memory.max.bytes bytes=%zu connections=%d",
             net->options.budget->used_bytes, net->count);
    net_arm_all(net);
}

/* Who waits for memory tries again when there is some; and while there is none, the oldest partial
 * frame goes on. */
static void serve_waiters(struct net *net)
{
    if (budget_spent(net->options.budget)) {
        net_note_spent(net);
        budget_wait(net->options.budget);
    }
    if (net->memory_freed) {
        net->memory_freed = false;
        struct list waiters;
        list_init(&waiters);
        list_splice(&waiters, &net->waiters);
        while (!list_empty(&waiters)) {
            try_waiter(list_entry(waiters.next, struct conn, waiting));
        }
    }
    struct conn *oldest = partial_oldest(net);
    if (oldest && list_linked(&oldest->waiting)) {
        try_waiter(oldest);
    }
}

static bool tell_closed(struct net *net)
{
    bool called = false;
    while (!list_empty(&net->closed)) {
        struct conn *c = list_entry(list_pop(&net->closed), struct conn, link);
        c->told = true;
        net->options.events.closed(c->owner);
        called = true;
        if (c->handle_closed) {
            conn_free(c);
        }
    }
    return called;
}

static void finish_closing(struct net *net)
{
    if (net->closing && net->handles == 0 && list_empty(&net->closed) && net->done) {
        void (*done)(void *ctx) = net->done;
        net->done = NULL;
        done(net->done_ctx);
    }
}

bool net_turn_end(struct net *net)
{
    struct list dirty;
    list_init(&dirty);
    list_splice(&dirty, &net->dirty);
    bool called = false;
    while (!list_empty(&dirty)) {
        struct conn *c = list_entry(list_pop(&dirty), struct conn, dirty);
        called = called || c->rest;
        conn_read_on(c);
        if (!c->closing && (c->out_bytes || c->finishing)) {
            conn_send(c);
        } else {
            conn_update(c);
        }
    }
    serve_waiters(net);
    bool told = tell_closed(net);
    finish_closing(net); /* where there was nothing to close */
    return told || called || !list_empty(&net->dirty);
}

/* ---- the end */

void net_stop_reading(struct net *net)
{
    net->stop_reading = true;
    list_each(link, &net->conns)
    {
        conn_update(list_entry(link, struct conn, link));
    }
}

void net_released(struct net *net)
{
    net->handles--;
    finish_closing(net);
}

void net_close(struct net *net, void (*done)(void *ctx), void *ctx)
{
    net->closing = true;
    net->done = done;
    net->done_ctx = ctx;
    net_stop_listening(net);
    list_each_safe(link, after, &net->conns)
    {
        conn_close(list_entry(link, struct conn, link), CONN_END_STOP, "the broker stops");
    }
}
