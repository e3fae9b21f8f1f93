/* Members of groups against a broker in this process: several clients on one thread, driven by
 * turns. */
#include "base/clock.h"
#include "client/ask.h"
#include "client/consumer.h"
#include "gen/consumer_protocol_assignment.h"
#include "gen/offset_fetch.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, MEMBERS = 3, PARTITIONS = 6, SEEN_MAX = 4000, OPTIONS_MAX = 24 };

struct room;

struct seat {
    struct room *room;
    struct rv_client *client;
    struct rv_consumer *consumer;
    int assigned, revoked, lost; /* partitions that events told of */
    int assigned_events, revoked_events;
    bool commit_when_revoked;
    int commit_code;          /* of that */
    int seek_code, poll_code; /* of calls inside of callbacks */
    int last_code;            /* of rv_poll */
    int records;              /* given */
    struct rv_error error;
};

struct room {
    struct local_home *broker;
    struct rv_client *feeder;
    struct seat seats[MEMBERS];
    int seen[PARTITIONS][SEEN_MAX]; /* by partition and offset: times read */
    struct rv_error error;
};

static const char *const room_settings[] = {"group.min.session.timeout.ms=100",
                                            "group.initial.rebalance.delay.ms=0", NULL};

static struct rv_client *client_to(struct local_home *b)
{
    struct rv_client *client;
    struct rv_error e;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", local_home_address(b)}, {"retry.backoff.ms", "5"},
                   {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
                   {"reconnect.backoff.max.ms", "50"});
    assert_int_equal(rv_client_open(options, &client, &e), RV_OK);
    return client;
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct seat *s = ctx;
    const struct rv_record *records;
    size_t count;
    switch (event->kind) {
    case RV_ASSIGNED:
        s->assigned += (int)event->count;
        s->assigned_events++;
        s->seek_code = rv_seek(s->consumer, event->partitions[0].topic,
                               event->partitions[0].partition, RV_COMMITTED, &s->error);
        break;
    case RV_REVOKED:
        s->revoked += (int)event->count;
        s->revoked_events++;
        if (s->commit_when_revoked) {
            s->commit_code = rv_commit(s->consumer, NULL, 0, &s->error);
        }
        break;
    case RV_LOST:
        s->lost += (int)event->count;
        s->commit_code = rv_commit(s->consumer, NULL, 0, &s->error);
        break;
    default: return;
    }
    s->poll_code = rv_poll(s->consumer, 0, &records, &count, &s->error);
}

static void room_open(struct room *r)
{
    memset(r, 0, sizeof *r);
    r->broker = local_home_start(room_settings);
    r->feeder = client_to(r->broker);
    assert_int_equal(rv_topic_create(r->feeder, "t", PARTITIONS, NULL, PATIENCE_MS, &r->error),
                     RV_OK);
}

/* A member of group g; options beside what all have. */
static void sit_to(struct room *r, int i, const struct rv_option *more, const char *topic)
{
    struct seat *s = &r->seats[i];
    struct rv_option options[OPTIONS_MAX] = {
        {"group.id",                "g"       },
        {"auto.offset.reset",       "earliest"},
        {"heartbeat.interval.ms",   "20"      },
        {"session.timeout.ms",      "20000"   },
        {"auto.commit.interval.ms", "0"       },
        {"fetch.max.wait.ms",       "50"      },
    };
    int n = 0;
    while (options[n].name) {
        n++;
    }
    for (; more && more->name; more++) {
        options[n++] = *more;
    }
    memset(s, 0, sizeof *s);
    s->room = r;
    s->client = client_to(r->broker);
    if (rv_consumer_open(s->client, options, &s->consumer, &s->error) != RV_OK) {
        fail_msg("%s", s->error.text);
    }
    rv_consumer_on_event(s->consumer, on_event, s);
    assert_int_equal(rv_subscribe(s->consumer, &topic, 1, &s->error), RV_OK);
}

static void sit(struct room *r, int i, const struct rv_option *more)
{
    sit_to(r, i, more, "t");
}

static void stand(struct room *r, int i)
{
    struct seat *s = &r->seats[i];
    assert_int_equal(rv_consumer_close(s->consumer, PATIENCE_MS, &s->error), RV_OK);
    s->consumer = NULL;
    rv_client_close(s->client);
    s->client = NULL;
}

static void room_close(struct room *r)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (r->seats[i].consumer) {
            stand(r, i);
        }
    }
    rv_client_close(r->feeder);
    local_home_destroy(r->broker);
}

