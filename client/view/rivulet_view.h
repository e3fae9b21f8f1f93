/* rivulet_view.h: the latest value of every key of a topic, kept here. Part of rivulet, on top of
 * rivulet.h; link librivulet-view. This header is the manual.
 *
 * WHAT FOR. A topic whose records say what is so now (users by id, prices by article) is a table
 * that is written down as its changes. A view reads it from the start into a table again: that is
 * how a new service gets its first copy, and how a cache is kept right afterwards.
 *
 *     rv_view_open(client, "users", options, NULL, 30000, &view, &e);
 *     while (!rv_view_is_complete(view)) rv_view_poll(view, 1000, &e);
 *     rv_view_get(view, RV_STR("ada"), &entry, &e);
 *     for (;;) rv_view_poll(view, 1000, &e);          ... and goes on
 *
 * COMPLETE means: everything has been read that was in the topic when the view was opened (or began
 * anew). Before that rv_view_get may miss keys, and answer with what is old.
 *
 * THE RULES. The last record of a key counts, one whose value is null removes it. A record without
 * a key says nothing about any: it is passed over and counted (struct rv_view_stats). Keys belong
 * to one partition; where a topic has grown (rv_topic_grow) and a key has moved, the record with
 * the later timestamp counts, whichever is read first, until the view is complete; afterwards a
 * removal is not remembered.
 *
 * NO HIDDEN THREADS. Everything happens inside of rv_view_poll. It belongs to the client's thread,
 * like all that is opened on a client. With your own loop: wait for rv_fd and rv_timeout, then
 * rv_view_poll with timeout 0. That does not block, but for one question about the topic (has it
 * more partitions? is it still the same?), which is asked every `view.check.ms` and before the view
 * is complete, and waits a second for its answer at most.
 *
 * WHERE IT IS KEPT. In memory (storage NULL), with `view.file` also in a file when rv_view_save is
 * called; or wherever a struct rv_view_storage keeps it: rivulet_view_sqlite.h does in a SQLite
 * database. A view that was kept goes on where it was.
 *
 * BEGINNING ANEW. A view cannot be right any more when records between its position and what is
 * there now are gone: retention or DeleteRecords moved the start of the log past it, the log was
 * cut off before it, the topic was deleted and made again, or the view was away for longer than
 * `delete.retention.ms` of a compacted topic (closed; or open, and nobody polled it or no broker
 * answered), so that removals may be gone. It says so
 * (rv_view_on_rebuild, stats.rebuilds), is not complete, and reads from the start. Meanwhile what
 * it had stays readable; what did not come again is removed when it is complete. */
#ifndef RIVULET_VIEW_H
#define RIVULET_VIEW_H

#include <rivulet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rv_view;

struct rv_view_entry {
    struct rv_bytes key;
    struct rv_bytes value; /* never null in what rv_view_get and rv_view_next give */
    int32_t partition;     /* of the record that it is from */
    int64_t offset;
    int64_t timestamp_ms; /* as rv_record has it */
};

/* ---- where it is kept --------------------------------------------------------------------- */

struct rv_view_position {
    int32_t partition;
    int32_t leader_epoch; /* of the record before `offset`; -1: not known */
    int64_t offset;       /* the next record to read; RV_START: from the start */
};

/* What is kept beside the entries. */
struct rv_view_state {
    char topic_id[32];   /* as rv_topic has it; "": the broker has none */
    int64_t generation;  /* counts how often it began anew */
    int64_t fresh_ms;    /* everything written before this time (1970 UTC) has been read; or this
                            generation was begun then */
    int64_t without_key; /* records passed over */
    int64_t rebuilds;    /* how often it began anew */
    bool is_complete;    /* entries of other generations are gone */
    size_t partition_count;
    struct rv_view_position *positions; /* partition_count of them */
};

/* A place to keep a view in. Every function returns RV_OK or a code, with a text in the last
 * parameter; after an error nothing of the transaction counts, and the same is done again later.
 * Calls come from rv_view_open, rv_view_poll, rv_view_get and rv_view_next only. */
