/* Frames that are not all here: their memory, and who may take more of it.
 *
 *                   begin            came, whole
 *     (no frame) ---------> [ in ] ---------------> frame(), and the memory is the budget's alone
 *                          ^      |
 *                          `------' came, large: the owner is asked, and may cut off the front
 *                                                or have a piece of it dropped
 * Invariants:
 *
 * 1. in_have < in_need while `in` is there, or in_drop is not 0; with neither, in_drop is 0.
 * 2. A connection is in net.partials exactly while `in` is there, but for the time of asking.
 * 3. What the oldest has in `in` is set aside, of both budgets.
 */
#include "base/mem.h"
#include "broker/net/internal.h"

enum { PARTIAL_SHARE = 4 }; /* of rivulet.memory.max.bytes a quarter, at most */

static int64_t now_ms(const struct net *net)
{
    return clock_mono_ms(net->options.clock);
}

static void memory_freed(void *ctx)
{
    struct net *net = ctx;
    net->memory_freed = true;
    net->crowded_ms = 0;
}

void partial_memory_init(struct net *net)
{
    size_t share = net->options.budget->limit_bytes / PARTIAL_SHARE;
    size_t most = (size_t)net->config->partial_max_bytes;
    net->partial_memory = (struct budget){
        .limit_bytes = most < share ? most : share,
        .freed = memory_freed,
        .ctx = net,
        .whole = net->options.budget,
    };
}

struct conn *partial_oldest(struct net *net)
{
    return list_empty(&net->partials) ? NULL : list_entry(net->partials.next, struct conn, partial);
}

static void set_aside(struct net *net)
{
    const struct conn *oldest = partial_oldest(net);
    budget_set_aside(&net->partial_memory, oldest ? oldest->in->size : 0); /* 3 */
}

void partial_forget(struct conn *c)
{
    struct slab *slab = c->in;
    c->in = NULL;
    c->in_drop = 0;
    list_remove(&c->partial);
    set_aside(c->net);
    slab_unref(slab);
}

static void finish(struct conn *c, int64_t arrived_us)
{
    struct slab *slab = c->in;
    c->in = NULL;
    list_remove(&c->partial);
    set_aside(c->net);
    slab_hand_up(slab);
    conn_deliver(c, slab, slab->data, c->in_need, arrived_us);
    slab_unref(slab);
}

/* What the owner makes of the beginning of a large frame. It may close the connection, too. */
static void ask(struct conn *c, int64_t arrived_us)
{
    struct net *net = c->net;
    struct slab *before = c->in;
    struct slab_partial p = {
        .slab = before, .have = c->in_have, .need = c->in_need, .ask_at = SIZE_MAX};
    c->in = NULL;
    budget_set_aside(&net->partial_memory, 0);
    net->options.events.partial(c->owner, &p, arrived_us);
    if (c->closing) {
        slab_unref(p.slab);
        return;
    }
    check(p.have <= p.need && p.have <= p.slab->size && p.ask_at > p.have);
    c->begun_ms = p.slab == before ? c->begun_ms : now_ms(net);
    c->in = p.slab;
    c->in_have = p.have;
    c->in_need = p.need;
    c->in_drop = p.drop;
    c->ask_at = p.ask_at;
    set_aside(net);
}

void partial_came(struct conn *c, size_t size, int64_t arrived_us)
{
    c->in_have += size;
    if (c->in_have < c->in_need && c->in_need > FRAME_LARGE && c->in_have >= c->ask_at) {
        ask(c, arrived_us);
    }
    if (!c->closing && c->in_have == c->in_need && c->in_drop == 0) {
        finish(c, arrived_us);
    }
}

