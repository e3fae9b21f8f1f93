/* The life of a request.
 *
 * Invariants:
 *
 * 1. A request is in its session's queue exactly while `session` is set.
 * 2. It is freed when it is in no queue and nothing holds it.
 * 3. It is answered at most once.
 * 4. While it is away (`trip`) it is the other shard's, and not freed.
 */
#include "base/check.h"
#include "base/mem.h"
#include "broker/api/internal.h"
#include "broker/coord/coord.h"

enum { SPARE_MAX = 256 }; /* requests that are kept for the next frames */

struct request *request_create(struct sessions *all)
{
    struct list *spare = list_pop(&all->spare);
    struct request *req;
    if (spare) {
        req = list_entry(spare, struct request, link);
        all->spare_count--;
    } else {
        req = mem_need_zero(1, sizeof *req);
    }
    struct arena arena = req->arena; /* a spare one brings its first chunk */
    *req = (struct request){.arena = arena, .env = all->env, .sessions = all};
    req->principal = STR("User:ANONYMOUS");
    req->peer = req->peer_host = req->listener = STR("");
    req->arena.limit_bytes = (size_t)all->env->config->request_memory_max_bytes;
    all->request_count++;
    return req;
}

void request_charge(struct request *req)
{
    if (req->arena.used_bytes > req->charged_bytes) {
        budget_charge(req->env->budget, req->arena.used_bytes - req->charged_bytes);
        req->charged_bytes = req->arena.used_bytes;
    }
}

static void release_extents(struct request *req)
{
    for (struct request_extents *x = req->extents; x; x = x->next) {
        for (int i = 0; i < x->count; i++) {
            extent_release(&x->extents[i]);
        }
    }
    req->extents = NULL;
}

void request_free(struct request *req)
{
    check(!req->session && req->holds == 0); /* 2 */
    struct sessions *all = req->sessions;
    release_extents(req);
    slab_unref(req->slab);
    budget_return(req->env->budget, req->charged_bytes);
    arena_reset(&req->arena);
    all->request_count--;
    if (all->spare_count < SPARE_MAX) {
        list_init(&req->link);
        list_push_front(&all->spare, &req->link);
        all->spare_count++;
    } else {
        arena_finish(&req->arena);
        mem_free(req);
    }
}

void request_detach(struct request *req, bool dropped)
{
    list_remove(&req->link);
    req->session = NULL; /* 1 */
    if (req->trip) {     /* 4 */
        if (dropped) {
            trip_dropped(req);
        }
        return;
    }
    bool parked = req->state == REQUEST_STARTED;
    req->peer = req->peer_host = req->listener = STR("");
    if (dropped) {
        req->state = REQUEST_DROPPED;
        if (parked && req->on_drop) {
            request_hold(req); /* on_drop may release the last of the handler's */
            req->on_drop(req);
            req->holds--;
        }
    }
    if (req->holds == 0) {
        request_free(req);
    }
}

void request_answered(struct request *req)
{
    if (req->state == REQUEST_DROPPED || visit_goes_on(req)) {
        return;
    }
    check(req->state == REQUEST_STARTED); /* 3 */
    req->state = REQUEST_ANSWERED;
    req->answered_us = clock_mono_us(req->env->clock);
    session_mark_ready(req->session);
}

static void answered(struct request *req)
{
    if (req->trip) {
        trip_replied(req);
    } else {
        request_answered(req);
    }
}

static void set_throttle(struct request *req, int32_t throttle_ms)
{
    const struct wire_struct *table = req->header.api->response;
    for (uint16_t i = 0; i < table->field_count; i++) {
        if (strcmp(table->field_names[i], "throttle_time_ms") == 0) {
            memcpy((char *)req->reply + table->fields[i].offset, &throttle_ms, sizeof throttle_ms);
        }
    }
}

void reply(struct request *req, int32_t throttle_ms)
{
    if (throttle_ms && req->state == REQUEST_STARTED) {
        set_throttle(req, throttle_ms);
    }
    answered(req);
}

