/* rivulet.h: the client library of rivulet. It speaks Apache Kafka's protocol, so it works with
 * rivulet and with Apache Kafka. This header is the manual.
 *
 * THE SHAPE. A *client* (rv_client_open) owns connections and what is known about the cluster. On
 * it you open *producers* and *consumers*, and ask *admin* questions. Close what you opened on a
 * client before the client.
 *
 * NO HIDDEN THREADS. Everything happens inside the calls that you make. There are two ways to drive
 * it:
 *   - blocking: rv_poll, rv_flush, rv_commit, every admin call: they wait, up to the time you give;
 *   - your own loop: wait until rv_fd is readable or rv_timeout milliseconds have passed, then call
 *     rv_process; it never blocks (but see "names" below). rv_send and rv_poll with a timeout of 0
 * fit in. Any call that hands something over or asks for something (not rv_seek, rv_pause,
 * rv_assign, and what only looks up what is known) also moves everything else of that client on:
 * records are sent, answers taken in, heartbeats go out. A program that makes no rv_ call for
 * longer than `session.timeout.ms` loses its partitions to other members of its group, and is told
 * so (RV_LOST). Names of hosts are resolved with getaddrinfo, which may block; numeric addresses
 * never do.
 *
 * THREADS. A client and everything opened on it belong to one thread at a time: use it from one
 * thread, or hold its lock around every call (rv_lock, rv_unlock). Different clients are
 * independent. There is no global state. Who wants heartbeats and sends to go on while the program
 * does something else starts the client's helper thread (rv_thread_start).
 *
 * ERRORS ARE VALUES. Every call that can fail returns a code: RV_OK (0); Kafka's own codes as they
 * come off the wire (positive, and -1), named by rv_error_name; or one of enum rv_code (below
 * -100). The last parameter, which may be NULL, tells the whole story in a struct rv_error: code,
 * flags, and a text that names broker, topic and partition. No memory is ever "assumed": a failed
 * allocation comes back as RV_E_MEMORY and leaves everything as it was. Any call may return
 * RV_E_MEMORY, and RV_E_STATE when made from a callback that does not allow it; what else it may
 * return is said at the call.
 *
 * OWNERSHIP. What you pass in is copied or used only during the call. What a callback or rv_poll
 * hands you is borrowed for as long as is said there. What an admin call hands you is yours:
 * rv_free.
 *
 * TIME. Timeouts are milliseconds; -1 waits as long as the client's `default.api.timeout.ms`.
 * Timestamps are milliseconds since 1970 UTC.
 */
#ifndef RIVULET_H
#define RIVULET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RV_API __attribute__((visibility("default")))

/* ---- errors ------------------------------------------------------------------------------- */

enum rv_code {
    RV_OK = 0,
    RV_E_MEMORY = -101,    /* an allocation failed; nothing was done */
    RV_E_OPTION = -102,    /* an unknown option, or a value that it cannot take */
    RV_E_ARGUMENT = -103,  /* a parameter that makes no sense */
    RV_E_STATE = -104,     /* not now: the object is closed, failed, or in a callback */
    RV_E_TIMED_OUT = -105, /* the time you gave, or the delivery timeout, has passed */
    RV_E_FULL = -106,      /* `buffer.memory` is in use: call rv_process or rv_flush, then again */
    RV_E_CONNECT = -107,   /* no connection to the broker can be made */
    RV_E_LOST = -108,      /* the connection broke before the answer came */
    RV_E_VERSION = -109,   /* the broker does not serve any version of the request that we speak */
    RV_E_PROTOCOL = -110,  /* the broker's answer cannot be understood */
    RV_E_TOO_LARGE = -111, /* a record over `max.request.size`, or an answer over its limit */
    RV_E_CORRUPT = -112,   /* records that fail their checksum or contradict themselves */
    RV_E_CODEC = -113,     /* compressed with something we do not know */
    RV_E_NO_OFFSET = -114, /* `auto.offset.reset=none` and there is no usable offset */
    RV_E_LOST_MEMBER =
        -115,            /* not a member of the group any more: the partitions are others' now */
    RV_E_ABSENT = -116,  /* no such topic, partition or group */
    RV_E_ABORTED = -117, /* a record that was not sent: its transaction is being aborted */
    RV_E_IO = -118,      /* a file of the program's own cannot be read or written (the parts) */
};

