/* Clients that mean harm, or behave as if they did: each gets an error or a closed connection and a
 * log line, takes no more memory than it may, and every request of a client that behaves is
 * answered meanwhile. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "gen/api_versions.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/proc.h"
#include "tests/kit/wire_kit.h"
#include "tests/kit/wire_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, MANY = 64, RSS_SLACK = 12 * MIB };

/* ---- the client that behaves */

struct good {
    struct daemon *d;
    struct wire_client *c;
    int64_t next; /* offset of its next record */
    int64_t rss;  /* of the daemon, before it got bad company */
};

static struct good good_create(struct daemon *d)
{
    struct good g = {.d = d, .c = wire_connect(d)};
    TOPIC(g.c, "good", 1);
    wire_put_good(g.c, "good", BATCH(g.c, .count = 1));
    g.next = 1;
    g.rss = proc_rss_bytes(d->pid);
    return g;
}

/* Its requests of every kind are answered, and right. */
static void good_works(struct good *g)
{
    const struct metadata_response_topic *t = wire_topic_info(g->c, "good");
    assert_code(t->error_code, KERR_NONE);
    assert_int_equal(wire_put_good(g->c, "good", BATCH(g->c, .count = 1)), g->next);
    struct wire_records_read r = wire_read(g->c, "good", 0, g->next);
    assert_int_equal(r.count, 1);
    g->next++;
    wire_forget(g->c);
}

static void good_memory_within(const struct good *g, int64_t budget)
{
    int64_t rss = proc_rss_bytes(g->d->pid);
    if (proc_memory_counts() && rss > g->rss + budget + RSS_SLACK) {
        fail_msg("%lld KiB of memory, from %lld KiB, with a budget of %lld KiB",
                 (long long)rss / 1024, (long long)g->rss / 1024, (long long)budget / 1024);
    }
}

static void good_ends(struct good *g)
{
    good_works(g);
    wire_close(g->c);
    assert_logfmt(daemon_log(g->d));
    daemon_destroy(g->d);
}

static void close_all(struct wire_client **clients, int count)
{
    for (int i = 0; i < count; i++) {
        wire_close(clients[i]);
    }
}

static void send_size(struct wire_client *c, uint32_t size)
{
    uint8_t bytes[4];
    put_be32(bytes, size);
    wire_send(c, bytes, sizeof bytes);
}

/* ---- what is not Kafka's protocol */

static void greetings_of_other_protocols_close_the_connection(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } greetings[] = {
#define G(text) {text, sizeof(text) - 1}
        G("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        G("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
          "0123456789012345678901234567890"),
        G("SSH-2.0-OpenSSH_9.2p1\r\n"),
        G("\xff\xff\xff\xff"),
        G("\x80\x00\x00\x00"),
        G("\x7f\xff\xff\xff"),
        G("\x06\x40\x00\x01"), /* one past socket.request.max.bytes */
        G("\x00\x00\x00\x00"),
        G("\x00\x00\x00\x01x"),
        G("\x00\x00\x00\x08\x7f\xff\x00\x00\x00\x00\x00\x01"), /* an unknown key */
        G("\x00\x00\x00\x08\x00\x03\x7f\xff\x00\x00\x00\x01"), /* an unknown version */
        G("\x00\x00\x00\x08\x00\x03\x80\x00\x00\x00\x00\x01"),
#undef G
    };
    struct good g = good_create(DAEMON());
    for (size_t i = 0; i < sizeof greetings / sizeof *greetings; i++) {
        struct wire_client *c = wire_connect(g.d);
        wire_send(c, greetings[i].bytes, greetings[i].size);
        wire_expect_close(c);
        wire_close(c);
        daemon_await_log(g.d, "level=warn event=connection_closed peer=127.0.0.1:");
        good_works(&g);
    }
    good_ends(&g);
}

/* Reads until the daemon closes, whatever comes. */
static void drain(struct wire_client *c)
{
    uint8_t bytes[4096];
    ssize_t n;
    while ((n = recv(c->fd, bytes, sizeof bytes, 0)) > 0 || (n < 0 && errno == EINTR)) {
    }
    if (n < 0 && errno != ECONNRESET) {
        fail_msg("neither an answer nor an end: %s", strerror(errno));
    }
}

