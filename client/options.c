#include "client/options.h"

#include "base/mem.h"
#include "base/str.h"
#include "client/error.h"

#include <string.h>

enum option_kind { NUMBER, CHOICE, TEXT };

/* What is not in the public table. */
struct option_row {
    enum option_kind kind;
    int64_t least, most; /* of NUMBER */
    const char *choices; /* of CHOICE */
};

/* clang-format off */
static const struct option_row rows[OPT_COUNT] = {
#define OPTION(id, owner, name, kind, fallback, least, most, choices, about)                       \
    {kind, least, most, (kind) == CHOICE ? (choices) : NULL},
#include "client/options.def"
#undef OPTION
};

#define OWNER_NAME_CLIENT   "client"
#define OWNER_NAME_PRODUCER "producer"
#define OWNER_NAME_CONSUMER "consumer"

static const struct rv_option_info infos[OPT_COUNT + 1] = {
#define OPTION(id, owner, name, kind, fallback, least, most, choices, about)                       \
    {name, OWNER_NAME_##owner, fallback, about},
#include "client/options.def"
#undef OPTION
    {NULL, NULL, NULL, NULL}};
/* clang-format on */

const struct rv_option_info *rv_options(void)
{
    return infos;
}

/* The place of `value` in a comma-separated list; -1 when it is not there. */
static int choice_place(const char *choices, const char *value)
{
    size_t size = strlen(value);
    int place = 0;
    for (const char *p = choices; *p; place++) {
        size_t n = strcspn(p, ",");
        if (n == size && memcmp(p, value, n) == 0) {
            return place;
        }
        p += n + (p[n] == ',');
    }
    return -1;
}

static int number_set(struct settings *s, int i, const char *value, struct rv_error *ret_error)
{
    const struct option_row *row = &rows[i];
    int64_t n = 0;
    if (str_to_int64(str_of(value), &n) != OK || n < row->least || n > row->most) {
        return error_set(ret_error, RV_E_OPTION,
                         "option %s: '%.60s' is not a whole number from %lld to %lld",
                         infos[i].name, value, (long long)row->least, (long long)row->most);
    }
    s->numbers[i] = n;
    return RV_OK;
}

static int value_set(struct settings *s, int i, const char *value, struct rv_error *ret_error)
{
    const struct option_row *row = &rows[i];
    if (row->kind == NUMBER) {
        return number_set(s, i, value, ret_error);
    }
    if (row->kind == CHOICE) {
        int place = choice_place(row->choices, value);
        if (place < 0) {
            return error_set(ret_error, RV_E_OPTION, "option %s: '%.60s' is not one of %s",
                             infos[i].name, value, row->choices);
        }
        s->numbers[i] = place;
        return RV_OK;
    }
    char *copy = mem_dup(value, strlen(value) + 1);
    if (!copy) {
        return error_memory(ret_error);
    }
    mem_free(s->texts[i]);
    s->texts[i] = copy;
    return RV_OK;
}

static int option_find(const char *name)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int settings_init(struct settings *s, const struct rv_option *options, struct rv_error *ret_error)
{
    struct settings made = {0};
    int code = RV_OK;
    for (int i = 0; i < OPT_COUNT && code == RV_OK; i++) {
        code = value_set(&made, i, infos[i].fallback, ret_error);
    }
    for (const struct rv_option *o = options; code == RV_OK && o && o->name; o++) {
        int i = option_find(o->name);
        if (i < 0) {
            code = error_set(ret_error, RV_E_OPTION, "there is no option %.80s", o->name);
        } else if (!o->value) {
            code = error_set(ret_error, RV_E_OPTION, "option %s: the value is missing", o->name);
        } else {
            code = value_set(&made, i, o->value, ret_error);
        }
    }
    if (code != RV_OK) {
        settings_finish(&made);
        return code;
    }
    *s = made;
    return RV_OK;
}

void settings_finish(struct settings *s)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        mem_free(s->texts[i]);
        s->texts[i] = NULL;
    }
}
