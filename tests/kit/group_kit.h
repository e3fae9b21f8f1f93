/* group_kit: a group with a virtual clock and a log in memory, for unit tests and the simulation.
 * Every record that is appended is kept, so that a restart is a replay; every answer is kept under
 * its token. */
#pragma once

#include "broker/group/group.h"

struct kit_append {
    uint64_t write_id;
    struct group_record *records; /* in the kit's arena */
    size_t record_count;
};

struct group_kit {
    struct group *g;
    struct group_config config;
    struct group_env env; /* now_ms and wall_ms move together */
    struct group_effects fx;
    struct arena arena;       /* of all that is kept */
    struct group_record *log; /* owned array: what is durable, in order */
    size_t log_count;
    size_t log_size;
    struct kit_append *appends; /* owned array: asked for, not ended yet, oldest first */
    size_t append_count;
    size_t append_size;
    struct group_answer **answers; /* owned array, by token; NULL: not answered */
    size_t answer_size;
    uint64_t next_token;
    uint64_t answered_twice; /* tokens that were; must stay 0 */
    uint64_t seed;           /* of the group's maps */
    bool at_once;            /* appends succeed within the step that asked for them */
};

void kit_init(struct group_kit *k, bool at_once);
void kit_finish(struct group_kit *k);

/* Steps the group, keeps the effects, verifies the invariants. A token of 0 in an event that needs
 * one is given. Returns the token. */
uint64_t kit_step(struct group_kit *k, struct group_event e);
const struct group_answer *kit_answer(const struct group_kit *k,
                                      uint64_t token);        /* NULL: not yet */
void kit_settle(struct group_kit *k, enum group_error error); /* the oldest append ends */
void kit_advance(struct group_kit *k,
                 int64_t ms); /* ticks on the way whenever the group wants to wake */
void kit_restart(
    struct group_kit *k,
    size_t landed); /* all that is live is forgotten; of the appends under way, `landed` made it
                       into the log, unanswered; the log is replayed */
bool kit_replay_agrees(const struct group_kit *k); /* a replay gives the same lasting state */

/* Shorthands; all strings are literals or outlive the call. */
struct bytes kit_bytes(const char *text);
struct bytes kit_subscription(struct group_kit *k,
                              const char *topics); /* "a,b", as consumers write it */