static void garbage_of_any_kind_ends_with_an_error_or_a_closed_connection(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    struct rng rng;
    rng_init(&rng, 20261126);
    for (int i = 0; i < 300; i++) {
        struct wire_client *c = wire_connect(g.d);
        uint8_t bytes[600];
        size_t size = 4 + rng_below(&rng, sizeof bytes - 4);
        rng_bytes(&rng, bytes, size);
        if (i % 2) { /* a frame of the right size, of a key and version that there are */
            put_be32(bytes, (uint32_t)size - 4);
            put_be16(bytes + 4, (uint16_t)rng_below(&rng, 70));
            put_be16(bytes + 6, (uint16_t)rng_below(&rng, 12));
        }
        (void)wire_try_send(c, bytes, size);
        shutdown(c->fd, SHUT_WR);
        drain(c);
        wire_close(c);
        if (i % 50 == 0) {
            good_works(&g);
        }
    }
    good_ends(&g);
}

/* A request of any API, made at random, with some bytes of its body changed. */
static struct bytes changed_frame(struct wire_client *c, struct rng *rng)
{
    static const int16_t keys[] = {API_PRODUCE,
                                   API_FETCH,
                                   API_LIST_OFFSETS,
                                   API_METADATA,
                                   API_OFFSET_COMMIT,
                                   API_OFFSET_FETCH,
                                   API_FIND_COORDINATOR,
                                   API_JOIN_GROUP,
                                   API_HEARTBEAT,
                                   API_LEAVE_GROUP,
                                   API_SYNC_GROUP,
                                   API_DESCRIBE_GROUPS,
                                   API_LIST_GROUPS,
                                   API_API_VERSIONS,
                                   API_CREATE_TOPICS,
                                   API_INIT_PRODUCER_ID,
                                   API_DESCRIBE_CONFIGS,
                                   API_ALTER_CONFIGS,
                                   API_DESCRIBE_LOG_DIRS,
                                   API_DELETE_GROUPS,
                                   API_DESCRIBE_CLUSTER,
                                   API_OFFSET_DELETE,
                                   API_DESCRIBE_TOPIC_PARTITIONS};
    int16_t key = keys[rng_below(rng, sizeof keys / sizeof *keys)];
    int16_t least = version_min(key);
    uint64_t versions = (uint64_t)version_max(key) - (uint64_t)least + 1;
    int16_t version = (int16_t)(least + (int16_t)rng_below(rng, versions));
    const struct wire_api *api = wire_api_find(key);
    void *message = wire_structs(c, api->request, 1);
    wire_random(api->request, version, rng, &c->arena, message);
    struct bytes frame = wire_frame(c, key, version, message);
    uint8_t *p = wire_writable(frame);
    for (uint64_t changes = rng_below(rng, 4); changes && frame.len > 12; changes--) {
        p[12 + rng_below(rng, frame.len - 12)] = (uint8_t)rng_below(rng, 256);
    }
    return frame;
}

static void changed_requests_of_every_kind_end_with_an_answer_or_a_closed_connection(void **state)
{
    (void)state;
    struct good g = good_create(
        DAEMON("rivulet.topics.max=50", "rivulet.partitions.max=200", "rivulet.groups.max=50"));
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 1500; i++) {
        struct wire_client *c = wire_connect(g.d);
        struct bytes frame = changed_frame(c, &rng);
        (void)wire_try_send(c, frame.ptr, frame.len);
        shutdown(c->fd, SHUT_WR);
        drain(c);
        wire_close(c);
        if (i % 250 == 0) {
            good_works(&g);
        }
    }
    good_ends(&g);
}

/* ---- frames that never end */

static void frames_that_are_announced_take_no_memory(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    struct wire_client *bad[MANY];
    for (int i = 0; i < MANY; i++) {
        bad[i] = wire_connect(g.d);
        send_size(bad[i], 100 * MIB);
        wire_send(bad[i], "\x00\x00\x00\x0c\x00\x00\x00\x01", 8);
    }
    for (int i = 0; i < 5; i++) {
        good_works(&g);
    }
    good_memory_within(&g, 0);
    close_all(bad, MANY);
    good_ends(&g);
}

