#include "tests/kit/proxy_answers.h"

#include "base/check.h"
#include "gen/add_offsets_to_txn.h"
#include "gen/add_partitions_to_txn.h"
#include "gen/api_versions.h"
#include "gen/end_txn.h"
#include "gen/find_coordinator.h"
#include "gen/init_producer_id.h"
#include "gen/metadata.h"
#include "gen/produce.h"
#include "gen/txn_offset_commit.h"

enum {
    ANSWER_LIMIT = 64 << 20,
    KEY_PRODUCE = 0,
    KEY_METADATA = 3,
    KEY_FIND_COORDINATOR = 10,
    KEY_API_VERSIONS = 18,
    KEY_INIT_PRODUCER_ID = 22,
    KEY_ADD_PARTITIONS = 24,
    KEY_ADD_OFFSETS = 25,
    KEY_END_TXN = 26,
    KEY_TXN_OFFSET_COMMIT = 28,
    FEATURES_SINCE = 3, /* ApiVersions with features */
};

bool proxy_knows(int16_t api_key)
{
    switch (api_key) {
    case KEY_PRODUCE:
    case KEY_FIND_COORDINATOR:
    case KEY_INIT_PRODUCER_ID:
    case KEY_ADD_PARTITIONS:
    case KEY_ADD_OFFSETS:
    case KEY_END_TXN:
    case KEY_TXN_OFFSET_COMMIT: return true;
    default: return false;
    }
}

/* ---- answers, by API: `out` holds defaults ---- */

static void answer_produce(const struct proxy_request *r, void *response, struct arena *a)
{
    const struct produce_request *in = r->produce;
    struct produce_response *out = response;
    out->topics = wire_array(a, &produce_response_topic_table, in->topics_count);
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        struct produce_response_topic *t = &out->topics[i];
        t->name = in->topics[i].name;
        t->topic_id = in->topics[i].topic_id;
        t->partitions_count = in->topics[i].partitions_count;
        t->partitions = wire_array(a, &produce_response_partition_table, t->partitions_count);
        for (int32_t j = 0; j < t->partitions_count; j++) {
            t->partitions[j].index = in->topics[i].partitions[j].index;
            int32_t index = t->partitions[j].index;
            int16_t code = r->code || index >= PROXY_CODES ? r->code : r->codes[index];
            t->partitions[j].error_code = code;
            t->partitions[j].base_offset = code ? -1 : 0;
        }
    }
}

static void answer_find(const struct proxy_request *r, void *response, struct arena *a)
{
    struct find_coordinator_response *out = response;
    (void)a;
    out->error_code = r->code;
    out->node_id = r->code ? -1 : r->node;
    out->host = STR("127.0.0.1"); /* nobody looks at it */
    out->port = 1;
}

static void answer_init(const struct proxy_request *r, void *response, struct arena *a)
{
    struct init_producer_id_response *out = response;
    (void)a;
    out->error_code = r->code;
    out->producer_id = r->code ? -1 : r->producer_id;
    out->producer_epoch = r->code ? -1 : r->producer_epoch;
}

static void answer_add_partitions(const struct proxy_request *r, void *response, struct arena *a)
{
    const struct add_partitions_to_txn_request *in = r->body;
    struct add_partitions_to_txn_response *out = response;
    int32_t count = in->v3_and_below_topics_count;
    out->results_by_topic_v3_and_below =
        wire_array(a, &add_partitions_to_txn_response_topic_result_table, count);
    out->results_by_topic_v3_and_below_count = count;
    for (int32_t i = 0; i < count; i++) {
        const struct add_partitions_to_txn_request_topic *t = &in->v3_and_below_topics[i];
        struct add_partitions_to_txn_response_topic_result *to =
            &out->results_by_topic_v3_and_below[i];
        to->name = t->name;
        to->results_by_partition_count = t->partitions_count;
        to->results_by_partition = wire_array(
            a, &add_partitions_to_txn_response_partition_result_table, t->partitions_count);
        for (int32_t j = 0; j < t->partitions_count; j++) {
            to->results_by_partition[j].partition_index = t->partitions[j];
            to->results_by_partition[j].partition_error_code = r->code;
        }
    }
}

static void answer_add_offsets(const struct proxy_request *r, void *response, struct arena *a)
{
    (void)a;
    ((struct add_offsets_to_txn_response *)response)->error_code = r->code;
}

static void answer_end(const struct proxy_request *r, void *response, struct arena *a)
{
    struct end_txn_response *out = response;
    (void)a;
    out->error_code = r->code;
    out->producer_id = r->code ? -1 : r->producer_id;
    out->producer_epoch = r->code ? -1 : r->producer_epoch;
}

