/* A member of a group, on librivulet, for programs that start several of several kinds.
 *
 *     member BROKER GROUP TOPIC[,TOPIC]... [OPTION=VALUE]...
 *     member BROKER - TOPIC/PARTITION[,TOPIC/PARTITION]... [OPTION=VALUE]...
 *
 * The second form is no member: it reads those partitions from their starts, and commits nothing.
 *
 * Standard output, a line an event; NOW is nanoseconds of the monotonic clock, PLACES are
 * TOPIC/PARTITION:OFFSET, with a space before each:
 *
 *     own NOW PLACES          came from the group
 *     give NOW PLACES         go back, and lost NOW PLACES: were taken
 *     jump NOW FROM TO TOPIC/PARTITION WHY
 *     read NOW TOPIC/PARTITION OFFSET VALUE
 *     try NOW PLACES          is committed now; then: done NOW, or refused NOW WHY
 *     error NOW CODE WHY      of rv_poll
 *     awake NOW               a command of standard input is done
 *     bye NOW CODE            closed, with what rv_consumer_close gave
 *
 * With delivery=manual, which is the default, it commits after each rv_poll that gave records.
 * Lines of standard input are commands: `silent MS` makes no call of the library for so long,
 * `driven MS` drives the client for so long without rv_poll. Its end makes the member leave.
 * Standard error has the library's log.
 *
 * MEMBER_GIVE_MS in the environment: so long it takes to give partitions up, in milliseconds, as a
 * service does that has work to finish. `give` is printed behind that.
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
    TOPICS_MAX = 8,
    TOPIC_SIZE = 256,
    LINE_SIZE = 128,
    VALUE_SHOWN = 60, /* bytes of a record's value that are printed */
    POLL_MS = 50,
    CLOSE_MS = 20000,
};

struct member {
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_option options[OPTIONS_MAX];
    int option_count;
    int64_t give_ms;      /* MEMBER_GIVE_MS */
    bool commits;         /* by itself: delivery=manual */
    bool pending;         /* something was read that is not committed */
    char line[LINE_SIZE]; /* of standard input, as far as it came */
    size_t line_size;     /* bytes */
    bool leaving;         /* standard input has ended */
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what, const struct rv_error *e)
{
    fprintf(stderr, "%s: %s: %s\n", what, rv_error_name(e->code), e->text);
    exit(1);
}

static void silent(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0) {
    }
}

static void say_place(const struct rv_partition *p)
{
    printf(" %s/%d:%" PRId64, p->topic, (int)p->partition, p->offset);
}

static void say_places(const char *what, const struct rv_partition *p, size_t count)
{
    printf("%s %" PRId64, what, now_ns());
    for (size_t i = 0; i < count; i++) {
        say_place(&p[i]);
    }
    printf("\n");
}

static void on_log(void *ctx, enum rv_level level, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s %s\n", level == RV_WARN ? "W" : level == RV_INFO ? "I" : "D", text);
}

/* What was read and is not committed yet. A refusal leaves it so: rv_poll finds out what is ours.
 */
static void commit(struct member *m)
{
    const struct rv_partition *places;
    struct rv_error e = {0};
    size_t count = rv_assignment(m->consumer, &places);
    printf("try %" PRId64, now_ns());
    for (size_t i = 0; i < count; i++) {
        if (places[i].offset >= 0) { /* others have no position yet, and are not committed */
            say_place(&places[i]);
        }
    }
    printf("\n");
    if (rv_commit(m->consumer, NULL, 0, &e) == RV_OK) {
        m->pending = false;
        printf("done %" PRId64 "\n", now_ns());
    } else {
        printf("refused %" PRId64 " %s %s\n", now_ns(), rv_error_name(e.code), e.text);
        if (e.flags & RV_FATAL) {
            die("commit", &e);
        }
    }
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct member *m = ctx;
    switch (event->kind) {
    case RV_ASSIGNED: say_places("own", event->partitions, event->count); break;
    case RV_REVOKED:
        if (m->commits && m->pending) {
            commit(m);
        }
        silent(m->give_ms);
        say_places("give", event->partitions, event->count);
        break;
    case RV_LOST: say_places("lost", event->partitions, event->count); break;
    case RV_JUMPED:
        printf("jump %" PRId64 " %" PRId64 " %" PRId64 " %s/%d %s\n", now_ns(), event->from,
               event->to, event->partitions[0].topic, (int)event->partitions[0].partition,
               event->text);
        break;
    default: break;
    }
}

static void driven(struct member *m, int64_t ms)
{
    struct rv_error e;
    int64_t until = now_ns() + ms * 1000000;
    while (now_ns() < until) {
        if (rv_wait(m->client, POLL_MS, &e) != RV_OK) {
            die("wait", &e);
        }
    }
}