static void seat_poll(struct room *r, int i, int timeout_ms)
{
    struct seat *s = &r->seats[i];
    const struct rv_record *records;
    size_t count;
    s->last_code = rv_poll(s->consumer, timeout_ms, &records, &count, &s->error);
    for (size_t k = 0; k < count; k++) {
        assert_true(records[k].offset < SEEN_MAX);
        r->seen[records[k].partition][records[k].offset]++;
        s->records++;
    }
}

static size_t has(const struct room *r, int i)
{
    const struct rv_partition *p;
    return r->seats[i].consumer ? rv_assignment(r->seats[i].consumer, &p) : 0;
}

/* Polls the members of the mask in turns until `done` holds. */
static void turns(struct room *r, unsigned mask, bool (*done)(struct room *r, void *ctx), void *ctx)
{
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (!done(r, ctx)) {
        if (clock_mono_ms(&clock_real) > until) {
            fail_msg("not in time: %zu %zu %zu", has(r, 0), has(r, 1), has(r, 2));
        }
        for (int i = 0; i < MEMBERS; i++) {
            if (mask & 1u << i) {
                seat_poll(r, i, 1);
            }
        }
    }
}

/* ctx: MEMBERS counts. Every partition must have one owner. */
static bool shared_as(struct room *r, void *ctx)
{
    const size_t *counts = ctx;
    int owners[PARTITIONS] = {0};
    for (int i = 0; i < MEMBERS; i++) {
        const struct rv_partition *p;
        size_t n = r->seats[i].consumer ? rv_assignment(r->seats[i].consumer, &p) : 0;
        if (n != counts[i]) {
            return false;
        }
        for (size_t k = 0; k < n; k++) {
            owners[p[k].partition]++;
        }
    }
    for (int p = 0; p < PARTITIONS; p++) {
        if (owners[p] != 1) {
            return false;
        }
    }
    return true;
}

#define SHARED(a, b, c) shared_as, ((size_t[]){a, b, c})

static bool has_read(struct room *r, void *ctx)
{
    int total = 0;
    for (int i = 0; i < MEMBERS; i++) {
        total += r->seats[i].records;
    }
    return total >= *(const int *)ctx;
}

static bool lost_some(struct room *r, void *ctx)
{
    return r->seats[*(const int *)ctx].lost > 0;
}

static bool failed(struct room *r, void *ctx)
{
    return r->seats[*(const int *)ctx].last_code != RV_OK;
}

static void feed_all(struct room *r, int first, int count)
{
    for (int p = 0; p < PARTITIONS; p++) {
        feed_numbers(r->feeder, "t", p, p % 2 ? CODEC_LZ4 : CODEC_NONE, first, count);
    }
}

static void assert_seen(const struct room *r, int offsets, int least, int most)
{
    for (int p = 0; p < PARTITIONS; p++) {
        for (int o = 0; o < offsets; o++) {
            if (r->seen[p][o] < least || r->seen[p][o] > most) {
                fail_msg("partition %d offset %d was read %d times", p, o, r->seen[p][o]);
            }
        }
    }
}

