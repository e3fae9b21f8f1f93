/* schemac: the host tool that turns protocol/schema/NAME.msg into C structs and constant tables.
 *
 *   schemac OUTDIR FILE.msg...
 *
 * writes OUTDIR/NAME.h and OUTDIR/NAME.c for each file, and OUTDIR/apis.h and OUTDIR/apis.c for all
 * of them. What the tables mean is said in protocol/wire.h, which interprets them.
 *
 * The grammar, one line a thing; `#` begins a comment, two spaces of indentation are one level:
 *
 *   file    := head section...
 *   head    := "api" KEY NAME VERSIONS "flex" FLEX       then the sections "request" and "response"
 *            | "record" NAME VERSIONS "flex" FLEX        then the fields
 *   FLEX    := the first flexible version | "none"
 *   field   := TYPE NAME [VERSIONS] ["= " DEFAULT] ["tag " N] ["ignorable"]
 *   TYPE    := SCALAR | STRUCT | "[" SCALAR "]" | "[" STRUCT "]", each may be followed by "?" and
 *              the VERSIONS in which it may be null ("?" alone: in all of them)
 *   SCALAR  := bool int8 int16 int32 int64 uint16 uint32 float64 string bytes records uuid
 *   VERSIONS:= "4" | "4-7" | "4+"                        left out: in every version
 *   DEFAULT := an integer | true | false | null          left out: 0, false, "", empty
 *
 * A STRUCT that is named for the first time in its section is followed by its fields, one level
 * deeper; named again it is the same struct. In C it is `struct MESSAGE_NAME`, MESSAGE being
 * `NAME_request`, `NAME_response` or, for a record, `NAME`.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NAME = 64,
    MAX_LINE = 256,
    MAX_FIELDS = 256, /* of one file */
    MAX_STRUCTS = 64, /* of one file */
    MAX_DEPTH = 8,    /* levels of indentation */
    MAX_FILES = 256,
    MAX_VERSION = 32767,
    NO_TAG = -1,
    NONE = -1,
};

struct range {
    int min; /* first version */
    int max; /* last version; MAX_VERSION is open, below min is never */
};

struct scalar {
    const char *name;    /* in the schema */
    const char *c_type;  /* in C */
    const char *kind;    /* the enum wire_kind */
    bool empty;          /* text or bytes: begins empty, which is not null */
    bool may_be_null;    /* by itself, not as an array */
    bool may_be_default; /* a number: takes "= N" */
};

static const struct scalar scalars[] = {
    {"bool",    "bool",                "WIRE_BOOL",    false, false, true },
    {"int8",    "int8_t",              "WIRE_INT8",    false, false, true },
    {"int16",   "int16_t",             "WIRE_INT16",   false, false, true },
    {"int32",   "int32_t",             "WIRE_INT32",   false, false, true },
    {"int64",   "int64_t",             "WIRE_INT64",   false, false, true },
    {"uint16",  "uint16_t",            "WIRE_UINT16",  false, false, true },
    {"uint32",  "uint32_t",            "WIRE_UINT32",  false, false, true },
    {"float64", "double",              "WIRE_FLOAT64", false, false, true },
    {"string",  "struct str",          "WIRE_STRING",  true,  true,  false},
    {"bytes",   "struct bytes",        "WIRE_BYTES",   true,  true,  false},
    {"records", "struct wire_records", "WIRE_RECORDS", true,  true,  false},
    {"uuid",    "struct uuid",         "WIRE_UUID",    false, false, false},
};

struct field {
    char name[MAX_NAME];       /* snake_case */
    char default_text[32];     /* "" when left out */
    const struct scalar *type; /* NULL for a struct */
    int type_struct;           /* index into structs, or NONE */
    int owner;                 /* the struct that it is in: index into structs */
    int tag;                   /* or NO_TAG */
    bool array;
    bool ignorable;
    struct range versions;
    struct range nullable;
};

struct structure {
    char name[MAX_NAME * 2]; /* of the C struct */
    char local[MAX_NAME];    /* as in the schema; "" for the message itself */
    int section;             /* 0 request or record, 1 response */
    int field_count;
    bool emitted;
};