enum rv_flag {
    RV_RETRIABLE = 1, /* the same call may work later */
    RV_FATAL = 2,     /* the producer or consumer will not work again: close it */
    RV_REJOIN = 4,    /* the group has moved on: poll again, and the partitions are dealt anew */
    RV_UNSURE = 8,    /* it may have been done all the same: the answer never came */
    RV_ABORT = 16,    /* the transaction cannot be committed: rv_txn_abort, then begin anew */
};

struct rv_error {
    int code;       /* 0, Kafka's code, or enum rv_code */
    unsigned flags; /* of enum rv_flag */
    char text[250]; /* for people, 0-terminated: what failed, where, why */
};

/* The name of a code: "UNKNOWN_TOPIC_OR_PARTITION", "RV_E_CONNECT". Never NULL. */
RV_API const char *rv_error_name(int code);

/* ---- options ------------------------------------------------------------------------------ */

/* Options are names and values as text, in an array that ends with a NULL name, and are named as
 * Kafka's clients name them. Unknown names are refused (RV_E_OPTION). The options of client,
 * producer and consumer may be in one array: each open call takes what is its own. rv_options lists
 * all. */
struct rv_option {
    const char *name;  /* NULL ends the array */
    const char *value; /* as text: "5", "true", "lz4" */
};
/* RV_OPTIONS({"linger.ms", "5"}, {"acks", "all"}) */
/* clang-format off */
#define RV_OPTIONS(...) ((const struct rv_option[]){__VA_ARGS__, {NULL, NULL}})
/* clang-format on */

struct rv_option_info {
    const char *name;     /* NULL ends the array */
    const char *of;       /* "client", "producer" or "consumer" */
    const char *fallback; /* the default, as text */
    const char *about;    /* one sentence, with the unit */
};
RV_API const struct rv_option_info *rv_options(void);

/* ---- the client --------------------------------------------------------------------------- */

struct rv_client;

/* Needs `bootstrap.servers` ("host:port,host:port"). Connects to nothing yet. RV_E_OPTION. */
RV_API int rv_client_open(const struct rv_option *options, struct rv_client **ret_client,
                          struct rv_error *ret_error);

/* Closes the connections. Takes NULL. Everything opened on it must be closed already. */
RV_API void rv_client_close(struct rv_client *client);

/* Asks the brokers of `bootstrap.servers`, once around, for the cluster's metadata. For programs
 * that rather fail at once than try until a timeout. RV_E_CONNECT, RV_E_TIMED_OUT, RV_E_VERSION. */
RV_API int rv_client_connect(struct rv_client *client, int timeout_ms, struct rv_error *ret_error);

RV_API int rv_fd(const struct rv_client *client); /* readable when rv_process has something to do */
RV_API int rv_timeout(const struct rv_client *client); /* ms until rv_process is due; -1: never */

/* Moves everything on without waiting; delivery callbacks run in here, rebalance callbacks do not
 * (they run in rv_poll). */
RV_API int rv_process(struct rv_client *client, struct rv_error *ret_error);

/* Waits up to timeout_ms for something to do, then rv_process. */
RV_API int rv_wait(struct rv_client *client, int timeout_ms, struct rv_error *ret_error);

/* The helper thread, for programs that want one: from rv_thread_start on it does what rv_process
 * does whenever that is due. The rules:
 *   1. Hold the lock around every call on the client and on what is opened on it, rv_fd and
 *      rv_timeout too; without it a call is a race, and one that waits ends the process.
 *   2. A call that waits (rv_poll, rv_flush, rv_send when memory is full, admin calls) gives the
 *      lock away meanwhile: others may call. One rv_poll at a time on a consumer; what is being
 *      closed is nobody else's.
 *   3. What rv_poll lent stays valid without the lock, until the next rv_poll. What rv_assignment
 *      lent needs the lock.
 *   4. Callbacks run with the lock held, on whichever thread made the turn: delivery and commit
 *      callbacks on the helper, too; events (RV_ASSIGNED, ...) only in your own calls, as ever. In
 *      a callback the lock is yours already: do not take it again.
 *   5. The helper sends heartbeats for you, not for ever: a consumer that is not polled for
 *      `max.poll.interval.ms` leaves its group as it does without the helper.
 * rv_thread_start, rv_thread_stop (which waits until it has ended) and rv_client_close are called
 * without the lock; rv_client_close ends the helper too. The helper takes no signals. RV_E_STATE
 * when it runs already. The lock works without the helper as well; then a call that waits keeps
 * it. */
