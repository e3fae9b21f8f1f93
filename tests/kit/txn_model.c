#include "tests/kit/txn_model.h"

#include "gen/add_offsets_to_txn.h"
#include "gen/add_partitions_to_txn.h"
#include "gen/end_txn.h"
#include "gen/find_coordinator.h"
#include "gen/init_producer_id.h"
#include "gen/produce.h"
#include "gen/txn_offset_commit.h"
#include "protocol/batch.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

static void broke(struct txn_model *m, const char *rule)
{
    if (!m->broken[0]) {
        snprintf(m->broken, sizeof m->broken, "%s", rule);
    }
}

static void rule(struct txn_model *m, bool holds, const char *text)
{
    if (!holds) {
        broke(m, text);
    }
}

static void epoch_begins(struct txn_model *m)
{
    m->epoch++;
    for (int i = 0; i < TXN_MODEL_PARTITIONS; i++) {
        m->next[i] = 0;
    }
    memset(m->last, 0, sizeof m->last);
}

static bool is_open(const struct txn_model *m)
{
    bool any = m->group_in;
    for (int i = 0; i < TXN_MODEL_PARTITIONS; i++) {
        any |= m->in[i];
    }
    return any;
}

static void transaction_ends(struct txn_model *m, bool committed)
{
    memset(m->in, 0, sizeof m->in);
    m->group_in = false;
    m->offset = committed && m->pending >= 0 ? m->pending : m->offset;
    m->pending = -1;
    m->commits += committed;
    m->aborts += !committed;
    m->has_ended = true;
    m->was_committed = committed;
}

static int16_t play_init(struct txn_model *m, struct proxy_request *r)
{
    const struct init_producer_id_request *in = r->body;
    rule(m, in->transactional_id.len > 0, "InitProducerId without the id");
    rule(m, in->producer_id < 0 || in->producer_id == m->id, "InitProducerId for another producer");
    if (is_open(m)) {
        transaction_ends(m, false);
    }
    m->id = 4711;
    epoch_begins(m);
    return KERR_NONE;
}

static bool is_ours(const struct txn_model *m, int64_t id, int16_t epoch)
{
    return id == m->id && epoch == m->epoch;
}

static int16_t play_add(struct txn_model *m, struct proxy_request *r)
{
    const struct add_partitions_to_txn_request *in = r->body;
    rule(m, m->level < 2, "AddPartitionsToTxn in the flow V2");
    rule(m, r->version <= 3, "AddPartitionsToTxn of brokers");
    rule(m, is_ours(m, in->v3_and_below_producer_id, in->v3_and_below_producer_epoch),
         "AddPartitionsToTxn with another epoch");
    for (int32_t i = 0; i < in->v3_and_below_topics_count; i++) {
        for (int32_t j = 0; j < in->v3_and_below_topics[i].partitions_count; j++) {
            m->in[in->v3_and_below_topics[i].partitions[j]] = true;
        }
    }
    m->has_ended = false;
    return KERR_NONE;
}

static int16_t play_add_offsets(struct txn_model *m, struct proxy_request *r)
{
    const struct add_offsets_to_txn_request *in = r->body;
    rule(m, m->level < 2, "AddOffsetsToTxn in the flow V2");
    rule(m, is_ours(m, in->producer_id, in->producer_epoch), "AddOffsetsToTxn, another epoch");
    m->group_in = true;
    m->has_ended = false;
    return KERR_NONE;
}

static int16_t play_offsets(struct txn_model *m, struct proxy_request *r)
{
    const struct txn_offset_commit_request *in = r->body;
    rule(m, m->level < 2 ? m->group_in && r->version <= 4 : r->version >= 5,
         "TxnOffsetCommit does not fit the flow");
    rule(m, is_ours(m, in->producer_id, in->producer_epoch), "TxnOffsetCommit, another epoch");
    m->group_in = true;
    m->has_ended = false;
    m->pending = in->topics[0].partitions[0].committed_offset;
    return KERR_NONE;
}

static int16_t play_batch(struct txn_model *m, const struct produce_request_partition *p)
{
    struct batch_header h;
    rule(m, batch_header_read(p->records.ptr, p->records.len, &h) == OK, "not a batch");
    rule(m, h.attributes & BATCH_ATTRIBUTE_TRANSACTIONAL, "a batch that is not transactional");
    rule(m, is_ours(m, h.producer_id, h.producer_epoch), "a batch of another epoch");
    rule(m, m->level >= 2 || m->in[p->index], "a batch to a partition that was not added");
    m->in[p->index] = true;
    m->has_ended = false;
    for (int i = 0; i < TXN_MODEL_REMEMBERED; i++) {
        if (h.base_sequence == m->last[p->index][i].sequence &&
            h.count == m->last[p->index][i].count) {
            return KERR_NONE; /* once more */
        }
    }
    if (h.base_sequence != m->next[p->index]) {
        return KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    }
    memmove(&m->last[p->index][1], &m->last[p->index][0],
            (TXN_MODEL_REMEMBERED - 1) * sizeof m->last[p->index][0]);
    m->last[p->index][0].sequence = h.base_sequence;
    m->last[p->index][0].count = h.count;
    m->next[p->index] = h.base_sequence + h.count;
    return KERR_NONE;
}

