/* Transactions: what of a producer is visible to readers together, or not at all.
 *
 *   NONE --init--> READY --begin--> OPEN --commit--> COMMITTING --EndTxn--> READY
 *                                    | \__________________|
 *                                    |         | a record, an offset, AddPartitions failed
 *                                    |         v
 *                                    |       BROKEN
 *                                    v         v
 *                                    ABORTING <-- abort --EndTxn [, InitProducerId]--> READY
 *
 *   anywhere: fenced, not allowed, state that contradicts itself --> pr->fatal, for good
 *
 * Two flows, by the finalized feature transaction.version; the flow changes between transactions.
 *   V1  a partition is added (AddPartitionsToTxn) before its first batch is sent, a group
 *       (AddOffsetsToTxn) before its offsets; the epoch stays from one transaction to the next, and
 *       so do the sequence numbers. When some are missing after an abort, InitProducerId raises the
 *       epoch and all begin at 0.
 *   V2  Produce 12+ and TxnOffsetCommit 5+ add by themselves; EndTxn 5+ answers the epoch of the
 *       next transaction, in which all begin at 0.
 *
 * What is retried until it is known: rv_txn_init, rv_txn_commit, rv_txn_abort. When their time is
 * up the state stays, and the same call goes on; no other may then be made, but that a commit whose
 * EndTxn was not asked for yet may become an abort.
 *
 * Invariants:
 *   T1  EndTxn is sent when no record's fate is open and no Produce or AddPartitions is on its way
 *   T2  a batch is sent in OPEN and COMMITTING only; V1: to a partition that was added
 *   T3  a partition takes a new identity only when none of its batches has the old one: they end
 *       with their transaction
 */
#include "base/check.h"
#include "client/ask.h"
#include "client/producer.h"
#include "gen/add_partitions_to_txn.h"
#include "gen/end_txn.h"
#include "gen/find_coordinator.h"
#include "gen/init_producer_id.h"
#include "protocol/error.h"

#include <stdio.h>

enum {
    FIND_COORDINATOR_KEY = 10,
    INIT_PRODUCER_ID_KEY = 22,
    ADD_PARTITIONS_KEY = 24,
    END_TXN_KEY = 26,

    FIND_ONE_MAX = 3,      /* one key; later versions take many */
    ADD_ONE_MAX = 3,       /* one transaction; later versions are the brokers' own */
    FIRST_WITH_EPOCH = 3,  /* InitProducerId that raises the epoch of a producer */
    FIRST_WITH_ANSWER = 5, /* EndTxn that answers the next epoch (V2 flow) */
    TRANSACTION_VERSION_2 = 2,
};

#define BIT(state) (1u << (state))

/* ---- what goes wrong ---- */

enum txn_verdict txn_verdict(int code)
{
    switch (code) {
    case KERR_PRODUCER_FENCED:
    case KERR_INVALID_PRODUCER_EPOCH:
    case KERR_INVALID_PRODUCER_ID_MAPPING:
    case KERR_INVALID_TXN_STATE:
    case KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case KERR_CLUSTER_AUTHORIZATION_FAILED:
    case KERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RV_E_VERSION: return TXN_ENDS_ALL;
    case KERR_BROKER_NOT_AVAILABLE: return TXN_PASSES;
    default: break;
    }
    bool is_ours = code < RV_OK && code != KERR_UNKNOWN_SERVER_ERROR; /* there was no answer */
    return is_ours || error_is_retriable(code) ? TXN_PASSES : TXN_BREAKS;
}

static void fail(struct rv_producer *pr, struct rv_error *e)
{
    e->flags = (e->flags & ~(unsigned)(RV_RETRIABLE | RV_ABORT)) | RV_FATAL;
    if (pr->fatal.code == RV_OK) {
        pr->fatal = *e;
        pr->client->again = true;
    }
}

