/* Spools (client/spool): what is in one, and sending it. */
#include "client/spool/rivulet_spool.h"
#include "tools/tool.h"

#include <inttypes.h>
#include <string.h>

struct show {
    const struct tool *tool;
    struct table waiting, aside;
    bool output_failed;
};

static const char *const waiting_heads[] = {">NUMBER",  "TOPIC",      ">PARTITION",
                                            "APPENDED", ">KEY BYTES", ">VALUE BYTES"};
static const char *const aside_heads[] = {">NUMBER", "TOPIC", ">PARTITION", "APPENDED", "WHY"};

enum {
    WAITING_COLUMNS = sizeof waiting_heads / sizeof waiting_heads[0],
    ASIDE_COLUMNS = sizeof aside_heads / sizeof aside_heads[0],
};

static json_t *event_json(const struct rv_spool_event *e)
{
    const struct rv_message *m = &e->message;
    json_t *headers = json_array();
    for (size_t i = 0; headers && i < m->header_count; i++) {
        json_t *pair =
            json_pack("[o,o]", json_bytes(m->headers[i].name), json_bytes(m->headers[i].value));
        if (json_array_append_new(headers, pair) != 0) {
            json_decref(headers);
            headers = NULL;
        }
    }
    json_t *o =
        json_pack("{s:s,s:I,s:o,s:o,s:I,s:o,s:o,s:o,s:o}", "kind", e->code ? "set_aside" : "event",
                  "number", (json_int_t)e->number, "topic", json_text(m->topic), "partition",
                  m->to_partition ? json_integer(m->partition) : json_null(), "appended_ms",
                  (json_int_t)e->appended_ms, "timestamp_ms", json_offset(m->timestamp_ms), "key",
                  json_bytes(m->key), "value", json_bytes(m->value), "headers", headers);
    if (o && e->code &&
        (json_object_set_new(o, "error", json_text(rv_error_name(e->code))) ||
         json_object_set_new(o, "why", json_text(e->why)) ||
         json_object_set_new(o, "unsure", json_boolean(e->unsure)))) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

static void event_place(struct table *to, const struct rv_spool_event *e)
{
    char appended[TIME_TEXT_SIZE];
    time_text(e->appended_ms, appended);
    table_add(to, "%" PRIu64, e->number);
    table_add(to, "%s", e->message.topic);
    table_add_offset(to, e->message.to_partition ? e->message.partition : -1);
    table_add(to, "%s", appended);
}

static void event_show(void *ctx, const struct rv_spool_event *e)
{
    struct show *s = ctx;
    if (!e->code && !tool_has(s->tool, 'r')) {
        return;
    }
    if (s->tool->json) {
        s->output_failed |= !json_line(stdout, event_json(e));
    } else if (e->code) {
        event_place(&s->aside, e);
        table_add(&s->aside, "%s", e->why);
    } else {
        event_place(&s->waiting, e);
        table_add(&s->waiting, "%zu", e->message.key.size);
        table_add(&s->waiting, "%zu", e->message.value.size);
    }
}

static int spool_failed(const struct tool *t, const struct rv_error *e)
{
    if (e->code == RV_E_ABSENT) { /* what tool_failed says of it is about topics */
        tool_say("%s", e->text);
        return EXIT_FAILED;
    }
    return tool_failed(t, e);
}

static json_t *status_json(const struct rv_spool_status *st)
{
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:o}", "kind", "summary", "waiting",
                     (json_int_t)st->events, "set_aside", (json_int_t)st->refused, "delivered_to",
                     (json_int_t)st->delivered, "bytes", (json_int_t)st->bytes, "oldest_ms",
                     json_offset(st->oldest_ms));
}

static void status_print(const struct rv_spool_status *st)
{
    char oldest[TIME_TEXT_SIZE + sizeof ", the oldest since "] = "";
    if (st->oldest_ms >= 0) {
        char text[TIME_TEXT_SIZE];
        time_text(st->oldest_ms, text);
        snprintf(oldest, sizeof oldest, ", the oldest since %s", text);
    }
    tool_print("%" PRIu64 " waiting%s; %" PRIu64 " set aside; delivered up to number %" PRIu64
               "; %" PRId64 " bytes",
               st->events, oldest, st->refused, st->delivered, st->bytes);
}

