/* Groups that commit, one partition after the other rising; and one who asks what others know: the
 * ends of partitions, what groups committed, which groups and partitions there are. */
#include "base/check.h"
#include "gen/apis.h"
#include "gen/describe_log_dirs.h"
#include "gen/list_groups.h"
#include "gen/list_offsets.h"
#include "gen/offset_commit.h"
#include "gen/offset_fetch.h"
#include "protocol/error.h"
#include "tests/kit/sim_actors.h"

#include <stdio.h>
#include <string.h>

static struct str group_name(int group)
{
    static const char *const names[MODEL_GROUPS] = {"k0", "k1", "k2", "k3"};
    return str_of(names[group]);
}

/* ---- groups */

void sim_committer_act(struct sim_world *w, struct sim_actor *a)
{
    struct offset_commit_request r;
    int group = a->index - SIM_PRODUCERS - SIM_CONSUMERS;
    if (sim_client_waiting(&a->c) > 0 || a->unsure) {
        return;
    }
    offset_commit_request_init(&r);
    r.group_id = group_name(group);
    r.topics = SIM_NEWS(w, offset_commit_request_topic, SIM_TOPICS);
    r.topics_count = SIM_TOPICS;
    for (int t = 0; t < SIM_TOPICS; t++) {
        r.topics[t].name = sim_topic(t);
        r.topics[t].partitions = SIM_NEWS(w, offset_commit_request_partition, sim_topic_count(t));
        r.topics[t].partitions_count = sim_topic_count(t);
        for (int32_t i = 0; i < sim_topic_count(t); i++) {
            int64_t value = ++a->value[sim_topic_first(t) + i];
            r.topics[t].partitions[i].partition_index = i;
            r.topics[t].partitions[i].committed_offset = value;
            r.topics[t].partitions[i].committed_metadata = STR("");
            w->m.sent[group][sim_topic_first(t) + i] = value;
        }
    }
    struct sim_question *q = sim_ask(w, a, ASKED_COMMIT, API_OFFSET_COMMIT, 2, 9, &r);
    memcpy(q->offsets, a->value, sizeof q->offsets);
}

static bool may_fail(int16_t code) /* of a group */
{
    return code == KERR_COORDINATOR_NOT_AVAILABLE || code == KERR_NOT_COORDINATOR;
}

void sim_committer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                        const void *answer)
{
    const struct offset_commit_response *r = answer;
    int group = a->index - SIM_PRODUCERS - SIM_CONSUMERS;
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct offset_commit_response_partition *out = &r->topics[t].partitions[i];
            int p = sim_partition_of(r->topics[t].name, out->partition_index);
            check(!out->error_code || may_fail(out->error_code));
            if (!out->error_code) {
                w->m.committed[group][p] = q->offsets[p];
            }
        }
    }
}

/* ---- one who asks around */

static void ask_offsets(struct sim_world *w, struct sim_actor *a)
{
    struct list_offsets_request r;
    list_offsets_request_init(&r);
    r.replica_id = -1;
    r.topics = SIM_NEWS(w, list_offsets_request_topic, SIM_TOPICS);
    r.topics_count = SIM_TOPICS;
    for (int t = 0; t < SIM_TOPICS; t++) {
        r.topics[t].name = sim_topic(t);
        r.topics[t].partitions = SIM_NEWS(w, list_offsets_request_partition, sim_topic_count(t));
        r.topics[t].partitions_count = sim_topic_count(t);
        for (int32_t i = 0; i < sim_topic_count(t); i++) {
            r.topics[t].partitions[i].partition_index = i;
            r.topics[t].partitions[i].timestamp = sim_chance(w, 80) ? -1 : -3;
        }
    }
    sim_ask(w, a, ASKED_OFFSETS, API_LIST_OFFSETS, 7, 10, &r);
}

static void ask_committed(struct sim_world *w, struct sim_actor *a)
{
    struct offset_fetch_request r;
    offset_fetch_request_init(&r);
    if (sim_chance(w, 30)) { /* of one group, all that it has */
        int group = sim_below(w, MODEL_GROUPS);
        r.group_id = group_name(group);
        r.topics_count = -1;
        sim_ask(w, a, ASKED_COMMITTED, API_OFFSET_FETCH, 2, 7, &r)->group = group;
        return;
    }
    r.groups = SIM_NEWS(w, offset_fetch_request_group, MODEL_GROUPS);
    r.groups_count = MODEL_GROUPS;
    for (int g = 0; g < MODEL_GROUPS; g++) {
        r.groups[g].group_id = group_name(g);
        r.groups[g].topics_count = -1;
        r.groups[g].topics = NULL;
    }
    sim_ask(w, a, ASKED_COMMITTED, API_OFFSET_FETCH, 8, 9, &r);
}

