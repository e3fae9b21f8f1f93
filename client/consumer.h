/* consumer: what an rv_consumer is made of.
 *
 *   consumer.c          open, close, poll, assignment, seek, pause, lag, events
 *   consumer_place.c    where a partition is read from: committed offsets, ListOffsets, epochs
 *   consumer_commit.c   commits, one at a time, in order
 *   fetch.c             fetches, and what they bring as chunks
 *   fetch_records.c     chunks into records
 *   group.c             the member: join, sync, heartbeat, leave
 *   group_turns.c       what it does in the user's calls: partitions go and come
 *   group_coord.c       where the group's coordinator is
 *   group_deal.c        what the leader does; group_protocol.c its bytes; assign.c the dealing
 *
 * A *claim* is one assigned partition. Claims come and go only in rv_poll, rv_assign, rv_subscribe
 * and rv_consumer_close, never in a pump: what the pumps find out waits there until then. Answers
 * find their claim by its stamp, which every move of the position changes, so that an answer to
 * what was asked before is nobody's. One thread.
 */
#pragma once

#include "client/assign.h"
#include "client/client.h"
#include "protocol/batch.h"

enum { FETCH_LANES = 2 };

enum claim_state {
    CLAIM_COMMITTED, /* its committed offset is to be asked for */
    CLAIM_PLACE,     /* the offset of `place` is to be asked for */
    CLAIM_CHECK,     /* is the record before the position still the one that we know? */
    CLAIM_READY,     /* is fetched */
    CLAIM_FAILED,    /* trouble that lasts; rv_seek revives it */
};

struct claim {
    struct topic *topic; /* borrowed; lives as long as the client */
    int32_t partition;
    enum claim_state state;
    uint64_t born;  /* of this claim alone: commits know it by that */
    uint64_t stamp; /* new with every move of the position */
    uint64_t asked; /* the stamp that a fetch on its way is for; 0: none */
    bool paused;
    bool leaving;             /* of group_turns.c: is to be given up */
    int64_t position;         /* what rv_poll gives next; -1: not known yet */
    int32_t position_epoch;   /* of the record before it; -1: not known */
    int64_t fetch_offset;     /* what is fetched next: behind the chunks */
    int32_t checked_epoch;    /* the leader's, when the position was checked */
    struct uuid topic_id;     /* when the position was found; zero: not known */
    int64_t end;              /* of the partition, as of the last answer; -1: not known */
    int64_t place;            /* of CLAIM_PLACE: RV_START, RV_END or a timestamp */
    int64_t committed;        /* the last offset that we committed; -1: none */
    int64_t given_from;       /* position before the poll that is being made; -1: nothing given */
    int32_t given_epoch;      /* position_epoch then */
    int chunks;               /* of it, in the consumer's list */
    int failures;             /* in a row */
    int64_t not_before_ms;    /* back-off */
    int64_t unknown_since_ms; /* the topic or partition is not there since; 0: it is */
    int trouble;              /* code to be returned by rv_poll; 0: none */
    bool told;                /* that the partition is not there */
    int64_t jump_from;        /* the position that was given up; -1: no jump */
    const char *jump_why;     /* static */
    bool jump_ready;          /* the new position is known: RV_JUMPED is due */
};

/* Sorted by topic and partition. */
struct claims {
    struct claim **items; /* owned, and what they point to */
    size_t count, size;
};

struct aborted {
    int64_t producer_id;
    int64_t first_offset;
    bool over; /* its marker has been read */
};

/* Whole batches of one partition out of one answer. */
struct chunk {
    struct list link;    /* in consumer->chunks, or ->spent */
    struct claim *claim; /* borrowed; NULL in spent */
    struct frame *frame; /* counted */
    const uint8_t *next; /* the batch that is read next */
    const uint8_t *end;  /* behind the last whole batch */
    size_t charged;      /* bytes, in consumer->queued */
    int32_t aborted_count;
    struct aborted aborted[];
};

/* Fetches from one broker. */
struct fetch_item {
    struct topic *topic; /* borrowed */
    int32_t partition;
    uint64_t stamp;
    int64_t offset;
    int32_t leader_epoch; /* as we believe it */
    int32_t position_epoch;
};
struct fetcher {
    struct list link;             /* in consumer->fetchers */
    struct rv_consumer *consumer; /* borrowed */
    int32_t node;
    int lane; /* index in fetch_lanes */
    struct call call;
    struct fetch_item *items; /* owned; what was asked for, topic by topic */
    int32_t count, size;
    bool by_id;            /* every topic has an id */
    bool at_once;          /* the end of some partition is not known yet: do not wait */
    int failures;          /* in a row */
    int64_t not_before_ms; /* back-off */
};

/* A question about positions to one broker: ListOffsets or OffsetForLeaderEpoch. */
struct locate {
    struct rv_consumer *consumer; /* borrowed */
    struct call call;
    enum claim_state of;      /* CLAIM_PLACE or CLAIM_CHECK */
    struct fetch_item *items; /* owned; `offset` is the place */
    int32_t count, size;
    int32_t next_broker; /* whose turn it is */
};