RV_API int rv_thread_start(struct rv_client *client, struct rv_error *ret_error);
RV_API void rv_thread_stop(struct rv_client *client);
RV_API void rv_lock(struct rv_client *client); /* is not recursive */
RV_API void rv_unlock(struct rv_client *client);

enum rv_level { RV_DEBUG, RV_INFO, RV_WARN };

/* Log lines go to `fn` (from inside any call on the client); without one there are none. */
RV_API void rv_client_on_log(struct rv_client *client,
                             void (*fn)(void *ctx, enum rv_level level, const char *text),
                             void *ctx);

/* ---- records ------------------------------------------------------------------------------ */

struct rv_bytes {
    const void *ptr; /* NULL is null, which is not the same as empty */
    size_t size;     /* bytes */
};
#define RV_STR(text) rv_str(text)
static inline struct rv_bytes rv_str(const char *text)
{
    struct rv_bytes b = {text, 0};
    while (text && text[b.size]) {
        b.size++;
    }
    return b;
}

struct rv_header {
    struct rv_bytes name;  /* UTF-8; never null */
    struct rv_bytes value; /* may be null */
};

/* ---- producer ----------------------------------------------------------------------------- */

/* Records are batched by partition (`batch.size`, `linger.ms`), compressed (`compression.type`),
 * and sent with acks=all, idempotently, five requests in flight: a record that was handed over is
 * stored exactly once, in the order of rv_send within its partition, or reported as failed; never
 * silently lost. Lost connections and restarting brokers are ridden out until
 * `delivery.timeout.ms`. A keyed record goes to the partition that Java's producer would choose;
 * records without a key fill one partition's batch at a time. */
struct rv_producer;
struct rv_consumer;
struct rv_partition;

RV_API int rv_producer_open(struct rv_client *client, const struct rv_option *options,
                            struct rv_producer **ret_producer, struct rv_error *ret_error);

/* Gives up what is not delivered yet: each record's callback is called, with RV_E_STATE. For a good
 * end, rv_flush before. Takes NULL. */
RV_API void rv_producer_close(struct rv_producer *producer);

struct rv_message {
    const char *topic;               /* 0-terminated */
    struct rv_bytes key;             /* {0}: none */
    struct rv_bytes value;           /* {0}: null, a tombstone */
    const struct rv_header *headers; /* header_count of them */
    size_t header_count;
    int64_t timestamp_ms; /* 0: now */
    bool to_partition;    /* true: into `partition`; false: the partitioner chooses */
    int32_t partition;    /* only with to_partition */
};

struct rv_delivery {
    const char *topic;            /* borrowed for the callback */
    int32_t partition;            /* where it went */
    int64_t offset;               /* its offset; -1 when it failed, when acks=0, or when a retry
                                     found it stored and the broker forgot where */
    int64_t timestamp_ms;         /* as stored (the broker's, where the topic says LogAppendTime) */
    const struct rv_error *error; /* NULL: delivered. RV_UNSURE: it may be stored all the same */
};
typedef void rv_delivery_fn(void *ctx, const struct rv_delivery *delivery);

/* Hands one record over; it is copied. `fn` (may be NULL) is called once, from a later call on the
 * client, when its fate is known; inside it only rv_send is allowed. When memory is full or the
 * topic is not known yet, waits up to `max.block.ms`; with max.block.ms=0 gives RV_E_FULL at once:
 * then rv_wait, and try again. RV_E_TOO_LARGE, RV_E_ARGUMENT, RV_E_TIMED_OUT,
 * UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION; RV_FATAL when the producer has failed for
 * good. */
