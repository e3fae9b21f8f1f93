/* rivulet_spool.h: store and forward, on top of rivulet.h. Events are appended to a file first, and
 * sent in order later, each stored by the broker once: also after a crash of this program, of the
 * broker, of both. No broker is needed to accept them. Link with rivulet-spool (pkg-config) as
 * well. This header is the manual.
 *
 *     rv_spool_open(RV_OPTIONS({"spool.dir", "/var/lib/me/spool"}), &spool, &e);
 *     rv_spool_append(spool, &message, NULL, &e);        it is in the file when this returns
 *
 * and elsewhere, on another thread or when there is nothing else to do:
 *
 *     rv_spool_wait(spool, 1000, &e);                    until there is something to send
 *     rv_spool_send(spool, client, 10000, &e);           to the broker, if it is there
 *
 * WHAT IS PROMISED. With `spool.sync.ms` 0 (the default), an event is on stable storage when
 * rv_spool_append returns RV_OK: it survives kill -9 and a power cut. It is delivered exactly once,
 * in the order of appending within its partition, and never goes missing silently: it is delivered,
 * or waiting, or set aside with a reason (below). With `spool.sync.ms` n, a power cut may take the
 * events of the last n milliseconds before it, and all after an event that it took; kill -9 takes
 * none.
 * How: which events a batch has, its partition, producer id, epoch and sequence, and where the
 * partition ended, are on disk before the batch is first sent. After a crash the same batch is
 * looked for in the partition, read from that end on, and sent again only if it is not there. So
 * the spool needs the right to read the topics that it writes.
 * It does not hold for a request that the network holds up for longer than the broker remembers
 * producers (`producer.id.expiration.ms`), and not on a compacted topic, when the compaction has
 * removed a batch while its answer was lost and the broker had forgotten the producer.
 *
 * ORDER. Events are sent in windows of up to 1,000 events in the order of appending; one window is
 * done before the next begins. A partition without a leader holds up the others behind it. Events
 * without a key that name no partition: all of one window and topic go to one partition.
 *
 * SET ASIDE. What the broker refuses for good (too large, not allowed, no such topic for
 * `spool.topic.wait.ms`) does not hold up the rest: it is written to the file `refused` of the
 * directory, with the reason; so is an event of which nobody can say any more whether it was stored
 * (`unsure`: the partition lost the part where it would be, while its answer was lost). It is
 * counted in the status, told to the callback, and shown by rv_spool_show and `rivulet spool show`.
 * When its cause is mended, rv_spool_retry or `rivulet spool retry` puts it into the spool again,
 * behind what waits; what nobody wants any more goes by removing the file while the spool is
 * closed.
 *
 * BOUNDS. `spool.max.bytes` limits events that wait and events set aside: then RV_E_FULL. Files are
 * removed when all of their events are delivered. Besides, the directory has 256 KiB of its own,
 * taken when it is made, so that a full disk keeps nobody from sending.
 *
 * THREADS. Any thread may call anything on a spool at any time, but one rv_spool_send at a time
 * (RV_E_STATE), and rv_spool_close when nobody else is in a call. Appending does not wait for the
 * network. The client belongs to the thread that sends, by the rules of rivulet.h.
 *
 * ONE PROCESS has a directory at a time (RV_E_STATE: another one has it). A copy of a directory
 * must not be sent from: both would be the same producer.
 *
 * DAMAGE. Every event carries a checksum. What a crash has torn was never promised, and is dropped.
 * What has rotted is RV_E_CORRUPT, with file and position, and is never skipped. (The very last
 * event before an unclean end, when nothing was written after it, cannot be told from a torn one.)
 * After RV_E_IO from writing (RV_FATAL) the spool is to be closed and opened anew.
 */
#ifndef RIVULET_SPOOL_H
#define RIVULET_SPOOL_H

#include <rivulet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rv_spool;

/* Options of rivulet.h may be in the same array; `compression.type` is the spool's, too. */
RV_API const struct rv_option_info *rv_spool_options(void);

/* Makes the directory when it is missing. Reads the newest file. RV_E_OPTION, RV_E_STATE,
 * RV_E_CORRUPT, RV_E_IO, RV_E_FULL (no room on the disk for what it needs), RV_E_VERSION. */
RV_API int rv_spool_open(const struct rv_option *options, struct rv_spool **ret_spool,
                         struct rv_error *ret_error);

/* Syncs and closes. After an error it is closed all the same, but for RV_E_STATE: a call is
 * sending. Takes NULL. */
