/* What topics and headers of a park are called, and what they say. */
#include "client/park/park.h"

#include <stdio.h>
#include <string.h>

#define HEADER_TOPIC     "__dlq.errors.topic"
#define HEADER_PARTITION "__dlq.errors.partition"
#define HEADER_OFFSET    "__dlq.errors.offset"
#define HEADER_GROUP     "__dlq.errors.group"
#define HEADER_COUNT     "__dlq.errors.delivery.count"
#define HEADER_MESSAGE   "__dlq.errors.message"
#define HEADER_TIMESTAMP "__rivulet.origin.timestamp"

bool rv_park_topic(const char *topic, const char *name, int step, char ret_name[RV_PARK_NAME_SIZE])
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    char text[RV_PARK_NAME_SIZE];
    int size = step ? snprintf(text, sizeof text, "%s.%s.retry.%d", topic, name, step)
                    : snprintf(text, sizeof text, "%s.%s.parked", topic, name);
    if (!topic[0] || !name[0] || size >= RV_PARK_NAME_SIZE || text[strspn(text, letters)] != 0) {
        return false;
    }
    memcpy(ret_name, text, (size_t)size + 1);
    return true;
}

/* ---- delays ---- */

static int64_t unit_ms(struct str unit)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {
        {"ms", 1       },
        {"s",  1000    },
        {"m",  60000   },
        {"h",  3600000 },
        {"d",  86400000}
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (str_eq(unit, str_of(units[i].name))) {
            return units[i].ms;
        }
    }
    return 0;
}

int park_delays(const char *text, int64_t ret_ms[PARK_DELAYS_MAX])
{
    int count = 0;
    for (const char *p = text; count < PARK_DELAYS_MAX; p++) {
        struct str one = {p, strcspn(p, ",")};
        size_t digits = strspn(p, "0123456789");
        int64_t n, unit = unit_ms((struct str){p + digits, one.len - digits});
        if (digits == 0 || !unit || str_to_int64((struct str){p, digits}, &n) != OK ||
            __builtin_mul_overflow(n, unit, &ret_ms[count])) {
            return 0;
        }
        count++;
        p += one.len;
        if (!*p) {
            return count;
        }
    }
    return 0;
}

/* ---- headers ---- */

static bool is_named(const struct rv_header *h, const char *name)
{
    return str_eq((struct str){h->name.ptr, h->name.size}, str_of(name));
}

static bool is_ours(const struct rv_header *h)
{
    static const char *const names[] = {HEADER_TOPIC,    HEADER_PARTITION, HEADER_OFFSET,
                                        HEADER_GROUP,    HEADER_COUNT,     HEADER_MESSAGE,
                                        HEADER_TIMESTAMP};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is_named(h, names[i])) {
            return true;
        }
    }
    return false;
}

static void number_read(const struct rv_header *h, const char *name, int64_t *ret_number)
{
    int64_t n;
    if (is_named(h, name) && h->value.ptr &&
        str_to_int64((struct str){h->value.ptr, h->value.size}, &n) == OK) {
        *ret_number = n;
    }
}

bool park_origin_read(const struct rv_record *r, struct park_origin *ret_origin)
{
    struct park_origin o = {.partition = -1, .offset = -1, .tries = -1, .timestamp_ms = -1};
    for (size_t i = 0; i < r->header_count; i++) {
        const struct rv_header *h = &r->headers[i];
        struct str value = {h->value.ptr, h->value.size};
        o.topic = is_named(h, HEADER_TOPIC) ? value : o.topic;
        o.group = is_named(h, HEADER_GROUP) ? value : o.group;
        number_read(h, HEADER_PARTITION, &o.partition);
        number_read(h, HEADER_OFFSET, &o.offset);
        number_read(h, HEADER_COUNT, &o.tries);
        number_read(h, HEADER_TIMESTAMP, &o.timestamp_ms);
    }
    *ret_origin = o;
    return o.topic.ptr && o.group.ptr && o.partition >= 0 && o.partition <= INT32_MAX &&
           o.offset >= 0 && o.tries >= 0 && o.tries < INT32_MAX;
}

/* At most PARK_REASON_MAX bytes, and no character in two. */
static struct rv_bytes reason_cut(const char *reason)
{
    size_t size = reason ? strlen(reason) : 0;
    if (size > PARK_REASON_MAX) {
        for (size = PARK_REASON_MAX; size && ((unsigned char)reason[size] & 0xc0) == 0x80;) {
            size--;
        }
    }
    return (struct rv_bytes){reason ? reason : "", size};
}

size_t park_headers(const struct rv_park *p, const struct rv_park_record *r, const char *reason,
                    struct park_numbers *numbers, struct rv_header *out)
{
    size_t n = 0;
    for (size_t i = 0; i < r->record.header_count; i++) {
        if (!is_ours(&r->record.headers[i])) {
            out[n++] = r->record.headers[i];
        }
    }
    snprintf(numbers->partition, sizeof numbers->partition, "%d", (int)r->origin_partition);
    snprintf(numbers->offset, sizeof numbers->offset, "%lld", (long long)r->origin_offset);
    snprintf(numbers->tries, sizeof numbers->tries, "%d", (int)r->tries + 1);
    snprintf(numbers->timestamp, sizeof numbers->timestamp, "%lld",
             (long long)r->origin_timestamp_ms);
    out[n++] = (struct rv_header){RV_STR(HEADER_TOPIC), RV_STR(r->origin_topic)};
    out[n++] = (struct rv_header){RV_STR(HEADER_PARTITION), RV_STR(numbers->partition)};
    out[n++] = (struct rv_header){RV_STR(HEADER_OFFSET), RV_STR(numbers->offset)};
    out[n++] = (struct rv_header){RV_STR(HEADER_GROUP), RV_STR(p->group)};
    out[n++] = (struct rv_header){RV_STR(HEADER_COUNT), RV_STR(numbers->tries)};
    out[n++] = (struct rv_header){RV_STR(HEADER_MESSAGE), reason_cut(reason)};
    out[n++] = (struct rv_header){RV_STR(HEADER_TIMESTAMP), RV_STR(numbers->timestamp)};
    return n;
}