void txn_break(struct rv_producer *pr, struct rv_error *why)
{
    struct txn *t = &pr->txn;
    /* What may be fatal for a consumer is not for the producer. */
    why->flags = (why->flags & ~(unsigned)(RV_RETRIABLE | RV_FATAL)) | RV_ABORT;
    if (t->state == TXN_OPEN || t->state == TXN_COMMITTING) {
        t->state = TXN_BROKEN;
        t->why = *why;
        pr->client->again = true;
        client_log(pr->client, RV_INFO, "transactional id %s: the transaction fails: %s", t->id,
                   why->text);
    }
}

int txn_failed(struct rv_producer *pr, struct rv_error *e)
{
    enum txn_verdict verdict = txn_verdict(e->code);
    if (verdict == TXN_ENDS_ALL) {
        fail(pr, e);
    } else if (verdict == TXN_BREAKS) {
        txn_break(pr, e);
    }
    return e->code;
}

/* Of a record the leader's word is not the coordinator's: an epoch that is too old may come from a
 * transaction that timed out, and a state that does not fit from a marker. EndTxn will tell. */
static bool record_ends_all(int code)
{
    return txn_verdict(code) == TXN_ENDS_ALL && code != KERR_INVALID_PRODUCER_EPOCH &&
           code != KERR_INVALID_TXN_STATE;
}

void txn_record_failed(struct rv_producer *pr, const struct out_batch *b, struct rv_error *e)
{
    struct txn *t = &pr->txn;
    if (!t->id || pr->closing || pr->fatal.code != RV_OK) {
        return;
    }
    t->bump |= !t->v2 && b->sequence != SEQUENCE_NONE;
    if (record_ends_all(e->code)) {
        fail(pr, e);
        return;
    }
    txn_break(pr, e);
}

/* ---- records ---- */

int txn_send_check(const struct rv_producer *pr, struct rv_error *ret_error)
{
    const struct txn *t = &pr->txn;
    if (!t->id || t->state == TXN_OPEN) {
        return RV_OK;
    }
    if (t->state == TXN_BROKEN) {
        return error_copy(ret_error, &t->why);
    }
    return error_set(ret_error, RV_E_STATE, "rv_send: transactional id %s: %s", t->id,
                     t->state == TXN_NONE    ? "rv_txn_init comes first"
                     : t->state == TXN_READY ? "rv_txn_begin comes first"
                                             : "the transaction is being ended");
}

int16_t txn_attributes(const struct rv_producer *pr)
{
    return pr->txn.id ? BATCH_ATTRIBUTE_TRANSACTIONAL : 0;
}

void txn_sending(struct rv_producer *pr)
{
    pr->txn.started |= pr->txn.id && pr->txn.v2;
}

static bool takes_batches(const struct txn *t) /* T2 */
{
    return t->state == TXN_OPEN || t->state == TXN_COMMITTING;
}

bool txn_partition_ready(struct rv_producer *pr, struct out_partition *p)
{
    struct txn *t = &pr->txn;
    if (!takes_batches(t) || (!t->v2 && p->joined != t->number)) {
        return false;
    }
    if (p->producer_id != pr->producer_id || p->producer_epoch != pr->producer_epoch) {
        check(p->in_flight == 0); /* T3 */
        p->producer_id = pr->producer_id;
        p->producer_epoch = pr->producer_epoch;
        p->next_sequence = 0;
        p->broken = p->id_spent = false;
        p->proven = t->v2; /* brokers of that flow take no sequence but 0 from a new epoch */
    }
    if (p->broken && !list_empty(&pr->ended)) {
        return false; /* the failure is about to be told */
    }
    if (p->broken) {
        struct rv_error e = {0};
        error_set(&e, KERR_UNKNOWN_PRODUCER_ID,
                  "topic %.100s partition %d: records of this transaction are missing",
                  p->topic->meta->name, (int)p->index);
        t->bump |= !t->v2;
        txn_break(pr, &e);
        return false;
    }
    return p->proven || p->in_flight == 0;
}

