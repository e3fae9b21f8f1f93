/* Opening a park: its options, its topics, its consumer and producer. */
#include "client/park/park.h"

#include "base/clock.h"
#include "base/mem.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum {
    OPTIONS_MAX = 128,
    HEADERS_ROOM = 16384, /* bytes that our headers may add to a record */
    RECORD_MAX = 1048588, /* bytes of a record where nobody says: Kafka's max.message.bytes */
    NUMBER_SIZE = 24,
    OPEN_MS = 60000,   /* where the caller says -1 */
    FIXED_OPTIONS = 6, /* those that are not the caller's, and the end */
};

/* ---- options ---- */

struct own_options {
    const char *delays, *name;
    bool create;
};

/* The park's own options; what is the consumer's and the producer's into `rest`, which has
 * FIXED_OPTIONS left. */
static int options_split(const struct rv_option *in, struct own_options *own,
                         struct rv_option rest[OPTIONS_MAX], size_t *ret_count, struct rv_error *e)
{
    size_t n = *ret_count;
    *own = (struct own_options){.delays = "1s,10s,1m", .create = true};
    for (; in && in->name; in++) {
        const char *value = in->value ? in->value : "";
        if (strcmp(in->name, "park.delays") == 0) {
            own->delays = value;
        } else if (strcmp(in->name, "park.name") == 0) {
            own->name = value;
        } else if (strcmp(in->name, "park.create") == 0) {
            own->create = strcmp(value, "true") == 0;
            if (!own->create && strcmp(value, "false") != 0) {
                return park_fail(e, RV_E_OPTION, "option park.create: '%.60s' is not true or false",
                                 value);
            }
        } else if (n == OPTIONS_MAX - FIXED_OPTIONS) {
            return park_fail(e, RV_E_OPTION, "too many options");
        } else {
            rest[n++] = *in;
        }
    }
    *ret_count = n;
    return RV_OK;
}

/* ---- topics ---- */