/* What is stored, by a question of its own. */
static int64_t committed(struct room *r, int32_t partition, char *ret_metadata, int32_t *ret_epoch)
{
    struct offset_fetch_request request;
    struct offset_fetch_request_topic topic;
    offset_fetch_request_init(&request);
    offset_fetch_request_topic_init(&topic);
    request.group_id = STR("g");
    request.topics = &topic;
    request.topics_count = 1;
    topic.name = STR("t");
    topic.partition_indexes = &partition;
    topic.partition_indexes_count = 1;
    struct ask q = {.client = r->feeder,
                    .api_key = 9,
                    .max_version = 7,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = "g",
                    .deadline_ms = client_deadline(r->feeder, PATIENCE_MS),
                    .what = "committed"};
    if (ask(&q, &r->error) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    const struct offset_fetch_response *answer = q.response;
    const struct offset_fetch_response_partition *p = &answer->topics[0].partitions[0];
    assert_int_equal(p->error_code, 0);
    int64_t offset = p->committed_offset;
    if (ret_metadata) {
        snprintf(ret_metadata, 40, "%.*s", STR_ARG(p->metadata));
    }
    if (ret_epoch) {
        *ret_epoch = p->committed_leader_epoch;
    }
    ask_finish(&q);
    return offset;
}

/* ---- joining and leaving ---- */

static void members_share_in(const char *strategy)
{
    struct room *r = calloc(1, sizeof *r);
    const struct rv_option *options = RV_OPTIONS({"partition.assignment.strategy", strategy});
    room_open(r);
    sit(r, 0, options);
    turns(r, 1, SHARED(6, 0, 0));
    sit(r, 1, options);
    turns(r, 3, SHARED(3, 3, 0));
    sit(r, 2, options);
    turns(r, 7, SHARED(2, 2, 2));
    stand(r, 1);
    turns(r, 5, SHARED(3, 0, 3));
    stand(r, 0);
    turns(r, 4, SHARED(0, 0, 6));
    assert_int_equal(r->seats[2].lost, 0);
    assert_int_equal(r->seats[2].assigned - r->seats[2].revoked, 6);
    room_close(r);
    free(r);
}

static void members_share_with_range(void **state)
{
    (void)state;
    members_share_in("range");
}

static void members_share_with_roundrobin(void **state)
{
    (void)state;
    members_share_in("roundrobin");
}

static void members_share_with_cooperative_sticky(void **state)
{
    (void)state;
    members_share_in("cooperative-sticky");
}

static void members_share_with_the_default_strategies(void **state)
{
    (void)state;
    members_share_in("range,cooperative-sticky");
}

static void eager_members_give_all_up_and_cooperative_ones_what_moves(void **state)
{
    (void)state;
    for (int cooperative = 0; cooperative < 2; cooperative++) {
        struct room *r = calloc(1, sizeof *r);
        const struct rv_option *options = RV_OPTIONS(
            {"partition.assignment.strategy", cooperative ? "cooperative-sticky" : "range"});
        room_open(r);
        sit(r, 0, options);
        turns(r, 1, SHARED(6, 0, 0));
        sit(r, 1, options);
        turns(r, 3, SHARED(3, 3, 0));
        assert_int_equal(r->seats[0].revoked, cooperative ? 3 : 6);
        assert_int_equal(r->seats[0].assigned, cooperative ? 6 : 9);
        assert_int_equal(r->seats[1].revoked, 0);
        room_close(r);
        free(r);
    }
}

static void callbacks_allow_what_the_manual_says(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, NULL);
    r->seats[0].commit_when_revoked = true;
    turns(r, 1, SHARED(6, 0, 0));
    assert_int_equal(r->seats[0].seek_code, RV_OK);
    assert_int_equal(r->seats[0].poll_code, RV_E_STATE);
    feed_all(r, 0, 10);
    turns(r, 1, has_read, &(int){60});
    sit(r, 1, NULL);
    turns(r, 3, SHARED(3, 3, 0)); /* the commit in the callback is what member 1 goes on from */
    assert_int_equal(r->seats[0].commit_code, RV_OK);
    feed_all(r, 10, 10);
    turns(r, 3, has_read, &(int){120});
    assert_seen(r, 20, 1, 1);
    room_close(r);
    free(r);
}

static void a_group_with_another_protocol_is_an_error_that_stays(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, RV_OPTIONS({"partition.assignment.strategy", "range"}));
    turns(r, 1, SHARED(6, 0, 0));
    sit(r, 1, RV_OPTIONS({"partition.assignment.strategy", "roundrobin"}));
    turns(r, 2, failed, &(int){1});
    assert_string_equal(rv_error_name(r->seats[1].last_code), "INCONSISTENT_GROUP_PROTOCOL");
    assert_non_null(strstr(r->seats[1].error.text, "group g"));
    seat_poll(r, 1, 0);
    assert_string_equal(rv_error_name(r->seats[1].last_code), "INCONSISTENT_GROUP_PROTOCOL");
    room_close(r);
    free(r);
}

static void a_topic_that_comes_later_is_dealt_when_it_is_there(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit_to(r, 0, NULL, "later");
    for (int i = 0; i < 20; i++) {
        seat_poll(r, 0, 5);
        assert_int_equal(r->seats[0].last_code, RV_OK);
    }
    assert_int_equal(rv_topic_create(r->feeder, "later", PARTITIONS, NULL, PATIENCE_MS, &r->error),
                     RV_OK);
    turns(r, 1, SHARED(6, 0, 0));
    room_close(r);
    free(r);
}