static int16_t play_produce(struct txn_model *m, struct proxy_request *r)
{
    const struct produce_request *in = r->body;
    rule(m, in->transactional_id.len > 0, "Produce without the id");
    rule(m, m->level < 2 ? r->version <= 11 : r->version >= 12, "Produce does not fit the flow");
    for (int32_t i = 0; i < in->topics_count; i++) {
        for (int32_t j = 0; j < in->topics[i].partitions_count; j++) {
            const struct produce_request_partition *p = &in->topics[i].partitions[j];
            r->codes[p->index] = play_batch(m, p);
        }
    }
    return KERR_NONE;
}

static int16_t play_end(struct txn_model *m, struct proxy_request *r)
{
    const struct end_txn_request *in = r->body;
    if (m->level >= 2 && m->has_ended && in->producer_epoch == m->epoch - 1) {
        rule(m, in->committed == m->was_committed, "EndTxn of the other kind, once more");
        return KERR_NONE; /* once more: the answer was lost */
    }
    rule(m, m->level < 2 ? r->version <= 4 : r->version >= 5, "EndTxn does not fit the flow");
    rule(m, is_ours(m, in->producer_id, in->producer_epoch), "EndTxn with another epoch");
    if (m->level < 2 && m->has_ended) {
        return in->committed == m->was_committed ? KERR_NONE : KERR_INVALID_TXN_STATE;
    }
    if (!is_open(m) && (m->level < 2 || in->committed)) {
        return KERR_INVALID_TXN_STATE;
    }
    transaction_ends(m, in->committed);
    if (m->level >= 2) {
        epoch_begins(m);
    }
    return KERR_NONE;
}

static int16_t carry_out(struct txn_model *m, struct proxy_request *r)
{
    m->seen[r->api_key]++;
    switch (r->api_key) {
    case TXN_MODEL_PRODUCE: return play_produce(m, r);
    case TXN_MODEL_INIT: return play_init(m, r);
    case TXN_MODEL_ADD_PARTITIONS: return play_add(m, r);
    case TXN_MODEL_ADD_OFFSETS: return play_add_offsets(m, r);
    case TXN_MODEL_TXN_OFFSETS: return play_offsets(m, r);
    case TXN_MODEL_END: return play_end(m, r);
    default: return KERR_NONE;
    }
}

static struct txn_strike luck(struct txn_model *m, const struct proxy_request *r)
{
    static const int16_t codes[] = {KERR_NOT_COORDINATOR, KERR_CONCURRENT_TRANSACTIONS,
                                    KERR_COORDINATOR_LOAD_IN_PROGRESS};
    uint64_t n = rng_below(&m->rng, 100);
    int16_t code = r->api_key == TXN_MODEL_PRODUCE ? KERR_NOT_ENOUGH_REPLICAS : codes[n % 3];
    return (struct txn_strike){.action = n < 6    ? PROXY_CUT_AFTER
                                         : n < 12 ? PROXY_CUT_BEFORE
                                         : n < 18 ? PROXY_REFUSE
                                                  : PROXY_PASS,
                               .code = code};
}

enum proxy_action txn_model_play(void *ctx, struct proxy_request *r)
{
    struct txn_model *m = ctx;
    const struct txn_strike *k = &m->strike;
    struct txn_strike now = {.action = PROXY_PASS};
    bool is_group = r->api_key == TXN_MODEL_FIND &&
                    ((const struct find_coordinator_request *)r->body)->key_type == 0;
    if (is_group) {
        return PROXY_PASS;
    }
    if (m->storm) {
        now = luck(m, r);
    } else if (k->count && r->api_key == k->api && r->number >= k->first &&
               r->number < k->first + k->count) {
        now = *k;
    }
    r->code = now.code;
    if (now.action == PROXY_CUT_BEFORE || now.action == PROXY_REFUSE || now.action == PROXY_HOLD) {
        return now.action;
    }
    r->code = carry_out(m, r);
    r->node = m->node;
    r->producer_id = m->id;
    r->producer_epoch = m->epoch;
    return now.action == PROXY_CUT_AFTER ? PROXY_CUT_BEFORE : PROXY_REFUSE; /* by ourselves */
}
