/* What the files of group/ share; nobody else includes this. */
#pragma once

#include "broker/group/group.h"

#define NEVER_MS INT64_MAX

enum write_kind {
    WRITE_COMMIT, /* offsets */
    WRITE_DELETE, /* tombstones that somebody asked for */
    WRITE_EXPIRE, /* tombstones that time asked for */
    WRITE_EMPTY,  /* the group has no members any more */
    WRITE_SYNC,   /* the assignments of a generation */
    WRITE_STATIC, /* a static member under its new id */
};

struct touched_offset {
    struct group_topic *topic;
    struct group_offset *offset;
};

/* An append under way (or, in group.returns, a static member that waits for one). */
struct group_write {
    struct list link; /* group.writes or group.returns */
    uint64_t id;      /* of the append */
    enum write_kind kind;
    uint64_t
        token; /* answered when it ends; 0 nobody (sync: the members' tokens are at the members) */
    int32_t generation; /* when it began */
    struct touched_offset
        *touched;         /* commit: owned array of borrowed entries that count it in `inflight` */
    size_t touched_count; /* of touched */
    struct group_member *member;    /* static: owned; joins the group when the record is there */
    struct str replaced_id;         /* static: owned id of the member it replaces */
    enum group_error *leave_errors; /* empty: owned; of the leavers who are told when it ends */
    size_t leave_count;             /* of leave_errors */
};

/* effects.c */
void *fx_alloc(struct group_effects *fx, size_t size);     /* never NULL */
struct str fx_str(struct group_effects *fx, struct str s); /* a copy; null stays null */
struct bytes fx_bytes(struct group_effects *fx, struct bytes b);
struct group_answer *fx_answer(struct group_effects *fx, uint64_t token,
                               enum group_error error); /* token != 0 */
void fx_answer_if(struct group_effects *fx, uint64_t token,
                  enum group_error error); /* nothing when token is 0 */
struct group_write *fx_append(struct group *g, struct group_effects *fx, enum write_kind kind,
                              uint64_t token, const struct group_record *records, size_t count);
void write_destroy(struct group_write *w); /* unlinked already */

/* member.c */
struct str str_own(struct str s); /* a copy; null stays null */
void str_disown(struct str *s);   /* frees what str_own gave; null then */
void str_replace(struct str *s, struct str by);
struct group_member *member_create(const struct group_join *j, struct str id);
void member_destroy(struct group_member *m);
void member_set_protocols(struct group_member *m, const struct group_protocol *protocols,
                          size_t count);
void member_set_assignment(struct group_member *m, struct bytes assignment);
bool member_matches(const struct group_member *m, const struct group_protocol *protocols,
                    size_t count);
struct bytes member_metadata(const struct group_member *m,
                             struct str protocol); /* empty when it has none */
void member_touch(struct group *g, struct group_member *m,
                  const struct group_env *env); /* a sign of life */
void member_park_join(struct group *g, struct group_member *m, uint64_t token,
                      struct group_effects *fx);
void member_park_sync(struct group_member *m, uint64_t token, struct group_effects *fx);
void member_owes(struct group *g, struct group_member *m, bool owes);
void member_weigh(struct group *g, struct group_member *m); /* after a change of one in the group */
void member_add(struct group *g, struct group_member *m);
void member_remove(struct group *g, struct group_member *m, enum group_error error,
                   struct group_effects *fx);
void member_replace(struct group *g, struct group_member *old, struct group_member *m,
                    struct group_effects *fx);
struct group_member *member_find(const struct group *g, struct str id);
enum group_error member_validate(const struct group *g, struct str id, struct str instance_id,
                                 struct group_member **ret_member);
void pending_add(struct group *g, struct str id, int64_t deadline_ms);
bool pending_remove(struct group *g, struct str id); /* was there */

/* weight.c */
size_t weigh_group(struct str id);
size_t weigh_protocols(const struct group_protocol *protocols, size_t count);
size_t weigh_member(const struct group_member *m);
size_t weigh_pending(struct str id);
size_t weigh_topic(struct str name);
size_t weigh_offset(struct str metadata);
size_t weigh_subscribed(const struct map *subscribed);

/* protocol.c */
bool protocols_supported(const struct group *g, struct str type,
                         const struct group_protocol *protocols, size_t count);
struct str protocol_choose(const struct group *g, const struct group_member *without,
                           const struct group_member *with);
bool subscription_each(struct bytes subscription, void (*each)(void *ctx, struct str topic),
                       void *ctx);
bool subscription_same_topics(const struct group *g, struct bytes a, struct bytes b);
void subscribed_compute(struct group *g);
void subscribed_clear(struct group *g);

/* join.c */
void step_join(struct group *g, const struct group_event *e, const struct group_env *env,
               struct group_effects *fx);
void static_return_ended(struct group *g, struct group_write *w, enum group_error error,
                         const struct group_env *env, struct group_effects *fx);
void answer_generation(struct group *g, struct group_member *m, uint64_t token,
                       struct group_effects *fx);

/* rebalance.c */
void wake_at(struct group *g, int64_t ms);
void rebalance_prepare_or_complete(struct group *g, const struct group_env *env,
                                   struct group_effects *fx);
void rebalance_prepare(struct group *g, const struct group_env *env, struct group_effects *fx);
void rebalance_after_removal(struct group *g, const struct group_env *env,
                             struct group_effects *fx);
void step_sync(struct group *g, const struct group_event *e, const struct group_env *env,
               struct group_effects *fx);
void sync_ended(struct group *g, struct group_write *w, enum group_error error,
                const struct group_env *env, struct group_effects *fx);
void step_tick(struct group *g, const struct group_env *env, struct group_effects *fx);
void write_empty(struct group *g, struct group_effects *fx);

/* offset.c */
void step_commit(struct group *g, const struct group_event *e, const struct group_env *env,
                 struct group_effects *fx);
void step_delete_offsets(struct group *g, const struct group_event *e, struct group_effects *fx);
void step_delete(struct group *g, const struct group_event *e, struct group_effects *fx);
void step_expire(struct group *g, const struct group_env *env, struct group_effects *fx);
void commit_ended(struct group *g, struct group_write *w);
void offset_apply(struct group *g, const struct group_record *record);
void offsets_finish(struct group *g);

/* metadata.c */
size_t metadata_size(const struct group_metadata *m); /* bytes of the block; 0 for NULL */
struct group_metadata *metadata_copy(const struct group_metadata *m); /* one block, mem_free */
bool metadata_equal(const struct group_metadata *a,
                    const struct group_metadata *b); /* but for state_ms; NULL takes */
struct group_metadata *metadata_live(const struct group *g, const struct group_member *without,
                                     const struct group_member *with, struct arena *arena);