static int topics_name(struct rv_park *p, const char *const *origins, size_t count,
                       struct rv_error *e)
{
    size_t each = (size_t)p->delay_count + 2;
    p->topics = mem_zero(count * each, sizeof *p->topics);
    if (!p->topics) {
        return park_fail(e, RV_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        for (int step = 0; step < p->delay_count + 2; step++) {
            char name[RV_PARK_NAME_SIZE];
            bool parks = step > p->delay_count;
            bool good = rv_park_topic(origins[i], p->name, parks ? 0 : step, name);
            if (!good) {
                return park_fail(e, RV_E_ARGUMENT,
                                 "topic %.100s, group %.100s: no topic can have the names that "
                                 "follow from that",
                                 origins[i], p->name);
            }
            const char *text = step == 0 ? origins[i] : name;
            struct park_topic *t = &p->topics[p->topic_count];
            t->name = mem_dup(text, strlen(text) + 1);
            if (!t->name) {
                return park_fail(e, RV_E_MEMORY, "out of memory");
            }
            t->origin = p->topics[i * each].name;
            t->step = step;
            t->delay_ms = step > 0 && !parks ? p->delays_ms[step - 1] : 0;
            p->topic_count++;
        }
    }
    return RV_OK;
}

/* What the topics of an origin take over of it. */
struct origin {
    int32_t partitions;
    char retention_ms[NUMBER_SIZE];
    char record_bytes[NUMBER_SIZE];
};

static int origin_ask(struct rv_park *p, const char *topic, int timeout_ms, struct origin *o,
                      int64_t *ret_record_bytes, struct rv_error *e)
{
    struct rv_topics *topics;
    struct rv_configs *configs;
    int code = rv_topic_describe(p->client, topic, timeout_ms, &topics, e);
    if (code != RV_OK) {
        return code;
    }
    *o = (struct origin){.partitions = (int32_t)topics->items[0].partition_count};
    rv_free(topics);
    code = rv_config_get(p->client, RV_TOPIC, topic, timeout_ms, &configs, e);
    if (code != RV_OK) {
        return code;
    }
    int64_t bytes = RECORD_MAX;
    bool deletes = true;
    for (size_t i = 0; i < configs->count; i++) {
        const struct rv_config *c = &configs->items[i];
        if (c->value && strcmp(c->name, "retention.ms") == 0) {
            snprintf(o->retention_ms, sizeof o->retention_ms, "%s", c->value);
        } else if (c->value && strcmp(c->name, "cleanup.policy") == 0) {
            deletes = strstr(c->value, "delete") != NULL;
        } else if (c->value && strcmp(c->name, "max.message.bytes") == 0 &&
                   str_to_int64(str_of(c->value), &bytes) != OK) {
            bytes = RECORD_MAX;
        }
    }
    rv_free(configs);
    if (!deletes || !o->retention_ms[0]) {
        snprintf(o->retention_ms, sizeof o->retention_ms, "-1");
    }
    bytes = bytes > INT32_MAX - HEADERS_ROOM ? INT32_MAX : bytes + HEADERS_ROOM;
    snprintf(o->record_bytes, sizeof o->record_bytes, "%lld", (long long)bytes);
    *ret_record_bytes = bytes > *ret_record_bytes ? bytes : *ret_record_bytes;
    return RV_OK;
}

static int left_of(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_mono_ms(&clock_real);
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* Makes those that are missing. */
static int topics_make(struct rv_park *p, int64_t deadline_ms, int64_t *ret_record_bytes,
                       struct rv_error *e)
{
    struct origin o = {0};
    int code = RV_OK;
    for (size_t i = 0; i < p->topic_count && code == RV_OK; i++) {
        const struct park_topic *t = &p->topics[i];
        int left = left_of(deadline_ms);
        if (t->step == 0) {
            code = origin_ask(p, t->name, left, &o, ret_record_bytes, e);
            continue;
        }
        const struct rv_option *configs =
            RV_OPTIONS({"retention.ms", t->step > p->delay_count ? "-1" : o.retention_ms},
                       {"retention.bytes", "-1"}, {"cleanup.policy", "delete"},
                       {"max.message.bytes", o.record_bytes});
        code = rv_topic_create(p->client, t->name, o.partitions, configs, left, e);
        code = code == KERR_TOPIC_ALREADY_EXISTS ? RV_OK : code;
    }
    return code;
}

/* ---- open and close ---- */

static int subscribe(struct rv_park *p, struct rv_error *e)
{
    const char **names = mem_alloc(p->topic_count * sizeof *names);
    size_t count = 0;
    if (!names) {
        return park_fail(e, RV_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < p->topic_count; i++) {
        if (p->topics[i].step <= p->delay_count) {
            names[count++] = p->topics[i].name;
        }
    }
    int code = rv_subscribe(p->consumer, names, count, e);
    mem_free(names);
    return code;
}

static int park_init(struct rv_park *p, const char *const *topics, size_t topic_count,
                     const struct rv_option *options, int timeout_ms, struct rv_error *e)
{
    struct own_options own;
    struct rv_option rest[OPTIONS_MAX];
    char bytes_text[NUMBER_SIZE];
    int64_t bytes = RECORD_MAX + HEADERS_ROOM;
    int64_t deadline = clock_after_ms(&clock_real, timeout_ms < 0 ? OPEN_MS : timeout_ms);
    size_t n = 0;
    rest[n++] = (struct rv_option){"auto.offset.reset", "earliest"};
    rest[n++] = (struct rv_option){"max.request.size", bytes_text};
    int code = options_split(options, &own, rest, &n, e);
    if (code != RV_OK) {
        return code;
    }
    p->delay_count = park_delays(own.delays, p->delays_ms);
    if (p->delay_count == 0) {
        return park_fail(e, RV_E_OPTION, "option park.delays: '%.100s' is not like 1s,10s,1m",
                         own.delays);
    }
    if (topic_count == 0 || topic_count > PARK_TOPICS_MAX) {
        return park_fail(e, RV_E_ARGUMENT, "%zu topics: 1 to %d", topic_count, PARK_TOPICS_MAX);
    }
    const char *name = own.name ? own.name : p->group;
    p->name = mem_dup(name, strlen(name) + 1);
    code = p->name ? topics_name(p, topics, topic_count, e)
                   : park_fail(e, RV_E_MEMORY, "out of memory");
    if (code == RV_OK && own.create) {
        code = topics_make(p, deadline, &bytes, e);
    }
    snprintf(bytes_text, sizeof bytes_text, "%lld", (long long)bytes);
    rest[n++] = (struct rv_option){"group.id", p->group};
    rest[n++] = (struct rv_option){"delivery", "manual"};
    rest[n] = (struct rv_option){NULL, NULL};
    code = code == RV_OK ? rv_producer_open(p->client, rest, &p->producer, e) : code;
    code = code == RV_OK ? rv_consumer_open(p->client, rest, &p->consumer, e) : code;
    if (code == RV_OK) {
        rv_consumer_on_event(p->consumer, park_event, p);
        code = subscribe(p, e);
    }
    return code;
}

int rv_park_open(struct rv_client *client, const char *group, const char *const *topics,
                 size_t topic_count, const struct rv_option *options, int timeout_ms,
                 struct rv_park **ret_park, struct rv_error *ret_error)
{
    struct rv_park *p = mem_zero(1, sizeof *p);
    char *name = mem_dup(group, strlen(group) + 1);
    if (!p || !name) {
        mem_free(p);
        mem_free(name);
        return park_fail(ret_error, RV_E_MEMORY, "out of memory");
    }
    p->client = client;
    p->group = name;
    list_init(&p->rewinds);
    int code = park_init(p, topics, topic_count, options, timeout_ms, ret_error);
    if (code != RV_OK) {
        rv_park_close(p, 0, NULL);
        return code;
    }
    *ret_park = p;
    return RV_OK;
}

int rv_park_close(struct rv_park *park, int timeout_ms, struct rv_error *ret_error)
{
    if (!park) {
        return RV_OK;
    }
    park->closing = true;
    rv_producer_close(park->producer); /* tells of all that was handed over */
    int code = rv_consumer_close(park->consumer, timeout_ms, ret_error);
    for (struct list *l; (l = list_pop(&park->rewinds));) {
        mem_free(list_entry(l, struct handover, link));
    }
    for (size_t i = 0; i < park->topic_count; i++) {
        mem_free(park->topics[i].name);
    }
    mem_free(park->topics);
    mem_free(park->records);
    mem_free(park->holds);
    mem_free(park->group);
    mem_free(park->name);
    mem_free(park);
    return code;
}
