/* Messages that Apache's own Java classes wrote: every API and record kind in every version
 * decodes, and encodes to the same bytes; unknown tagged fields in it change nothing.
 *
 *   test_messages                     checks tests/data/messages/java.gz
 *   test_messages check FILE          checks another file
 *   test_messages list                prints `struct first-version last-version` of all kinds
 *   test_messages write FILE SEED N   writes N random messages of every kind and version, for Java
 * to read
 *
 * tests/peers/oracle.sh uses the last three; the format of the file is in
 * tests/peers/oracle/Oracle.java.
 */
#include "base/mem.h"
#include "protocol/wire.h"
#include "tests/kit/wire_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

enum {
    MAX_NAME = 128,
    MAX_MESSAGE = 1 << 20,
    ARENA_LIMIT = 1 << 22,
};

struct entry {
    char name[MAX_NAME]; /* of the C struct */
    int16_t version;
    uint32_t plain_size; /* bytes */
    uint32_t more_size;  /* bytes; 0: there is no such variant */
    uint8_t *plain;      /* owned */
    uint8_t *more;       /* owned; with unknown tagged fields */
};

static const char *corpus = "tests/data/messages/java.gz";

static const struct wire_struct *kind_at(int32_t index)
{
    if (index < 2 * wire_api_count) {
        const struct wire_api *api = &wire_apis[index / 2];
        return index % 2 ? api->response : api->request;
    }
    index -= 2 * wire_api_count;
    return index < wire_record_kind_count ? wire_record_kinds[index] : NULL;
}

static const struct wire_struct *kind_find(const char *name)
{
    for (int32_t i = 0; kind_at(i); i++) {
        if (strcmp(kind_at(i)->name, name) == 0) {
            return kind_at(i);
        }
    }
    return NULL;
}

static uint8_t *read_block(gzFile f, uint32_t *ret_size)
{
    uint8_t head[4];
    assert_int_equal(gzread(f, head, 4), 4);
    uint32_t size = get_be32(head);
    assert_true(size <= MAX_MESSAGE);
    uint8_t *p = mem_alloc(size);
    assert_non_null(p);
    assert_int_equal(gzread(f, p, size), (int)size);
    *ret_size = size;
    return p;
}

static bool read_entry(gzFile f, struct entry *e)
{
    uint8_t head[2];
    int n = gzread(f, head, 2);
    if (n == 0) {
        return false;
    }
    assert_int_equal(n, 2);
    uint16_t len = get_be16(head);
    assert_true(len < MAX_NAME);
    assert_int_equal(gzread(f, e->name, len), len);
    e->name[len] = 0;
    assert_int_equal(gzread(f, head, 2), 2);
    e->version = (int16_t)get_be16(head);
    e->plain = read_block(f, &e->plain_size);
    e->more = read_block(f, &e->more_size);
    return true;
}

static void print_hex(const char *what, const uint8_t *p, size_t size)
{
    print_error("%s (%zu):", what, size);
    for (size_t i = 0; i < size && i < 400; i++) {
        print_error(" %02x", p[i]);
    }
    print_error("\n");
}

/* Decodes `input`; what is encoded again must be `expected`. */
static void check_message(const struct wire_struct *t, const struct entry *e, const uint8_t *input,
                          uint32_t size)
{
    struct arena a;
    struct reader r;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, MAX_MESSAGE);
    reader_init(&r, input, size);
    void *message = arena_alloc(&a, t->size);
    assert_non_null(message);
    err error = wire_decode(t, e->version, &r, &a, message);
    if (error != OK || reader_left(&r)) {
        print_hex("java", input, size);
        fail_msg("%s v%d: decode: %s at %s, %zu bytes left", e->name, e->version, err_text(error),
                 r.at ? r.at : "-", reader_left(&r));
    }
    error = wire_encode(t, e->version, &w, message);
    if (error != OK || w.len != e->plain_size || (w.len && memcmp(w.ptr, e->plain, w.len) != 0)) {
        print_hex("java", e->plain, e->plain_size);
        print_hex("ours", w.ptr, w.len);
        fail_msg("%s v%d: encode: %s at %s", e->name, e->version, err_text(error),
                 w.at ? w.at : "-");
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void every_message_of_java_comes_back_the_same(void **state)
{
    (void)state;
    gzFile f = gzopen(corpus, "rb");
    if (!f) {
        fail_msg("%s cannot be opened", corpus);
    }
    char last[MAX_NAME] = "";
    int16_t last_version = 0;
    int versions = 0;
    int messages = 0;
    int with_unknown = 0;
    struct entry e;
    while (read_entry(f, &e)) {
        const struct wire_struct *t = kind_find(e.name);
        if (!t) {
            fail_msg("there is no %s", e.name);
        }
        versions += strcmp(last, e.name) != 0 || last_version != e.version;
        strcpy(last, e.name);
        last_version = e.version;
        check_message(t, &e, e.plain, e.plain_size);
        if (e.more_size) {
            check_message(t, &e, e.more, e.more_size);
            with_unknown++;
        }
        messages++;
        mem_free(e.plain);
        mem_free(e.more);
    }
    assert_int_equal(gzclose(f), Z_OK);
    int expected = 0;
    for (int32_t i = 0; kind_at(i); i++) {
        expected += kind_at(i)->max_version - kind_at(i)->min_version + 1;
    }
    print_message("%d messages, %d of them also with unknown fields, %d kinds and versions\n",
                  messages, with_unknown, versions);
    assert_int_equal(versions, expected); /* none is missing */
    assert_true(with_unknown > 0);
}

static void write_block(gzFile f, const void *p, size_t size, size_t head_size)
{
    uint8_t head[4];
    put_be32(head, (uint32_t)size);
    gzwrite(f, head + 4 - head_size, (unsigned)head_size);
    gzwrite(f, p, (unsigned)size);
}

static int write_file(const char *path, uint64_t seed, int rounds)
{
    gzFile f = gzopen(path, "wb");
    struct rng rng;
    rng_init(&rng, seed);
    for (int32_t i = 0; kind_at(i); i++) {
        const struct wire_struct *t = kind_at(i);
        for (int16_t v = t->min_version; v <= t->max_version; v++) {
            for (int round = 0; round < rounds; round++) {
                struct arena a;
                struct writer w;
                arena_init(&a, ARENA_LIMIT);
                writer_init(&w, MAX_MESSAGE);
                void *message = arena_alloc(&a, t->size);
                wire_random(t, v, &rng, &a, message);
                if (wire_encode(t, v, &w, message) != OK) {
                    fprintf(stderr, "%s v%d does not encode at %s\n", t->name, v, w.at);
                    return 1;
                }
                uint8_t version[2];
                put_be16(version, (uint16_t)v);
                write_block(f, t->name, strlen(t->name), 2);
                gzwrite(f, version, 2);
                write_block(f, w.ptr, w.len, 4);
                write_block(f, "", 0, 4);
                writer_finish(&w);
                arena_finish(&a);
            }
        }
    }
    return gzclose(f) == Z_OK ? 0 : 1;
}

static int print_list(void)
{
    for (int32_t i = 0; kind_at(i); i++) {
        printf("%s %d %d\n", kind_at(i)->name, kind_at(i)->min_version, kind_at(i)->max_version);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_of_java_comes_back_the_same),
    };
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        return print_list();
    }
    if (argc == 5 && strcmp(argv[1], "write") == 0) {
        return write_file(argv[2], strtoull(argv[3], NULL, 10), atoi(argv[4]));
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        corpus = argv[2];
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