/* As much as each connection takes now, of a frame, but for its end. While memory is
 * spent the broker may close one (rivulet.memory.stall.ms). */
static size_t pump(struct wire_client **bad, size_t *sent, struct bytes frame)
{
    size_t all = 0;
    for (int i = 0; i < MANY; i++) {
        for (ssize_t n = 1; n > 0 && sent[i]<frame.len - 1; sent[i] += n> 0 ? (size_t)n : 0) {
            size_t left = frame.len - 1 - sent[i];
            n = send(bad[i]->fd, frame.ptr + sent[i], left < MIB ? left : MIB,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
            assert_true(n > 0 || errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        }
        all += sent[i];
    }
    return all;
}

/* A number that the daemon told at its end. */
static int64_t told(struct daemon *d, const char *name)
{
    const char *line = strstr(daemon_log(d), "event=stopped clean=true");
    const char *at = line ? strstr(line, name) : NULL;
    if (!at) {
        fail_msg("the daemon did not say %s at its end", name);
    }
    return atoll(at + strlen(name));
}

/* What Apache Kafka dies of: a frame of 100 MB is announced by each of 64 connections, some bytes
 * come, then as much of the rest as the broker takes. The good client is answered all the time, and
 * all that the daemon ever gave to frames, requests and answers is less than 64 MB, counted to the
 * byte. */
static void storm_of(struct bytes (*frame_of)(struct wire_client *c), int64_t least)
{
    enum { MOST = 64000000, ROUNDS = 40 };
    struct good g = good_create(DAEMON("rivulet.frame.stall.ms=600000")); /* none is ever closed */
    struct wire_client *bad[MANY];
    size_t sent[MANY] = {0};
    struct wire_client *maker = wire_connect(g.d);
    TOPIC(maker, "hundred", 100);
    struct bytes frame = frame_of(maker);
    for (int i = 0; i < MANY; i++) {
        bad[i] = wire_connect(g.d);
        sent[i] = wire_try_send(bad[i], frame.ptr, 12) ? 12 : frame.len;
    }
    good_works(&g);
    size_t all = 0;
    for (int round = 0; round < ROUNDS; round++) {
        all = pump(bad, sent, frame);
        good_works(&g);
    }
    good_memory_within(&g, MOST);
    wire_close(maker);
    close_all(bad, MANY);
    good_works(&g);
    wire_close(g.c);
    assert_int_equal(daemon_stop(g.d), 0);
    assert_logfmt(daemon_log(g.d));
    print_message("%zu MiB sent, at most %lld KiB of memory, %lld KiB of it partial frames\n",
                  all / MIB, (long long)told(g.d, " memory_peak=") / 1024,
                  (long long)told(g.d, " partial_memory_peak=") / 1024);
    assert_true(told(g.d, " memory_peak=") < MOST);
    assert_true(told(g.d, " partial_memory_peak=") >= least); /* or this tests nothing */
    daemon_destroy(g.d);
}

static struct bytes frame_of_size(struct wire_client *c, size_t size, const char *head,
                                  size_t head_size)
{
    struct bytes frame = {wire_room(c, size + 4, 1), size + 4};
    put_be32(wire_writable(frame), (uint32_t)size);
    memcpy(wire_writable(frame) + 4, head, head_size);
    return frame;
}

static struct bytes large_zeros(struct wire_client *c)
{
    return frame_of_size(c, 100000000, "", 0);
}

static struct bytes large_fetch(struct wire_client *c)
{
    return frame_of_size(c, 100000000, "\x00\x01\x00\x0c\x00\x00\x00\x01", 8);
}

static struct bytes fetch_of_16_mib(struct wire_client *c)
{
    return frame_of_size(c, 16 * MIB, "\x00\x01\x00\x0c\x00\x00\x00\x01", 8);
}

/* A Produce of version 9 whose topics are none, and bytes behind it. */
static struct bytes garbage_behind_a_produce(struct wire_client *c)
{
    static const char head[] = "\0\0\0\x09\0\0\0\1\0\1c\0\0\0\1\0\0\0\0\2\0";
    return frame_of_size(c, 100000000, head, sizeof head - 1);
}

static struct bytes produce_of(struct wire_client *c, int32_t count, size_t size)
{
    struct produce_request *q = NEW(c, produce_request);
    struct bytes batch = BATCH(c, .value_size = size);
    q->acks = -1;
    q->timeout_ms = 30000;
    q->topics = NEWS(c, produce_request_topic, 1);
    q->topics_count = 1;
    q->topics->name = STR("hundred");
    q->topics->partitions = NEWS(c, produce_request_partition, count);
    q->topics->partitions_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->topics->partitions[i].index = i;
        q->topics->partitions[i].records = (struct wire_records){batch.ptr, batch.len, NULL};
    }
    return wire_frame(c, API_PRODUCE, 9, q);
}

static struct bytes produce_of_one_batch(struct wire_client *c)
{
    return produce_of(c, 1, 99000000);
}

static struct bytes produce_of_100_batches(struct wire_client *c)
{
    return produce_of(c, 100, 990000);
}

static void large_frames_that_are_no_produce_are_not_received(void **state)
{
    (void)state;
    storm_of(large_zeros, 0);
    storm_of(large_fetch, 0);
    storm_of(garbage_behind_a_produce, 0);
}

static void many_frames_of_the_largest_size_stay_within_the_memory_of_partial_ones(void **state)
{
    (void)state;
    storm_of(fetch_of_16_mib, 30 * MIB);
}

static void many_large_produces_stay_within_the_memory_of_partial_ones(void **state)
{
    (void)state;
    storm_of(produce_of_one_batch, 2 * MIB);
    storm_of(produce_of_100_batches, 30 * MIB);
}

/* Named, and at once: the frame never comes. */
static void a_large_frame_that_is_no_produce_closes_its_connection_at_once(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    struct wire_client *bad = wire_connect(g.d);
    send_size(bad, 16 * MIB + 1);
    wire_send(bad, "\x00\x03\x00\x0c", 4);
    wire_expect_close(bad);
    wire_close(bad);
    daemon_await_log(g.d, "a frame of 16777217 bytes that is no Produce "
                          "(rivulet.request.other.max.bytes)");
    bad = wire_connect(g.d);
    send_size(bad, 16 * MIB);
    wire_send(bad, "\x00\x03\x00\x0c", 4);
    good_works(&g);
    wire_send(bad, "\x00", 1); /* it is still there */
    wire_close(bad);
    good_ends(&g);
}

static void frames_that_make_no_progress_are_closed(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON("rivulet.frame.stall.ms=50"));
    struct wire_client *bad[6];
    for (int i = 0; i < 6; i++) { /* 1 to 3 bytes of the size; the size alone; and of the frame */
        bad[i] = wire_connect(g.d);
        wire_send(bad[i], "\x00\x01\x00\x00\x00\x03", (size_t)i + 1);
    }
    for (int i = 0; i < 6; i++) {
        wire_expect_close(bad[i]);
        daemon_await_log(g.d, "the frame makes no progress (rivulet.frame.stall.ms)");
    }
    close_all(bad, 6);
    good_ends(&g);
}

