/* The formats; numbers are big-endian, varints as in Kafka's records.
 *
 *   event     appended (8, ms) · timestamp (8, ms) · partition (4, -1: any) · topic · key · value ·
 *             header count (4) · headers: name, value
 *   again     0 (8) · number (8) · count (4) · so many numbers of entries (8) of the file before it
 *   refusal   number (8) · code (4) · 1 if it may have been stored (1) · why · event
 *   texts and bytes: varint of the size (-1: null), then the bytes
 */
#include "client/spool/event.h"

#include "base/mem.h"
#include "client/sealed/fail.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "protocol/wire.h"

#include <limits.h>

/* ---- checks ---- */

static bool topic_is_legal(struct str topic)
{
    if (topic.len == 0 || topic.len > EVENT_TOPIC_LIMIT) {
        return false;
    }
    for (size_t i = 0; i < topic.len; i++) {
        char c = topic.ptr[i];
        bool is_ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '.' || c == '_' || c == '-';
        if (!is_ok) {
            return false;
        }
    }
    return !str_eq(topic, STR(".")) && !str_eq(topic, STR(".."));
}

int event_check(const struct rv_message *m, struct rv_error *ret_error)
{
    if (!m->topic || !topic_is_legal(str_of(m->topic))) {
        return fail_set(ret_error, KERR_INVALID_TOPIC_EXCEPTION, "'%.80s' is no name of a topic",
                        m->topic ? m->topic : "");
    }
    if (m->to_partition && m->partition < 0) {
        return fail_set(ret_error, RV_E_ARGUMENT, "topic %s: there is no partition %d", m->topic,
                        (int)m->partition);
    }
    if (m->timestamp_ms < 0) {
        return fail_set(ret_error, RV_E_ARGUMENT, "topic %s: a timestamp of %lld is before 1970",
                        m->topic, (long long)m->timestamp_ms);
    }
    bool is_large = m->key.size > INT_MAX || m->value.size > INT_MAX || m->header_count > INT_MAX;
    for (size_t i = 0; i < m->header_count && !is_large; i++) {
        struct rv_bytes name = m->headers[i].name;
        if (!name.ptr || !str_is_utf8((struct str){name.ptr, name.size})) {
            return fail_set(ret_error, RV_E_ARGUMENT, "topic %s: the name of header %zu is no text",
                            m->topic, i);
        }
        is_large = name.size > INT_MAX || m->headers[i].value.size > INT_MAX;
    }
    return is_large ? fail_set(ret_error, RV_E_TOO_LARGE, "topic %s: too large", m->topic) : RV_OK;
}

/* ---- writing ---- */

static void put_bytes(struct buf *out, const void *p, size_t size)
{
    uint8_t head[10];
    buf_add(out, head, uvarlong_put(head, zigzag_encode32(p ? (int32_t)size : -1)));
    if (p) {
        buf_add(out, p, size);
    }
}

void event_encode(const struct rv_message *m, int64_t appended_ms, int64_t timestamp_ms,
                  struct buf *out)
{
    put_number(out, (uint64_t)appended_ms, 8);
    put_number(out, (uint64_t)timestamp_ms, 8);
    put_number(out, (uint32_t)(m->to_partition ? m->partition : -1), 4);
    put_bytes(out, m->topic, strlen(m->topic));
    put_bytes(out, m->key.ptr, m->key.size);
    put_bytes(out, m->value.ptr, m->value.size);
    put_number(out, m->header_count, 4);
    for (size_t i = 0; i < m->header_count; i++) {
        put_bytes(out, m->headers[i].name.ptr, m->headers[i].name.size);
        put_bytes(out, m->headers[i].value.ptr, m->headers[i].value.size);
    }
}

void refusal_encode(const struct refusal *r, struct buf *out)
{
    put_number(out, r->number, 8);
    put_number(out, (uint32_t)r->code, 4);
    put_number(out, r->is_unsure, 1);
    put_bytes(out, r->why.ptr, r->why.len);
    buf_add(out, r->event.ptr, r->event.len);
}

/* ---- reading ---- */

