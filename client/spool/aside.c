/* Setting events aside, and what is missing since when. */
#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"
#include "protocol/error.h"

#include <stdio.h>

/* ---- what was refused ---- */

static void tell(struct rv_spool *s, size_t i, const struct refusal *why)
{
    pthread_mutex_lock(&s->lock);
    rv_spool_event_fn *fn = s->on_refused;
    void *ctx = s->on_refused_ctx;
    pthread_mutex_unlock(&s->lock);
    if (!fn) {
        return;
    }
    const struct event *e = &s->window.events[i];
    char text[sizeof((struct rv_error *)0)->text];
    snprintf(text, sizeof text, "%.*s", STR_ARG(why->why));
    struct rv_spool_event out = {.number = s->plan.first + i,
                                 .appended_ms = e->appended_ms,
                                 .code = why->code,
                                 .unsure = why->is_unsure,
                                 .why = text};
    struct rv_header *headers = NULL;
    char topic[PLAN_TOPIC_SIZE];
    if (event_message(e, topic, &out.message, &headers) == OK) {
        fn(ctx, &out);
    }
    mem_free(headers);
}

int aside(struct sender *q, const uint16_t *which, size_t count, const struct refusal *why)
{
    struct rv_spool *s = q->spool;
    size_t done = 0;
    int code = RV_OK;
    bool is_new[PLAN_EVENTS] = {false};
    pthread_mutex_lock(&s->lock);
    for (; code == RV_OK && done < count; done++) {
        size_t i = which[done];
        if (s->is_aside[i]) {
            continue;
        }
        struct refusal r = *why;
        r.number = s->plan.first + i;
        r.event = s->window.events[i].body;
        code = spool_refuse_locked(s, &r, &q->error);
        is_new[i] = s->is_aside[i] = code == RV_OK;
    }
    struct rv_error sync_error = {0};
    int synced = s->refused.file ? chain_sync(&s->refused, &sync_error) : RV_OK; /* S4 */
    pthread_mutex_unlock(&s->lock);
    if (synced != RV_OK) {
        q->error = sync_error;
        return synced;
    }
    for (size_t n = 0; n < done; n++) {
        if (is_new[which[n]]) {
            tell(s, which[n], why);
        }
    }
    return code;
}

/* ---- what is missing ---- */

void place_key(char key[PLACE_KEY_SIZE], const char *topic, int32_t partition)
{
    if (partition < 0) {
        snprintf(key, PLACE_KEY_SIZE, "%s", topic);
    } else {
        snprintf(key, PLACE_KEY_SIZE, "%s/%d", topic, (int)partition);
    }
}

bool missing_note(struct rv_spool *s, const char *key, bool *ret_no_memory)
{
    int64_t now_ms = clock_mono_ms(s->clock);
    int64_t *since = map_get_str(&s->missing, str_of(key));
    *ret_no_memory = false;
    if (!since) {
        since = mem_dup(&now_ms, sizeof now_ms);
        if (!since || map_put_str(&s->missing, str_of(key), since) != OK) {
            mem_free(since);
            *ret_no_memory = true;
            return false;
        }
    }
    return now_ms - *since >= s->settings.topic_wait_ms;
}

void missing_forget(struct rv_spool *s, const char *key)
{
    mem_free(map_remove_str(&s->missing, str_of(key)));
}

void missing_unasked(struct sender *q, int code)
{
    struct rv_spool *s = q->spool;
    bool is_time_up = code == RV_E_TIMED_OUT && sender_time_left(q) == 0; /* the caller's */
    bool is_away = code == RV_E_CONNECT || code == RV_E_LOST || code == RV_E_TIMED_OUT ||
                   code == KERR_BROKER_NOT_AVAILABLE;
    if (!is_away || is_time_up) {
        return;
    }
    uint64_t seed = s->missing.seed;
    for (struct map_entry *e = map_first(&s->missing); e; e = map_next(e)) {
        mem_free(map_value(e));
    }
    map_finish(&s->missing);
    map_init(&s->missing, seed);
}