/* Frames that fill the budget and stop short of their end. */
static void frames_that_fill_the_memory_wait_and_others_are_served(void **state)
{
    (void)state;
    enum { BUDGET = 8 * MIB, FRAME = 2 * MIB };
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=8388608", "socket.request.max.bytes=4194304",
                           "rivulet.frame.stall.ms=100"));
    struct wire_client *bad[16];
    char *piece = mem_need_zero(1, FRAME);
    for (int i = 0; i < 16; i++) {
        bad[i] = wire_connect(g.d);
        send_size(bad[i], FRAME);
        const struct timeval limit = {.tv_usec = 1000}; /* what it does not take, it does not */
        assert_int_equal(setsockopt(bad[i]->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
        ssize_t n = send(bad[i]->fd, piece, FRAME - 1, MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        good_works(&g);
    }
    good_memory_within(&g, BUDGET);
    for (int i = 0; i < 16; i++) { /* and none of them stays for ever */
        wire_expect_close(bad[i]);
        good_works(&g);
    }
    mem_free(piece);
    close_all(bad, 16);
    good_ends(&g);
}

/* Found by `make bench`: the oldest, which goes on while the others wait, filled what they had left
 * for small requests, and then nobody was answered until it was closed. */
static void the_frame_that_may_go_on_takes_no_room_from_others(void **state)
{
    (void)state;
    enum { BUDGET = 8 * MIB, FRAME = 4 * MIB, COUNT = 16, PIECE = 65536 };
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=8388608", "socket.request.max.bytes=4194304",
                           "rivulet.frame.stall.ms=600000", "rivulet.memory.stall.ms=600000"));
    struct wire_client *bad[COUNT];
    size_t sent[COUNT] = {0};
    static char piece[PIECE];
    for (int i = 0; i < COUNT; i++) {
        bad[i] = wire_connect(g.d);
        send_size(bad[i], FRAME);
    }
    while (sent[0] < FRAME - PIECE) { /* the oldest's is all taken, but for its end */
        for (int i = 0; i < COUNT; i++) {
            size_t most = FRAME - PIECE - sent[i] < PIECE ? FRAME - PIECE - sent[i] : PIECE;
            ssize_t n = most ? send(bad[i]->fd, piece, most, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
            assert_true(n >= 0 || errno == EAGAIN);
            sent[i] += n > 0 ? (size_t)n : 0;
        }
    }
    daemon_await_log(g.d, "memory_spent");
    for (int i = 0; i < 10; i++) {
        struct wire_client *c = wire_connect(g.d);
        assert_code(wire_topic_info(c, "good")->error_code, KERR_NONE);
        wire_close(c);
        good_works(&g);
    }
    good_memory_within(&g, BUDGET + FRAME);
    close_all(bad, COUNT);
    good_ends(&g);
}

/* While memory is spent, whose turn it is has to use it. */
static void a_frame_that_stops_while_memory_is_spent_is_closed_soon(void **state)
{
    (void)state;
    enum { FRAME = 4 * MIB, COUNT = 4 };
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=8388608", "socket.request.max.bytes=4194304",
                           "rivulet.frame.stall.ms=600000", "rivulet.memory.stall.ms=100"));
    struct wire_client *bad[COUNT];
    char *bytes = mem_need_zero(1, FRAME);
    for (int i = 0; i < COUNT; i++) {
        bad[i] = wire_connect(g.d);
        send_size(bad[i], FRAME);
        const struct timeval limit = {.tv_usec = 100000};
        assert_int_equal(setsockopt(bad[i]->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
        (void)send(bad[i]->fd, bytes, FRAME - 1, MSG_NOSIGNAL);
    }
    wire_expect_close(bad[0]);
    daemon_await_log(g.d, "(rivulet.memory.stall.ms)");
    mem_free(bytes);
    close_all(bad, COUNT);
    good_ends(&g);
}

/* ---- clients that do not read */

static void many_topics(struct good *g, int count)
{
    char padding[200];
    memset(padding, 'p', sizeof padding - 1);
    padding[sizeof padding - 1] = 0;
    for (int i = 0; i < count; i++) {
        TOPIC(g->c, wire_text(g->c, "%s-%d", padding, i).ptr, 1);
    }
    wire_forget(g->c);
}

static int send_what_it_takes(struct wire_client *c, struct bytes frame, int most)
{
    int sent = 0;
    while (sent < most &&
           send(c->fd, frame.ptr, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)frame.len) {
        sent++;
    }
    return sent;
}

static void set_small_buffer(struct wire_client *c)
{
    const int size = 4096;
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

/* 60 KiB of answer for each 30 bytes of request, from memory. */
static void answers_that_nobody_reads_stay_within_the_memory(void **state)
{
    (void)state;
    enum { BUDGET = 16 * MIB };
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=16777216", "socket.request.max.bytes=8388608",
                           "rivulet.memory.stall.ms=100"));
    struct wire_client *bad[MANY];
    many_topics(&g, 200);
    good_works(&g);
    g.rss = proc_rss_bytes(g.d->pid);
    for (int i = 0; i < MANY; i++) {
        bad[i] = wire_connect(g.d);
        set_small_buffer(bad[i]);
        struct metadata_request *q = NEW(bad[i], metadata_request);
        q->topics_count = -1; /* all */
        struct bytes frame = wire_frame(bad[i], API_METADATA, 12, q);
        assert_true(send_what_it_takes(bad[i], frame, 120) > 0);
        if (i % 8 == 0) {
            good_works(&g);
        }
    }
    good_works(&g);
    good_memory_within(&g, BUDGET);
    close_all(bad, MANY);
    good_ends(&g);
}