/* What was not sent will not be. */
static void drop_unsent(struct rv_producer *pr)
{
    list_each(link, &pr->active)
    {
        struct out_partition *p = list_entry(link, struct out_partition, link);
        list_each_safe(node, after, &p->batches)
        {
            struct out_batch *b = list_entry(node, struct out_batch, link);
            if (!b->request && !b->ended) {
                b->why[0] = 0;
                queue_end(pr, b, RV_E_ABORTED);
            }
        }
    }
}

/* ---- V1: partitions are added ---- */

static int find_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_producer *pr = list_entry(call, struct rv_producer, txn.find);
    struct find_coordinator_request *r = request;
    (void)a;
    r->key = str_of(pr->txn.id);
    r->key_type = COORDINATOR_OF_TRANSACTION;
    return RV_OK;
}

static void find_done(struct call *call, const struct answer *answer)
{
    struct rv_producer *pr = list_entry(call, struct rv_producer, txn.find);
    struct txn *t = &pr->txn;
    const struct find_coordinator_response *r = answer->body;
    t->found = true;
    t->found_code = r ? r->error_code : answer->code;
    if (t->found_code == RV_OK) {
        t->coordinator = r->node_id;
    }
}

static bool wants_to_join(const struct rv_producer *pr, const struct out_partition *p)
{
    return p->joined != pr->txn.number && !list_empty(&p->batches);
}

static int add_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_producer *pr = list_entry(call, struct rv_producer, txn.add);
    struct add_partitions_to_txn_request *r = request;
    int32_t count = 0;
    list_each(link, &pr->active)
    {
        count += wants_to_join(pr, list_entry(link, struct out_partition, link));
    }
    if (count == 0) {
        return RV_E_STATE; /* they have timed out meanwhile */
    }
    r->v3_and_below_transactional_id = str_of(pr->txn.id);
    r->v3_and_below_producer_id = pr->producer_id;
    r->v3_and_below_producer_epoch = pr->producer_epoch;
    r->v3_and_below_topics = wire_array(a, &add_partitions_to_txn_request_topic_table, count);
    if (!r->v3_and_below_topics) {
        return RV_E_MEMORY;
    }
    for (struct map_entry *e = map_first(&pr->topics); e; e = map_next(e)) {
        const struct out_topic *o = map_value(e);
        struct add_partitions_to_txn_request_topic *to =
            &r->v3_and_below_topics[r->v3_and_below_topics_count];
        int32_t room = 0;
        for (int32_t i = 0; i < o->partition_size; i++) {
            room += o->partitions[i] && wants_to_join(pr, o->partitions[i]);
        }
        if (room == 0) {
            continue;
        }
        to->name = str_of(o->meta->name);
        to->partitions = arena_alloc(a, (size_t)room * sizeof *to->partitions);
        if (!to->partitions) {
            return RV_E_MEMORY;
        }
        for (int32_t i = 0; i < o->partition_size; i++) {
            if (o->partitions[i] && wants_to_join(pr, o->partitions[i])) {
                to->partitions[to->partitions_count++] = i;
            }
        }
        r->v3_and_below_topics_count++;
    }
    return RV_OK;
}

/* The one of two codes that says more. */
static int worse(int a, int b)
{
    if (a == RV_OK || b == RV_OK) {
        return a == RV_OK ? b : a;
    }
    if (a == KERR_OPERATION_NOT_ATTEMPTED || b == KERR_OPERATION_NOT_ATTEMPTED) {
        return a == KERR_OPERATION_NOT_ATTEMPTED ? b : a;
    }
    return txn_verdict(b) > txn_verdict(a) ? b : a;
}