static struct bytes take_bytes(struct reader *r)
{
    int32_t size = reader_varint(r);
    if (size < -1) {
        reader_fail(r, ERR_CORRUPT);
    }
    return size < 0 ? (struct bytes){0}
                    : (struct bytes){reader_take(r, (size_t)size), (size_t)size};
}

static struct str take_text(struct reader *r)
{
    struct bytes b = take_bytes(r);
    if (!b.ptr) {
        reader_fail(r, ERR_CORRUPT);
    }
    return (struct str){(const char *)b.ptr, b.len};
}

err event_decode(struct bytes body, struct event *ret_event)
{
    struct reader r;
    struct event e = {0};
    reader_init(&r, body.ptr, body.len);
    e.appended_ms = reader_int64(&r);
    e.timestamp_ms = reader_int64(&r);
    e.partition = reader_int32(&r);
    e.topic = take_text(&r);
    e.key = take_bytes(&r);
    e.value = take_bytes(&r);
    e.header_count = reader_int32(&r);
    e.headers = r.next;
    e.headers_size = reader_left(&r);
    const uint8_t *at = e.headers;
    size_t left = e.headers_size;
    int32_t count = e.header_count;
    struct record_header h;
    err walked = count < 0 ? ERR_CORRUPT : OK;
    while (r.error == OK && walked == OK) {
        walked = record_header_next(&at, &left, &count, &h);
    }
    if (r.error != OK || walked != ERR_NOT_FOUND || left > 0 || e.partition < -1 ||
        e.timestamp_ms < 0 || !topic_is_legal(e.topic)) {
        return ERR_CORRUPT;
    }
    e.body = body;
    *ret_event = e;
    return OK;
}

err event_message(const struct event *e, char topic[EVENT_TOPIC_LIMIT + 1],
                  struct rv_message *ret_message, struct rv_header **ret_headers)
{
    size_t count = (size_t)e->header_count;
    struct rv_header *headers = mem_zero(count ? count : 1, sizeof *headers);
    if (!headers) {
        return ERR_MEMORY;
    }
    const uint8_t *at = e->headers;
    size_t left = e->headers_size;
    int32_t more = e->header_count;
    struct record_header h;
    for (size_t i = 0; record_header_next(&at, &left, &more, &h) == OK; i++) {
        headers[i] = (struct rv_header){
            {h.name.ptr,  h.name.len },
            {h.value.ptr, h.value.len}
        };
    }
    memcpy(topic, e->topic.ptr, e->topic.len);
    topic[e->topic.len] = 0;
    *ret_message = (struct rv_message){
        .topic = topic,
        .key = {e->key.ptr,   e->key.len  },
        .value = {e->value.ptr, e->value.len},
        .headers = headers,
        .header_count = count,
        .timestamp_ms = e->timestamp_ms,
        .to_partition = e->partition >= 0,
        .partition = e->partition,
    };
    *ret_headers = headers;
    return OK;
}

err refusal_decode(struct bytes body, struct refusal *ret_refusal)
{
    struct reader r;
    struct refusal out = {0};
    struct event e;
    reader_init(&r, body.ptr, body.len);
    out.number = (uint64_t)reader_int64(&r);
    out.code = reader_int32(&r);
    out.is_unsure = reader_int8(&r) != 0;
    out.why = take_text(&r);
    out.event = (struct bytes){r.next, reader_left(&r)};
    if (r.error != OK || event_decode(out.event, &e) != OK) {
        return ERR_CORRUPT;
    }
    *ret_refusal = out;
    return OK;
}

void again_encode(uint64_t first, const uint64_t *entries, size_t count, struct buf *out)
{
    put_number(out, 0, 8);
    put_number(out, first, 8);
    put_number(out, count, 4);
    for (size_t i = 0; i < count; i++) {
        put_number(out, entries[i], 8);
    }
}

bool again_decode(struct bytes body, struct again *ret_again)
{
    struct reader r;
    struct again out;
    reader_init(&r, body.ptr, body.len);
    uint64_t zero = (uint64_t)reader_int64(&r);
    out.first = (uint64_t)reader_int64(&r);
    out.count = (uint32_t)reader_int32(&r);
    out.entries = r.next;
    if (r.error != OK || zero || out.first < 1 || reader_left(&r) != (size_t)out.count * 8) {
        return false;
    }
    *ret_again = out;
    return true;
}