static void answer_txn_offsets(const struct proxy_request *r, void *response, struct arena *a)
{
    const struct txn_offset_commit_request *in = r->body;
    struct txn_offset_commit_response *out = response;
    out->topics = wire_array(a, &txn_offset_commit_response_topic_table, in->topics_count);
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        struct txn_offset_commit_response_topic *to = &out->topics[i];
        to->name = in->topics[i].name;
        to->partitions_count = in->topics[i].partitions_count;
        to->partitions = wire_array(a, &txn_offset_commit_response_partition_table,
                                    in->topics[i].partitions_count);
        for (int32_t j = 0; j < to->partitions_count; j++) {
            to->partitions[j].partition_index = in->topics[i].partitions[j].partition_index;
            to->partitions[j].error_code = r->code;
        }
    }
}

static const struct {
    int16_t key;
    void (*answer)(const struct proxy_request *r, void *response, struct arena *a);
} answers[] = {
    {KEY_PRODUCE,           answer_produce       },
    {KEY_FIND_COORDINATOR,  answer_find          },
    {KEY_INIT_PRODUCER_ID,  answer_init          },
    {KEY_ADD_PARTITIONS,    answer_add_partitions},
    {KEY_ADD_OFFSETS,       answer_add_offsets   },
    {KEY_END_TXN,           answer_end           },
    {KEY_TXN_OFFSET_COMMIT, answer_txn_offsets   },
};

void proxy_answer(const struct request_header *h, const struct proxy_request *r, struct arena *a,
                  struct writer *w)
{
    const struct wire_api *api = wire_api_find(h->api_key);
    void *out = arena_zero(a, 1, api->response->size);
    wire_defaults(api->response, out);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (answers[i].key == h->api_key) {
            answers[i].answer(r, out, a);
        }
    }
    frame_begin_response(w, api, h->api_version, h->correlation_id);
    check(wire_encode(api->response, h->api_version, w, out) == OK && frame_end(w) == OK);
}

/* ---- a broker's words ---- */

static void alter_metadata(struct metadata_response *out, uint16_t port)
{
    for (int32_t i = 0; port && i < out->brokers_count; i++) {
        out->brokers[i].port = port;
    }
}

static void alter_versions(struct api_versions_response *out, int16_t version, int level,
                           struct arena *a)
{
    static const int16_t more[] = {KEY_ADD_PARTITIONS, KEY_ADD_OFFSETS, KEY_END_TXN,
                                   KEY_TXN_OFFSET_COMMIT};
    enum { MORE = sizeof more / sizeof more[0] };
    if (level < 0 || out->error_code) {
        return;
    }
    int32_t count = out->api_keys_count;
    struct api_versions_response_api_key *keys =
        wire_array(a, &api_versions_response_api_key_table, count + MORE);
    memcpy(keys, out->api_keys, (size_t)count * sizeof *keys);
    for (int32_t i = 0; i < MORE; i++) {
        const struct wire_api *api = wire_api_find(more[i]);
        keys[count + i].api_key = more[i];
        keys[count + i].min_version = 0;
        keys[count + i].max_version = api->max_version;
    }
    out->api_keys = keys;
    out->api_keys_count = count + MORE;
    if (version >= FEATURES_SINCE) {
        out->finalized_features_epoch = 1;
        out->finalized_features = wire_array(a, &api_versions_response_finalized_feature_table, 1);
        out->finalized_features_count = 1;
        out->finalized_features[0].name = STR("transaction.version");
        out->finalized_features[0].max_version_level = (int16_t)level;
        out->finalized_features[0].min_version_level = (int16_t)level;
    }
}

void proxy_alter(int16_t key, int16_t version, uint16_t port, int transaction_version,
                 struct buf *frame)
{
    if (key != KEY_METADATA && key != KEY_API_VERSIONS) {
        return;
    }
    const struct wire_api *api = wire_api_find(key);
    struct reader reader;
    struct arena a;
    struct writer w;
    int32_t correlation_id;
    arena_init(&a, ANSWER_LIMIT);
    writer_init(&w, ANSWER_LIMIT);
    reader_init(&reader, frame->ptr + FRAME_SIZE_BYTES, frame->len - FRAME_SIZE_BYTES);
    check(response_header_decode(&reader, api, version, &correlation_id) == OK);
    void *out = arena_zero(&a, 1, api->response->size);
    if (wire_decode(api->response, version, &reader, &a, out) == OK) {
        if (key == KEY_METADATA) {
            alter_metadata(out, port);
        } else {
            alter_versions(out, version, transaction_version, &a);
        }
        frame_begin_response(&w, api, version, correlation_id);
        check(wire_encode(api->response, version, &w, out) == OK && frame_end(&w) == OK);
        frame->len = 0;
        check(buf_reserve(frame, w.len));
        memcpy(frame->ptr, w.ptr, w.len);
        frame->len = w.len;
    } /* else: a version that is too high was refused in the form of version 0 */
    writer_finish(&w);
    arena_finish(&a);
}