static void add_take(struct rv_producer *pr, const struct add_partitions_to_txn_response *r)
{
    struct txn *t = &pr->txn;
    t->add_code = RV_OK;
    for (int32_t i = 0; i < r->results_by_topic_v3_and_below_count; i++) {
        const struct add_partitions_to_txn_response_topic_result *in =
            &r->results_by_topic_v3_and_below[i];
        const struct out_topic *o = map_get_str(&pr->topics, in->name);
        for (int32_t j = 0; o && j < in->results_by_partition_count; j++) {
            int32_t index = in->results_by_partition[j].partition_index;
            int code = in->results_by_partition[j].partition_error_code;
            if (code == RV_OK && index >= 0 && index < o->partition_size && o->partitions[index]) {
                o->partitions[index]->joined = t->number;
                t->started = true;
            } else if (worse(t->add_code, code) != t->add_code) {
                t->add_code = code;
                snprintf(t->add_why, sizeof t->add_why, "topic %.*s partition %d",
                         (int)(in->name.len < 100 ? in->name.len : 100), in->name.ptr, (int)index);
            }
        }
    }
}

static void add_done(struct call *call, const struct answer *answer)
{
    struct rv_producer *pr = list_entry(call, struct rv_producer, txn.add);
    struct txn *t = &pr->txn;
    t->added = true;
    if (answer->body) {
        add_take(pr, answer->body);
        return;
    }
    t->add_code = answer->code;
    t->add_why[0] = 0;
    t->add_unsure |= answer->code != RV_E_CONNECT && answer->code != RV_E_STATE;
}

static void back_off(struct rv_producer *pr, int code)
{
    struct rv_client *c = pr->client;
    struct txn *t = &pr->txn;
    if (error_is_metadata(code)) {
        meta_refresh(&c->meta);
    }
    t->not_before_ms =
        client_now(c) + client_backoff(c, error_backoff_ms(c, code),
                                       setting(c, OPT_RETRY_BACKOFF_MAX_MS), t->failures++);
}

/* Looks at what find and add ended with. */
static void answers_take(struct rv_producer *pr)
{
    struct txn *t = &pr->txn;
    int code = t->found ? t->found_code : t->added ? t->add_code : RV_OK;
    bool is_answered = t->found || t->added;
    const char *where = t->added && t->add_why[0] ? t->add_why : "the coordinator";
    t->found = t->added = false;
    if (!is_answered || code == RV_OK) {
        t->failures = is_answered ? 0 : t->failures;
        return;
    }
    if (error_is_coordinator(code)) {
        t->coordinator = -1;
    }
    struct rv_error e = {0};
    error_set(&e, code, "transactional id %.60s: partitions could not be added: %.110s: %s", t->id,
              where, error_about(code));
    client_log(pr->client, RV_DEBUG, "%s", e.text);
    if (txn_verdict(code) == TXN_PASSES) {
        back_off(pr, code);
    } else {
        txn_failed(pr, &e);
    }
}

/* The connection to the coordinator. NULL: not now; something is done about it. */
static struct conn *coordinator_conn(struct rv_producer *pr)
{
    struct rv_client *c = pr->client;
    struct txn *t = &pr->txn;
    struct conn *k = t->coordinator >= 0 ? conn_get(c, t->coordinator, LANE_CONTROL) : NULL;
    if (k) {
        return k;
    }
    if (t->coordinator >= 0) { /* a broker that the metadata does not name (yet) */
        t->coordinator = -1;
        c->meta.brokers_wanted = true;
        meta_refresh(&c->meta);
    }
    struct conn *any = conn_any(c, LANE_CONTROL);
    if (any) {
        call_submit(any, &t->find, setting(c, OPT_REQUEST_TIMEOUT_MS));
    } else {
        back_off(pr, RV_E_MEMORY);
    }
    return NULL;
}

static void join(struct rv_producer *pr)
{
    struct txn *t = &pr->txn;
    bool is_wanted = false;
    list_each(link, &pr->active)
    {
        is_wanted |= wants_to_join(pr, list_entry(link, struct out_partition, link));
    }
    if (!is_wanted || call_busy(&t->find) || call_busy(&t->add)) {
        return;
    }
    if (client_now(pr->client) >= t->not_before_ms) {
        struct conn *k = coordinator_conn(pr);
        if (k) {
            call_submit(k, &t->add, setting(pr->client, OPT_REQUEST_TIMEOUT_MS));
        }
    }
    if (client_now(pr->client) < t->not_before_ms) {
        producer_arm(pr, t->not_before_ms);
    }
}