RV_API int rv_send(struct rv_producer *producer, const struct rv_message *message,
                   rv_delivery_fn *fn, void *ctx, struct rv_error *ret_error);

/* Waits until the fate of everything handed over before is known. RV_E_TIMED_OUT when time ran out
 * before that; else the first failure of a record since the last rv_flush, if there was one. */
RV_API int rv_flush(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error);

RV_API size_t rv_pending(const struct rv_producer *producer); /* records whose fate is open */

/* TRANSACTIONS. With the option `transactional.id`, what a producer sends between rv_txn_begin and
 * rv_txn_commit becomes visible to consumers with `isolation.level=read_committed` together, or,
 * after rv_txn_abort, never. Offsets of a consumer may go along, so that a loop that reads, works
 * and writes does each record's work exactly once:
 *
 *     rv_txn_init(producer, -1, &e);                      once; fences older producers of the id
 *     for (;;) {
 *         rv_poll(consumer, ...);
 *         rv_txn_begin(producer, &e);
 *         rv_send(producer, ...);
 *         rv_txn_offsets(producer, consumer, NULL, 0, -1, &e);
 *         if (rv_txn_commit(producer, -1, &e) != RV_OK) ...
 *     }
 *
 * Errors have three kinds. RV_FATAL: a newer producer of the same id has taken over, or we are not
 * allowed: close this one. RV_ABORT: the transaction cannot be committed (a record failed, the
 * consumer lost its partitions, ...): rv_txn_abort, rv_seek the consumer to RV_COMMITTED, begin
 * anew; the producer is as good as before. Else, when time ran out: make the same call again, it
 * goes on; after an rv_txn_commit that was RV_UNSURE, nothing else will tell how it ended. A
 * callback tells of each record as ever; delivered is not yet visible. rv_flush is not needed.
 * Closing a producer leaves its transaction open: the broker aborts it after
 * `transaction.timeout.ms`, or at the next rv_txn_init of the id. The records in it hold up readers
 * of read_committed until then.
 *
 * These calls are not allowed in callbacks of deliveries and commits, nor while another one of the
 * same producer waits; RV_E_STATE: not now.
 * A broker without transactions (rivulet has none yet) answers INVALID_REQUEST to rv_txn_init,
 * which is not tried again. */
RV_API int rv_txn_init(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error);
RV_API int rv_txn_begin(struct rv_producer *producer, struct rv_error *ret_error);

/* Stores how far the consumer's group has got as a part of the transaction. As rv_commit: with
 * partitions NULL the positions of everything assigned. The consumer's `delivery` must be manual,
 * and it reads the same cluster; on the same client its heartbeats go out meanwhile. It must still
 * hold the partitions: else RV_E_LOST_MEMBER, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID,
 * FENCED_INSTANCE_ID, with RV_ABORT. After any error but RV_E_ARGUMENT, RV_E_STATE and RV_E_MEMORY
 * the transaction can only be aborted. */
RV_API int rv_txn_offsets(struct rv_producer *producer, struct rv_consumer *consumer,
                          const struct rv_partition *partitions, size_t count, int timeout_ms,
                          struct rv_error *ret_error);

/* Waits for all records of the transaction, then ends it. */
RV_API int rv_txn_commit(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error);
/* What was not sent yet fails with RV_E_ABORTED. */
RV_API int rv_txn_abort(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error);

/* The partition that a key goes to among `count`: murmur2, as Java's default partitioner does. */
RV_API int32_t rv_partition_of_key(const void *key, size_t size, int32_t count);

/* ---- consumer ----------------------------------------------------------------------------- */

/* Reads partitions: either those you name (rv_assign), or, as a member of a group (`group.id`),
 * those that the group deals to you (rv_subscribe). A position that nobody has committed begins
 * where `auto.offset.reset` says. Prefetching is bounded (`queued.max.messages.kbytes`,
 * `fetch.max.bytes`). */

RV_API int rv_consumer_open(struct rv_client *client, const struct rv_option *options,
                            struct rv_consumer **ret_consumer, struct rv_error *ret_error);