static void a_client_that_fetches_and_does_not_read_takes_no_memory_and_is_closed(void **state)
{
    (void)state;
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=16777216", "socket.request.max.bytes=8388608",
                           "rivulet.reply.stall.ms=200"));
    struct wire_client *bad[8];
    TOPIC(g.c, "large", 1);
    for (int i = 0; i < 16; i++) {
        wire_put_good(g.c, "large", BATCH(g.c, .value_size = 1000000));
    }
    wire_forget(g.c);
    for (int i = 0; i < 8; i++) {
        bad[i] = wire_connect(g.d);
        set_small_buffer(bad[i]);
        struct bytes frame = wire_frame(
            bad[i], API_FETCH, 12,
            wire_fetch_request(bad[i], &(struct wire_fetch){.topic = "large",
                                                            .min_bytes = 1,
                                                            .partition_max_bytes = 64 * MIB}));
        assert_true(send_what_it_takes(bad[i], frame, 100) > 0);
        good_works(&g);
    }
    good_memory_within(&g, 16 * MIB);
    for (int i = 0; i < 8; i++) {
        daemon_await_log(g.d, "takes none of its answer (rivulet.reply.stall.ms)");
        good_works(&g);
    }
    close_all(bad, 8);
    good_ends(&g);
}

/* ---- floods */

