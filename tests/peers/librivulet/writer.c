/* A service that produces, on librivulet. It never waits for an answer before it sends the next
 * record.
 *
 *     writer BROKER NAME TOPIC PARTITIONS SEED [OPTION=VALUE]...
 *
 * Its records are numbered from 0 in each partition; record N of partition P has the value
 * "NAME/P/N/" and a padding that follows from it: "NAME/P/N/" again and again, N * 37 % 400 bytes.
 *
 * Standard output, a line an event:
 *
 *     ack PARTITION N OFFSET       delivered; OFFSET -1: nobody knows where
 *     failed PARTITION N CODE UNSURE WHY
 *     refused PARTITION N CODE WHY     not handed over: comes again later
 *     sent PARTITION COUNT         at the end, and then
 *     flushed CODE WHY
 *
 * A line is written at once, with one write: who reads the pipe has what this process was told,
 * whenever it is killed. At the end of standard input it flushes and ends. Standard error has the
 * library's log.
 */
#include "client/rivulet.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    OPTIONS_MAX = 40,
    PARTITIONS_MAX = 64,
    VALUE_SIZE = 1024,
    PADDING_STEP = 37,
    PADDING_MAX = 400,
    BURST_MAX = 20,
    PAUSE_MAX_MS = 40,
    PENDING_MAX = 5000, /* records without an answer: then it waits */
    FLUSH_MS = 90000,
};

struct writer {
    const char *name;
    const char *topic;
    int partitions;
    uint64_t random;
    struct rv_client *client;
    struct rv_producer *producer;
    int next[PARTITIONS_MAX]; /* number of the next record */
};

/* What a delivery is for, in a pointer's place. */
static void *mark(int partition, int n)
{
    return (void *)((uintptr_t)n * PARTITIONS_MAX + (uintptr_t)partition);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void die(const char *what, const struct rv_error *e)
{
    fprintf(stderr, "%s: %s: %s\n", what, rv_error_name(e->code), e->text);
    exit(1);
}

static int below(struct writer *w, int n)
{
    w->random = w->random * 6364136223846793005U + 1442695040888963407U;
    return (int)((w->random >> 33) % (uint64_t)n);
}

static void on_log(void *ctx, enum rv_level level, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s %s\n", level == RV_WARN ? "W" : level == RV_INFO ? "I" : "D", text);
}

static void delivered(void *ctx, const struct rv_delivery *d)
{
    uintptr_t m = (uintptr_t)ctx;
    int partition = (int)(m % PARTITIONS_MAX);
    int n = (int)(m / PARTITIONS_MAX);
    if (d->partition != partition) {
        fprintf(stderr, "record %d of partition %d went to %d\n", n, partition, (int)d->partition);
        exit(1);
    }
    if (d->error) {
        printf("failed %d %d %s %d %s\n", partition, n, rv_error_name(d->error->code),
               (d->error->flags & RV_UNSURE) != 0, d->error->text);
    } else {
        printf("ack %d %d %" PRId64 "\n", partition, n, d->offset);
    }
}

static void send_one(struct writer *w)
{
    char value[VALUE_SIZE];
    int partition = below(w, w->partitions);
    int n = w->next[partition]++;
    struct rv_error e = {0};
    size_t head = (size_t)snprintf(value, 64, "%s/%d/%d/", w->name, partition, n);
    size_t size = head + (size_t)(n * PADDING_STEP % PADDING_MAX);
    for (size_t i = head; i < size; i++) {
        value[i] = value[i - head];
    }
    const struct rv_message message = {
        .topic = w->topic,
        .key = rv_str(w->name),
        .value = {value, size},
        .to_partition = true,
        .partition = partition
    };
    if (rv_send(w->producer, &message, delivered, mark(partition, n), &e) != RV_OK) {
        if (!(e.flags & RV_RETRIABLE)) {
            die("send", &e);
        }
        w->next[partition]--; /* the same record again, later */
        printf("refused %d %d %s %s\n", partition, n, rv_error_name(e.code), e.text);
    }
}

/* Until standard input ends. */
static void work(struct writer *w)
{
    struct rv_error e = {0};
    struct pollfd in = {.fd = 0, .events = POLLIN};
    while (poll(&in, 1, 0) == 0) {
        for (int left = 1 + below(w, BURST_MAX); left > 0; left--) {
            send_one(w);
        }
        int64_t until = now_ms() + 1 + below(w, PAUSE_MAX_MS);
        while (poll(&in, 1, 0) == 0 &&
               (now_ms() < until || rv_pending(w->producer) > PENDING_MAX)) {
            if (rv_wait(w->client, 1, &e) != RV_OK) {
                die("wait", &e);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct rv_error e = {0};
    if (argc < 6 || atoi(argv[4]) < 1 || atoi(argv[4]) > PARTITIONS_MAX) {
        fprintf(stderr, "usage: writer BROKER NAME TOPIC PARTITIONS SEED [OPTION=VALUE]...\n");
        return 2;
    }
    struct rv_option options[OPTIONS_MAX] = {
        {"bootstrap.servers", argv[1]}
    };
    struct writer w = {.name = argv[2],
                       .topic = argv[3],
                       .partitions = atoi(argv[4]),
                       .random = strtoull(argv[5], NULL, 10)};
    for (int i = 6, n = 1; i < argc && n < OPTIONS_MAX - 1; i++, n++) {
        char *value = strchr(argv[i], '=');
        if (!value) {
            fprintf(stderr, "not an option: %s\n", argv[i]);
            return 2;
        }
        *value++ = 0;
        options[n] = (struct rv_option){argv[i], value};
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (rv_client_open(options, &w.client, &e) != RV_OK) {
        die("client", &e);
    }
    rv_client_on_log(w.client, on_log, NULL);
    if (rv_producer_open(w.client, options, &w.producer, &e) != RV_OK) {
        die("producer", &e);
    }
    work(&w);
    int code = rv_flush(w.producer, FLUSH_MS, &e);
    for (int p = 0; p < w.partitions; p++) {
        printf("sent %d %d\n", p, w.next[p]);
    }
    printf("flushed %s %s\n", rv_error_name(code), e.text);
    rv_producer_close(w.producer);
    rv_client_close(w.client);
    return code == RV_OK ? 0 : 1;
}