/* Leaves the group (unless a static member), waiting up to `timeout_ms` to say so. With a
 * `delivery` of at-least-once, commits first; when that fails, it says so and is closed all the
 * same (but for RV_E_STATE in a callback). Takes NULL. */
RV_API int rv_consumer_close(struct rv_consumer *consumer, int timeout_ms,
                             struct rv_error *ret_error);

struct rv_partition {
    const char *topic; /* 0-terminated */
    int32_t partition;
    int64_t offset;       /* where that has a meaning: the next record to read; else ignored */
    int32_t leader_epoch; /* of the record before `offset`; -1 or 0: not known */
    const char *metadata; /* goes with a commit; NULL: none */
    int code;             /* in results: RV_OK, or why there is none for this partition */
};

/* Places for rv_seek and as `offset` in rv_assign; every offset >= 0 is itself. */
#define RV_START     ((int64_t)-2) /* the first record there is */
#define RV_END       ((int64_t)-1) /* what comes next */
#define RV_COMMITTED ((int64_t)-3) /* the group's committed offset; else auto.offset.reset */

/* Reads exactly these from now on, each from its `offset`. An empty list stops. */
RV_API int rv_assign(struct rv_consumer *consumer, const struct rv_partition *partitions,
                     size_t count, struct rv_error *ret_error);

/* Joins `group.id` for these topics (0-terminated names); the partitions come with rv_poll. Count 0
 * leaves the group. */
RV_API int rv_subscribe(struct rv_consumer *consumer, const char *const *topics, size_t count,
                        struct rv_error *ret_error);

struct rv_record {
    const char *topic; /* 0-terminated */
    int32_t partition;
    int32_t leader_epoch; /* of the broker that took it; -1: not known */
    int64_t offset;
    int64_t timestamp_ms; /* -1: none */
    struct rv_bytes key;
    struct rv_bytes value;
    const struct rv_header *headers; /* header_count of them */
    size_t header_count;
};

/* Gives up to `max.poll.records` records, as many as are there; waits up to timeout_ms for the
 * first. ret_count 0: none came. Records and all they point to are borrowed until the next rv_poll
 * or rv_consumer_close. Callbacks of events run in here. Must be called at least every
 * `max.poll.interval.ms`, or the member leaves its group. Per-partition trouble that lasts is
 * returned once (TOPIC_AUTHORIZATION_FAILED, RV_E_CORRUPT, RV_E_NO_OFFSET, ...), the other
 * partitions go on; what passes by itself is retried silently (see rv_client_on_log). */
RV_API int rv_poll(struct rv_consumer *consumer, int timeout_ms,
                   const struct rv_record **ret_records, size_t *ret_count,
                   struct rv_error *ret_error);

/* Moves an assigned partition to an offset, RV_START, RV_END or RV_COMMITTED; takes effect at the
 * next rv_poll. */
RV_API int rv_seek(struct rv_consumer *consumer, const char *topic, int32_t partition,
                   int64_t offset, struct rv_error *ret_error);

/* To the first record whose timestamp is not before timestamp_ms; the end when there is none. */
RV_API int rv_seek_time(struct rv_consumer *consumer, const char *topic, int32_t partition,
                        int64_t timestamp_ms, struct rv_error *ret_error);

/* Paused partitions are kept and not read. */
RV_API int rv_pause(struct rv_consumer *consumer, const char *topic, int32_t partition, bool paused,
                    struct rv_error *ret_error);

/* Commits. With partitions NULL: the positions of everything assigned, that is after the records
 * that rv_poll has returned. Sync waits; async calls `fn` (may be NULL) once, from a later call on
 * the client. Commit after the work is done and nothing is lost (at least once); or choose with the
 * option `delivery`: manual (default), at-least-once (what rv_poll returned is committed by the
 * following rv_polls, every `auto.commit.interval.ms`), at-most-once (rv_poll commits before it
 * returns records). RV_REJOIN / RV_E_LOST_MEMBER: the partitions are not ours any more. */
typedef void rv_commit_fn(void *ctx, const struct rv_error *error); /* error NULL: committed */
RV_API int rv_commit(struct rv_consumer *consumer, const struct rv_partition *partitions,
                     size_t count, struct rv_error *ret_error);