void partial_begin(struct conn *c, const uint8_t *p, size_t have, size_t need, int64_t arrived_us)
{
    struct net *net = c->net;
    const struct budget *memory = &net->partial_memory;
    size_t trust = c->last_frame < PARTIAL_TRUST_MAX ? c->last_frame : PARTIAL_TRUST_MAX;
    trust = memory->used_bytes < memory->limit_bytes / 2 ? trust : 0;
    size_t size = budget_tight(memory) ? have : have * 2;
    size = size > trust ? size : trust;
    size = size < PARTIAL_SIZE_MIN ? PARTIAL_SIZE_MIN : size;
    size = size > need ? need : size;
    c->in = slab_create(&net->partial_memory, size);
    memcpy(c->in->data, p, have);
    c->in_have = have;
    c->in_need = need;
    c->ask_at = 0;
    c->begun_ms = c->progress_ms = now_ms(net);
    list_push(&net->partials, &c->partial);
    set_aside(net);
    partial_came(c, 0, arrived_us);
}

/* What the slab must grow by to take more. */
static size_t growth(const struct conn *c)
{
    if (!c->in || c->in_drop || c->in_have < c->in->size) {
        return 0;
    }
    size_t size = c->in->size * 2;
    size = size < c->in_need ? size : c->in_need;
    size = c->in_need > FRAME_LARGE && size > c->ask_at ? c->ask_at : size;
    return size - c->in->size;
}

void partial_grow(struct conn *c)
{
    size_t more = growth(c);
    if (more) {
        c->in = slab_resize(c->in, c->in->size + more);
        set_aside(c->net);
    }
}

/* ---- waiting */

int64_t partial_spent_ms(const struct net *net)
{
    return net->spent_ms && net->crowded_ms
               ? (net->spent_ms < net->crowded_ms ? net->spent_ms : net->crowded_ms)
               : net->spent_ms + net->crowded_ms;
}

void partial_deadline(const struct conn *c, int64_t *deadline_ms, const char **reason)
{
    const struct config *config = c->net->config;
    int64_t spent_ms = partial_spent_ms(c->net);
    if (!spent_ms) {
        return;
    }
    /* everybody waits for this one: it has so long in all, not for each byte */
    int64_t last = later(c->begun_ms, spent_ms) + config->frame_stall_ms;
    *deadline_ms = last < *deadline_ms ? last : *deadline_ms;
    int64_t quiet = later(c->progress_ms, spent_ms) + config->memory_stall_ms;
    if (quiet < *deadline_ms) {
        *deadline_ms = quiet;
        *reason = "the frame makes no progress while memory is spent (rivulet.memory.stall.ms)";
    }
}

/* Many clients that write much make it come and go: it is logged now and then. */
static void note_crowded(struct net *net)
{
    if (net->crowded_ms) {
        return;
    }
    net->crowded_ms = now_ms(net);
    net->options.metrics->partial_waits++;
    if (net->crowded_log_ms == 0 || net->crowded_ms - net->crowded_log_ms >= CROWDED_LOG_MS) {
        net->crowded_log_ms = net->crowded_ms;
        diag_log(net->options.diag, DIAG_WARN, "memory_spent",
                 "limit=rivulet.memory.partial.max.bytes bytes=%zu connections=%d",
                 net->partial_memory.used_bytes, net->count);
    }
    list_each(link, &net->partials)
    {
        conn_arm(list_entry(link, struct conn, partial)); /* they have less time now */
    }
}

/* Who has something already, of a frame, of requests or of answers, waits while little is left, so
 * that it is left to others; a small frame takes what is left. What is dropped takes nothing. */
bool partial_waits(struct conn *c)
{
    struct net *net = c->net;
    struct budget *all = net->options.budget;
    struct budget *partials = &net->partial_memory;
    size_t more = growth(c);
    bool holds = c->in || c->busy || c->out_bytes;
    bool small = c->in_need <= PARTIAL_SMALL_MAX;
    bool spent = holds ? budget_tight_with(all, more) : budget_spent(all);
    bool crowded = c->in && (small ? budget_spent(partials) : budget_tight_with(partials, more));
    if ((!spent && !crowded) || c->in_drop) {
        return false;
    }
    if (spent) {
        net_note_spent(net);
        budget_wait(all);
    }
    if (crowded) {
        note_crowded(net);
        budget_wait(partials);
    }
    if (partial_oldest(net) == c) {
        conn_arm(c);
        return false;
    }
    list_push(&net->waiters, &c->waiting);
    conn_update(c);
    return true;
}
