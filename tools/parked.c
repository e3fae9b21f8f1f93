/* rivulet parked list, show, send: what handlers of a group gave up on (client/park), and how it
 * gets back to them: to the group's first retry topic, not to the topic that all groups read.
 *
 * How far a parking topic was sent back is the committed offset of a group that is called like it.
 * It is moved after the records before it are stored: what is cut short sends some twice, which
 * their origin tells. Records are read twice, to be counted and to be sent, and never kept. */
#include "tools/tool.h"

#include "base/mem.h"
#include "client/park/rivulet_park.h"
#include "tools/record.h"
#include "tools/sender.h"
#include "tools/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    WAIT_MS = 100,   /* Ctrl-C is looked for so often */
    STEP = 1000,     /* records between two commits */
    SUFFIX_SIZE = 7, /* ".parked" */
};

/* A partition of a parking topic. */
struct part {
    int64_t from; /* offset: what was not sent back begins here */
    int64_t end;  /* offset: of the partition, when it was asked */
    int64_t at;   /* offset: behind what was taken */
};

struct parked {
    struct tool *tool;
    char topic[RV_PARK_NAME_SIZE]; /* for parking */
    char retry[RV_PARK_NAME_SIZE]; /* where they are sent to */
    const char *key;               /* only this one; NULL: all */
    int64_t limit;                 /* records; -1: none */
    struct part *parts;            /* owned */
    size_t count;
    struct stop stop;
    int64_t taken; /* records */
};

/* ---- what there is ---- */

