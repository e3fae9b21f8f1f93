/* Looking for a batch: the partition is read from the end that was noted before the first attempt,
 * batch by batch, until it is found or the end of now is reached. Both ends are high watermarks:
 * what was not there yet when the first was noted is above it, and what the second does not show
 * yet is still known to the broker by its sequence.
 */
#include "client/sealed/internal.h"

#include "base/check.h"
#include "client/sealed/fail.h"
#include "gen/fetch.h"
#include "protocol/batch.h"
#include "protocol/error.h"

enum {
    FETCH_KEY = 1,
    FETCH_VERSION = 11,
    FIND_BYTES = 1 << 20, /* that are asked for at once */
    FIND_WAIT_MS = 10,    /* that the broker may wait for them */
};

struct search {
    struct sealed *sealed;
    const struct sealed_batch *batch;
    int64_t deadline_ms;
    int64_t at;   /* everything before has been looked at */
    bool skipped; /* but for some that is not there any more */
    bool done;    /* place and offset are known */
    enum sealed_place place;
    int64_t offset;
};

static void search_end(struct search *q, enum sealed_place place, int64_t offset)
{
    q->done = true;
    q->place = place == SEALED_ABSENT && q->skipped ? SEALED_GONE : place;
    q->offset = offset;
}

/* Where the log begins and ends has changed since end_offset was noted. */
static int search_range(struct search *q, struct rv_error *ret_error)
{
    struct rv_partition p = {.topic = q->batch->topic, .partition = q->batch->partition};
    int code =
        rv_offsets(q->sealed->client, &p, 1, RV_START, sealed_time_left(q->deadline_ms), ret_error);
    if (code == RV_OK && p.code != RV_OK) {
        code = fail_set(ret_error, p.code, "topic %s partition %d: where it begins: %s", p.topic,
                        (int)p.partition, rv_error_name(p.code));
    }
    if (code != RV_OK) {
        return code;
    }
    q->skipped = true;
    if (p.offset > q->at) {
        q->at = p.offset;
    } else { /* it ends before where it has been: what was lost could have been the batch */
        search_end(q, SEALED_GONE, -1);
    }
    return RV_OK;
}

static int search_batch(struct search *q, const struct batch_header *h, struct rv_error *ret_error)
{
    const struct sealed_batch *b = q->batch;
    int64_t next = h->base_offset + h->last_offset_delta + 1;
    if (h->magic != BATCH_MAGIC || h->last_offset_delta < 0 || h->base_offset < 0 ||
        next <= q->at) {
        return fail_set(ret_error, RV_E_CORRUPT,
                        "topic %s partition %d: a bad batch at offset %lld", b->topic,
                        (int)b->partition, (long long)h->base_offset);
    }
    q->at = next;
    if (h->producer_id == b->producer_id && h->producer_epoch == b->producer_epoch &&
        h->base_sequence == b->base_sequence && !(h->attributes & BATCH_ATTRIBUTE_CONTROL)) {
        if (h->last_offset_delta != b->count - 1) {
            return fail_set(
                ret_error, RV_E_CORRUPT,
                "topic %s partition %d offset %lld: a batch of the same producer id and "
                "sequence has %d records, not %d",
                b->topic, (int)b->partition, (long long)h->base_offset,
                (int)h->last_offset_delta + 1, (int)b->count);
        }
        search_end(q, SEALED_FOUND, h->base_offset);
    }
    return RV_OK;
}

