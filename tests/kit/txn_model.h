/* txn_model: a coordinator of one transactional id, and the leader of the partitions of one topic,
 * as a plan of the proxy: everything transactional is answered here, the rest is the broker's. It
 * notes what breaks the protocol's rules. Under the proxy's lock while it plays. */
#pragma once

#include "base/rand.h"
#include "tests/kit/proxy.h"

enum {
    TXN_MODEL_PARTITIONS = 3,
    TXN_MODEL_KEYS = 40,
    TXN_MODEL_REMEMBERED = 5, /* batches of a partition, as brokers do */

    TXN_MODEL_PRODUCE = 0, /* keys of requests */
    TXN_MODEL_FIND = 10,
    TXN_MODEL_INIT = 22,
    TXN_MODEL_ADD_PARTITIONS = 24,
    TXN_MODEL_ADD_OFFSETS = 25,
    TXN_MODEL_END = 26,
    TXN_MODEL_TXN_OFFSETS = 28,
};

struct txn_strike {
    int16_t api;
    enum proxy_action action; /* CUT_AFTER: it is done, and not answered */
    int16_t code;
    int first, count; /* requests of this api: the first to strike, and how many */
};

struct txn_model {
    int level; /* transaction.version */
    int32_t node;
    struct txn_strike strike;
    struct rng rng; /* with `storm` */
    bool storm;

    int64_t id;
    int16_t epoch; /* of the producer that is known */
    int32_t next[TXN_MODEL_PARTITIONS];
    struct {
        int32_t sequence, count;
    } last[TXN_MODEL_PARTITIONS][TXN_MODEL_REMEMBERED]; /* batches, newest first; count 0: none */
    bool in[TXN_MODEL_PARTITIONS];                      /* the transaction */
    bool group_in;
    bool has_ended;     /* since the last change */
    bool was_committed; /* how */

    int seen[TXN_MODEL_KEYS]; /* requests that were carried out */
    int commits, aborts;
    int64_t offset;   /* of the last TxnOffsetCommit that was committed; -1 */
    int64_t pending;  /* of the transaction */
    char broken[200]; /* the first rule that was broken */
};

/* A proxy_plan, with a struct txn_model. Before: level and node, offset and pending -1. */
enum proxy_action txn_model_play(void *ctx, struct proxy_request *r);
