/* What the command line `rivulet` reads: records from files and standard input, in all their forms,
 * and places in a topic. Whatever is there, reading gets on or says what is wrong; it does not
 * matter in which pieces it comes; and a record that was read and is written as JSON is read as the
 * same again.
 *
 *   uint8 kind (& 1: a place, the rest is text) · uint8 flags (below) · uint8 size of -f or -k ·
 *   its text · records
 */
#include "base/clock.h"
#include "base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tools/range.h"
#include "tools/record.h"

#include <stdlib.h>
#include <string.h>

enum {
    JSON = 1,
    FORMAT = 2,
    SEPARATOR = 4,
    HEX = 8,
    NULLS = 16,
    KEY = 32,
    HEADER = 64,
    BY_KEY = 128
};

enum { TEXT_MAX = 256 };

/* ---- records ---- */

static bool same(struct rv_bytes a, struct rv_bytes b)
{
    return !a.ptr == !b.ptr && a.size == b.size &&
           (a.size == 0 || memcmp(a.ptr, b.ptr, a.size) == 0);
}

static bool has_header_names(const struct rv_message *m)
{
    for (size_t i = 0; i < m->header_count; i++) {
        if (!m->headers[i].name.ptr) {
            return false;
        }
    }
    return true;
}

static void write_and_read(const struct rv_message *m)
{
    const struct rv_record r = {.topic = "t",
                                .partition = m->partition,
                                .timestamp_ms = m->timestamp_ms,
                                .key = m->key,
                                .value = m->value,
                                .headers = m->headers,
                                .header_count = m->header_count};
    const struct record_out out = {.json = true};
    struct record_in in;
    struct rv_message again;
    char *line = NULL;
    size_t size = 0;
    size_t used = 0;
    FILE *to = open_memstream(&line, &size);
    check(to && record_write(&out, to, &r) && fclose(to) == 0);
    record_in_init_json(&in);
    check(record_take(&in, (struct str){line, size}, true, &used, &again) == TAKE_RECORD);
    check(used == size && same(again.key, m->key) && same(again.value, m->value));
    check(again.timestamp_ms == m->timestamp_ms && again.partition == m->partition);
    check(again.header_count == m->header_count);
    for (size_t i = 0; i < m->header_count; i++) {
        check(same(again.headers[i].name, m->headers[i].name));
        check(same(again.headers[i].value, m->headers[i].value));
    }
    record_in_finish(&in);
    free(line);
}

/* All records, told after each `piece` bytes what has come so far. How many; -1 - so many: what is
 * behind them is none. */
static int take_all(const struct tool *t, struct str text, size_t piece)
{
    struct record_in in;
    int n = 0;
    check(record_in_init(t, &in));
    for (size_t at = 0, there = 0; at < text.len;) {
        struct rv_message m;
        size_t used = 0;
        there = text.len - there < piece ? text.len : there + piece;
        there = there < at ? at : there;
        struct str rest = {text.ptr + at, there - at};
        enum take took = rest.len || there == text.len
                             ? record_take(&in, rest, there == text.len, &used, &m)
                             : TAKE_MORE;
        check(took != TAKE_MORE || there < text.len);
        if (took == TAKE_BAD) {
            check(in.why[0] && memchr(in.why, 0, sizeof in.why));
            n = -1 - n;
            break;
        }
        if (took == TAKE_RECORD) {
            check(used > 0 && used <= rest.len);
            if (piece == SIZE_MAX && has_header_names(&m)) {
                write_and_read(&m);
            }
            at += used;
            n++;
        }
    }
    record_in_finish(&in);
    return n;
}

static void records(struct input *in)
{
    char text[TEXT_MAX];
    struct tool t = {0};
    struct record_in probe;
    uint8_t flags = input_byte(in);
    struct bytes how = input_bytes(in, input_byte(in));
    struct str rest;
    memcpy(text, how.ptr, how.len);
    text[how.len] = 0;
    t.values['J'] = flags & JSON ? "" : NULL;
    t.values['f'] = flags & FORMAT ? text : NULL;
    t.values['k'] = flags & SEPARATOR ? text : NULL;
    t.values['e'] = flags & HEX ? "" : NULL;
    t.values['Z'] = flags & NULLS ? "" : NULL;
    t.values['K'] = flags & KEY ? "all" : NULL;
    t.values['w'] = flags & BY_KEY ? "" : NULL;
    if (flags & HEADER) {
        t.many[0] = text;
        t.many_letters[0] = 'H';
        t.many_count = 1;
    }
    bool good = record_in_init(&t, &probe);
    record_in_finish(&probe);
    if (good) {
        struct bytes all = input_rest(in);
        char *copy = mem_need_dup(all.ptr, all.len); /* its own block: asan sees its end */
        rest = (struct str){copy, all.len};
        int whole = take_all(&t, rest, SIZE_MAX);
        check(take_all(&t, rest, 7) == whole);
        mem_free(copy);
    }
}

/* ---- places ---- */

static void place(struct input *in)
{
    struct bytes b = input_rest(in);
    char *text = mem_need(b.len + 1);
    struct place p;
    memcpy(text, b.ptr, b.len);
    text[b.len] = 0;
    if (place_parse(text, &p)) {
        check(p.at >= (p.by_time ? 0 : RV_START));
    }
    mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    if (input_byte(&in) & 1) {
        place(&in);
    } else {
        records(&in);
    }
    return 0;
}