static void unsubscribing_leaves_and_subscribing_comes_back(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, NULL);
    sit(r, 1, NULL);
    turns(r, 3, SHARED(3, 3, 0));
    assert_int_equal(rv_subscribe(r->seats[0].consumer, NULL, 0, &r->error), RV_OK);
    assert_int_equal(has(r, 0), 0);
    turns(r, 2, SHARED(0, 6, 0));
    const struct rv_partition own = {.topic = "t", .partition = 0, .offset = RV_START};
    assert_int_equal(rv_assign(r->seats[0].consumer, &own, 1, &r->error), RV_OK);
    assert_int_equal(rv_assign(r->seats[0].consumer, NULL, 0, &r->error), RV_OK);
    const char *topic = "t";
    assert_int_equal(rv_subscribe(r->seats[0].consumer, &topic, 1, &r->error), RV_OK);
    assert_int_equal(rv_assign(r->seats[0].consumer, &own, 1, &r->error), RV_E_STATE);
    turns(r, 3, SHARED(3, 3, 0));
    room_close(r);
    free(r);
}

/* ---- dying ---- */

static void who_is_silent_loses_its_partitions_and_is_told(const char *strategy)
{
    struct room *r = calloc(1, sizeof *r);
    const struct rv_option *options = RV_OPTIONS({"partition.assignment.strategy", strategy});
    const struct rv_option *mortal =
        RV_OPTIONS({"partition.assignment.strategy", strategy}, {"session.timeout.ms", "300"});
    room_open(r);
    sit(r, 0, mortal);
    sit(r, 1, options);
    turns(r, 3, SHARED(3, 3, 0));
    r->seats[0].revoked = r->seats[0].lost = 0; /* it may have had all before */
    /* Member 0 makes no call any more: what it has goes to member 1. */
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (has(r, 1) != PARTITIONS && clock_mono_ms(&clock_real) < until) {
        seat_poll(r, 1, 5);
    }
    assert_int_equal(has(r, 1), PARTITIONS);
    /* Its commit is refused, and it hears that it is out before it gets anything. */
    const struct rv_partition *mine;
    assert_int_equal(rv_assignment(r->seats[0].consumer, &mine), 3);
    const struct rv_partition old = {.topic = "t", .partition = mine[0].partition, .offset = 1};
    int code = rv_commit(r->seats[0].consumer, &old, 1, &r->error);
    assert_int_equal(code, RV_E_LOST_MEMBER);
    assert_true(r->error.flags & RV_REJOIN);
    turns(r, 1, lost_some, &(int){0});
    assert_int_equal(r->seats[0].lost, 3);
    assert_int_equal(r->seats[0].revoked, 0);
    turns(r, 3, SHARED(3, 3, 0));
    room_close(r);
    free(r);
}

static void a_silent_eager_member_loses_its_partitions_and_is_told(void **state)
{
    (void)state;
    who_is_silent_loses_its_partitions_and_is_told("range");
}

static void a_silent_cooperative_member_loses_its_partitions_and_is_told(void **state)
{
    (void)state;
    who_is_silent_loses_its_partitions_and_is_told("cooperative-sticky");
}

static void who_does_not_poll_leaves_though_its_heartbeats_go_out(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, RV_OPTIONS({"max.poll.interval.ms", "200"}));
    sit(r, 1, NULL);
    turns(r, 3, SHARED(3, 3, 0));
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (has(r, 1) != PARTITIONS && clock_mono_ms(&clock_real) < until) {
        assert_int_equal(rv_wait(r->seats[0].client, 5, &r->error), RV_OK);
        seat_poll(r, 1, 5);
    }
    assert_int_equal(has(r, 1), PARTITIONS);
    turns(r, 1, lost_some, &(int){0});
    turns(r, 3, SHARED(3, 3, 0));
    room_close(r);
    free(r);
}

/* ---- static members ---- */

static void a_static_member_comes_back_to_its_partitions_and_nobody_else_moves(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, RV_OPTIONS({"group.instance.id", "one"}));
    sit(r, 1, RV_OPTIONS({"group.instance.id", "two"}));
    turns(r, 3, SHARED(3, 3, 0));
    const struct rv_partition *p;
    assert_int_equal(rv_assignment(r->seats[1].consumer, &p), 3);
    int32_t before = p[0].partition;
    int events = r->seats[0].assigned_events + r->seats[0].revoked_events;
    stand(r, 1);
    sit(r, 1, RV_OPTIONS({"group.instance.id", "two"}));
    turns(r, 3, SHARED(3, 3, 0));
    assert_int_equal(rv_assignment(r->seats[1].consumer, &p), 3);
    assert_int_equal(p[0].partition, before);
    assert_int_equal(r->seats[0].assigned_events + r->seats[0].revoked_events, events);
    stand(r, 0); /* the leader comes back: the deal stands */
    sit(r, 0, RV_OPTIONS({"group.instance.id", "one"}));
    turns(r, 3, SHARED(3, 3, 0));
    room_close(r);
    free(r);
}

