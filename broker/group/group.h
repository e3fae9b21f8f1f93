/* group: one consumer group of Kafka's classic protocol, as a pure state machine.
 *
 *     group_step(group, event, env, effects)    decides: what to answer, what to append, when to
 * wake group_apply(group, record)                alone changes what is lasting
 *
 * No I/O, no clock, no event loop, no wire structs. The owner (coord/) turns requests into events,
 * hands in the time, carries out the effects, and lives on one thread; the group keeps no pointer
 * to anything it was handed.
 *
 * Two layers. *Lasting* is what the log says: the group's metadata (members and their assignments
 * as of the last completed rebalance) and the committed offsets. Only group_apply changes it, with
 * records that are durable, the same code that replays the log at a start. *Live* is what a restart
 * may forget: who is waiting for what, the running rebalance, deadlines. A step that needs
 * something lasting asks for an append and goes on when GROUP_EVENT_APPENDED tells how that ended;
 * a refused append has changed nothing.
 *
 * Every event with a token is answered exactly once: by this step or by a later one. A token is the
 * owner's name for a parked request; 0 means that nobody waits.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a member can be told. api/ maps these to Kafka's codes by a table. */
enum group_error {
    GROUP_OK = 0,
    GROUP_UNKNOWN_MEMBER,        /* no such member id (or static member) here */
    GROUP_ILLEGAL_GENERATION,    /* not the current generation */
    GROUP_REBALANCING,           /* a rebalance is running: join again */
    GROUP_INCONSISTENT_PROTOCOL, /* protocol type differs, or no protocol that all members know */
    GROUP_FENCED_INSTANCE,       /* the static member goes on under another member id */
    GROUP_MEMBER_ID_REQUIRED,    /* join again with the id in the answer */
    GROUP_FULL,                  /* group.max.size */
    GROUP_BAD_SESSION_TIMEOUT,   /* outside of group.min/max.session.timeout.ms */
    GROUP_NOT_EMPTY,             /* it has members */
    GROUP_NOT_AVAILABLE,         /* the append was refused; nothing has changed; try again */
    GROUP_TOO_LARGE,             /* a record or a member's metadata is larger than its limit */
    GROUP_NOT_FOUND,             /* no such group */
    GROUP_LOADING,               /* the log of this group is still being replayed (coord) */
    GROUP_INVALID_ID,            /* the empty group id (coord) */
    GROUP_WRONG_COORDINATOR,     /* not on this shard or broker (coord) */
    GROUP_ERROR_COUNT
};

enum group_state {
    GROUP_EMPTY = 0,  /* no members; may hold offsets */
    GROUP_PREPARING,  /* members are being collected: JoinGroup requests wait */
    GROUP_COMPLETING, /* a generation has begun: SyncGroup requests wait for the leader's
                         assignments */
    GROUP_STABLE,     /* every member can have its assignment */
    GROUP_STATE_COUNT
};

const char *group_state_name(
    enum group_state s); /* as Kafka's tools print it: "PreparingRebalance" */
const char *group_error_text(enum group_error e);

/* ---- what is lasting ---- */

struct group_member_record {
    struct str id;                /* never null */
    struct str instance_id;       /* group.instance.id; null for dynamic members */
    struct str client_id;         /* of its join request; may be empty */
    struct str client_host;       /* like "/127.0.0.1" */
    int32_t rebalance_timeout_ms; /* > 0 */
    int32_t session_timeout_ms;   /* > 0 */
    struct bytes subscription;    /* its metadata for the chosen protocol */
    struct bytes assignment;      /* what the leader gave it; may be empty */
};

struct group_metadata {
    struct str protocol_type; /* "consumer", "connect"; empty when no member ever was */
    int32_t generation;       /* >= 0, raised by each completed join phase */
    struct str protocol;      /* the chosen one; null without members */
    struct str leader;        /* member id; null without members */
    int64_t state_ms;         /* wall time of the last change of state; -1 unknown */
    const struct group_member_record *members; /* in the order they joined */
    size_t member_count;                       /* of members; 0 = the group is empty */
};

