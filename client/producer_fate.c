/* What an answer means for a batch, and the identity (producer id, epoch, sequence number) that
 * lets a broker recognise a batch that it has already.
 *
 * Each partition has an epoch of its own: brokers check sequences by (partition, producer id), so
 * one partition begins anew without the others. A batch keeps its identity until its fate is known.
 *
 *   answer                          never left open before       an earlier attempt was left open
 *   none of them                    stored                       stored
 *   DUPLICATE_SEQUENCE_NUMBER       again, in a new epoch        stored, nobody knows where
 *   OUT_OF_ORDER_SEQUENCE_NUMBER    again; in a new epoch, when  failed, RV_UNSURE
 *                                   nothing is before it
 *   UNKNOWN_PRODUCER_ID             again, in a new epoch        failed, RV_UNSURE
 *   INVALID_PRODUCER_EPOCH          again, with a new id         failed, RV_UNSURE
 *   MESSAGE_TOO_LARGE               halves; one record: failed   halves; one: failed, RV_UNSURE
 *   what passes by itself           again                        again
 *   anything else                   failed                       failed, RV_UNSURE
 *
 * In a transaction nothing begins anew by itself: where the table says so, the record fails, and
 * with it the transaction, which is aborted (txn.c).
 *
 * Invariants:
 *   F1  a new epoch begins only when no batch of the partition is in flight, and none is unsure: an
 *       unsure one sent under another identity could be stored twice
 *   F2  a sequence number is given when a batch is sealed, in the order of sending; a batch that
 * had one and is not stored leaves the partition broken F3  until the broker has taken a batch of
 * an epoch, one is in flight: a broker that knows nothing takes any first sequence, and would take
 * the second batch when it refuses the first
 */
#include "base/check.h"
#include "base/mem.h"
#include "client/producer.h"
#include "gen/init_producer_id.h"
#include "protocol/error.h"

#include <limits.h>

enum { INIT_PRODUCER_ID_KEY = 22, RECORD_LIMIT = INT32_MAX };

static int32_t sequence_add(int32_t sequence, int32_t n) /* wraps from INT32_MAX to 0 */
{
    return (int32_t)(((int64_t)sequence + n) & INT32_MAX);
}

/* ---- sealing and numbering ---- */

int out_batch_seal(struct rv_producer *pr, struct out_batch *b)
{
    struct out_partition *p = b->partition;
    struct batch_seal seal = batch_seal_plain;
    seal.codec = pr->codec;
    seal.attributes = txn_attributes(pr);
    if (pr->idempotent) {
        seal.producer_id = p->producer_id;
        seal.producer_epoch = p->producer_epoch;
        seal.base_sequence = p->next_sequence;
    }
    size_t size = batch_builder_size(&b->builder);
    err e = batch_builder_seal(&b->builder, &seal, &b->sealed);
    if (e != OK) {
        buf_finish(&b->sealed);
        return error_of(e);
    }
    if (pr->idempotent) {
        b->producer_id = seal.producer_id;
        b->producer_epoch = seal.producer_epoch;
        b->sequence = seal.base_sequence;
        p->next_sequence = sequence_add(p->next_sequence, b->count);
    }
    b->size = size;
    batch_builder_finish(&b->builder);
    return RV_OK;
}

/* Gives everything that has a sequence number a new one, in a new epoch (F1). False: an id is
 * needed first. */
static bool partition_restart(struct rv_producer *pr, struct out_partition *p)
{
    check(p->in_flight == 0);
    if (p->id_spent || p->producer_epoch == INT16_MAX) {
        if (pr->producer_id == p->producer_id) {
            pr->client->again |= !pr->id_wanted; /* ids_pump has had its turn */
            pr->id_wanted = true;
            return false;
        }
        p->producer_id = pr->producer_id;
        p->producer_epoch = pr->producer_epoch;
    } else {
        p->producer_epoch++;
    }
    p->next_sequence = 0;
    list_each(link, &p->batches)
    {
        struct out_batch *b = list_entry(link, struct out_batch, link);
        check(!b->unsure && !b->ended);
        if (b->sequence != SEQUENCE_NONE) {
            b->producer_id = p->producer_id;
            b->producer_epoch = p->producer_epoch;
            b->sequence = p->next_sequence;
            p->next_sequence = sequence_add(p->next_sequence, b->count);
            batch_set_producer(b->sealed.ptr, b->sealed.len, b->producer_id, b->producer_epoch,
                               b->sequence);
        }
    }
    p->broken = p->id_spent = p->proven = false;
    client_log(pr->client, RV_INFO, "topic %s partition %d: sequence numbers begin anew, epoch %d",
               p->topic->meta->name, (int)p->index, (int)p->producer_epoch);
    return true;
}

