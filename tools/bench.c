/* The verbs `rivulet bench ...`. */
#include "tools/bench.h"

#include "base/mem.h"
#include "protocol/error.h"
#include "tools/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HOST_SIZE = 256,
    LINGER_MS = 100, /* between looks at a topic that is not led yet */
    CONNECTIONS_MAX = 100000,
    RECORDS_MAX = 1000000,
    BYTES_MAX = 1 << 30,
    IN_FLIGHT_MAX = 100000,
    PACED_IN_FLIGHT = 10000, /* a paced sender is bounded by its rate */
    STAMP_SIZE = 8,
    DIGITS = 9, /* of a figure that is no whole number */
};

/* What a verb does when an option is not given. */
struct bench_defaults {
    const char *name; /* of the verb, in what is printed */
    int connections;
    int in_flight;
    int record_bytes;
    int batch_records;
    int64_t rate;
};

struct bench {
    const struct bench_defaults *defaults;
    struct load_options o;
    char host[HOST_SIZE];
    char port[16];
    char topic[250];
};

/* ---- options */

static bool number(const struct tool *t, char letter, const char *name, int64_t least, int64_t most,
                   int64_t otherwise, int64_t *ret_value)
{
    *ret_value = otherwise;
    return !tool_has(t, letter) ||
           tool_number(t, name, tool_value(t, letter), least, most, ret_value);
}

/* The first broker of the list. */
static bool take_address(const struct tool *t, struct bench *b)
{
    const char *colon = strrchr(t->brokers, ':');
    const char *comma = strchr(t->brokers, ',');
    const char *end = t->brokers + strlen(t->brokers);
    if (comma) {
        end = comma;
        for (colon = comma; colon > t->brokers && *colon != ':'; colon--) {
        }
    }
    const char *host = t->brokers;
    const char *host_end = colon;
    if (host_end && host < host_end && host[0] == '[' && host_end[-1] == ']') {
        host++;
        host_end--;
    }
    if (!colon || colon <= t->brokers || host_end <= host || host_end - host >= HOST_SIZE ||
        end - colon - 1 >= (long)sizeof b->port || end == colon + 1) {
        tool_usage(t, "'%s' is not HOST:PORT", t->brokers);
        return false;
    }
    snprintf(b->host, sizeof b->host, "%.*s", (int)(host_end - host), host);
    snprintf(b->port, sizeof b->port, "%.*s", (int)(end - colon - 1), colon + 1);
    return true;
}

static bool take_words(const struct tool *t, struct bench *b)
{
    const char *acks = tool_has(t, 'a') ? tool_value(t, 'a') : "all";
    if (strcmp(acks, "all") == 0 || strcmp(acks, "-1") == 0) {
        b->o.acks = -1;
    } else if (strcmp(acks, "0") == 0 || strcmp(acks, "1") == 0) {
        b->o.acks = acks[0] - '0';
    } else {
        tool_usage(t, "--acks: '%s' is not 0, 1 or all", acks);
        return false;
    }
    const char *codec = tool_has(t, 'z') ? tool_value(t, 'z') : "none";
    if (codec_from_name(str_of(codec), &b->o.codec) != OK) {
        tool_usage(t, "--compression: '%s' is not none, gzip, snappy, lz4 or zstd", codec);
        return false;
    }
    return true;
}

