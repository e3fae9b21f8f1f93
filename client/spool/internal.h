/* What the files of client/spool share of a spool.
 *
 * The lock guards what says so below; the rest is the sender's, who is one thread at a time
 * (is_sending), or never changes. Nobody waits for the network with the lock.
 */
#pragma once

#include "base/clock.h"
#include "base/map.h"
#include "client/sealed/sealed.h"
#include "client/spool/event.h"
#include "client/spool/plan.h"
#include "client/spool/rivulet_spool.h"
#include "client/spool/sending.h"
#include "protocol/batch.h"

#include <pthread.h>

enum {
    SEGMENT_DIGITS = 20,
    WINDOW_BYTES = 1 << 20,  /* of the events of one window, or it is a single one */
    BATCH_BYTES = 900 << 10, /* of one batch, or it is a single one: below message.max.bytes */
};

/* What the sender sends through: client/sealed, or a test's model of a broker. As in sealed.h. */
struct carrier {
    int (*identity)(void *ctx, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                    struct rv_error *ret_error);
    int (*partitions)(void *ctx, const char *topic, int timeout_ms, int32_t *ret_count,
                      struct rv_error *ret_error);
    int (*ends)(void *ctx, struct rv_partition *partitions, size_t count, int timeout_ms,
                struct rv_error *ret_error); /* as rv_offsets with RV_END */
    int (*send)(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                struct rv_error *ret_error);
    void (*pause)(void *ctx, int ms);
    void *ctx;
};

struct segment {
    uint64_t first; /* number of its first event */
    int64_t bytes;  /* of the file, but for the last one, which grows */
};

struct spool_settings {
    char *dir; /* owned */
    int64_t max_bytes;
    int64_t segment_bytes;
    int64_t sync_ms;
    int64_t topic_wait_ms;
    enum codec codec;
};

struct window {           /* the events of the plan */
    struct buf bytes;     /* owned: their bodies */
    struct event *events; /* owned: PLAN_EVENTS; they borrow from bytes */
    size_t count;         /* 0: none is loaded */
    uint64_t first;       /* number of the first */
    uint64_t after_first; /* of the segment that the next window begins in */
    int64_t after_position;
};

struct set_aside { /* an entry of `refused` */
    int64_t position;
    bool is_open; /* set aside; else it is on its way again, or no event */
};

struct rv_spool {
    struct spool_settings settings; /* never change */
    const struct clock *clock;      /* borrowed */
    struct disk disk;               /* owned */
    pthread_mutex_t lock;
    pthread_cond_t appended;

    /* under the lock */
    struct segment *segments; /* owned; the last one is `last` */
    size_t segment_count;
    size_t segment_room;
    struct chain last; /* the segment that grows */
    bool must_roll;    /* beginning the next one has failed: it must succeed first */
    struct sending sending;
    struct chain refused;     /* file NULL: nothing was set aside yet */
    struct set_aside *asides; /* owned: its entries, by number - first */
    size_t aside_count;
    size_t aside_room;
    size_t aside_open; /* of them that are */
    uint64_t *again;   /* owned: entries that get the numbers again_first ..; see retry.c */
    size_t again_count;
    uint64_t again_first;
    int64_t dirty_ms;           /* monotonic: when the first event that is not durable came; -1 */
    int64_t oldest_ms;          /* of struct rv_spool_status */
    int64_t failing_ms;         /* likewise */
    struct rv_error last_error; /* likewise */
    rv_spool_event_fn *on_refused;
    void *on_refused_ctx;
    bool is_sending;

    /* the sender's */
    struct sealed *sealed;    /* owned; NULL: none yet */
    struct rv_client *client; /* borrowed: sealed is of this one */
    struct window window;
    struct plan plan;
    bool is_aside[PLAN_EVENTS]; /* events of the plan that are in `refused` */
    uint64_t from_first;        /* of the segment that the next window begins in */
    int64_t from_position;
    int64_t producer_id; /* -1: none, or not good any more */
    int16_t producer_epoch;
    struct map sequences; /* "topic/partition" -> what comes next, of producer_id; see sender.c */
    struct map missing;   /* "topic" or "topic/partition" -> since when it is not there (owned) */
    size_t batch_most;    /* events of a batch; smaller after one was too large */
};

/* ---- spool.c ---- */

/* Takes the disk over, also when it fails. */
int spool_open_on(struct disk disk, const struct clock *clock, const struct rv_option *options,
                  struct rv_spool **ret_spool, struct rv_error *ret_error);
void segment_name(uint64_t first, char name[CHAIN_NAME_SIZE]);
bool segment_number(const char *name, uint64_t *ret_first); /* false: it is none */

