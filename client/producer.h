/* producer: what the files client/producer*.c share. Owned by whoever opened it; hangs off one
 * client, on its thread.
 *
 *   rv_send --> out_batch (a partition's last, open) --closed--> sealed, numbered, in an
 * out_request
 *           <-- its receipts' callbacks <-- ended <-- fate of an answer (or time is up) <--
 *
 * producer.c        the calls of rivulet.h
 * producer_queue.c  topics, partitions and their batches; memory
 * producer_send.c   what may be sent now; requests and their answers
 * producer_fate.c   what an answer means for a batch; sequence numbers and epochs
 * txn*.c            transactions
 */
#pragma once

#include "client/client.h"
#include "client/txn.h"
#include "protocol/batch.h"

enum {
    SEQUENCE_NONE = -1,
    WHY_SIZE = 160,
    BATCH_COST = 512, /* bytes that a batch is charged beside its records */
};

/* Whom to tell about one record of a batch. Records without a callback have none. */
struct receipt {
    rv_delivery_fn *fn;
    void *ctx;            /* borrowed; for fn */
    int64_t timestamp_ms; /* of the record */
    int32_t index;        /* of the record in its batch */
};

struct out_batch {
    struct list link;                /* in its partition's batches, in the order of sending */
    struct list in_request;          /* in its request's batches, while in flight */
    struct list in_ended;            /* in the producer's ended: its receipts are to be called */
    struct out_partition *partition; /* borrowed */
    struct out_request *request;     /* borrowed; NULL: not in flight */
    struct batch_builder builder;    /* the records, until it is sealed */
    struct buf sealed;               /* owned; as it is sent; empty before the first time */
    struct receipt *receipts;        /* owned; by index, ascending */
    int32_t receipt_count;
    int32_t receipt_size; /* slots of receipts */
    int32_t count;        /* records */
    size_t size;          /* bytes, before compression; when sealed */
    size_t charged;       /* bytes of buffer.memory */
    uint64_t number;      /* rises with each batch of the producer */
    int64_t born_ms;      /* monotonic, of the first record */
    int attempts;         /* times that it was put into a request */
    bool closed;          /* takes no more records */
    bool unsure; /* an attempt had no answer, or one that leaves it open: it may be stored */
    bool ended;  /* its fate has been told or is about to be; in flight all the same */
    int64_t producer_id; /* as sealed, and so the next two; -1: none */
    int16_t producer_epoch;
    int32_t sequence; /* of the first record; SEQUENCE_NONE: has none yet */

    int code;               /* of the last answer; the fate once ended */
    int64_t offset;         /* of the first record; -1: not known */
    int64_t append_time_ms; /* the broker's; -1: the records' own count */
    char why[WHY_SIZE];     /* the last failure, for texts; "": none */
};

struct out_partition {
    struct list link;        /* in the producer's active, while it has batches */
    struct out_topic *topic; /* borrowed */
    int32_t index;           /* partition number */
    struct uuid topic_id;    /* of the topic that the sequences belong to; zero: none yet */
    struct list batches;     /* struct out_batch, owned; all but the last are closed */
    int32_t in_flight;       /* batches in requests */
    int32_t node;            /* where those are */
    int64_t not_before_ms;   /* back-off */
    int64_t producer_id;     /* -1: none yet */
    int16_t producer_epoch;
    int32_t next_sequence; /* of the next batch that gets one */
    bool proven;           /* the broker has taken a batch of this id and epoch */
    bool broken;           /* a sequence is missing: begin a new epoch as soon as that is safe */
    bool id_spent;         /* the new epoch needs a new id */
    uint64_t joined;       /* number of the last transaction that it was added to; 0: none */
};

struct out_topic {
    struct topic *meta;                /* borrowed; lives as long as the client */
    struct out_partition **partitions; /* owned, as what they point to; NULL: not used yet */
    int32_t partition_size;            /* slots of partitions */
    int32_t sticky;     /* partition that records without a key go to; -1: choose one */
    int32_t fill_index; /* place in the request that is being filled */
    uint64_t fill_mark; /* which one that is */
};

/* One broker, as the producer sees it. */
struct outlet {
    int32_t node;
    int32_t in_flight;           /* requests */
    int64_t throttled_until_ms;  /* the broker asked for a pause */
    struct conn *conn;           /* borrowed; while building */
    struct out_request *request; /* being put together; NULL between passes */
};

/* One Produce request. */
struct out_request {
    struct call call;
    struct list link; /* in the producer's requests, then in its answered */
    struct rv_producer *producer;
    struct conn *conn;   /* borrowed; where it was submitted, for texts */
    struct list batches; /* struct out_batch, by in_request; those of a topic stand together */
    int32_t batch_count;
    size_t size; /* bytes of records, before compression */
    int32_t node;
    int code; /* how the call ended */
    int32_t throttle_ms;
    char why[WHY_SIZE]; /* "broker HOST:PORT: ..." */
};