RV_API int rv_spool_close(struct rv_spool *spool, struct rv_error *ret_error);

/* Adds one event. The message is as for rv_send; timestamp_ms 0 is now, when it is appended.
 * *ret_number (may be NULL): its number in the spool, ascending by 1. RV_E_FULL: `spool.max.bytes`
 * or the disk; nothing has changed. RV_E_TOO_LARGE, RV_E_ARGUMENT. RV_E_IO, RV_FATAL: it may or may
 * not be there. */
RV_API int rv_spool_append(struct rv_spool *spool, const struct rv_message *message,
                           uint64_t *ret_number, struct rv_error *ret_error);

/* What was appended is on stable storage when it returns. */
RV_API int rv_spool_sync(struct rv_spool *spool, struct rv_error *ret_error);

/* Sends what is there; RV_OK: everything is delivered or set aside. RV_E_TIMED_OUT, RV_RETRIABLE:
 * time was up before; the text says what held it up. Other errors are the spool's own. Syncs first
 * what is to be sent. The client must live until the spool is closed or sends with another one.
 * timeout_ms -1: until everything is sent. */
RV_API int rv_spool_send(struct rv_spool *spool, struct rv_client *client, int timeout_ms,
                         struct rv_error *ret_error);

/* Waits until there is something to send or time is up: both RV_OK. Syncs meanwhile what is due by
 * `spool.sync.ms`; nothing else does, but for rv_spool_append and rv_spool_send. */
RV_API int rv_spool_wait(struct rv_spool *spool, int timeout_ms, struct rv_error *ret_error);

/* Puts what was set aside, of one topic or (NULL) of all, into the spool again: as new events with
 * new numbers, behind those that wait, each once, also when the program dies meanwhile. They are on
 * stable storage when it returns RV_OK. An event that is `unsure` may be stored already, and would
 * be twice: only with `with_unsure`. What a call that is sending has set aside a moment ago may
 * have to wait for the next rv_spool_retry. *ret_count (may be NULL): events. It takes the spool
 * beyond `spool.max.bytes`, if it must; the room of the file `refused` comes back when nothing is
 * set aside any more. RV_E_FULL: no room on the disk; what is missing follows before the next event
 * that is appended. RV_E_CORRUPT, RV_E_IO. */
RV_API int rv_spool_retry(struct rv_spool *spool, const char *topic, bool with_unsure,
                          uint64_t *ret_count, struct rv_error *ret_error);

struct rv_spool_status {
    uint64_t events;      /* that wait to be delivered */
    uint64_t next_number; /* of the next event that is appended */
    uint64_t delivered;   /* events with a number up to this one are delivered or set aside */
    uint64_t refused;     /* events set aside, in the file */
    int64_t bytes;        /* of all files */
    int64_t limit_bytes;  /* `spool.max.bytes` */
    int64_t oldest_ms;    /* when the oldest event that waits was appended; -1: none waits */
    int64_t failing_ms;   /* since when sending does not get on, while it is tried; -1: it does */
    struct rv_error last; /* why; code RV_OK when it gets on */
};
RV_API void rv_spool_status(struct rv_spool *spool, struct rv_spool_status *ret_status);

struct rv_spool_event {
    uint64_t number;           /* in the spool */
    int64_t appended_ms;       /* wall time */
    struct rv_message message; /* timestamp_ms as it is sent */
    int code;                  /* set aside: why; RV_OK: it waits */
    bool unsure;               /* set aside: it may be stored all the same */
    const char *why;           /* for people; "" when it waits */
};
typedef void rv_spool_event_fn(void *ctx, const struct rv_spool_event *event);

/* `fn` is called for each event that is set aside, from rv_spool_send; the event is borrowed.
 * Inside it, only rv_spool_append and rv_spool_status are allowed on the spool. Called once an
 * event, or twice around a crash. */
RV_API void rv_spool_on_refused(struct rv_spool *spool, rv_spool_event_fn *fn, void *ctx);

/* Looks at a directory without taking it, also while a program has it open: its status, and each
 * event that waits, and then each that was set aside, to `fn` (may be NULL). limit_bytes and
 * failing_ms are -1. RV_E_ABSENT: there is no spool. RV_E_CORRUPT: what came before was given. */
RV_API int rv_spool_show(const char *dir, rv_spool_event_fn *fn, void *ctx,
                         struct rv_spool_status *ret_status, struct rv_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