/* Under the lock: */
int spool_sync_locked(struct rv_spool *s, struct rv_error *ret_error);
uint64_t spool_next(const struct rv_spool *s); /* number of the next event */
/* Everything up to `number` is done: removes the files that are not needed any more. */
int spool_done_locked(struct rv_spool *s, uint64_t number, struct rv_error *ret_error);

/* Adds an event behind the others, whatever spool.max.bytes says; it is not synced. */
int spool_add_locked(struct rv_spool *s, struct buf *entry, int64_t appended_ms,
                     uint64_t *ret_number, struct rv_error *ret_error);

/* Sets one event aside; it is durable after chain_sync of s->refused. */
int spool_refuse_locked(struct rv_spool *s, const struct refusal *r, struct rv_error *ret_error);

int spool_refused_remove_locked(struct rv_spool *s, struct rv_error *ret_error);

/* ---- retry.c ---- */

/* Takes note of an entry of `refused`; `is_open`: an event that is set aside. RV_E_MEMORY. */
int aside_add(struct rv_spool *s, int64_t position, bool is_open, struct rv_error *ret_error);
/* Takes note of the entry behind the others that says what goes into the spool again. */
int again_take(struct rv_spool *s, const struct again *a, struct rv_error *ret_error);
/* Under the lock: what was to go into the spool again and is not all there yet (A1) is, and then
 * `refused` goes if nothing else is in it. */
int again_finish(struct rv_spool *s, struct rv_error *ret_error);

/* ---- settings.c ---- */

int spool_settings_init(struct spool_settings *s, const struct rv_option *options,
                        struct rv_error *ret_error);
void spool_settings_finish(struct spool_settings *s); /* takes a zeroed one */

/* ---- window.c ---- */

/* Reads the events first .. first + most - 1, as many as there are (and, unless `whole`, fit in
 * WINDOW_BYTES). Nothing there: count 0. Under the lock. */
int window_load(struct rv_spool *s, uint64_t first, size_t most, bool whole,
                struct rv_error *ret_error);

/* ---- show.c ---- */

/* As rv_spool_show; takes the disk over. */
int spool_show_on(struct disk disk, rv_spool_event_fn *fn, void *ctx,
                  struct rv_spool_status *ret_status, struct rv_error *ret_error);

/* ---- sender.c ---- */

struct sender { /* of one rv_spool_send */
    struct rv_spool *spool;
    const struct carrier *carrier;
    int64_t deadline_ms;   /* monotonic */
    struct rv_error error; /* of the step: why it is later, or has failed */
};

enum step {
    STEP_ON,     /* it got on */
    STEP_IDLE,   /* there is nothing to do */
    STEP_LATER,  /* try again after a pause */
    STEP_FAILED, /* the spool's own trouble */
};

void sender_init(struct rv_spool *s);
void sender_finish(struct rv_spool *s);
int sender_time_left(const struct sender *q); /* of one question to the network, ms */
int spool_send_by(struct rv_spool *s, const struct carrier *carrier, int timeout_ms,
                  struct rv_error *ret_error);

/* ---- carrier.c ---- */

/* To send with the client from now on. RV_E_MEMORY. */
int carrier_attach(struct rv_spool *s, struct rv_client *client, struct carrier *ret_carrier,
                   struct rv_error *ret_error);

/* ---- draft.c, deliver.c, aside.c ---- */

/* Puts the events that wait into batches, and that on disk. STEP_ON without an open batch: none
 * waits any more. */
enum step draft_make(struct sender *q);

/* Sends the batches that are open, and settles those whose fate is known. */
enum step deliver(struct sender *q);

enum { PLACE_KEY_SIZE = PLAN_TOPIC_SIZE + 12 };
void place_key(char key[PLACE_KEY_SIZE], const char *topic, int32_t partition); /* -1: the topic */

/* Whether a place has been missing for too long, from the first call on. */
bool missing_note(struct rv_spool *s, const char *key, bool *ret_no_memory);
void missing_forget(struct rv_spool *s, const char *key);
/* A question failed. Where no broker could be asked, all that is missing counts from the next
 * answer on: one that comes back may not know its topics at once. */
void missing_unasked(struct sender *q, int code);

/* The sequence of what comes next in a partition, of the producer id in use. */
int32_t sequence_get(const struct rv_spool *s, const char *topic, int32_t partition);
void sequence_set(struct rv_spool *s, const char *topic, int32_t partition, int32_t sequence);
void identity_drop(struct rv_spool *s); /* the next plan has a new one */

/* Sets events of the window aside, those that are not yet: durable and told when it returns RV_OK.
 * `which` are their indices. RV_E_FULL: some may be. */
int aside(struct sender *q, const uint16_t *which, size_t count, const struct refusal *why);
