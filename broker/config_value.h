/* config_value: one value of the settings' table, from text and to text. Private to config*.c. */
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
bool config_check_level(struct str value, struct buf *why);
