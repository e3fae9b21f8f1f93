/* Offsets of a group as a part of a transaction: what a consume-transform-produce loop has read is
 * stored together with what it has made of it, or not at all. The consumer's membership goes along
 * (KIP-447), so that one that has lost its partitions cannot commit for them. */
#include "client/ask.h"
#include "client/consumer.h"
#include "client/producer.h"
#include "gen/add_offsets_to_txn.h"
#include "gen/txn_offset_commit.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum {
    ADD_OFFSETS_KEY = 25,
    TXN_OFFSET_COMMIT_KEY = 28,
    FIRST_WITH_MEMBER = 3, /* TxnOffsetCommit that says who commits */
    FIRST_TO_JOIN = 5,     /* TxnOffsetCommit that adds the group to the transaction (V2 flow) */
    OFFSETS_ARENA_LIMIT = 64 << 20,
    WHAT_SIZE = 140,
};

struct offsets_job {
    struct rv_producer *pr;
    struct rv_consumer *consumer;
    const char *group;
    int64_t deadline_ms;
    struct txn_offset_commit_request request;
    struct arena arena; /* what the request points to */
    char what[WHAT_SIZE];
};

/* ---- the request ---- */

static int place_add(struct offsets_job *job, const struct rv_partition *p, int32_t epoch,
                     size_t room)
{
    struct txn_offset_commit_request *r = &job->request;
    struct txn_offset_commit_request_topic *t = NULL;
    for (int32_t i = 0; i < r->topics_count && !t; i++) {
        t = str_eq(r->topics[i].name, str_of(p->topic)) ? &r->topics[i] : NULL;
    }
    if (!t) {
        t = &r->topics[r->topics_count];
        t->name = str_of(p->topic);
        t->partitions =
            wire_array(&job->arena, &txn_offset_commit_request_partition_table, (int32_t)room);
        if (!t->partitions) {
            return RV_E_MEMORY;
        }
        r->topics_count++;
    }
    struct txn_offset_commit_request_partition *to = &t->partitions[t->partitions_count++];
    to->partition_index = p->partition;
    to->committed_offset = p->offset;
    to->committed_leader_epoch = epoch;
    to->committed_metadata = str_of(p->metadata ? p->metadata : "");
    return RV_OK;
}

static int places_add(struct offsets_job *job, const struct rv_partition *partitions, size_t count,
                      struct rv_error *ret_error)
{
    bool is_own = partitions == NULL;
    if (is_own) {
        count = rv_assignment(job->consumer, &partitions);
    }
    job->request.topics =
        wire_array(&job->arena, &txn_offset_commit_request_topic_table, (int32_t)count);
    job->request.topics_count = 0;
    if (!job->request.topics) {
        return error_memory(ret_error);
    }
    for (size_t i = 0; i < count; i++) {
        const struct rv_partition *p = &partitions[i];
        if (is_own && p->offset < 0) {
            continue; /* not known yet: nothing was read */
        }
        if (!p->topic || !p->topic[0] || p->partition < 0 || p->offset < 0) {
            return error_set(ret_error, RV_E_ARGUMENT, "%s: topic %s partition %d offset %lld",
                             job->what, p->topic ? p->topic : "(none)", (int)p->partition,
                             (long long)p->offset);
        }
        if (is_member(job->consumer) && !consumer_holds(job->consumer, p->topic, p->partition)) {
            return error_set(ret_error, RV_E_LOST_MEMBER,
                             "%s: topic %s partition %d is not assigned to us (any more)",
                             job->what, p->topic, (int)p->partition);
        }
        int32_t epoch = is_own || p->leader_epoch > 0 ? p->leader_epoch : -1;
        if (place_add(job, p, epoch, count - i) != RV_OK) {
            return error_memory(ret_error);
        }
    }
    return RV_OK;
}

static int request_make(struct offsets_job *job, const struct rv_partition *partitions,
                        size_t count, struct rv_error *ret_error)
{
    const struct rv_consumer *c = job->consumer;
    struct txn_offset_commit_request *r = &job->request;
    txn_offset_commit_request_init(r);
    r->transactional_id = str_of(job->pr->txn.id);
    r->group_id = str_of(job->group);
    r->producer_id = job->pr->producer_id;
    r->producer_epoch = job->pr->producer_epoch;
    if (is_member(c)) {
        const char *instance = c->settings.texts[OPT_GROUP_INSTANCE_ID];
        if (!c->member.id || c->member.generation < 0) {
            return error_set(ret_error, RV_E_LOST_MEMBER, "%s: not a member of the group now",
                             job->what);
        }
        r->generation_id = c->member.generation;
        /* A copy: while we wait, the member may be lost. */
        const char *id = arena_dup(&job->arena, c->member.id, strlen(c->member.id) + 1);
        if (!id) {
            return error_memory(ret_error);
        }
        r->member_id = str_of(id);
        r->group_instance_id = instance[0] ? str_of(instance) : (struct str){0};
    }
    return places_add(job, partitions, count, ret_error);
}

