/* What the files of coord/ share; nobody else includes this. */
#pragma once

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rand.h"
#include "broker/config.h"
#include "broker/coord/coord.h"
#include "broker/coord/records.h"
#include "broker/log/log.h"
#include "broker/log/manager.h"
#include "broker/meta/meta.h"
#include "broker/shard.h"
#include "protocol/wire.h"

/* One group with what it takes to run it. Owned by coord.groups. */
struct coord_group {
    struct group *g;     /* owned */
    struct coord *coord; /* borrowed */
    struct list link;    /* in coord.order */
    struct list settle;  /* in coord.settling while its oldest append has ended */
    struct timer timer;  /* at g->wake_ms */
    struct list appends; /* struct coord_append: under way, in the order they were asked for */
    size_t weight;       /* of g, as it is in coord.weight */
    bool may_expire;     /* some offset has a time of its own to be forgotten at */
};

/* One batch on its way to the log. */
struct coord_append {
    struct log_append log;     /* the log's view; batch.ptr's bytes */
    struct coord *coord;       /* borrowed */
    struct coord_group *group; /* borrowed; NULL: the group is gone, nobody cares any more */
    struct list link;          /* in group->appends */
    struct list wait;          /* in coord.waiting while there is no topic yet */
    uint64_t write_id;         /* of the group */
    struct buf batch;          /* owned */
    bool ended;                /* `result` is known */
    err result;                /* how it ended */
};

/* What a replay met that is no state of a group. */
struct coord_load_counts {
    int64_t records;       /* all of them */
    int64_t unknown;       /* kinds that this version does not know: newer group protocols */
    int64_t broken;        /* records that contradict themselves */
    int64_t transactional; /* offsets committed in transactions, which are not served yet */
};

struct coord {
    const struct config *config;      /* borrowed */
    struct meta *meta;                /* borrowed */
    struct shard *shard;              /* borrowed */
    const struct clock *clock;        /* borrowed */
    struct timers *timers;            /* borrowed */
    const struct diag *diag;          /* borrowed */
    uint64_t seed;                    /* of the maps */
    struct rng rng;                   /* of member ids */
    struct group_config group_config; /* config, as groups want it */

    struct map groups; /* id -> struct coord_group (owned) */
    struct list order; /* struct coord_group, in the order they came to be */

    size_t weight; /* bytes of all groups, about */
    bool heavy;    /* something was refused for that, and said; nothing had room since */

    struct uuid topic_id;    /* of __consumer_offsets; zero while there is none */
    int32_t partition_count; /* of it; 0 while there is none */
    bool *refused; /* owned array: the records of this partition could not all be read, its groups
                      are not served */
    int32_t refused_count; /* of refused that are true */
    bool creating;         /* the topic is on its way: `call` is under way */
    struct list waiting;   /* struct coord_append.wait: for the topic */
    struct message call;   /* to the first shard, which makes it */
    err call_result;       /* out of it */
    bool making;           /* the first shard's: its creation is under way */
    struct list wanted;    /* the first shard's: struct coord.call, of who waits for that */

    struct map calls;        /* token -> struct coord_call (borrowed) */
    uint64_t next_token;     /* > 0 */
    struct list answered;    /* struct coord_call: done is to be called */
    struct list settling;    /* struct coord_group.settle: appends to be told of */
    bool draining;           /* somebody further up the stack empties the two lists above */
    struct group_effects fx; /* of the step that runs */
    bool stale; /* some offsets are of topics that are gone: the expiry timer takes care of them */
    struct timer expiry; /* armed while something can expire */
    struct batch_scratch scratch;
    struct writer writer; /* of one record */
    struct batch_builder builder;
    bool stopping; /* coord_stop was called */
};

/* coord.c */
struct coord_group *coord_group_get(struct coord *c, struct str id); /* NULL: there is none */
struct coord_group *coord_group_make(struct coord *c, struct str id);
void coord_group_weigh(struct coord_group *cg); /* after a change of g */
void coord_group_drop(struct coord_group *cg);  /* its calls are not answered */
bool coord_run(struct coord_group *cg,
               const struct group_event *event); /* false: the group was forgettable, and is gone */
void coord_drain(struct coord *c);

/* append.c */
void coord_append_submit(struct coord_group *cg, const struct group_append *a);
void coord_appends_forget(struct coord_group *cg);
bool coord_settle(struct coord_group *cg); /* tells of ended appends; false: the group is gone */
void coord_adopt_topic(struct coord *c, const struct topic *topic);

/* load.c */
void coord_apply_batch(struct coord *c, const uint8_t *batch, size_t size,
                       struct coord_load_counts *counts);

/* expire.c */
void coord_expiry_init(struct coord *c);
void coord_expiry_loaded(struct coord *c); /* once, after the groups are there */
void coord_expiry_consider(struct coord_group *cg);