RV_API int rv_commit_async(struct rv_consumer *consumer, const struct rv_partition *partitions,
                           size_t count, rv_commit_fn *fn, void *ctx, struct rv_error *ret_error);

/* What is assigned now, `offset` being the position (-1: not known yet). Borrowed until the next
 * call on the consumer. */
RV_API size_t rv_assignment(struct rv_consumer *consumer,
                            const struct rv_partition **ret_partitions);

/* Records between the position and the end, as of the last answer; -1: not known yet. */
RV_API int64_t rv_lag(const struct rv_consumer *consumer, const char *topic, int32_t partition);

enum rv_event_kind {
    RV_ASSIGNED,  /* partitions came; rv_seek is allowed in here */
    RV_REVOKED,   /* partitions go when the callback returns; rv_commit is allowed in here */
    RV_LOST,      /* partitions went without us: others may be at them already; do not commit */
    RV_JUMPED,    /* the position `from` does not exist: reading goes on at `to` (text says why) */
    RV_CAUGHT_UP, /* every assigned partition has been read to its end */
    RV_FELL_BEHIND, /* ... and is no longer, by more than one poll's worth */
};

struct rv_event {
    enum rv_event_kind kind;
    const struct rv_partition *partitions; /* of kind assigned, revoked, lost, jumped; borrowed */
    size_t count;
    int64_t from, to; /* jumped: offsets */
    const char *text; /* one line for a log */
};
typedef void rv_event_fn(void *ctx, const struct rv_event *event);

/* Called from rv_poll, rv_subscribe, rv_consumer_close only, never from inside another callback. */
RV_API void rv_consumer_on_event(struct rv_consumer *consumer, rv_event_fn *fn, void *ctx);

/* ---- admin -------------------------------------------------------------------------------- */

/* Admin calls block up to timeout_ms and retry what passes by itself. What they return is one piece
 * of memory that is given back with rv_free; arrays and texts in it live as long. */
RV_API void rv_free(void *result); /* takes NULL */

struct rv_cluster {
    const char *id; /* "" when the cluster has none */
    int32_t controller_id;
    const struct rv_broker *brokers;
    size_t broker_count;
};
struct rv_broker {
    int32_t id;
    const char *host;
    int32_t port;
};
RV_API int rv_cluster(struct rv_client *client, int timeout_ms, struct rv_cluster **ret_cluster,
                      struct rv_error *ret_error);

/* When it returns, brokers show the topic. partitions -1: the broker's default.
 * TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_CONFIG, ... */
RV_API int rv_topic_create(struct rv_client *client, const char *topic, int32_t partitions,
                           const struct rv_option *configs, int timeout_ms,
                           struct rv_error *ret_error);
/* More partitions: `partitions` is the new total. Keys go to other partitions from then on.
 * INVALID_PARTITIONS, UNKNOWN_TOPIC_OR_PARTITION. */
RV_API int rv_topic_grow(struct rv_client *client, const char *topic, int32_t partitions,
                         int timeout_ms, struct rv_error *ret_error);
RV_API int rv_topic_delete(struct rv_client *client, const char *topic, int timeout_ms,
                           struct rv_error *ret_error); /* UNKNOWN_TOPIC_OR_PARTITION */

struct rv_topic_partition {
    int32_t partition;
    int32_t leader;       /* broker id; -1: none */
    int32_t leader_epoch; /* -1: not known */
    int64_t start_offset; /* -1: not asked, or not known (code says why) */
    int64_t end_offset;   /* likewise */
    int64_t size_bytes;   /* on disk; likewise */
    int code;             /* RV_OK, or why this partition's offsets are not known */
};
struct rv_topic {
    const char *name;
    const char *id; /* base64url; "" when there is none */
    bool internal;  /* the broker's own */
    const struct rv_topic_partition *partitions;
    size_t partition_count;
};
struct rv_topics {
    const struct rv_topic *items; /* sorted by name */
    size_t count;
};
/* Names and partitions of all topics. */
RV_API int rv_topic_list(struct rv_client *client, int timeout_ms, struct rv_topics **ret_topics,
                         struct rv_error *ret_error);
