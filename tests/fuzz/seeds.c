/* seeds DIR: what the fuzzers start with, DIR/TARGET/NUMBER. From the messages that Java wrote
 * (tests/data/messages/java.gz), and from batches, records, segments and settings made here:
 * nothing of it is committed, and all of it is as the code is now.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "broker/api/dispatch.h"
#include "broker/config.h"
#include "broker/coord/records.h"
#include "broker/log/journal.h"
#include "broker/meta/record.h"
#include "client/spool/internal.h"
#include "gen/apis.h"
#include "gen/produce.h"
#include "protocol/frame.h"
#include "tests/kit/log_kit.h"
#include "tests/kit/spool_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

static const char *top;

static void make_dir(const char *path)
{
    if (mkdir(path, 0755) && errno != EEXIST) {
        perror(path);
        exit(1);
    }
}

static void put(const char *target, const void *p, size_t size)
{
    static int number;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", top, target);
    make_dir(path);
    snprintf(path, sizeof path, "%s/%s/seed-%05d", top, target, number++);
    FILE *f = fopen(path, "wbe");
    if (!f || fwrite(p, 1, size, f) != size || fclose(f)) {
        perror(path);
        exit(1);
    }
}

static void put_buf(const char *target, struct buf *b)
{
    check(!b->failed);
    put(target, buf_text(b), b->len);
    b->len = 0;
}

static void add_byte(struct buf *b, int v)
{
    uint8_t byte = (uint8_t)v;
    buf_add(b, &byte, 1);
}

static void add_short(struct buf *b, size_t v)
{
    add_byte(b, (int)(v >> 8 & 255));
    add_byte(b, (int)(v & 255));
}

/* ---- messages ---- */

static void need(gzFile f, void *p, unsigned size)
{
    if (gzread(f, p, size) != (int)size) {
        fprintf(stderr, "the sample of messages ends too early\n");
        exit(1);
    }
}

/* Index of a struct among fuzz_message's kinds; -1. */
static int kind_of(const char *name)
{
    for (int i = 0; i < 2 * wire_api_count; i++) {
        const struct wire_api *a = &wire_apis[i / 2];
        if (strcmp((i % 2 ? a->response : a->request)->name, name) == 0) {
            return i;
        }
    }
    for (int i = 0; i < wire_record_kind_count; i++) {
        if (strcmp(wire_record_kinds[i]->name, name) == 0) {
            return 2 * wire_api_count + i;
        }
    }
    return -1;
}

/* The frame, so much of it there as leaves some of it out. */
static void produce_cuts(const uint8_t *frame, size_t size)
{
    struct buf b = {0};
    for (size_t part = 1; part <= 4; part++) {
        add_short(&b, size * part / 4 - 1);
        add_byte(&b, (int)part);
        buf_add(&b, frame, size);
        put_buf("produce_cut", &b);
    }
    buf_finish(&b);
}