static bool bench_init(const struct tool *t, struct bench *b, const struct bench_defaults *d)
{
    int64_t connections, in_flight, partitions, size, batch, seconds, warm, pid, rate, most;
    *b = (struct bench){.defaults = d};
    if (!number(t, 'C', "--connections", 1, CONNECTIONS_MAX, d->connections, &connections) ||
        !number(t, 'F', "--in-flight", 1, IN_FLIGHT_MAX, d->in_flight, &in_flight) ||
        !number(t, 'p', "--partitions", 1, RECORDS_MAX, 1, &partitions) ||
        !number(t, 's', "--size", STAMP_SIZE, BYTES_MAX, d->record_bytes, &size) ||
        !number(t, 'B', "--batch", 1, RECORDS_MAX, d->batch_records, &batch) ||
        !number(t, 'd', "--seconds", 1, 86400, 5, &seconds) ||
        !number(t, 'W', "--warm-up", 0, 3600, 1, &warm) ||
        !number(t, 'm', "--pid", 1, INT32_MAX, 0, &pid) ||
        !number(t, 'R', "--rate", 1, 10000000, d->rate, &rate) ||
        !number(t, 'M', "--max-bytes", 1, BYTES_MAX, 1 << 20, &most) || !take_words(t, b) ||
        !take_address(t, b)) {
        return false;
    }
    snprintf(b->topic, sizeof b->topic, "%s",
             tool_has(t, 'T') ? tool_value(t, 'T') : "rivulet-bench");
    b->o.host = b->host;
    b->o.port = b->port;
    b->o.topic = str_of(b->topic);
    b->o.connections = (int)connections;
    b->o.in_flight = (int)in_flight;
    b->o.partitions = (int)partitions;
    b->o.record_bytes = (int)size;
    b->o.batch_records = (int)batch;
    b->o.seconds = (double)seconds;
    b->o.warm_seconds = (double)warm;
    b->o.pid = pid;
    b->o.rate = rate;
    b->o.fetch_bytes = (int)most;
    return true;
}

/* ---- the topic */

static bool is_led(const struct rv_topic *topic, int partitions)
{
    for (size_t i = 0; i < topic->partition_count; i++) {
        if (topic->partitions[i].leader < 0) {
            return false;
        }
    }
    return topic->partition_count >= (size_t)partitions;
}

/* Makes it when it is not there, and waits until all its partitions are led. */
static int topic_prepare(struct tool *t, struct bench *b)
{
    struct rv_error e;
    size_t count;
    struct rv_option *configs = tool_pairs(t, 'c', &count);
    if (!configs) {
        return EXIT_FAILED;
    }
    int made = rv_topic_create(t->client, b->topic, b->o.partitions, configs, t->timeout_ms, &e);
    mem_free(configs);
    if (made != RV_OK && made != KERR_TOPIC_ALREADY_EXISTS) {
        return tool_failed(t, &e);
    }
    int64_t deadline_us = load_now_us() + (int64_t)t->timeout_ms * 1000;
    for (;;) {
        struct rv_topics *found = NULL;
        int code = rv_topic_describe(t->client, b->topic, t->timeout_ms, &found, &e);
        bool led = code == RV_OK && is_led(&found->items[0], b->o.partitions);
        size_t there = code == RV_OK ? found->items[0].partition_count : 0;
        rv_free(found);
        if (led) {
            return EXIT_DONE;
        }
        if (made != RV_OK && code == RV_OK && there < (size_t)b->o.partitions) {
            return tool_usage(t, "topic %s has %zu partitions, not %d", b->topic, there,
                              b->o.partitions);
        }
        if (load_now_us() > deadline_us || (code != RV_OK && !(e.flags & RV_RETRIABLE) &&
                                            code != KERR_UNKNOWN_TOPIC_OR_PARTITION)) {
            fprintf(stderr, "rivulet: topic %s does not become ready: %s\n", b->topic,
                    code == RV_OK ? "a partition has no leader" : e.text);
            return EXIT_FAILED;
        }
        usleep(LINGER_MS * 1000);
    }
}

/* ---- what came out */

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static json_t *json_round(double x, double digits)
{
    return json_real((double)(int64_t)(x * digits + 0.5) / digits);
}

static void add_broker(json_t *o, const struct load *l)
{
    if (!l->has_usage) {
        return;
    }
    double cpu_us = (double)(l->broker_after.cpu_us - l->broker_before.cpu_us);
    json_object_set_new(o, "broker_cpu_s", json_round(cpu_us / 1e6, 1000));
    if (l->bytes) {
        json_object_set_new(o, "broker_cpu_s_per_gb",
                            json_round(per(cpu_us / 1e6, (double)l->bytes / 1e9), 1000));
    }
    json_object_set_new(o, "broker_us_per_request",
                        json_round(per(cpu_us, (double)l->requests), 100));
    json_object_set_new(o, "broker_rss_kb", json_integer(l->broker_after.rss_kb));
    json_object_set_new(o, "broker_anon_kb", json_integer(l->broker_after.anon_kb));
}

