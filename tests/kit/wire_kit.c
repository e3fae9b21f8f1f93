#include "tests/kit/wire_kit.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "broker/api/dispatch.h"
#include "gen/list_offsets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { RECORD_LIMIT = 1 << 28 };

void *wire_structs(struct wire_client *c, const struct wire_struct *table, int32_t count)
{
    void *p = wire_array(&c->arena, table, count);
    check(p);
    return p;
}

int16_t version_min(int16_t key)
{
    const struct api_row *row = api_row_find(key);
    check(row);
    return row->min_version;
}

int16_t version_max(int16_t key)
{
    const struct api_row *row = api_row_find(key);
    check(row);
    return row->max_version;
}

static const char *code_name(int code)
{
    switch (code) {
#define X(name, number, retriable, text)                                                           \
    case number:                                                                                   \
        return #name;
#include "protocol/error.def"
#undef X
    default: return "?";
    }
}

void wire_assert_code(int code, int expected, const char *file, int line)
{
    if (code != expected) {
        print_error("error code %d (%s), expected %d (%s)\n", code, code_name(code), expected,
                    code_name(expected));
        _fail(file, line);
    }
}

void wire_assert_str(struct str s, const char *expected, const char *file, int line)
{
    if (!s.ptr != !expected || !str_eq(s, str_of(expected))) {
        print_error("\"%.*s\"%s, expected \"%s\"\n", STR_ARG(s), s.ptr ? "" : " (null)",
                    expected ? expected : "(null)");
        _fail(file, line);
    }
}

/* ---- the fixture */

int wire_fixture_create(void **state, const char *const *settings)
{
    struct wire_fixture *f = mem_need_zero(1, sizeof *f);
    f->d = daemon_create(settings, NULL);
    *state = f;
    return 0;
}

int wire_fixture_destroy(void **state)
{
    struct wire_fixture *f = *state;
    struct daemon *d = f->d;
    mem_free(f);
    daemon_destroy(d);
    return 0;
}

int wire_test_setup(void **state)
{
    struct wire_fixture *f = *state;
    f->c = wire_connect(f->d);
    return 0;
}

int wire_test_teardown(void **state)
{
    struct wire_fixture *f = *state;
    wire_close(f->c);
    f->c = NULL;
    return 0;
}

/* ---- topics */

static struct create_topics_request_config *settings_of(struct wire_client *c,
                                                        const char *const *settings,
                                                        int32_t *ret_count)
{
    int32_t n = 0;
    while (settings && settings[n]) {
        n++;
    }
    struct create_topics_request_config *configs = NEWS(c, create_topics_request_config, n);
    for (int32_t i = 0; i < n; i++) {
        const char *equals = strchr(settings[i], '=');
        check(equals);
        configs[i].name = (struct str){settings[i], (size_t)(equals - settings[i])};
        configs[i].value = str_of(equals + 1);
    }
    *ret_count = n;
    return configs;
}