int verb_spool_show(struct tool *t)
{
    struct show s = {.tool = t};
    struct rv_spool_status st;
    struct rv_error e;
    table_init(&s.waiting, waiting_heads, WAITING_COLUMNS);
    table_init(&s.aside, aside_heads, ASIDE_COLUMNS);
    int code = rv_spool_show(t->args[0], event_show, &s, &st, &e);
    int result = EXIT_DONE;
    if (s.waiting.count || s.waiting.failed) {
        result = table_print(&s.waiting, stdout);
    }
    if (result == EXIT_DONE && (s.aside.count || s.aside.failed)) {
        result = table_print(&s.aside, stdout);
    }
    if (code != RV_OK) {
        return spool_failed(t, &e); /* what came before the damage is shown */
    }
    if (t->json) {
        s.output_failed |= !json_line(stdout, status_json(&st));
    } else {
        status_print(&st);
    }
    return output_end(s.output_failed ? EXIT_FAILED : result);
}

/* ---- send, retry ---- */

static void aside_say(void *ctx, const struct rv_spool_event *e)
{
    (void)ctx;
    tool_say("event %" PRIu64 " for topic %s is set aside: %s", e->number, e->message.topic,
             e->why);
}

/* What is there to send is sent; *ret_before and *ret_after as the status had it. */
static int spool_send(struct tool *t, struct rv_spool *spool, struct rv_spool_status *ret_before,
                      struct rv_spool_status *ret_after)
{
    struct rv_error e, closing;
    rv_spool_status(spool, ret_before);
    rv_spool_on_refused(spool, aside_say, NULL);
    int code = rv_spool_send(spool, t->client, t->timeout_ms, &e);
    rv_spool_status(spool, ret_after);
    int closed = rv_spool_close(spool, &closing);
    if (code != RV_OK) {
        return tool_failed(t, &e);
    }
    return closed == RV_OK ? EXIT_DONE : tool_failed(t, &closing);
}

/* One that is there: none is made here. Else the exit code. */
static int spool_open(struct tool *t, struct rv_spool **ret_spool)
{
    struct rv_spool_status st;
    struct rv_error e;
    if (rv_spool_show(t->args[0], NULL, NULL, &st, &e) != RV_OK) {
        return spool_failed(t, &e);
    }
    const struct rv_option *o =
        RV_OPTIONS({"spool.dir", t->args[0]},
                   {"compression.type", tool_has(t, 'z') ? tool_value(t, 'z') : "none"});
    return rv_spool_open(o, ret_spool, &e) == RV_OK ? EXIT_DONE : tool_failed(t, &e);
}

int verb_spool_retry(struct tool *t)
{
    struct rv_spool *spool = NULL;
    struct rv_error e, closing;
    uint64_t count = 0;
    int opened = spool_open(t, &spool);
    if (opened != EXIT_DONE) {
        return opened;
    }
    int code =
        rv_spool_retry(spool, t->arg_count > 1 ? t->args[1] : NULL, tool_has(t, 'U'), &count, &e);
    int closed = rv_spool_close(spool, &closing);
    if (code != RV_OK || closed != RV_OK) {
        return tool_failed(t, code != RV_OK ? &e : &closing);
    }
    if (t->json) {
        return output_end(json_line(stdout, json_pack("{s:I}", "events", (json_int_t)count))
                              ? EXIT_DONE
                              : EXIT_FAILED);
    }
    tool_print("%" PRIu64 " wait to be sent again", count);
    return output_end(EXIT_DONE);
}

int verb_spool_send(struct tool *t)
{
    struct rv_spool_status before, after;
    struct rv_spool *spool = NULL;
    int opened = spool_open(t, &spool);
    if (opened != EXIT_DONE) {
        return opened;
    }
    int code = spool_send(t, spool, &before, &after);
    uint64_t aside = after.refused - before.refused;
    uint64_t delivered = after.delivered - before.delivered - aside;
    if (t->json) {
        bool is_written = json_line(
            stdout, json_pack("{s:I,s:I,s:I}", "delivered", (json_int_t)delivered, "set_aside",
                              (json_int_t)aside, "waiting", (json_int_t)after.events));
        code = is_written ? code : EXIT_FAILED;
    } else {
        tool_print("%" PRIu64 " delivered, %" PRIu64 " set aside, %" PRIu64 " waiting", delivered,
                   aside, after.events);
    }
    return output_end(code == EXIT_DONE && aside ? EXIT_FAILED : code);
}
