/* rivulet cluster info, rivulet health: who is there, and can they be worked with. */
#include "tools/tool.h"

#include "base/clock.h"
#include "tools/terminal.h"

#include <string.h>

int verb_cluster_info(struct tool *t)
{
    static const char *const heads[] = {">BROKER", "HOST", ">PORT", "ROLE"};
    struct rv_error e;
    struct rv_cluster *c;
    struct table table;
    if (rv_cluster(t->client, t->timeout_ms, &c, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code = EXIT_DONE;
    table_init(&table, heads, 4);
    for (size_t i = 0; i < c->broker_count && code == EXIT_DONE; i++) {
        const struct rv_broker *b = &c->brokers[i];
        bool leads = b->id == c->controller_id;
        if (t->json) {
            json_t *o = json_pack("{s:o,s:i,s:o,s:i,s:b}", "cluster", json_text(c->id), "broker",
                                  (int)b->id, "host", json_text(b->host), "port", (int)b->port,
                                  "controller", leads);
            code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
        } else {
            table_add(&table, "%d", (int)b->id);
            table_add(&table, "%s", b->host);
            table_add(&table, "%d", (int)b->port);
            table_add(&table, "%s", leads ? "controller" : "-");
        }
    }
    if (!t->json) {
        printf("cluster %s\n", c->id);
        code = table_print(&table, stdout);
    }
    rv_free(c);
    return code;
}

/* What `health` found. */
struct health {
    size_t brokers, topics, partitions;
    size_t without_leader;
    int64_t took_us; /* of asking for all of it */
};

static int look(const struct tool *t, struct health *h, struct rv_error *e)
{
    struct rv_cluster *c;
    struct rv_topics *topics;
    int64_t began_us = clock_mono_us(&clock_real);
    int code = rv_cluster(t->client, t->timeout_ms, &c, e);
    if (code != RV_OK) {
        return code;
    }
    h->brokers = c->broker_count;
    rv_free(c);
    code = rv_topic_list(t->client, t->timeout_ms, &topics, e);
    if (code != RV_OK) {
        return code;
    }
    h->topics = topics->count;
    for (size_t i = 0; i < topics->count; i++) {
        const struct rv_topic *topic = &topics->items[i];
        h->partitions += topic->partition_count;
        for (size_t k = 0; k < topic->partition_count; k++) {
            h->without_leader += topic->partitions[k].leader < 0;
        }
    }
    h->took_us = clock_mono_us(&clock_real) - began_us;
    rv_free(topics);
    return RV_OK;
}

int verb_health(struct tool *t)
{
    struct rv_error e;
    struct health h = {0};
    if (look(t, &h, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    bool good = h.brokers > 0 && h.without_leader == 0;
    if (t->json) {
        json_t *o = json_pack("{s:b,s:I,s:I,s:I,s:I,s:f}", "healthy", good, "brokers",
                              (json_int_t)h.brokers, "topics", (json_int_t)h.topics, "partitions",
                              (json_int_t)h.partitions, "partitions_without_leader",
                              (json_int_t)h.without_leader, "took_ms", (double)h.took_us / 1000.0);
        return json_line(stdout, o) && good ? EXIT_DONE : EXIT_FAILED;
    }
    const char *word = good ? "healthy" : "NOT healthy";
    char text[256];
    snprintf(
        text, sizeof text,
        ": brokers %zu, topics %zu, partitions %zu (without a leader %zu), answered in %.1f ms",
        h.brokers, h.topics, h.partitions, h.without_leader, (double)h.took_us / 1000.0);
    printf("%s%s%s", color_begin(stdout, good ? COLOR_GREEN : COLOR_RED), word, color_end(stdout));
    text_fold(stdout, text, (int)strlen(word), 2, 0);
    return good ? EXIT_DONE : EXIT_FAILED;
}