struct schema {
    const char *path; /* borrowed, for messages */
    int line;         /* number, from 1 */
    bool is_api;
    int key; /* of the API */
    char name[MAX_NAME];
    char about[MAX_LINE]; /* the comment at the top of the file */
    struct range versions;
    int flexible_from; /* MAX_VERSION for none */
    struct field fields[MAX_FIELDS];
    int field_count;
    struct structure structs[MAX_STRUCTS];
    int struct_count;
    int section;              /* being read; NONE before the first */
    int roots[2];             /* the structs of the sections, or NONE */
    int stack[MAX_DEPTH + 2]; /* the struct that a field at this depth belongs to, or NONE */
};

/* What apis.c needs to know of every file. */
struct entry {
    bool is_api;
    int key;
    char name[MAX_NAME];
    struct range versions;
    int flexible_from;
};

_Noreturn static void __attribute__((format(printf, 2, 3)))
fail(const struct schema *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", s->path, s->line);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

/* ---- reading ---- */

static void copy_name(const struct schema *s, char *to, const char *from)
{
    if (!*from || strlen(from) >= MAX_NAME) {
        fail(s, "'%s' is no name", from);
    }
    for (const char *p = from; *p; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_') {
            fail(s, "'%s' is no name in snake_case", from);
        }
    }
    strcpy(to, from);
}

static int parse_number(const struct schema *s, const char *text, int max)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0 || n > max) {
        fail(s, "'%s' is no number from 0 to %d", text, max);
    }
    return (int)n;
}

static struct range parse_range(const struct schema *s, const char *text)
{
    char copy[32];
    if (strlen(text) >= sizeof copy) {
        fail(s, "'%s' is no range of versions", text);
    }
    strcpy(copy, text);
    struct range r;
    size_t len = strlen(copy);
    char *dash = strchr(copy, '-');
    if (len && copy[len - 1] == '+') {
        copy[len - 1] = 0;
        r.min = parse_number(s, copy, MAX_VERSION);
        r.max = MAX_VERSION;
    } else if (dash) {
        *dash = 0;
        r.min = parse_number(s, copy, MAX_VERSION);
        r.max = parse_number(s, dash + 1, MAX_VERSION);
    } else {
        r.min = r.max = parse_number(s, copy, MAX_VERSION);
    }
    if (r.min > r.max) {
        fail(s, "'%s' is an empty range of versions", text);
    }
    return r;
}

static int add_struct(struct schema *s, const char *local)
{
    if (s->struct_count == MAX_STRUCTS) {
        fail(s, "more than %d structs", MAX_STRUCTS);
    }
    struct structure *t = &s->structs[s->struct_count];
    t->section = s->section;
    const char *part = !s->is_api ? "" : s->section == 0 ? "_request" : "_response";
    strcpy(t->local, local);
    snprintf(t->name, sizeof t->name, "%s%s%s%s", s->name, part, *local ? "_" : "", local);
    return s->struct_count++;
}

static void begin_section(struct schema *s, int section)
{
    if (s->roots[section] != NONE) {
        fail(s, "the section is here already");
    }
    s->section = section;
    s->roots[section] = add_struct(s, "");
    for (int d = 0; d < MAX_DEPTH + 2; d++) {
        s->stack[d] = NONE;
    }
    s->stack[1] = s->roots[section];
}

static void parse_type(struct schema *s, struct field *f, char *text, int depth)
{
    char *question = strchr(text, '?');
    if (question) {
        f->nullable = question[1] ? parse_range(s, question + 1) : (struct range){0, MAX_VERSION};
        *question = 0;
    }
    size_t len = strlen(text);
    if (*text == '[') {
        if (text[len - 1] != ']') {
            fail(s, "'%s' lacks its ]", text);
        }
        f->array = true;
        text[len - 1] = 0;
        text++;
    }
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        if (strcmp(scalars[i].name, text) == 0) {
            f->type = &scalars[i];
            if (question && !f->array && !f->type->may_be_null) {
                fail(s, "a %s cannot be null", text);
            }
            return;
        }
    }
    char name[MAX_NAME];
    copy_name(s, name, text);
    for (int i = 0; i < s->struct_count; i++) {
        if (s->structs[i].section == s->section && strcmp(s->structs[i].local, name) == 0) {
            f->type_struct = i;
            return;
        }
    }
    f->type_struct = add_struct(s, name);
    s->stack[depth + 1] = f->type_struct;
}