struct rv_producer {
    struct part part;         /* in the client's parts */
    struct rv_client *client; /* borrowed */
    struct settings settings;
    enum codec codec;
    int16_t acks; /* as on the wire */
    bool idempotent;
    size_t batch_limit;     /* bytes of a batch, before compression */
    struct map topics;      /* name -> struct out_topic, owned */
    struct out_topic *last; /* borrowed; found last; NULL: none */
    struct list active;     /* struct out_partition: those with batches */
    struct outlet *outlets; /* owned */
    int32_t outlet_count;
    struct list requests; /* struct out_request, owned: on their way */
    struct list answered; /* struct out_request, owned: ended, not looked at yet */
    struct list ended;    /* struct out_batch: fate known, receipts not called yet */
    int32_t lane;         /* of its connections */

    size_t used;    /* bytes of buffer.memory */
    size_t pending; /* records whose fate is open */
    uint64_t next_number;
    uint64_t flush_number; /* batches below this are being waited for by rv_flush ... */
    size_t flush_left;     /* ... and have so many records */
    struct rv_error first; /* the first failure of a record since the last rv_flush */

    int64_t producer_id; /* the newest that the broker gave; -1: none yet */
    int16_t producer_epoch;
    bool id_wanted; /* another one is needed */
    struct call id_call;
    bool id_answered; /* id_call has ended: look at the next three */
    int id_code;
    int64_t id_given;
    int16_t id_epoch;
    int id_failures;          /* in a row */
    int64_t id_not_before_ms; /* back-off */

    struct txn txn; /* of a transactional one */

    struct timer timer;    /* something is due; the pump does it */
    int64_t now_ms;        /* of this pump: what it tries and what it waits for fit together */
    int64_t turned_ms;     /* when rv_send moved the client on last */
    uint64_t fill_mark;    /* counts requests that were filled */
    bool turn_due;         /* a batch has been closed since */
    bool starved;          /* buffer.memory is in use: nothing lingers */
    bool closing;          /* rv_producer_close is at it */
    struct rv_error fatal; /* code not RV_OK: it has failed for good */

    struct record_header *headers; /* owned; of the record at hand */
    size_t header_size;            /* slots of headers */
    struct batch_scratch scratch;  /* of splitting */
};

static inline struct list *list_first(struct list *head) /* NULL: empty */
{
    return list_empty(head) ? NULL : head->next;
}

/* ---- producer_queue.c ---- */

struct out_topic *out_topic_get(struct rv_producer *pr, const char *name); /* NULL: no memory */
void out_topics_finish(struct rv_producer *pr);
struct out_partition *out_partition_get(struct out_topic *t, int32_t index); /* NULL: no memory */
struct out_batch *out_batch_create(struct rv_producer *pr, struct out_partition *p);
void out_batch_destroy(struct out_batch *b); /* must be in no list */
void out_batch_close(struct out_batch *b);

/* Room for `count` headers in pr->headers. False: no memory. */
bool headers_reserve(struct rv_producer *pr, size_t count);

/* A record for a partition (given, or -1: by key, or the sticky one) of a topic whose partitions
 * are known. RV_E_FULL, RV_E_MEMORY, RV_E_TOO_LARGE, or UNKNOWN_TOPIC_OR_PARTITION: nothing was
 * done. */
int queue_add(struct rv_producer *pr, struct out_topic *t, const struct rv_message *m,
              rv_delivery_fn *fn, void *ctx, struct rv_error *ret_error);
void queue_close_all(struct rv_producer *pr); /* nothing lingers any more */

/* The batch's fate is known. Its receipts are called at the end of the pump. */
void queue_end(struct rv_producer *pr, struct out_batch *b, int code);
void queue_deliver(struct rv_producer *pr); /* calls the receipts of what has ended */

/* When something of this partition is due by itself; INT64_MAX: never. */
int64_t out_partition_due_ms(const struct rv_producer *pr, const struct out_partition *p);
bool out_batch_is_ready(const struct rv_producer *pr, const struct out_batch *b);

static inline int64_t out_batch_deadline_ms(const struct rv_producer *pr, const struct out_batch *b)
{
    return b->born_ms + pr->settings.numbers[OPT_DELIVERY_TIMEOUT_MS];
}

/* ---- producer_send.c ---- */

void producer_pump(struct part *part);
void producer_arm(struct rv_producer *pr, int64_t due_ms); /* no later than then */
void requests_give_up(struct rv_producer *pr);             /* closing: none is on its way after */

/* ---- producer_fate.c ---- */

/* Looks at the answer (b->code, or why there is none) of a batch that is not in flight any more:
 * ends it, or leaves it to be sent again. */
void fate_take(struct rv_producer *pr, struct out_batch *b);

/* The identity for the next batch of the partition. False: not yet (an id is needed, something is
 * unsure); *ret_batch, when not NULL, is to be sent first to find out. */
bool identity_ready(struct rv_producer *pr, struct out_partition *p, struct out_batch **ret_first);

/* Seals a batch for its first sending. RV_E_MEMORY, or another code: it can never be sent. */
int out_batch_seal(struct rv_producer *pr, struct out_batch *b);

void ids_pump(struct rv_producer *pr); /* asks for producer ids and takes them */
void ids_init(struct rv_producer *pr);
