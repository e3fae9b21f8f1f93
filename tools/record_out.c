#include "tools/record.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- formats ---- */

static const char field_letters[] = "kvsoptThKS";
static const enum field_kind field_kinds[] = {
    FIELD_KEY,   FIELD_VALUE, FIELD_VALUE,   FIELD_OFFSET,   FIELD_PARTITION,
    FIELD_TOPIC, FIELD_TIME,  FIELD_HEADERS, FIELD_KEY_SIZE, FIELD_VALUE_SIZE};

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Behind a backslash; *p is moved behind what was read. -1: there is no such escape. */
static int escape_read(const char **p)
{
    static const char letters[] = "nrt0\\";
    static const char meant[] = "\n\r\t\0\\";
    char c = **p;
    if (c == 'x' && hex_digit((*p)[1]) >= 0 && hex_digit((*p)[2]) >= 0) {
        int byte = hex_digit((*p)[1]) << 4 | hex_digit((*p)[2]);
        *p += 3;
        return byte;
    }
    const char *at = c ? strchr(letters, c) : NULL;
    *p += at != NULL;
    return at ? meant[at - letters] : -1;
}

static void add_byte(struct format *f, char c)
{
    struct field *last = f->count ? &f->fields[f->count - 1] : NULL;
    if (!last || last->kind != FIELD_TEXT) {
        last = &f->fields[f->count++];
        *last = (struct field){
            .kind = FIELD_TEXT, .text = {f->text.ptr + f->text.len, 0}
        };
    }
    buf_add(&f->text, &c, 1);
    last->text.len++;
}

bool format_parse(const struct tool *t, const char *text, struct format *ret_format)
{
    struct format f = {0};
    f.fields = mem_alloc((strlen(text) + 1) * sizeof *f.fields);
    if (!f.fields || !buf_reserve(&f.text, strlen(text) + 1)) {
        tool_no_memory();
        format_finish(&f);
        return false;
    }
    const char *wrong = NULL;
    for (const char *p = text; *p && !wrong;) {
        const char *from = p;
        char c = *p++;
        if (c == '%' && *p != '%') {
            const char *at = *p ? strchr(field_letters, *p) : NULL;
            wrong = at ? NULL : from;
            if (at) {
                f.fields[f.count++] = (struct field){.kind = field_kinds[at - field_letters]};
                p++;
            }
            continue;
        }
        if (c == '%') {
            p++;
        } else if (c == '\\') {
            int byte = escape_read(&p);
            wrong = byte < 0 ? from : NULL;
            c = (char)byte;
        }
        add_byte(&f, c);
    }
    if (wrong || f.count == 0) {
        wrong ? tool_usage(t,
                           "-f: there is no '%.2s'; there are %%k %%v %%s %%o %%p %%t %%T %%h %%K "
                           "%%S %%%% \\n \\r \\t \\0 \\\\ \\xHH",
                           wrong)
              : tool_usage(t, "-f: the format is empty");
        format_finish(&f);
        return false;
    }
    *ret_format = f;
    return true;
}

void format_finish(struct format *f)
{
    mem_free(f->fields);
    buf_finish(&f->text);
    *f = (struct format){0};
}

/* ---- out ---- */

bool record_out_init(const struct tool *t, struct record_out *o)
{
    *o = (struct record_out){.json = t->json,
                             .hex = tool_has(t, 'e'),
                             .show_null = tool_has(t, 'Z'),
                             .separator = tool_value(t, 'k')};
    if (o->json && (tool_has(t, 'f') || o->hex || o->separator)) {
        tool_usage(t, "--json does not go with -f, -k or --hex");
        return false;
    }
    if (tool_has(t, 'f') && o->separator) {
        tool_usage(t, "-f does not go with -k: the format says what stands between");
        return false;
    }
    return !tool_has(t, 'f') || format_parse(t, tool_value(t, 'f'), &o->format);
}

void record_out_finish(struct record_out *o)
{
    format_finish(&o->format);
}

static json_t *record_json(const struct rv_record *r)
{
    json_t *headers = json_array();
    for (size_t i = 0; headers && i < r->header_count; i++) {
        json_t *pair =
            json_pack("[o,o]", json_bytes(r->headers[i].name), json_bytes(r->headers[i].value));
        if (json_array_append_new(headers, pair) != 0) {
            json_decref(headers);
            headers = NULL;
        }
    }
    return json_pack("{s:o,s:i,s:I,s:o,s:o,s:o,s:o}", "topic", json_text(r->topic), "partition",
                     (int)r->partition, "offset", (json_int_t)r->offset, "timestamp_ms",
                     json_offset(r->timestamp_ms), "key", json_bytes(r->key), "value",
                     json_bytes(r->value), "headers", headers);
}

static bool bytes_write(FILE *to, struct rv_bytes b)
{
    return b.size == 0 || fwrite(b.ptr, 1, b.size, to) == b.size;
}

static bool field_write(const struct record_out *o, FILE *to, struct rv_bytes b)
{
    if (!b.ptr) {
        return !o->show_null || fputs("NULL", to) != EOF;
    }
    if (!o->hex) {
        return bytes_write(to, b);
    }
    const unsigned char *p = b.ptr;
    for (size_t i = 0; i < b.size; i++) {
        fprintf(to, "%02x", p[i]);
    }
    return !ferror(to);
}

static bool headers_write(FILE *to, const struct rv_record *r)
{
    bool ok = true;
    for (size_t i = 0; ok && i < r->header_count; i++) {
        const struct rv_header *h = &r->headers[i];
        ok = (i == 0 || putc(',', to) != EOF) && bytes_write(to, h->name) &&
             (!h->value.ptr || (putc('=', to) != EOF && bytes_write(to, h->value)));
    }
    return ok;
}

static bool number_write(FILE *to, int64_t n)
{
    return fprintf(to, "%" PRId64, n) > 0;
}

static bool part_write(const struct record_out *o, FILE *to, const struct field *f,
                       const struct rv_record *r)
{
    switch (f->kind) {
    case FIELD_TEXT: return bytes_write(to, (struct rv_bytes){f->text.ptr, f->text.len});
    case FIELD_KEY: return field_write(o, to, r->key);
    case FIELD_VALUE: return field_write(o, to, r->value);
    case FIELD_OFFSET: return number_write(to, r->offset);
    case FIELD_PARTITION: return number_write(to, r->partition);
    case FIELD_TOPIC: return fputs(r->topic, to) != EOF;
    case FIELD_TIME: return number_write(to, r->timestamp_ms);
    case FIELD_HEADERS: return headers_write(to, r);
    case FIELD_KEY_SIZE: return number_write(to, r->key.ptr ? (int64_t)r->key.size : -1);
    case FIELD_VALUE_SIZE: return number_write(to, r->value.ptr ? (int64_t)r->value.size : -1);
    }
    return false;
}

bool record_write(const struct record_out *o, FILE *to, const struct rv_record *r)
{
    if (o->json) {
        return json_line(to, record_json(r));
    }
    if (o->format.count) {
        bool ok = true;
        for (int i = 0; ok && i < o->format.count; i++) {
            ok = part_write(o, to, &o->format.fields[i], r);
        }
        return ok;
    }
    if (o->separator && (!field_write(o, to, r->key) || fputs(o->separator, to) == EOF)) {
        return false;
    }
    return field_write(o, to, r->value) && putc('\n', to) != EOF;
}