struct coord {
    int32_t node; /* broker id; -1: not known */
    struct call find;
    int failures;
    int64_t not_before_ms;
    int code; /* lasting: the group cannot be used; 0 */
};

enum member_state {
    MEMBER_OUT,     /* subscribed to nothing */
    MEMBER_PREPARE, /* rv_poll has to give partitions up before we may join */
    MEMBER_JOIN,    /* JoinGroup, to be sent or on its way */
    MEMBER_DEAL,    /* we lead: metadata of all topics, then the deal */
    MEMBER_SYNC,    /* SyncGroup, to be sent or on its way */
    MEMBER_DEALT,   /* rv_poll has to take up what was dealt */
    MEMBER_IN,      /* done; heartbeats */
    MEMBER_FAILED,  /* `code` says why; rv_subscribe begins again */
};

struct watched {
    struct topic *topic; /* borrowed */
    int32_t count;       /* partitions when it was dealt */
};

struct member {
    enum member_state state;
    char **topics; /* owned; subscribed to */
    size_t topic_count;
    char *id; /* owned; NULL: none yet */
    int32_t generation;
    enum assignor assignors[ASSIGN_COUNT]; /* by preference */
    int assignor_count;
    bool cooperative;       /* all of them are */
    enum assignor assignor; /* of this generation */
    bool leads;
    bool skip_deal; /* a static leader came back: the deal stands */
    bool lost;      /* the partitions are gone already: RV_LOST, not RV_REVOKED */
    bool rejoin;    /* wanted */
    int code;       /* of MEMBER_FAILED */
    char why[160];  /* for its text */
    int failures;
    int64_t not_before_ms;
    struct call call; /* join, sync */
    struct call heartbeat;
    struct call leave;
    char *leave_id;                             /* owned; who leaves */
    int64_t heartbeat_at_ms;                    /* due */
    int32_t heartbeat_generation;               /* of the one on its way */
    struct arena arena;                         /* the answers to join and sync */
    struct frame *frame;                        /* counted; what they borrow from */
    const struct join_group_response *joined;   /* in the arena; NULL */
    struct arena deal_arena;                    /* what the leader works with */
    struct sync_group_request_assignment *deal; /* in deal_arena; what it sends */
    int32_t deal_count;
    struct bytes dealt;    /* in the arena: our part */
    struct watched *watch; /* owned; leader: topics whose partitions may become others */
    size_t watch_count;
    struct timer poll_timer; /* max.poll.interval.ms */
};

struct rv_consumer {
    struct part part;
    struct rv_client *client; /* borrowed */
    struct settings settings;
    int32_t fetch_lanes[FETCH_LANES], group_lane;
    bool has_group; /* group.id */
    bool closing;
    bool in_event;
    enum rv_event_kind event; /* of in_event */
    struct claims claims;
    uint64_t next_stamp;
    size_t first_claim;         /* fetches begin with another one each time */
    bool trouble;               /* some claim has */
    bool jumps;                 /* some claim has jump_ready */
    bool caught_up;             /* said so */
    struct rv_partition *view;  /* owned; of rv_assignment */
    struct rv_partition *named; /* owned; of events. Both have room for all claims, old and new */
    size_t view_size;
    struct timer wake; /* the earliest back-off is over */
    struct list fetchers;
    struct list chunks; /* to be read, oldest first */
    struct list spent;  /* read, or given up; their records may be borrowed */
    size_t queued;      /* bytes charged by both */
    struct batch_iterator iterator;
    struct batch_scratch scratch;
    bool batch_open; /* the iterator is in the first chunk's next batch */
    bool has_ahead;  /* a record is read and not given */
    struct record ahead;
    struct arena poll_arena;   /* what records point to, besides frames */
    struct rv_record *records; /* owned; given by the last rv_poll */
    size_t record_count, record_size;
    struct locate places, checks;
    struct call committed_call; /* OffsetFetch */
    struct fetch_item *committed_items;
    int32_t committed_count, committed_size;
    int committed_failures;
    int64_t committed_not_before_ms;
    struct coord coord;
    struct member member;
    struct list commits; /* struct commit; the first is on its way */
    struct call commit_call;
    bool auto_commit_busy;
    int64_t auto_commit_at_ms;
    rv_event_fn *on_event;
    void *event_ctx;
};

static inline int64_t option(const struct rv_consumer *c, enum option_id id)
{
    return c->settings.numbers[id];
}

/* The offset behind a batch. False: there is no such batch. */
static inline bool batch_behind(const struct batch_header *h, int64_t *ret_offset)
{
    return h->base_offset >= 0 && h->last_offset_delta >= 0 &&
           !__builtin_add_overflow(h->base_offset, (int64_t)h->last_offset_delta + 1, ret_offset);
}

/* ---- consumer.c ---- */

void consumer_wake(struct rv_consumer *c, int64_t at_ms);      /* a turn is wanted then */
int64_t consumer_backoff(struct rv_consumer *c, int failures); /* retry.backoff.ms: monotonic ms */
struct claim *claim_find(const struct rv_consumer *c, const struct topic *t, int32_t partition);
/* The claim that an answer is for; NULL: it is nobody's any more. */
struct claim *claim_of_item(const struct rv_consumer *c, const struct fetch_item *item);
void claim_move(struct rv_consumer *c, struct claim *claim,
                int64_t place); /* any of RV_*, or >= 0 */