static void check_default(const struct schema *s, const struct field *f)
{
    const char *d = f->default_text;
    if (!*d) {
        return;
    }
    if (strcmp(d, "null") == 0) {
        if (f->nullable.min > f->nullable.max) {
            fail(s, "%s is null by default and must not be null", f->name);
        }
        return;
    }
    if (f->array || !f->type || !f->type->may_be_default) {
        fail(s, "%s cannot have the default %s", f->name, d);
    }
    if (strcmp(f->type->name, "bool") == 0) {
        if (strcmp(d, "true") != 0 && strcmp(d, "false") != 0) {
            fail(s, "%s is true or false by default", f->name);
        }
        return;
    }
    char *end;
    strtoll(d, &end, 10);
    if (end == d || *end) {
        fail(s, "'%s' is no number", d);
    }
}

static void parse_options(struct schema *s, struct field *f, char **word)
{
    if (*word && isdigit((unsigned char)**word)) {
        f->versions = parse_range(s, *word);
        *word = strtok(NULL, " \t");
    }
    while (*word) {
        if (strcmp(*word, "ignorable") == 0) {
            f->ignorable = true;
        } else if (strcmp(*word, "tag") == 0 || strcmp(*word, "=") == 0) {
            bool is_tag = **word == 't';
            *word = strtok(NULL, " \t");
            if (!*word || strlen(*word) >= sizeof f->default_text) {
                fail(s, "the value is missing or too long");
            }
            if (is_tag) {
                f->tag = parse_number(s, *word, 1000);
            } else {
                strcpy(f->default_text, *word);
            }
        } else {
            fail(s, "'%s' is not understood", *word);
        }
        *word = strtok(NULL, " \t");
    }
}

static void parse_field(struct schema *s, char *text, int depth)
{
    if (depth > MAX_DEPTH || s->section == NONE || s->stack[depth] == NONE) {
        fail(s, "a field where none can be (indentation?)");
    }
    if (s->field_count == MAX_FIELDS) {
        fail(s, "more than %d fields", MAX_FIELDS);
    }
    struct field *f = &s->fields[s->field_count++];
    *f = (struct field){
        .type_struct = NONE,
        .owner = s->stack[depth],
        .tag = NO_TAG,
        .versions = {0, MAX_VERSION},
        .nullable = {1, 0          }
    };
    for (int d = depth + 1; d < MAX_DEPTH + 2; d++) {
        s->stack[d] = NONE;
    }
    char *type = strtok(text, " \t");
    char *name = strtok(NULL, " \t");
    if (!name) {
        fail(s, "a field needs a type and a name");
    }
    copy_name(s, f->name, name);
    parse_type(s, f, type, depth);
    char *word = strtok(NULL, " \t");
    parse_options(s, f, &word);
    check_default(s, f);
    if (f->tag != NO_TAG) {
        if (f->versions.min < s->flexible_from) {
            fail(s, "a tagged field must begin with a flexible version");
        }
        if (f->type && strcmp(f->type->name, "records") == 0) {
            fail(s, "records cannot be a tagged field");
        }
    }
    for (int i = 0; i < s->field_count - 1; i++) {
        if (s->fields[i].owner == f->owner && strcmp(s->fields[i].name, f->name) == 0) {
            fail(s, "%s is here already", f->name);
        }
    }
    s->structs[f->owner].field_count++;
}

static void parse_head(struct schema *s, char *text)
{
    char *word = strtok(text, " \t");
    if (strcmp(word, "api") == 0) {
        s->is_api = true;
        word = strtok(NULL, " \t");
        s->key = parse_number(s, word ? word : "", 1000);
    } else if (strcmp(word, "record") != 0) {
        fail(s, "expected api or record");
    }
    word = strtok(NULL, " \t");
    copy_name(s, s->name, word ? word : "");
    word = strtok(NULL, " \t");
    s->versions = parse_range(s, word ? word : "");
    if (s->versions.max == MAX_VERSION) {
        fail(s, "the last version is missing");
    }
    word = strtok(NULL, " \t");
    if (!word || strcmp(word, "flex") != 0) {
        fail(s, "expected flex");
    }
    word = strtok(NULL, " \t");
    s->flexible_from =
        word && strcmp(word, "none") == 0 ? MAX_VERSION : parse_number(s, word ? word : "", 1000);
    if (!s->is_api) {
        begin_section(s, 0);
    }
}