void txn_pump(struct rv_producer *pr)
{
    struct txn *t = &pr->txn;
    if (!t->id || pr->fatal.code != RV_OK) {
        return;
    }
    answers_take(pr);
    if (t->state == TXN_BROKEN || t->state == TXN_ABORTING) {
        drop_unsent(pr);
    } else if (takes_batches(t) && !t->v2) {
        join(pr);
    }
}

void txn_init(struct rv_producer *pr)
{
    struct txn *t = &pr->txn;
    t->coordinator = -1;
    t->find = (struct call){.api = wire_api_find(FIND_COORDINATOR_KEY),
                            .min_version = 1,
                            .max_version = FIND_ONE_MAX,
                            .fill = find_fill,
                            .done = find_done};
    t->add = (struct call){.api = wire_api_find(ADD_PARTITIONS_KEY),
                           .max_version = ADD_ONE_MAX,
                           .fill = add_fill,
                           .done = add_done};
}

void txn_give_up(struct rv_producer *pr)
{
    call_cancel(&pr->txn.find);
    call_cancel(&pr->txn.add);
}

/* ---- the calls ---- */

int txn_call_check(const struct rv_producer *pr, const char *call, unsigned states,
                   struct rv_error *ret_error)
{
    static const char *const names[] = {"rv_txn_init comes first",
                                        "no transaction is open",
                                        "a transaction is open",
                                        "the transaction has failed: rv_txn_abort",
                                        "a commit has begun: rv_txn_commit",
                                        "an abort has begun: rv_txn_abort"};
    const struct txn *t = &pr->txn;
    if (pr->client->in_turn || pr->client->in_callback) {
        return error_set(ret_error, RV_E_STATE, "%s: not allowed in a callback", call);
    }
    if (!t->id) {
        return error_set(ret_error, RV_E_STATE, "%s: the option transactional.id is not set", call);
    }
    if (t->busy) {
        return error_set(ret_error, RV_E_STATE, "%s: another thread's call is waiting", call);
    }
    if (pr->fatal.code != RV_OK) {
        return error_copy(ret_error, &pr->fatal);
    }
    if (states & BIT(t->state)) {
        return RV_OK;
    }
    if (t->state == TXN_BROKEN) {
        return error_copy(ret_error, &t->why);
    }
    return error_set(ret_error, RV_E_STATE, "%s: %s", call, names[t->state]);
}

static int init_code(const void *response)
{
    return ((const struct init_producer_id_response *)response)->error_code;
}

/* A new epoch: of whatever there is under the id, or (`again`) of what we have. */
static int init_ask(struct rv_producer *pr, bool again, int64_t deadline_ms, struct rv_error *e)
{
    struct txn *t = &pr->txn;
    struct init_producer_id_request request;
    init_producer_id_request_init(&request);
    request.transactional_id = str_of(t->id);
    request.transaction_timeout_ms = (int32_t)pr->settings.numbers[OPT_TRANSACTION_TIMEOUT_MS];
    if (again) {
        request.producer_id = pr->producer_id;
        request.producer_epoch = pr->producer_epoch;
    }
    char what[120];
    snprintf(what, sizeof what, "transactional id %.60s: a new epoch", t->id);
    struct ask q = {.client = pr->client,
                    .api_key = INIT_PRODUCER_ID_KEY,
                    .min_version = again ? FIRST_WITH_EPOCH : 0,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = t->id,
                    .key_type = COORDINATOR_OF_TRANSACTION,
                    .coordinator = &t->coordinator,
                    .deadline_ms = deadline_ms,
                    .code_of = init_code,
                    .what = what};
    int code = ask(&q, e);
    if (code == RV_OK) {
        const struct init_producer_id_response *r = q.response;
        code = r->error_code ? ask_refused(&q, r->error_code, (struct str){0}, e) : RV_OK;
        if (code == RV_OK) {
            pr->producer_id = r->producer_id;
            pr->producer_epoch = r->producer_epoch;
        }
    }
    ask_finish(&q);
    return code;
}

