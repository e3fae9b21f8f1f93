/* The texts are one piece of memory without pointers in it, so that nothing of it is relocated (and
 * copied into each process) when a shared library is loaded: `texts` has a member a text, and a row
 * says where they begin. */
#include "protocol/error.h"

#include <stddef.h>

struct texts {
#define X(n, c, r, t)                                                                              \
    char name_##n[sizeof #n];                                                                      \
    char text_##n[sizeof t];
#include "protocol/error.def"
#undef X
};

static const struct texts texts = {
#define X(n, c, r, t) .name_##n = #n, .text_##n = (t),
#include "protocol/error.def"
#undef X
};

/* By code, from -1 on, without a gap (tests/unit/test_frame.c). */
static const struct row {
    int16_t code;
    bool retriable;
    uint16_t name; /* position in texts */
    uint16_t text;
} rows[] = {
#define X(n, c, r, t)                                                                              \
    {.code = (c),                                                                                  \
     .retriable = (r),                                                                             \
     .name = offsetof(struct texts, name_##n),                                                     \
     .text = offsetof(struct texts, text_##n)},
#include "protocol/error.def"
#undef X
};

_Static_assert(sizeof texts <= UINT16_MAX, "positions are 16 bits");

bool kafka_error_find(int16_t code, struct kafka_error_info *ret_info)
{
    int index = code + 1;
    if (index < 0 || index >= (int)(sizeof rows / sizeof *rows)) {
        return false;
    }
    const struct row *row = &rows[index];
    *ret_info = (struct kafka_error_info){.code = row->code,
                                          .retriable = row->retriable,
                                          .name = (const char *)&texts + row->name,
                                          .text = (const char *)&texts + row->text};
    return true;
}

const char *kafka_error_name(int16_t code)
{
    struct kafka_error_info i;
    return kafka_error_find(code, &i) ? i.name : "UNKNOWN";
}

const char *kafka_error_text(int16_t code)
{
    struct kafka_error_info i;
    return kafka_error_find(code, &i) ? i.text : "An error code that is not known here.";
}

bool kafka_error_is_retriable(int16_t code)
{
    struct kafka_error_info i;
    return kafka_error_find(code, &i) && i.retriable;
}