static void parse_line(struct schema *s, char *line)
{
    size_t len = strcspn(line, "\r\n");
    line[len] = 0;
    if (*line == '#') {
        if (!*s->about) {
            snprintf(s->about, sizeof s->about, "%s", line + 1 + (line[1] == ' '));
        }
        return;
    }
    char *hash = strchr(line, '#');
    if (hash) {
        *hash = 0;
    }
    size_t spaces = strspn(line, " ");
    if (!line[spaces]) {
        return;
    }
    if (spaces % 2) {
        fail(s, "an odd indentation");
    }
    if (spaces) {
        parse_field(s, line + spaces, (int)(spaces / 2));
    } else if (!*s->name) {
        parse_head(s, line);
    } else if (s->is_api && strcmp(line, "request") == 0) {
        begin_section(s, 0);
    } else if (s->is_api && strcmp(line, "response") == 0) {
        begin_section(s, 1);
    } else {
        fail(s, "'%s' is not understood", line);
    }
}

static void schema_read(struct schema *s, const char *path)
{
    *s = (struct schema){
        .path = path, .section = NONE, .roots = {NONE, NONE}
    };
    FILE *f = fopen(path, "r");
    if (!f) {
        fail(s, "cannot be opened");
    }
    char line[MAX_LINE];
    while (fgets(line, sizeof line, f)) {
        s->line++;
        if (!strchr(line, '\n')) {
            fail(s, "the line is too long, or not ended");
        }
        parse_line(s, line);
    }
    fclose(f);
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t len = strlen(s->name);
    if (strncmp(base, s->name, len) != 0 || strcmp(base + len, ".msg") != 0) {
        fail(s, "the file is not named after '%s'", s->name);
    }
    if (s->roots[0] == NONE || (s->is_api && s->roots[1] == NONE)) {
        fail(s, "a section is missing");
    }
    for (int i = 0; i < s->struct_count; i++) {
        if (!s->structs[i].field_count) {
            fail(s, "struct %s has no fields", s->structs[i].name);
        }
    }
}

/* ---- writing ---- */

/* A struct that may be absent (nullable, or tagged) is a pointer. */
static bool is_pointer(const struct field *f)
{
    return !f->array && !f->type && (f->tag != NO_TAG || f->nullable.min <= f->nullable.max);
}

static FILE *output_open(const char *directory, const char *name, const char *extension)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", directory, name, extension);
    FILE *f = fopen(path, "w");
    if (!f) {
        fprintf(stderr, "schemac: %s: cannot be written\n", path);
        exit(1);
    }
    return f;
}

static void output_close(FILE *f, const char *name)
{
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) {
        fprintf(stderr, "schemac: %s: write failed\n", name);
        exit(1);
    }
}

static void print_range(FILE *out, struct range r)
{
    if (r.max == MAX_VERSION) {
        fprintf(out, "%d+", r.min);
    } else if (r.min == r.max) {
        fprintf(out, "%d", r.min);
    } else {
        fprintf(out, "%d-%d", r.min, r.max);
    }
}

static void print_field_comment(FILE *out, const struct field *f)
{
    bool always = f->versions.min == 0 && f->versions.max == MAX_VERSION;
    bool nullable = f->nullable.min <= f->nullable.max;
    if (always && !nullable && f->tag == NO_TAG && !*f->default_text && !f->ignorable) {
        return;
    }
    const char *gap = "";
    fprintf(out, " /* ");
    if (!always) {
        fprintf(out, "in ");
        print_range(out, f->versions);
        gap = "; ";
    }
    if (nullable) {
        fprintf(out, "%smay be null", gap);
        if (f->nullable.min != 0 || f->nullable.max != MAX_VERSION) {
            fprintf(out, " in ");
            print_range(out, f->nullable);
        }
        gap = "; ";
    }
    if (*f->default_text) {
        fprintf(out, "%sdefault %s", gap, f->default_text);
        gap = "; ";
    }
    if (f->tag != NO_TAG) {
        fprintf(out, "%stag %d", gap, f->tag);
        gap = "; ";
    }
    if (f->ignorable) {
        fprintf(out, "%signorable", gap);
    }
    fprintf(out, " */");
}

