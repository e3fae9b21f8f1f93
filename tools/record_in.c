#include "tools/record.h"

#include "base/mem.h"

#include <stdarg.h>
#include <string.h>

/* ---- begin and end ---- */

static bool header_add(struct record_in *in, struct rv_bytes name, struct rv_bytes value)
{
    if (in->header_count == in->header_slots) {
        size_t slots = in->header_slots ? in->header_slots * 2 : 8;
        struct rv_header *more = mem_resize(in->headers, slots * sizeof *more);
        if (!more) {
            return false;
        }
        in->headers = more;
        in->header_slots = slots;
    }
    in->headers[in->header_count++] = (struct rv_header){name, value};
    return true;
}

/* NAME=VALUE; the name alone has a null value. */
static bool header_add_text(struct record_in *in, struct str text)
{
    const char *equals = text.len ? memchr(text.ptr, '=', text.len) : NULL;
    size_t size = equals ? (size_t)(equals - text.ptr) : text.len;
    struct rv_bytes value = {NULL, 0};
    if (equals) {
        value = (struct rv_bytes){equals + 1, text.len - size - 1};
    }
    return header_add(in, (struct rv_bytes){text.ptr, size}, value);
}

/* A field whose end nothing tells. NULL: there is none. */
static const char *format_unended(const struct format *f)
{
    bool sized[2] = {false, false}; /* key, value */
    for (int i = 0; i < f->count; i++) {
        enum field_kind kind = f->fields[i].kind;
        bool ended = i + 1 < f->count && f->fields[i + 1].kind == FIELD_TEXT;
        if (kind == FIELD_KEY_SIZE || kind == FIELD_VALUE_SIZE) {
            sized[kind == FIELD_VALUE_SIZE] = true;
        }
        bool known = (kind == FIELD_KEY && sized[0]) || (kind == FIELD_VALUE && sized[1]);
        if (kind != FIELD_TEXT && !ended && !known) {
            return kind == FIELD_KEY ? "%k" : kind == FIELD_VALUE ? "%v" : "a field";
        }
    }
    return NULL;
}

static bool format_take(const struct tool *t, struct record_in *in)
{
    if (!format_parse(t, tool_value(t, 'f'), &in->format)) {
        return false;
    }
    const char *unended = format_unended(&in->format);
    if (unended) {
        tool_usage(t,
                   "-f: nothing tells where %s ends: a text behind it does (\\n), or %%K and %%S "
                   "before it",
                   unended);
    }
    return !unended;
}

bool record_in_init(const struct tool *t, struct record_in *in)
{
    *in = (struct record_in){.json = tool_has(t, 'J'),
                             .hex = tool_has(t, 'e'),
                             .empty_is_null = tool_has(t, 'Z'),
                             .ignores_partition = tool_has(t, 'w')};
    if (tool_has(t, 'K')) {
        in->key = (struct rv_bytes){tool_value(t, 'K'), strlen(tool_value(t, 'K'))};
    }
    if (tool_has(t, 'k')) {
        in->separator = str_of(tool_value(t, 'k'));
        if (in->separator.len == 0) {
            tool_usage(t, "-k: the separator is empty");
            return false;
        }
    }
    if (tool_has(t, 'J') + tool_has(t, 'f') + tool_has(t, 'k') + tool_has(t, 'I') > 1) {
        tool_usage(t, "only one of -k, -f, --json-in and --file says what the input is");
        return false;
    }
    if (in->json && in->hex) {
        tool_usage(t, "--json-in does not go with --hex: bytes are {\"base64\":\"...\"}");
        return false;
    }
    for (int i = 0; i < t->many_count; i++) {
        if (t->many_letters[i] == 'H' && !header_add_text(in, str_of(t->many[i]))) {
            tool_no_memory();
            return false;
        }
    }
    in->fixed_count = in->header_count;
    return !tool_has(t, 'f') || format_take(t, in);
}

