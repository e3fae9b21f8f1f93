/* config_value: one value of the settings' table, from text and to text; and the form of files.
 * Private to config*.c. */
#pragma once

#include "broker/config.h"

/* Sets the field; the old value is freed. ERR_INVALID with `why`: "not a number", "below the
 * minimum 1", ...; the field keeps its value then. */
err config_value_set(const struct config_row *row, void *field, struct str text, struct buf *why);
void config_value_default(const struct config_row *row, void *field); /* into zeroed memory */
void config_value_copy(const struct config_row *row, void *to,
                       const void *from); /* into zeroed memory */
void config_value_free(const struct config_row *row, void *field);
void config_value_print(const struct config_row *row, const void *field, struct buf *out);

bool config_check_path(struct str value, struct buf *why);
bool config_check_listeners(struct str value, struct buf *why);
bool config_check_advertised(struct str value, struct buf *why);
bool config_check_level(struct str value, struct buf *why);

/* ---- files (config_file.c) */

struct str config_trim(struct str s); /* without the blanks around it */

/* Takes one setting; `where` is "FILE:LINE". An error has said why, and ends it. */
typedef err config_setter(void *ctx, struct str name, struct str value, const char *where);

/* A text in the form of Java's properties, setting by setting. ERR_INVALID with `why`, or what
 * `set` gives. */
err config_read_properties(const char *file, struct str text, config_setter *set, void *ctx,
                           struct buf *why);