static void print_struct(FILE *out, struct schema *s, int structure)
{
    struct structure *t = &s->structs[structure];
    if (t->emitted) {
        return;
    }
    t->emitted = true;
    for (int i = 0; i < s->field_count; i++) {
        if (s->fields[i].owner == structure && !s->fields[i].type) {
            print_struct(out, s, s->fields[i].type_struct);
        }
    }
    fprintf(out, "\nstruct %s {\n", t->name);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        if (f->owner != structure) {
            continue;
        }
        fprintf(out, "    ");
        if (f->type) {
            fprintf(out, "%s ", f->type->c_type);
        } else {
            fprintf(out, "struct %s ", s->structs[f->type_struct].name);
        }
        fprintf(out, "%s%s;", f->array || is_pointer(f) ? "*" : "", f->name);
        print_field_comment(out, f);
        fprintf(out, "\n");
        if (f->array) {
            fprintf(out, "    int32_t %s_count;\n", f->name);
        }
    }
    fprintf(out,
            "};\nextern const struct wire_struct %s_table;\nstatic inline void %s_init(struct %s "
            "*message)\n{\n    wire_defaults(&%s_table, message);\n}\n",
            t->name, t->name, t->name, t->name);
}

static void write_header(const char *directory, struct schema *s)
{
    FILE *out = output_open(directory, s->name, "h");
    fprintf(out, "/* %s\n *\n * Generated by schemac from protocol/schema/%s.msg. */\n", s->about,
            s->name);
    fprintf(out, "#pragma once\n\n#include \"protocol/wire.h\"\n");
    for (int section = 0; section < 2; section++) {
        if (s->roots[section] != NONE) {
            print_struct(out, s, s->roots[section]);
        }
    }
    output_close(out, s->name);
}

/* What a field begins with, for its row: 0 is zeros and null; for an array 1 is null, for text and
 * bytes 1 is empty, for a number it is a place in fallback.def. */
static int fallback(const struct schema *s, const struct field *f)
{
    static const char *const numbers[] = {
        "0",
#define X(number) #number,
#include "protocol/fallback.def"
#undef X
    };
    const char *d = f->default_text;
    bool null = strcmp(d, "null") == 0;
    if (f->array) {
        return null;
    }
    if (!f->type) {
        return 0; /* pointers are NULL, structs begin field by field */
    }
    if (f->type->empty) {
        return !null;
    }
    d = strcmp(d, "true") == 0 ? "1" : !*d || strcmp(d, "false") == 0 ? "0" : d;
    for (int i = 0; i < (int)(sizeof numbers / sizeof numbers[0]); i++) {
        if (strcmp(d, numbers[i]) == 0) {
            return i;
        }
    }
    fail(s, "default %s of %s is not in fallback.def", d, f->name);
}

/* In the tables a version is a byte, and "and all later ones" its greatest value. */
static int small(int version)
{
    return version < INT8_MAX ? version : INT8_MAX;
}

/* `type` is the index of its struct among those of the owner's fields. */
static void print_field_row(FILE *out, const struct schema *s, const struct field *f,
                            const char *c_struct, int type)
{
    fprintf(out, "    {.kind = %s, .offset = offsetof(struct %s, %s)",
            f->type ? f->type->kind : "WIRE_STRUCT", c_struct, f->name);
    if (f->array) {
        fprintf(out, ", .count_offset = offsetof(struct %s, %s_count)", c_struct, f->name);
    }
    if (!f->type) {
        fprintf(out, ", .type = %d", type);
    }
    if (fallback(s, f)) {
        fprintf(out, ", .fallback = %d", fallback(s, f));
    }
    if (f->array || is_pointer(f) || f->ignorable) {
        fprintf(out, ", .flags = %s%s%s%s%s", f->array ? "WIRE_ARRAY" : "",
                f->array && f->ignorable ? " | " : "", is_pointer(f) ? "WIRE_POINTER" : "",
                is_pointer(f) && f->ignorable ? " | " : "", f->ignorable ? "WIRE_IGNORABLE" : "");
    }
    fprintf(out, ", .min_version = %d, .max_version = %d, .null_min = %d, .null_max = %d",
            f->versions.min, small(f->versions.max), f->nullable.min, small(f->nullable.max));
    fprintf(out, ", .tag = %d},\n", f->tag);
}