static bool flow_is_v2(const struct rv_producer *pr)
{
    return pr->client->transaction_version >= TRANSACTION_VERSION_2;
}

int rv_txn_init(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_producer *pr = producer;
    int code = txn_call_check(pr, "rv_txn_init", BIT(TXN_NONE), ret_error);
    if (code != RV_OK) {
        return code;
    }
    pr->txn.busy = true;
    code = init_ask(pr, false, client_deadline(pr->client, timeout_ms), ret_error);
    pr->txn.busy = false;
    if (code == RV_OK) {
        pr->txn.v2 = flow_is_v2(pr); /* the coordinator's connection has told */
        pr->txn.state = TXN_READY;
    }
    return code;
}

int rv_txn_begin(struct rv_producer *producer, struct rv_error *ret_error)
{
    struct txn *t = &producer->txn;
    int code = txn_call_check(producer, "rv_txn_begin", BIT(TXN_READY), ret_error);
    if (code == RV_OK) {
        t->state = TXN_OPEN;
        t->number++;
    }
    return code;
}

/* T1 */
static bool is_quiet(const struct rv_producer *pr)
{
    return pr->pending == 0 && list_empty(&pr->requests) && list_empty(&pr->answered) &&
           list_empty(&pr->ended) && !call_busy(&pr->txn.add) && !call_busy(&pr->txn.find);
}

/* Waits until nothing is on its way, as long as the transaction is in `state`. */
static int settle(struct rv_producer *pr, enum txn_state state, int64_t deadline_ms,
                  struct rv_error *ret_error)
{
    struct txn *t = &pr->txn;
    bool in_time = true;
    while (pr->fatal.code == RV_OK && t->state == state && !is_quiet(pr)) {
        if (!in_time) {
            return error_set(ret_error, RV_E_TIMED_OUT,
                             "transactional id %s: %zu records still wait for their delivery",
                             t->id, pr->pending);
        }
        in_time = client_turn_until(pr->client, deadline_ms);
    }
    return pr->fatal.code != RV_OK ? error_copy(ret_error, &pr->fatal)
           : t->state != state     ? error_copy(ret_error, &t->why)
                                   : RV_OK;
}

static int end_code(const void *response)
{
    return ((const struct end_txn_response *)response)->error_code;
}

/* An abort of what the coordinator may not know: an AddPartitions had no answer. */
static bool was_nothing(const struct txn *t, bool commit, int code)
{
    return !commit && !t->started && code == KERR_INVALID_TXN_STATE;
}

/* What EndTxn was answered with, or that it was not. */
static int end_take(struct rv_producer *pr, const struct ask *q, bool commit, struct rv_error *e)
{
    struct txn *t = &pr->txn;
    const struct end_txn_response *r = q->response;
    if (r->error_code == KERR_NONE || was_nothing(t, commit, r->error_code)) {
        if (t->v2 && r->producer_id >= 0) {
            pr->producer_id = r->producer_id;
            pr->producer_epoch = r->producer_epoch;
        }
        return RV_OK;
    }
    int code = ask_refused(q, r->error_code, (struct str){0}, e);
    if (code == KERR_TRANSACTION_ABORTABLE || code == KERR_UNKNOWN_PRODUCER_ID) {
        t->bump |= !t->v2;
        t->end_sent = false;
        t->state = TXN_COMMITTING; /* from where it may break, also when it was being aborted */
        txn_break(pr, e);
    } else if (txn_verdict(code) != TXN_PASSES) {
        e->flags |= t->end_unsure ? (unsigned)RV_UNSURE : 0;
        fail(pr, e);
    }
    return code;
}

