/* options: names and values as the caller gives them, checked against options.def and kept as
 * numbers and texts. Owned by the client, producer or consumer that was opened with them; never
 * change. */
#pragma once

#include "client/rivulet.h"

enum option_id {
#define OPTION(id, owner, name, kind, fallback, least, most, choices, about) OPT_##id,
#include "client/options.def"
#undef OPTION
    OPT_COUNT
};

/* Places in the choices of options.def. */
enum { ACKS_NONE = 0, ACKS_LEADER = 1 /* all and -1 are above */ };
enum { RESET_EARLIEST, RESET_LATEST, RESET_NONE };
enum { DELIVERY_MANUAL, DELIVERY_AT_LEAST_ONCE, DELIVERY_AT_MOST_ONCE };

struct settings {
    int64_t numbers[OPT_COUNT]; /* of NUMBER and CHOICE (its place) */
    char *texts[OPT_COUNT];     /* owned; of TEXT, never NULL after settings_init */
};

/* RV_E_OPTION, RV_E_MEMORY. `options` may be NULL. */
int settings_init(struct settings *s, const struct rv_option *options, struct rv_error *ret_error);
void settings_finish(struct settings *s); /* takes a zeroed one */
