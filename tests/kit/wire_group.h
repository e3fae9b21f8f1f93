/* wire_group: what members of a consumer group say, in one line each. For cmocka tests; see
 * wire_kit.h. */
#pragma once

#include "gen/describe_groups.h"
#include "gen/heartbeat.h"
#include "gen/join_group.h"
#include "gen/leave_group.h"
#include "gen/offset_commit.h"
#include "gen/offset_fetch.h"
#include "gen/sync_group.h"
#include "tests/kit/wire_kit.h"

/* A member, with a connection of its own; what it says is said in `version` of each API, or the
 * newest there is. */
struct member {
    struct wire_client *c;
    const char *group;
    struct str id;         /* as the broker gave it; "" before */
    const char *instance;  /* group.instance.id; NULL: a dynamic member */
    const char *protocols; /* names, separated by commas; NULL: "range" */
    const char *metadata;  /* of all of them; NULL: "meta" */
    const char *type;      /* NULL: "consumer" */
    int32_t generation;    /* of the last join */
    int32_t session_ms;    /* 0: 60000 */
    int32_t rebalance_ms;  /* 0: 60000 */
    int16_t join_version;  /* -1: the newest */
};

struct member member_of(struct wire_client *c, const char *group);

/* Sends JoinGroup and returns its correlation id; the answer to it, and what the member learns. */
int32_t member_send_join(struct member *m);
const struct join_group_response *member_joined(struct member *m, int32_t correlation_id);

/* Both; and, for a dynamic member without an id, the first step before (MEMBER_ID_REQUIRED). */
const struct join_group_response *member_join(struct member *m);

/* The first step alone. */
void member_get_id(struct member *m);

/* SyncGroup; with assignments ("member id" -> "text") in pairs, ended by a null id. */
struct assignment {
    struct str id;
    const char *text;
};
int32_t member_send_sync(struct member *m, const struct assignment *list);
const struct sync_group_response *member_synced(struct member *m, int32_t correlation_id);
const struct sync_group_response *member_sync(struct member *m, const struct assignment *list);

int16_t member_heartbeat(struct member *m);
int16_t member_leaves(struct member *m);

/* Alone in the group: joined, and assigned "all". */
void member_become_stable(struct member *m);

/* One partition; the error code of it. generation -1 and no member id: a simple consumer. */
struct commit {
    int16_t version; /* 0: 9 */
    const char *group;
    const char *topic; /* before 10 */
    struct uuid topic_id;
    int32_t partition;
    int64_t offset;
    int32_t leader_epoch; /* 0 stands for -1 */
    const char *metadata;
    struct member *member; /* NULL: a simple consumer */
};
int16_t wire_commit(struct wire_client *c, struct commit k);

/* The newest version by name (9); the offset, and all of it. */
const struct offset_fetch_response_group_topic_partition *wire_committed_whole(
    struct wire_client *c, const char *group, const char *topic, int32_t partition);
int64_t wire_committed(struct wire_client *c, const char *group, const char *topic,
                       int32_t partition);

const struct describe_groups_response_group *wire_describe_group(struct wire_client *c,
                                                                 int16_t version,
                                                                 const char *group);
