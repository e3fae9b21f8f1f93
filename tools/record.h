/* record: how records are written down and read: lines, formats (%k %v ...), JSON. What
 * record_write writes, record_take reads. */
#pragma once

#include "base/str.h"
#include "tools/tool.h"

enum field_kind {
    FIELD_TEXT, /* itself */
    FIELD_KEY,
    FIELD_VALUE,
    FIELD_OFFSET,
    FIELD_PARTITION,
    FIELD_TOPIC,
    FIELD_TIME,
    FIELD_HEADERS,
    FIELD_KEY_SIZE,
    FIELD_VALUE_SIZE,
};

struct field {
    enum field_kind kind;
    struct str text; /* of FIELD_TEXT; in format.text */
};

struct format {
    struct field *fields; /* owned */
    int count;
    struct buf text; /* owned; never moves */
};

/* False: said what is wrong with it. */
bool format_parse(const struct tool *t, const char *text, struct format *ret_format);
void format_finish(struct format *f); /* takes a zeroed one */

/* ---- out ---- */

struct record_out {
    bool json;             /* the other fields are for lines */
    bool hex;              /* keys and values */
    bool show_null;        /* as NULL */
    const char *separator; /* of key and value; NULL: values only */
    struct format format;  /* owned; count 0: none */
};

/* From --json, --hex, --null, -k, -f. False: said what is wrong. */
bool record_out_init(const struct tool *t, struct record_out *o);
void record_out_finish(struct record_out *o);
bool record_write(const struct record_out *o, FILE *to,
                  const struct rv_record *r); /* false: errno */

/* ---- in ---- */

struct record_in {
    bool json;
    bool hex;
    bool empty_is_null;
    bool ignores_partition;
    struct str separator; /* null: lines are values */
    struct format format; /* owned; count 0: none */
    struct rv_header
        *headers; /* owned; `fixed_count` of every record, then those of the one at hand */
    size_t fixed_count;
    size_t header_count;
    size_t header_slots;
    struct rv_bytes key; /* of records that bring none; null: none */
    struct buf scratch;  /* owned; what had to be decoded of the record at hand */
    json_t *line;        /* owned; the record at hand */
    char why[200];       /* what TAKE_BAD is about, for people */
};

enum take { TAKE_RECORD, TAKE_MORE, TAKE_BAD };

/* From --json-in, --hex, --null, --by-key, -k, -f, -H, --key. False: said what is wrong. */
bool record_in_init(const struct tool *t, struct record_in *in);
void record_in_init_json(struct record_in *in); /* as `consume --json` writes */
void record_in_finish(struct record_in *in);

/* The record at the beginning of `text`, which is all there is when `is_end`: *ret_used bytes of
 * it. The message borrows from both until the next call; its topic is not set. */
enum take record_take(struct record_in *in, struct str text, bool is_end, size_t *ret_used,
                      struct rv_message *m);
/* A record of a value that is there already, with the fixed headers and the key. */
void record_of_value(const struct record_in *in, struct str value, struct rv_message *m);