static void a_flood_of_requests_in_one_go_is_answered_in_order(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON("rivulet.connection.requests.max=3"));
    struct wire_client *c = wire_connect(g.d);
    for (int round = 0; round < 10; round++) {
        int32_t first = c->correlation_id + 1;
        struct buf all = {0};
        for (int i = 0; i < 500; i++) {
            struct bytes frame = wire_frame(c, API_API_VERSIONS, 3, NEW(c, api_versions_request));
            buf_add(&all, frame.ptr, frame.len);
        }
        wire_send(c, all.ptr, all.len);
        buf_finish(&all);
        good_works(&g);
        for (int i = 0; i < 500; i++) {
            wire_answer(c, API_API_VERSIONS, 3, first + i);
        }
        wire_forget(c);
    }
    wire_close(c);
    good_ends(&g);
}

/* Each answer is larger than what may wait: the next request starts when it has gone. */
static void a_request_behind_a_large_answer_starts_when_that_has_gone(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON("rivulet.connection.reply.max.bytes=1024"));
    struct wire_client *c = wire_connect(g.d);
    TOPIC(g.c, "wide", 100);
    struct buf all = {0};
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics_count = -1;
    int32_t first = c->correlation_id + 1;
    for (int i = 0; i < 20; i++) {
        struct bytes frame = wire_frame(c, API_METADATA, 12, q);
        buf_add(&all, frame.ptr, frame.len);
    }
    wire_send(c, all.ptr, all.len);
    buf_finish(&all);
    for (int i = 0; i < 20; i++) {
        wire_answer(c, API_METADATA, 12, first + i);
    }
    wire_close(c);
    good_ends(&g);
}

/* ---- connections */

static void await_open_files(const struct good *g, int most)
{
    struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; proc_open_files(g->d->pid) > most; i++) {
        if (i > 20000) {
            fail_msg("%d files are open, and %d were", proc_open_files(g->d->pid), most);
        }
        nanosleep(&pause, NULL); /* between two looks */
    }
}