struct uuid wire_topic(struct wire_client *c, const char *name, int32_t partitions,
                       const char *const *settings)
{
    struct create_topics_request *q = NEW(c, create_topics_request);
    q->topics = NEW(c, create_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    q->topics->num_partitions = partitions;
    q->topics->replication_factor = -1;
    q->topics->configs = settings_of(c, settings, &q->topics->configs_count);
    const struct create_topics_response *a = wire_ask(c, API_CREATE_TOPICS, 7, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->error_code, KERR_NONE);
    return a->topics->topic_id;
}

const struct metadata_response_topic *wire_topic_info(struct wire_client *c, const char *name)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics = NEW(c, metadata_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    q->allow_auto_topic_creation = false;
    const struct metadata_response *a = wire_ask(c, API_METADATA, 12, q);
    assert_int_equal(a->topics_count, 1);
    return a->topics;
}

int64_t wire_end_offset(struct wire_client *c, const char *topic, int32_t partition)
{
    struct list_offsets_request *q = NEW(c, list_offsets_request);
    q->replica_id = -1;
    q->topics = NEW(c, list_offsets_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, list_offsets_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition_index = partition;
    q->topics->partitions->timestamp = -1;
    const struct list_offsets_response *a = wire_ask(c, API_LIST_OFFSETS, 7, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    return a->topics->partitions->offset;
}

/* ---- batches */

static struct bytes value_of(struct wire_client *c, const struct wire_batch *spec, int32_t index)
{
    if (spec->value_size) {
        uint8_t *p = wire_room(c, spec->value_size, 1);
        memset(p, 'x', spec->value_size);
        return (struct bytes){p, spec->value_size};
    }
    struct str s = spec->value ? str_of(spec->value) : wire_text(c, "value-%d", index);
    return (struct bytes){(const uint8_t *)s.ptr, s.len};
}

struct bytes wire_batch(struct wire_client *c, struct wire_batch spec)
{
    struct batch_builder b;
    struct buf out = {0};
    batch_builder_init(&b);
    int64_t first = spec.timestamp ? spec.timestamp : clock_wall_ms(&clock_real);
    for (int32_t i = 0; i < (spec.count ? spec.count : 1); i++) {
        struct str key = wire_text(c, "key-%d", i);
        check(batch_builder_add(&b, first + i, (struct bytes){(const uint8_t *)key.ptr, key.len},
                                value_of(c, &spec, i), NULL, 0) == OK);
    }
    struct batch_seal seal = batch_seal_plain;
    seal.codec = spec.codec;
    seal.attributes = spec.attributes;
    if (spec.idempotent) {
        seal.producer_id = spec.producer_id;
        seal.producer_epoch = spec.epoch;
        seal.base_sequence = spec.sequence;
    }
    check(batch_builder_seal(&b, &seal, &out) == OK);
    struct bytes batch = {.ptr = arena_dup(&c->arena, out.ptr, out.len), .len = out.len};
    check(batch.ptr);
    buf_finish(&out);
    batch_builder_finish(&b);
    return batch;
}

void wire_batch_reseal(struct bytes batch)
{
    uint8_t *p = wire_writable(batch);
    put_be32(p + BATCH_CRC_FROM - 4, crc32c(p + BATCH_CRC_FROM, batch.len - BATCH_CRC_FROM));
}

/* ---- produce */

const struct produce_request *wire_produce_request(struct wire_client *c,
                                                   const struct wire_produce *p)
{
    struct produce_request *q = NEW(c, produce_request);
    q->acks = p->acks;
    q->timeout_ms = 30000;
    q->topics = NEW(c, produce_request_topic);
    q->topics_count = 1;
    q->topics->name = p->topic ? str_of(p->topic) : STR("");
    q->topics->topic_id = p->id;
    q->topics->partitions = NEW(c, produce_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->index = p->partition;
    q->topics->partitions->records = (struct wire_records){p->records.ptr, p->records.len, NULL};
    return q;
}

const struct produce_response_partition *wire_produce(struct wire_client *c, struct wire_produce p)
{
    int16_t version = p.version ? p.version : 12;
    const struct produce_response *a =
        wire_ask(c, API_PRODUCE, version, wire_produce_request(c, &p));
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->index, p.partition);
    if (version >= 13) {
        assert_true(uuid_eq(a->topics->topic_id, p.id));
    } else {
        assert_str(a->topics->name, p.topic);
    }
    return a->topics->partitions;
}

const struct produce_response_partition *wire_put(struct wire_client *c, const char *topic,
                                                  struct bytes batch)
{
    return wire_produce(c, (struct wire_produce){.acks = -1, .topic = topic, .records = batch});
}

int64_t wire_put_good(struct wire_client *c, const char *topic, struct bytes batch)
{
    const struct produce_response_partition *p = wire_put(c, topic, batch);
    assert_code(p->error_code, KERR_NONE);
    return p->base_offset;
}

/* ---- fetch */

const struct fetch_request *wire_fetch_request(struct wire_client *c, const struct wire_fetch *f)
{
    struct fetch_request *q = NEW(c, fetch_request);
    q->max_wait_ms = f->max_wait_ms;
    q->min_bytes = f->min_bytes;
    q->max_bytes = f->max_bytes ? f->max_bytes : 50 << 20;
    q->isolation_level = f->isolation_level;
    q->topics = NEW(c, fetch_request_topic);
    q->topics_count = 1;
    q->topics->topic = f->topic ? str_of(f->topic) : STR("");
    q->topics->topic_id = f->id;
    q->topics->partitions = NEW(c, fetch_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition = f->partition;
    q->topics->partitions->fetch_offset = f->offset;
    q->topics->partitions->partition_max_bytes =
        f->partition_max_bytes ? f->partition_max_bytes : 1 << 20;
    if (f->with_epoch) {
        q->topics->partitions->current_leader_epoch = f->leader_epoch;
    }
    return q;
}

const struct fetch_response_partition *wire_fetch(struct wire_client *c, struct wire_fetch f)
{
    int16_t version = f.version ? f.version : 12;
    const struct fetch_response *a = wire_ask(c, API_FETCH, version, wire_fetch_request(c, &f));
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->session_id, 0);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, f.partition);
    if (version >= 13) {
        assert_true(uuid_eq(a->topics->topic_id, f.id));
    } else {
        assert_str(a->topics->topic, f.topic);
    }
    return a->topics->partitions;
}

static struct bytes keep(struct wire_client *c, struct bytes b)
{
    if (b.ptr) {
        b.ptr = arena_dup(&c->arena, b.ptr, b.len);
        check(b.ptr);
    }
    return b;
}

static void parse_batch(struct wire_client *c, const uint8_t *p, size_t size,
                        struct batch_scratch *scratch, struct wire_records_read *out)
{
    struct batch_iterator it;
    struct record r;
    err e;
    assert_true(batch_crc_is_right(p, size));
    assert_int_equal(batch_iterator_init(&it, p, size, RECORD_LIMIT, scratch), OK);
    while ((e = batch_iterator_next(&it, &r)) == OK) {
        out->records[out->count++] =
            (struct wire_record){r.offset, r.timestamp, keep(c, r.key), keep(c, r.value)};
    }
    assert_int_equal(e, ERR_NOT_FOUND);
}

/* The bytes of whole batches, and the records in them. What is behind was cut by max_bytes. */
static size_t whole_batches(struct wire_records records, int32_t *ret_count)
{
    struct batch_header h;
    size_t at = 0;
    *ret_count = 0;
    while (!batch_header_read(records.ptr + at, records.len - at, &h) &&
           h.size <= records.len - at) {
        *ret_count += h.count;
        at += h.size;
    }
    assert_true(at > 0 || records.len == 0); /* one at least */
    return at;
}

struct wire_records_read wire_parse(struct wire_client *c, struct wire_records records)
{
    struct wire_records_read out = {0};
    struct batch_scratch scratch = {0};
    struct batch_header h;
    int32_t total = 0;
    size_t whole = whole_batches(records, &total);
    out.records = wire_room(c, (size_t)total + 1, sizeof *out.records);
    for (size_t at = 0; at < whole; at += h.size) {
        batch_header_read(records.ptr + at, records.len - at, &h);
        parse_batch(c, records.ptr + at, h.size, &scratch, &out);
    }
    batch_scratch_finish(&scratch);
    assert_int_equal(out.count, total);
    return out;
}

struct wire_records_read wire_read(struct wire_client *c, const char *topic, int32_t partition,
                                   int64_t offset)
{
    int64_t end = wire_end_offset(c, topic, partition);
    struct wire_records_read all = {0};
    all.records = wire_room(c, (size_t)(end - offset) + 1, sizeof *all.records);
    while (offset < end) {
        const struct fetch_response_partition *p = wire_fetch(
            c, (struct wire_fetch){.topic = topic, .partition = partition, .offset = offset});
        assert_code(p->error_code, KERR_NONE);
        struct wire_records_read some = wire_parse(c, p->records);
        int64_t before = offset;
        for (int32_t i = 0; i < some.count && offset < end; i++) { /* others may write meanwhile */
            if (some.records[i].offset >= offset) {                /* a batch may begin before it */
                all.records[all.count++] = some.records[i];
                offset = some.records[i].offset + 1;
            }
        }
        assert_true(offset > before);
    }
    return all;
}
