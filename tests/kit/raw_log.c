#include "tests/kit/raw_log.h"

#include "base/check.h"
#include "gen/fetch.h"
#include "protocol/error.h"

enum {
    API_FETCH = 1,
    FETCH_VERSION = 11, /* the last but one that names topics; from 10 on zstd is read */
    LOG_LIMIT = 512 << 20,
    RECORDS_MAX = 50000,
    ROUNDS_MAX = 1000,
    WAIT_MS = 100,
    TRIES = 10, /* of a request whose answer was lost */
};

static void headers_take(struct raw_log *l, const struct record *r, struct raw_record *out)
{
    struct record_header *h = arena_zero(&l->arena, (size_t)r->header_count + 1, sizeof *h);
    const uint8_t *at = r->headers;
    size_t size = r->headers_size;
    int32_t left = r->header_count;
    for (int32_t i = 0; i < r->header_count; i++) {
        check(record_header_next(&at, &size, &left, &h[i]) == OK);
        h[i].name.ptr = arena_dup(&l->arena, h[i].name.ptr, h[i].name.len);
        h[i].value.ptr =
            h[i].value.ptr ? arena_dup(&l->arena, h[i].value.ptr, h[i].value.len) : NULL;
    }
    out->headers = h;
    out->header_count = r->header_count;
}

static struct bytes copy(struct raw_log *l, struct bytes b)
{
    return (struct bytes){b.ptr ? arena_dup(&l->arena, b.ptr, b.len) : NULL, b.len};
}

/* All whole batches; a cut one at the end is fetched again. */
static void records_take(struct raw_log *l, struct wire_records in)
{
    struct batch_scratch scratch = {0};
    struct batch_header h;
    for (size_t at = 0;
         batch_header_read(in.ptr + at, in.len - at, &h) == OK && h.size <= in.len - at;
         at += h.size) {
        check(batch_crc_is_right(in.ptr + at, h.size));
        struct batch_iterator it;
        struct record r;
        check(batch_iterator_init(&it, in.ptr + at, h.size, LOG_LIMIT, &scratch) == OK);
        while (batch_iterator_next(&it, &r) == OK) {
            check(l->count < RECORDS_MAX);
            struct raw_record *out = &l->records[l->count++];
            *out = (struct raw_record){.offset = r.offset,
                                       .timestamp_ms = r.timestamp,
                                       .key = copy(l, r.key),
                                       .value = copy(l, r.value),
                                       .batch = l->batch_count};
            headers_take(l, &r, out);
        }
        check(it.given == h.count);
        l->batches[l->batch_count++] = h;
    }
    batch_scratch_finish(&scratch);
}

/* What is there from `offset` on. */
static void fetch(struct raw_log *l, struct rv_client *client, const char *topic, int32_t partition,
                  int64_t offset, bool may_wait)
{
    struct fetch_request request;
    struct fetch_request_topic t;
    struct fetch_request_partition p;
    fetch_request_init(&request);
    fetch_request_topic_init(&t);
    fetch_request_partition_init(&p);
    p.partition = partition;
    p.fetch_offset = offset;
    p.partition_max_bytes = 4 << 20;
    t.topic = str_of(topic);
    t.partitions = &p;
    t.partitions_count = 1;
    request.max_wait_ms = may_wait ? WAIT_MS : 0;
    request.min_bytes = 1;
    request.topics = &t;
    request.topics_count = 1;
    const struct wire_api *api = wire_api_find(API_FETCH);
    struct writer w;
    writer_init(&w, 65536);
    check(wire_encode(api->request, FETCH_VERSION, &w, &request) == OK);
    struct rv_response *answer;
    struct rv_error e;
    int code;
    int tries = 0;
    do { /* reading may be done twice; the broker may just have started again */
        code = rv_request(client, -1, API_FETCH, FETCH_VERSION, w.ptr, w.len, 10000, &answer, &e);
    } while (code != RV_OK && e.flags & RV_UNSURE && ++tries < TRIES);
    check(code == RV_OK);
    writer_finish(&w);
    struct arena a;
    arena_init(&a, LOG_LIMIT);
    struct reader reader;
    reader_init(&reader, answer->body, answer->size);
    struct fetch_response out;
    check(wire_decode(api->response, FETCH_VERSION, &reader, &a, &out) == OK);
    check(out.topics_count == 1 && out.topics[0].partitions_count == 1);
    int16_t error = out.topics[0].partitions[0].error_code;
    check(error == KERR_NONE || kafka_error_is_retriable(error)); /* Kafka's, of a new topic */
    if (error == KERR_NONE) {
        records_take(l, out.topics[0].partitions[0].records);
    }
    arena_finish(&a);
    rv_free(answer);
}

void raw_log_read(struct raw_log *l, struct rv_client *client, const char *topic, int32_t partition,
                  size_t least)
{
    *l = (struct raw_log){0};
    arena_init(&l->arena, LOG_LIMIT);
    l->records = arena_zero(&l->arena, RECORDS_MAX, sizeof *l->records);
    l->batches = arena_zero(&l->arena, RECORDS_MAX, sizeof *l->batches);
    check(l->records && l->batches);
    size_t before;
    int rounds = 0;
    do {
        before = l->count;
        fetch(l, client, topic, partition, before ? l->records[before - 1].offset + 1 : 0,
              before < least);
        check(rounds++ < ROUNDS_MAX);
    } while (l->count > before || l->count < least);
}

void raw_log_finish(struct raw_log *l)
{
    arena_finish(&l->arena);
}