/* Topics and partitions enough for several cuts, in every version. */
static void produces(void)
{
    enum { TOPICS = 3, EACH = 4, SIZE = 20 };
    static const uint8_t records[SIZE];
    struct arena a;
    arena_init(&a, 1 << 20);
    for (int16_t version = 3; version <= 13; version++) {
        struct produce_request q;
        struct writer w;
        produce_request_init(&q);
        q.topics = wire_array(&a, &produce_request_topic_table, TOPICS);
        q.topics_count = TOPICS;
        for (int32_t t = 0; t < TOPICS; t++) {
            struct produce_request_topic *topic = &q.topics[t];
            topic->name = STR("topic");
            topic->partitions = wire_array(&a, &produce_request_partition_table, EACH);
            topic->partitions_count = EACH - t;
            for (int32_t i = 0; i < EACH; i++) {
                topic->partitions[i].records = (struct wire_records){records, SIZE, NULL};
            }
        }
        writer_init(&w, SIZE_MAX);
        frame_begin_request(&w, wire_api_find(API_PRODUCE), version, 77, STR("client"));
        check(wire_encode(&produce_request_table, version, &w, &q) == OK && frame_end(&w) == OK);
        produce_cuts(w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
        writer_finish(&w);
    }
    arena_finish(&a);
}

static void message(int kind, int16_t version, const uint8_t *p, size_t size)
{
    struct buf b = {0};
    bool is_api = kind < 2 * wire_api_count;
    const struct wire_api *api = is_api ? &wire_apis[kind / 2] : NULL;
    const struct wire_struct *t = !is_api    ? wire_record_kinds[kind - 2 * wire_api_count]
                                  : kind % 2 ? api->response
                                             : api->request;
    add_byte(&b, kind);
    add_byte(&b, version - t->min_version);
    buf_add(&b, p, size);
    put_buf("message", &b);
    if (is_api && kind % 2 == 0) {
        struct writer w;
        writer_init(&w, SIZE_MAX);
        frame_begin_request(&w, api, version, 77, STR("client"));
        writer_add(&w, p, size);
        check(frame_end(&w) == OK);
        put("frame", w.ptr, w.len);
        if (api->key == API_PRODUCE) {
            produce_cuts(w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
        }
        if (api_row_find(api->key) && w.len < 400) {
            add_byte(&b, 170);
            add_short(&b, w.len - FRAME_SIZE_BYTES);
            buf_add(&b, w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
            put_buf("broker", &b);
        }
        writer_finish(&w);
    }
    buf_finish(&b);
}

static void messages(const char *path)
{
    enum { LEAST = 12, MOST = 400, OF_EACH = 2 };
    gzFile f = gzopen(path, "rb");
    uint8_t head[4];
    char name[128];
    char last[160] = "";
    int taken = 0;
    if (!f) {
        perror(path);
        exit(1);
    }
    while (gzread(f, head, 2) == 2) {
        unsigned len = get_be16(head);
        check(len < sizeof name);
        need(f, name, len);
        name[len] = 0;
        need(f, head, 2);
        int16_t version = (int16_t)get_be16(head);
        char which[160];
        snprintf(which, sizeof which, "%s %d", name, version);
        taken = strcmp(which, last) == 0 ? taken : 0;
        memcpy(last, which, sizeof last);
        for (int i = 0; i < 2; i++) { /* as it is; with unknown tagged fields */
            need(f, head, 4);
            unsigned size = get_be32(head);
            uint8_t *p = mem_need(size + 1);
            need(f, p, size);
            int kind = kind_of(name);
            if (kind >= 0 && taken < OF_EACH && size >= LEAST && size <= MOST) {
                message(kind, version, p, size);
                taken++;
            }
            mem_free(p);
        }
    }
    check(gzclose(f) == Z_OK);
}

/* ---- batches and what is in them ---- */

static void batches(struct rng *rng)
{
    static uint8_t text[2000];
    for (int n = 0; n < 40; n++) {
        struct batch_builder b;
        struct batch_seal seal = batch_seal_plain;
        struct buf out = {0};
        seal.codec = (enum codec)(n % CODEC_COUNT);
        seal.producer_id = n % 3 ? -1 : n;
        seal.producer_epoch = n % 3 ? -1 : 0;
        seal.base_sequence = n % 3 ? -1 : 0;
        memset(text, 'a' + n % 26, sizeof text);
        batch_builder_init(&b);
        for (int i = 0; i <= n % 5; i++) {
            struct record_header h = {
                .name = STR("name"), .value = {n % 2 ? text : NULL, n % 2 ? 5 : 0}
            };
            struct bytes key = {i % 2 ? text : NULL, i % 2 ? 3 : 0};
            struct bytes value = {text, rng_below(rng, n < 20 ? 20 : sizeof text)};
            check(!batch_builder_add(&b, 1700000000000 + i, key, value, &h, n % 4 == 0));
        }
        add_byte(&out, n % 4);
        check(!batch_builder_seal(&b, &seal, &out));
        put_buf("batch", &out);
        add_byte(&out, n % CODEC_COUNT);
        check(!compress_bytes((enum codec)(n % CODEC_COUNT), INT32_MIN, text,
                              rng_below(rng, sizeof text), &out));
        put_buf("inflate", &out);
        add_byte(&out, 128 + n % CODEC_COUNT);
        buf_add(&out, text, 100);
        put_buf("inflate", &out);
        batch_builder_finish(&b);
        buf_finish(&out);
    }
}

static void group_record(const struct group_record *r)
{
    struct batch_builder b;
    struct writer w;
    struct buf bytes = {0};
    struct buf out = {0};
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct record record;
    batch_builder_init(&b);
    writer_init(&w, SIZE_MAX);
    check(!coord_record_add(&b, &w, STR("group"), r, 1));
    check(!batch_builder_seal(&b, &batch_seal_plain, &bytes));
    check(!batch_iterator_init(&it, bytes.ptr, bytes.len, SIZE_MAX, &scratch));
    check(!batch_iterator_next(&it, &record));
    add_byte(&out, 0);
    add_short(&out, record.key.len);
    buf_add(&out, record.key.ptr, record.key.len);
    buf_add(&out, record.value.ptr, record.value.len);
    put_buf("records", &out);
    buf_finish(&out);
    buf_finish(&bytes);
    batch_scratch_finish(&scratch);
    batch_builder_finish(&b);
    writer_finish(&w);
}

static void records(void)
{
    struct group_member_record members[] = {
        {.id = STR("m1"),
         .instance_id = STR("i"),
         .client_id = STR("c"),
         .client_host = STR("/h"),
         .rebalance_timeout_ms = 1,
         .session_timeout_ms = 2,
         .subscription = {(const uint8_t *)"sub", 3},
         .assignment = {(const uint8_t *)"as", 2}},
        {.id = STR("m2"), .rebalance_timeout_ms = 1, .session_timeout_ms = 2},
    };
    struct group_metadata m = {.protocol_type = STR("consumer"),
                               .generation = 3,
                               .protocol = STR("range"),
                               .leader = STR("m1"),
                               .state_ms = 5,
                               .members = members,
                               .member_count = 2};
    struct group_record r = {.kind = GROUP_RECORD_METADATA, .metadata = &m};
    group_record(&r);
    r = (struct group_record){.kind = GROUP_RECORD_METADATA_TOMBSTONE};
    group_record(&r);
    r = (struct group_record){.kind = GROUP_RECORD_OFFSET,
                              .topic = STR("t"),
                              .partition = 1,
                              .offset = 9,
                              .leader_epoch = 2,
                              .offset_metadata = STR("note"),
                              .commit_ms = 4,
                              .expire_ms = -1};
    group_record(&r);
    r.expire_ms = 77;
    group_record(&r);
    r.expire_ms = -1;
    r.topic_id.b[3] = 9;
    group_record(&r);

    struct config_pair pair = {STR("retention.ms"), STR("1000")};
    struct meta_record meta[] = {
        {.kind = META_RECORD_TOPIC,
         .topic_id = r.topic_id,
         .name = STR("t"),
         .partition_count = 3,
         .version = 2,
         .overrides = &pair,
         .override_count = 1},
        {.kind = META_RECORD_PRODUCER_IDS,      .next_producer_id = 1000          },
    };
    for (int i = 0; i < 2; i++) {
        char key[META_KEY_SIZE];
        size_t size;
        struct buf out = {0};
        struct buf value = {0};
        meta_record_encode(&meta[i], key, &size, &value);
        add_byte(&out, 1);
        add_short(&out, size);
        buf_add(&out, key, size);
        buf_add(&out, value.ptr, value.len);
        put_buf("records", &out);
        buf_finish(&value);
        buf_finish(&out);
    }
}

/* ---- a partition's directory ---- */

static void add_file(struct buf *out, struct store *s, int which, const char *name)
{
    struct buf b = {0};
    err e = store_read_file(s, name, 60000, &b);
    if (!e) {
        add_byte(out, which);
        add_short(out, b.len);
        buf_add(out, b.ptr, b.len);
    }
    buf_finish(&b);
}

static void segments(void)
{
    for (int n = 0; n < 8; n++) {
        struct log_kit *k = mem_need(sizeof *k);
        struct buf out = {0};
        log_kit_init(k, 1);
        k->config.index_interval_bytes = n % 2 ? 100 : 1;
        k->config.segment_bytes = n % 4 < 2 ? 1 << 20 : 350;
        check(!log_kit_start(k, 1, false));
        for (int i = 0; i <= n; i++) {
            struct log_kit_append a;
            log_kit_batch(&a, 2, 30, (uint64_t)i, 1700000000000 + i, i % 2 ? 1 : -1, 0, i / 2 * 2);
            check(!log_kit_append(k, 0, &a));
            log_kit_drain(k);
            log_kit_append_finish(&a);
        }
        log_kit_stop(k);
        struct store *s = sim_store_store(k->sim);
        add_byte(&out, n % 4);
        static const char *const names[] = {
            "t0-0/00000000000000000000.log",
            "t0-0/00000000000000000000.index",
            "t0-0/00000000000000000000.timeindex",
            "t0-0/00000000000000000004.log",
            "t0-0/00000000000000000004.index",
            "t0-0/00000000000000000004.timeindex",
            "t0-0/00000000000000000004.snapshot",
            "t0-0/leader-epoch-checkpoint",
            "recovery-point-offset-checkpoint",
            "log-start-offset-checkpoint",
            "t0-0/partition.metadata",
        };
        for (int i = 0; i < 11; i++) {
            add_file(&out, s, i, names[i]);
        }
        static const char scrub[] = "rivulet.scrub 1 5 7 t0-0 00000000\n";
        add_byte(&out, 12);
        add_short(&out, sizeof scrub - 1);
        buf_add(&out, scrub, sizeof scrub - 1);
        put_buf("segment", &out);
        struct buf snapshot = {0};
        char path[64];
        for (int i = 0; i < 20; i++) {
            snprintf(path, sizeof path, "t0-0/%020d.snapshot", i);
            if (!store_read_file(s, path, 60000, &snapshot) && snapshot.len) {
                add_byte(&out, 2);
                add_short(&out, 0);
                buf_add(&out, snapshot.ptr, snapshot.len);
                put_buf("records", &out);
            }
            snapshot.len = 0;
        }
        buf_finish(&snapshot);
        buf_finish(&out);
        log_kit_finish(k);
        mem_free(k);
    }
}

/* ---- journals */

static void add_change(struct buf *out, int which, size_t position, const uint8_t *p, size_t size)
{
    add_byte(out, which);
    add_short(out, position);
    add_short(out, size);
    buf_add(out, p, size);
}

/* The journal's header and groups, each without the zeros behind it. */
static void add_journal(struct buf *out, struct store *s, int number)
{
    struct buf file = {0};
    char path[JOURNAL_PATH_SIZE];
    const struct journal first = {0}; /* the first shard's */
    journal_path(&first, number, path);
    if (!store_read_file(s, path, 60000, &file) && get_be32(file.ptr)) {
        add_change(out, number, 0, (const uint8_t *)file.ptr, sizeof(struct journal_header));
        for (size_t at = JOURNAL_BLOCK; at < file.len; at += JOURNAL_BLOCK) {
            struct journal_group g;
            memcpy(&g, file.ptr + at, sizeof g);
            if (g.magic == JOURNAL_GROUP_MAGIC) {
                add_change(out, number, at, (const uint8_t *)file.ptr + at, g.size);
            }
        }
    }
    buf_finish(&file);
}

/* What a crash leaves of two logs and their journal: with the segments, without, with half of
 * them; as it was, and with the checksums to be set right. */
static void journals(struct rng *rng)
{
    enum { APPENDS = 14 };
    for (int n = 0; n < 12; n++) {
        struct log_kit *k = mem_need(sizeof *k);
        struct buf out = {0};
        log_kit_init(k, 1);
        check(!log_kit_start(k, 2, false));
        for (int i = 0; i < 2 + n % 3 * APPENDS / 2; i++) {
            struct log_kit_append a;
            log_kit_batch(&a, 1 + i % 2, 20, (uint64_t)i, 1700000000000 + i, -1, -1, -1);
            check(!log_kit_append(k, i % 3 == 0, &a));
            log_kit_drain(k);
            log_kit_append_finish(&a);
        }
        log_kit_crash(k, SIM_KILL);
        struct store *s = sim_store_store(k->sim);
        add_byte(&out, n % 4);
        for (int i = 0; i < 3; i++) {
            add_journal(&out, s, i);
        }
        for (int i = 0; i < 2 && n >= 4; i++) {
            struct buf segment = {0};
            check(!store_read_file(
                s, i ? "t1-0/00000000000000000000.log" : "t0-0/00000000000000000000.log", 60000,
                &segment));
            add_change(&out, 4 + i, 0, (const uint8_t *)segment.ptr,
                       segment.len / (n >= 8 ? 2 : 1));
            buf_finish(&segment);
        }
        if (n % 2) {
            static const char point[] = "0\n1\nt0 0 2\n";
            add_change(&out, 7, 0, (const uint8_t *)point, sizeof point - 1);
        }
        if (n >= 6) {
            static const char old[] = "0\n1\nt0 0 3\n";
            static const char word[] = "1\n1\nt0 0 3\ncrc32c 00000000\n";
            bool is_old = n % 3 == 0;
            add_change(&out, 10, 0, (const uint8_t *)(is_old ? old : word),
                       (is_old ? sizeof old : sizeof word) - 1);
        }
        put_buf("journal", &out);
        buf_finish(&out);
        log_kit_finish(k);
        mem_free(k);
    }
    for (int n = 0; n < 16; n++) { /* real ones, made there: all ways, and what rots of them */
        uint8_t bytes[40];
        struct buf out = {0};
        rng_bytes(rng, bytes, sizeof bytes);
        add_byte(&out, 4 | (n & 11));
        add_byte(&out, 24);
        buf_add(&out, bytes, 24);
        for (int i = 0; i < n % 4; i++) {
            add_change(&out, i, 4096 * (1 + rng_below(rng, 7)) + rng_below(rng, 200), bytes + 24,
                       4);
        }
        if (n % 3 == 0) {
            add_change(&out, 10, rng_below(rng, 20), bytes + 28, 1);
        }
        put_buf("journal", &out);
        buf_finish(&out);
    }
}

/* ---- settings, groups, brokers ---- */

static void settings(void)
{
    struct config *c = NULL;
    struct buf why = {0};
    struct buf out = {0};
    check(!config_load(&(struct config_input){0}, NULL, &why, &c));
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        add_byte(&out, 0);
        buf_printf(&out, "%s=", config_rows[i].name);
        config_value_text(c, (enum config_row_id)i, &out);
        buf_add_str(&out, STR("\n# remark\n"));
        put_buf("config", &out);
        if (config_rows[i].topic_name) {
            add_byte(&out, 2);
            buf_printf(&out, "%s=", config_rows[i].topic_name);
            config_default_text((enum config_row_id)i, &out);
            put_buf("config", &out);
        }
    }
    buf_printf(&out,
               "%clisteners=PLAINTEXT://127.0.0.1:9092,\\\n  PLAINTEXT://[::1]:0\nlog.dirs: "
               "/a\nlog.retention.hours 5\nprocess.roles=broker\n",
               0);
    put_buf("config", &out);
    buf_printf(&out, "%cPLAINTEXT://127.0.0.1:9092,PLAINTEXT://[::1]:0,PLAINTEXT://:1", 1);
    put_buf("config", &out);
    buf_finish(&out);
    buf_finish(&why);
    config_unref(c);
}

/* ---- what the tools read ---- */

static void lines(void)
{
    enum { PLACE = 1, JSON = 1, FORMAT = 2, SEPARATOR = 4, HEX = 8, NULLS = 16 };
    static const struct {
        int flags;
        const char *how;
        const char *text;
    } rows[] = {
        {0,               "",                  "one\ntwo\n\nthree"                             },
        {SEPARATOR,       ":",                 "a:b\nc::d\n:\n"                                },
        {SEPARATOR | HEX, ",",                 "00ff,61\n,6162\n"                              },
        {NULLS,           "",                  "\nx\n"                                         },
        {FORMAT,          "%k\\t%v\\n",        "key\tvalue\nk\tv"                              },
        {FORMAT,          "%K %k%S %s\\n",     "3 key5 value\n-1 -1 \n"                        },
        {FORMAT,          "%p,%o,%T,%h;%v\\0", "1,2,1700000000000,a=b,c;v"                     },
        {FORMAT | HEX,    "%k %v%%\\x0a",      "61 62%\n"                                      },
        {JSON,            "",
         "{\"key\":\"k\",\"value\":{\"base64\":\"AP8=\"},\"headers\":[[\"a\",null],[\"b\",\"c\"]],"
         "\"timestamp_ms\":5,\"partition\":1,\"offset\":3,\"topic\":\"t\"}\n{\"value\":null}\n"},
    };
    static const char *const places[] = {"start",
                                         "end",
                                         "17",
                                         "@1795528800000",
                                         "@-2h",
                                         "@-90s",
                                         "@2026-11-24T14:00:00Z",
                                         "@2026-11-24T14:00:00.25+01:30"};
    struct buf out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        add_byte(&out, 0);
        add_byte(&out, rows[i].flags);
        add_byte(&out, (int)strlen(rows[i].how));
        buf_printf(&out, "%s%s", rows[i].how, rows[i].text);
        put_buf("lines", &out);
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        add_byte(&out, PLACE);
        buf_printf(&out, "%s", places[i]);
        put_buf("lines", &out);
    }
    buf_finish(&out);
}

static void random_runs(struct rng *rng)
{
    uint8_t bytes[400];
    for (int n = 0; n < 60; n++) {
        rng_bytes(rng, bytes, sizeof bytes);
        put("group", bytes, 20 + rng_below(rng, sizeof bytes - 20));
        bytes[0] = 0;
        put("broker", bytes, 20 + rng_below(rng, 150));
        for (size_t i = 2; i < sizeof bytes; i++) { /* most answers stay */
            bytes[i] = rng_below(rng, 8) ? (uint8_t)rng_below(rng, 128) : bytes[i];
        }
        put("client", bytes, 2 + rng_below(rng, 60));
    }
    for (int row = 0; row < api_row_count; row++) { /* topics, then this API, often */
        struct buf out = {0};
        for (int i = 0; i < 16; i++) {
            int key = i % 4 == 0 ? 19 : i % 4 == 1 ? 0 : api_rows[row].key;
            const struct api_row *r = api_row_find((int16_t)key);
            add_byte(&out, 0);
            add_byte(&out, r ? api_row_index(r) : row);
            add_short(&out, rng_below(rng, 65536));
        }
        put_buf("broker", &out);
        buf_finish(&out);
    }
}

/* A view's file behind its head: topic id, state, a position, two entries. */
static void views(void)
{
    static const uint8_t numbers[] = {0, 0, 0, 0, 0, 0, 0, 1};
    struct buf b = {0};
    add_byte(&b, 1);
    add_byte(&b, 2);
    buf_add_str(&b, STR("id"));
    for (int i = 0; i < 4; i++) {
        buf_add(&b, numbers, 8);
    }
    add_byte(&b, 1);
    buf_add(&b, numbers + 4, 4); /* partitions */
    buf_add(&b, numbers, 4);
    buf_add(&b, numbers + 4, 4);
    buf_add(&b, numbers, 8);
    buf_add(&b, numbers, 7);
    add_byte(&b, 2); /* entries */
    for (int i = 0; i < 2; i++) {
        buf_add(&b, numbers + 4, 4);
        buf_add(&b, i ? "\xff\xff\xff\xff" : "\0\0\0\1", 4);
        buf_add(&b, numbers, 4);
        add_byte(&b, i);
        buf_add(&b, numbers, 8);
        buf_add(&b, numbers, 8);
        buf_add_str(&b, i ? STR("k") : STR("lv"));
    }
    put_buf("view", &b);
    buf_finish(&b);
}

/* ---- spools */

static int spool_identity(void *ctx, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                          struct rv_error *ret_error)
{
    (void)ctx, (void)timeout_ms, (void)ret_error;
    *ret_id = 7;
    *ret_epoch = 0;
    return RV_OK;
}

static int spool_partitions(void *ctx, const char *topic, int timeout_ms, int32_t *ret_count,
                            struct rv_error *ret_error)
{
    (void)ctx, (void)topic, (void)timeout_ms, (void)ret_error;
    *ret_count = 2;
    return RV_OK;
}

static int spool_ends(void *ctx, struct rv_partition *partitions, size_t count, int timeout_ms,
                      struct rv_error *ret_error)
{
    (void)ctx, (void)partitions, (void)count, (void)timeout_ms, (void)ret_error;
    return RV_OK; /* all at 0 */
}

/* As long as *ctx says: stored, refused, or nobody knows. */
static int spool_carry(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                       struct rv_error *ret_error)
{
    (void)timeout_ms, (void)ret_error;
    enum sealed_fate *fate = ctx;
    for (size_t i = 0; i < count; i++) {
        batches[i].fate = *fate;
        batches[i].code = *fate == SEALED_REFUSED ? 29 : 0;
        batches[i].unsure = *fate == SEALED_UNKNOWN;
    }
    return RV_OK;
}

static void spool_pause(void *ctx, int ms)
{
    (void)ctx, (void)ms;
}

static void spool_file(struct buf *out, struct sim_store *sim, int which, const char *name)
{
    static char bytes[4096];
    struct disk disk = spool_disk(sim);
    struct disk_file *f;
    size_t n = 0;
    if (disk.ops->open(disk.ctx, name, DISK_READ, &f) != OK) {
        return;
    }
    check(disk.ops->read(disk.ctx, f, bytes, sizeof bytes, 0, &n) == OK);
    check(disk.ops->close(disk.ctx, f) == OK);
    while (n > 0 && !bytes[n - 1]) {
        n--;
    }
    add_byte(out, which);
    add_short(out, n);
    buf_add(out, bytes, n);
}

/* Directories in which nothing, something, or a part of it is sent. */
static void spools(void)
{
    for (int how = 0; how < 8; how++) {
        struct sim_store *sim = sim_store_create(1);
        struct rv_spool *spool;
        struct rv_error e;
        struct buf out = {0};
        enum sealed_fate fate = how & 1 ? SEALED_STORED : how & 2 ? SEALED_REFUSED : SEALED_UNKNOWN;
        const struct carrier carrier = {spool_identity, spool_partitions, spool_ends,
                                        spool_carry,    spool_pause,      &fate};
        const struct rv_header header = {rv_str("h"), rv_str("v")};
        check(spool_open_on(spool_disk(sim), &clock_real,
                            RV_OPTIONS({"spool.dir", "sim"}, {"spool.segment.bytes", "4096"}),
                            &spool, &e) == RV_OK);
        for (int i = 0; i < 4; i++) {
            const struct rv_message m = {.topic = i % 2 ? "a" : "b",
                                         .key = rv_str(i % 3 ? "key" : NULL),
                                         .value = rv_str("value"),
                                         .headers = &header,
                                         .header_count = (size_t)(i & 1)};
            check(rv_spool_append(spool, &m, NULL, &e) == RV_OK);
            if (i == 1 + how % 3) {
                (void)spool_send_by(spool, &carrier, 1, &e);
            }
        }
        check(how < 4 || rv_spool_close(spool, &e) == RV_OK);
        add_byte(&out, 1);
        spool_file(&out, sim, 0, "sending.0");
        spool_file(&out, sim, 1, "sending.1");
        spool_file(&out, sim, 2, "00000000000000000001.events");
        spool_file(&out, sim, 4, "refused");
        put_buf("spool", &out);
        check(how >= 4 || rv_spool_close(spool, &e) == RV_OK);
        sim_store_destroy(sim);
        buf_finish(&out);
    }
}

int main(int argc, char **argv)
{
    struct rng rng;
    if (argc != 3) {
        fprintf(stderr, "seeds DIR JAVA-MESSAGES\n");
        return 2;
    }
    top = argv[1];
    make_dir(top);
    rng_init(&rng, 1);
    messages(argv[2]);
    produces();
    batches(&rng);
    records();
    segments();
    journals(&rng);
    settings();
    lines();
    views();
    spools();
    random_runs(&rng);
    return 0;
}