/* One topic with its offsets and sizes. UNKNOWN_TOPIC_OR_PARTITION. */
RV_API int rv_topic_describe(struct rv_client *client, const char *topic, int timeout_ms,
                             struct rv_topics **ret_topic, struct rv_error *ret_error);

/* Fills `offset` (and leader_epoch, code) of each partition: `at` is RV_START, RV_END, or a
 * timestamp: then the first offset whose record is not older, -1 when there is none. */
RV_API int rv_offsets(struct rv_client *client, struct rv_partition *partitions, size_t count,
                      int64_t at, int timeout_ms, struct rv_error *ret_error);

struct rv_config {
    const char *name;
    const char *value; /* NULL: not shown (secret) */
    bool is_default;   /* nobody has set it */
    bool read_only;
    bool sensitive;
};
struct rv_configs {
    const struct rv_config *items; /* sorted by name */
    size_t count;
};
enum rv_resource { RV_TOPIC = 2, RV_BROKER = 4, RV_GROUP = 32 };
RV_API int rv_config_get(struct rv_client *client, enum rv_resource type, const char *name,
                         int timeout_ms, struct rv_configs **ret_configs,
                         struct rv_error *ret_error);
/* Sets what is named; a NULL value goes back to the default. INVALID_CONFIG, ... */
RV_API int rv_config_set(struct rv_client *client, enum rv_resource type, const char *name,
                         const struct rv_option *configs, int timeout_ms,
                         struct rv_error *ret_error);

struct rv_group_listing {
    const char *group;
    const char *state; /* Empty, Stable, PreparingRebalance, ...; "" when the broker does not say */
    const char *protocol_type;
};
struct rv_groups {
    const struct rv_group_listing *items; /* sorted by group */
    size_t count;
};
RV_API int rv_group_list(struct rv_client *client, int timeout_ms, struct rv_groups **ret_groups,
                         struct rv_error *ret_error);

struct rv_group_partition {
    const char *topic;
    int32_t partition;
    int64_t committed_offset; /* -1: none */
    int64_t end_offset;       /* -1: not known (code says why) */
    int64_t lag;              /* end - committed; -1 when one is not known */
    const char *member;       /* member id that has it; NULL: nobody */
    int code;                 /* RV_OK, or why the end is not known */
};
struct rv_group_member {
    const char *id;
    const char *instance_id; /* NULL: not a static member */
    const char *client_id;
    const char *host;
};
struct rv_group {
    const char *group;
    const char *state;    /* "Dead": there is no such group */
    const char *protocol; /* the assignor in use; "" while there is none */
    const struct rv_group_member *members;
    size_t member_count;
    const struct rv_group_partition *partitions; /* committed or assigned ones, sorted */
    size_t partition_count;
};
RV_API int rv_group_describe(struct rv_client *client, const char *group, int timeout_ms,
                             struct rv_group **ret_group, struct rv_error *ret_error);
/* Sets committed offsets of a group without active members (UNKNOWN_MEMBER_ID otherwise); fills
 * each code. */
RV_API int rv_group_set_offsets(struct rv_client *client, const char *group,
                                struct rv_partition *partitions, size_t count, int timeout_ms,
                                struct rv_error *ret_error);
/* Removes all members, static ones too: they learn it with their next request, and may join again.
 */
RV_API int rv_group_remove_members(struct rv_client *client, const char *group, int timeout_ms,
                                   struct rv_error *ret_error);
RV_API int rv_group_delete(struct rv_client *client, const char *group, int timeout_ms,
                           struct rv_error *ret_error); /* NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND */

/* Any request that is not wrapped: `body` is the encoded request without header, in a version that
 * the broker serves. node: broker id, or -1 for any. The answer is the encoded response without
 * header. */
struct rv_response {
    const void *body;
    size_t size; /* bytes */
};
RV_API int rv_request(struct rv_client *client, int32_t node, int16_t api_key, int16_t version,
                      const void *body, size_t size, int timeout_ms,
                      struct rv_response **ret_response, struct rv_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