static void the_same_instance_twice_fences_the_first_for_good(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    sit(r, 0, RV_OPTIONS({"group.instance.id", "one"}));
    turns(r, 1, SHARED(6, 0, 0));
    sit(r, 1, RV_OPTIONS({"group.instance.id", "one"}));
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (r->seats[0].last_code == RV_OK && clock_mono_ms(&clock_real) < until) {
        seat_poll(r, 1, 1);
        seat_poll(r, 0, 1);
    }
    assert_string_equal(rv_error_name(r->seats[0].last_code), "FENCED_INSTANCE_ID");
    assert_true(r->seats[0].error.flags & RV_FATAL);
    assert_int_equal(r->seats[0].lost, 6);
    const char *topic = "t";
    assert_true(rv_subscribe(r->seats[0].consumer, &topic, 1, &r->error) != RV_OK);
    turns(r, 2, SHARED(0, 6, 0));
    room_close(r);
    free(r);
}

/* ---- offsets ---- */

static void a_group_goes_on_where_it_left_off(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    feed_all(r, 0, 20);
    sit(r, 0, NULL);
    turns(r, 1, has_read, &(int){120});
    assert_int_equal(rv_commit(r->seats[0].consumer, NULL, 0, &r->error), RV_OK);
    stand(r, 0);
    feed_all(r, 20, 20);
    sit(r, 0, NULL);
    turns(r, 1, has_read, &(int){120});
    assert_seen(r, 40, 1, 1);
    room_close(r);
    free(r);
}

