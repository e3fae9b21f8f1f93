/* view: what a struct rv_view is made of. view.c moves it on; open.c opens and closes it; memory.c,
 * keys.c and snapshot.c are the storage in memory. */
#pragma once

#include "client/view/memory.h"

enum { VIEW_WHY_SIZE = 200 };

/* The second look of V3. */
enum confirm { CONFIRM_NOT_YET, CONFIRM_DUE, CONFIRM_DONE };

struct rv_view {
    struct rv_client *client; /* borrowed */
    char *topic;              /* owned */
    struct rv_view_storage storage;
    struct view_memory *memory; /* the storage, when it is our own; else NULL */
    bool is_loaded;             /* the storage is ours to close */
    struct rv_consumer *consumer;
    struct rv_view_state state;      /* as stored; positions owned */
    int64_t *ends;                   /* owned; by partition: what a look at the topic found */
    int64_t ends_ms;                 /* wall time before that look */
    int64_t looked_ms;               /* likewise, before the last look */
    int64_t looked_mono_ms;          /* the same, monotonic: wall time may jump */
    bool is_waiting;                 /* for the positions to reach `ends` */
    enum confirm confirm;            /* of V3 */
    bool begins;                     /* BEGIN */
    bool assigns;                    /* the consumer is to be given the positions anew */
    int64_t check_at_ms;             /* monotonic: the next look */
    int64_t check_ms;                /* between looks */
    int64_t at_ms;                   /* records younger than that are passed over; 0: none */
    struct rv_bytes only;            /* owned; the one key that is wanted; NULL: all */
    const struct rv_record *records; /* the batch: borrowed until the next rv_poll */
    size_t record_count;             /* of it; 0: applied */
    int64_t applied;                 /* records, since the view was opened */
    char why[VIEW_WHY_SIZE];         /* of the last BEGIN, or of a file not taken */
    rv_view_change_fn *on_change;
    void *change_ctx;
    void (*on_rebuild)(void *ctx, const char *why);
    void *rebuild_ctx;
};

/* Looks at the topic: its id, and where every partition starts and ends. rv_free. */
int view_topic_look(struct rv_view *v, int timeout_ms, struct rv_topics **ret_topics,
                    struct rv_error *e);
/* Room for the partitions that the topic has now; new ones are read from the start. */
int view_partitions_take(struct rv_view *v, const struct rv_topic *t, struct rv_error *e);
/* The ends that are to be reached are those of `t`. */
void view_ends_take(struct rv_view *v, const struct rv_topic *t);
/* Begins anew: another generation, from the start of `t`. */
int view_generation_begin(struct rv_view *v, const struct rv_topic *t, struct rv_error *e);
/* Milliseconds that the topic remembers removals for; -1: it is not compacted, or nobody says. */
int view_retention(struct rv_view *v, int timeout_ms, int64_t *ret_ms, struct rv_error *e);
/* Whether it was away for longer than the topic remembers removals: then it begins anew. It was
 * `away_ms` without what was new, or nobody knows (negative: the clock was set back). */
int view_away_check(struct rv_view *v, int64_t away_ms, int timeout_ms, struct rv_error *e);
void view_rebuild_need(struct rv_view *v, const char *why);
bool view_is_passing(const struct rv_error *e);           /* asking again may help */
void view_event(void *ctx, const struct rv_event *event); /* of the consumer */