void record_in_init_json(struct record_in *in)
{
    *in = (struct record_in){.json = true};
}

void record_in_finish(struct record_in *in)
{
    json_decref(in->line);
    format_finish(&in->format);
    mem_free(in->headers);
    buf_finish(&in->scratch);
}

static enum take __attribute__((format(printf, 2, 3)))
bad(struct record_in *in, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(in->why, sizeof in->why, format, args);
    va_end(args);
    return TAKE_BAD;
}

/* ---- fields ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A key or a value as it stands in the text; the scratch has room. */
static bool field_read(struct record_in *in, struct str text, struct rv_bytes *ret_bytes)
{
    if (text.len == 0 && in->empty_is_null) {
        *ret_bytes = (struct rv_bytes){NULL, 0};
        return true;
    }
    if (!in->hex) {
        *ret_bytes = (struct rv_bytes){text.ptr, text.len};
        return true;
    }
    size_t from = in->scratch.len;
    for (size_t i = 0; i + 1 < text.len; i += 2) {
        int high = hex_digit(text.ptr[i]);
        int low = hex_digit(text.ptr[i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        char byte = (char)(high << 4 | low);
        buf_add(&in->scratch, &byte, 1);
    }
    *ret_bytes = (struct rv_bytes){in->scratch.ptr + from, in->scratch.len - from};
    return text.len % 2 == 0;
}

static bool key_value_read(struct record_in *in, struct str key, struct str value,
                           struct rv_message *m)
{
    return (!key.ptr || field_read(in, key, &m->key)) && field_read(in, value, &m->value);
}

/* ---- lines ---- */

static enum take line_take(struct record_in *in, struct str line, struct rv_message *m)
{
    struct str key = {0};
    struct str value = line;
    if (in->separator.ptr) {
        const char *at = memmem(line.ptr, line.len, in->separator.ptr, in->separator.len);
        if (!at) {
            return bad(
                in, "the key separator '%s' is not in it; without -k the whole line is the value",
                in->separator.ptr);
        }
        key = (struct str){line.ptr, (size_t)(at - line.ptr)};
        value.ptr = at + in->separator.len;
        value.len = line.len - key.len - in->separator.len;
    }
    return key_value_read(in, key, value, m) ? TAKE_RECORD
                                             : bad(in, "it is not hexadecimal digits");
}

/* ---- JSON ---- */

static bool json_headers(struct record_in *in, const json_t *headers)
{
    size_t i;
    const json_t *pair;
    json_array_foreach(headers, i, pair)
    {
        struct rv_bytes name, value;
        if (json_array_size(pair) != 2 ||
            !json_to_bytes(json_array_get(pair, 0), &in->scratch, &name) || !name.ptr ||
            !json_to_bytes(json_array_get(pair, 1), &in->scratch, &value) ||
            !header_add(in, name, value)) {
            return false;
        }
    }
    return json_is_array(headers);
}

/* NULL, or what is wrong with the member. */
static const char *json_member(struct record_in *in, const char *name, const json_t *v,
                               struct rv_message *m)
{
    if (strcmp(name, "key") == 0 || strcmp(name, "value") == 0) {
        return json_to_bytes(v, &in->scratch, name[0] == 'k' ? &m->key : &m->value)
                   ? NULL
                   : "is no string, null or {\"base64\":\"...\"}";
    }
    if (strcmp(name, "headers") == 0) {
        return json_headers(in, v) ? NULL : "is not [[NAME,VALUE],...]";
    }
    if (strcmp(name, "timestamp_ms") == 0) {
        m->timestamp_ms = json_is_null(v) ? 0 : json_integer_value(v);
        return json_is_null(v) || (json_is_integer(v) && m->timestamp_ms >= 0) ? NULL
                                                                               : "is no time";
    }
    if (strcmp(name, "partition") == 0) {
        json_int_t p = json_integer_value(v);
        if (!json_is_null(v) && (!json_is_integer(v) || p < 0 || p > INT32_MAX)) {
            return "is no partition";
        }
        m->to_partition = !json_is_null(v) && !in->ignores_partition;
        m->partition = (int32_t)p;
        return NULL;
    }
    bool passed_over = strcmp(name, "topic") == 0 || strcmp(name, "offset") == 0;
    return passed_over ? NULL : "is not a part of a record";
}

static enum take json_take(struct record_in *in, struct str line, struct rv_message *m)
{
    json_error_t error;
    json_decref(in->line);
    in->line = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!in->line) {
        return bad(in, "it is no JSON: %.120s", error.text);
    }
    if (!json_is_object(in->line)) {
        return bad(in, "it is no JSON object");
    }
    const char *name;
    json_t *v;
    bool has_value = false;
    json_object_foreach(in->line, name, v)
    {
        const char *wrong = json_member(in, name, v, m);
        if (wrong) {
            return bad(in, "\"%.60s\" %s", name, wrong);
        }
        has_value |= strcmp(name, "value") == 0;
    }
    return has_value ? TAKE_RECORD : bad(in, "it has no \"value\" (null makes a tombstone)");
}

/* ---- formats ---- */

struct matched {
    struct str key, value, headers; /* null: not there */
    bool has_key, has_value;        /* sizes of them came before */
    int64_t key_size, value_size;   /* -1: null */
    int64_t partition, time;        /* -1: not there */
};

static enum take number_read(struct record_in *in, struct str text, const char *what, int64_t least,
                             int64_t most, int64_t *ret)
{
    return str_to_int64(text, ret) == OK && *ret >= least && *ret <= most
               ? TAKE_RECORD
               : bad(in, "'%.*s' is no %s", text.len < 40 ? (int)text.len : 40, text.ptr, what);
}

static enum take part_take(struct record_in *in, enum field_kind kind, struct str text,
                           struct matched *m)
{
    int64_t ignored;
    switch (kind) {
    case FIELD_KEY: m->key = text; return TAKE_RECORD;
    case FIELD_VALUE: m->value = text; return TAKE_RECORD;
    case FIELD_HEADERS: m->headers = text; return TAKE_RECORD;
    case FIELD_PARTITION: return number_read(in, text, "partition", 0, INT32_MAX, &m->partition);
    case FIELD_TIME: return number_read(in, text, "time", -1, INT64_MAX, &m->time);
    case FIELD_OFFSET: return number_read(in, text, "offset", 0, INT64_MAX, &ignored);
    case FIELD_KEY_SIZE:
        m->has_key = true;
        return number_read(in, text, "size", -1, INT64_MAX, &m->key_size);
    case FIELD_VALUE_SIZE:
        m->has_value = true;
        return number_read(in, text, "size", -1, INT64_MAX, &m->value_size);
    default: return TAKE_RECORD;
    }
}

/* How long the field is that begins `rest`. */
static enum take part_size(struct record_in *in, int i, struct str rest, bool is_end,
                           const struct matched *m, size_t *ret_size)
{
    enum field_kind kind = in->format.fields[i].kind;
    if ((kind == FIELD_KEY && m->has_key) || (kind == FIELD_VALUE && m->has_value)) {
        int64_t size = kind == FIELD_KEY ? m->key_size : m->value_size;
        *ret_size = size < 0 ? 0 : (size_t)size;
        if (*ret_size > rest.len) {
            return is_end ? bad(in, "the input ends in the middle of it") : TAKE_MORE;
        }
        return TAKE_RECORD;
    }
    struct str end = in->format.fields[i + 1].text;
    const char *at = memmem(rest.ptr, rest.len, end.ptr, end.len);
    bool is_last = i + 2 == in->format.count;
    if (!at && !is_end) {
        return TAKE_MORE;
    }
    if (!at && !is_last) {
        return bad(in, "the input ends in the middle of it");
    }
    *ret_size = at ? (size_t)(at - rest.ptr) : rest.len;
    return TAKE_RECORD;
}

static enum take headers_take(struct record_in *in, struct str text)
{
    while (text.len > 0) {
        const char *comma = memchr(text.ptr, ',', text.len);
        size_t size = comma ? (size_t)(comma - text.ptr) : text.len;
        if (!header_add_text(in, (struct str){text.ptr, size})) {
            return bad(in, "out of memory");
        }
        size += comma != NULL;
        text.ptr += size;
        text.len -= size;
    }
    return TAKE_RECORD;
}

static enum take matched_take(struct record_in *in, const struct matched *f, struct rv_message *m)
{
    if (!key_value_read(in, f->key, f->value.ptr ? f->value : STR(""), m)) {
        return bad(in, "it is not hexadecimal digits");
    }
    if (f->has_key && f->key_size < 0) {
        m->key = (struct rv_bytes){NULL, 0};
    }
    if (f->has_value && f->value_size < 0) {
        m->value = (struct rv_bytes){NULL, 0};
    }
    m->to_partition = f->partition >= 0 && !in->ignores_partition;
    m->partition = m->to_partition ? (int32_t)f->partition : 0;
    m->timestamp_ms = f->time < 0 ? 0 : f->time;
    return headers_take(in, f->headers);
}

static enum take formatted_take(struct record_in *in, struct str text, bool is_end,
                                size_t *ret_used, struct rv_message *m)
{
    struct matched f = {.partition = -1, .time = -1};
    struct str rest = text;
    for (int i = 0; i < in->format.count; i++) {
        const struct field *field = &in->format.fields[i];
        size_t size = field->text.len;
        if (field->kind != FIELD_TEXT) {
            enum take took = part_size(in, i, rest, is_end, &f, &size);
            took = took == TAKE_RECORD
                       ? part_take(in, field->kind, (struct str){rest.ptr, size}, &f)
                       : took;
            if (took != TAKE_RECORD) {
                return took;
            }
        } else if (rest.len < size && !is_end) {
            return TAKE_MORE;
        } else if (rest.len == 0 && i + 1 == in->format.count) {
            size = 0; /* the last record may lack the text that ends it */
        } else if (rest.len < size || memcmp(rest.ptr, field->text.ptr, size) != 0) {
            return bad(in, "it is not as the format says at byte %zu", text.len - rest.len);
        }
        rest.ptr += size;
        rest.len -= size;
    }
    *ret_used = text.len - rest.len;
    return matched_take(in, &f, m);
}

/* ---- one record ---- */

enum take record_take(struct record_in *in, struct str text, bool is_end, size_t *ret_used,
                      struct rv_message *m)
{
    enum take took;
    *m = (struct rv_message){0};
    in->header_count = in->fixed_count;
    in->scratch.len = 0;
    if (in->format.count) {
        if (in->hex && !buf_reserve(&in->scratch, text.len)) {
            return bad(in, "out of memory");
        }
        took = formatted_take(in, text, is_end, ret_used, m);
    } else {
        const char *end = memchr(text.ptr, '\n', text.len);
        if (!end && !is_end) {
            return TAKE_MORE;
        }
        struct str line = {text.ptr, end ? (size_t)(end - text.ptr) : text.len};
        if ((in->hex || in->json) && !buf_reserve(&in->scratch, line.len + 1)) {
            return bad(in, "out of memory");
        }
        *ret_used = line.len + (end != NULL);
        took = in->json ? json_take(in, line, m) : line_take(in, line, m);
    }
    if (!m->key.ptr && in->key.ptr) {
        m->key = in->key;
    }
    m->headers = in->headers;
    m->header_count = in->header_count;
    return took;
}

void record_of_value(const struct record_in *in, struct str value, struct rv_message *m)
{
    *m = (struct rv_message){
        .key = in->key,
        .value = {value.ptr, value.len},
        .headers = in->headers,
        .header_count = in->header_count
    };
}