void claim_at(struct rv_consumer *c, struct claim *claim, int64_t offset, int32_t epoch);
void claim_fail(struct rv_consumer *c, struct claim *claim, int code);
void claim_retry(struct rv_consumer *c, struct claim *claim); /* back-off */
/* The position is no place any more: on where auto.offset.reset says. `why` is static. */
void claim_jump(struct rv_consumer *c, struct claim *claim, const char *why);
int32_t claim_leader(const struct claim *claim);       /* broker id; -1: not known */
int32_t claim_leader_epoch(const struct claim *claim); /* -1: not known */

/* One that is not among the claims yet; mem_free ends it. It begins at RV_COMMITTED. NULL: no
 * memory. */
struct claim *claim_create(struct rv_consumer *c, struct topic *t, int32_t partition);
int claims_reserve(struct rv_consumer *c, size_t count); /* room for so many, with their views */
void claims_add(struct rv_consumer *c, struct claim *claim);    /* room was reserved */
void claims_remove(struct rv_consumer *c, struct claim *claim); /* and destroys it */
void claims_clear(struct rv_consumer *c);
void consumer_event(struct rv_consumer *c, const struct rv_event *event);

void claims_look(struct rv_consumer *c); /* for topics and partitions that are not there */

/* ---- consumer_place.c ---- */

void places_init(struct rv_consumer *c);
void places_finish(struct rv_consumer *c);
void places_pump(struct rv_consumer *c);
bool items_reserve(struct fetch_item **items, int32_t *size, int32_t count);

/* ---- consumer_commit.c ---- */

void commits_pump(struct rv_consumer *c);
void commits_finish(struct rv_consumer *c);                     /* ends all with RV_E_STATE */
void commits_drain(struct rv_consumer *c, int64_t deadline_ms); /* waits until there are none */
void commits_auto(struct rv_consumer *c); /* delivery=at-least-once, from rv_poll */
bool consumer_holds(const struct rv_consumer *c, const char *topic, int32_t partition);
/* Commits positions, and waits. */
int commit_positions(struct rv_consumer *c, int64_t deadline_ms, struct rv_error *ret_error);

/* ---- fetch.c, fetch_records.c ---- */

void fetch_pump(struct rv_consumer *c);
void fetch_finish(struct rv_consumer *c);
void chunk_spend(struct rv_consumer *c,
                 struct chunk *k); /* out of the list, kept until the next poll */
void chunks_drop(struct rv_consumer *c, struct claim *claim); /* what was fetched for it */
void records_release(struct rv_consumer *c);                  /* those of the last poll */
int records_collect(struct rv_consumer *c, struct rv_error *ret_error);

/* ---- group*.c ---- */

void coord_init(struct rv_consumer *c);
void coord_finish(struct rv_consumer *c);
/* The coordinator's connection; NULL: not known yet, and asked for. */
struct conn *coord_conn(struct rv_consumer *c, int32_t lane);
/* An answer said that it is elsewhere, or did not come. */
void coord_lost(struct rv_consumer *c);

int member_init(struct rv_consumer *c, struct rv_error *ret_error);
void member_finish(struct rv_consumer *c);
void member_pump(struct rv_consumer *c);
void member_lost(struct rv_consumer *c, int code, const char *why); /* we are none any more */
void member_polled(struct rv_consumer *c);                          /* rv_poll was called */
void member_leave(struct rv_consumer *c, int64_t deadline_ms);      /* and waits until it is said */
/* group_turns.c: what needs the user's callbacks. An error is the group's, not a partition's. */
int member_poll(struct rv_consumer *c, struct rv_error *ret_error);
/* The callback, the commits that it made, the end of all claims. */
void member_revoke_all(struct rv_consumer *c, enum rv_event_kind kind, int64_t deadline_ms);
static inline bool is_member(const struct rv_consumer *c)
{
    return c->member.state != MEMBER_OUT;
}

/* The leader's part. *ret_done: member->deal is set; else metadata is missing. */
int deal_make(struct rv_consumer *c, bool *ret_done);
bool deal_is_stale(const struct rv_consumer *c);

/* group_protocol.c: what members tell each other inside of join and sync. */
struct consumer_protocol_subscription;
struct consumer_protocol_assignment;
int subscription_write(struct rv_consumer *c, enum assignor assignor, struct arena *a,
                       struct bytes *ret_bytes);
/* Anything that is no subscription is one to nothing. RV_E_MEMORY. */
int subscription_read(struct bytes in, struct arena *a,
                      struct consumer_protocol_subscription *ret_subscription);
int assignment_write(const struct assign_topic *topics, const struct assign_member *m,
                     struct arena *a, struct bytes *ret_bytes);
/* RV_E_MEMORY, RV_E_PROTOCOL. */
int assignment_read(struct bytes in, struct arena *a,
                    struct consumer_protocol_assignment *ret_assignment);