/* The fields of a struct as they are in its table: in wire order, the tagged ones last, by tag. */
static int fields_in_order(const struct schema *s, int structure, const struct field **fields,
                           int *ret_plain)
{
    int count = 0;
    for (int i = 0; i < s->field_count; i++) {
        if (s->fields[i].owner == structure && s->fields[i].tag == NO_TAG) {
            fields[count++] = &s->fields[i];
        }
    }
    *ret_plain = count;
    for (int tag = 0; count < s->structs[structure].field_count; tag++) {
        int found = 0;
        for (int i = 0; i < s->field_count; i++) {
            if (s->fields[i].owner == structure && s->fields[i].tag == tag) {
                fields[count++] = &s->fields[i];
                found++;
            }
        }
        if (found > 1) {
            fail(s, "two fields of %s have tag %d", s->structs[structure].name, tag);
        }
    }
    return count;
}

static void print_table(FILE *out, const struct schema *s, int structure)
{
    const struct structure *t = &s->structs[structure];
    const struct field *fields[MAX_FIELDS];
    int plain;
    int count = fields_in_order(s, structure, fields, &plain);
    int types = 0;
    fprintf(out, "\nstatic const struct wire_field %s_fields[] = {\n", t->name);
    for (int i = 0; i < count; i++) {
        print_field_row(out, s, fields[i], t->name, fields[i]->type ? 0 : types++);
    }
    if (types) {
        fprintf(out, "};\n\nstatic const struct wire_struct *const %s_types[] = {\n", t->name);
        for (int i = 0; i < count; i++) {
            if (!fields[i]->type) {
                fprintf(out, "    &%s_table,\n", s->structs[fields[i]->type_struct].name);
            }
        }
    }
    fprintf(out, "};\n\n#ifndef RIVULET_CLIENT_ONLY\nstatic const char *const %s_names[] = {\n",
            t->name);
    for (int i = 0; i < count; i++) {
        fprintf(out, "    \"%s\",\n", fields[i]->name);
    }
    fprintf(out, "};\n#endif\n");
    fprintf(out, "\nconst struct wire_struct %s_table = {\n", t->name);
    fprintf(out, "    WIRE_NAMED(\"%s\", %s_names)\n    .fields = %s_fields,\n", t->name, t->name,
            t->name);
    if (types) {
        fprintf(out, "    .types = %s_types,\n", t->name);
    }
    fprintf(out, "    .size = sizeof(struct %s),\n", t->name);
    fprintf(out, "    .field_count = %d,\n    .tagged_count = %d,\n", plain, count - plain);
    fprintf(out, "    .min_version = %d,\n    .max_version = %d,\n    .flexible_from = %d,\n};\n",
            s->versions.min, s->versions.max, s->flexible_from);
}

static void write_tables(const char *directory, const struct schema *s)
{
    FILE *out = output_open(directory, s->name, "c");
    fprintf(out, "/* Generated by schemac from protocol/schema/%s.msg. */\n#include \"gen/%s.h\"\n",
            s->name, s->name);
    fprintf(out, "\n#include <stddef.h>\n");
    for (int i = s->struct_count - 1; i >= 0; i--) {
        print_table(out, s, i);
    }
    output_close(out, s->name);
}

/* offset_fetch -> OffsetFetch */
static void print_camel(FILE *out, const char *name)
{
    bool up = true;
    for (; *name; name++) {
        if (*name == '_') {
            up = true;
        } else {
            fputc(up ? toupper((unsigned char)*name) : *name, out);
            up = false;
        }
    }
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    if (x->is_api != y->is_api) {
        return x->is_api ? -1 : 1;
    }
    return x->is_api ? x->key - y->key : strcmp(x->name, y->name);
}

static void write_apis_header(const char *directory, const struct entry *entries, int count)
{
    FILE *out = output_open(directory, "apis", "h");
    fprintf(out, "/* The keys of the APIs. Generated by schemac. */\n#pragma once\n\n"
                 "enum api_key {\n");
    for (int i = 0; i < count && entries[i].is_api; i++) {
        fprintf(out, "    API_");
        for (const char *p = entries[i].name; *p; p++) {
            fputc(toupper((unsigned char)*p), out);
        }
        fprintf(out, " = %d,\n", entries[i].key);
    }
    fprintf(out, "};\n");
    output_close(out, "apis.h");
}