/* The journal's first file, which is made behind the first record's back, and stays open. */
static void await_journal(const struct good *g)
{
    struct timespec pause = {.tv_nsec = 2000000};
    char path[TEMP_DIR_SIZE + 32];
    snprintf(path, sizeof path, "%s/rivulet.journal.0", g->d->data);
    for (int i = 0; access(path, F_OK) != 0; i++) {
        if (i > 20000) {
            fail_msg("%s is not made", path);
        }
        nanosleep(&pause, NULL); /* between two looks */
    }
}

static void connections_that_are_broken_off_anywhere_leave_nothing_behind(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    good_works(&g);
    await_journal(&g);
    int files = proc_open_files(g.d->pid);
    struct rng rng;
    rng_init(&rng, 7);
    for (int i = 0; i < 300; i++) {
        struct wire_client *c = wire_connect(g.d);
        struct bytes frame = wire_frame(c, API_METADATA, 12, NEW(c, metadata_request));
        size_t size = rng_below(&rng, frame.len + 1);
        wire_send(c, frame.ptr, size);
        if (i % 2) {
            const struct linger reset = {.l_onoff = 1};
            assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        }
        wire_close(c);
    }
    good_works(&g);
    await_open_files(&g, files);
    good_memory_within(&g, 0);
    good_ends(&g);
}

static void write_settings(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The limit comes when everybody is as the test wants it, by SIGHUP. */
static void idle_connections_are_closed_and_those_that_wait_for_an_answer_are_not(void **state)
{
    (void)state;
    char dir[TEMP_DIR_SIZE];
    char path[TEMP_DIR_SIZE + 16];
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/settings", dir);
    write_settings(path, "rivulet.log.level=debug\n");
    const char *const arguments[] = {"-c", path, NULL};
    struct daemon *d = daemon_create(NULL, arguments);
    struct wire_client *idle = wire_connect(d);
    struct wire_client *used = wire_connect(d);
    struct wire_client *waiting = wire_connect(d);
    TOPIC(waiting, "t", 1);
    int32_t id = wire_request(
        waiting, API_FETCH, 12,
        wire_fetch_request(
            waiting, &(struct wire_fetch){.topic = "t", .min_bytes = 1, .max_wait_ms = 1000}));
    wire_ask(used, API_METADATA, 12, NEW(used, metadata_request));
    write_settings(path, "rivulet.log.level=debug\nconnections.max.idle.ms=10\n");
    daemon_signal(d, SIGHUP);
    wire_expect_close(idle);
    wire_expect_close(used);
    daemon_await_log(d, "idle (connections.max.idle.ms)");
    wire_answer(waiting, API_FETCH, 12, id);
    wire_expect_close(waiting);
    wire_close(idle);
    wire_close(used);
    wire_close(waiting);
    daemon_destroy(d);
    temp_dir_remove(dir);
}

/* Connects until it is let in: those before it may not have left yet. */
static struct wire_client *connect_patiently(struct daemon *d)
{
    for (int i = 0; i < 10000; i++) {
        struct wire_client *c = wire_connect(d);
        struct bytes frame = wire_frame(c, API_METADATA, 12, NEW(c, metadata_request));
        uint8_t byte;
        if (wire_try_send(c, frame.ptr, frame.len) && recv(c->fd, &byte, 1, MSG_PEEK) == 1) {
            wire_answer(c, API_METADATA, 12, c->correlation_id);
            return c;
        }
        wire_close(c);
    }
    fail_msg("nobody is let in");
    return NULL;
}

static void expect_limit_of_connections(const char *setting, const char *limit)
{
    struct daemon *d = DAEMON(setting);
    struct wire_client *c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = wire_connect(d);
        wire_ask(c[i], API_METADATA, 12, NEW(c[i], metadata_request));
    }
    for (int i = 0; i < 20; i++) {
        struct wire_client *more = wire_connect(d);
        wire_expect_close(more);
        wire_close(more);
    }
    daemon_await_log(d, limit);
    wire_close(c[0]);
    c[0] = connect_patiently(d);
    for (int i = 0; i < 4; i++) {
        wire_ask(c[i], API_METADATA, 12, NEW(c[i], metadata_request));
        wire_close(c[i]);
    }
    daemon_destroy(d);
}

