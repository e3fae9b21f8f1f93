/* The one record at each committed offset is fetched, by a consumer that is in no group. */
#include "tools/group.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

enum { AGE_LIMIT_MS = 5000, WAIT_MS = 200 };

struct ages {
    const struct rv_group *group; /* borrowed */
    int64_t *ages_ms;             /* owned by the caller; of its partitions */
    size_t missing;               /* to be found */
};

static struct rv_consumer *open_consumer(const struct tool *t, const struct ages *a,
                                         struct rv_error *e)
{
    struct rv_consumer *consumer;
    struct rv_option options[TOOL_OPTIONS_LIMIT + 3];
    int n = 0;
    for (int i = 0; i < t->option_count; i++) {
        options[n++] = t->options[i];
    }
    options[n++] = (struct rv_option){"auto.offset.reset", "earliest"};
    options[n++] =
        (struct rv_option){"max.partition.fetch.bytes", "1024"}; /* a whole batch all the same */
    options[n] = (struct rv_option){NULL, NULL};
    struct rv_partition *list = mem_alloc(a->group->partition_count * sizeof *list);
    size_t count = 0;
    if (!list || rv_consumer_open(t->client, options, &consumer, e) != RV_OK) {
        mem_free(list);
        return NULL;
    }
    for (size_t i = 0; i < a->group->partition_count; i++) {
        const struct rv_group_partition *p = &a->group->partitions[i];
        if (a->ages_ms[i] == AGE_UNKNOWN) {
            list[count++] = (struct rv_partition){.topic = p->topic,
                                                  .partition = p->partition,
                                                  .offset = p->committed_offset,
                                                  .leader_epoch = -1};
        }
    }
    int code = rv_assign(consumer, list, count, e);
    mem_free(list);
    if (code != RV_OK) {
        rv_consumer_close(consumer, 0, NULL);
        return NULL;
    }
    return consumer;
}

static void take(struct ages *a, struct rv_consumer *consumer, const struct rv_record *r,
                 int64_t now_ms)
{
    for (size_t i = 0; i < a->group->partition_count; i++) {
        const struct rv_group_partition *p = &a->group->partitions[i];
        if (a->ages_ms[i] == AGE_UNKNOWN && p->partition == r->partition &&
            strcmp(p->topic, r->topic) == 0) {
            a->ages_ms[i] = r->timestamp_ms < 0        ? AGE_UNKNOWN
                            : r->timestamp_ms > now_ms ? 0
                                                       : now_ms - r->timestamp_ms;
            a->missing--;
            rv_pause(consumer, r->topic, r->partition, true, NULL); /* it only spares fetches */
        }
    }
}

int64_t *group_ages(const struct tool *t, const struct rv_group *g)
{
    struct rv_error e = {.code = RV_OK};
    struct ages a = {.group = g, .ages_ms = mem_alloc((g->partition_count + 1) * sizeof(int64_t))};
    if (!a.ages_ms) {
        tool_no_memory();
        return NULL;
    }
    for (size_t i = 0; i < g->partition_count; i++) {
        bool unread = g->partitions[i].committed_offset >= 0 && g->partitions[i].lag > 0;
        a.ages_ms[i] = unread ? AGE_UNKNOWN : AGE_NONE;
        a.missing += unread;
    }
    struct rv_consumer *consumer = a.missing ? open_consumer(t, &a, &e) : NULL;
    int limit = t->timeout_ms < AGE_LIMIT_MS ? t->timeout_ms : AGE_LIMIT_MS;
    int64_t until_ms = clock_mono_ms(&clock_real) + limit;
    while (consumer && a.missing && clock_mono_ms(&clock_real) < until_ms) {
        const struct rv_record *records;
        size_t count;
        if (rv_poll(consumer, WAIT_MS, &records, &count, &e) != RV_OK) {
            break;
        }
        for (size_t i = 0; i < count; i++) {
            take(&a, consumer, &records[i], clock_wall_ms(&clock_real));
        }
    }
    if (e.code != RV_OK) { /* the table is shown without it */
        tool_say("how old the oldest unread record is, is not known: %s", e.text);
    }
    if (consumer) {
        rv_consumer_close(consumer, 0, NULL);
    }
    return a.ages_ms;
}

void age_text(int64_t age_ms, char text[AGE_TEXT])
{
    int64_t s = age_ms / 1000;
    if (age_ms < 0) {
        snprintf(text, AGE_TEXT, "%s", age_ms == AGE_NONE ? "-" : "?");
    } else if (s < 60) {
        snprintf(text, AGE_TEXT, "%llds", (long long)s);
    } else if (s < 3600) {
        snprintf(text, AGE_TEXT, "%lldm %llds", (long long)(s / 60), (long long)(s % 60));
    } else if (s < 86400) {
        snprintf(text, AGE_TEXT, "%lldh %lldm", (long long)(s / 3600), (long long)(s / 60 % 60));
    } else {
        snprintf(text, AGE_TEXT, "%lldd %lldh", (long long)(s / 86400), (long long)(s / 3600 % 24));
    }
}