static void a_commit_stores_epoch_and_metadata(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    char metadata[40];
    int32_t epoch;
    room_open(r);
    feed_all(r, 0, 5);
    sit(r, 0, NULL);
    turns(r, 1, has_read, &(int){30});
    const struct rv_partition p = {
        .topic = "t", .partition = 2, .offset = 4, .leader_epoch = -1, .metadata = "mine"};
    assert_int_equal(committed(r, 2, NULL, NULL), -1);
    assert_int_equal(rv_commit(r->seats[0].consumer, &p, 1, &r->error), RV_OK);
    assert_int_equal(committed(r, 2, metadata, &epoch), 4);
    assert_string_equal(metadata, "mine");
    assert_int_equal(epoch, -1);
    assert_int_equal(rv_commit(r->seats[0].consumer, NULL, 0, &r->error), RV_OK);
    assert_int_equal(committed(r, 2, metadata, &epoch), 5);
    assert_string_equal(metadata, "");
    assert_true(epoch >= 0);
    const struct rv_partition wrong = {.topic = "t", .partition = 2, .offset = -1};
    assert_int_equal(rv_commit(r->seats[0].consumer, &wrong, 1, &r->error), RV_E_ARGUMENT);
    const struct rv_partition not_ours = {.topic = "t", .partition = 99, .offset = 1};
    assert_int_equal(rv_commit(r->seats[0].consumer, &not_ours, 1, &r->error), RV_E_LOST_MEMBER);
    char long_text[5000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    const struct rv_partition long_one = {
        .topic = "t", .partition = 2, .offset = 1, .metadata = long_text};
    assert_int_equal(rv_commit(r->seats[0].consumer, &long_one, 1, &r->error), 12);
    room_close(r);
    free(r);
}

static void note_commit(void *ctx, const struct rv_error *error)
{
    int *notes = ctx;
    notes[0]++;
    notes[1] += error != NULL;
}

static void async_commits_are_stored_in_their_order_and_told(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    int notes[2] = {0};
    room_open(r);
    feed_all(r, 0, 5);
    sit(r, 0, NULL);
    turns(r, 1, has_read, &(int){30});
    for (int offset = 1; offset <= 5; offset++) {
        const struct rv_partition p = {.topic = "t", .partition = 0, .offset = offset};
        assert_int_equal(
            rv_commit_async(r->seats[0].consumer, &p, 1, note_commit, notes, &r->error), RV_OK);
        assert_true(notes[0] < offset); /* never from inside of the call, of a later one perhaps */
    }
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (notes[0] < 5 && clock_mono_ms(&clock_real) < until) {
        assert_int_equal(rv_wait(r->seats[0].client, 100, &r->error), RV_OK);
    }
    assert_int_equal(notes[0], 5);
    assert_int_equal(notes[1], 0);
    assert_int_equal(committed(r, 0, NULL, NULL), 5);
    local_home_stop(r->broker); /* closed with one that cannot be stored: told all the same */
    const struct rv_partition p = {.topic = "t", .partition = 0, .offset = 3};
    assert_int_equal(rv_commit_async(r->seats[0].consumer, &p, 1, note_commit, notes, &r->error),
                     RV_OK);
    assert_int_equal(rv_consumer_close(r->seats[0].consumer, 50, &r->error), RV_OK);
    r->seats[0].consumer = NULL;
    assert_int_equal(notes[0], 6);
    assert_int_equal(notes[1], 1);
    rv_client_close(r->seats[0].client);
    room_close(r);
    free(r);
}

static void commits_without_a_group_are_refused(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    struct rv_consumer *c;
    const char *topic = "t";
    room_open(r);
    assert_int_equal(rv_consumer_open(r->feeder, NULL, &c, &r->error), RV_OK);
    assert_int_equal(rv_commit(c, NULL, 0, &r->error), RV_E_STATE);
    assert_int_equal(rv_subscribe(c, &topic, 1, &r->error), RV_E_STATE);
    assert_int_equal(rv_consumer_close(c, 0, &r->error), RV_OK);
    room_close(r);
    free(r);
}

static void an_assigned_consumer_commits_for_its_group_too(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    struct rv_consumer *c;
    const struct rv_record *records;
    size_t count = 0;
    room_open(r);
    feed_all(r, 0, 8);
    const struct rv_partition p = {.topic = "t", .partition = 1, .offset = RV_COMMITTED};
    for (int round = 0; round < 2; round++) {
        assert_int_equal(rv_consumer_open(r->feeder,
                                          RV_OPTIONS({"group.id", "g"}, {"max.poll.records", "4"},
                                                     {"auto.offset.reset", "earliest"}),
                                          &c, &r->error),
                         RV_OK);
        assert_int_equal(rv_assign(c, &p, 1, &r->error), RV_OK);
        for (count = 0; count == 0;) {
            assert_int_equal(rv_poll(c, 1000, &records, &count, &r->error), RV_OK);
        }
        assert_int_equal(records[0].offset, round * 4);
        assert_int_equal(rv_commit(c, NULL, 0, &r->error), RV_OK);
        assert_int_equal(rv_consumer_close(c, PATIENCE_MS, &r->error), RV_OK);
    }
    room_close(r);
    free(r);
}

/* ---- delivery ---- */

static void at_least_once_commits_what_the_poll_before_returned(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 10);
    sit(r, 0, RV_OPTIONS({"delivery", "at-least-once"}, {"max.poll.records", "4"}));
    turns(r, 1, has_read, &(int){4});
    for (int i = 0; i < 20; i++) { /* no poll: not known to be done, whatever else is called */
        assert_int_equal(rv_wait(r->seats[0].client, 2, &r->error), RV_OK);
    }
    assert_true(committed(r, 0, NULL, NULL) <= 0); /* where it began, at most */
    turns(r, 1, has_read, &(int){8});
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (committed(r, 0, NULL, NULL) < 4 && clock_mono_ms(&clock_real) < until) {
        assert_int_equal(rv_wait(r->seats[0].client, 2, &r->error), RV_OK);
    }
    assert_int_equal(committed(r, 0, NULL, NULL), 4);
    stand(r, 0); /* close commits the rest */
    assert_int_equal(committed(r, 0, NULL, NULL), 8);
    room_close(r);
    free(r);
}

static void at_most_once_commits_before_it_gives(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    room_open(r);
    feed_numbers(r->feeder, "t", 0, CODEC_GZIP, 0, 10);
    sit(r, 0, RV_OPTIONS({"delivery", "at-most-once"}, {"max.poll.records", "4"}));
    turns(r, 1, has_read, &(int){4});
    assert_int_equal(committed(r, 0, NULL, NULL), 4);
    turns(r, 1, has_read, &(int){8});
    assert_int_equal(committed(r, 0, NULL, NULL), 8);
    room_close(r);
    free(r);
}