static json_t *result_json(const struct bench *b, const struct load *l)
{
    double seconds = (double)(l->measured_to_us - l->measured_from_us) / 1e6;
    json_t *o = json_pack("{s:s,s:i,s:i,s:o,s:I,s:I,s:o}", "bench", b->defaults->name,
                          "connections", b->o.connections, "partitions", b->o.partitions, "seconds",
                          json_round(seconds, 1000), "warm_requests", (json_int_t)l->warm_requests,
                          "requests", (json_int_t)l->requests, "requests_per_s",
                          json_round(per((double)l->requests, seconds), 1));
    if (l->records) {
        json_object_set_new(o, "records_per_s", json_round(per((double)l->records, seconds), 1));
    }
    if (l->bytes) {
        json_object_set_new(o, "mb_per_s", json_round(per((double)l->bytes / 1e6, seconds), 1000));
    }
    if (l->latency.count) {
        const struct latency *all = &l->latency;
        json_object_set_new(o, "p50_us", json_integer(latency_quantile_us(all, 0.5)));
        json_object_set_new(o, "p99_us", json_integer(latency_quantile_us(all, 0.99)));
        json_object_set_new(o, "p999_us", json_integer(latency_quantile_us(all, 0.999)));
        json_object_set_new(o, "max_us", json_integer(all->max_us));
        json_object_set_new(o, "timed", json_integer((json_int_t)all->count));
    }
    add_broker(o, l);
    json_object_set_new(
        o, "own_cpu_s",
        json_round((double)(l->own_after.cpu_us - l->own_before.cpu_us) / 1e6, 1000));
    return o;
}

/* For people: one line a figure, named as in the JSON. */
static int result_print(const struct tool *t, json_t *o)
{
    if (!o) {
        fprintf(stderr, "rivulet: out of memory\n");
        return EXIT_FAILED;
    }
    if (t->json) {
        bool ok = json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) == 0 &&
                  putchar('\n') != EOF;
        json_decref(o);
        return ok ? EXIT_DONE : EXIT_FAILED;
    }
    const char *key;
    json_t *value;
    json_object_foreach(o, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS));
        const char *plain = json_string_value(value);
        printf("%-24s %s\n", key, plain ? plain : text ? text : "");
        mem_free(text);
    }
    json_decref(o);
    return EXIT_DONE;
}

static int load_report(const struct tool *t, const struct bench *b, const struct load *l, bool ok)
{
    if (!ok) {
        fprintf(stderr, "rivulet: bench %s: %s\n", b->defaults->name, l->failed);
        return EXIT_FAILED;
    }
    return result_print(t, result_json(b, l));
}

/* ---- somebody who looks */

struct watch {
    struct stop stop;
    struct progress progress;
};

static bool watch_look(void *ctx, int64_t measured_us)
{
    struct watch *w = ctx;
    stop_take(&w->stop);
    progress_show(&w->progress, measured_us / 1000000, "s");
    return !w->stop.at_ms;
}

/* Runs it with a bar and Ctrl-C, which ends it early: what was measured until then is told. */
static bool run_watched(struct bench *b, struct load *l)
{
    struct watch w;
    stop_catch(&w.stop);
    progress_begin(&w.progress, "measured", (int64_t)b->o.seconds, true);
    w.progress.no_rate = true;
    l->watch = watch_look;
    l->watch_ctx = &w;
    bool ok = load_run(l);
    progress_end(&w.progress);
    if (ok && w.stop.at_ms) {
        tool_say("stopped early: the figures are of the time until then");
    }
    stop_finish(&w.stop);
    return ok;
}

/* ---- the verbs */

int verb_bench_produce(struct tool *t)
{
    static const struct bench_defaults defaults = {"produce", 1, 5, 100, 150, 0};
    struct bench b;
    struct load l;
    if (!bench_init(t, &b, &defaults)) {
        return EXIT_USAGE;
    }
    int code = topic_prepare(t, &b);
    if (code != EXIT_DONE) {
        return code;
    }
    load_init(&l, &b.o);
    bool ok = produce_prepare(&l) &&
              load_connect(&l, b.o.connections,
                           b.o.acks == 0 ? &kind_produce_unanswered : &kind_produce) &&
              run_watched(&b, &l);
    code = load_report(t, &b, &l, ok);
    load_finish(&l);
    return code;
}