static void connections_beyond_the_limits_are_closed_at_once(void **state)
{
    (void)state;
    expect_limit_of_connections("max.connections=4",
                                "event=connections_refused limit=\"max.connections\"");
    expect_limit_of_connections("max.connections.per.ip=4",
                                "event=connections_refused limit=\"max.connections.per.ip\"");
}

/* With no descriptor left, who comes is told so at once, the loop does not spin on a listener that
 * stays readable, and it all goes on when there are some again. */
static void without_descriptors_connections_are_refused_without_spinning(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    struct wire_client *more[40];
    struct rlimit before;
    good_works(&g);
    assert_int_equal(prlimit(g.d->pid, RLIMIT_NOFILE, NULL, &before), 0);
    const struct rlimit tight = {.rlim_cur = (rlim_t)proc_open_files(g.d->pid) + 2,
                                 .rlim_max = before.rlim_max};
    assert_int_equal(prlimit(g.d->pid, RLIMIT_NOFILE, &tight, NULL), 0);
    int64_t ticks = proc_cpu_ticks(g.d->pid);
    struct timespec began;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int i = 0; i < 40; i++) {
        more[i] = wire_connect(g.d);
    }
    daemon_await_log(g.d, "event=connections_refused limit=\"open files (ulimit -n)\"");
    for (int i = 8; i < 10; i++) { /* the first few found gaps */
        wire_expect_close(more[i]);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t most = ((now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000) *
                   sysconf(_SC_CLK_TCK) / 2000;
    ticks = proc_cpu_ticks(g.d->pid) - ticks;
    if (ticks > most + 5) { /* not half of one processor */
        fail_msg("%lld ticks of CPU, more than %lld", (long long)ticks, (long long)most);
    }
    for (int i = 0; i < 20; i++) {
        good_works(&g);
    }
    assert_int_equal(prlimit(g.d->pid, RLIMIT_NOFILE, &before, NULL), 0);
    close_all(more, 40);
    wire_close(connect_patiently(g.d));
    good_ends(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greetings_of_other_protocols_close_the_connection),
        cmocka_unit_test(garbage_of_any_kind_ends_with_an_error_or_a_closed_connection),
        cmocka_unit_test(changed_requests_of_every_kind_end_with_an_answer_or_a_closed_connection),
        cmocka_unit_test(frames_that_are_announced_take_no_memory),
        cmocka_unit_test(large_frames_that_are_no_produce_are_not_received),
        cmocka_unit_test(many_frames_of_the_largest_size_stay_within_the_memory_of_partial_ones),
        cmocka_unit_test(many_large_produces_stay_within_the_memory_of_partial_ones),
        cmocka_unit_test(a_large_frame_that_is_no_produce_closes_its_connection_at_once),
        cmocka_unit_test(frames_that_make_no_progress_are_closed),
        cmocka_unit_test(frames_that_fill_the_memory_wait_and_others_are_served),
        cmocka_unit_test(the_frame_that_may_go_on_takes_no_room_from_others),
        cmocka_unit_test(a_frame_that_stops_while_memory_is_spent_is_closed_soon),
        cmocka_unit_test(answers_that_nobody_reads_stay_within_the_memory),
        cmocka_unit_test(a_client_that_fetches_and_does_not_read_takes_no_memory_and_is_closed),
        cmocka_unit_test(a_flood_of_requests_in_one_go_is_answered_in_order),
        cmocka_unit_test(a_request_behind_a_large_answer_starts_when_that_has_gone),
        cmocka_unit_test(connections_that_are_broken_off_anywhere_leave_nothing_behind),
        cmocka_unit_test(idle_connections_are_closed_and_those_that_wait_for_an_answer_are_not),
        cmocka_unit_test(connections_beyond_the_limits_are_closed_at_once),
        cmocka_unit_test(without_descriptors_connections_are_refused_without_spinning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