/* How far it is sent back, for partitions that are there. */
static int offsets_ask(struct parked *p)
{
    struct rv_error e;
    struct rv_topics *topics;
    struct rv_group *group;
    struct tool *t = p->tool;
    if (rv_topic_describe(t->client, p->topic, t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    const struct rv_topic *topic = topics->items;
    int code = EXIT_DONE;
    p->count = topic->partition_count;
    p->parts = mem_zero(p->count, sizeof *p->parts);
    if (!p->parts) {
        code = tool_no_memory();
    }
    for (size_t i = 0; code == EXIT_DONE && i < p->count; i++) {
        const struct rv_topic_partition *in = &topic->partitions[i];
        p->parts[i] = (struct part){in->start_offset, in->end_offset, in->start_offset};
        if (in->code != RV_OK || in->end_offset < 0) {
            tool_say("topic %s partition %zu: its offsets are not known: %s", p->topic, i,
                     rv_error_name(in->code));
            code = EXIT_FAILED;
        }
    }
    rv_free(topics);
    if (code != EXIT_DONE ||
        rv_group_describe(t->client, p->topic, t->timeout_ms, &group, &e) != RV_OK) {
        return code != EXIT_DONE ? code : tool_failed(t, &e);
    }
    for (size_t i = 0; i < group->partition_count; i++) {
        const struct rv_group_partition *in = &group->partitions[i];
        if (strcmp(in->topic, p->topic) == 0 && in->partition >= 0 &&
            (size_t)in->partition < p->count &&
            in->committed_offset > p->parts[in->partition].from) {
            p->parts[in->partition].from = in->committed_offset;
        }
    }
    rv_free(group);
    return EXIT_DONE;
}

static int64_t waiting(const struct parked *p)
{
    int64_t n = 0;
    for (size_t i = 0; i < p->count; i++) {
        n += p->parts[i].end > p->parts[i].from ? p->parts[i].end - p->parts[i].from : 0;
    }
    return n;
}

static int list_one(struct tool *t, const char *topic, struct table *table)
{
    struct parked p = {.tool = t};
    int64_t records = 0;
    snprintf(p.topic, sizeof p.topic, "%s", topic);
    int code = offsets_ask(&p);
    for (size_t i = 0; code == EXIT_DONE && i < p.count; i++) {
        records += p.parts[i].end - p.parts[i].at; /* `at` is the start */
    }
    if (code == EXIT_DONE && t->json) {
        json_t *o = json_pack("{s:o,s:I,s:I}", "topic", json_text(topic), "offsets",
                              (json_int_t)records, "waiting", (json_int_t)waiting(&p));
        code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    } else if (code == EXIT_DONE) {
        table_add(table, "%s", topic);
        table_add_offset(table, records);
        table_add_offset(table, waiting(&p));
    }
    mem_free(p.parts);
    return code;
}

int verb_parked_list(struct tool *t)
{
    static const char *const heads[] = {"TOPIC", ">OFFSETS", ">WAITING"};
    struct rv_error e;
    struct rv_topics *all;
    struct table table;
    if (rv_topic_list(t->client, t->timeout_ms, &all, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code = EXIT_DONE;
    table_init(&table, heads, 3);
    for (size_t i = 0; code == EXIT_DONE && i < all->count; i++) {
        size_t size = strlen(all->items[i].name);
        if (size > SUFFIX_SIZE && strcmp(all->items[i].name + size - SUFFIX_SIZE, ".parked") == 0) {
            code = list_one(t, all->items[i].name, &table);
        }
    }
    rv_free(all);
    int printed = t->json ? EXIT_DONE : table_print(&table, stdout);
    return code != EXIT_DONE ? code : printed;
}

/* ---- going through the records ---- */

static int parked_init(struct parked *p, struct tool *t)
{
    *p = (struct parked){.tool = t, .key = tool_value(t, 'K'), .limit = -1, .stop.fd = -1};
    if (!rv_park_topic(t->args[0], t->args[1], 0, p->topic) ||
        !rv_park_topic(t->args[0], t->args[1], 1, p->retry)) {
        return tool_usage(t, "no topic can be called %.100s.%.100s.parked", t->args[0], t->args[1]);
    }
    if (tool_has(t, 'l') &&
        !tool_number(t, "--limit", tool_value(t, 'l'), 1, INT64_MAX, &p->limit)) {
        return EXIT_USAGE;
    }
    return offsets_ask(p);
}

static bool is_wanted(const struct parked *p, const struct rv_record *r)
{
    size_t size = p->key ? strlen(p->key) : 0;
    return !p->key || (r->key.ptr && r->key.size == size && memcmp(r->key.ptr, p->key, size) == 0);
}

static bool is_over(const struct parked *p, struct rv_consumer *consumer)
{
    const struct rv_partition *list;
    size_t count = rv_assignment(consumer, &list);
    bool over = p->limit >= 0 && p->taken >= p->limit;
    for (size_t i = 0; !over && i < count; i++) {
        if (list[i].offset < p->parts[list[i].partition].end) {
            return false;
        }
    }
    return true;
}

static int consumer_open(struct parked *p, struct rv_consumer **ret_consumer)
{
    struct rv_error e;
    struct rv_partition *list = mem_zero(p->count, sizeof *list);
    size_t n = 0;
    if (!list) {
        return tool_no_memory();
    }
    for (size_t i = 0; i < p->count; i++) {
        p->parts[i].at = p->parts[i].from;
        if (p->parts[i].from < p->parts[i].end) {
            list[n++] = (struct rv_partition){.topic = p->topic,
                                              .partition = (int32_t)i,
                                              .offset = p->parts[i].from,
                                              .leader_epoch = -1};
        }
    }
    int code = rv_consumer_open(p->tool->client, p->tool->options, ret_consumer, &e);
    if (code == RV_OK) {
        code = rv_assign(*ret_consumer, list, n, &e);
    }
    mem_free(list);
    return code == RV_OK ? EXIT_DONE : tool_failed(p->tool, &e);
}

/* Gives the records that are wanted, in order, to `fn`, until the ends of now, the limit or Ctrl-C.
 */
static int walk(struct parked *p, int (*fn)(struct parked *p, const struct rv_record *r, void *ctx),
                void *ctx)
{
    struct rv_error e;
    struct rv_consumer *consumer = NULL;
    int code = consumer_open(p, &consumer);
    p->taken = 0;
    while (code == EXIT_DONE && !is_over(p, consumer) && !p->stop.at_ms) {
        const struct rv_record *records;
        size_t count;
        if (rv_poll(consumer, WAIT_MS, &records, &count, &e) != RV_OK) {
            code = tool_failed(p->tool, &e);
            break;
        }
        for (size_t i = 0; code == EXIT_DONE && i < count && !p->stop.at_ms; i++) {
            struct part *part = &p->parts[records[i].partition];
            if (records[i].offset >= part->end || (p->limit >= 0 && p->taken >= p->limit)) {
                continue;
            }
            if (is_wanted(p, &records[i])) {
                code = fn(p, &records[i], ctx);
                p->taken += code == EXIT_DONE;
            }
            part->at = code == EXIT_DONE ? records[i].offset + 1 : part->at;
        }
        stop_take(&p->stop);
    }
    rv_consumer_close(consumer, 0, NULL);
    return code;
}

/* ---- show ---- */

static struct rv_bytes header_of(const struct rv_record *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++) {
        const struct rv_header *h = &r->headers[i];
        if (h->name.size == strlen(name) && memcmp(h->name.ptr, name, h->name.size) == 0 &&
            h->value.ptr) {
            return h->value;
        }
    }
    return RV_STR("?");
}

/* What comes from a record may hold anything: no control character reaches the terminal. */
static void plain_write(struct rv_bytes b)
{
    const unsigned char *text = b.ptr;
    for (size_t i = 0; i < b.size; i++) {
        putchar(text[i] < ' ' || text[i] == 127 ? '.' : text[i]);
    }
}

/* A reader that has gone (`| head`) is no failure. */
static int output_lost(struct parked *p)
{
    p->limit = p->taken;
    if (errno == EPIPE) {
        return EXIT_DONE;
    }
    tool_say("cannot write the output: %s", strerror(errno));
    return EXIT_FAILED;
}

static int record_show(struct parked *p, const struct rv_record *r, void *ctx)
{
    const struct record_out *out = ctx;
    if (out->json || out->format.count) {
        return record_write(out, stdout, r) ? EXIT_DONE : output_lost(p);
    }
    plain_write(header_of(r, "__dlq.errors.topic"));
    putchar(' ');
    plain_write(header_of(r, "__dlq.errors.partition"));
    putchar('/');
    plain_write(header_of(r, "__dlq.errors.offset"));
    printf("\tfailed ");
    plain_write(header_of(r, "__dlq.errors.delivery.count"));
    printf(" times\t");
    plain_write(r->key.ptr ? r->key : RV_STR("(no key)"));
    putchar('\t');
    plain_write(header_of(r, "__dlq.errors.message"));
    putchar('\n');
    return ferror(stdout) ? output_lost(p) : EXIT_DONE;
}

int verb_parked_show(struct tool *t)
{
    struct parked p;
    struct record_out out;
    if (!record_out_init(t, &out)) {
        return EXIT_USAGE;
    }
    int code = parked_init(&p, t);
    if (code == EXIT_DONE) {
        stop_catch(&p.stop);
        code = walk(&p, record_show, &out);
        stop_finish(&p.stop);
    }
    mem_free(p.parts);
    record_out_finish(&out);
    return code;
}

/* ---- send ---- */

static int record_count(struct parked *p, const struct rv_record *r, void *ctx)
{
    (void)p;
    (void)r;
    (void)ctx;
    return EXIT_DONE;
}

/* Waits until all is stored, then says how far it got; of single keys nothing is said. */
static int step_end(struct parked *p, struct sender *s)
{
    struct rv_error e;
    if (rv_flush(s->producer, p->tool->timeout_ms, &e) != RV_OK) {
        return tool_failed(p->tool, &e);
    }
    if (p->key) {
        return EXIT_DONE;
    }
    struct rv_partition *list = mem_zero(p->count, sizeof *list);
    if (!list) {
        return tool_no_memory();
    }
    for (size_t i = 0; i < p->count; i++) {
        list[i] = (struct rv_partition){.topic = p->topic,
                                        .partition = (int32_t)i,
                                        .offset = p->parts[i].at,
                                        .leader_epoch = -1};
    }
    int code =
        rv_group_set_offsets(p->tool->client, p->topic, list, p->count, p->tool->timeout_ms, &e);
    mem_free(list);
    return code == RV_OK ? EXIT_DONE : tool_failed(p->tool, &e);
}

static int record_send(struct parked *p, const struct rv_record *r, void *ctx)
{
    struct sender *s = ctx;
    char where[64];
    struct rv_message m = {
        .key = r->key, .value = r->value, .headers = r->headers, .header_count = r->header_count};
    snprintf(where, sizeof where, "partition %d offset %lld", (int)r->partition,
             (long long)r->offset);
    int code = p->taken && p->taken % STEP == 0 ? step_end(p, s) : EXIT_DONE;
    code = code == EXIT_DONE ? sender_send(s, &m, where) : code;
    /* stopped while it waited for room: this one was not taken */
    return code == EXIT_DONE && p->stop.at_ms && s->sent == (uint64_t)p->taken ? EXIT_FAILED : code;
}

static int send_all(struct parked *p)
{
    struct sender s = {.tool = p->tool, .stop = &p->stop};
    int code = sender_open(&s, p->tool, p->tool->client, p->retry);
    if (code == EXIT_DONE) {
        progress_begin(&s.progress, "sent", p->taken, true);
        code = walk(p, record_send, &s);
        progress_end(&s.progress);
        int ended = s.failed ? EXIT_FAILED : step_end(p, &s);
        code = code != EXIT_DONE ? code : ended;
    }
    int code_end = sender_end(&s, code);
    sender_close(&s);
    if (p->stop.at_ms) {
        tool_say("stopped: sent %llu records", (unsigned long long)s.delivered);
    }
    return code_end;
}

int verb_parked_send(struct tool *t)
{
    struct parked p;
    bool dry = tool_has(t, 'D');
    int code = parked_init(&p, t);
    if (code != EXIT_DONE) {
        mem_free(p.parts);
        return code;
    }
    stop_catch(&p.stop);
    code = walk(&p, record_count, NULL);
    int64_t found = p.taken;
    if (code == EXIT_DONE && p.stop.at_ms) {
        code = EXIT_FAILED;
    }
    if (code == EXIT_DONE && found && !dry) {
        code =
            tool_confirm(t, "send %lld record%s of %s back to group %s, by topic %s",
                         (long long)found, found == 1 ? "" : "s", t->args[0], t->args[1], p.retry);
    }
    if (code == EXIT_DONE && found && !dry) {
        code = send_all(&p);
    }
    if (code == EXIT_DONE && t->json) {
        json_t *o = json_pack("{s:o,s:o,s:I,s:b}", "topic", json_text(p.retry), "group",
                              json_text(t->args[1]), "records", (json_int_t)found, "done",
                              (int)(!dry && found > 0));
        code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    } else if (code == EXIT_DONE) {
        tool_print("%s %lld record%s to %s", dry ? "would send" : "sent", (long long)found,
                   found == 1 ? "" : "s", p.retry);
    }
    stop_finish(&p.stop);
    mem_free(p.parts);
    return code;
}