int verb_bench_fetch(struct tool *t)
{
    static const struct bench_defaults defaults = {"fetch", 1, 1, STAMP_SIZE, 1, 0};
    struct bench b;
    struct load l;
    if (!bench_init(t, &b, &defaults)) {
        return EXIT_USAGE;
    }
    load_init(&l, &b.o);
    bool ok = load_connect(&l, b.o.connections, &kind_fetch) && run_watched(&b, &l);
    int code = load_report(t, &b, &l, ok);
    load_finish(&l);
    return code;
}

int verb_bench_latency(struct tool *t)
{
    static const struct bench_defaults defaults = {"latency", 1, PACED_IN_FLIGHT, 100, 1, 1000};
    struct bench b;
    struct load l;
    if (!bench_init(t, &b, &defaults)) {
        return EXIT_USAGE;
    }
    if (b.o.partitions != 1 || b.o.batch_records != 1 || b.o.codec != CODEC_NONE || b.o.acks == 0) {
        return tool_usage(t, "it goes with one partition, one record a batch, acks, no codec");
    }
    int code = topic_prepare(t, &b);
    if (code != EXIT_DONE) {
        return code;
    }
    int senders = b.o.connections;
    b.o.connections++; /* and one that reads */
    load_init(&l, &b.o);
    l.senders = senders;
    bool ok = produce_prepare(&l) && load_connect(&l, senders, &kind_produce_stamped) &&
              load_connect(&l, 1, &kind_fetch_stamped) && run_watched(&b, &l);
    code = load_report(t, &b, &l, ok);
    load_finish(&l);
    return code;
}

int verb_bench_commit(struct tool *t)
{
    static const struct bench_defaults defaults = {"commit", 16, 1, STAMP_SIZE, 1, 0};
    struct bench b;
    struct load l;
    if (!bench_init(t, &b, &defaults)) {
        return EXIT_USAGE;
    }
    int code = topic_prepare(t, &b);
    if (code != EXIT_DONE) {
        return code;
    }
    load_init(&l, &b.o);
    bool ok = load_connect(&l, b.o.connections, &kind_commit) && run_watched(&b, &l);
    code = load_report(t, &b, &l, ok);
    load_finish(&l);
    return code;
}

int verb_bench_connections(struct tool *t)
{
    static const struct bench_defaults defaults = {"connections", 10000, 1, STAMP_SIZE, 1, 0};
    struct bench b;
    struct load l;
    struct usage before = {0};
    struct usage after = {0};
    if (!bench_init(t, &b, &defaults)) {
        return EXIT_USAGE;
    }
    load_init(&l, &b.o);
    bool has = b.o.pid && usage_read(b.o.pid, &before);
    int64_t from_us = load_now_us();
    bool ok = load_connect(&l, b.o.connections, &kind_hello) && load_say_hello(&l);
    int64_t took_us = load_now_us() - from_us;
    has = has && usage_read(b.o.pid, &after);
    int code = EXIT_FAILED;
    if (!ok) {
        fprintf(stderr, "rivulet: bench %s: %s\n", defaults.name, l.failed);
    } else {
        json_t *o = json_pack("{s:s,s:i,s:o}", "bench", defaults.name, "connections",
                              b.o.connections, "seconds", json_round((double)took_us / 1e6, 1000));
        if (has) {
            double bytes = (double)(after.rss_kb - before.rss_kb) * 1024;
            json_object_set_new(o, "broker_rss_kb", json_integer(after.rss_kb));
            json_object_set_new(o, "bytes_per_connection",
                                json_round(per(bytes, b.o.connections), 1));
            json_object_set_new(
                o, "broker_us_per_connection",
                json_round(per((double)(after.cpu_us - before.cpu_us), b.o.connections), 10));
        }
        code = result_print(t, o);
    }
    load_finish(&l);
    return code;
}