struct group_offset {
    int32_t partition; /* >= 0 */
    bool stored; /* there is a committed offset; false only while its first commit is under way */
    uint32_t inflight;    /* commits of it under way (live, not lasting) */
    int64_t offset;       /* next record to read, as the client says */
    int32_t leader_epoch; /* of the last record consumed; -1 unknown */
    struct str metadata;  /* owned; the client's own text, may be empty */
    int64_t commit_ms;    /* wall time of the commit */
    int64_t expire_ms; /* wall time it was asked to be forgotten; -1: as the configuration says */
    struct uuid topic_id; /* of the topic it was committed for; zero unknown */
};

struct group_topic {
    struct str name;               /* owned, follows this struct */
    struct group_offset **offsets; /* owned array of owned entries, by rising partition */
    size_t count;                  /* of offsets */
    size_t size;                   /* slots of offsets */
};

enum group_record_kind {
    GROUP_RECORD_OFFSET,           /* topic, partition and the fields of an offset */
    GROUP_RECORD_OFFSET_TOMBSTONE, /* topic, partition */
    GROUP_RECORD_METADATA,         /* metadata */
    GROUP_RECORD_METADATA_TOMBSTONE,
};

/* One record of the group's log. Borrows everything. */
struct group_record {
    enum group_record_kind kind;
    struct str topic;  /* of offset records */
    int32_t partition; /* likewise */
    int64_t
        offset; /* of GROUP_RECORD_OFFSET, as in struct group_offset, and so are the next five */
    int32_t leader_epoch;
    struct str offset_metadata; /* never null */
    int64_t commit_ms;
    int64_t expire_ms;
    struct uuid topic_id;
    const struct group_metadata *metadata; /* of GROUP_RECORD_METADATA */
};

/* ---- what is live ---- */

struct group_protocol {
    struct str name;       /* an assignor: "range", "cooperative-sticky" */
    struct bytes metadata; /* opaque, but for the topics of the protocol type "consumer" */
};

/* A member, owned by its group. */
struct group_member {
    struct str id;            /* owned */
    struct str instance_id;   /* owned; null for dynamic members */
    struct str client_id;     /* owned */
    struct str client_host;   /* owned */
    struct str protocol_type; /* owned */
    struct group_protocol
        *protocols;          /* owned, one block with what it points to; in order of preference */
    size_t protocol_count;   /* > 0 */
    struct bytes assignment; /* owned; empty until the leader has given one */
    int32_t rebalance_timeout_ms; /* how long a rebalance waits for it */
    int32_t session_timeout_ms;   /* silent for so long, it is expelled */
    int64_t
        deadline_ms; /* monotonic; expelled then, unless something of it is parked (see is_new) */
    uint64_t join_token; /* its parked JoinGroup; 0 none */
    uint64_t sync_token; /* its parked SyncGroup; 0 none */
    bool is_new;    /* has not yet been through a join phase: deadline_ms holds though its join is
                       parked */
    bool owes_sync; /* has been told of this generation, and has not sent its SyncGroup */
    bool skips_assignment; /* its last join understands skip_assignment */
    size_t weight;         /* bytes, as they are in the group's; 0: it is not in a group */
};

/* An id that was given out with GROUP_MEMBER_ID_REQUIRED and has not come back yet. */
struct group_pending {
    int64_t deadline_ms; /* monotonic; forgotten then */
};

struct group_write;

struct group {
    struct str id; /* owned */
    uint64_t seed; /* of the maps */
    size_t weight; /* bytes that all of it takes, about: weight.c */

    /* lasting: changed by group_apply alone */
    struct group_metadata *metadata; /* owned, one block; NULL when the log has none */
    struct map topics;               /* name -> struct group_topic (owned) */
    size_t offset_count;             /* offsets with `stored` */

    /* live */
    enum group_state state;
    int64_t state_ms;         /* wall time of the last change of state */
    int32_t generation;       /* >= the lasting one */
    struct str protocol_type; /* owned; null before the first member */
    struct str protocol;      /* owned; null when none is chosen */
    struct str leader;        /* owned copy of a member's id; null without members */
    struct map members;       /* id -> struct group_member (owned) */
    struct map instances;     /* group.instance.id -> struct group_member (borrowed) */
    struct map pending;       /* id -> struct group_pending (owned) */
    size_t joining_count;     /* members with a join_token */
    size_t owing_count;       /* members that owe a sync */
    int64_t phase_ms; /* monotonic end of the join phase, or of waiting for syncs; INT64_MAX: no end
                         set */
    bool initial;     /* PREPARING came from EMPTY: waits out the initial delay, whoever is there */
    bool member_added;       /* in the initial phase: somebody came since the delay was last set */
    int32_t initial_left_ms; /* in the initial phase: by so much it may still be extended */
    struct map subscribed; /* topics that some member subscribes to, as of the current generation */
    size_t subscribed_weight; /* bytes of the set */
    bool subscribed_known;    /* the set above could be read */
    uint64_t next_write_id;   /* of the next append asked for */
    struct list
        writes; /* struct group_write: appends under way, in the order they were asked for */
    struct list returns; /* struct group_write of static members that wait until the one under way
                            is done */
    bool sync_writing;   /* the assignments of this generation are under way */
    bool static_writing; /* a returned static member's record is under way */
    int64_t wake_ms;     /* monotonic; no deadline is earlier; INT64_MAX: none */
};