/* ---- asking ---- */

static int add_code(const void *response)
{
    return ((const struct add_offsets_to_txn_response *)response)->error_code;
}

/* V1: the group joins the transaction. */
static int group_add(struct offsets_job *job, struct rv_error *ret_error)
{
    struct rv_producer *pr = job->pr;
    struct add_offsets_to_txn_request request;
    add_offsets_to_txn_request_init(&request);
    request.transactional_id = str_of(pr->txn.id);
    request.producer_id = pr->producer_id;
    request.producer_epoch = pr->producer_epoch;
    request.group_id = str_of(job->group);
    struct ask q = {.client = pr->client,
                    .api_key = ADD_OFFSETS_KEY,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = pr->txn.id,
                    .key_type = COORDINATOR_OF_TRANSACTION,
                    .coordinator = &pr->txn.coordinator,
                    .deadline_ms = job->deadline_ms,
                    .code_of = add_code,
                    .what = job->what};
    int code = ask(&q, ret_error);
    bool is_answered = code == RV_OK;
    if (is_answered) {
        const struct add_offsets_to_txn_response *r = q.response;
        code = r->error_code ? ask_refused(&q, r->error_code, (struct str){0}, ret_error) : RV_OK;
    }
    pr->txn.started |= code == RV_OK;
    pr->txn.add_unsure |= q.unsure || !is_answered;
    ask_finish(&q);
    return code;
}

/* The first error, one that ends more before one that ends less. */
static int commit_code(const void *response)
{
    const struct txn_offset_commit_response *r = response;
    int code = RV_OK;
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            int other = r->topics[i].partitions[j].error_code;
            if (other && (code == RV_OK || txn_verdict(other) > txn_verdict(code))) {
                code = other;
            }
        }
    }
    return code;
}

static int offsets_commit(struct offsets_job *job, struct rv_error *ret_error)
{
    struct rv_producer *pr = job->pr;
    bool v2 = pr->txn.v2;
    struct ask q = {.client = pr->client,
                    .api_key = TXN_OFFSET_COMMIT_KEY,
                    .min_version = v2                         ? FIRST_TO_JOIN
                                   : is_member(job->consumer) ? FIRST_WITH_MEMBER
                                                              : 0,
                    .max_version = v2 ? 0 : FIRST_TO_JOIN - 1,
                    .request = &job->request,
                    .target = ASK_COORDINATOR,
                    .group = job->group,
                    .coordinator = &job->consumer->coord.node,
                    .deadline_ms = job->deadline_ms,
                    .code_of = commit_code,
                    .what = job->what};
    pr->txn.started |= v2;
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        int refused = commit_code(q.response);
        code = refused ? ask_refused(&q, refused, (struct str){0}, ret_error) : RV_OK;
    }
    ask_finish(&q);
    return code;
}

int rv_txn_offsets(struct rv_producer *producer, struct rv_consumer *consumer,
                   const struct rv_partition *partitions, size_t count, int timeout_ms,
                   struct rv_error *ret_error)
{
    struct rv_error e = {0};
    struct offsets_job job = {.pr = producer,
                              .consumer = consumer,
                              .group = consumer->settings.texts[OPT_GROUP_ID],
                              .deadline_ms = client_deadline(producer->client, timeout_ms)};
    int code = txn_call_check(producer, "rv_txn_offsets", 1u << TXN_OPEN, ret_error);
    if (code != RV_OK) {
        return code;
    }
    if (!consumer->has_group) {
        return error_set(ret_error, RV_E_STATE,
                         "rv_txn_offsets: the consumer's option group.id is not set");
    }
    snprintf(job.what, sizeof job.what, "transactional id %.50s: offsets of group %.50s",
             producer->txn.id, job.group);
    producer->txn.busy = true;
    arena_init(&job.arena, OFFSETS_ARENA_LIMIT);
    code = request_make(&job, partitions, count, &e);
    if (code == RV_OK && job.request.topics_count > 0) {
        code = producer->txn.v2 ? RV_OK : group_add(&job, &e);
        code = code == RV_OK ? offsets_commit(&job, &e) : code;
        bool breaks = code != RV_OK && txn_failed(producer, &e) != RV_E_MEMORY;
        if (breaks && producer->fatal.code == RV_OK) { /* also by what passes: nobody knows */
            txn_break(producer, &e);
        }
    } else if (code == RV_E_LOST_MEMBER) {
        txn_break(producer, &e);
    }
    arena_finish(&job.arena);
    producer->txn.busy = false;
    return code == RV_OK ? RV_OK : error_copy(ret_error, &e);
}
