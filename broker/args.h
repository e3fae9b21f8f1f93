/* args: the command line of rivuletd. Pure. */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

enum args_mode {
    ARGS_RUN,
    ARGS_CHECK_CONFIG,
    ARGS_PRINT_CONFIG,
    ARGS_PRINT_CONFIG_DOCS,
    ARGS_VERSION,
    ARGS_HELP
};

struct args {
    enum args_mode mode;
    const char *file;  /* of -c; borrowed from argv; NULL */
    const char **sets; /* owned array of "key=value": --set, --data and --listen, in order */
    int set_count;
    struct buf owned; /* texts that `sets` points to */
};

/* ERR_INVALID: `why` says what, and what to do. */
err args_parse(int argc, const char *const *argv, struct args *ret_args, struct buf *why);
void args_finish(struct args *a); /* takes a zeroed one */
extern const char args_help[];
