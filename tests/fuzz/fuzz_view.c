/* The file of a view, and the table behind it. A file, whatever it holds, is refused and leaves
 * nothing, or is taken: then every entry is found under its key. The table does what a list does.
 *
 *   uint8 kind (0: a file as it is, 1: behind a good head and with a good checksum, 2: the table) ·
 * bytes
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "client/view/memory.h"
#include "tests/fuzz/fuzz.h"

enum { LIMIT = 1 << 20, KEYS = 16, HEAD_SIZE = 10 };

static struct view_memory *memory(void)
{
    struct view_memory *m = NULL;
    check(memory_create("t", NULL, LIMIT, &m, NULL) == RV_OK);
    return m;
}

static void all_are_found(const struct keys *t)
{
    uint64_t cursor = 0, count = 0, nulls = 0;
    for (const struct block *b; (b = keys_next(t, &cursor)); count++) {
        check(keys_find(t, block_entry(b).key) == b);
        nulls += b->value_size == KEYS_NULL;
    }
    check(count == t->used && nulls == t->nulls);
}

static void file(const void *bytes, size_t size)
{
    struct view_memory *m = memory();
    struct rv_error e;
    int code = snapshot_read(m, bytes, size, &e);
    all_are_found(&m->table);
    if (code != RV_OK) {
        check(e.text[0] && m->table.used == 0 && !m->state.positions);
    } else {
        check(m->state.partition_count > 0 && m->state.generation > 0);
        check(strlen(m->state.topic_id) < sizeof m->state.topic_id);
    }
    memory_storage(m).close(m);
}

static void file_behind_head(struct bytes rest)
{
    static const char head[HEAD_SIZE + 1] = "RVVIEW\0\1\0\1";
    uint8_t *bytes = mem_need(HEAD_SIZE + 1 + rest.len + 4);
    size_t size = HEAD_SIZE + 1 + rest.len;
    memcpy(bytes, head, HEAD_SIZE);
    bytes[HEAD_SIZE] = 't';
    memcpy(bytes + HEAD_SIZE + 1, rest.ptr, rest.len);
    put_be32(bytes + size, crc32c(bytes, size));
    file(bytes, size + 4);
    mem_free(bytes);
}

static void table(struct input *in)
{
    struct keys t;
    int64_t offsets[KEYS]; /* the list; -1: not there */
    memset(offsets, 0xff, sizeof offsets);
    keys_init(&t, input_byte(in), LIMIT);
    for (int64_t i = 0; input_left(in); i++) {
        uint8_t what = input_byte(in);
        uint8_t key = what % KEYS;
        struct rv_bytes name = {&key, 1};
        struct rv_view_entry e = {.key = name, .partition = 1, .offset = i};
        static const uint8_t value[UINT16_MAX];
        if (what < 64) {
            keys_remove(&t, name);
            offsets[key] = -1;
            continue;
        }
        e.value = (struct rv_bytes){what < 80 ? NULL : value, what < 80 ? 0 : input_short(in)};
        err code = keys_put(&t, &e, (what & 1) != 0);
        check(code == OK || code == ERR_LIMIT);
        check(t.bytes <= LIMIT);
        offsets[key] = code == OK ? i : offsets[key];
    }
    for (int k = 0; k < KEYS; k++) {
        uint8_t key = (uint8_t)k;
        const struct block *b = keys_find(&t, (struct rv_bytes){&key, 1});
        check((b ? b->offset : -1) == offsets[k]);
    }
    all_are_found(&t);
    keys_finish(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    switch (input_byte(&in) % 3) {
    case 0: {
        struct bytes rest = input_rest(&in);
        file(rest.ptr, rest.len);
        break;
    }
    case 1: file_behind_head(input_rest(&in)); break;
    default: table(&in); break;
    }
    return 0;
}