static int end_ask(struct rv_producer *pr, bool commit, int64_t deadline_ms, struct rv_error *e)
{
    struct txn *t = &pr->txn;
    struct end_txn_request request;
    end_txn_request_init(&request);
    request.transactional_id = str_of(t->id);
    request.producer_id = pr->producer_id;
    request.producer_epoch = pr->producer_epoch;
    request.committed = commit;
    char what[120];
    snprintf(what, sizeof what, "transactional id %.60s: %s", t->id, commit ? "commit" : "abort");
    struct ask q = {.client = pr->client,
                    .api_key = END_TXN_KEY,
                    .min_version = t->v2 ? FIRST_WITH_ANSWER : 0,
                    .max_version = t->v2 ? 0 : FIRST_WITH_ANSWER - 1,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = t->id,
                    .key_type = COORDINATOR_OF_TRANSACTION,
                    .coordinator = &t->coordinator,
                    .deadline_ms = deadline_ms,
                    .code_of = end_code,
                    .unsure = t->end_unsure,
                    .what = what};
    t->end_sent = true;
    int code = ask(&q, e);
    t->end_unsure |= q.unsure || (error_flags(code) & RV_UNSURE) || code == RV_E_MEMORY;
    if (code == RV_OK) {
        code = end_take(pr, &q, commit, e);
    } else if (txn_verdict(code) != TXN_PASSES) { /* where the coordinator is, is not said to us */
        fail(pr, e);
    } else if (t->end_unsure) {
        e->flags |= RV_UNSURE;
    }
    ask_finish(&q);
    return code;
}

static int end(struct rv_producer *pr, bool commit, int64_t deadline_ms, struct rv_error *e)
{
    struct txn *t = &pr->txn;
    if (!t->ended && (t->started || t->add_unsure)) {
        int code = end_ask(pr, commit, deadline_ms, e);
        if (code != RV_OK) {
            return code;
        }
    }
    t->ended = true;
    bool v2 = flow_is_v2(pr);
    if (t->bump || v2 != t->v2) {
        int code = init_ask(pr, true, deadline_ms, e);
        if (code != RV_OK) {
            if (txn_verdict(code) != TXN_PASSES) {
                fail(pr, e);
            }
            return code;
        }
    }
    t->v2 = v2;
    t->state = TXN_READY;
    t->started = t->add_unsure = t->end_sent = t->end_unsure = t->ended = t->bump = false;
    t->failures = 0;
    t->not_before_ms = 0;
    return RV_OK;
}

int rv_txn_commit(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_producer *pr = producer;
    struct rv_error e = {0};
    int64_t deadline_ms = client_deadline(pr->client, timeout_ms);
    int code = txn_call_check(pr, "rv_txn_commit", BIT(TXN_OPEN) | BIT(TXN_COMMITTING), ret_error);
    if (code != RV_OK) {
        return code;
    }
    pr->txn.state = TXN_COMMITTING;
    pr->txn.busy = true;
    queue_close_all(pr);
    code = settle(pr, TXN_COMMITTING, deadline_ms, &e);
    code = code == RV_OK ? end(pr, true, deadline_ms, &e) : code;
    pr->txn.busy = false;
    return code == RV_OK ? RV_OK : error_copy(ret_error, &e);
}

int rv_txn_abort(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_producer *pr = producer;
    struct rv_error e = {0};
    int64_t deadline_ms = client_deadline(pr->client, timeout_ms);
    unsigned states = BIT(TXN_OPEN) | BIT(TXN_BROKEN) | BIT(TXN_ABORTING) |
                      (pr->txn.end_sent || pr->txn.ended ? 0 : BIT(TXN_COMMITTING));
    int code = txn_call_check(pr, "rv_txn_abort", states, ret_error);
    if (code != RV_OK) {
        return code;
    }
    pr->txn.state = TXN_ABORTING;
    pr->txn.busy = true;
    pr->client->again = true;
    code = settle(pr, TXN_ABORTING, deadline_ms, &e);
    code = code == RV_OK ? end(pr, false, deadline_ms, &e) : code;
    pr->txn.busy = false;
    return code == RV_OK ? RV_OK : error_copy(ret_error, &e);
}