static void at_most_once_gives_nothing_that_it_could_not_commit(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    struct seat *s = &r->seats[0];
    const struct rv_record *records;
    size_t count;
    room_open(r);
    feed_numbers(r->feeder, "t", 0, CODEC_GZIP, 0, 10);
    memset(s, 0, sizeof *s);
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", local_home_address(r->broker)},
                                               {"default.api.timeout.ms", "300"},
                                               {"reconnect.backoff.max.ms", "50"}),
                                    &s->client, &r->error),
                     RV_OK);
    assert_int_equal(
        rv_consumer_open(s->client,
                         RV_OPTIONS({"group.id", "g"}, {"delivery", "at-most-once"},
                                    {"auto.offset.reset", "earliest"}, {"max.poll.records", "4"}),
                         &s->consumer, &r->error),
        RV_OK);
    const struct rv_partition p = {.topic = "t", .partition = 0, .offset = RV_START};
    assert_int_equal(rv_assign(s->consumer, &p, 1, &r->error), RV_OK);
    turns(r, 1, has_read, &(int){4});
    local_home_stop(r->broker); /* six records are fetched already */
    assert_int_equal(rv_poll(s->consumer, 1000, &records, &count, &r->error), RV_E_TIMED_OUT);
    assert_int_equal(count, 0);
    local_home_restart(r->broker);
    turns(r, 1, has_read, &(int){10});
    for (int o = 0; o < 10; o++) {
        assert_int_equal(r->seen[0][o], 1);
    }
    assert_int_equal(committed(r, 0, NULL, NULL), 10);
    room_close(r);
    free(r);
}

/* Found by fuzz_client: the leader, which may be anybody's, dealt partition -5, and the consumer
 * looked for its leader five places before the first. */
static void an_assignment_with_a_partition_below_zero_is_none(void **state)
{
    (void)state;
    uint8_t bytes[] = {
        0, 0, 0, 0, 0,    1,    0,    1,    't',  0,    0,    0,   2,
        0, 0, 0, 3, 0xff, 0xff, 0xff, 0xfb, 0xff, 0xff, 0xff, 0xff}; /* version, topic t, partitions
                                                                        3 and -5, no data */
    struct consumer_protocol_assignment in;
    struct arena a;
    arena_init(&a, 1 << 16);
    assert_int_equal(assignment_read((struct bytes){bytes, sizeof bytes}, &a, &in), RV_E_PROTOCOL);
    memset(bytes + 17, 0, 4);
    assert_int_equal(assignment_read((struct bytes){bytes, sizeof bytes}, &a, &in), RV_OK);
    assert_int_equal(in.assigned_partitions[0].partitions[0], 3);
    arena_finish(&a);
}

/* ---- a broker that comes and goes ---- */

static void a_group_outlives_its_broker(const char *strategy)
{
    struct room *r = calloc(1, sizeof *r);
    const struct rv_option *options =
        RV_OPTIONS({"partition.assignment.strategy", strategy}, {"delivery", "at-least-once"});
    room_open(r);
    sit(r, 0, options);
    sit(r, 1, options);
    turns(r, 3, SHARED(3, 3, 0));
    int total = 0;
    for (int round = 0; round < 3; round++) {
        feed_all(r, round * 10, 10);
        total += 60;
        turns(r, 3, has_read, &total);
        local_home_restart(r->broker);
    }
    turns(r, 3, SHARED(3, 3, 0));
    assert_seen(r, 30, 1, SEEN_MAX);
    room_close(r);
    free(r);
}

static void an_eager_group_outlives_its_broker(void **state)
{
    (void)state;
    a_group_outlives_its_broker("range");
}

static void a_cooperative_group_outlives_its_broker(void **state)
{
    (void)state;
    a_group_outlives_its_broker("cooperative-sticky");
}

/* Members come, go and fall silent while records flow: nothing is left out. */
static void nothing_is_lost_while_members_come_and_go(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    const struct rv_option *options =
        RV_OPTIONS({"partition.assignment.strategy", "cooperative-sticky"},
                   {"delivery", "at-least-once"}, {"max.poll.records", "7"});
    room_open(r);
    int n = 0;
    for (int round = 0; round < 8; round++, n += 20) {
        feed_all(r, n, 20);
        int i = round % MEMBERS;
        if (r->seats[i].consumer) { /* its last commit may be refused: the others read on, then */
            rv_consumer_close(r->seats[i].consumer, 50, &r->error);
            r->seats[i].consumer = NULL;
            rv_client_close(r->seats[i].client);
        } else {
            sit(r, i, options);
        }
        unsigned mask = 0;
        for (int k = 0; k < MEMBERS; k++) {
            mask |= (unsigned)(r->seats[k].consumer != NULL) << k;
        }
        for (int k = 0; k < 20; k++) {
            for (int m = 0; m < MEMBERS; m++) {
                if (mask & 1u << m) {
                    seat_poll(r, m, 1);
                }
            }
        }
    }
    unsigned mask = 0;
    for (int k = 0; k < MEMBERS; k++) {
        if (!r->seats[k].consumer) {
            sit(r, k, options);
        }
        mask |= 1u << k;
    }
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    int missing = 1;
    while (missing && clock_mono_ms(&clock_real) < until) {
        missing = 0;
        for (int p = 0; p < PARTITIONS; p++) {
            for (int o = 0; o < n; o++) {
                missing += r->seen[p][o] == 0;
            }
        }
        for (int m = 0; m < MEMBERS; m++) {
            seat_poll(r, m, 1);
        }
    }
    assert_int_equal(missing, 0);
    room_close(r);
    free(r);
}

