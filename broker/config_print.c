/* What people read of the table: --print-config and docs/CONFIG.md. */
#include "broker/config_value.h"

void config_value_text(const struct config *c, enum config_row_id row, struct buf *out)
{
    config_value_print(&config_rows[row], (const char *)c + config_rows[row].offset, out);
}

void config_default_text(enum config_row_id row, struct buf *out)
{
    union {
        bool b;
        int64_t i;
        double r;
        char *t;
    } scratch = {.i = 0};
    config_value_default(&config_rows[row], &scratch);
    config_value_print(&config_rows[row], &scratch, out);
    config_value_free(&config_rows[row], &scratch);
}

void config_print(const struct config *c, struct buf *out)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const struct config_origin *origin = &c->origins[i];
        buf_printf(out, "%s=", config_rows[i].name);
        config_value_text(c, (enum config_row_id)i, out);
        buf_printf(out, "  # %s\n",
                   origin->where ? origin->where : config_source_name(origin->source));
    }
}

static const char *type_name(const struct config_row *row)
{
    static const char *const names[] = {"true or false", "number", "number", "number",
                                        "word",          "list",   "text"};
    return names[row->type];
}

static void print_number(int64_t n, struct buf *out)
{
    if (n == INT64_MAX) {
        buf_printf(out, "no bound");
    } else {
        buf_printf(out, "%lld", (long long)n);
    }
}

static void print_default(const struct config_row *row, struct buf *out)
{
    if (row->type == CONFIG_BOOL) {
        buf_printf(out, "%s", row->def_number ? "true" : "false");
    } else if (row->type == CONFIG_REAL) {
        buf_printf(out, "%g", row->def_real);
    } else if (row->def_text) {
        buf_printf(out, "%s", *row->def_text ? row->def_text : "(empty)");
    } else {
        print_number(row->def_number, out);
    }
}

static void print_row(const struct config_row *row, struct buf *out)
{
    buf_printf(out, "| `%s`", row->name);
    if (row->topic_name) {
        buf_printf(out, "<br>topic: `%s`", row->topic_name);
    }
    buf_printf(out, " | ");
    print_default(row, out);
    buf_printf(out, " | %s", *row->unit ? row->unit : type_name(row));
    if (row->type == CONFIG_INT || row->type == CONFIG_LONG || row->type == CONFIG_REAL) {
        buf_printf(out, ", ");
        print_number(row->min, out);
        buf_printf(out, " to ");
        print_number(row->max, out);
    }
    for (const char *p = row->words; p && *p; p++) {
        buf_printf(out, p == row->words ? ": %c" : *p == '|' ? ", " : "%c", *p);
    }
    buf_printf(out, " | %s | %s |\n", row->dynamic ? "yes" : "no", row->doc);
}

void config_print_docs(struct buf *out)
{
    buf_printf(out, "# Settings\n\nMade from `broker/config.def` by `rivuletd "
                    "--print-config-docs`: do not edit.\n\n"
                    "A file of `name=value` lines (`-c FILE`, Kafka's `server.properties` works), "
                    "then the environment\n"
                    "(`RIVULET_LOG_RETENTION_MS=...`), then `--set name=value`; later ones win. "
                    "*topic* is the name as a topic's own\n"
                    "setting. *live*: SIGHUP changes it while the broker runs.\n\n"
                    "| name | default | unit or values | live | what |\n|---|---|---|---|---|\n");
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        print_row(&config_rows[i], out);
    }
    buf_printf(out,
               "\n## The same in another unit\n\n| name | stands for | what |\n|---|---|---|\n");
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)
#define BROKER_BOOL(field, name, def, dynamic, doc)
#define BROKER_TEXT(field, name, def, rule, doc)
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc)
#define TOPIC_BOOL(field, name, topic_name, def, doc)
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)
#define TOPIC_WORD(field, name, topic_name, def, words, doc)
#define TOPIC_LIST(field, name, topic_name, def, words, doc)
#define ALIAS(name, target, factor, doc)                                                           \
    buf_printf(out, "| `%s` | `%s` | %s |\n", name, target, doc);
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
    buf_printf(
        out, "\n## Kafka's settings that mean nothing here\n\nAccepted, and listed once at start:");
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)
#define BROKER_BOOL(field, name, def, dynamic, doc)
#define BROKER_TEXT(field, name, def, rule, doc)
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc)
#define TOPIC_BOOL(field, name, topic_name, def, doc)
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)
#define TOPIC_WORD(field, name, topic_name, def, words, doc)
#define TOPIC_LIST(field, name, topic_name, def, words, doc)
#define ALIAS(name, target, factor, doc)
#define IGNORED(name) buf_printf(out, "\n- `%s`", name);
#include "broker/config.def"
#include "broker/config_undef.h"
    buf_printf(out, "\n");
}