struct rv_view_storage {
    void *ctx;
    /* The state that was kept last, in memory of the storage's that lives until the next call of
     * load or close; partition_count 0: none was.
     * RV_E_CORRUPT: as if none was, and the entries are gone, too; the text says why. */
    int (*load)(void *ctx, const char *topic, struct rv_view_state *ret_state, struct rv_error *e);
    /* A transaction: get, put, remove, sweep, save come in between. */
    int (*begin)(void *ctx, struct rv_error *e);
    int (*commit)(void *ctx, struct rv_error *e);
    void (*rollback)(void *ctx);
    /* Borrowed until the next call. *ret_generation is the entry's; 0: there is no entry. */
    int (*get)(void *ctx, struct rv_bytes key, struct rv_view_entry *ret_entry,
               int64_t *ret_generation, struct rv_error *e);
    /* A null value is kept like any other, until sweep. */
    int (*put)(void *ctx, const struct rv_view_entry *entry, int64_t generation,
               struct rv_error *e);
    int (*remove)(void *ctx, struct rv_bytes key, struct rv_error *e);
    /* Removes entries of other generations, for each of which `gone` is called first when its value
     * is not null, and those with null values. */
    int (*sweep)(void *ctx, int64_t generation,
                 void (*gone)(void *gone_ctx, const struct rv_view_entry *entry), void *gone_ctx,
                 struct rv_error *e);
    int (*save)(void *ctx, const char *topic, const struct rv_view_state *state,
                struct rv_error *e);
    /* The entry behind `cursor` (0: the first), without null values; *cursor moves on. No more:
     * ret_entry->key.ptr is NULL. */
    int (*next)(void *ctx, int64_t *cursor, struct rv_view_entry *ret_entry, struct rv_error *e);
    /* Entries whose value is not null. */
    int (*count)(void *ctx, int64_t *ret_count, struct rv_error *e);
    void (*close)(void *ctx); /* by rv_view_close, and by rv_view_open when it fails */
};

/* ---- the view ----------------------------------------------------------------------------- */

/* Options are those of the consumer (isolation.level is read_committed unless you say otherwise;
 * group.id, auto.offset.reset and delivery are the view's own business), and:
 *   view.file        a file to load from, and for rv_view_save; memory only ("")
 *   view.max.bytes   memory of entries and index at most; a record more is RV_E_FULL (0: no limit)
 *   view.check.ms    how often the topic is looked at for more partitions (60000)
 *   view.at.ms       only records that are not younger than this time (0: all); not for following
 *   view.key         only this key
 * Asks the broker about the topic, waiting up to timeout_ms (-1: a minute). `storage` is copied;
 * NULL: memory. RV_E_OPTION, UNKNOWN_TOPIC_OR_PARTITION, RV_E_TIMED_OUT, and what the storage says.
 * A damaged file is no error: rv_view_why says so, and the view reads from the start. */
RV_API int rv_view_open(struct rv_client *client, const char *topic,
                        const struct rv_option *options, const struct rv_view_storage *storage,
                        int timeout_ms, struct rv_view **ret_view, struct rv_error *ret_error);
RV_API void rv_view_close(struct rv_view *view); /* saves nothing; takes NULL */

/* Moves it on: takes what has come, waiting up to timeout_ms for something. What passes by itself
 * is retried; after an error call it again: it goes on at the record where it failed. RV_E_FULL,
 * RV_E_MEMORY, what lasts of rv_poll, and what the storage says. */
RV_API int rv_view_poll(struct rv_view *view, int timeout_ms, struct rv_error *ret_error);

RV_API bool rv_view_is_complete(const struct rv_view *view);

/* RV_E_ABSENT: there is no such key. What it gives is borrowed until the next call on the view;
 * from memory, until the next rv_view_poll. */
RV_API int rv_view_get(struct rv_view *view, struct rv_bytes key, struct rv_view_entry *ret_entry,
                       struct rv_error *ret_error);

/* All entries, in no order: begin with *cursor 0, until it gives RV_E_ABSENT. rv_view_poll in
 * between may make it give an entry twice, or leave out one. Borrowed as above. */
RV_API int rv_view_next(struct rv_view *view, int64_t *cursor, struct rv_view_entry *ret_entry,
                        struct rv_error *ret_error);

struct rv_view_stats {
    int64_t count;          /* keys */
    int64_t bytes;          /* memory of entries and index; -1: it is not kept in memory */
    int64_t records;        /* applied since it was opened */
    int64_t without_key;    /* records without a key, passed over, of all time */
    int64_t rebuilds;       /* how often it began anew, of all time */
    int64_t behind;         /* offsets up to the ends that make it complete; 0: complete */
    size_t partition_count; /* as of the last look */
};
RV_API int rv_view_stats(struct rv_view *view, struct rv_view_stats *ret_stats,
                         struct rv_error *ret_error);

/* Why it began anew, or did not take its file, last; "": it did not. Borrowed until the next
 * rv_view_poll. */
RV_API const char *rv_view_why(const struct rv_view *view);

/* Called for every change, from rv_view_poll, inside the storage's transaction: what `fn` writes
 * there belongs to it, and when the transaction fails it is called again. `old` NULL: the key is
 * new; `now` NULL: it is removed. Both are borrowed for the callback; no call on the view in it. */
typedef void rv_view_change_fn(void *ctx, const struct rv_view_entry *old,
                               const struct rv_view_entry *now);
RV_API void rv_view_on_change(struct rv_view *view, rv_view_change_fn *fn, void *ctx);

/* Called when it begins anew, from rv_view_poll; `why` is a line for a log. */
RV_API void rv_view_on_rebuild(struct rv_view *view, void (*fn)(void *ctx, const char *why),
                               void *ctx);

/* Writes `view.file` anew: all of it to a file beside it, which is synced and then takes its place.
 * Call it as often as a restart may have to read again. RV_E_STATE without view.file, RV_E_IO. */
RV_API int rv_view_save(struct rv_view *view, struct rv_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