/* ---- what others see ---- */

static void a_live_group_is_described_with_members_and_lag(void **state)
{
    (void)state;
    struct room *r = calloc(1, sizeof *r);
    struct rv_group *g;
    room_open(r);
    feed_all(r, 0, 10);
    sit(r, 0, NULL);
    sit(r, 1, RV_OPTIONS({"group.instance.id", "two"}));
    turns(r, 3, SHARED(3, 3, 0));
    turns(r, 3, has_read, &(int){60});
    const struct rv_partition *mine;
    assert_int_equal(rv_assignment(r->seats[0].consumer, &mine), 3);
    const struct rv_partition p = {.topic = "t", .partition = mine[0].partition, .offset = 4};
    assert_int_equal(rv_commit(r->seats[0].consumer, &p, 1, &r->error), RV_OK);
    assert_int_equal(rv_group_describe(r->feeder, "g", PATIENCE_MS, &g, &r->error), RV_OK);
    assert_string_equal(g->state, "Stable");
    assert_string_equal(g->protocol, "range");
    assert_int_equal(g->member_count, 2);
    assert_int_equal(g->partition_count, PARTITIONS);
    int with_offset = 0;
    for (size_t i = 0; i < g->partition_count; i++) {
        assert_non_null(g->partitions[i].member);
        assert_int_equal(g->partitions[i].end_offset, 10);
        if (g->partitions[i].committed_offset >= 0) {
            with_offset++;
            assert_int_equal(g->partitions[i].partition, p.partition);
            assert_int_equal(g->partitions[i].lag, 6);
        }
    }
    assert_int_equal(with_offset, 1);
    rv_free(g);
    room_close(r);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_assignment_with_a_partition_below_zero_is_none),
        cmocka_unit_test(members_share_with_range),
        cmocka_unit_test(members_share_with_roundrobin),
        cmocka_unit_test(members_share_with_cooperative_sticky),
        cmocka_unit_test(members_share_with_the_default_strategies),
        cmocka_unit_test(eager_members_give_all_up_and_cooperative_ones_what_moves),
        cmocka_unit_test(callbacks_allow_what_the_manual_says),
        cmocka_unit_test(a_group_with_another_protocol_is_an_error_that_stays),
        cmocka_unit_test(a_topic_that_comes_later_is_dealt_when_it_is_there),
        cmocka_unit_test(unsubscribing_leaves_and_subscribing_comes_back),
        cmocka_unit_test(a_silent_eager_member_loses_its_partitions_and_is_told),
        cmocka_unit_test(a_silent_cooperative_member_loses_its_partitions_and_is_told),
        cmocka_unit_test(who_does_not_poll_leaves_though_its_heartbeats_go_out),
        cmocka_unit_test(a_static_member_comes_back_to_its_partitions_and_nobody_else_moves),
        cmocka_unit_test(the_same_instance_twice_fences_the_first_for_good),
        cmocka_unit_test(a_group_goes_on_where_it_left_off),
        cmocka_unit_test(a_commit_stores_epoch_and_metadata),
        cmocka_unit_test(async_commits_are_stored_in_their_order_and_told),
        cmocka_unit_test(commits_without_a_group_are_refused),
        cmocka_unit_test(an_assigned_consumer_commits_for_its_group_too),
        cmocka_unit_test(at_least_once_commits_what_the_poll_before_returned),
        cmocka_unit_test(at_most_once_commits_before_it_gives),
        cmocka_unit_test(at_most_once_gives_nothing_that_it_could_not_commit),
        cmocka_unit_test(an_eager_group_outlives_its_broker),
        cmocka_unit_test(a_cooperative_group_outlives_its_broker),
        cmocka_unit_test(nothing_is_lost_while_members_come_and_go),
        cmocka_unit_test(a_live_group_is_described_with_members_and_lag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