static int search_answer(struct search *q, const struct fetch_response *r,
                         struct rv_error *ret_error)
{
    const struct sealed_batch *b = q->batch;
    bool is_whole = r->topics_count == 1 && r->topics[0].partitions_count == 1;
    int code = r->error_code ? r->error_code
               : is_whole    ? r->topics[0].partitions[0].error_code
                             : RV_E_PROTOCOL;
    if (code == KERR_OFFSET_OUT_OF_RANGE) {
        return search_range(q, ret_error);
    }
    if (code != RV_OK) {
        sealed_forget(q->sealed, b->topic); /* D3 */
        return fail_set(ret_error, code, "topic %s partition %d: reading back: %s", b->topic,
                        (int)b->partition, rv_error_name(code));
    }
    const struct fetch_response_partition *p = &r->topics[0].partitions[0];
    const uint8_t *next = p->records.ptr;
    size_t left = p->records.ptr ? p->records.len : 0;
    bool is_empty = left == 0;
    int64_t began = q->at;
    while (code == RV_OK && !q->done && left > 0) {
        struct batch_header h = {0};
        err e = batch_header_read(next, left, &h);
        if (e == ERR_TRUNCATED || (e == OK && h.size > left)) {
            break; /* the rest comes with the next answer */
        }
        if (e != OK) {
            h.magic = -1;
        }
        code = search_batch(q, &h, ret_error);
        next += h.size;
        left -= h.size <= left ? h.size : left;
    }
    if (code == RV_OK && !q->done && q->at >= p->high_watermark) {
        search_end(q, SEALED_ABSENT, -1);
    } else if (code == RV_OK && !q->done && !is_empty && q->at == began) {
        code = fail_set(ret_error, RV_E_PROTOCOL, "topic %s partition %d: not one whole batch",
                        b->topic, (int)b->partition);
    }
    return code;
}

static int search_step(struct search *q, struct rv_error *ret_error)
{
    const struct sealed_batch *b = q->batch;
    int32_t node = -1;
    int code = sealed_leader(q->sealed, b, q->deadline_ms, &node, ret_error);
    if (code != RV_OK) {
        return code;
    }
    struct fetch_request request;
    struct fetch_request_topic topic;
    struct fetch_request_partition partition;
    struct fetch_response response;
    fetch_request_init(&request);
    fetch_request_topic_init(&topic);
    fetch_request_partition_init(&partition);
    request.max_wait_ms = FIND_WAIT_MS;
    request.min_bytes = 1;
    request.topics = &topic;
    request.topics_count = 1;
    topic.topic = str_of(b->topic);
    topic.partitions = &partition;
    topic.partitions_count = 1;
    partition.partition = b->partition;
    partition.fetch_offset = q->at;
    partition.partition_max_bytes = FIND_BYTES;
    struct sealed_talk t = {.key = FETCH_KEY,
                            .version = FETCH_VERSION,
                            .request_table = &fetch_request_table,
                            .request = &request,
                            .response_table = &fetch_response_table,
                            .response = &response};
    code = sealed_talk(q->sealed, node, &t, q->deadline_ms, ret_error);
    if (code == RV_OK) {
        code = search_answer(q, &response, ret_error);
    } else {
        sealed_forget(q->sealed, b->topic); /* D3 */
    }
    sealed_talk_finish(&t);
    return code;
}

int sealed_find(struct sealed *s, struct sealed_batch *batch, int timeout_ms,
                enum sealed_place *ret_place, int64_t *ret_offset, struct rv_error *ret_error)
{
    struct search q = {.sealed = s,
                       .batch = batch,
                       .deadline_ms = sealed_deadline(timeout_ms),
                       .at = batch->looked_offset > batch->end_offset ? batch->looked_offset
                                                                      : batch->end_offset,
                       .skipped = batch->looked_past_gap};
    check(batch->end_offset >= 0);
    int code = RV_OK;
    while (code == RV_OK && !q.done) {
        code = sealed_time_left(q.deadline_ms) > 0
                   ? search_step(&q, ret_error)
                   : fail_set(ret_error, RV_E_TIMED_OUT,
                              "topic %s partition %d: reading back was not done in time",
                              batch->topic, (int)batch->partition);
    }
    if (code == RV_OK) {
        *ret_place = q.place;
        *ret_offset = q.offset;
    }
    batch->looked_offset = q.at;
    batch->looked_past_gap = q.skipped;
    return code;
}