static struct out_batch *first_unsure(const struct out_partition *p)
{
    list_each(link, &p->batches)
    {
        struct out_batch *b = list_entry(link, struct out_batch, link);
        if (b->unsure && !b->ended) {
            return b;
        }
    }
    return NULL;
}

/* A topic that was deleted and made again under the same name is another log: what may be in the
 * old one is not in this one. False: not while something is on its way to the old one. */
static bool topic_follow(struct rv_producer *pr, struct out_partition *p)
{
    struct uuid id = p->topic->meta->id;
    if (uuid_eq(p->topic_id, id) || uuid_is_zero(id)) {
        return true;
    }
    if (uuid_is_zero(p->topic_id)) {
        p->topic_id = id;
        return true;
    }
    if (p->in_flight) {
        return false;
    }
    client_log(pr->client, RV_WARN,
               "topic %s has been deleted and made again: going on in the new one",
               p->topic->meta->name);
    list_each(link, &p->batches)
    {
        list_entry(link, struct out_batch, link)->unsure = false;
    }
    p->topic_id = id;
    p->broken = pr->idempotent && p->producer_id >= 0;
    return true;
}

bool identity_ready(struct rv_producer *pr, struct out_partition *p, struct out_batch **ret_first)
{
    *ret_first = NULL;
    if (!topic_follow(pr, p)) {
        return false;
    }
    if (!pr->idempotent) {
        return true;
    }
    if (pr->txn.id) {
        return txn_partition_ready(pr, p);
    }
    if (p->producer_id < 0) {
        if (pr->producer_id < 0) {
            return false;
        }
        p->producer_id = pr->producer_id;
        p->producer_epoch = pr->producer_epoch;
    }
    if (p->broken) {
        if (p->in_flight) {
            return false;
        }
        *ret_first = first_unsure(p);
        return *ret_first || partition_restart(pr, p);
    }
    return p->proven || p->in_flight == 0; /* F3 */
}

/* ---- halves of a batch that is too large ---- */

static struct out_batch *half_create(struct rv_producer *pr, const struct out_batch *b)
{
    struct out_batch *half = out_batch_create(pr, b->partition);
    if (half) {
        pr->next_number--; /* it is not another batch: rv_flush waits for it as for the whole */
        half->number = b->number;
        half->born_ms = b->born_ms;
        half->attempts = b->attempts;
        half->closed = true;
        half->unsure =
            b->unsure; /* its numbers are the same: a broker that has the whole refuses it */
        half->producer_id = b->producer_id;
        half->producer_epoch = b->producer_epoch;
        memcpy(half->why, b->why, sizeof half->why);
    }
    return half;
}

static err half_add(struct rv_producer *pr, struct out_batch *half, const struct record *r)
{
    if (!headers_reserve(pr, (size_t)r->header_count)) {
        return ERR_MEMORY;
    }
    const uint8_t *at = r->headers;
    size_t size = r->headers_size;
    int32_t left = r->header_count;
    for (int32_t i = 0; i < r->header_count; i++) {
        err e = record_header_next(&at, &size, &left, &pr->headers[i]);
        if (e != OK) {
            return e;
        }
    }
    err e = batch_builder_add(&half->builder, r->timestamp, r->key, r->value, pr->headers,
                              r->header_count);
    half->count += e == OK;
    return e;
}

static err halves_fill(struct rv_producer *pr, const struct out_batch *b, struct out_batch *first,
                       struct out_batch *second)
{
    struct batch_iterator it;
    err e = batch_iterator_init(&it, b->sealed.ptr, b->sealed.len, RECORD_LIMIT, &pr->scratch);
    for (int32_t i = 0; e == OK && i < b->count; i++) {
        struct record r;
        e = batch_iterator_next(&it, &r);
        e = e != OK ? e : half_add(pr, i < b->count / 2 ? first : second, &r);
    }
    return e;
}

static err half_seal(struct rv_producer *pr, struct out_batch *half, int32_t sequence)
{
    struct batch_seal seal = batch_seal_plain;
    seal.codec = pr->codec;
    seal.attributes = txn_attributes(pr);
    seal.producer_id = half->producer_id;
    seal.producer_epoch = half->producer_epoch;
    seal.base_sequence = half->sequence = sequence;
    half->size = batch_builder_size(&half->builder);
    err e = batch_builder_seal(&half->builder, &seal, &half->sealed);
    if (e == OK) {
        batch_builder_finish(&half->builder);
    }
    return e;
}

