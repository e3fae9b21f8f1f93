/* Producer ids: given from a block that is durable before its first id is given, so that none is
 * ever given twice. */
#include "base/mem.h"
#include "broker/meta/record.h"
#include "broker/meta/state.h"

enum { PRODUCER_ID_BLOCK = 1000 };

struct id_wait {
    void (*done)(void *ctx, err e, int64_t producer_id);
    void *ctx;
    struct list link; /* in meta.id_waits */
};

/* ---- producer ids */

static void ids_durable(struct meta_write *w, err e);

/* Gives what may be given, and reserves the next block when somebody still waits. */
static void ids_go_on(struct meta *m)
{
    while (!list_empty(&m->id_waits) && m->next_producer_id < m->reserved_producer_id) {
        struct id_wait *w = list_entry(list_pop(&m->id_waits), struct id_wait, link);
        int64_t id = m->next_producer_id++;
        w->done(w->ctx, OK, id);
        mem_free(w);
    }
}

static err ids_reserve(struct meta *m)
{
    if (m->wanted_producer_id) {
        return OK;
    }
    struct meta_record r = {.kind = META_RECORD_PRODUCER_IDS,
                            .next_producer_id = m->reserved_producer_id + PRODUCER_ID_BLOCK};
    err e = meta_write_submit(&m->id_write, m->log, m->options.clock, &r, ids_durable);
    if (e == OK) {
        m->wanted_producer_id = r.next_producer_id;
    }
    return e;
}

static void ids_fail(struct meta *m, err e)
{
    struct list failed;
    list_init(&failed);
    list_splice(&failed, &m->id_waits);
    for (struct list *node; (node = list_pop(&failed));) {
        struct id_wait *w = list_entry(node, struct id_wait, link);
        w->done(w->ctx, e, -1);
        mem_free(w);
    }
}

static void ids_durable(struct meta_write *w, err e)
{
    struct meta *m = (struct meta *)(void *)((char *)w - offsetof(struct meta, id_write));
    int64_t reserved = m->wanted_producer_id;
    m->wanted_producer_id = 0;
    meta_write_finish(w);
    if (e == OK) {
        m->reserved_producer_id = reserved;
        ids_go_on(m);
        e = list_empty(&m->id_waits) ? OK : ids_reserve(m);
    }
    if (e != OK) {
        ids_fail(m, e);
    }
}

err meta_next_producer_id(struct meta *m, void (*done)(void *ctx, err e, int64_t producer_id),
                          void *ctx, int64_t *ret_now)
{
    if (list_empty(&m->id_waits) && m->next_producer_id < m->reserved_producer_id) {
        *ret_now = m->next_producer_id++;
        return OK;
    }
    err e = ids_reserve(m);
    if (e != OK) {
        return e;
    }
    struct id_wait *w = mem_need_zero(1, sizeof *w);
    w->done = done;
    w->ctx = ctx;
    list_push(&m->id_waits, &w->link);
    return ERR_AGAIN;
}

void ids_finish(struct meta *m)
{
    for (struct list *node; (node = list_pop(&m->id_waits));) {
        mem_free(list_entry(node, struct id_wait, link));
    }
    meta_write_finish(&m->id_write);
}
