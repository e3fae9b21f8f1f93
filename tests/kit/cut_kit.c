#include "tests/kit/cut_kit.h"

#include "base/check.h"
#include "base/mem.h"
#include "gen/apis.h"
#include "gen/produce.h"
#include "protocol/frame.h"

#include <string.h>

enum { ARENA_LIMIT = 1 << 26 };

static void describe_topic(const struct produce_request_topic *t, bool joins, struct buf *out)
{
    if (!joins) {
        buf_printf(out, "topic %.*s ", (int)t->name.len, t->name.ptr ? t->name.ptr : "");
        buf_add(out, &t->topic_id, sizeof t->topic_id);
    }
    for (int32_t i = 0; i < t->partitions_count; i++) {
        const struct produce_request_partition *p = &t->partitions[i];
        buf_printf(out, " partition %d %s %zu ", p->index, p->records.ptr ? "of" : "null",
                   p->records.len);
        if (p->records.len) {
            buf_add(out, p->records.ptr, p->records.len);
        }
    }
}

bool cut_describe(const uint8_t *frame, size_t size, bool joins, struct buf *out)
{
    struct arena a;
    struct reader r;
    struct request_header h = {0};
    struct produce_request q;
    arena_init(&a, ARENA_LIMIT);
    reader_init(&r, frame, size);
    bool ok = !request_header_decode(&r, &h) && h.api_key == API_PRODUCE &&
              !wire_decode(&produce_request_table, h.api_version, &r, &a, &q);
    if (ok && !joins) {
        buf_printf(out, "%d %d %.*s%s %.*s%s %d %d\n", h.api_version, h.correlation_id,
                   (int)h.client_id.len, h.client_id.ptr ? h.client_id.ptr : "",
                   h.client_id.ptr ? "" : "null", (int)q.transactional_id.len,
                   q.transactional_id.ptr ? q.transactional_id.ptr : "",
                   q.transactional_id.ptr ? "" : "null", q.acks, q.timeout_ms);
    }
    for (int32_t i = 0; ok && i < q.topics_count; i++) {
        describe_topic(&q.topics[i], joins && i == 0, out);
    }
    arena_finish(&a);
    return ok;
}

/* The header of each part is the whole's. */
static void check_header(const uint8_t *part, size_t size, const struct buf *whole)
{
    struct buf text = {0};
    check(cut_describe(part, size, false, &text));
    size_t len = (size_t)((const char *)memchr(text.ptr, '\n', text.len) - text.ptr);
    check(len < whole->len && memcmp(text.ptr, whole->ptr, len + 1) == 0);
    buf_finish(&text);
}

int cut_check(const uint8_t *frame, size_t size, size_t have, size_t step)
{
    struct buf whole = {0};
    struct buf parts = {0};
    struct produce_cut cut;
    bool decodes = cut_describe(frame, size, false, &whole);
    int count = 0;
    uint8_t *left = mem_need(size + 1);
    memcpy(left, frame, size);
    while (have < size) {
        bool fine = produce_cut_find(left, have, size, INT32_MAX, &cut);
        check(fine || !decodes);
        if (!fine || !cut.end || count == 1000) {
            break;
        }
        check(cut.end <= have);
        size_t head = produce_cut_head_size(&cut);
        uint8_t *rest = mem_need(head + size - cut.end + 1);
        memcpy(rest + head + have - cut.end, left + have, size - have); /* comes later */
        size_t front = produce_cut_make(&cut, left, have, rest);
        check(front <= have);
        check(cut_describe(left, front, count > 0, &parts));
        if (decodes) {
            check_header(left, front, &whole);
        }
        size = head + size - cut.end;
        have = head + have - cut.end + step;
        mem_free(left);
        left = rest;
        count++;
    }
    if (count) {
        check(cut_describe(left, size, true, &parts) == decodes);
    }
    if (count && decodes) {
        check_header(left, size, &whole);
        check(parts.len == whole.len && memcmp(parts.ptr, whole.ptr, whole.len) == 0);
    }
    mem_free(left);
    buf_finish(&whole);
    buf_finish(&parts);
    return count;
}
