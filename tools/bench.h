/* bench: the load generator behind `rivulet bench ...`: raw requests of Kafka's protocol over many
 * connections with one epoll loop, encoded beforehand, so that it costs little CPU beside the
 * broker that it measures.
 *
 *   bench.c           the verbs: options, topic, what is printed
 *   bench_load.c      connections, requests out, answers in, what is counted
 *   bench_kinds.c     what is sent, and what an answer says
 *   bench_process.c   what the broker's process has used
 *
 * One process, one thread. A load belongs to its verb, connections to their load.
 */
#pragma once

#include "base/arena.h"
#include "protocol/compress.h"
#include "protocol/wire.h"
#include "tools/tool.h"

#include <sys/uio.h>

enum {
    LATENCY_LINEAR = 64, /* microseconds below it have a bucket each */
    LATENCY_STEPS = 32,  /* buckets for each power of two above: 3 % wide */
    LATENCY_OCTAVES = 26,
    LATENCY_BUCKETS = LATENCY_LINEAR + LATENCY_STEPS * LATENCY_OCTAVES,

    FRAME_PARTS = 3, /* what comes before the records, they, what comes behind */
};

/* How long things took. A zeroed one is empty. */
struct latency {
    uint64_t count;
    int64_t max_us;
    uint32_t buckets[LATENCY_BUCKETS];
};

void latency_record(struct latency *l, int64_t us);
int64_t latency_quantile_us(const struct latency *l, double share); /* 0 when empty */

/* What a process has used since it started, and holds now. */
struct usage {
    int64_t cpu_us;
    int64_t rss_kb;
    int64_t anon_kb;         /* of it: its own */
    int64_t threads;         /* now */
    int64_t voluntary_waits; /* context switches that its threads of now asked for */
};

bool usage_read(int64_t pid, struct usage *ret_usage); /* false: there is no such process */

struct load;
struct load_conn;

/* What a connection does. */
struct load_kind {
    bool unanswered; /* requests that get no answer: done when sent */
    bool untimed;    /* how long its requests take is not what is measured */
    bool uncounted;  /* nor how many they are */
    bool alone;      /* one request on its way: the answer says what the next one is */
    bool stamped;    /* fetches what is stamped with when it was due: that is what is measured */
    /* Sets the connection's `out` to the next frame. False: nothing to send now. */
    bool (*next)(struct load_conn *c);
    /* One answer without its size. NULL, or what is wrong with it. */
    const char *(*answer)(struct load_conn *c, const uint8_t *p, size_t size, int64_t now_us);
};

struct load_conn {
    struct load *load; /* borrowed */
    const struct load_kind *kind;
    int index; /* among those of its kind */
    int fd;    /* owned */
    bool wants_write;
    bool found;                    /* the kind's: what has to be asked first has been */
    bool ready;                    /* there was an answer that counts */
    struct iovec out[FRAME_PARTS]; /* what is left to send of a frame */
    int out_count;
    struct writer writer; /* owned: a frame of its own */
    int64_t *sent_us;     /* owned: a ring of load->in_flight times */
    int64_t sent;         /* requests */
    int64_t answered;
    uint8_t *in; /* owned: what has come of an answer */
    size_t in_size;
    size_t in_have;
    int64_t offset; /* the kind's: to fetch from, to commit */
};

/* What a run is to do. */
struct load_options {
    const char *host;
    const char *port;
    struct str topic;
    int connections;
    int partitions;
    int in_flight;
    int acks; /* as on the wire */
    int record_bytes;
    int batch_records;
    int fetch_bytes;
    enum codec codec;
    double seconds;
    double warm_seconds; /* before, not counted */
    int64_t rate;        /* requests a second; 0: as many as go */
    int64_t pid;         /* of the broker; 0: not known */
};

struct load {
    struct load_options o;
    int epoll;               /* owned */
    int ticker;              /* owned; -1: none */
    struct load_conn *conns; /* owned */
    int count;
    int senders; /* of conns, the first ones: by turns they send at the rate */
    struct arena arena;
    struct buf batch;        /* owned: the batch that is produced */
    size_t stamp_position;   /* in it: 8 bytes that say when it was to be sent */
    struct writer *prefixes; /* owned: by partition, a produce frame without its batch */
    int64_t measured_from_us;
    int64_t measured_to_us;
    bool measuring;
    const char *failed; /* why it ended early; NULL */
    bool (*watch)(void *ctx,
                  int64_t measured_us); /* now and then, NULL: never; false ends it early */
    void *watch_ctx;

    int64_t ticks; /* requests that are due, since the start */
    int64_t ticks_from_us;
    int64_t warm_requests; /* answered before */
    int64_t requests;      /* answered while measuring, and so the rest */
    int64_t records;
    int64_t bytes;
    struct latency latency;
    struct usage broker_before;
    struct usage broker_after;
    struct usage own_before;
    struct usage own_after;
    bool has_usage;
};

/* ---- bench_load.c */

void load_init(struct load *l, const struct load_options *o);
void load_finish(struct load *l);
bool load_connect(struct load *l, int count, const struct load_kind *kind); /* false: l->failed */
bool load_run(struct load *l);                                              /* false: l->failed */
bool load_say_hello(struct load *l); /* one request on each connection, all answered */
int64_t load_now_us(void);

/* ---- bench_kinds.c */

extern const struct load_kind kind_produce;
extern const struct load_kind kind_produce_unanswered;
extern const struct load_kind kind_produce_stamped; /* at load.o.rate */
extern const struct load_kind kind_fetch;
extern const struct load_kind kind_fetch_stamped; /* records how old what it gets is */
extern const struct load_kind kind_commit;
extern const struct load_kind kind_hello;

bool produce_prepare(struct load *l); /* the batch and the frames; false: l->failed */