void reply_nothing(struct request *req)
{
    req->no_reply = true;
    answered(req);
}

void request_close(struct request *req, const char *reason)
{
    if (req->trip) {
        trip_refuse(req, reason);
    } else if (req->session) {
        session_close(req->session, reason);
    }
}

void request_hold(struct request *req)
{
    req->holds++;
}

void request_release(struct request *req)
{
    check(req->holds > 0);
    req->holds--;
    if (req->holds == 0 && req->trip) {
        trip_released(req);
    } else if (req->holds == 0 && !req->session) {
        request_free(req);
    }
}

struct str request_copy(struct request *req, struct str s)
{
    if (!s.ptr) {
        return s;
    }
    return (struct str){.ptr = arena_dup(&req->arena, s.ptr, s.len), .len = s.len};
}

struct wire_records request_records(struct request *req, struct log_read *read)
{
    if (read->count == 0) {
        return (struct wire_records){.ptr = (const uint8_t *)""};
    }
    struct request_extents *x = arena_zero(&req->arena, 1, sizeof *x);
    if (!x) {
        for (int i = 0; i < read->count; i++) {
            extent_release(&read->extents[i]);
        }
        return (struct wire_records){0};
    }
    x->count = read->count;
    memcpy(x->extents, read->extents, (size_t)read->count * sizeof x->extents[0]);
    x->next = req->extents;
    req->extents = x;
    return (struct wire_records){.len = read->size, .extents = x};
}

struct endpoint request_endpoint(const struct request *req)
{
    return req->trip      ? req->trip->endpoint
           : req->session ? req->session->endpoint
                          : (struct endpoint){.host = STR(""), .port = 0};
}

/* ---- seams */

bool authorize(const struct request *req, enum acl_operation op, enum acl_resource type,
               struct str name)
{
    (void)req, (void)op, (void)type, (void)name;
    return true;
}

static const struct {
    enum acl_resource type;
    uint32_t operations; /* bits 1 << enum acl_operation that the resource knows */
} resource_operations[] = {
    {ACL_TOPIC,            1u << ACL_READ | 1u << ACL_WRITE | 1u << ACL_CREATE | 1u << ACL_DELETE |
                    1u << ACL_ALTER | 1u << ACL_DESCRIBE | 1u << ACL_DESCRIBE_CONFIGS |
                    1u << ACL_ALTER_CONFIGS                                 },
    {ACL_GROUP,            1u << ACL_READ | 1u << ACL_DELETE | 1u << ACL_DESCRIBE |
                    1u << ACL_DESCRIBE_CONFIGS | 1u << ACL_ALTER_CONFIGS    },
    {ACL_CLUSTER,          1u << ACL_CREATE | 1u << ACL_ALTER | 1u << ACL_DESCRIBE |
                      1u << ACL_CLUSTER_ACTION | 1u << ACL_DESCRIBE_CONFIGS |
                      1u << ACL_ALTER_CONFIGS | 1u << ACL_IDEMPOTENT_WRITE},
    {ACL_TRANSACTIONAL_ID, 1u << ACL_DESCRIBE | 1u << ACL_WRITE                            },
};

int32_t authorized_operations(const struct request *req, enum acl_resource type, struct str name)
{
    uint32_t operations = 0;
    for (size_t i = 0; i < sizeof resource_operations / sizeof *resource_operations; i++) {
        if (resource_operations[i].type == type) {
            operations = resource_operations[i].operations;
        }
    }
    for (uint32_t op = 0; op < 32; op++) {
        if ((operations & 1u << op) && !authorize(req, (enum acl_operation)op, type, name)) {
            operations &= ~(1u << op);
        }
    }
    return (int32_t)operations;
}

bool owns_group(const struct request *req, struct str group_id)
{
    return coord_shard_of(req->env->coord, group_id) == req->env->shard->index;
}
