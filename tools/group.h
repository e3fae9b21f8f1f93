/* group: how old the oldest record is that a group has not read. */
#pragma once

#include "tools/tool.h"

enum { AGE_NONE = -1, AGE_UNKNOWN = -2, AGE_TEXT = 24 };

/* For each partition of the group, in milliseconds; AGE_NONE: everything is read; AGE_UNKNOWN: the
 * record could not be read in time. For mem_free. NULL: out of memory, and said so. */
int64_t *group_ages(const struct tool *t, const struct rv_group *g);

void age_text(int64_t age_ms, char text[AGE_TEXT]); /* "2h 5m" */