/* Whether a space-separated list has the name. */
static bool is_listed(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += size) {
        if ((p == list || p[-1] == ' ') && (p[size] == 0 || p[size] == ' ')) {
            return true;
        }
    }
    return false;
}

/* The tables of all APIs, or of those that are in the list; the others are then only named. */
static int print_apis(FILE *out, const struct entry *entries, int count, const char *list)
{
    for (int i = 0; i < count; i++) {
        if (!list || is_listed(list, entries[i].name)) {
            fprintf(out, "#include \"gen/%s.h\"\n", entries[i].name);
        }
    }
    fprintf(out, "\nconst struct wire_api wire_apis[] = {\n");
    int apis = 0;
    for (int i = 0; i < count && entries[i].is_api; i++, apis++) {
        const struct entry *e = &entries[i];
        fprintf(out, "    {.key = %d, .name = \"", e->key);
        print_camel(out, e->name);
        fprintf(out, "\", .min_version = %d, .max_version = %d, .flexible_from = %d",
                e->versions.min, e->versions.max, e->flexible_from);
        if (!list || is_listed(list, e->name)) {
            fprintf(out, ",\n     .request = &%s_request_table, .response = &%s_response_table",
                    e->name, e->name);
        }
        fprintf(out, "},\n");
    }
    fprintf(out, "};\nconst int32_t wire_api_count = %d;\n", apis);
    return apis;
}

static void write_apis(const char *directory, const struct entry *entries, int count)
{
    FILE *out = output_open(directory, "apis", "c");
    fprintf(out, "/* Every API and record kind. Generated by schemac. */\n");
    int apis = print_apis(out, entries, count, NULL);
    fprintf(out, "\nconst struct wire_struct *const wire_record_kinds[] = {\n");
    for (int i = apis; i < count; i++) {
        fprintf(out, "    &%s_table,\n", entries[i].name);
    }
    fprintf(out, "    NULL,\n};\nconst int32_t wire_record_kind_count = %d;\n", count - apis);
    output_close(out, "apis.c");
}

/* For a program that uses some: "gen/NAME.c" of the others need not be linked. */
static void write_some_apis(const char *directory, const struct entry *entries, int count,
                            const char *list)
{
    FILE *out = output_open(directory, "some_apis", "c");
    fprintf(out, "/* The APIs of which some have tables. Generated by schemac. */\n"
                 "#include \"protocol/wire.h\"\n");
    print_apis(out, entries, count, list);
    output_close(out, "some_apis.c");
}

int main(int argc, char **argv)
{
    const char *list = NULL;
    if (argc > 2 && strcmp(argv[1], "--some") == 0) {
        list = argv[2];
        argv += 2;
        argc -= 2;
    }
    if (argc < 3 || argc > MAX_FILES) {
        fprintf(stderr, "usage: schemac [--some 'NAME...'] OUTDIR FILE.msg...\n"
                        "Writes all, or only some_apis.c, with the tables of these.\n");
        return 2;
    }
    const char *directory = argv[1];
    struct entry entries[MAX_FILES];
    int count = 0;
    for (int i = 2; i < argc; i++) {
        struct schema s;
        schema_read(&s, argv[i]);
        if (!list) {
            write_header(directory, &s);
            write_tables(directory, &s);
        }
        struct entry *e = &entries[count++];
        *e = (struct entry){.is_api = s.is_api,
                            .key = s.key,
                            .versions = s.versions,
                            .flexible_from = s.flexible_from};
        strcpy(e->name, s.name);
    }
    qsort(entries, (size_t)count, sizeof *entries, by_key);
    for (int i = 1; i < count; i++) {
        if (entries[i].is_api && entries[i].key == entries[i - 1].key) {
            fprintf(stderr, "schemac: %s and %s have the same key\n", entries[i - 1].name,
                    entries[i].name);
            return 1;
        }
    }
    if (list) {
        write_some_apis(directory, entries, count, list);
        return 0;
    }
    write_apis_header(directory, entries, count);
    write_apis(directory, entries, count);
    return 0;
}