static void obey(struct member *m)
{
    char *end = NULL;
    if (strncmp(m->line, "silent ", 7) == 0) {
        silent(strtol(m->line + 7, &end, 10));
    } else if (strncmp(m->line, "driven ", 7) == 0) {
        driven(m, strtol(m->line + 7, &end, 10));
    }
    if (!end || *end) {
        fprintf(stderr, "not a command: %s\n", m->line);
        exit(2);
    }
    printf("awake %" PRId64 "\n", now_ns());
}

/* Takes in what standard input has, without waiting. */
static void listen_to_input(struct member *m)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    while (!m->leaving && poll(&in, 1, 0) > 0) {
        ssize_t n = read(0, m->line + m->line_size, 1);
        if (n <= 0) {
            m->leaving = true;
        } else if (m->line[m->line_size] == '\n') {
            m->line[m->line_size] = 0;
            m->line_size = 0;
            obey(m);
        } else if (++m->line_size == sizeof m->line) {
            fprintf(stderr, "a line of standard input is too long\n");
            exit(2);
        }
    }
}

static void take(struct member *m, const struct rv_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct rv_record *r = &records[i];
        int shown = (int)(r->value.size < VALUE_SHOWN ? r->value.size : VALUE_SHOWN);
        printf("read %" PRId64 " %s/%d %" PRId64 " %.*s\n", now_ns(), r->topic, (int)r->partition,
               r->offset, shown, (const char *)r->value.ptr);
    }
    m->pending |= count > 0;
}

static void work(struct member *m)
{
    while (!m->leaving) {
        const struct rv_record *records;
        size_t count;
        struct rv_error e = {0};
        if (rv_poll(m->consumer, POLL_MS, &records, &count, &e) != RV_OK) {
            printf("error %" PRId64 " %s %s\n", now_ns(), rv_error_name(e.code), e.text);
            if (e.flags & RV_FATAL) {
                die("poll", &e);
            }
        }
        take(m, records, count);
        if (m->commits && m->pending) {
            commit(m);
        }
        listen_to_input(m);
    }
}

/* "NAME=VALUE", which is cut in two. */
static void option_add(struct member *m, char *text)
{
    char *value = strchr(text, '=');
    if (!value || m->option_count == OPTIONS_MAX - 1) {
        fprintf(stderr, "not an option, or too many: %s\n", text);
        exit(2);
    }
    *value++ = 0;
    m->options[m->option_count++] = (struct rv_option){text, value};
    if (strcmp(text, "delivery") == 0) {
        m->commits = strcmp(value, "manual") == 0;
    }
}

static size_t split(char *list, char **ret_names)
{
    size_t count = 0;
    char *rest = NULL;
    for (char *t = strtok_r(list, ",", &rest); t; t = strtok_r(NULL, ",", &rest)) {
        if (count == TOPICS_MAX) {
            fprintf(stderr, "more than %d topics\n", TOPICS_MAX);
            exit(2);
        }
        ret_names[count++] = t;
    }
    return count;
}

static int assign(struct member *m, char **names, size_t count, struct rv_error *ret_error)
{
    struct rv_partition partitions[TOPICS_MAX];
    for (size_t i = 0; i < count; i++) {
        char *slash = strchr(names[i], '/');
        if (!slash) {
            fprintf(stderr, "not TOPIC/PARTITION: %s\n", names[i]);
            exit(2);
        }
        *slash = 0;
        partitions[i] = (struct rv_partition){
            .topic = names[i], .partition = atoi(slash + 1), .offset = RV_START};
    }
    m->commits = false;
    return rv_assign(m->consumer, partitions, count, ret_error);
}

static void open_member(struct member *m, bool is_member, char *list)
{
    struct rv_error e = {0};
    char *names[TOPICS_MAX];
    size_t count = split(list, names);
    if (rv_client_open(m->options, &m->client, &e) != RV_OK) {
        die("client", &e);
    }
    rv_client_on_log(m->client, on_log, NULL);
    if (rv_consumer_open(m->client, m->options, &m->consumer, &e) != RV_OK) {
        die("consumer", &e);
    }
    rv_consumer_on_event(m->consumer, on_event, m);
    int code = is_member ? rv_subscribe(m->consumer, (const char *const *)names, count, &e)
                         : assign(m, names, count, &e);
    if (code != RV_OK) {
        die("subscribe", &e);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: member BROKER GROUP TOPIC[,TOPIC]... [OPTION=VALUE]...\n");
        return 2;
    }
    struct member m = {
        .options = {{"bootstrap.servers", argv[1]}, {"group.id", argv[2]}},
        .option_count = 2,
        .commits = true
    };
    const char *give = getenv("MEMBER_GIVE_MS");
    m.give_ms = give ? strtol(give, NULL, 10) : 0;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (int i = 4; i < argc; i++) {
        option_add(&m, argv[i]);
    }
    open_member(&m, strcmp(argv[2], "-") != 0, argv[3]);
    work(&m);
    struct rv_error e = {0};
    int code = rv_consumer_close(m.consumer, CLOSE_MS, &e);
    printf("bye %" PRId64 " %s %s\n", now_ns(), rv_error_name(code), e.text);
    rv_client_close(m.client);
    return 0;
}