void sim_watcher_act(struct sim_world *w, struct sim_actor *a)
{
    struct list_groups_request groups;
    struct describe_log_dirs_request dirs;
    if (sim_client_waiting(&a->c) > 3) {
        return;
    }
    switch (sim_below(w, 5)) {
    case 0:
    case 1: ask_offsets(w, a); return;
    case 2: ask_committed(w, a); return;
    case 3:
        list_groups_request_init(&groups);
        sim_ask(w, a, ASKED_GROUPS, API_LIST_GROUPS, 0, 5, &groups);
        return;
    default:
        describe_log_dirs_request_init(&dirs);
        dirs.topics = NULL;
        dirs.topics_count = -1;
        sim_ask(w, a, ASKED_DIRS, API_DESCRIBE_LOG_DIRS, 1, 4, &dirs);
    }
}

static void take_offsets(struct sim_world *w, const struct sim_question *q,
                         const struct list_offsets_response *r)
{
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct list_offsets_response_partition *out = &r->topics[t].partitions[i];
            int p = sim_partition_of(r->topics[t].name, out->partition_index);
            check(!out->error_code || out->error_code == KERR_KAFKA_STORAGE_ERROR ||
                  out->error_code == KERR_NOT_LEADER_OR_FOLLOWER);
            if (!out->error_code && out->timestamp == -1 && out->offset >= 0) {
                model_high(&w->m, p, out->offset, q->high[p]);
            }
        }
    }
}

static void take_committed_of(struct sim_world *w, const struct sim_question *q, int group,
                              struct str topic, int32_t partition, int64_t offset)
{
    int p = sim_partition_of(topic, partition);
    model_committed(&w->m, group, p, offset, q->committed[group][p]);
}

static void take_committed(struct sim_world *w, const struct sim_question *q,
                           const struct offset_fetch_response *r)
{
    check(!r->error_code || may_fail(r->error_code));
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            take_committed_of(w, q, q->group, r->topics[t].name,
                              r->topics[t].partitions[i].partition_index,
                              r->topics[t].partitions[i].committed_offset);
        }
    }
    for (int32_t g = 0; g < r->groups_count; g++) {
        const struct offset_fetch_response_group *group = &r->groups[g];
        check(str_eq(group->group_id, group_name(g)));
        check(!group->error_code || may_fail(group->error_code));
        bool any = q->committed[g][0] >= 0;
        check(group->error_code || !any || group->topics_count == SIM_TOPICS);
        for (int32_t t = 0; t < group->topics_count; t++) {
            for (int32_t i = 0; i < group->topics[t].partitions_count; i++) {
                take_committed_of(w, q, g, group->topics[t].name,
                                  group->topics[t].partitions[i].partition_index,
                                  group->topics[t].partitions[i].committed_offset);
            }
        }
    }
}

static void take_groups(const struct sim_question *q, const struct list_groups_response *r)
{
    for (int g = 0; g < MODEL_GROUPS && !r->error_code; g++) {
        int seen = 0;
        for (int32_t i = 0; i < r->groups_count; i++) {
            seen += str_eq(r->groups[i].group_id, group_name(g));
        }
        check(seen <= 1 && (seen == 1 || q->committed[g][0] < 0));
    }
}

static void take_dirs(const struct describe_log_dirs_response *r)
{
    int seen[SIM_PARTITIONS] = {0};
    check(r->results_count == 1);
    for (int32_t t = 0; t < r->results[0].topics_count; t++) {
        const struct describe_log_dirs_response_topic *topic = &r->results[0].topics[t];
        bool ours = str_eq(topic->name, STR("a")) || str_eq(topic->name, STR("b"));
        for (int32_t i = 0; ours && i < topic->partitions_count; i++) {
            check(topic->partitions[i].partition_size >= 0);
            seen[sim_partition_of(topic->name, topic->partitions[i].partition_index)]++;
        }
    }
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        check(seen[p] == 1);
    }
}

void sim_watcher_take(struct sim_world *w, const struct sim_question *q, const void *answer)
{
    switch (q->kind) {
    case ASKED_OFFSETS: take_offsets(w, q, answer); return;
    case ASKED_COMMITTED: take_committed(w, q, answer); return;
    case ASKED_GROUPS: take_groups(q, answer); return;
    default: check(q->kind == ASKED_DIRS); take_dirs(answer);
    }
}