static bool half_receipts(const struct out_batch *b, struct out_batch *half, int32_t from)
{
    int32_t at = 0;
    while (at < b->receipt_count && b->receipts[at].index < from) {
        at++;
    }
    int32_t end = at;
    while (end < b->receipt_count && b->receipts[end].index < from + half->count) {
        end++;
    }
    if (end > at) {
        half->receipts = mem_dup(b->receipts + at, (size_t)(end - at) * sizeof *b->receipts);
        if (!half->receipts) {
            return false;
        }
    }
    half->receipt_count = half->receipt_size = end - at;
    for (int32_t i = 0; i < half->receipt_count; i++) {
        half->receipts[i].index -= from;
    }
    return true;
}

/* Two batches in the place of one, with its sequence numbers. False: no memory, nothing changed. */
static bool batch_split(struct rv_producer *pr, struct out_batch *b)
{
    struct out_batch *first = half_create(pr, b);
    struct out_batch *second = half_create(pr, b);
    err e = first && second ? halves_fill(pr, b, first, second) : ERR_MEMORY;
    check(e == OK || e == ERR_MEMORY); /* we have made these bytes */
    bool is_numbered = b->sequence != SEQUENCE_NONE;
    e = e ? e : half_seal(pr, first, b->sequence);
    e = e ? e
          : half_seal(pr, second,
                      is_numbered ? sequence_add(b->sequence, first->count) : SEQUENCE_NONE);
    if (e != OK || !half_receipts(b, first, 0) || !half_receipts(b, second, first->count)) {
        if (first) {
            out_batch_destroy(first);
        }
        if (second) {
            out_batch_destroy(second);
        }
        return false;
    }
    first->charged = b->charged / 2;
    second->charged = b->charged - first->charged;
    list_add_before(&first->link, &b->link);
    list_add_before(&second->link, &b->link);
    list_remove(&b->link);
    out_batch_destroy(b);
    return true;
}

/* ---- fates ---- */

enum fate { FATE_STORED, FATE_AGAIN, FATE_SPLIT, FATE_FAILED };

/* Whether the records may be in the log for all that this code says. NOT_LEADER_OR_FOLLOWER is also
 * the answer of a leader that has appended them and steps down. */
static bool leaves_open(int code)
{
    switch (code) {
    case RV_E_LOST:
    case RV_E_PROTOCOL:
    case RV_E_MEMORY: /* of the answer, perhaps */
    case RV_E_STATE:
    case KERR_UNKNOWN_SERVER_ERROR:
    case KERR_REQUEST_TIMED_OUT:
    case KERR_NETWORK_EXCEPTION:
    case KERR_NOT_LEADER_OR_FOLLOWER:
    case KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case KERR_KAFKA_STORAGE_ERROR: return true;
    default: return false;
    }
}

static bool is_sequence_error(int code)
{
    return code == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER || code == KERR_DUPLICATE_SEQUENCE_NUMBER ||
           code == KERR_UNKNOWN_PRODUCER_ID || code == KERR_INVALID_PRODUCER_EPOCH;
}

static enum fate sequence_fate(struct rv_producer *pr, const struct out_batch *b)
{
    struct out_partition *p = b->partition;
    if (b->unsure) {
        return b->code == KERR_DUPLICATE_SEQUENCE_NUMBER ? FATE_STORED : FATE_FAILED;
    }
    bool is_first = p->batches.next == &b->link;
    if (b->code == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER && !is_first) {
        return FATE_AGAIN; /* the one before it has failed, and is sent again */
    }
    if (pr->txn.id) {
        return FATE_FAILED; /* all of it is aborted, and then begins anew */
    }
    p->broken = true;
    p->id_spent |= b->code == KERR_INVALID_PRODUCER_EPOCH;
    client_log(pr->client, RV_WARN,
               "topic %s partition %d: %s: the broker does not remember what it has taken from us",
               p->topic->meta->name, (int)p->index, rv_error_name(b->code));
    return FATE_AGAIN;
}

static enum fate fate_of(struct rv_producer *pr, const struct out_batch *b)
{
    if (b->code == RV_OK) {
        return FATE_STORED;
    }
    if (pr->idempotent && is_sequence_error(b->code)) {
        return sequence_fate(pr, b);
    }
    if (b->code == KERR_MESSAGE_TOO_LARGE && b->count > 1) {
        return FATE_SPLIT;
    }
    return error_is_retriable(b->code) ? FATE_AGAIN : FATE_FAILED;
}