/* ---- events ---- */

enum group_event_kind {
    GROUP_EVENT_LOADED, /* every record of the log was applied: members get their session timeouts
                         */
    GROUP_EVENT_JOIN,
    GROUP_EVENT_SYNC,
    GROUP_EVENT_HEARTBEAT,
    GROUP_EVENT_LEAVE,
    GROUP_EVENT_COMMIT,
    GROUP_EVENT_DELETE_OFFSETS, /* unconditional: ask group_is_subscribed first */
    GROUP_EVENT_DELETE,         /* the whole group, when it has no members */
    GROUP_EVENT_EXPIRE,   /* look for offsets whose time is over; also retries an unsaved "empty" */
    GROUP_EVENT_TICK,     /* wake_ms has come */
    GROUP_EVENT_APPENDED, /* a write ended; its records were applied before this event when it
                             succeeded */
    GROUP_EVENT_KIND_COUNT
};

struct group_join {
    struct str member_id;   /* empty: not known yet */
    struct str instance_id; /* null: a dynamic member */
    struct str client_id;
    struct str client_host;
    struct str protocol_type;
    const struct group_protocol *protocols;
    size_t protocol_count;
    int32_t session_timeout_ms;
    int32_t rebalance_timeout_ms;  /* <= 0: as the session timeout (v0) */
    struct str new_member_id;      /* unique; used if this join needs a new id */
    bool requires_known_member_id; /* v4+: two steps for dynamic members */
    bool can_skip_assignment;      /* v9+ */
};

struct group_assignment {
    struct str member_id;
    struct bytes assignment;
};

struct group_sync {
    struct str member_id;
    struct str instance_id; /* null: none */
    int32_t generation;
    struct str protocol_type;                   /* null: not checked (before v5) */
    struct str protocol;                        /* likewise */
    const struct group_assignment *assignments; /* from the leader */
    size_t assignment_count;
};

struct group_heartbeat {
    struct str member_id;
    struct str instance_id; /* null: none */
    int32_t generation;
};

struct group_leaver {
    struct str member_id;   /* empty: whoever holds instance_id */
    struct str instance_id; /* null: none */
};

struct group_leave {
    const struct group_leaver *leavers;
    size_t leaver_count;
};

struct group_commit_offset {
    struct str topic;
    struct uuid topic_id; /* zero unknown */
    int32_t partition;
    int64_t offset;
    int32_t leader_epoch;
    struct str metadata; /* null: as empty */
};

struct group_commit {
    struct str
        member_id; /* empty with generation -1: no member, allowed while the group is empty */
    struct str instance_id; /* null: none */
    int32_t generation;     /* -1: none */
    int64_t retention_ms;   /* v2-4; -1: as the configuration says */
    const struct group_commit_offset
        *offsets;        /* checked: the topics exist, the metadata are within their limit */
    size_t offset_count; /* 0: only the checks are made */
};

struct group_delete_offsets {
    const struct group_commit_offset *offsets; /* topic and partition */
    size_t offset_count;
};

struct group_appended {
    uint64_t write_id;
    enum group_error error; /* GROUP_OK, GROUP_NOT_AVAILABLE, GROUP_TOO_LARGE */
};

struct group_event {
    enum group_event_kind kind;
    uint64_t token; /* to be answered; 0 for events that nobody waits for */
    union {
        struct group_join join;
        struct group_sync sync;
        struct group_heartbeat heartbeat;
        struct group_leave leave;
        struct group_commit commit;
        struct group_delete_offsets delete_offsets;
        struct group_appended appended;
    };
};