static void back_off(struct rv_producer *pr, struct out_partition *p, int attempts, int code)
{
    struct rv_client *c = pr->client;
    int64_t until =
        client_now(c) + client_backoff(c, error_backoff_ms(c, code),
                                       setting(c, OPT_RETRY_BACKOFF_MAX_MS), attempts - 1);
    p->not_before_ms = until > p->not_before_ms ? until : p->not_before_ms;
}

void fate_take(struct rv_producer *pr, struct out_batch *b)
{
    struct out_partition *p = b->partition;
    enum fate fate = fate_of(pr, b);
    bool is_numbered = b->sequence != SEQUENCE_NONE;
    if (fate == FATE_STORED) {
        p->proven = true;
    } else if (leaves_open(b->code)) {
        b->unsure = true;
    }
    if (b->ended) { /* its records were told that time is up: nothing is sent again */
        p->broken |= is_numbered && fate != FATE_STORED;
        list_remove(&b->link);
        out_batch_destroy(b);
        return;
    }
    if (fate == FATE_SPLIT && !batch_split(pr, b)) {
        fate = FATE_AGAIN;
    }
    switch (fate) {
    case FATE_STORED: queue_end(pr, b, RV_OK); break;
    case FATE_SPLIT: break;
    case FATE_AGAIN: back_off(pr, p, b->attempts, b->code); break;
    case FATE_FAILED:
        p->broken |= is_numbered; /* F2 */
        queue_end(pr, b, b->code);
        break;
    }
}

/* ---- producer ids ---- */

static int id_fill(struct call *call, struct arena *a, void *request)
{
    (void)call;
    (void)a;
    struct init_producer_id_request *r = request;
    r->transactional_id = (struct str){0};
    r->transaction_timeout_ms = INT32_MAX;
    return RV_OK;
}

static void id_done(struct call *call, const struct answer *answer)
{
    struct rv_producer *pr = list_entry(call, struct rv_producer, id_call);
    const struct init_producer_id_response *r = answer->body;
    pr->id_answered = true;
    pr->id_code = answer->code;
    if (r) {
        pr->id_code = r->error_code;
        pr->id_given = r->producer_id;
        pr->id_epoch = r->producer_epoch;
    }
}

void ids_init(struct rv_producer *pr)
{
    pr->producer_id = -1;
    pr->id_call.api = wire_api_find(INIT_PRODUCER_ID_KEY);
    pr->id_call.fill = id_fill;
    pr->id_call.done = id_done;
}

static void id_take(struct rv_producer *pr)
{
    struct rv_client *c = pr->client;
    pr->id_answered = false;
    if (pr->id_code == RV_OK && pr->id_given >= 0) {
        pr->producer_id = pr->id_given;
        pr->producer_epoch = pr->id_epoch;
        pr->id_wanted = false;
        pr->id_failures = 0;
        return;
    }
    int code = pr->id_code == RV_OK ? RV_E_PROTOCOL : pr->id_code;
    if (!error_is_retriable(code) && code != RV_E_TIMED_OUT && code != RV_E_PROTOCOL) {
        error_set(&pr->fatal, code,
                  "no producer id: %s; enable.idempotence=false works without one",
                  error_about(code));
        pr->fatal.flags |= RV_FATAL;
        return;
    }
    client_log(c, RV_INFO, "no producer id yet: %s", error_about(code));
    pr->id_not_before_ms =
        client_now(c) + client_backoff(c, setting(c, OPT_RETRY_BACKOFF_MS),
                                       setting(c, OPT_RETRY_BACKOFF_MAX_MS), pr->id_failures);
    pr->id_failures++;
}

void ids_pump(struct rv_producer *pr)
{
    struct rv_client *c = pr->client;
    if (pr->id_answered) {
        id_take(pr);
    }
    bool is_wanted = pr->idempotent && !pr->txn.id && (pr->producer_id < 0 || pr->id_wanted);
    if (!is_wanted || pr->fatal.code != RV_OK || call_busy(&pr->id_call) ||
        list_empty(&pr->active)) {
        return;
    }
    if (client_now(c) < pr->id_not_before_ms) {
        producer_arm(pr, pr->id_not_before_ms);
        return;
    }
    struct conn *k = conn_any(c, pr->lane);
    if (!k) { /* no memory */
        pr->id_not_before_ms = client_now(c) + setting(c, OPT_RETRY_BACKOFF_MS);
        producer_arm(pr, pr->id_not_before_ms);
        return;
    }
    call_submit(k, &pr->id_call, setting(c, OPT_REQUEST_TIMEOUT_MS));
}