/* Settings, as of now. */
struct group_config {
    int32_t min_session_timeout_ms;     /* group.min.session.timeout.ms */
    int32_t max_session_timeout_ms;     /* group.max.session.timeout.ms */
    int32_t max_size;                   /* group.max.size: members and pending ids */
    int32_t initial_rebalance_delay_ms; /* group.initial.rebalance.delay.ms; 0: the first member
                                           starts at once */
    int32_t new_member_join_timeout_ms; /* a first join waits so long at most */
    int32_t member_max_bytes;           /* of one member's protocols and their metadata */
    int64_t offsets_retention_ms;       /* offsets.retention.minutes; -1: for ever */
};

struct group_env {
    const struct group_config *config;
    int64_t now_ms;  /* monotonic */
    int64_t wall_ms; /* since 1970 */
};

/* ---- effects ---- */

struct group_answer_member {
    struct str member_id;
    struct str instance_id; /* null: none */
    struct bytes metadata;  /* for the chosen protocol */
};

struct group_answer {
    uint64_t token; /* whose answer this is */
    enum group_error error;
    struct str member_id;                      /* join: the id to go on with */
    int32_t generation;                        /* join: -1 on errors */
    struct str protocol_type;                  /* join and sync; null on errors */
    struct str protocol;                       /* likewise */
    struct str leader;                         /* join; empty on errors */
    bool skip_assignment;                      /* join: the leader must not assign */
    const struct group_answer_member *members; /* join: for the leader, else none */
    size_t member_count;                       /* of members */
    struct bytes assignment;                   /* sync */
    const enum group_error
        *leave_errors;  /* leave: one for each leaver, in their order; NULL: all as `error` */
    size_t leave_count; /* of leave_errors */
};

struct group_append {
    uint64_t write_id; /* comes back in GROUP_EVENT_APPENDED; writes of a group end in the order of
                          their ids */
    const struct group_record *records; /* to be appended together, all or none */
    size_t record_count;                /* > 0 */
};

/* What a step wants done. Owned by the caller, and may be filled by several steps; all memory is
 * its arena's, valid until the reset. */
struct group_effects {
    struct arena arena;
    struct group_answer *answers; /* owned array */
    size_t answer_count;
    size_t answer_size;           /* slots */
    struct group_append *appends; /* owned array */
    size_t append_count;
    size_t append_size; /* slots */
};

void group_effects_init(struct group_effects *fx);
void group_effects_reset(struct group_effects *fx);
void group_effects_finish(struct group_effects *fx); /* takes a zeroed one */

/* ---- the group ---- */

struct group *group_create(struct str id, uint64_t seed); /* empty, with nothing lasting */
void group_destroy(struct group *g); /* takes NULL; parked tokens are forgotten unanswered */

/* Replay: group_apply for every record in order, then one GROUP_EVENT_LOADED; also before
 * GROUP_EVENT_APPENDED of a write that succeeded. */
void group_apply(struct group *g, const struct group_record *record);

/* After it, the owner calls again with GROUP_EVENT_TICK at g->wake_ms. */
void group_step(struct group *g, const struct group_event *event, const struct group_env *env,
                struct group_effects *fx);

/* Bytes that the event would add to the group's weight, about; of joins, syncs and commits, others
 * add nothing. g NULL: there is no such group yet. */
size_t group_growth(const struct group *g, struct str id, const struct group_event *event);

/* Nothing lasting, nobody there or on the way, nothing under way: the owner may destroy it. */
bool group_is_forgettable(const struct group *g);

/* Some member subscribes to the topic, or may (its metadata could not be read): its offsets must
 * stay. For other protocol types than "consumer" always false: they are refused with
 * GROUP_NOT_EMPTY by group_may_delete_offsets. */
bool group_is_subscribed(const struct group *g, struct str topic);
enum group_error group_may_delete_offsets(const struct group *g);

const struct group_offset *group_offset_find(const struct group *g, struct str topic,
                                             int32_t partition); /* stored ones only; NULL */

/* The metadata that a record of this moment would hold, in the arena: for describing, and to be
 * compared with what is lasting. */
struct group_metadata *group_snapshot(const struct group *g, struct arena *arena);

/* The same lasting state? For tests of replay. */
bool group_lasting_equal(const struct group *a, const struct group *b);

/* check()s every invariant that the head of group.c numbers: linear in members; for tests and debug
 * builds. */
void group_verify(const struct group *g);
